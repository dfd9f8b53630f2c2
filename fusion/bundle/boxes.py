"""The boxes of a case as a file beside its pixels: a small table, equal boxes in equal bytes."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fusion.bundle.errors import BundleError

BOXES_ROLE = "label_boxes"
BOXES_LIST = "boxes.jsonl"  # every box of a bundle, one a line
#: Columns of the corners: of a picture along columns and rows, of a volume along the array's axes.
PICTURE_COLUMNS = ("x0", "y0", "x1", "y1")
VOLUME_COLUMNS = ("i0", "j0", "k0", "i1", "j1", "k1")
_WORDS = {"0": False, "1": True}


@dataclass(frozen=True)
class Box:
    """One thing in a case: the corners where it begins, then where it ends.

    Corners are in continuous voxel coordinates of the stored image: voxel n covers n to n + 1.
    `derived`: made from a mask or an outline, not drawn as a box.
    """

    concept: str
    corners: tuple[float, ...]
    derived: bool = False


def is_boxes(role: str) -> bool:
    """The case's boxes, or those of another source for the same image."""
    return role == BOXES_ROLE or role.startswith(f"{BOXES_ROLE}_")


def voxels_in(boxes: Iterable[Box], concepts: Iterable[str]) -> dict[str, int]:
    """Voxels in the boxes of each concept, added up; at least 1 for a box."""
    held = dict.fromkeys(concepts, 0.0)
    for box in boxes:
        half = len(box.corners) // 2
        sides = (b - a for a, b in zip(box.corners[:half], box.corners[half:], strict=True))
        held[box.concept] = held.get(box.concept, 0.0) + max(math.prod(sides), 1.0)
    return {concept: round(size) for concept, size in held.items()}


def encode_boxes(boxes: Iterable[Box], *, is_volume: bool) -> bytes:
    """The table, in the order given; a case where nothing was found has the head line alone."""
    columns = VOLUME_COLUMNS if is_volume else PICTURE_COLUMNS
    out = io.StringIO(newline="")
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(["concept", *columns, "derived"])
    rows.writerows([one.concept, *map(repr, one.corners), int(one.derived)] for one in boxes)
    return out.getvalue().encode()


def decode_boxes(name: str, data: bytes) -> list[Box]:
    """What `encode_boxes` wrote.

    Raises:
        BundleError: unreadable.
    """
    try:
        return _rows(data.decode("utf-8"))
    except (ValueError, KeyError, csv.Error) as error:
        raise BundleError("unreadable", f"{name}: no table of boxes: {error}") from error


def _rows(text: str) -> list[Box]:
    head, *rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    columns = tuple(head[1:-1])
    if columns not in {PICTURE_COLUMNS, VOLUME_COLUMNS}:
        raise ValueError(f"columns {columns}")
    return [_box(row, len(columns)) for row in rows]


def _box(row: Sequence[str], corners: int) -> Box:
    if len(row) != corners + 2:
        raise ValueError(f"a row of {len(row)} cells, expected {corners + 2}")
    places = tuple(map(float, row[1:-1]))
    if not all(map(math.isfinite, places)):
        raise ValueError(f"corners {places}")
    return Box(row[0], places, _WORDS[row[-1]])
