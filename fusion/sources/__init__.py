"""Where source files come from. A literal registry: nothing registers itself."""

from __future__ import annotations

import os
from pathlib import Path

from fusion.recipe import HuggingFace, LocalFolder
from fusion.sources import huggingface, local


def acquire(location: LocalFolder | HuggingFace, *, data_root: Path, cache: Path) -> Path:
    """Folder that holds the source's files; local folders are read in place, archives unpacked.

    Raises:
        BuildError: code source_failed, naming what is not there or not allowed; archive_unsafe.
    """
    if isinstance(location, LocalFolder):
        root = local.acquire(location.path, data_root, cache)
    else:
        root = huggingface.acquire(
            location.repo_id, location.revision, list(location.allow_patterns), cache
        )
    if root.is_relative_to(cache):  # used just now: what was not for long may be removed
        kept = cache.joinpath(*root.relative_to(cache).parts[:2])
        os.utime(kept)
    return root
