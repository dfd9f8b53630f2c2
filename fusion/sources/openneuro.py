"""Datasets of OpenNeuro, from its public bucket, which holds the newest version of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from fusion.errors import BuildError
from fusion.locations import OpenNeuro, plain_path
from fusion.sources.base import Check, Listing, RemoteFile
from fusion.sources.bucket import objects, store
from fusion.sources.download import fetch_files, get_json
from fusion.sources.safety import FetchRules

BUCKET = "openneuro.org"


def endpoint() -> str:
    """The object store that the bucket is in."""
    from django.conf import settings

    return str(settings.OPENNEURO_URL).rstrip("/")


def listing(place: OpenNeuro, rules: FetchRules) -> Listing:
    """The chosen files with size and (of small ones) MD5; the version is the one that is there.

    Raises:
        BuildError: source_failed; upstream_changed, where another version than asked for is there.
    """
    where = f"OpenNeuro {place.dataset}"
    found = list(objects(store(endpoint(), rules), BUCKET, f"{place.dataset}/"))
    about = next((one for one in found if one.path == "dataset_description.json"), None)
    if about is None:
        raise BuildError("source_failed", f"{where}: there is no such dataset in the bucket")
    described = get_json(about.url, rules)
    described = described if isinstance(described, Mapping) else {}
    version = version_of(described)
    if place.version and place.version != version:
        raise BuildError(
            "upstream_changed",
            f"{where}: found version {version or 'not stated'}, expected {place.version}",
        )
    files = chosen(place, found)
    for one in files:
        plain_path(one.path)
    return Listing(
        title=str(described.get("Name") or place.dataset),
        version=version,
        files=tuple(files),
        licence=str(described.get("License") or ""),
    )


def version_of(described: Mapping[str, Any]) -> str:
    """The version in a DOI such as 10.18112/openneuro.ds000001.v1.0.0; empty without one."""
    return str(described.get("DatasetDOI") or "").partition(".v")[2]


def chosen(place: OpenNeuro, files: Sequence[RemoteFile]) -> list[RemoteFile]:
    """Files of the first subjects and of the kinds of data that are asked for. Pure.

    What belongs to no subject stays; derivatives are left out unless a pattern names them.
    """
    people = sorted({one.path.split("/")[0] for one in files if one.path.startswith("sub-")})
    kept = set(people[: place.subjects] if place.subjects else people)
    rows = Listing("", "", tuple(files)).matching(place.allow_patterns)
    taken = []
    for one in rows:
        parts = PurePosixPath(one.path).parts
        if parts[0] == "derivatives" and not place.allow_patterns:
            continue
        if parts[0].startswith("sub-") and len(parts) > 1:
            inner = parts[2] if len(parts) > 2 and parts[1].startswith("ses-") else parts[1]  # noqa: PLR2004
            is_file = inner == parts[-1]
            wanted = is_file or not place.datatypes or inner in place.datatypes
            if parts[0] not in kept or not wanted:
                continue
        taken.append(one)
    if not any(one.path.startswith("sub-") for one in taken) and not place.allow_patterns:
        raise BuildError(
            "source_failed",
            f"OpenNeuro {place.dataset}: no subject has data of {', '.join(place.datatypes)}",
        )
    if not taken:
        patterns = ", ".join(place.allow_patterns)
        raise BuildError("source_failed", f"OpenNeuro {place.dataset}: no file matches {patterns}")
    return taken


def fetch(place: OpenNeuro, cache: Path, rules: FetchRules, check: Check) -> Path:
    """Folder with the chosen files, as BIDS has them."""
    return fetch_files(listing(place, rules).files, cache, rules, check, unpacked=False)
