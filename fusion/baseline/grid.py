"""From a case's files to the working grid: planes or volumes, decoded once, kept in memory.

Whether volumes are learnt whole or plane by plane follows from their voxels: thick or few planes
hold too little across them for a patch of three dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from statistics import median
from typing import Any, Self, TypeVar

import nibabel as nib
import numpy as np
import numpy.typing as npt
from PIL import Image

from fusion.baseline.cases import Case
from fusion.baseline.tier import Tier
from fusion.imaging.intensity import z_score

Scalar = TypeVar("Scalar", bound=np.generic)
Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
Shape = tuple[int, ...]
_HU = 1000.0  # HU are kept as thousands: float16 holds them to better than one
_Z_LIMIT = 10.0
_THICKEST = 3.0  # longest over shortest side of a voxel that is learnt in three dimensions
_FEWEST_PLANES = 16
_MULTIPLE = 8  # a U-Net halves three times
_SMALLEST_WHOLE = 32
SOLID = 3  # axes of a volume
_DEPTHS = {"uint8": 255.0, "uint16": 65_535.0, "bool": 1.0}


@dataclass(frozen=True)
class Canvas:
    """The working grid, one for all cases of a run.

    Attributes:
        dims: 2, or 3 where volumes are learnt whole.
        axis: of a volume that is cut into planes, the one across them.
        edge: the longest side of an image on the canvas, in pixels; of volumes that are learnt in
            patches the longest side of most: a few may be larger.
        voxel_mm: one pixel in mm, so that a millimetre is as long in every case; None for
            pictures, which are made to fit one by one.
        patch: side of a network's input; smaller images are padded to it.
        fills: small pictures are enlarged, too, so that their size does not tell their source.
    """

    dims: int
    axis: int | None
    edge: int
    voxel_mm: float | None
    patch: int
    channels: int
    fills: bool = False

    def shape_of(self, shape: Shape, spacing_mm: Sequence[float] | None) -> Shape:
        """Size of an image (or of its plane) on the canvas, before padding."""
        sides = self.within(shape)
        if self.voxel_mm is None or spacing_mm is None:
            factor = self.edge / max(sides)
            factor = factor if self.fills else min(1.0, factor)
            return tuple(_whole(size * factor, self.edge) for size in sides)
        mm = self.within(tuple(spacing_mm))
        lengths = [size * one / self.voxel_mm for size, one in zip(sides, mm, strict=True)]
        limit = self.edge if self.fills or self.dims != SOLID else max(1, round(max(lengths)))
        return tuple(_whole(length, limit) for length in lengths)

    def within(self, axes: tuple[Any, ...]) -> tuple[Any, ...]:
        """Of one entry per axis, those that lie in a plane; all where nothing is cut."""
        return tuple(one for i, one in enumerate(axes) if i != self.axis)

    def stacked(self, array: Array) -> Array:
        """(N, C, ...) of an image: a picture or a volume is one, a cut volume one per plane."""
        if self.dims == SOLID:
            return array[None, None]
        if self.axis is not None:
            return np.moveaxis(array, self.axis, 0)[:, None]
        return np.moveaxis(array.reshape(*array.shape[:2], -1), -1, 0)[None]

    def spacing_of(
        self, case_shape: Shape, spacing_mm: Sequence[float] | None
    ) -> tuple[float, ...]:
        """Size of a voxel of the stack (N, ...) in mm: planes are as far apart as they were.

        In pixels where nobody knows mm. The first entry is that across the planes; 1 without.
        """
        shape = self.shape_of(case_shape, spacing_mm)
        if spacing_mm is None:
            return (1.0,) * (1 + len(shape))
        sides, mm = self.within(case_shape), self.within(tuple(spacing_mm))
        across = 1.0 if self.axis is None else float(spacing_mm[self.axis])
        kept = (n * one / now for n, one, now in zip(sides, mm, shape, strict=True))
        return (across, *kept)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """What `as_dict` gave."""
        return cls(**data)


def _whole(extent: float, edge: int) -> int:
    return min(edge, max(1, round(extent)))


@dataclass(frozen=True)
class Stack:
    """One case on the canvas: N planes, or one volume.

    Attributes:
        images: (N, C, ...) float16, normalised; HU in thousands.
        labels: (N, ...), value v > 0 is concept v-1; None without a label file.
        inner: size of the image before it was padded.
        spacing: see `Canvas.spacing_of`.
        has_mm: whether `spacing` is in mm.
        ignore: value of `labels` where nobody annotated; 0 where it has none.
    """

    images: npt.NDArray[np.float16]
    labels: npt.NDArray[np.uint16] | None
    inner: Shape
    spacing: tuple[float, ...]
    has_mm: bool
    ignore: int = 0

    def unpadded(self, array: Array) -> Array:
        """(..., padded) without what was padded."""
        where: tuple[Any, ...] = inner_slices(array.shape[-len(self.inner) :], self.inner)
        return np.asarray(array[(Ellipsis, *where)])


def inner_slices(outer: Shape, inner: Shape) -> tuple[slice, ...]:
    """Where an image of `inner` lies in a padded one."""
    starts = [(n - m) // 2 for n, m in zip(outer, inner, strict=True)]
    return tuple(slice(start, start + m) for start, m in zip(starts, inner, strict=True))


def canvas_for(cases: Sequence[Case], tier: Tier, *, fills: bool = False) -> Canvas:
    """The smallest canvas that holds every image; larger images are made smaller."""
    channels = max(case.channels for case in cases)
    volumes = [(case.shape, case.spacing_mm) for case in cases if case.spacing_mm is not None]
    if not volumes:
        largest = max(max(case.shape) for case in cases)
        edge = tier.picture_edges[0] if fills else 0
        edge = max(edge, _edge(largest, tier.picture_edges))
        return Canvas(2, None, edge, None, _patch(edge, tier.patch, fills), channels, fills)
    ratios = [max(mm) / min(mm) for _, mm in volumes]
    is_solid = median(ratios) <= _THICKEST and median(min(s) for s, _ in volumes) >= _FEWEST_PLANES
    axis = None if is_solid else _across(volumes)
    sides = [
        [(n, one) for i, (n, one) in enumerate(zip(shape, mm, strict=True)) if i != axis]
        for shape, mm in volumes
    ]
    extent = max(n * one for case in sides for n, one in case)
    finest = min(one for case in sides for _, one in case)
    if is_solid:
        edge = min(tier.volume_edge, _multiple(extent / finest))
        voxel = max(finest, extent / edge if fills else _typical(sides) / edge)
        return Canvas(SOLID, None, edge, voxel, _patch(edge, tier.patch_3d, fills), channels, fills)
    edge = _edge(extent / finest, tier.edges)
    return Canvas(
        2, axis, edge, max(finest, extent / edge), _patch(edge, tier.patch, fills), channels
    )


def _typical(volumes: Sequence[Sequence[tuple[int, float]]]) -> float:
    """Side in mm of the cube that volumes are brought into: of the median, not of the largest.

    Two whole heads would blur a hundred crops. The mean volume is no larger than the cube, either.
    """
    lengths = [[n * mm for n, mm in volume] for volume in volumes]
    content = float(np.cbrt(np.mean([np.prod(volume) for volume in lengths])))
    longest: float = median(max(volume) for volume in lengths)
    return max(longest, content)


def _patch(edge: int, most: int, is_whole: bool) -> int:
    """A class speaks of a whole image, which must outlast the halvings of a DenseNet."""
    return max(edge, _SMALLEST_WHOLE) if is_whole else min(edge, most)


def _across(volumes: Sequence[tuple[Shape, tuple[float, ...]]]) -> int:
    """The axis that most volumes are thickest along, then the one of fewest planes."""
    votes = [
        max(range(len(shape)), key=lambda i: (round(mm[i], 3), -shape[i], i))
        for shape, mm in volumes
    ]
    return max(sorted(set(votes), reverse=True), key=votes.count)


def _edge(extent: float, edges: tuple[int, ...]) -> int:
    return next((edge for edge in edges if extent <= edge), edges[-1])


def _multiple(extent: float) -> int:
    return _MULTIPLE * max(1, -int(-extent // _MULTIPLE))


def load(case: Case, canvas: Canvas, concepts: int) -> Stack:
    """Decode a case and bring it onto the canvas. Files are the build's own."""
    label, most = None, concepts + int(case.ignores)
    if case.label is not None:
        label = _decoded(case.label)
        if (largest := int(label.max(initial=0))) > most:
            raise ValueError(f"{case.label.name} of {case.id}: found {largest}, most {most}")
    stack = placed(
        [_decoded(path) for path in case.images],
        label,
        case.spacing_mm,
        case.norm,
        canvas,
        case.unit,
    )
    return replace(stack, ignore=most if case.ignores else 0)


