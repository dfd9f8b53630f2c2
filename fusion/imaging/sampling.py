"""Where each target voxel lies in the source: short tables per axis, or one 4x4 matrix.

When the target's axes are the source's up to order and flips, three short tables hold all weights
and a resampler is a fused pass over memory. That also serves oblique scans kept on their own axes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fusion.imaging.volume import Affine, Array, Grid

#: A target counts as aligned while ignoring the rest moves no voxel by more than this.
ALIGNED_VOXELS = 1e-4
#: Places this close to a whole or half voxel are meant to be there (affines are often float32).
_SNAP = 1e-6
_EDGE = 1e-6

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class AxisTable:
    """One source axis, sampled at n target places."""

    low: Ints
    high: Ints
    weight: Floats  # of `high`; that of `low` is the rest
    nearest: Ints
    inside: npt.NDArray[np.bool_]

    @property
    def span(self) -> tuple[int, int]:
        """The places from the first to before the second lie inside; the others do not."""
        found = np.flatnonzero(self.inside)
        return (int(found[0]), int(found[-1]) + 1) if len(found) else (0, 0)

    def taps(self, size: int, sigma: float) -> tuple[Ints, Floats]:
        """Source places (T, n) and their weights: a Gaussian of `sigma` voxels, then linear.

        The rim of the axis of `size` voxels is repeated, as in scipy's mode "nearest", and the
        Gaussian is cut at four sigma.
        """
        radius = int(4 * sigma + 0.5)
        offsets = np.arange(-radius, radius + 1)
        curve = np.exp(-0.5 * (offsets / sigma) ** 2) if sigma else np.ones(1)
        curve /= curve.sum()
        places = self.low + np.arange(-radius, radius + 2)[:, None]
        weights = np.zeros(places.shape)
        weights[:-1] = curve[:, None] * (1 - self.weight)
        weights[1:] += curve[:, None] * self.weight
        return np.clip(places, 0, size - 1), weights

    def is_identity(self, size: int) -> bool:
        """Every place is a voxel centre, each voxel of the axis once, forwards or backwards."""
        if len(self.low) != size or not self.inside.all() or self.weight.any():
            return False
        steps = np.diff(self.low)
        return bool((steps == 1).all() or (steps == -1).all())

    def flipped(self, size: int) -> AxisTable:
        """The same places when the source axis of `size` voxels is stored backwards."""
        last = size - 1
        return AxisTable(
            last - self.low, last - self.high, self.weight, last - self.nearest, self.inside
        )


@dataclass(frozen=True, eq=False)
class Aligned:
    """Tables by source axis; source axis r runs along target axis `order[r]`."""

    tables: tuple[AxisTable, AxisTable, AxisTable]
    order: tuple[int, int, int]


def as_view(array: Array, aligned: Aligned) -> Array | None:
    """`array` in the target's order, when each target voxel is one of its voxels."""
    tables = aligned.tables
    if not all(table.is_identity(n) for table, n in zip(tables, array.shape, strict=True)):
        return None
    turned = array[tuple(slice(None, None, -1 if t.low[0] else 1) for t in tables)]
    return turned.transpose(np.argsort(aligned.order))


def to_source(source: Grid, target: Grid) -> Affine:
    """Target voxel to source voxel, float64 4x4."""
    matrix: Affine = np.linalg.inv(source.affine) @ target.affine
    return matrix


def steps(matrix: Affine) -> Floats:
    """Length of a target step along each source axis, in source voxels (above 1: coarser)."""
    lengths: Floats = np.linalg.norm(matrix[:3, :3], axis=1)
    return lengths


def align(source: Grid, target: Grid) -> Aligned | None:
    """The three tables, or None when the target is rotated against the source."""
    matrix = to_source(source, target)
    linear = matrix[:3, :3]
    order = np.abs(linear).argmax(axis=1)
    if sorted(order.tolist()) != [0, 1, 2]:
        return None
    rest = np.abs(linear) * (np.array(target.shape) - 1)
    rest[np.arange(3), order] = 0
    if rest.sum(axis=1).max() > ALIGNED_VOXELS:
        return None
    tables = [
        axis_table(linear[r, c] * np.arange(target.shape[c]) + matrix[r, 3], n, abs(linear[r, c]))
        for r, (c, n) in enumerate(zip(order, source.shape, strict=True))
    ]
    a, b, c = (int(axis) for axis in order)
    return Aligned((tables[0], tables[1], tables[2]), (a, b, c))


def axis_table(places: Floats, size: int, step: float) -> AxisTable:
    """Weights at `places` (voxel index in the source axis of `size` voxels).

    Half a voxel around the outermost centres belongs to the image. Where the target is finer, its
    last voxel may lie up to one voxel out, by the rule for the shape: it takes the edge value.
    """
    doubled = np.rint(places * 2)
    places = np.where(np.abs(places * 2 - doubled) < 2 * _SNAP, doubled / 2, places)
    margin = max(0.5, 1 - step / 2) + _EDGE
    inside = (places >= -margin) & (places <= size - 1 + margin)
    held = np.clip(places, 0, size - 1)
    low = np.floor(held).astype(np.int64)
    return AxisTable(
        low,
        np.minimum(low + 1, size - 1),
        held - low,
        np.clip(np.floor(places + 0.5), 0, size - 1).astype(np.int64),
        inside,
    )


@dataclass(frozen=True, eq=False)
class Stored:
    """An array as it lies in memory: axes by falling stride, none backwards, no copy if it can."""

    array: Array  # C order
    axes: tuple[int, int, int]  # of the original array
    flips: tuple[bool, bool, bool]

    def tables(self, aligned: Aligned) -> list[AxisTable]:
        """Tables in the order of `array`'s axes."""
        return [
            aligned.tables[axis].flipped(n) if flip else aligned.tables[axis]
            for axis, flip, n in zip(self.axes, self.flips, self.array.shape, strict=True)
        ]

    def restored(self, array: Array) -> Array:
        """An array made in the order of `array`, seen in the order of the original."""
        back = array[tuple(slice(None, None, -1 if flip else 1) for flip in self.flips)]
        return back.transpose(np.argsort(self.axes))

    def out_axes(self, aligned: Aligned) -> tuple[int, ...]:
        """How to transpose an array made in the order of `array` into the target's order."""
        return tuple(int(a) for a in np.argsort([aligned.order[axis] for axis in self.axes]))

    def matrix(self, matrix: Affine) -> Affine:
        """Rows of a target-to-source matrix, for `array` in place of the original."""
        rows = matrix[list(self.axes)].copy()
        for n, (flip, size) in enumerate(zip(self.flips, self.array.shape, strict=True)):
            if flip:
                rows[n] = -rows[n]
                rows[n, 3] += size - 1
        return rows


def stored(array: Array) -> Stored:
    """Look through flips and axis swaps to the memory below."""
    order = np.argsort([-abs(s) for s in array.strides], kind="stable")
    axes = (int(order[0]), int(order[1]), int(order[2]))
    flips = tuple(array.strides[axis] < 0 for axis in axes)
    view = array.transpose(axes)[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]
    return Stored(np.ascontiguousarray(view), axes, (flips[0], flips[1], flips[2]))


def linear_input(array: Array) -> Array:
    """The types that kernels are compiled for; others become float32."""
    if array.dtype == bool:
        return array.view(np.uint8)
    return array if array.dtype in _LINEAR_TYPES else array.astype(np.float32, order="K")


_LINEAR_TYPES: tuple[Any, ...] = (
    np.dtype(np.uint8),
    np.dtype(np.int16),
    np.dtype(np.uint16),
    np.dtype(np.float32),
)
