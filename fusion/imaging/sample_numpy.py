"""Resampling in numpy alone, slab by slab: the fallback, and the plain statement of the rules."""

from __future__ import annotations

import numpy as np

from fusion.imaging.sampling import Aligned, AxisTable, axis_table
from fusion.imaging.volume import Affine, Array, Shape

_TIE = 1e-6


def sample_aligned(array: Array, aligned: Aligned, kind: str, fill: float) -> Array:
    """`kind` is linear (float32 out), nearest or one_hot (type kept)."""
    tables = [aligned.tables[r] for r in np.argsort(aligned.order)]
    array = array.transpose(np.argsort(aligned.order))
    shape = tuple(len(table.low) for table in tables)
    if kind == "nearest":
        at = np.ix_(*(table.nearest for table in tables))
        return np.where(_inside(tables), array[at], array.dtype.type(fill))
    out = np.empty(shape, np.float32 if kind == "linear" else array.dtype)
    slab = _linear_slab if kind == "linear" else _vote_slab
    for i in range(shape[0]):
        out[i] = slab(array, tables, i)
    return np.where(_inside(tables), out, out.dtype.type(fill if kind == "linear" else 0))


def _inside(tables: list[AxisTable]) -> Array:
    a, b, c = (table.inside for table in tables)
    return a[:, None, None] & b[:, None] & c


def _linear_slab(array: Array, tables: list[AxisTable], i: int) -> Array:
    first, second, third = tables
    plane = _blend(array[first.low[i]], array[first.high[i]], np.float32(first.weight[i]))
    weight = second.weight.astype(np.float32)[:, None]
    plane = _blend(plane[second.low], plane[second.high], weight)
    return _blend(plane[:, third.low], plane[:, third.high], third.weight.astype(np.float32))


def _blend(a: Array, b: Array, weight: Array | np.float32) -> Array:
    a, b = a.astype(np.float32), b.astype(np.float32)
    blended: Array = a + weight * (b - a)
    return blended


def _vote_slab(array: Array, tables: list[AxisTable], i: int) -> Array:
    first, second, third = tables
    labels, weights = [], []
    for n in range(8):
        plane = array[(first.high if n & 4 else first.low)[i]]
        rows, columns = (second.high if n & 2 else second.low), third.high if n & 1 else third.low
        labels.append(plane[rows][:, columns])
        w0 = first.weight[i] if n & 4 else 1 - first.weight[i]
        w1 = second.weight if n & 2 else 1 - second.weight
        w2 = third.weight if n & 1 else 1 - third.weight
        weights.append(np.broadcast_to((w0 * w1)[:, None] * w2, labels[-1].shape))
    return elect(np.stack(labels), np.stack(weights))


def elect(labels: Array, weights: Array) -> Array:
    """The label with most weight along axis 0; in a tie a structure, then the smaller label."""
    best: Array = labels[0].copy()
    most: Array = np.full(labels.shape[1:], -1.0)
    for label in labels:
        votes = np.where(labels == label, weights, 0.0).sum(axis=0)
        wins = votes > most + _TIE
        tied = ~wins & (votes > most - _TIE)
        wins |= tied & (label != 0) & ((best == 0) | (label < best))
        best, most = np.where(wins, label, best), np.where(wins, votes, most)
    return best


def sample_rotated(array: Array, matrix: Affine, shape: Shape, kind: str, fill: float) -> Array:
    """The same for any target-to-source matrix."""
    out = np.empty(shape, np.float32 if kind == "linear" else array.dtype)
    fill = 0 if kind == "one_hot" else fill
    j, k = np.meshgrid(np.arange(shape[1]), np.arange(shape[2]), indexing="ij")
    for i in range(shape[0]):
        places = matrix[:3, :3] @ np.stack([np.full(j.size, i), j.ravel(), k.ravel()])
        places += matrix[:3, 3:]
        # The margin for finer targets is for aligned grids: a step of 1 leaves half a voxel.
        axes = [axis_table(places[r], array.shape[r], 1.0) for r in range(3)]
        inside = axes[0].inside & axes[1].inside & axes[2].inside
        values = _at_places(array, axes, kind)
        out[i] = np.where(inside, values, fill).reshape(shape[1:])
    return out


def _at_places(array: Array, axes: list[AxisTable], kind: str) -> Array:
    if kind == "nearest":
        near: Array = array[axes[0].nearest, axes[1].nearest, axes[2].nearest]
        return near
    labels, weights = [], []
    for n in range(8):
        high = (n & 4, n & 2, n & 1)
        at = [t.high if h else t.low for t, h in zip(axes, high, strict=True)]
        part = [t.weight if h else 1 - t.weight for t, h in zip(axes, high, strict=True)]
        labels.append(array[at[0], at[1], at[2]])
        weights.append(part[0] * part[1] * part[2])
    if kind == "one_hot":
        return elect(np.stack(labels), np.stack(weights))
    total: Array = (np.stack(labels) * np.stack(weights)).sum(axis=0)
    return total
