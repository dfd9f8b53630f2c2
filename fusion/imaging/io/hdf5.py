"""Arrays of HDF5 files, without following a link out of the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from fusion.imaging.errors import CaseError
from fusion.imaging.io.limits import LIMITS, Limits
from fusion.imaging.volume import Array

#: Filters that HDF5 itself brings; any other would load a plugin.
_FILTERS = frozenset({1, 2, 3, 4, 5, 6, 32000})


def read_h5(
    path: Path | str, key: str, limits: Limits = LIMITS, *, row: int | None = None
) -> Array:
    """The array `key` ("group/name") of an HDF5 file, or one item along its first axis.

    Raises:
        CaseError: unreadable, dtype_refused or size_limit, before the array is read.
    """
    path = Path(path)
    with open_h5(path, limits) as file:
        dataset = checked_dataset(file, key, path.name)
        shape = dataset.shape
        if row is None:
            limits.check_shape(path.name, shape, dataset.dtype.itemsize, rows=1)
            return _finite(dataset[()], f"{path.name}[{key}]")
        if not 0 <= row < shape[0]:
            raise CaseError(
                "unreadable", f"{path.name}[{key}]: no row {row}; it has {shape[0]} of {shape[1:]}"
            )
        limits.check_shape(path.name, (1, *shape[1:]), dataset.dtype.itemsize, rows=1)
        return _finite(dataset[row], f"{path.name}[{key}][{row}]")


def h5_shape(path: Path | str, key: str, limits: Limits = LIMITS) -> tuple[int, ...]:
    """Sizes of the array `key`, from the header alone: how many items it holds."""
    path = Path(path)
    with open_h5(path, limits) as file:
        return tuple(checked_dataset(file, key, path.name).shape)


@contextmanager
def open_h5(path: Path, limits: Limits) -> Iterator[h5py.File]:
    limits.check_file(path)
    try:
        with h5py.File(path, "r") as file:
            yield file
    except CaseError:
        raise
    except Exception as error:  # the library answers damaged files with whatever comes
        raise CaseError("unreadable", f"{path.name}: {error}") from error


def checked_dataset(file: h5py.File, key: str, name: str, *, scalar: bool = False) -> Any:
    """The dataset `key`, with voxels in this file and real numbers in it."""
    node: Any = file
    for part in [part for part in key.split("/") if part]:
        link = node.get(part, getlink=True) if isinstance(node, h5py.Group) else None
        if link is None:
            names = sorted(node)[:20] if isinstance(node, h5py.Group) else []
            raise CaseError("unreadable", f"{name}: no array {key!r}; beside it are {names}")
        if not isinstance(link, h5py.HardLink):
            raise CaseError("unreadable", f"{name}: {part!r} is a link, expected an array")
        node = node[part]
    if not isinstance(node, h5py.Dataset) or node.shape is None:
        raise CaseError("unreadable", f"{name}: {key!r} is no array")
    if node.is_virtual or node.external:
        raise CaseError("unreadable", f"{name}: {key!r} lies in other files")
    if node.dtype.kind not in "buif" or node.dtype.itemsize > 8:  # noqa: PLR2004
        raise CaseError("dtype_refused", f"{name}[{key}]: {node.dtype}, expected real numbers")
    if (not node.shape and not scalar) or min(node.shape, default=1) < 1:
        raise CaseError("unreadable", f"{name}[{key}]: empty array of shape {node.shape}")
    _check_filters(node, f"{name}[{key}]")
    return node


def _check_filters(dataset: Any, name: str) -> None:
    """A chunk is unpacked as a whole: it may not be much larger than what is asked for.

    Nor may it have other axes than the array: HDF5 would look for its chunks without end.
    """
    if dataset.chunks and len(dataset.chunks) != len(dataset.shape):
        raise CaseError(
            "unreadable", f"{name}: chunks of {dataset.chunks} in an array of {dataset.shape}"
        )
    plan = dataset.id.get_create_plist()
    used = {plan.get_filter(n)[0] for n in range(plan.get_nfilters())}
    if used - _FILTERS:
        raise CaseError("unreadable", f"{name}: filters {sorted(used - _FILTERS)} are not known")
    chunk = int(np.prod(dataset.chunks or (1,), dtype=object)) * dataset.dtype.itemsize
    if chunk > LIMITS.size_bytes:
        raise CaseError("size_limit", f"{name}: chunks of {chunk} bytes")


def _finite(array: Any, name: str) -> Array:
    found: Array = np.asarray(array)
    if found.dtype.kind == "f" and not np.isfinite(found).all():
        raise CaseError("unreadable", f"{name}: NaN or infinite values")
    return found.astype(found.dtype.newbyteorder("="), copy=False)
