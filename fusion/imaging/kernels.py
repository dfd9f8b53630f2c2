"""Compiled resampling (numba): fused passes over memory, slab by slab on all threads.

Nothing is contracted or reordered (no fastmath), so the values depend neither on the number of
threads nor on the processor. Indices are unsigned: signed ones would be checked for wrapping and
keep the compiler from using vectors.
"""

# Kernels take what numba infers: plain arrays, one per column of a table.
# ruff: noqa: ANN001, ANN202, C901
# mypy: allow-untyped-defs
from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numba
import numpy as np

from fusion.imaging.parallel import in_slabs
from fusion.imaging.sampling import (
    Aligned,
    AxisTable,
    Stored,
    linear_input,
    stored,
)
from fusion.imaging.volume import Affine, Array, Shape

_TIE = 1e-6
_PLANES = 4
_EDGE = 0.5 + 1e-6
_compiled: Callable[..., Any] = numba.njit(cache=True, nogil=True)


@_compiled
def _linear(src, low0, high0, w0, low1, high1, w1, low2, high2, w2, inside, fill, out, start, stop):
    """`out[i, j, k]` from tables; per plane one blend of planes, per row one of rows."""
    rows, columns = out.shape[1], out.shape[2]
    deep, wide = src.shape[1], src.shape[2]
    plane = np.empty((deep, wide), np.float32)
    row = np.empty(wide, np.float32)
    for i in range(start, stop):
        if i < inside[0, 0] or i >= inside[0, 1]:
            out[i] = fill
            continue
        near, far, weight = src[low0[i]], src[high0[i]], w0[i]
        for j in range(deep):
            for k in range(wide):
                a = np.float32(near[j, k])
                plane[j, k] = a + weight * (np.float32(far[j, k]) - a)
        for j in range(rows):
            line = out[i, j]
            if j < inside[1, 0] or j >= inside[1, 1]:
                line[:] = fill
                continue
            upper, lower, weight1 = plane[low1[j]], plane[high1[j]], w1[j]
            for k in range(wide):
                row[k] = upper[k] + weight1 * (lower[k] - upper[k])
            for k in range(columns):
                b = row[low2[k]]
                line[k] = b + w2[k] * (row[high2[k]] - b)
            line[: inside[2, 0]] = fill
            line[inside[2, 1] :] = fill


@_compiled
def _filtered(src, at0, w0, at1, w1, at2, w2, inside, fill, out, start, stop):
    """The same with any number of weighted places per target place: smoothed, then linear."""
    rows, columns = out.shape[1], out.shape[2]
    deep, wide = src.shape[1], src.shape[2]
    plane = np.empty((deep, wide), np.float32)
    row = np.empty(wide, np.float32)
    for i in range(start, stop):
        if i < inside[0, 0] or i >= inside[0, 1]:
            out[i] = fill
            continue
        plane[:] = 0
        for t in range(at0.shape[0]):
            layer, weight = src[at0[t, i]], w0[t, i]
            for j in range(deep):
                for k in range(wide):
                    plane[j, k] += weight * np.float32(layer[j, k])
        for j in range(rows):
            line = out[i, j]
            if j < inside[1, 0] or j >= inside[1, 1]:
                line[:] = fill
                continue
            row[:] = 0
            for t in range(at1.shape[0]):
                part, weight = plane[at1[t, j]], w1[t, j]
                for k in range(wide):
                    row[k] += weight * part[k]
            line[:] = 0
            for t in range(at2.shape[0]):
                place, weights = at2[t], w2[t]
                for k in range(columns):
                    line[k] += weights[k] * row[place[k]]
            line[: inside[2, 0]] = fill
            line[inside[2, 1] :] = fill


@_compiled
def _nearest(src, at0, at1, at2, inside, fill, out, start, stop):
    for i in range(start, stop):
        if i < inside[0, 0] or i >= inside[0, 1]:
            out[i] = fill
            continue
        for j in range(out.shape[1]):
            line = out[i, j]
            if j < inside[1, 0] or j >= inside[1, 1]:
                line[:] = fill
                continue
            row = src[at0[i], at1[j]]
            for k in range(out.shape[2]):
                line[k] = row[at2[k]]
            line[: inside[2, 0]] = fill
            line[inside[2, 1] :] = fill


@_compiled
def _elect(labels, weights):
    """The label with most weight; in a tie a structure before background, then the smaller."""
    best, most = labels[0], -1.0
    for a in range(8):
        label, votes = labels[a], 0.0
        for b in range(8):
            if labels[b] == label:
                votes += weights[b]
        wins = votes > most + _TIE
        tied = not wins and votes > most - _TIE
        if wins or (tied and label != 0 and (best == 0 or label < best)):
            best, most = label, votes
    return best


