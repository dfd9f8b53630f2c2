"""Grids, volumes and pictures: frozen values that refuse what cannot be true."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from fusion.imaging.errors import CaseError

Array = npt.NDArray[Any]
Affine = npt.NDArray[np.float64]
Shape = tuple[int, int, int]

GEOMETRIES = ("sform", "qform", "dicom", "itk", "mgh", "minc", "none")
_REAL_KINDS = "buif"
_SPATIAL_AXES = 3
_CHANNELS = (3,)
#: Volume of the unit cell below which three axes count as lying in one plane.
_FLAT = 1e-4


@dataclass(frozen=True, eq=False)
class Grid:
    """Where voxels lie.

    Args:
        shape: (I, J, K), each at least 1.
        affine: 4x4, voxel centre to world, mm, RAS+; finite and invertible.
    """

    shape: Shape
    affine: Affine

    def __post_init__(self) -> None:
        shape = tuple(int(n) for n in self.shape)
        if len(shape) != _SPATIAL_AXES or min(shape) < 1:
            raise CaseError("unreadable", f"grid shape is {shape}, expected three sizes >= 1")
        affine = np.array(self.affine, dtype=np.float64)
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise CaseError("no_geometry", f"affine is {affine.tolist()}, expected 4x4 and finite")
        lengths = np.linalg.norm(affine[:3, :3], axis=0)
        # The determinant of unit columns: 0 for a flat grid, whatever the spacing.
        volume = abs(np.linalg.det(affine[:3, :3])) / max(float(lengths.prod()), 1e-300)
        if lengths.min() <= 0 or volume < _FLAT or not np.array_equal(affine[3], (0, 0, 0, 1)):
            raise CaseError("no_geometry", f"affine {affine.tolist()} is singular")
        affine.setflags(write=False)
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "affine", affine)

    @cached_property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size per axis, mm."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0).tolist()
        return x, y, z

    @cached_property
    def axcodes(self) -> str:
        """Direction in which each axis grows, such as "RAS"."""
        from nibabel.orientations import aff2axcodes  # web processes hardly read an image

        return "".join(aff2axcodes(self.affine))

    @cached_property
    def voxel_mm3(self) -> float:
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    def corners(self) -> npt.NDArray[np.float64]:
        """World places of the eight corner voxel centres: (8, 3), mm."""
        return self.world(np.array(list(product(*[(0, n - 1) for n in self.shape])), float))

    def world(self, voxels: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """World places of voxel indices (N, 3), mm."""
        placed: npt.NDArray[np.float64] = voxels @ self.affine[:3, :3].T + self.affine[:3, 3]
        return placed

    def same_as(self, other: Grid, tolerance_voxels: float = 0.1) -> bool:
        """Same shape, and no corner is farther than `tolerance_voxels` from its partner."""
        if self.shape != other.shape:
            return False
        return corner_shift(self, other.affine) <= tolerance_voxels


def corner_shift(grid: Grid, affine: Affine) -> float:
    """How far a corner moves, in voxels of `grid`, when `affine` takes the place of its own."""
    moved = Grid(grid.shape, affine).corners() - grid.corners()
    in_voxels = moved @ np.linalg.inv(grid.affine[:3, :3]).T
    return float(np.linalg.norm(in_voxels, axis=1).max())


@dataclass(frozen=True, eq=False)
class Volume:
    """A 3D image or label map.

    Args:
        array: (I, J, K), real numbers, no NaN; memory order is free.
        grid: same shape as `array`.
        geometry: which header placed it, one of GEOMETRIES; none: no header did, and sizes and
            directions of the voxels are not known.
        unit: "hu" or "suv" where the header proves it, else "unknown".
        flags: what the reader changed or noticed, such as "nan_replaced".
    """

    array: Array
    grid: Grid
    geometry: str = "sform"
    unit: str = "unknown"
    flags: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        if self.array.shape != self.grid.shape:
            raise CaseError(
                "unreadable", f"array is {self.array.shape}, its grid is {self.grid.shape}"
            )
        if self.array.dtype.kind not in _REAL_KINDS:
            raise CaseError("dtype_refused", f"voxels are {self.array.dtype}, expected real")
        if self.geometry not in GEOMETRIES:
            raise ValueError(f"geometry is {self.geometry!r}, expected one of {GEOMETRIES}")

    def with_array(self, array: Array) -> Self:
        """Other voxels on the same grid."""
        return replace(self, array=array)


@dataclass(frozen=True, eq=False)
class Picture:
    """A 2D image.

    Args:
        array: (H, W) grey, or (H, W, 3) RGB; alpha is never part of it.
        bits: depth in the file: 1 (stored here as 0 and 255), 8 to 16, or 32 for floats.
        flags: what the reader noticed, such as "burned_in_annotation".
    """

    array: Array
    bits: int = 8
    flags: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        shape = self.array.shape
        good = len(shape) == 2 or (len(shape) == 3 and shape[2] in _CHANNELS)  # noqa: PLR2004
        if not good or min(shape) < 1:
            raise CaseError("unreadable", f"picture is {shape}, expected (H, W) or (H, W, 3)")
        if self.array.dtype.kind not in _REAL_KINDS:
            raise CaseError("dtype_refused", f"pixels are {self.array.dtype}, expected real")

    @property
    def channels(self) -> int:
        return 1 if self.array.ndim == 2 else int(self.array.shape[2])  # noqa: PLR2004

    def grey_if_equal(self) -> Picture:
        """One channel where the three are equal: how many tools store grey images as RGB."""
        array = self.array
        if self.channels == 1:
            return self
        first = array[..., :1]
        return replace(self, array=array[..., 0]) if (array == first).all() else self


def every(array: Array, step: int) -> Array:
    """`array.ravel(order="K")[::step]`, without a copy of an array whose axes run backwards."""
    if step == 1 or array.size == 0 or array.ndim == 1:
        return array.ravel(order="K")[::step]
    planes = array.transpose(np.argsort([-abs(stride) for stride in array.strides], kind="stable"))
    size = planes[0].size
    parts = [plane.reshape(-1)[-place * size % step :: step] for place, plane in enumerate(planes)]
    return np.concatenate(parts)
