"""Datasets of Mendeley Data in one version, by its public API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fusion.errors import BuildError
from fusion.locations import Mendeley, plain_path
from fusion.sources.base import Check, Listing, RemoteFile
from fusion.sources.download import fetch_chosen, get_json
from fusion.sources.safety import FetchRules

ROOT = "root"


def endpoint() -> str:
    """Mendeley Data itself, or a server like it."""
    from django.conf import settings

    return str(settings.MENDELEY_URL).rstrip("/")


def listing(place: Mendeley, rules: FetchRules) -> Listing:
    """Files of the version in their folders, each with size and SHA-256."""
    where = f"Mendeley dataset {place.dataset}, version {place.version}"
    base = f"{endpoint()}/public-api/datasets/{place.dataset}"
    try:
        about = get_json(f"{base}/snapshot/{place.version}", rules)
        folders = paths_of(get_json(f"{base}/folders/{place.version}", rules))
        files = [
            _file(one, path)
            for folder, path in folders.items()
            for one in get_json(f"{base}/files?folder_id={folder}&version={place.version}", rules)
        ]
        return Listing(
            title=str(about["name"]),
            version=str(place.version),
            files=tuple(files),
            licence=str((about.get("data_licence") or {}).get("short_name") or ""),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BuildError("source_failed", f"{where}: not understood: {error!r}") from error


def paths_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The path of each folder, the root's too, by its id; each but the root's ends in a slash.

    Raises:
        ValueError: a folder lies within itself, or a name leads out.
    """
    by_id = {str(row["id"]): row for row in rows}
    found = {ROOT: ""}
    for folder in by_id:
        names: list[str] = []
        at = folder
        while at in by_id:
            if len(names) > len(by_id):
                raise ValueError(f"folder {folder} lies within itself")
            names.insert(0, str(by_id[at]["name"]))
            at = str(by_id[at].get("parent_id") or ROOT)
        found[folder] = f"{plain_path('/'.join(names))}/"
    return found


def _file(one: Mapping[str, Any], folder: str) -> RemoteFile:
    content = one["content_details"]
    return RemoteFile(
        path=plain_path(f"{folder}{one['filename']}"),
        url=str(content["download_url"]),
        bytes=int(content["size"]),
        sha256=str(content.get("sha256_hash") or ""),
    )


def fetch(place: Mendeley, cache: Path, rules: FetchRules, check: Check) -> Path:
    """Folder with the files of the version that the patterns take."""
    where, found = f"Mendeley dataset {place.dataset}", listing(place, rules)
    patterns = place.allow_patterns
    return fetch_chosen(found, patterns, where, cache, rules, check, unpacked=place.unpack)
