"""Sources that a person gets: terms are signed, or no connector fits. What was put here is checked.

Nothing is fetched: the files lie below the data root, and each that is missing or another one than
expected is named.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fusion.errors import BuildError
from fusion.imaging.file_hash import file_hash
from fusion.locations import ExpectedFile, Manual
from fusion.sources import local
from fusion.sources.base import Check

SHOWN = 10  # files named in an error


def acquire(place: Manual, data_root: Path, cache: Path, check: Check) -> Path:
    """The folder, every expected file in it.

    Raises:
        BuildError: files_missing, naming what is missing or differs; archive_unsafe.
    """
    here = data_root / place.path
    steps = f"get them at {place.page} and" if place.page else "get them and"
    put = f"{steps} put them below the data root as {place.path!r}"
    if not here.exists():
        expected = f"{len(place.files)} files" if place.files else "the source's files"
        raise BuildError(
            "files_missing", f"{place.path!r}: found nothing, expected {expected}: {put}"
        )
    folder = here if here.is_dir() else here.parent
    wrong: list[str] = []
    for one in place.files:
        check()
        wrong += problems_of(one, folder, check)
    if wrong:
        more = f", and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise BuildError(
            "files_missing",
            f"{place.path!r}: {len(wrong)} of {len(place.files)} files are not as expected: "
            f"{'; '.join(wrong[:SHOWN])}{more}: {put}",
        )
    return local.acquire(place.path, data_root, cache, check)


def problems_of(file: ExpectedFile, folder: Path, check: Check) -> Iterator[str]:
    """What is wrong with an expected file: at most one thing, with both values."""
    path = folder / file.path
    if not path.is_file():
        yield f"{file.path} is missing"
        return
    size = path.stat().st_size
    if file.bytes is not None and size != file.bytes:
        yield f"{file.path}: found {size} bytes, expected {file.bytes}"
        return
    for kind in ("sha256", "md5"):
        expected = getattr(file, kind)
        if expected:
            found = file_hash(path, kind, lambda _: check())
            if found != expected:
                yield f"{file.path}: found {kind} {found}, expected {expected}"
                return
