"""A bundle below a prefix of a bucket, file by file."""

from __future__ import annotations

import re
from typing import Any

from fusion.deposits.base import Parcel, Sent, Told
from fusion.errors import BuildError
from fusion.sources.bucket import refusal, store
from fusion.sources.s3 import CREDENTIAL, endpoint
from fusion.sources.safety import FetchRules

__all__ = ["CREDENTIAL", "check_target", "send", "sent_files"]
_TARGET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[\w.-]+)*/?")


def check_target(target: str) -> None:
    """A bucket that is there, and where in it."""
    if not _TARGET.fullmatch(target) or ".." in target:
        raise BuildError("deposit_refused", f"found {target!r}, expected bucket/prefix")


def sent_files(parcel: Parcel) -> list[tuple[str, int]]:
    """Every file as it is."""
    return [(one["path"], one["bytes"]) for one in parcel.files]


def send(parcel: Parcel, target: str, rules: FetchRules, told: Told, **_: Any) -> Sent:
    """Each file that is not there with its size and SHA-256, SHA256SUMS among the last."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    bucket, _slash, prefix = target.strip("/").partition("/")
    folder = "/".join(part for part in (prefix, parcel.short) if part)
    where, done = f"s3://{bucket}/{folder}", 0
    # The store is the operator's choice: addresses that users name are not written to.
    client = store(endpoint(), None, rules.secret(CREDENTIAL))
    try:
        for one in parcel.files:
            key = f"{folder}/{one['path']}"
            if not _is_there(client, bucket, key, one):
                with parcel.opened(one["path"]) as file:
                    told_of = {"Metadata": {"sha256": one["sha256"]}}
                    client.upload_fileobj(file, bucket, key, ExtraArgs=told_of)
            done += one["bytes"]
            told(done)
    except (BotoCoreError, ClientError, Boto3Error) as error:
        raise refusal(where, getattr(error, "__cause__", None) or error, CREDENTIAL) from error
    return Sent(where, remote=folder)


def _is_there(client: Any, bucket: str, key: str, file: dict[str, Any]) -> bool:
    from botocore.exceptions import ClientError

    try:
        found = client.head_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:  # noqa: PLR2004
            return False
        raise
    same = found["Metadata"].get("sha256") == file["sha256"]
    return bool(same and found["ContentLength"] == file["bytes"])
