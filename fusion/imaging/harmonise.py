"""Bring volumes to one grid. Nothing moves in the world: only the places of the samples change.

One rule for grids: RAS order on the scan's own axes, origin at the first voxel centre, shape
max(1, round(n * spacing / new spacing)).
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
from scipy import ndimage

from fusion.imaging import sample_numpy
from fusion.imaging.geometry import is_sheared, orthonormal, ras_order
from fusion.imaging.labels import as_integers
from fusion.imaging.resize import resize_picture
from fusion.imaging.sampling import align, as_view, steps, to_source
from fusion.imaging.structures import damaged
from fusion.imaging.volume import Array, Grid, Volume

__all__ = ["resample", "resample_labels", "resize_picture", "smooth_for", "target_grid"]

INTERPOLATIONS = ("linear", "nearest", "one_hot")
BACKENDS = ("auto", "numba", "numpy", "torch")
#: Sigma of the smoothing before an axis is thinned, in source voxels per factor.
SIGMA = 0.35
#: Beyond this ratio of spacings the slices are apart: nothing is smoothed across them.
THICK_SLICES = 3.0
Sigmas = tuple[float, float, float]


def target_grid(grid: Grid, spacing_mm: Sequence[float]) -> Grid:
    """The grid of `spacing_mm` (per RAS axis) over the same region, on the scan's own axes."""
    if len(spacing_mm) != 3 or not all(math.isfinite(s) and s > 0 for s in spacing_mm):  # noqa: PLR2004
        raise ValueError(f"spacing_mm is {spacing_mm}, expected three sizes above 0")
    ras = ras_order(grid)[2]
    source = Grid(ras.shape, orthonormal(ras)) if is_sheared(ras) else ras
    # Rounded first: float32 headers would tip halves either way.
    shape = [
        max(1, math.floor(round(n * s / t, 6) + 0.5))
        for n, s, t in zip(source.shape, source.spacing_mm, spacing_mm, strict=True)
    ]
    affine = source.affine.copy()
    affine[:3, :3] *= np.asarray(spacing_mm, float) / source.spacing_mm
    return Grid((shape[0], shape[1], shape[2]), affine)


def resample(
    volume: Volume,
    grid: Grid,
    *,
    interpolation: str = "linear",
    smooth: bool = False,
    backend: str = "auto",
    device: str = "cpu",
    fill: float = 0.0,
    dtype: type = np.float32,
) -> Volume:
    """Sample `volume` at the voxel centres of `grid`.

    Where each voxel of `grid` is one of `volume`, the result may share its memory.

    Args:
        volume: array (I, J, K) of any real dtype.
        grid: target shape and affine.
        interpolation: "linear" gives float32; "nearest" keeps values and type; "one_hot"
            interpolates the mask of each label and takes the largest, so no label is invented.
        smooth: blur as `smooth_for` does before a linear interpolation, in the same pass.
        backend: "auto" takes numba on a CPU (numpy where numba is missing), torch elsewhere.
        device: a torch device, such as "cuda:0".
        fill: value of voxels outside the source; labels get 0.
        dtype: of a linear interpolation; whole numbers are rounded and must hold every value.
    """
    if interpolation not in INTERPOLATIONS:
        raise ValueError(f"interpolation is {interpolation!r}, expected one of {INTERPOLATIONS}")
    if smooth and interpolation != "linear":
        raise ValueError(f"smooth goes with interpolation 'linear', not {interpolation!r}")
    device = str(device)
    backend = _backend(backend, device)
    array = volume.array
    labels = as_integers(array) if interpolation == "one_hot" else array
    sigmas = _sigmas(volume.grid, grid) if smooth else (0.0, 0.0, 0.0)
    sampled = _sample(
        labels, volume.grid, grid, interpolation, backend, device, fill, sigmas, dtype
    )
    if interpolation == "one_hot":
        sampled = sampled.astype(array.dtype, copy=False)
    elif interpolation == "linear" and sampled.dtype != dtype:
        whole = np.dtype(dtype).kind in "iu"
        sampled = (np.rint(sampled) if whole else sampled).astype(dtype)
    return replace(volume, array=sampled, grid=grid)


