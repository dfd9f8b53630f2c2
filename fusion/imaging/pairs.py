"""Which of many images look alike: exact joins of 64-bit hashes, and the second look (numba)."""

# Kernels take what numba infers.
# ruff: noqa: ANN001, ANN202, C901, PLR0912, PLR0915, PLR2004, RUF046
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
#: Alignment searches enlargements and shifts of up to this share.
_REACH = 0.15
_STEPS = 12
#: Sum of two values of a thumbnail that are both black.
_DARK = 4
#: A coarse picture that cannot be aligned to this correlation is not tried in detail.
_PROMISING = 0.97
_SETTLED = 0.02  # of a thumbnail's pixel
_SMOOTHING = (0.25, 0.5, 0.25)
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
                seen = np.int64(x + y > _DARK)
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


def aligned_correlation(first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8]) -> float:
    """T4: the largest correlation over enlargements and shifts per axis of up to 15 %.

    Gauss-Newton from the unmoved picture; a copy that was cropped a little comes back to its place.

    Args:
        first, second: thumbnails of one shape, (H, W) or (I, J, K).
    """
    shape = (1,) * (3 - first.ndim) + first.shape
    solid = [one.astype(np.float64).reshape(shape) for one in (first, second)]
    coarse = [_halved(_halved(one) if first.ndim == 2 else one) for one in solid]
    if (score := float(_align(*map(_smooth, coarse)))) < _PROMISING:
        return score
    return float(_align(*map(_smooth, solid)))


def _halved(array: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Means of neighbours along axes longer than one."""
    for axis, size in enumerate(array.shape):
        if size > 1:
            pairs = np.moveaxis(array, axis, 0).reshape(size // 2, 2, -1)
            rest = tuple(n for k, n in enumerate(array.shape) if k != axis)
            array = np.moveaxis(pairs.mean(axis=1).reshape(size // 2, *rest), 0, axis)
    return array


def _smooth(array: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """A three-tap blur along axes longer than one: slopes that a step can follow."""
    for axis, size in enumerate(array.shape):
        if size > 1:
            wide = np.pad(array, [(int(n == axis),) * 2 for n in range(array.ndim)], mode="edge")
            parts = [np.take(wide, range(k, k + size), axis) * w for k, w in enumerate(_SMOOTHING)]
            array = parts[0] + parts[1] + parts[2]
    return array


@_compiled
def _align(a, b):
    """Best correlation of a, sampled at scale * place + shift, with b."""
    shape = a.shape
    grad = np.zeros((3, *shape))
    for i in range(shape[0]):
        for j in range(shape[1]):
            for k in range(shape[2]):
                if shape[0] > 1:
                    u, d = min(i + 1, shape[0] - 1), max(i - 1, 0)
                    grad[0, i, j, k] = (a[u, j, k] - a[d, j, k]) / (u - d)
                if shape[1] > 1:
                    u, d = min(j + 1, shape[1] - 1), max(j - 1, 0)
                    grad[1, i, j, k] = (a[i, u, k] - a[i, d, k]) / (u - d)
                if shape[2] > 1:
                    u, d = min(k + 1, shape[2] - 1), max(k - 1, 0)
                    grad[2, i, j, k] = (a[i, j, u] - a[i, j, d]) / (u - d)
    scale, shift = np.zeros(3), np.zeros(3)
    mid = np.array([(shape[0] - 1) / 2, (shape[1] - 1) / 2, (shape[2] - 1) / 2])
    best = -1.0
    row = np.empty(8)
    moved = np.empty(4)
    for _ in range(_STEPS):
        normal, right = np.zeros((8, 8)), np.zeros(8)
        n = s_a = s_b = s_aa = s_bb = s_ab = 0.0
        for i in range(shape[0]):
            x = (i - mid[0]) * (1 + scale[0]) + shift[0] + mid[0]
            if x < -1e-9 or x > shape[0] - 1 + 1e-9:
                continue
            i0 = min(max(int(math.floor(x)), 0), max(shape[0] - 2, 0))
            fx = x - i0 if shape[0] > 1 else 0.0
            i1 = min(i0 + 1, shape[0] - 1)
            for j in range(shape[1]):
                y = (j - mid[1]) * (1 + scale[1]) + shift[1] + mid[1]
                if y < -1e-9 or y > shape[1] - 1 + 1e-9:
                    continue
                j0 = min(max(int(math.floor(y)), 0), max(shape[1] - 2, 0))
                fy = y - j0 if shape[1] > 1 else 0.0
                j1 = min(j0 + 1, shape[1] - 1)
                for k in range(shape[2]):
                    z = (k - mid[2]) * (1 + scale[2]) + shift[2] + mid[2]
                    if z < -1e-9 or z > shape[2] - 1 + 1e-9:
                        continue
                    k0 = min(max(int(math.floor(z)), 0), max(shape[2] - 2, 0))
                    fz = z - k0
                    k1 = min(k0 + 1, shape[2] - 1)
                    for q in range(4):
                        g = a if q == 0 else grad[q - 1]
                        near = (g[i0, j0, k0] * (1 - fz) + g[i0, j0, k1] * fz) * (1 - fy) + (
                            g[i0, j1, k0] * (1 - fz) + g[i0, j1, k1] * fz
                        ) * fy
                        far = (g[i1, j0, k0] * (1 - fz) + g[i1, j0, k1] * fz) * (1 - fy) + (
                            g[i1, j1, k0] * (1 - fz) + g[i1, j1, k1] * fz
                        ) * fy
                        moved[q] = near * (1 - fx) + far * fx
                    value, wanted = moved[0], b[i, j, k]
                    if value + wanted <= _DARK:
                        continue
                    n += 1
                    s_a += value
                    s_b += wanted
                    s_aa += value * value
                    s_bb += wanted * wanted
                    s_ab += value * wanted
                    row[0] = moved[1] * (i - mid[0])
                    row[1] = moved[2] * (j - mid[1])
                    row[2] = moved[3] * (k - mid[2])
                    row[3], row[4], row[5] = moved[1], moved[2], moved[3]
                    row[6], row[7] = value, 1.0
                    for p in range(8):
                        right[p] += row[p] * wanted
                        for q in range(p + 1):
                            normal[p, q] += row[p] * row[q]
        spread = (n * s_aa - s_a * s_a) * (n * s_bb - s_b * s_b)
        if spread <= 0:
            break
        best = max(best, (n * s_ab - s_a * s_b) / math.sqrt(spread))
        for p in range(8):
            for q in range(p):
                normal[q, p] = normal[p, q]
        for p in range(8):
            normal[p, p] += 1e-6 * normal[p, p] + 1e-6
        step = np.linalg.solve(normal, right)
        gain = step[6]
        if abs(gain) < 1e-6:
            break
        largest = 0.0
        for axis in range(3):
            scale[axis] += step[axis] / gain
            shift[axis] += step[3 + axis] / gain
            half = max(mid[axis], 1.0)
            largest = max(largest, abs(step[axis] / gain) * half, abs(step[3 + axis] / gain))
            if abs(scale[axis]) > _REACH or abs(shift[axis]) > _REACH * half + 1:
                return best
        if largest < _SETTLED:
            break
    return best
