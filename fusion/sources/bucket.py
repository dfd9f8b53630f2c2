"""Public buckets of S3 and stores like it: what is in them, without an account."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from fusion.errors import BuildError
from fusion.sources.base import RemoteFile


def public_store(endpoint: str) -> Any:
    """A client that signs nothing; may be used by several threads."""
    import boto3
    from botocore import UNSIGNED
    from botocore.config import Config

    retries = {"max_attempts": 5, "mode": "standard"}
    config = Config(signature_version=UNSIGNED, retries=retries, s3={"addressing_style": "path"})
    return boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", config=config)


def objects(store: Any, bucket: str, prefix: str, folder: str = "") -> Iterator[RemoteFile]:
    """The files below `prefix`, with paths below `folder`.

    An ETag of one part is the MD5 of its content.

    Raises:
        BuildError: source_failed, with what the store or the connection said as the cause.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    endpoint = store.meta.endpoint_url.rstrip("/")
    try:
        for page in store.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for one in page.get("Contents", ()):
                name, etag = one["Key"].removeprefix(prefix), one["ETag"].strip('"')
                if not name or name.endswith("/"):
                    continue
                yield RemoteFile(
                    path=f"{folder}/{name}" if folder else name,
                    url=f"{endpoint}/{bucket}/{quote(one['Key'])}",
                    bytes=one["Size"],
                    md5="" if "-" in etag else etag,
                )
    except (BotoCoreError, ClientError) as error:
        raise BuildError("source_failed", f"s3://{bucket}/{prefix}: not listed: {error}") from error
