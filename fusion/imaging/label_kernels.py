"""Compiled passes over label maps (numba): counts, connected parts, lookup."""

# Kernels take what numba infers.
# ruff: noqa: ANN001, ANN202
# mypy: allow-untyped-defs
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from fusion.imaging.parallel import in_slabs
from fusion.imaging.sampling import stored
from fusion.imaging.volume import Array

Counts = npt.NDArray[np.int64]
_compiled: Callable[..., Any] = numba.njit(cache=True, nogil=True)


@_compiled
def _count(labels, found, runs, start, stop):
    """Voxels of each value in a slab, and how many runs of one value above 0 each row has."""
    columns = labels.shape[2]
    for i in range(start, stop):
        for j in range(labels.shape[1]):
            row = labels[i, j]
            first, same = row[0], row[0] ^ row[0]
            for k in range(columns):
                same |= row[k] ^ first
            if same == 0:
                found[first] += columns
                runs[i, j] = 1 if first else 0
                continue
            count, begin = 0, 0
            for k in range(1, columns + 1):
                if k == columns or row[k] != row[begin]:
                    found[row[begin]] += k - begin
                    count += 1 if row[begin] else 0
                    begin = k
            runs[i, j] = count


@_compiled
def _list_runs(labels, offsets, values, begins, ends, start, stop):
    """The runs themselves: value, first column, and the column after the last."""
    columns = labels.shape[2]
    for i in range(start, stop):
        for j in range(labels.shape[1]):
            at = offsets[i, j]
            if at == offsets[i, j + 1]:
                continue
            row = labels[i, j]
            begin = 0
            for k in range(1, columns + 1):
                if k == columns or row[k] != row[begin]:
                    if row[begin]:
                        values[at], begins[at], ends[at] = row[begin], begin, k
                        at += 1
                    begin = k


@_compiled
def _root(parent, run):
    while parent[run] != run:
        parent[run] = parent[parent[run]]
        run = parent[run]
    return run


@_compiled
def _join(offsets, values, begins, ends, parent):
    """Runs that touch, corners included, get one root; returns nothing else."""
    planes, rows = offsets.shape[0], offsets.shape[1] - 1
    for i in range(planes):
        for j in range(rows):
            for n in range(4):
                # The neighbours that came before: one row back, and three of the plane before.
                a, b = (i, j - 1) if n == 0 else (i - 1, j + n - 2)
                if a < 0 or b < 0 or b >= rows:
                    continue
                other = offsets[a, b]
                for run in range(offsets[i, j], offsets[i, j + 1]):
                    while other < offsets[a, b + 1] and ends[other] < begins[run]:
                        other += 1
                    near = other
                    while near < offsets[a, b + 1] and begins[near] <= ends[run]:
                        if values[near] == values[run]:
                            mine, theirs = _root(parent, run), _root(parent, near)
                            parent[max(mine, theirs)] = min(mine, theirs)
                        near += 1


@_compiled
def _count_roots(values, parent, parts):
    for run in range(len(parent)):
        if parent[run] == run:
            parts[values[run]] += 1


@_compiled
def _look_up(labels, table, out, start, stop):
    for n in range(start, stop):
        out[n] = table[labels[n]]


def count(labels: Array) -> Counts:
    """Voxels of each value, 0 to the largest: `np.bincount` without the copies."""
    return _counted(stored(_three(labels)).array)[0]


def survey(labels: Array) -> tuple[Counts, Counts]:
    """Voxels of each value, and in how many parts it lies (26 neighbours); (I, J, K) uint."""
    array = stored(labels).array
    found, runs = _counted(array)
    # Row j of plane i has the runs offsets[i, j] to before offsets[i, j + 1].
    ends = np.cumsum(runs).reshape(runs.shape)
    starts = np.concatenate([[0], ends[:-1, -1]])
    offsets = np.concatenate([starts[:, None], ends], axis=1)
    total = int(ends[-1, -1])
    values, first = np.empty(total, array.dtype), np.empty(total, np.int32)
    after, parent = np.empty(total, np.int32), np.arange(total, dtype=np.int64)
    parts = np.zeros(len(found), np.int64)
    in_slabs(lambda a, b: _list_runs(array, offsets, values, first, after, a, b), len(array))
    _join(offsets, values, first, after, parent)
    _count_roots(values, parent, parts)
    return found, parts


def look_up(table: Array, labels: Array) -> Array:
    """`table[labels]`, in the memory order of `labels`."""
    held = stored(_three(labels))
    out = np.empty(held.array.size, table.dtype)
    flat = held.array.reshape(-1)
    in_slabs(lambda a, b: _look_up(flat, table, out, a, b), len(flat))
    found: Array = held.restored(out.reshape(held.array.shape))[(0,) * (3 - labels.ndim)]
    return found


def _counted(array: Array) -> tuple[Counts, Counts]:
    slabs: list[Counts] = []
    runs = np.zeros(array.shape[:2], np.int64)
    size = int(array.max()) + 1

    def work(start: int, stop: int) -> None:
        found = np.zeros(size, np.int64)
        _count(array, found, runs, start, stop)
        slabs.append(found)

    in_slabs(work, len(array))
    return np.sum(slabs, axis=0), runs


def _three(array: Array) -> Array:
    """With three axes: pictures gain one in front."""
    return array.reshape((1,) * (3 - array.ndim) + array.shape)
