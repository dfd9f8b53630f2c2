"""Buckets of S3 and stores like it: what is in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote, urlsplit

import httpx2

from fusion.errors import BuildError
from fusion.sources.base import RemoteFile
from fusion.sources.safety import FetchRules, client

_REGION = re.compile(r"s3[.-]([a-z]{2}[a-z0-9-]*-\d)\.amazonaws\.com")


def region_of(url: str) -> str:
    """Region that requests to an address are signed for."""
    found = _REGION.search(urlsplit(url).hostname or "")
    return found[1] if found else "us-east-1"


def store(endpoint: str, rules: FetchRules | None, keys: str = "") -> Any:
    """A client whose requests go by the rules; may be used by several threads.

    Args:
        rules: None for a store that the operator chose.
        keys: id:secret; without them nothing is signed.
    """
    import boto3
    from botocore import UNSIGNED
    from botocore.config import Config

    config: dict[str, Any] = {"retries": {"max_attempts": 5, "mode": "standard"}}
    key, _, secret = keys.partition(":")
    made = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name=region_of(endpoint),
        aws_access_key_id=key or None,
        aws_secret_access_key=secret or None,
        config=Config(
            s3={"addressing_style": "path"},
            **config | ({} if keys else {"signature_version": UNSIGNED}),
        ),
    )
    if rules is not None:
        made.meta.events.register("before-send.s3", _Guarded(rules))
    return made


class _Guarded:
    """Sends what botocore has signed by a client that keeps to the rules."""

    def __init__(self, rules: FetchRules) -> None:
        self._rules = rules

    def __call__(self, request: Any, **_: Any) -> Any:
        from botocore.awsrequest import AWSResponse
        from botocore.exceptions import HTTPClientError

        headers = {
            name: value.decode() if isinstance(value, bytes) else value
            for name, value in request.headers.items()
        }
        try:
            with client(self._rules) as http:
                answer = http.request(
                    request.method, request.url, headers=headers, content=request.body or b""
                )
        except httpx2.HTTPError as error:
            raise HTTPClientError(error=error) from error
        body = SimpleNamespace(stream=lambda *_, **__: iter([answer.content]))
        return AWSResponse(request.url, answer.status_code, answer.headers, body)


def objects(
    store: Any, bucket: str, prefix: str, folder: str = "", credential: str = ""
) -> Iterator[RemoteFile]:
    """The files below `prefix`, with paths below `folder`.

    An ETag of one part is the MD5 of its content.

    Raises:
        BuildError: access_denied; source_failed, with what the store or the connection said as the
            cause.
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
                    credential=credential,
                )
    except (BotoCoreError, ClientError) as error:
        raise refusal(f"s3://{bucket}/{prefix}", error, credential) from error


def refusal(where: str, error: Any, credential: str) -> BuildError:
    """What the store said, in words that name what to do."""
    said = getattr(error, "response", None) or {}  # none where the store was not reached
    code = said.get("Error", {}).get("Code", "")
    status = said.get("ResponseMetadata", {}).get("HTTPStatusCode")
    if status in {401, 403}:
        todo = f"what is in {credential} is refused or has no access" if credential else ""
        todo = todo or "it is not open to all, and S3_KEYS is not set"
        return BuildError("access_denied", f"{where}: answered {status} {code}: {todo}")
    return BuildError("source_failed", f"{where}: not listed: {error}")
