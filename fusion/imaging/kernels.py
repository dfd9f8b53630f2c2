"""Compiled resampling (numba): fused passes over memory, all threads, no scratch volumes."""

# Kernels take what numba infers: plain arrays, one per column of a table.
# ruff: noqa: ANN001, ANN202
# mypy: allow-untyped-defs
from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from fusion.imaging.sampling import (
    Aligned,
    AxisTable,
    linear_input,
    stored,
)
from fusion.imaging.volume import Affine, Array, Shape

if "NUMBA_THREADING_LAYER" not in os.environ:
    # Workers fork; the OpenMP layer would abort the child.
    numba.config.THREADING_LAYER = "forksafe"  # type: ignore[attr-defined]

_TIE = 1e-6
_EDGE = 0.5 + 1e-6
#: The fork-safe layer serves one caller at a time.
_one_caller = threading.Lock()
_compiled: Callable[..., Any] = numba.njit(parallel=True, cache=True, nogil=True)


@_compiled
def _linear(
    src, low0, high0, w0, in0, low1, high1, w1, in1, low2, high2, w2, in2, fill, chunks, out
):
    """`out[i, j, k]` from tables; per plane one blend of planes, per row one of rows."""
    planes, rows, columns = out.shape
    deep, wide = src.shape[1], src.shape[2]
    for chunk in numba.prange(chunks):
        plane = np.empty((deep, wide), np.float32)
        row = np.empty(wide, np.float32)
        for i in range(chunk * planes // chunks, (chunk + 1) * planes // chunks):
            if not in0[i]:
                out[i] = fill
                continue
            near, far, weight = src[low0[i]], src[high0[i]], w0[i]
            for j in range(deep):
                for k in range(wide):
                    a = np.float32(near[j, k])
                    plane[j, k] = a + weight * (np.float32(far[j, k]) - a)
            for j in range(rows):
                if not in1[j]:
                    out[i, j] = fill
                    continue
                upper, lower, weight1 = plane[low1[j]], plane[high1[j]], w1[j]
                for k in range(wide):
                    row[k] = upper[k] + weight1 * (lower[k] - upper[k])
                for k in range(columns):
                    b = row[low2[k]]
                    out[i, j, k] = b + w2[k] * (row[high2[k]] - b) if in2[k] else fill


@_compiled
def _nearest(src, at0, in0, at1, in1, at2, in2, fill, out):
    planes, rows, columns = out.shape
    for i in numba.prange(planes):
        for j in range(rows):
            if not (in0[i] and in1[j]):
                out[i, j] = fill
                continue
            row = src[at0[i], at1[j]]
            for k in range(columns):
                out[i, j, k] = row[at2[k]] if in2[k] else fill


@numba.njit(cache=True, nogil=True)
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
def _vote(src, low0, high0, w0, in0, low1, high1, w1, in1, low2, high2, w2, in2, out):
    """Linear interpolation of every label's mask and the argmax, without making the masks."""
    planes, rows, columns = out.shape
    for i in numba.prange(planes):
        labels = np.empty(8, src.dtype)
        weights = np.empty(8, np.float64)
        for j in range(rows):
            if not (in0[i] and in1[j]):
                out[i, j] = 0
                continue
            a, b = src[low0[i], low1[j]], src[low0[i], high1[j]]
            c, d = src[high0[i], low1[j]], src[high0[i], high1[j]]
            for k in range(columns):
                if not in2[k]:
                    out[i, j, k] = 0
                    continue
                low, high = low2[k], high2[k]
                first = a[low]
                same = first == a[high] == b[low] == b[high]
                if same and first == c[low] == c[high] == d[low] == d[high]:
                    out[i, j, k] = first
                    continue
                labels[0], labels[1], labels[2], labels[3] = a[low], a[high], b[low], b[high]
                labels[4], labels[5], labels[6], labels[7] = c[low], c[high], d[low], d[high]
                for n in range(8):
                    weight0 = w0[i] if n >= 4 else 1 - w0[i]  # noqa: PLR2004
                    weight1 = w1[j] if n & 2 else 1 - w1[j]
                    weights[n] = weight0 * weight1 * (w2[k] if n & 1 else 1 - w2[k])
                out[i, j, k] = _elect(labels, weights)


@_compiled
def _rotated(src, m, kind, fill, out):
    """Any matrix. kind 0: linear, 1: nearest, 2: label votes."""
    size0, size1, size2 = src.shape
    for i in numba.prange(out.shape[0]):
        labels = np.empty(8, src.dtype)
        weights = np.empty(8, np.float64)
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


def sample_aligned(array: Array, aligned: Aligned, kind: str, fill: float) -> Array:
    """`kind` is linear (float32 out), nearest or one_hot (type kept)."""
    held = stored(_input(array, kind))
    tables = held.tables(aligned)
    shape = tuple(len(table.low) for table in tables)
    out = np.empty(shape, np.float32 if kind == "linear" else held.array.dtype)
    with _one_caller:
        if kind == "linear":
            parts = [part for table in tables for part in _single(table)]
            chunks = min(shape[0], 4 * numba.get_num_threads())
            _linear(held.array, *parts, np.float32(fill), chunks, out)
        elif kind == "one_hot":
            parts = [p for t in tables for p in (t.low, t.high, t.weight, t.inside)]
            _vote(held.array, *parts, out)
        else:
            parts = [part for table in tables for part in (table.nearest, table.inside)]
            _nearest(_as_bits(held.array), *parts, _fill_bits(fill, out.dtype), _as_bits(out))
    return _typed(out.transpose(held.out_axes(aligned)), array, kind)


def sample_rotated(array: Array, matrix: Affine, shape: Shape, kind: str, fill: float) -> Array:
    """The same for any target-to-source matrix."""
    held = stored(_input(array, kind))
    out = np.empty(shape, np.float32 if kind == "linear" else held.array.dtype)
    code = {"linear": 0, "nearest": 1, "one_hot": 2}[kind]
    value = out.dtype.type(0 if kind == "one_hot" else fill)
    with _one_caller:
        _rotated(held.array, held.matrix(matrix), code, value, out)
    return _typed(out, array, kind)


def _single(table: AxisTable) -> tuple[Array, ...]:
    return table.low, table.high, table.weight.astype(np.float32), table.inside


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
