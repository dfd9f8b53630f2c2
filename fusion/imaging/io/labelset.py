"""Structures that one file outlines: label maps with the names and codes of their values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from fusion.imaging.errors import CaseError
from fusion.imaging.volume import Array, Grid, Volume

#: How far a corner may lie from its voxel when one grid is said to be part of another.
PLACE_VOXELS = 0.1
#: Voxels farther off than this are outside of any grid.
_FAR = 2.0**31


class Code(NamedTuple):
    """A coded concept, such as SCT 10200004 "Liver"."""

    scheme: str
    value: str
    meaning: str


@dataclass(frozen=True, eq=False)
class LabelSet:
    """Structures of one file, each under its number there.

    Args:
        layers: label maps on one grid; voxel value = number of the structure. Structures that
            overlap lie in different layers; without overlap there is one.
        names: number -> name as the file has it; every structure is named, an empty one too.
        codes: number -> its codes: the structure first, then modifiers (side) and regions.
        notes: number -> what of it is no area and is in no layer, such as marker points.
    """

    layers: tuple[Volume, ...]
    names: Mapping[int, str]
    codes: Mapping[int, tuple[Code, ...]] = field(default_factory=dict)
    notes: Mapping[int, str] = field(default_factory=dict)

    @property
    def grid(self) -> Grid:
        return self.layers[0].grid

    @property
    def label_map(self) -> Volume:
        """All structures in one volume.

        Raises:
            CaseError: label_collision; some overlap, and which of them counts is not ours to say.
        """
        if len(self.layers) > 1:
            first, other = (int(n) for n in self._overlap())
            raise CaseError(
                "label_collision",
                f"structures {first} ({self.names[first]!r}) and {other} ({self.names[other]!r})"
                " overlap",
            )
        return self.layers[0]

    def mask(self, number: int) -> Array:
        """Where structure `number` is: bool (I, J, K)."""
        if number not in self.names:
            raise KeyError(number)
        out: Array = self.layers[0].array == number
        for layer in self.layers[1:]:
            out |= layer.array == number
        return out

    def _overlap(self) -> tuple[int, int]:
        a, b = self.layers[0].array, self.layers[1].array
        at = np.unravel_index(int(np.argmax((a > 0) & (b > 0))), a.shape)
        return a[at], b[at]


def layered(grid: Grid, masks: Iterable[tuple[int, Array]], highest: int) -> tuple[Volume, ...]:
    """Label maps of masks (bool, on `grid`): as few as their overlaps allow, at least one."""
    kind = np.uint8 if highest < 256 else np.uint16 if highest < 65_536 else np.int64  # noqa: PLR2004
    layers = [np.zeros(grid.shape, kind, order="F")]
    for number, mask in masks:
        free = next((layer for layer in layers if not layer[mask].any()), None)
        if free is None:
            free = np.zeros(grid.shape, kind, order="F")
            layers.append(free)
        free[mask] = number
    return tuple(Volume(layer, grid, "dicom") for layer in layers)


def moved_onto(mask: Array, own: Grid, grid: Grid, name: str) -> Array | None:
    """`mask` of grid `own` as voxels of `grid`; None where the two do not share their voxels.

    Raises:
        CaseError: grid_conflict; a part of the mask lies outside `grid`.
    """
    step = np.linalg.inv(grid.affine) @ own.affine
    whole = np.rint(step)
    turns = np.abs(whole[:3, :3])
    if not ((turns.sum(axis=0) == 1).all() and (turns.sum(axis=1) == 1).all()):
        return None
    last = np.array(own.shape) - 1.0
    corners = np.stack(np.meshgrid(*[(0.0, n) for n in last], indexing="ij"), -1).reshape(-1, 3)
    off = corners @ (step - whole)[:3, :3].T + (step - whole)[:3, 3]
    if np.abs(off).max() > PLACE_VOXELS:
        return None
    out = np.zeros(grid.shape, bool, order="F")
    if np.abs(whole[:3, 3]).max() > _FAR:
        return _whole(out, mask, name)
    axes = turns.argmax(axis=1)
    flips = [whole[axis, own_axis] < 0 for axis, own_axis in enumerate(axes)]
    turned = mask.transpose(axes)[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]
    first = [int(whole[n, 3]) - (turned.shape[n] - 1) * flips[n] for n in range(3)]
    ends = [
        (max(at, 0), min(at + n, size))
        for at, n, size in zip(first, turned.shape, grid.shape, strict=True)
    ]
    here = tuple(slice(low, max(low, high)) for low, high in ends)
    there = tuple(slice(s.start - at, s.stop - at) for s, at in zip(here, first, strict=True))
    out[here] = turned[there]
    return _whole(out, mask, name)


def _whole(moved: Array, mask: Array, name: str) -> Array:
    """`moved`, when nothing of `mask` was left behind."""
    if np.count_nonzero(moved) != np.count_nonzero(mask):
        raise CaseError("grid_conflict", f"{name}: a structure reaches out of the image's grid")
    return moved
