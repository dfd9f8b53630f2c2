"""Which of many images look alike: exact joins of 64-bit hashes, and correlation (numba)."""

# Kernels take what numba infers.
# ruff: noqa: ANN001, ANN202, C901, PLR2004
# mypy: allow-untyped-defs
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]
Pairs = npt.NDArray[np.int64]

_BITS = 64
_ONE = np.uint64(1)
#: Sum of two values of a thumbnail that are both black.
DARK = 4
_compiled: Callable[..., Any] = numba.njit(cache=True, nogil=True)


class TooManyPairsError(ValueError):
    """More pairs than the caller can use: the hashes are crowded."""


def near_pairs(hashes: Hashes, max_bits: int, most: int | None = None) -> Pairs:
    """Every pair (i, j), i < j, whose hashes differ in at most `max_bits` bits: (P, 2), sorted.

    Exact: two such hashes agree (or differ in one bit) in at least one of a few bands.

    Raises:
        TooManyPairsError: there are more than `most`.
    """
    hashes = np.asarray(hashes, np.uint64)
    values, owner = np.unique(hashes, return_inverse=True)
    same = _equal_pairs(owner, most)
    near = _join(values, values, max_bits, most, same=True)
    pairs = np.concatenate([same, _expanded(near, owner, owner, len(values), len(values), most)])
    pairs.sort(axis=1)
    return _in_order(pairs, most)


def crossing_pairs(hashes: Hashes, others: Hashes, max_bits: int, most: int | None = None) -> Pairs:
    """Every pair (i, j) with `hashes[i]` within `max_bits` bits of `others[j]`: (P, 2), sorted.

    Raises:
        TooManyPairsError: there are more than `most`.
    """
    values, owner = np.unique(np.asarray(hashes, np.uint64), return_inverse=True)
    targets, holder = np.unique(np.asarray(others, np.uint64), return_inverse=True)
    near = _join(values, targets, max_bits, most, same=False)
    return _in_order(_expanded(near, owner, holder, len(values), len(targets), most), most)


def _in_order(pairs: Pairs, most: int | None) -> Pairs:
    if most is not None and len(pairs) > most:
        raise TooManyPairsError(f"more than {most} pairs")
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def _bands(count: int, max_bits: int) -> tuple[int, int]:
    """How many bands to cut, and in how many bits one of them may differ, by estimated cost."""
    if not 0 <= max_bits < _BITS:
        raise ValueError(f"max_bits is {max_bits}, expected 0 to {_BITS - 1}")
    exact, loose = max_bits + 1, max_bits // 2 + 1
    cost = exact * count / 2.0 ** (_BITS / exact + 1)
    # A neighbouring bucket costs a jump in memory, worth some twenty comparisons.
    looser = (loose + _BITS) * (20 + count / 2.0 ** (_BITS / loose + 1))
    return (exact, 0) if cost <= looser or loose < 3 else (loose, 1)


def _join(values: Hashes, targets: Hashes, max_bits: int, most: int | None, *, same: bool) -> Pairs:
    """Pairs of places in two sorted lists of distinct hashes."""
    count, radius = _bands(max(len(values), len(targets)), max_bits)
    edges = np.linspace(0, _BITS, count + 1).round().astype(np.int64)
    # Longer keys than the lists can fill would only make empty buckets.
    useful = max(len(values), len(targets)).bit_length() + 1
    lows, widths = edges[:-1], np.minimum(np.diff(edges), useful)
    found = []
    total = 0
    for band, (low, width) in enumerate(zip(lows.tolist(), widths.tolist(), strict=True)):
        left, right = (_sorted_by(one, low, width) for one in (values, targets))
        room = max(len(values), 1 << 16)
        while True:
            limit = room if most is None else min(room, most + 1)
            out = np.empty((limit, 2), np.int64)
            n = _compare(*left, *right, width, band, radius, max_bits, same, lows, widths, out)
            if n <= limit:
                break
            if most is not None and n > most:
                raise TooManyPairsError(f"more than {most} pairs")
            room = n
        found.append(out[:n].copy())
        total += n
        if most is not None and total > most:
            raise TooManyPairsError(f"more than {most} pairs")
    return np.concatenate(found) if found else np.empty((0, 2), np.int64)


