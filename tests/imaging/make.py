"""Small volumes made in code: odd shapes, uneven spacing, flipped and turned axes."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from fusion.imaging.volume import Grid, Volume


def turned(degrees: float, axis: int = 2) -> np.ndarray:
    """A 4x4 rotation about one world axis."""
    a, b = [n for n in range(3) if n != axis]
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    out = np.eye(4)
    out[a, a], out[a, b], out[b, a], out[b, b] = cos, -sin, sin, cos
    return out


def placed(shape, spacing, codes="RAS", origin=(12.5, -30.25, 7.0), rotation=None) -> Grid:
    """A grid whose axes grow towards `codes`, perhaps rotated."""
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    for column, letter in enumerate(codes):
        row = next(n for n, pair in enumerate(("LR", "PA", "IS")) if letter in pair)
        affine[row, column] = spacing[column] * (1 if letter in "RAS" else -1)
    affine[:3, 3] = origin
    return Grid(shape, affine if rotation is None else rotation @ affine)


def world(grid: Grid) -> np.ndarray:
    """World place of every voxel: (I, J, K, 3), mm."""
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1)
    return index @ grid.affine[:3, :3].T + grid.affine[:3, 3]


def ramp(grid: Grid) -> np.ndarray:
    """A value that tells x, y and z apart, so that a swap, a flip or half a voxel shows."""
    return world(grid) @ np.array([1.0, 10.0, 100.0])


def noise(grid: Grid, seed: int = 1) -> Volume:
    values = np.random.default_rng(seed).normal(size=grid.shape).astype(np.float32)
    return Volume(np.asfortranarray(values), grid)


def ball(grid: Grid, centre, radius_mm: float) -> np.ndarray:
    return (np.linalg.norm(world(grid) - centre, axis=-1) <= radius_mm).astype(np.uint8)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * np.count_nonzero((a > 0) & (b > 0)) / (np.count_nonzero(a) + np.count_nonzero(b))


def oracle(volume: Volume, grid: Grid, kind=sitk.sitkLinear, fill: float = 0.0) -> np.ndarray:
    """SimpleITK's answer to the same question."""
    reference = sitk.Image([int(n) for n in grid.shape], sitk.sitkUInt8)
    _place(reference, grid)
    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.array.T))
    _place(image, volume.grid)
    moved = sitk.Resample(image, reference, sitk.Transform(), kind, fill, image.GetPixelID())
    return sitk.GetArrayFromImage(moved).T


def _place(image: sitk.Image, grid: Grid) -> None:
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ grid.affine
    image.SetSpacing(grid.spacing_mm)
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection((lps[:3, :3] / grid.spacing_mm).ravel().tolist())
