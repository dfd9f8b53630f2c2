"""Where a volume lies: which header form to believe, RAS order, image against label."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fusion.imaging.errors import CaseError
from fusion.imaging.transforms import Transform, record
from fusion.imaging.volume import Affine, Grid, Shape, Volume, corner_shift

#: Largest distance of two header affines, as a share of the scan's diagonal.
CONFLICT = 1e-3
#: Shear is forgiven while no corner moves by more than this, in voxels.
SHEAR_VOXELS = 0.1
_SHEAR_NOISE = 1e-6


def choose_affine(
    name: str,
    shape: Shape,
    forms: dict[str, Affine | None],
    form: str | None = None,
) -> tuple[Affine, str]:
    """The affine to believe and the form it comes from.

    Args:
        name: the file, for messages.
        shape: (I, J, K).
        forms: "sform" and "qform", each an affine, or None when its code is 0.
        form: a source's rule, which settles a conflict.

    Raises:
        CaseError: geometry_conflict when both are set and disagree, no_geometry when none is.
    """
    usable = {
        key: affine
        for key, affine in forms.items()
        if affine is not None and _is_usable(shape, affine)
    }
    if form is not None:
        if form not in usable:
            raise CaseError("no_geometry", f"{name}: no usable {form}, found {sorted(usable)}")
        return usable[form], form
    if not usable:
        stated = sorted(key for key, affine in forms.items() if affine is not None)
        found = f"{' and '.join(stated)} cannot be inverted" if stated else "both codes are 0"
        raise CaseError("no_geometry", f"{name}: {found}; expected a qform or sform")
    if len(usable) == 2:  # noqa: PLR2004
        distance = relative_distance(Grid(shape, usable["sform"]), usable["qform"])
        if distance > CONFLICT:
            raise CaseError(
                "geometry_conflict",
                f"{name}: sform and qform differ by {distance:.2%} of the scan's diagonal"
                f" (limit {CONFLICT:.1%}); a source rule may name the right one",
            )
    key = "sform" if "sform" in usable else "qform"
    return usable[key], key


def _is_usable(shape: Shape, affine: Affine) -> bool:
    try:
        Grid(shape, affine)
    except CaseError:
        return False
    return True


def relative_distance(grid: Grid, affine: Affine) -> float:
    """Largest corner movement over the scan's diagonal (at least one voxel's)."""
    moved = Grid(grid.shape, affine).corners() - grid.corners()
    extent = np.array(grid.shape) * grid.spacing_mm
    return float(np.linalg.norm(moved, axis=1).max() / np.linalg.norm(extent))


def orthonormal(grid: Grid) -> Affine:
    """The closest affine with right angles: same spacing, same centre (polar decomposition)."""
    linear = grid.affine[:3, :3]
    spacing = np.array(grid.spacing_mm)
    left, _, right = np.linalg.svd(linear / spacing)
    affine = np.eye(4)
    affine[:3, :3] = (left @ right) * spacing
    centre = (np.array(grid.shape) - 1) / 2
    affine[:3, 3] = grid.affine[:3, 3] + (linear - affine[:3, :3]) @ centre
    return affine


def is_sheared(grid: Grid) -> bool:
    """The axes are so far from right angles that a corner would move by over 0.1 voxel."""
    return corner_shift(grid, orthonormal(grid)) > SHEAR_VOXELS


def without_shear(volume: Volume) -> Volume:
    """Forgive a slight shear; a larger one is kept as it is and flagged, to be resampled."""
    squared = orthonormal(volume.grid)
    shift = corner_shift(volume.grid, squared)
    if shift <= _SHEAR_NOISE:
        return volume
    if shift > SHEAR_VOXELS:
        return replace(volume, flags=(*volume.flags, "sheared"))
    grid = Grid(volume.grid.shape, squared)
    return replace(volume, grid=grid, flags=(*volume.flags, "shear_removed"))


def ras_order(grid: Grid) -> tuple[tuple[int, int, int], tuple[bool, bool, bool], Grid]:
    """Axis order and flips (after reordering) that make `grid` RAS, and the grid they give."""
    from nibabel.orientations import inv_ornt_aff, io_orientation  # not for web processes

    ornt = io_orientation(grid.affine)
    source_of = np.argsort(ornt[:, 0]).astype(int)
    axes = (int(source_of[0]), int(source_of[1]), int(source_of[2]))
    flips = tuple(bool(ornt[axis, 1] < 0) for axis in axes)
    shape = tuple(grid.shape[axis] for axis in axes)
    affine = grid.affine @ inv_ornt_aff(ornt, grid.shape)
    return axes, (flips[0], flips[1], flips[2]), Grid((shape[0], shape[1], shape[2]), affine)


def to_ras(volume: Volume) -> tuple[Volume, Transform]:
    """The same voxels in RAS order: flips and axis swaps only, as a view of the same memory."""
    axes, flips, grid = ras_order(volume.grid)
    array = volume.array.transpose(axes)
    array = array[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]
    moved = replace(volume, array=array, grid=grid)
    params = {"axes": list(axes), "flips": list(flips)}
    return moved, record("reorient", params, volume, moved, invertible=True)


def same_voxels(image: Volume, label: Volume) -> bool:
    """Whether the label's voxels are the image's, in whatever order the axes run.

    False: another shape at another place, to be resampled through the affines.

    Raises:
        CaseError: grid_conflict. Equal shapes at different places, or different shapes with one
            affine: one of the headers is wrong and nobody can say which.
    """
    ours, theirs = ras_order(image.grid)[2], ras_order(label.grid)[2]
    if ours.same_as(theirs):
        return True
    if ours.shape == theirs.shape:
        shift = corner_shift(ours, theirs.affine)
        raise CaseError(
            "grid_conflict",
            f"image and label are both {ours.shape}, but a corner lies {shift:.2f} voxels apart"
            f" (limit {SHEAR_VOXELS})",
        )
    if np.allclose(ours.affine, theirs.affine, atol=1e-3):
        raise CaseError(
            "grid_conflict",
            f"image is {ours.shape} at {_mm(ours)}, label is {theirs.shape} at {_mm(theirs)}, with"
            " one affine for both shapes",
        )
    return False


def _mm(grid: Grid) -> str:
    return "x".join(f"{size:.3g}" for size in grid.spacing_mm) + " mm"
