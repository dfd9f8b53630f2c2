"""Sources in a folder below the data root."""

from __future__ import annotations

from pathlib import Path

from fusion.errors import BuildError
from fusion.recipe import nearest


def acquire(path: str, data_root: Path) -> Path:
    """The folder, read in place.

    Raises:
        BuildError: it is not there, or it leads out of the data root by a link.
    """
    folder = data_root / path
    if not folder.is_dir():
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
    return folder
