"""Cases that are rows of arrays: .npz, .npy and .h5 files that hold a whole dataset."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np

from fusion.cases import ArrayRow, FoundCase
from fusion.imaging.errors import CaseError
from fusion.imaging.io import h5_shape, read_array, read_h5
from fusion.imaging.volume import Array
from fusion.source import ArraysOfSplit, SourceDescription
from fusion.tables import version_of

_H5 = frozenset({".h5", ".hdf5", ".hdf"})


def array_cases(description: SourceDescription, root: Path) -> Iterator[FoundCase]:
    """One case per row, in order; none where the files are not there.

    Raises:
        CaseError: unreadable, or grid_conflict where images and labels differ in number.
    """
    for number, part in enumerate(description.cases.arrays):
        if not all((root / file).is_file() for file in part.files()):
            continue
        labels_file = part.labels_file or part.file
        count = _count(root / part.file, part.images)
        if part.labels or part.labels_file:
            labels = _count(root / labels_file, part.labels)
            if labels != count:
                raise CaseError("grid_conflict", f"{part.file}: {count} images, {labels} labels")
        subjects = _subjects(root, part, count)
        shared = [other.images for other in description.cases.arrays].count(part.images) > 1
        prefix = Path(part.file).stem if shared else part.images or f"part{number}"
        for row in range(count):
            name = f"{prefix}_{row:06d}"
            yield FoundCase(
                name,
                subjects[row],
                part.file,
                (),
                part.split,
                (("row", str(row)), ("split", part.split or "")),
                ArrayRow(part.file, part.images, labels_file, part.labels, row),
            )


def _subjects(root: Path, part: ArraysOfSplit, count: int) -> list[str | None]:
    if not part.subjects:
        return [None] * count
    found = np.ravel(_whole(root / part.file, part.subjects))
    if len(found) != count:
        raise CaseError("grid_conflict", f"{part.file}: {count} images, {len(found)} subjects")
    return [str(one) for one in found.tolist()]


def image_at(root: Path, row: ArrayRow) -> Array:
    """Pixels of one case: (H, W) or (H, W, C)."""
    array = _item(root / row.file, row.images, row.row)
    return array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array  # noqa: PLR2004


def label_at(root: Path, row: ArrayRow) -> Array:
    """Labels of one case, any shape."""
    return _item(root / row.labels_file, row.labels, row.row)


def _item(path: Path, key: str, row: int) -> Array:
    if path.suffix.lower() in _H5:
        return read_h5(path, key, row=row)
    return np.asarray(_whole(path, key)[row])


def _count(path: Path, key: str) -> int:
    if path.suffix.lower() in _H5:
        return h5_shape(path, key)[0]
    return len(_whole(path, key))


def _whole(path: Path, key: str) -> Array:
    if path.suffix.lower() in _H5:
        return read_h5(path, key)
    return _read(path, key, version_of(path))


@lru_cache(maxsize=4)
def _read(path: Path, key: str, _: tuple[int, int]) -> Array:
    """One archive serves all its cases."""
    return read_array(path, key)