def placed(
    channels: Sequence[Array],
    label: Array | None,
    spacing_mm: Sequence[float] | None,
    norm: Mapping[str, Any] | None,
    canvas: Canvas,
    unit: str = "unknown",
) -> Stack:
    """An image, one array per channel, and its label on the canvas."""
    axes = 2 if spacing_mm is None else SOLID
    shape = canvas.shape_of(channels[0].shape[:axes], spacing_mm)
    norms = (norm or {}).get("params") if (norm or {}).get("method") == "per_channel" else None
    parts = [
        shrunk(canvas.stacked(normalised(array, norms[i] if norms else norm, unit)), shape)
        for i, array in enumerate(channels)
    ]
    joined = np.concatenate(parts, axis=1)
    images = _padded(joined, canvas.patch, shape, fill=joined.min())
    images = np.broadcast_to(images, (len(images), canvas.channels, *images.shape[2:]))
    labels = None
    if label is not None:
        small = shrunk_labels(canvas.stacked(label)[:, 0], shape)
        labels = _padded(small, canvas.patch, shape, fill=np.uint16(0))
    return Stack(
        np.ascontiguousarray(images, np.float16),
        labels,
        shape,
        canvas.spacing_of(channels[0].shape[:axes], spacing_mm),
        spacing_mm is not None,
    )


