"""Resize pictures: edges map to edges, pixel centres sit half a pixel inside."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fusion.imaging.volume import Array, Picture

if TYPE_CHECKING:  # web processes hardly resize
    from scipy.sparse import csr_array

KINDS = ("linear", "nearest", "area")


def resize_picture(
    picture: Picture, shape: tuple[int, int], interpolation: str = "linear"
) -> Picture:
    """`picture` at (H, W).

    "area" averages what each new pixel covers; where the old size is a whole multiple of the new
    one this undoes an enlargement exactly. "nearest" makes no new values: use it for labels.
    Integers stay integers, rounded.
    """
    return replace(picture, array=resize_array(picture.array, shape, interpolation))


def resize_array(array: Array, shape: tuple[int, int], interpolation: str) -> Array:
    """The array behind `resize_picture`: (H, W) or (H, W, C)."""
    if interpolation not in KINDS:
        raise ValueError(f"interpolation is {interpolation!r}, expected one of {KINDS}")
    if min(shape) < 1:
        raise ValueError(f"new shape is {shape}, expected sizes >= 1")
    if array.shape[:2] == tuple(shape):
        return array
    if interpolation == "nearest":
        rows, columns = (_nearest(n, m) for n, m in zip(array.shape, shape, strict=False))
        return array[rows][:, columns]
    table = _area if interpolation == "area" else _linear
    rows, columns = (table(n, m) for n, m in zip(array.shape, shape, strict=False))
    wide = array.reshape(array.shape[0], -1).astype(np.float32)
    wide = (rows @ wide).reshape(shape[0], array.shape[1], -1)
    turned = wide.transpose(1, 0, 2).reshape(array.shape[1], -1)
    out = (columns @ turned).reshape(shape[1], shape[0], -1).transpose(1, 0, 2)
    return _as_before(out.reshape(*shape, *array.shape[2:]), array.dtype)


def area_resized(array: Array, shape: tuple[int, ...]) -> Array:
    """Means of what each new cell covers, along every axis: float32 of `shape`."""
    out: Array = array.astype(np.float32)
    for axis, size in enumerate(shape):
        if out.shape[axis] != size:
            first = np.moveaxis(out, axis, 0)
            flat = np.ascontiguousarray(first).reshape(len(first), -1)
            made = (_area(len(first), size) @ flat).reshape(size, *first.shape[1:])
            out = np.moveaxis(made, 0, axis)
    return np.ascontiguousarray(out)


def _as_before(array: Array, dtype: np.dtype[np.generic]) -> Array:
    if dtype.kind in "ui":
        ends = np.iinfo(dtype)  # type: ignore[type-var]
        return np.clip(np.rint(array), ends.min, ends.max).astype(dtype)
    return np.ascontiguousarray(array, np.float32)


def _centres(old: int, new: int) -> npt.NDArray[np.float64]:
    centres: npt.NDArray[np.float64] = (np.arange(new, dtype=np.float64) + 0.5) * (old / new) - 0.5
    return centres


def _nearest(old: int, new: int) -> npt.NDArray[np.int64]:
    return np.clip(np.floor(_centres(old, new) + 0.5 - 1e-9), 0, old - 1).astype(np.int64)


def _linear(old: int, new: int) -> csr_array:
    place = np.clip(_centres(old, new), 0, old - 1)
    low = np.minimum(np.floor(place).astype(np.int64), max(old - 2, 0))
    weight = (place - low).astype(np.float32)
    rows = np.repeat(np.arange(new), 2)
    columns = np.minimum(np.stack([low, low + 1], axis=1).ravel(), old - 1)
    values = np.stack([1 - weight, weight], axis=1).ravel()
    from scipy.sparse import csr_array

    return csr_array((values, (rows, columns)), shape=(new, old))


def _area(old: int, new: int) -> csr_array:
    edges = np.arange(new + 1) * (old / new)
    first = np.floor(edges[:-1] + 1e-9).astype(np.int64)
    last = np.maximum(np.ceil(edges[1:] - 1e-9).astype(np.int64), first + 1)
    counts = last - first
    rows = np.repeat(np.arange(new), counts)
    columns = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + first[rows]
    cover = np.minimum(columns + 1, edges[rows + 1]) - np.maximum(columns, edges[rows])
    values = (cover / (old / new)).astype(np.float32)
    from scipy.sparse import csr_array

    return csr_array((values, (rows, np.minimum(columns, old - 1))), shape=(new, old))
