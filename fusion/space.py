"""Things that a table states in mm of the world, on the voxels of their volume."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fusion.cases import FoundCase
from fusion.imaging.boxes import DECIMALS, Corners
from fusion.imaging.errors import CaseError
from fusion.imaging.volume import Grid, Picture, Volume
from fusion.source import OTHER, SpaceRows
from fusion.tables import need_columns, rows_of

#: Share of a voxel axis across its own direction from which a grid is turned against the world.
_TURNED = 1e-4


@dataclass(frozen=True)
class Thing:
    """A thing of class `name`; `corners` as those of fusion.imaging.boxes.

    A ball's box holds it exactly. A box on a grid that is turned against the world is the one
    around its corners, and larger. Of both `is_exact` is false.
    """

    name: str
    corners: Corners
    is_exact: bool


def things_in_space(
    rows: SpaceRows, root: Path, file: str, case: FoundCase, image: Volume | Picture
) -> list[Thing] | None:
    """What the rows of a table state of a case; None where it has no row.

    Raises:
        CaseError: grid_conflict for an image without a place in the world; unreadable, when a cell
            is not what its column should hold.
    """
    if not isinstance(image, Volume) or image.geometry == "none":
        raise CaseError("grid_conflict", f"{file}: things in space, the image has no place there")
    table = rows.model_copy(update={"table": [file]})
    need_columns(root, table, [*rows.columns(), *filter(None, (rows.name,))])
    told = rows_of(root, table, case)
    if not told:
        return None
    named = [(row[rows.name] if rows.name else OTHER, row) for row in told]
    return [
        Thing(name, *_on_grid(rows, _numbers(rows, row, f"{file}: {case.name}"), image.grid))
        for name, row in named
        if name not in rows.nothing
    ]


def _numbers(rows: SpaceRows, row: Mapping[str, str], where: str) -> list[float]:
    cells = [row[column] for column in rows.columns()]
    try:
        numbers = [float(cell) for cell in cells]
    except ValueError as error:
        raise CaseError("unreadable", f"{where}: {error}") from error
    if not np.isfinite(numbers).all() or (rows.centre and min(numbers[3:]) < 0):
        raise CaseError("unreadable", f"{where}: {rows.columns()} are {cells}, expected mm")
    return numbers


def _on_grid(rows: SpaceRows, numbers: Sequence[float], grid: Grid) -> tuple[Corners, bool]:
    """Where a thing begins and ends in continuous voxels, and whether that is the very box."""
    to_voxel = np.linalg.inv(grid.affine)
    turn = np.array([-1.0, -1.0, 1.0]) if rows.space == "LPS" else np.ones(3)
    linear = to_voxel[:3, :3]
    if rows.box:
        ends = np.array(numbers).reshape(2, 3) * turn
        middle, half = ends.mean(axis=0), np.abs(ends[1] - ends[0]) / 2
    else:
        middle, half = np.array(numbers[:3]) * turn, np.array(numbers[3:]) / 2
    ball = half * np.sqrt((linear**2).sum(axis=1))
    reach = ball if rows.diameter else np.abs(linear) @ half
    centre = linear @ middle + to_voxel[:3, 3] + 0.5
    places = np.round([*(centre - reach), *(centre + reach)], DECIMALS).tolist()
    is_along = int((np.abs(linear) > _TURNED * np.abs(linear).max()).sum()) == len(linear)
    return tuple(places), is_along and not rows.diameter