@_compiled
def _vote(src, low0, high0, w0, low1, high1, w1, low2, high2, w2, inside, out, start, stop):
    """Linear interpolation of every label's mask and the argmax, without making the masks.

    Where the eight neighbours agree, which a pass over whole rows finds, nothing is counted.
    """
    rows, columns = out.shape[1], out.shape[2]
    labels = np.empty(8, src.dtype)
    weights = np.empty(8, np.float64)
    differ = np.empty(src.shape[2], src.dtype)
    mixed = np.empty(columns, src.dtype)
    for i in range(start, stop):
        if i < inside[0, 0] or i >= inside[0, 1]:
            out[i] = 0
            continue
        for j in range(rows):
            line = out[i, j]
            if j < inside[1, 0] or j >= inside[1, 1]:
                line[:] = 0
                continue
            a, b = src[low0[i], low1[j]], src[low0[i], high1[j]]
            c, d = src[high0[i], low1[j]], src[high0[i], high1[j]]
            held = a[0] ^ a[0]
            for k in range(src.shape[2]):
                differ[k] = (a[k] ^ b[k]) | (a[k] ^ c[k]) | (a[k] ^ d[k])
                held |= a[k] | differ[k]
            if held == 0:
                line[:] = 0
                continue
            for k in range(columns):
                low, high = low2[k], high2[k]
                line[k] = a[low]
                mixed[k] = differ[low] | differ[high] | (a[low] ^ a[high])
            for k in range(columns):
                if mixed[k] == 0:
                    continue
                low, high = low2[k], high2[k]
                labels[0], labels[1], labels[2], labels[3] = a[low], a[high], b[low], b[high]
                labels[4], labels[5], labels[6], labels[7] = c[low], c[high], d[low], d[high]
                for n in range(8):
                    weight0 = w0[i] if n >= 4 else 1 - w0[i]  # noqa: PLR2004
                    weight1 = w1[j] if n & 2 else 1 - w1[j]
                    weights[n] = weight0 * weight1 * (w2[k] if n & 1 else 1 - w2[k])
                line[k] = _elect(labels, weights)
            line[: inside[2, 0]] = 0
            line[inside[2, 1] :] = 0


@_compiled
def _rotated(src, m, kind, fill, out, start, stop):
    """Any matrix. kind 0: linear, 1: nearest, 2: label votes."""
    size0, size1, size2 = src.shape
    labels = np.empty(8, src.dtype)
    weights = np.empty(8, np.float64)
    for i in range(start, stop):
        for j in range(out.shape[1]):
            x0 = m[0, 0] * i + m[0, 1] * j + m[0, 3]
            y0 = m[1, 0] * i + m[1, 1] * j + m[1, 3]
            z0 = m[2, 0] * i + m[2, 1] * j + m[2, 3]
            for k in range(out.shape[2]):
                x, y, z = x0 + m[0, 2] * k, y0 + m[1, 2] * k, z0 + m[2, 2] * k
                out[i, j, k] = fill
                if x < -_EDGE or y < -_EDGE or z < -_EDGE:
                    continue
                if x > size0 - 1 + _EDGE or y > size1 - 1 + _EDGE or z > size2 - 1 + _EDGE:
                    continue
                x = min(max(x, 0.0), size0 - 1.0)
                y = min(max(y, 0.0), size1 - 1.0)
                z = min(max(z, 0.0), size2 - 1.0)
                if kind == 1:
                    out[i, j, k] = src[int(x + 0.5), int(y + 0.5), int(z + 0.5)]
                    continue
                low0, low1, low2 = int(x), int(y), int(z)
                x, y, z = x - low0, y - low1, z - low2
                total = 0.0
                for n in range(8):
                    a = min(low0 + (n >> 2), size0 - 1)
                    b = min(low1 + (n >> 1 & 1), size1 - 1)
                    c = min(low2 + (n & 1), size2 - 1)
                    weight = (x if n & 4 else 1 - x) * (y if n & 2 else 1 - y)
                    labels[n], weights[n] = src[a, b, c], weight * (z if n & 1 else 1 - z)
                    total += weights[n] * labels[n]
                out[i, j, k] = total if kind == 0 else _elect(labels, weights)


@_compiled
def _turn(view, out):
    """Copy `view`, whatever its strides, to C order: 16 columns at a time stay in the cache."""
    planes, rows, columns = out.shape
    for j in range(rows):
        for first in range(0, columns, 16):
            last = min(first + 16, columns)
            for i in range(planes):
                for k in range(first, last):
                    out[i, j, k] = view[i, j, k]


