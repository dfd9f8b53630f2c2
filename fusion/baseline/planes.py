"""From a case's files to planes of one size: decoded once, kept small in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import nibabel as nib
import numpy as np
import numpy.typing as npt
from PIL import Image

from fusion.baseline.cases import Case
from fusion.baseline.tier import Tier

Scalar = TypeVar("Scalar", bound=np.generic)
Floats = npt.NDArray[np.float32]
_HU = 1000.0  # CT is clipped to [-1000, 1000] HU and mapped to [-1, 1]
_Z_LIMIT = 5.0
_BACKGROUND_SHARE = 0.05


@dataclass(frozen=True)
class Canvas:
    """The working grid, one for all cases of a run.

    Attributes:
        edge: planes are edge x edge pixels.
        pixel_mm: one pixel in mm, so that a millimetre is as long in every case; None for
            pictures, which are made to fit one by one.
    """

    edge: int
    pixel_mm: float | None
    channels: int

    def shape_of(self, case: Case) -> tuple[int, int]:
        """Size of the case's plane on the canvas, before padding; never enlarged pictures."""
        if self.pixel_mm is None or case.pixel_mm is None:
            factor = min(1.0, self.edge / max(case.size))
            rows, columns = (size * factor for size in case.size)
        else:
            rows, columns = (
                size * mm / self.pixel_mm for size, mm in zip(case.size, case.pixel_mm, strict=True)
            )
        return _whole(rows, self.edge), _whole(columns, self.edge)


def _whole(extent: float, edge: int) -> int:
    return min(edge, max(1, round(extent)))


@dataclass(frozen=True)
class Stack:
    """One case on the canvas.

    Attributes:
        images: (Z, C, edge, edge) float16, normalised.
        labels: (Z, edge, edge), value v > 0 is concept v-1; None without a label file.
    """

    images: npt.NDArray[np.float16]
    labels: npt.NDArray[np.uint16] | None


def canvas_for(cases: Sequence[Case], tier: Tier) -> Canvas:
    """The smallest canvas that holds every plane; larger planes are made smaller."""
    channels = max(case.channels for case in cases)
    if all(case.pixel_mm is None for case in cases):
        largest = max(max(case.size) for case in cases)
        return Canvas(_edge(largest, tier.picture_edges), None, channels)
    volumes = [(case.size, case.pixel_mm) for case in cases if case.pixel_mm is not None]
    extent = max(n * mm for size, pixel in volumes for n, mm in zip(size, pixel, strict=True))
    finest = min(min(pixel) for _, pixel in volumes)
    edge = _edge(extent / finest, tier.edges)
    return Canvas(edge, max(finest, extent / edge), channels)


def _edge(extent: float, edges: tuple[int, ...]) -> int:
    return next((edge for edge in edges if extent <= edge), edges[-1])


def load(case: Case, canvas: Canvas, concepts: int) -> Stack:
    """Decode a case and bring it onto the canvas."""
    shape = canvas.shape_of(case)
    channels = [_shrunk(_normalised(_planes(path), case), shape) for path in case.images]
    shrunk = np.concatenate(channels, axis=1)
    images = _padded(shrunk, canvas.edge, fill=shrunk.min())
    images = np.broadcast_to(images, (len(images), canvas.channels, *images.shape[2:]))
    labels = None
    if case.label is not None:
        values = _planes(case.label)[:, 0]
        if (largest := int(values.max(initial=0))) > concepts:
            raise ValueError(f"{case.label.name} of {case.id}: found {largest}, most {concepts}")
        labels = _padded(shrunk_labels(values, shape), canvas.edge, fill=np.uint16(0))
    return Stack(np.ascontiguousarray(images, np.float16), labels)


def _planes(path: Path) -> npt.NDArray[np.generic]:
    """(Z, C, H, W): a picture is one plane, a volume its axial ones. Files are the build's own."""
    if path.suffix == ".png":
        with Image.open(path) as picture:
            array = np.asarray(picture)
        return np.moveaxis(array.reshape(*array.shape[:2], -1), -1, 0)[None]
    volume = np.asanyarray(nib.Nifti1Image.from_filename(path).dataobj)
    planes: npt.NDArray[np.generic] = np.moveaxis(volume, 2, 0)[:, None]
    return planes


def _normalised(planes: npt.NDArray[np.generic], case: Case) -> Floats:
    values: Floats = np.nan_to_num(planes.astype(np.float32))
    if case.unit == "hu":
        return (np.clip(values, -_HU, _HU) / _HU).astype(np.float32)
    if case.pixel_mm is None and planes.dtype.kind in "ui":
        return (values / float(np.iinfo(planes.dtype.name).max)).astype(np.float32)
    part = values[_foreground(values)]
    spread = float(part.std()) or 1.0
    scaled: Floats = np.clip((values - part.mean()) / spread, -_Z_LIMIT, _Z_LIMIT)
    return scaled.astype(np.float32)


def _foreground(values: Floats) -> npt.NDArray[np.bool_]:
    """Above the background value where there is one (skull-stripped), else above the mean."""
    lowest = values.min()
    if np.mean(values == lowest) < _BACKGROUND_SHARE:
        lowest = values.mean()
    part: npt.NDArray[np.bool_] = values > lowest
    return part if part.any() else np.ones_like(part)


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


def _shrunk(images: Floats, shape: tuple[int, int]) -> Floats:
    """Mean over the area of each target pixel."""
    rows, columns = images.shape[-2:]
    if (rows, columns) == shape:
        return images
    # Row by row first: the intermediate array is already smaller.
    shorter = area_weights(rows, shape[0]) @ images
    return np.asarray(shorter @ area_weights(columns, shape[1]).T, np.float32)


def shrunk_labels(
    labels: npt.NDArray[np.generic], shape: tuple[int, int]
) -> npt.NDArray[np.uint16]:
    """Labels (Z, H, W) on `shape`; each structure keeps its area in each plane.

    A threshold of one half would erase vessels thinner than a target pixel. Here a structure gets
    as many pixels as its area is worth: those that it covers most.
    """
    if labels.shape[1:] == shape:
        return labels.astype(np.uint16)
    best: Floats = np.zeros((len(labels), *shape), np.float32)
    result = np.zeros(best.shape, np.uint16)
    for value in np.unique(labels[labels != 0]).tolist():
        cover = _shrunk((labels == value).astype(np.float32), shape)
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


def _padded(array: npt.NDArray[Scalar], edge: int, *, fill: Scalar) -> npt.NDArray[Scalar]:
    """Centre the last two axes in edge x edge."""
    free = [edge - size for size in array.shape[-2:]]
    around = [(0, 0)] * (array.ndim - 2) + [(n // 2, n - n // 2) for n in free]
    return np.pad(array, around, constant_values=fill)
