"""Where source files come from. A literal registry: nothing registers itself."""

from __future__ import annotations

from pathlib import Path

from fusion.recipe import HuggingFace, LocalFolder
from fusion.sources import huggingface, local


def acquire(location: LocalFolder | HuggingFace, *, data_root: Path, cache: Path) -> Path:
    """Folder that holds the source's files; local folders are read in place, archives unpacked.

    Raises:
        BuildError: code source_failed, naming what is not there or not allowed; archive_unsafe.
    """
    if isinstance(location, LocalFolder):
        return local.acquire(location.path, data_root, cache)
    return huggingface.acquire(
        location.repo_id, location.revision, list(location.allow_patterns), cache
    )
