"""Sources in a folder, or in an archive, below the data root."""

from __future__ import annotations

from pathlib import Path

from fusion.errors import BuildError, nearest
from fusion.sources.archive import is_archive, unpack
from fusion.sources.base import Check


def acquire(path: str, data_root: Path, cache: Path, check: Check) -> Path:
    """The folder, read in place; of an archive, the folder in `cache` that it was unpacked to.

    Raises:
        BuildError: it is not there, leads out of the data root by a link, or is archive_unsafe.
    """
    folder = data_root / path
    packed = is_archive(folder) and folder.is_file()
    if not folder.is_dir() and not packed:
        missing, parent = folder, folder.parent
        while not parent.is_dir() and parent not in {data_root, parent.parent}:
            missing, parent = parent, parent.parent
        beside = [p.name for p in parent.iterdir() if p.is_dir()] if parent.is_dir() else []
        raise BuildError(
            "source_failed",
            # The root itself is the operator's business: this text reaches API clients.
            f"folder {path!r} is not below the data root{nearest(missing.name, beside)}",
        )
    if not folder.resolve().is_relative_to(data_root.resolve()):
        raise BuildError("source_failed", f"folder {path!r} leads out of the data root by a link")
    return unpack(folder, cache, check=check) if packed else folder