def _decoded(path: Path) -> Array:
    if path.suffix == ".png":
        with Image.open(path) as picture:
            return np.asarray(picture)
    return np.asanyarray(nib.Nifti1Image.from_filename(path).dataobj)


def normalised(array: Array, norm: Mapping[str, Any] | None, unit: str = "unknown") -> Floats:
    """Intensities as the bundle's `norm` says: divided, by a z-score of the image, HU / 1000."""
    if (norm or {}).get("method") == "clip_z_score" or (norm is None and unit == "hu"):
        return np.asarray(array / np.float32(_HU), np.float32)
    if norm is None and array.dtype.name in _DEPTHS:
        norm = {"method": "divide", "params": {"by": _DEPTHS[array.dtype.name]}}
    if norm is not None and norm["method"] == "divide":
        return np.asarray(array / np.float32(norm["params"]["by"]), np.float32)
    by = norm["params"] if norm is not None else z_score(np.nan_to_num(array))
    values = np.nan_to_num(array.astype(np.float32))
    scaled = (np.clip(values, by["low"], by["high"]) - by["mean"]) / by["std"]
    return np.asarray(np.clip(scaled, -_Z_LIMIT, _Z_LIMIT), np.float32)


@lru_cache(maxsize=256)
def area_weights(size: int, target: int) -> Floats:
    """(target, size): how much of each source pixel lies in each target pixel; rows sum to 1."""
    edges = np.linspace(0, size, target + 1)
    left, right = edges[:-1, None], edges[1:, None]
    pixel = np.arange(size)
    overlap = np.minimum(right, pixel + 1) - np.maximum(left, pixel)
    weights = np.maximum(overlap, 0)
    scaled = weights / weights.sum(axis=1, keepdims=True)
    return np.asarray(scaled, np.float32)


def shrunk(images: Floats, shape: Shape) -> Floats:
    """The last axes on `shape`: the mean over the area of each target pixel."""
    for axis, target in enumerate(shape, start=images.ndim - len(shape)):
        if images.shape[axis] != target:
            weights = area_weights(images.shape[axis], target)
            moved = np.moveaxis(images, axis, -1) @ weights.T
            images = np.asarray(np.moveaxis(moved, -1, axis), np.float32)
    return images


def shrunk_labels(labels: Array, shape: Shape) -> npt.NDArray[np.uint16]:
    """Labels (N, ...) on `shape`; each structure keeps its area in each plane, or its volume.

    A threshold of one half would erase vessels thinner than a target pixel. Here a structure gets
    as many pixels as its area is worth: those that it covers most.
    """
    if labels.shape[1:] == shape:
        return np.ascontiguousarray(labels, np.uint16)
    best: Floats = np.zeros((len(labels), *shape), np.float32)
    result = np.zeros(best.shape, np.uint16)
    for value in np.unique(labels[labels != 0]).tolist():
        cover = shrunk((labels == value).astype(np.float32), shape)
        wins = _covered_most(cover) & (cover > best)
        result[wins], best[wins] = value, cover[wins]
    return result


def _covered_most(cover: Floats) -> npt.NDArray[np.bool_]:
    flat = cover.reshape(len(cover), -1)
    count = np.rint(flat.sum(axis=1)).astype(np.intp)
    ordered = np.sort(flat, axis=1)[:, ::-1]
    last = ordered[np.arange(len(flat)), np.maximum(count - 1, 0)]
    wins: npt.NDArray[np.bool_] = (flat >= last[:, None]) & (flat > 0) & (count > 0)[:, None]
    return wins.reshape(cover.shape)


def _padded(
    array: npt.NDArray[Scalar], patch: int, shape: Shape, *, fill: Scalar
) -> npt.NDArray[Scalar]:
    """Centre the last axes, which are `shape`, in at least a patch."""
    free = [max(0, patch - size) for size in shape]
    around = [(0, 0)] * (array.ndim - len(shape)) + [(n // 2, n - n // 2) for n in free]
    return np.pad(array, around, constant_values=fill)
