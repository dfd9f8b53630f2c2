"""Boxes on a grid: where they lie after each step that was done to their image, and back.

A box is the corner where it begins on every axis, then the one where it ends, in continuous voxel
coordinates: voxel n covers n to n + 1. Axes run as the array's do in a volume (i, j, k), and as
everybody writes them in a picture: x along the columns, then y along the rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from fusion.imaging.transforms import Transform
from fusion.imaging.volume import Array

Corners = tuple[float, ...]
Boxes = npt.NDArray[np.float64]  # (N, 4) or (N, 6)
#: Corners are kept to so many decimals of a voxel: then flips and crops are undone to the last bit.
DECIMALS = 6
_KEEP_PLACE = frozenset({"rescale", "clip", "cast", "channel", "frame"})


def as_boxes(corners: Iterable[Sequence[float]], axes: int) -> Boxes:
    """(N, 2 * axes), for no box, too."""
    return np.array([list(one) for one in corners], float).reshape(-1, 2 * axes)


def sizes_of(shape: Sequence[int], *, is_volume: bool) -> tuple[int, ...]:
    """Size of the grid along each axis of a box: (I, J, K), or (width, height)."""
    return tuple(shape[:3]) if is_volume else (shape[1], shape[0])


def moved(boxes: Boxes, steps: Iterable[Transform | Mapping[str, Any]]) -> Boxes:
    """The boxes on the grid that the last step gave."""
    for step in map(_step, steps):
        if step.op not in _KEEP_PLACE:
            boxes = np.round(_ordered(_forth(step, boxes)), DECIMALS)
    return boxes


def moved_back(boxes: Boxes, steps: Iterable[Transform | Mapping[str, Any]]) -> Boxes:
    """The boxes on the grid that the first step took: equal to what `moved` was given.

    After a resampling they differ by rounding: at most 1e-6 of the coarser of the two voxels.
    """
    for step in reversed([_step(one) for one in steps]):
        if step.op not in _KEEP_PLACE:
            boxes = np.round(_ordered(_back(step, boxes)), DECIMALS)
    return boxes


def ras_step(facts: Mapping[str, Any]) -> list[Transform]:
    """The step to RAS order of an image with this `shape` and these `axcodes` (None: no step)."""
    if not facts["axcodes"]:
        return []
    from nibabel.orientations import axcodes2ornt  # not for web processes

    order = axcodes2ornt(tuple(facts["axcodes"]))
    axes = np.argsort(order[:, 0]).astype(int).tolist()
    params = {"axes": axes, "flips": [bool(order[axis, 1] < 0) for axis in axes]}
    before = tuple(facts["shape"])
    after = tuple(before[axis] for axis in axes)
    return [Transform("reorient", params, before, after, None, None, "", "", invertible=True)]


def clipped(boxes: Boxes, sizes: Sequence[int]) -> tuple[Boxes, npt.NDArray[np.float64]]:
    """What of each box lies on the grid, and by how many voxels it reached beyond at most."""
    limits = np.tile(np.array(sizes, float), 2)
    inside = np.clip(boxes, 0, limits)
    return inside, np.abs(inside - boxes).max(axis=1, initial=0)


def volumes(boxes: Boxes) -> npt.NDArray[np.float64]:
    """Voxels that each box holds; 0 where it has no extent on some axis."""
    low, high = np.split(boxes, 2, axis=1)
    held: npt.NDArray[np.float64] = np.prod(np.maximum(high - low, 0), axis=1)
    return held


def overlaps(one: Boxes, other: Boxes) -> npt.NDArray[np.float64]:
    """Intersection over union of each of `one` with each of `other`: (N, M)."""
    axes = one.shape[1] // 2
    low = np.maximum(one[:, None, :axes], other[None, :, :axes])
    high = np.minimum(one[:, None, axes:], other[None, :, axes:])
    shared = np.prod(np.maximum(high - low, 0), axis=2)
    whole = volumes(one)[:, None] + volumes(other)[None] - shared
    share: npt.NDArray[np.float64] = np.zeros_like(shared)
    np.divide(shared, whole, out=share, where=whole > 0)
    return share


def matched(one: Boxes, other: Boxes, least: float = 0.5) -> int:
    """How many pairs of boxes lie on each other, each box in one pair at most, best pairs first."""
    table, found = overlaps(one, other), 0
    while table.size and table.max() >= least:
        row, column = np.unravel_index(table.argmax(), table.shape)
        table[row], table[:, column] = 0, 0
        found += 1
    return found


def around(numbers: Array) -> list[tuple[int, Corners]]:
    """(number, box) of each number above 0 in an array of whole numbers: all of its voxels."""
    from scipy import ndimage  # not for web processes

    places = ndimage.find_objects(numbers)
    return [(n, _corners(place)) for n, place in enumerate(places, 1) if place is not None]


def around_parts(mask: npt.NDArray[np.bool_]) -> list[Corners]:
    """A box around each connected part; voxels that touch by a corner are connected."""
    from scipy import ndimage

    numbers, _ = ndimage.label(mask, structure=np.ones((3,) * mask.ndim))
    return [corners for _, corners in around(numbers)]


def filled(
    boxes: Iterable[tuple[int, Sequence[float]]], shape: Sequence[int]
) -> npt.NDArray[np.uint16]:
    """A label map to look at: the value on each voxel whose centre is inside, 1 voxel at least."""
    out = np.zeros(shape, np.uint16)
    order = range(len(shape)) if len(shape) == 3 else (1, 0)  # noqa: PLR2004
    for value, corners in boxes:
        half = len(corners) // 2
        cut: list[slice] = []
        for axis in order:
            first = min(int(np.ceil(corners[axis] - 0.5)), shape[len(cut)] - 1)
            last = int(np.ceil(corners[half + axis] - 0.5))
            cut.append(slice(max(first, 0), max(last, first + 1)))
        out[tuple(cut)] = value
    return out


def _corners(place: tuple[slice, ...]) -> Corners:
    """Slices along the axes of an array as a box."""
    ordered = place if len(place) == 3 else place[::-1]  # noqa: PLR2004
    return (*(float(s.start) for s in ordered), *(float(s.stop) for s in ordered))


def _step(step: Transform | Mapping[str, Any]) -> Transform:
    return step if isinstance(step, Transform) else Transform.from_dict(step)


def _ordered(boxes: Boxes) -> Boxes:
    """A flip makes the end of a box its beginning."""
    first, last = np.split(boxes, 2, axis=1)
    return np.concatenate([np.minimum(first, last), np.maximum(first, last)], axis=1)


def _forth(step: Transform, boxes: Boxes) -> Boxes:
    low, high = np.split(boxes, 2, axis=1)
    if step.op == "reorient":
        axes = list(step.params["axes"])
        return _flipped(step, np.concatenate([low[:, axes], high[:, axes]], axis=1))
    if step.op in {"crop", "pad"}:
        return boxes + _shift(step)
    return _through(boxes, step.shape_in, step.affine_in, step.shape_out, step.affine_out)


def _back(step: Transform, boxes: Boxes) -> Boxes:
    if step.op == "reorient":
        low, high = np.split(_ordered(_flipped(step, boxes)), 2, axis=1)
        axes = np.argsort(step.params["axes"])
        return np.concatenate([low[:, axes], high[:, axes]], axis=1)
    if step.op in {"crop", "pad"}:
        return boxes - _shift(step)
    return _through(boxes, step.shape_out, step.affine_out, step.shape_in, step.affine_in)


def _shift(step: Transform) -> Boxes:
    """How far a crop or a pad moves boxes, voxels."""
    by = step.params["before"] if step.op == "pad" else [-n for n in step.params["start"]]
    return np.array([*by, *by], float)


def _flipped(step: Transform, boxes: Boxes) -> Boxes:
    flips, sizes = np.tile(step.params["flips"], 2), np.tile(np.array(step.shape_out, float), 2)
    turned: Boxes = np.where(flips, sizes - boxes, boxes)
    return turned


def _through(
    boxes: Boxes, shape_in: Sequence[int], from_: Any, shape_out: Sequence[int], to: Any
) -> Boxes:
    """By the affines of two grids; the edges of one picture lie on those of the other."""
    if from_ is None or to is None:
        before, after = (sizes_of(s, is_volume=False) for s in (shape_in, shape_out))
        grown: Boxes = boxes * np.tile(np.array(after, float) / np.array(before, float), 2)
        return grown
    there = np.linalg.inv(np.array(to)) @ np.array(from_)
    low, high = np.split(boxes, 2, axis=1)
    ends = np.stack([low, high])
    # Affines speak of centres, which lie half a voxel inside.
    corners = np.stack([np.stack([ends[c, :, a] for a, c in enumerate(which)], axis=1) - 0.5
                        for which in product((0, 1), repeat=3)])  # fmt: skip
    placed = corners @ there[:3, :3].T + there[:3, 3] + 0.5
    return np.concatenate([placed.min(axis=0), placed.max(axis=0)], axis=1)
