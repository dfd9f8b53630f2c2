"""Whether letters seem to stand in a picture: small crisp marks of one height, side by side.

It reads nothing. Ticks and cells that lie in a line look alike to it; single marks, handwriting and
letters without contrast escape it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from fusion.imaging.resize import resize_array
from fusion.imaging.volume import Array

LONGEST = 2048  # pixels of a side; larger pictures are shrunk first
STROKE = 9  # pixels: what is wider on every side is no stroke of a letter
CONTRASTS = (60, 40)  # of 255, between a letter and what is around it; each finds some alone
HEIGHTS = (6, 48)  # pixels
FEWEST = 4  # letters of a row
Grey = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class _Marks:
    """Marks that may be letters, one value each: edges in pixels."""

    top: npt.NDArray[np.int64]
    bottom: npt.NDArray[np.int64]
    left: npt.NDArray[np.int64]
    right: npt.NDArray[np.int64]

    @property
    def height(self) -> npt.NDArray[np.int64]:
        return self.bottom - self.top


def rows_of_letters(array: Array) -> int:
    """How many rows of at least four marks like letters, bright on dark or dark on bright.

    Args:
        array: (H, W) or (H, W, 3), any type.
    """
    grey = _as_grey(array)
    stood_out = [_above_ground(one) for one in (grey, 255 - grey)]
    return max(_rows(_marks(one > least)) for one in stood_out for least in CONTRASTS)


def _above_ground(grey: Grey) -> Grey:
    """By how much strokes are brighter than what is around them."""
    ground = ndimage.grey_opening(grey, size=(STROKE, STROKE))
    return np.asarray(grey - ground)


def _as_grey(array: Array) -> Grey:
    """The brightest channel, 0 to 255 over the range of the values."""
    flat: Array = array if array.ndim == 2 else array.max(axis=2)  # noqa: PLR2004
    if (longest := max(flat.shape)) > LONGEST:
        rows, columns = (max(1, round(n * LONGEST / longest)) for n in flat.shape)
        flat = resize_array(flat, (rows, columns), "area")
    if flat.dtype == np.uint8:
        return flat
    low, high = float(flat.min()), float(flat.max())
    share = (flat.astype(np.float32) - low) / max(high - low, 1e-9)
    grey: Grey = np.rint(share * 255).astype(np.uint8)
    return grey


def _marks(stroke: npt.NDArray[np.bool_]) -> _Marks:
    """Connected strokes of the size and fullness of letters."""
    numbers, _ = ndimage.label(stroke, structure=np.ones((3, 3)))
    places = ndimage.find_objects(numbers)
    ends = np.array([[r.start, r.stop, c.start, c.stop] for r, c in places], int).reshape(-1, 4)
    top, bottom, left, right = ends.T
    height, width = bottom - top, right - left
    full = np.bincount(numbers.ravel(), minlength=len(places) + 1)[1:] / (height * width)
    is_thin = 5 * width <= 2 * height  # I, l and 1 may fill what they stand in
    is_full = (full > 0.15) & (full < 0.95)  # noqa: PLR2004
    fits = (height >= HEIGHTS[0]) & (height <= HEIGHTS[1]) & (width <= 1.5 * height)
    fits &= is_full | is_thin
    return _Marks(top[fits], bottom[fits], left[fits], right[fits])


def _rows(marks: _Marks) -> int:
    """Rows in which FEWEST marks or more follow each other on one line."""
    count = len(marks.top)
    pairs = np.array(list(_neighbours(marks)), int).reshape(-1, 2)
    links = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    if not count:
        return 0
    _, row_of = connected_components(links, directed=False)
    return sum(_is_row(marks, np.flatnonzero(row_of == n)) for n in np.unique(row_of))


def _neighbours(marks: _Marks) -> Iterator[tuple[int, int]]:
    """Each mark with the next ones to its right that are as tall and as high."""
    order = np.argsort(marks.left, kind="stable")
    left, height = marks.left[order], marks.height
    for place, mark in enumerate(order.tolist()):
        tall = int(height[mark])
        last = int(np.searchsorted(left, marks.right[mark] + 0.8 * tall, side="right"))
        for other in order[place + 1 : last].tolist():
            shared = min(marks.bottom[mark], marks.bottom[other]) - max(
                marks.top[mark], marks.top[other]
            )
            least, most = sorted((tall, int(height[other])))
            if (
                shared >= 0.7 * least
                and most <= 1.6 * least
                and (marks.left[other] >= marks.right[mark] - 0.2 * least)
            ):
                yield mark, other


def _is_row(marks: _Marks, row: npt.NDArray[np.int64]) -> bool:
    """On one line: most letters stand on it, and most are as tall as each other or as capitals."""
    if len(row) < FEWEST:
        return False
    bottom, height = marks.bottom[row], marks.height[row]
    tall = float(np.median(height))
    on_line = np.abs(bottom - np.median(bottom)) <= max(1.0, 0.12 * tall)
    return bool(on_line.mean() >= 0.7)  # noqa: PLR2004
