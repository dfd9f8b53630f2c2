"""From outlines to masks: polygons, boxes and run lengths on a grid of pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fusion.imaging.errors import CaseError

Mask = npt.NDArray[np.bool_]
Ring = npt.NDArray[np.float64]


def fill(rings: Sequence[Ring], shape: tuple[int, int]) -> Mask:
    """Pixels whose centre lies inside: what an odd number of the rings encloses.

    An outline so small that it holds no pixel's centre gets the pixel that it lies in.

    Args:
        rings: corners (N, 2) as x, y in pixels; (0, 0) is the outer corner of the first pixel.
        shape: rows and columns.
    """
    out: Mask = np.zeros(shape, bool)
    points = np.concatenate([np.asarray(ring, float).reshape(-1, 2) for ring in rings])
    if not len(points) or not np.isfinite(points).all():
        raise CaseError(
            "unreadable", "an outline without corners, or with ones that are no numbers"
        )
    low = np.clip(np.floor(points.min(axis=0)).astype(int), 0, (shape[1], shape[0]))
    high = np.clip(np.ceil(points.max(axis=0)).astype(int), 0, (shape[1], shape[0]))
    rows, columns = high[1] - low[1], high[0] - low[0]
    if rows > 0 and columns > 0:
        turns = np.zeros((rows, columns + 1), np.int32)
        for ring in rings:
            _cross(np.asarray(ring, float).reshape(-1, 2) - low, turns)
        out[low[1] : high[1], low[0] : high[0]] = np.cumsum(turns, axis=1)[:, :-1] % 2 == 1
    if not out.any():
        column, row = np.floor(points.mean(axis=0)).astype(int)
        if 0 <= row < shape[0] and 0 <= column < shape[1]:
            out[row, column] = True
    return out


def _cross(ring: Ring, turns: npt.NDArray[np.int32]) -> None:
    """Count, in each row of pixel centres, where the ring's edges are crossed."""
    rows, columns = turns.shape[0], turns.shape[1] - 1
    (x0, y0), (x1, y1) = ring.T, np.roll(ring, -1, axis=0).T
    # Rows whose centre y + 0.5 lies in [lower end, upper end) of the edge.
    first = np.clip(np.ceil(np.minimum(y0, y1) - 0.5).astype(int), 0, rows)
    last = np.clip(np.ceil(np.maximum(y0, y1) - 0.5).astype(int), 0, rows)
    edge = np.repeat(np.arange(len(ring)), last - first)
    start = np.repeat(np.cumsum(last - first) - (last - first), last - first)
    row = np.arange(len(edge)) - start + first[edge]
    along = (row + 0.5 - y0[edge]) / (y1 - y0)[edge]
    x = x0[edge] + along * (x1 - x0)[edge]
    column = np.clip(np.ceil(x - 0.5).astype(int), 0, columns)
    np.add.at(turns, (row, column), 1)


def fill_box(box: tuple[float, float, float, float], shape: tuple[int, int]) -> Mask:
    """Pixels whose centre lies in the box (x0, y0, x1, y1)."""
    x0, y0, x1, y1 = box
    return fill([np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])], shape)


def fill_runs(counts: Sequence[int], shape: tuple[int, int]) -> Mask:
    """COCO's run lengths: background and foreground by turns, down the columns.

    Raises:
        CaseError: grid_conflict, when the runs do not add up to the picture.
    """
    if min(counts, default=0) < 0 or sum(counts) != shape[0] * shape[1]:
        raise CaseError(
            "grid_conflict", f"run lengths cover {sum(counts)} pixels, the picture has {shape}"
        )
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape((shape[1], shape[0])).T


def fill_pairs(
    numbers: Sequence[int], shape: tuple[int, int], *, first: int, relative: bool, down: bool
) -> Mask:
    """Run lengths as pairs of start and length.

    Args:
        numbers: start, length, start, length, ...
        shape: rows and columns.
        first: number of the first pixel, 0 or 1.
        relative: a start counts from the end of the run before.
        down: pixels run down the columns, else along the rows.

    Raises:
        CaseError: unreadable for half a pair or a negative number, grid_conflict for runs beyond
            the picture.
    """
    if len(numbers) % 2 or min(numbers, default=0) < 0:
        raise CaseError("unreadable", "run lengths: pairs of start and length are expected")
    out: Mask = np.zeros(shape[0] * shape[1], bool)
    end = 0
    for start, length in zip(numbers[::2], numbers[1::2], strict=True):
        begin = start + end if relative else start - first
        end = begin + length
        if begin < 0 or end > out.size:
            raise CaseError(
                "grid_conflict", f"run lengths reach pixel {end}, the picture has {shape}"
            )
        out[begin:end] = True
    return out.reshape((shape[1], shape[0])).T if down else out.reshape(shape)


def runs_of_mask(mask: Mask) -> list[int]:
    """COCO's run lengths of a mask: background first, down the columns."""
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(flat, prepend=False))
    lengths = np.diff(np.concatenate([[0], edges, [flat.size]]))
    return [int(length) for length in lengths]


def runs_of(text: str) -> list[int]:
    """Run lengths from COCO's compressed text.

    Raises:
        CaseError: unreadable, when the text ends within a number.
    """
    counts: list[int] = []
    at = 0
    while at < len(text):
        number, shift, more = 0, 0, True
        while more:
            if at >= len(text) or shift > 60:  # noqa: PLR2004
                raise CaseError("unreadable", "run lengths: the text ends within a number")
            part = ord(text[at]) - 48
            number |= (part & 0x1F) << shift
            more, at, shift = bool(part & 0x20), at + 1, shift + 5
            if not more and part & 0x10:
                number |= -1 << shift
        counts.append(number + counts[-2] if len(counts) > 2 else number)  # noqa: PLR2004
    return counts
