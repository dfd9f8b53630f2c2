"""Data that a person has uploaded and kept: found by what it holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fusion.errors import BuildError
from fusion.locations import OwnData
from fusion.sources.base import Check, Listing, RemoteFile
from fusion.sources.safety import FetchRules


def folder_of(sha256: str) -> Path:
    """Where kept data lies."""
    from django.conf import settings

    return Path(settings.UPLOAD_DIR) / "kept" / sha256


def listing(place: OwnData, rules: FetchRules) -> Listing:  # noqa: ARG001 - the protocol's
    """The files as they were kept."""
    folder = _found(place)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    rows = (RemoteFile(f.relative_to(folder).as_posix(), bytes=f.stat().st_size) for f in files)
    return Listing(place.name, place.sha256, tuple(rows))


def fetch(place: OwnData, cache: Path, rules: FetchRules, check: Check) -> Path:  # noqa: ARG001
    """The folder itself, read in place.

    Raises:
        BuildError: source_failed, where it is not here (any more).
    """
    return _found(place)


def _found(place: OwnData) -> Path:
    folder = folder_of(place.sha256)
    if not place.sha256 or not folder.is_dir():
        raise BuildError(
            "source_failed",
            f"own data {place.name!r} ({place.sha256[:12] or 'no sha256'}) is not kept here: "
            "upload the same files again",
        )
    return folder


def tree_digest(files: list[dict[str, Any]]) -> str:
    """SHA-256 over paths and SHA-256 of files, whatever their order. Pure."""
    import hashlib

    lines = sorted(f"{one['sha256']}  {one['path']}\n" for one in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()
