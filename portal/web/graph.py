"""The relations of one dataset as a picture: its origins left, its descendants right. Pure.

The list below the picture says the same, and all of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WIDTH, CENTRE, BOX, STEP, SHOWN = 600, 300, 190, 46, 8
LONGEST = 25  # characters that fit into a box
# kind -> what the other is to this one, seen from here and from there
SHORT = {
    "part_of": ("holds this", "belongs to this"),
    "version_of": ("this is a version of it", "a version of this"),
    "subset": ("contains this", "a part of this"),
    "superset": ("a part of this", "contains this"),
    "derived": ("this is made from it", "made from this"),
    "relabelled": ("first labels", "other labels"),
    "shared_patients": ("the same people", "the same people"),
}


@dataclass(frozen=True)
class Box:
    """A related dataset: its place, the line to it, and what it is to this one."""

    slug: str
    name: str
    words: str
    x: int
    y: int
    line: str

    @property
    def label(self) -> str:
        return self.name if len(self.name) <= LONGEST else f"{self.name[: LONGEST - 1]}…"


@dataclass(frozen=True)
class Graph:
    """The boxes, how tall the picture is, and how many are left out."""

    boxes: tuple[Box, ...]
    height: int
    more: int

    @property
    def middle(self) -> int:
        return self.height // 2

    @property
    def left(self) -> int:
        """Where the picture begins: at the circle if nothing stands left of it."""
        return 0 if any(box.x == 0 for box in self.boxes) else CENTRE - 24

    @property
    def width(self) -> int:
        right = WIDTH if any(box.x for box in self.boxes) else CENTRE + 24
        return right - self.left


def graph_of(relations: Sequence[Mapping[str, Any]]) -> Graph | None:
    """None without relations, which have a name beside their slug; at most eight boxes a side."""
    up = [row for row in relations if not row.get("inverse")]
    down = [row for row in relations if row.get("inverse")]
    most = max(len(up), len(down))
    if not most:
        return None
    height = max(min(most, SHOWN), 2) * STEP
    boxes = [
        _box(row, place, min(len(side), SHOWN), height, right=side is down)
        for side in (up, down)
        for place, row in enumerate(side[:SHOWN])
    ]
    return Graph(tuple(boxes), height, len(relations) - len(boxes))


def _box(row: Mapping[str, Any], place: int, of: int, height: int, *, right: bool) -> Box:
    y = round(height * (place + 0.5) / of)
    x = WIDTH - BOX if right else 0
    start, end = (x, CENTRE + 20) if right else (x + BOX, CENTRE - 20)
    words = SHORT[row["kind"]][right]
    return Box(row["to"], row["name"], words, x, y, f"M{start} {y} L{end} {height // 2}")
