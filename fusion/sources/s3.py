"""Files below a prefix of a bucket of S3 or a store like it; open ones and those of an account."""

from __future__ import annotations

from pathlib import Path

from fusion.errors import BuildError
from fusion.locations import S3
from fusion.sources.base import Check, Listing
from fusion.sources.bucket import objects, refusal, store
from fusion.sources.download import fetch_chosen
from fusion.sources.safety import FetchRules

CREDENTIAL = "S3_KEYS"


def endpoint() -> str:
    """Amazon's, or the operator's own store."""
    from django.conf import settings

    return str(settings.S3_URL).rstrip("/")


def whoami(rules: FetchRules) -> str:
    """Name of the account; "accepted" where the keys may not ask for it.

    Raises:
        BuildError: access_denied; source_failed.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        answer = store(endpoint(), rules, rules.secret(CREDENTIAL)).list_buckets()
    except ClientError as error:
        if error.response["Error"]["Code"] == "AccessDenied":
            return "accepted"
        raise refusal("S3", error, CREDENTIAL) from error
    except BotoCoreError as error:
        raise refusal("S3", error, CREDENTIAL) from error
    return str((answer.get("Owner") or {}).get("DisplayName") or "accepted")


def listing(place: S3, rules: FetchRules) -> Listing:
    """Objects below the prefix with size and (those of one part) MD5."""
    prefix = f"{place.prefix.strip('/')}/".lstrip("/")
    keys = rules.secret(CREDENTIAL)
    client = store(place.endpoint or endpoint(), rules, keys)
    found = tuple(objects(client, place.bucket, prefix, credential=CREDENTIAL if keys else ""))
    where = f"s3://{place.bucket}/{prefix}"
    if not found:
        raise BuildError("source_failed", f"{where}: there is nothing")
    return Listing(
        title=where,
        version="",
        files=found,
        access="account" if keys else "open",
        credential=CREDENTIAL if keys else "",
    )


def fetch(place: S3, cache: Path, rules: FetchRules, check: Check) -> Path:
    """Folder with the files below the prefix that the patterns take."""
    where, found = f"s3://{place.bucket}/{place.prefix}", listing(place, rules)
    patterns = place.allow_patterns
    return fetch_chosen(found, patterns, where, cache, rules, check, unpacked=place.unpack)
