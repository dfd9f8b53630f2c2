"""Cases that are rows of arrays: .npz, .npy and .h5 files that hold a whole dataset."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from fusion.cases import ArrayRow, FoundCase
from fusion.imaging.errors import CaseError
from fusion.imaging.io import (
    H5_SUFFIXES,
    h5_shape,
    npy_shape,
    read_array,
    read_h5,
    read_npy_row,
)
from fusion.imaging.volume import Array
from fusion.source import ArraysOfSplit, SourceDescription
from fusion.tables import version_of


def array_cases(description: SourceDescription, root: Path) -> Iterator[FoundCase]:
    """One case per row, in order; none where the files are not there.

    Raises:
        CaseError: unreadable, or grid_conflict where images and labels differ in number.
    """
    for number, part in enumerate(description.cases.arrays):
        if not all((root / file).is_file() for file in part.files()):
            continue
        labels_file = part.labels_file or part.file
        masks_file = (part.masks_file or part.file) if part.has_masks else ""
        count = _count(root / part.file, part.images)
        for what, file, key in (
            ("labels", labels_file if part.labels or part.labels_file else "", part.labels),
            ("masks", masks_file, part.masks),
        ):
            if file and (others := _count(root / file, key)) != count:
                raise CaseError("grid_conflict", f"{part.file}: {count} images, {others} {what}")
        subjects = _subjects(root, part, count)
        prefix = _prefix(description.cases.arrays, number)
        for row in range(count):
            name = f"{prefix}_{row:06d}"
            yield FoundCase(
                name,
                subjects[row],
                part.file,
                ((masks_file,),) * len(description.layers),
                part.split,
                (("row", str(row)), ("split", part.split or "")),
                ArrayRow(
                    part.file, part.images, labels_file, part.labels, row, masks_file, part.masks
                ),
            )


def _prefix(parts: Sequence[ArraysOfSplit], number: int) -> str:
    """What names of a part's cases begin with: its key, or its file where a key occurs again."""
    keys = [part.images for part in parts]
    if keys[number] and keys.count(keys[number]) == 1:
        return keys[number]
    stems = [Path(part.file).stem for part in parts]
    if stems.count(stems[number]) == 1:
        return stems[number] if keys.count(keys[number]) > 1 else f"part{number}"
    return f"{stems[number]}{number}"


def _subjects(root: Path, part: ArraysOfSplit, count: int) -> list[str | None]:
    if not part.subjects:
        return [None] * count
    path = root / part.file
    is_h5 = path.suffix.lower() in H5_SUFFIXES
    found = np.ravel(read_h5(path, part.subjects) if is_h5 else _whole(path, part.subjects))
    if len(found) != count:
        raise CaseError("grid_conflict", f"{part.file}: {count} images, {len(found)} subjects")
    return [str(one) for one in found.tolist()]


def image_at(root: Path, row: ArrayRow) -> Array:
    """Pixels of one case: (H, W), (H, W, C) or (I, J, K)."""
    return as_pixels(_item(root / row.file, row.images, row.row))


def label_at(root: Path, row: ArrayRow) -> Array:
    """Labels of one case, any shape; numbers or words."""
    return _item(root / row.labels_file, row.labels, row.row)


def mask_at(root: Path, row: ArrayRow, channel: int) -> Array:
    """One mask of one case: (H, W).

    Raises:
        CaseError: unreadable, when there is no such channel.
    """
    array = _item(root / row.masks_file, row.masks, row.row)
    if array.ndim == 2 and channel == 0:  # noqa: PLR2004
        return array
    if array.ndim != 3 or channel >= array.shape[2]:  # noqa: PLR2004
        raise CaseError(
            "unreadable", f"{row.masks_file}: masks are {array.shape}, no channel {channel}"
        )
    return np.ascontiguousarray(array[..., channel])


def as_pixels(array: Array) -> Array:
    """Whole numbers from 0 to 65535 in the smallest type that holds them; one channel as none."""
    array = array[..., 0] if array.ndim > 2 and array.shape[-1] == 1 else array  # noqa: PLR2004
    if array.dtype in (np.uint8, np.uint16) or array.dtype.kind not in "buif" or not array.size:
        return array
    low, high = array.min(), array.max()
    if low < 0 or high > np.iinfo(np.uint16).max:
        return array
    small = array.astype(np.uint8 if high <= np.iinfo(np.uint8).max else np.uint16)
    return small if array.dtype.kind != "f" or np.array_equal(small, array) else array


def _item(path: Path, key: str, row: int) -> Array:
    suffix = path.suffix.lower()
    if suffix in H5_SUFFIXES:
        return read_h5(path, key, row=row)
    if suffix == ".npy":
        return read_npy_row(path, row)
    return np.asarray(_whole(path, key)[row])


def _count(path: Path, key: str) -> int:
    suffix = path.suffix.lower()
    if suffix in H5_SUFFIXES:
        return h5_shape(path, key)[0]
    return npy_shape(path)[0] if suffix == ".npy" else len(_whole(path, key))


def _whole(path: Path, key: str) -> Array:
    return _read(path, key, version_of(path))


@lru_cache(maxsize=4)
def _read(path: Path, key: str, _: tuple[int, int]) -> Array:
    """One archive serves all its cases."""
    return read_array(path, key, words=True)