def turned(view: Array, dtype: str) -> Array:
    """`view` (I, J, K) as a new array of `dtype` in C order."""
    out = np.empty(view.shape, dtype)
    _turn(view, out)
    return out


def sample_aligned(
    array: Array,
    aligned: Aligned,
    kind: str,
    fill: float,
    sigmas: Sequence[float] = (0, 0, 0),
    dtype: type = np.float32,
) -> Array:
    """`kind` is linear (`dtype` out, rounded where it is whole), nearest or one_hot (type kept).

    `sigmas` smooth each axis of `array` before a linear interpolation, in the same pass.
    """
    held = stored(_input(array, kind))
    tables = held.tables(aligned)
    shape = tuple(len(table.low) for table in tables)
    inside = np.array([table.span for table in tables])
    out = np.empty(shape, dtype if kind == "linear" else held.array.dtype)
    if kind == "linear":
        smooth = any(sigmas)
        columns = (
            _taps(held, aligned, sigmas)
            if smooth
            else [_weights(table, np.float32) for table in tables]
        )
        kernel = partial(_filtered if smooth else _linear, held.array)
        _interpolate(kernel, columns, inside, np.float32(fill), out)
    elif kind == "one_hot":
        parts = [part for table in tables for part in _weights(table, np.float64)]
        _run(_vote, shape, held.array, *parts, inside, out)
    else:
        parts = [table.nearest.astype(np.uint32) for table in tables]
        value = _fill_bits(fill, out.dtype)
        _run(_nearest, shape, _as_bits(held.array), *parts, inside, value, _as_bits(out))
    return _typed(out.transpose(held.out_axes(aligned)), array, kind)


def sample_rotated(array: Array, matrix: Affine, shape: Shape, kind: str, fill: float) -> Array:
    """The same for any target-to-source matrix."""
    held = stored(_input(array, kind))
    out = np.empty(shape, np.float32 if kind == "linear" else held.array.dtype)
    code = {"linear": 0, "nearest": 1, "one_hot": 2}[kind]
    value = out.dtype.type(0 if kind == "one_hot" else fill)
    _run(_rotated, shape, held.array, held.matrix(matrix), code, value, out)
    return _typed(out, array, kind)


def _interpolate(
    kernel: Callable[..., Any],
    tables: Sequence[tuple[Array, ...]],
    inside: Array,
    fill: np.float32,
    out: Array,
) -> None:
    """Fill `out`; whole numbers are rounded a few planes at a time: no float copy of all."""
    rest = [part for table in tables[1:] for part in table]
    if out.dtype == np.float32:
        _run(kernel, out.shape, *tables[0], *rest, inside, fill, out)
        return

    def slab(start: int, stop: int) -> None:
        planes = np.empty((min(_PLANES, stop - start), *out.shape[1:]), np.float32)
        for first in range(start, stop, _PLANES):
            part = slice(first, min(first + _PLANES, stop))
            some = planes[: part.stop - first]
            own = [np.ascontiguousarray(column[..., part]) for column in tables[0]]
            span = inside.copy()
            span[0] -= first
            kernel(*own, *rest, span, fill, some, 0, len(some))
            out[part] = np.rint(some, out=some)

    in_slabs(slab, len(out))


def _run(kernel: Callable[..., Any], shape: Sequence[int], *arguments: Any) -> None:
    in_slabs(lambda start, stop: kernel(*arguments, start, stop), shape[0])


def _weights(table: AxisTable, kind: type) -> tuple[Array, ...]:
    low, high = table.low.astype(np.uint32), table.high.astype(np.uint32)
    return low, high, table.weight.astype(kind)


def _taps(held: Stored, aligned: Aligned, sigmas: Sequence[float]) -> list[tuple[Array, Array]]:
    found = []
    for axis, flip, size in zip(held.axes, held.flips, held.array.shape, strict=True):
        at, weight = aligned.tables[axis].taps(size, sigmas[axis])
        at = size - 1 - at if flip else at
        found.append((at.astype(np.uint32), weight.astype(np.float32)))
    return found


def _input(array: Array, kind: str) -> Array:
    if kind == "linear":
        return linear_input(array)
    return array.view(np.uint8) if array.dtype == bool else array


def _typed(out: Array, array: Array, kind: str) -> Array:
    return out if kind == "linear" else out.view(array.dtype)


def _as_bits(array: Array) -> Array:
    """Nearest only moves values: one kernel per width serves every type of that width."""
    return array.view(f"u{array.dtype.itemsize}")


def _fill_bits(fill: float, dtype: np.dtype[Any]) -> Any:
    return np.array([fill]).astype(dtype).view(f"u{dtype.itemsize}")[0]
