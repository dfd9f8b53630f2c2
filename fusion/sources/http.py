"""Sources at addresses: files and archives over HTTP(S)."""

from __future__ import annotations

from pathlib import Path

from fusion.locations import Http
from fusion.sources.base import Check, Listing, RemoteFile
from fusion.sources.download import fetch_files
from fusion.sources.safety import FetchRules


def listing(place: Http, rules: FetchRules) -> Listing:  # noqa: ARG001 - the protocol's
    """The files as the recipe states them: an address tells no more before it is fetched."""
    files = tuple(
        RemoteFile(one.name, one.url, one.bytes, sha256=one.sha256, md5=one.md5)
        for one in place.files
    )
    return Listing(title=", ".join(sorted({one.host for one in files})), version="", files=files)


def fetch(place: Http, cache: Path, rules: FetchRules, check: Check) -> Path:
    """Folder with the files, archives unpacked where the recipe does not say otherwise."""
    files = listing(place, rules).files
    return fetch_files(files, cache, rules, check, unpacked=place.unpack)
