"""Projects of PhysioNet, open and credentialed, over HTTPS with the checksums of the project."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from fusion.errors import BuildError
from fusion.locations import PhysioNet, plain_path
from fusion.sources.base import Check, Listing, RemoteFile
from fusion.sources.download import fetch_chosen, get_bytes, get_json
from fusion.sources.safety import FetchRules

CREDENTIAL = "PHYSIONET_LOGIN"
_SUM = re.compile(r"([0-9a-f]{64}) [ *]?(.+)")


def endpoint() -> str:
    """PhysioNet itself, or a server like it."""
    from django.conf import settings

    return str(settings.PHYSIONET_URL).rstrip("/")


def whoami(rules: FetchRules) -> str:  # noqa: ARG001 - the protocol's
    """PhysioNet has no address that tells it: a login is tried when a project is fetched."""
    return ""


def listing(place: PhysioNet, rules: FetchRules) -> Listing:
    """Files with the SHA-256 that the project's SHA256SUMS.txt states; sizes are not stated."""
    where, base = f"PhysioNet {place.project} {place.version}", f"{place.project}/{place.version}"
    about = {}
    with suppress(BuildError):  # only words about it: the files do not depend on them
        versions = f"{place.project}/versions/{place.version}"
        about = get_json(f"{endpoint()}/api/v1/projects/{versions}/", rules)
    text = get_bytes(
        f"{endpoint()}/files/{base}/SHA256SUMS.txt", rules, credential=CREDENTIAL
    ).decode("utf-8", "replace")
    files = tuple(
        RemoteFile(
            path=plain_path(found[2]),
            url=f"{endpoint()}/files/{base}/{quote(found[2])}",
            sha256=found[1],
            credential=CREDENTIAL,
        )
        for line in text.splitlines()
        if (found := _SUM.fullmatch(line.strip()))
    )
    if not files:
        raise BuildError(
            "access_denied" if "<html" in text[:1000].lower() else "source_failed",
            f"{where}: SHA256SUMS.txt has no checksums; whether the account of {CREDENTIAL} has "
            f"access says {endpoint()}/content/{base}/",
        )
    policy = about.get("access_policy")
    return Listing(
        title=str(about.get("title") or place.project),
        version=place.version,
        files=files,
        licence=str((about.get("license") or {}).get("name") or ""),
        access="open" if policy in {None, "", "Open"} else "terms",
        credential=CREDENTIAL,
        terms_url=f"{endpoint()}/content/{base}/",
    )


def fetch(place: PhysioNet, cache: Path, rules: FetchRules, check: Check) -> Path:
    """Folder with the project's files that the patterns take."""
    where, found = f"PhysioNet {place.project}", listing(place, rules)
    patterns = place.allow_patterns
    return fetch_chosen(found, patterns, where, cache, rules, check, unpacked=place.unpack)