def _sorted_by(
    values: Hashes, low: int, width: int
) -> tuple[Hashes, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The values in order of one band, where each came from, and where each key begins."""
    mask = np.uint64((1 << width) - 1)
    keys = ((values >> np.uint64(low)) & mask).astype(np.int64)
    starts = np.zeros((1 << width) + 1, np.int64)
    np.cumsum(np.bincount(keys, minlength=1 << width), out=starts[1:])
    order = np.empty(len(values), np.int64)
    _scatter(keys, starts[:-1].copy(), order)
    return values[order], order, starts


@_compiled
def _scatter(keys, places, order):
    for n in range(len(keys)):
        order[places[keys[n]]] = n
        places[keys[n]] += 1


@_compiled
def _popcount(x):
    x = x - ((x >> np.uint64(1)) & np.uint64(0x5555555555555555))
    x = (x & np.uint64(0x3333333333333333)) + ((x >> np.uint64(2)) & np.uint64(0x3333333333333333))
    x = (x + (x >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((x * np.uint64(0x0101010101010101)) >> np.uint64(56))


@_compiled
def _compare(
    left, left_at, left_starts, right, right_at, right_starts,
    width, band, radius, max_bits, same, lows, widths, out,
):  # fmt: skip
    """Fill `out` with near pairs that no earlier band can have found; returns their number."""
    n, room = 0, len(out)
    keys = len(left_starts) - 1
    whole = radius >= 1
    for key in range(keys):
        if left_starts[key] == left_starts[key + 1]:
            continue
        for turn in range(width + 1 if whole else 1):
            other = key if turn == 0 else key ^ (1 << (turn - 1))
            if same and other < key:
                continue
            for a in range(left_starts[key], left_starts[key + 1]):
                x = left[a]
                first = right_starts[other]
                if same and other == key:
                    first = a + 1
                for b in range(first, right_starts[other + 1]):
                    diff = x ^ right[b]
                    if _popcount(diff) > max_bits:
                        continue
                    known = False
                    for before in range(band):
                        part = diff >> np.uint64(lows[before])
                        part &= (np.uint64(1) << np.uint64(widths[before])) - np.uint64(1)
                        if _popcount(part) <= radius:
                            known = True
                            break
                    if not known:
                        if n < room:
                            out[n, 0], out[n, 1] = left_at[a], right_at[b]
                        n += 1
    return n


def _equal_pairs(owner: npt.NDArray[np.int64], most: int | None = None) -> Pairs:
    """All pairs of places with one owner: (P, 2)."""
    order = np.argsort(owner, kind="stable")
    lengths = np.bincount(owner).astype(np.int64)
    if most is not None and int((lengths * (lengths - 1) // 2).sum()) > most:
        raise TooManyPairsError(f"more than {most} pairs")
    # Each place is paired with those after it in its run.
    left = np.repeat(lengths, lengths) - _ranks(lengths) - 1
    first = np.repeat(np.arange(len(owner)), left)
    second = first + 1 + _ranks(left)
    return np.stack([order[first], order[second]], axis=1).astype(np.int64)


def _ranks(lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """0, 1, .. n-1 for each n of `lengths`, one after the other."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) - np.repeat(ends - lengths, lengths)


def _expanded(
    pairs: Pairs,
    owner: npt.NDArray[np.int64],
    holder: npt.NDArray[np.int64],
    owners: int,
    holders: int,
    most: int | None,
) -> Pairs:
    """Pairs of distinct hashes to pairs of the items that hold them."""
    sides = []
    for of, count in ((owner, owners), (holder, holders)):
        lengths = np.bincount(of, minlength=count).astype(np.int64)
        sides.append((np.argsort(of, kind="stable"), lengths, np.cumsum(lengths) - lengths))
    (order_a, lengths_a, starts_a), (order_b, lengths_b, starts_b) = sides
    a, b = pairs[:, 0], pairs[:, 1]
    times = lengths_a[a] * lengths_b[b]
    if most is not None and int(times.sum()) > most:
        raise TooManyPairsError(f"more than {most} pairs")
    rank = _ranks(times)
    wide = np.repeat(lengths_b[b], times)
    first = order_a[np.repeat(starts_a[a], times) + rank // np.maximum(wide, 1)]
    second = order_b[np.repeat(starts_b[b], times) + rank % np.maximum(wide, 1)]
    return np.stack([first, second], axis=1).astype(np.int64)


def correlations(
    thumbs: npt.NDArray[np.uint8], pairs: Pairs, *, mirrored: bool = False
) -> npt.NDArray[np.float64]:
    """Pearson correlation of the thumbnails of each pair where they are not both black.

    A margin or air that two images share says nothing. 0 where one is blank.

    Args:
        thumbs: (N, *shape), the last axis running left to right.
        pairs: (P, 2) places in `thumbs`.
        mirrored: turn the first of each pair left to right.
    """
    flat = np.ascontiguousarray(thumbs).reshape(len(thumbs), -1, thumbs.shape[-1])
    return np.asarray(_correlate(flat, pairs, mirrored))


@_compiled
def _correlate(flat, pairs, mirrored):
    _, rows, columns = flat.shape
    out = np.zeros(len(pairs))
    for p in range(len(pairs)):
        a, b = pairs[p]
        n = s_a = s_b = s_aa = s_bb = s_ab = np.int64(0)
        for r in range(rows):
            for c in range(columns):
                x = np.int64(flat[a, r, columns - 1 - c] if mirrored else flat[a, r, c])
                y = np.int64(flat[b, r, c])
                seen = np.int64(x + y > DARK)
                x, y = x * seen, y * seen
                n += seen
                s_a += x
                s_b += y
                s_aa += x * x
                s_bb += y * y
                s_ab += x * y
        spread = (n * s_aa - s_a * s_a) * np.float64(n * s_bb - s_b * s_b)
        if spread > 0:
            out[p] = (n * s_ab - s_a * s_b) / math.sqrt(spread)
    return out