def _sample(
    array: Array,
    source: Grid,
    target: Grid,
    kind: str,
    backend: str,
    device: str,
    fill: float,
    sigmas: Sigmas,
    dtype: type,
) -> Array:
    aligned = align(source, target)
    view = None if aligned is None or any(sigmas) else as_view(array, aligned)
    if view is not None:
        return view.astype(dtype, copy=False) if kind == "linear" else view
    if any(sigmas) and (backend != "numba" or aligned is None):
        array = _smoothed(array, sigmas)
    module, more = _sampler(backend, device)
    sampled: Array
    if aligned is None:
        matrix = to_source(source, target)
        sampled = module.sample_rotated(array, matrix, target.shape, kind, fill, *more)
    else:
        more = (sigmas, dtype) if backend == "numba" else more
        sampled = module.sample_aligned(array, aligned, kind, fill, *more)
    return sampled


def _backend(name: str, device: str) -> str:
    """What "auto" stands for on this device."""
    if name not in BACKENDS:
        raise ValueError(f"backend is {name!r}, expected one of {BACKENDS}")
    if name == "auto" and device == "cpu":
        return "numpy" if importlib.util.find_spec("numba") is None else "numba"
    if name in ("numba", "numpy") and device != "cpu":
        raise ValueError(f"backend {name!r} runs on the CPU, device is {device!r}")
    return "torch" if name == "auto" else name


def _sampler(backend: str, device: str) -> tuple[ModuleType, tuple[Any, ...]]:
    """The module of a backend, and what its functions take after their common arguments."""
    if backend == "torch":
        from fusion.imaging import sample_torch

        return sample_torch, (device,)
    if backend == "numpy":
        return sample_numpy, ()
    from fusion.imaging import kernels

    return kernels, ()


def resample_labels(
    volume: Volume, grid: Grid, *, backend: str = "auto", device: str = "cpu"
) -> tuple[Volume, list[str]]:
    """A label map on `grid`, and what happened: [], ["label_nearest"] or ["structure_lost"].

    Linear votes first. Where a structure's volume or its number of parts changes too much, the
    whole map is taken by nearest neighbour; where that does not help either, `structure_lost`:
    the caller keeps the native mask.
    """
    source = volume.with_array(as_integers(volume.array))
    flags: list[str] = []
    voted = resample(source, grid, interpolation="one_hot", backend=backend, device=device)
    if lost := damaged(source, voted):
        nearest = resample(source, grid, interpolation="nearest", backend=backend, device=device)
        still = damaged(source, nearest)
        flags = ["structure_lost"] if still else ["label_nearest"]
        voted = voted if len(still) > len(lost) else nearest
    return voted, flags


def smooth_for(volume: Volume, grid: Grid) -> Volume:
    """Blur the axes that `grid` thins, so that fine detail does not turn into false coarse detail.

    Gaussian, sigma = 0.35 * factor voxels where the factor is above 1. Thick slices (more than
    three times the finest spacing) are left alone across. Intensities only.
    """
    return volume.with_array(_smoothed(volume.array, _sigmas(volume.grid, grid)))


def _sigmas(source: Grid, target: Grid) -> Sigmas:
    """Sigma per source axis, in voxels; 0 where nothing is smoothed."""
    factors = steps(to_source(source, target))
    spacing = np.array(source.spacing_mm)
    thin = (factors > 1 + 1e-3) & (np.array(source.shape) > 1)
    if spacing.max() > THICK_SLICES * spacing.min():
        thin &= spacing <= THICK_SLICES * spacing.min()
    a, b, c = np.where(thin, SIGMA * factors, 0.0).tolist()
    return a, b, c


def _smoothed(array: Array, sigmas: Sigmas) -> Array:
    for axis in np.flatnonzero(sigmas):
        array = ndimage.gaussian_filter1d(
            array, sigmas[axis], axis=int(axis), output=np.float32, mode="nearest"
        )
    return array
