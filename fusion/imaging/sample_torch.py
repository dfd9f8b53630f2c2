"""Resampling in torch, on any device: gathers along one axis after the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from fusion.imaging.sampling import Aligned, AxisTable
from fusion.imaging.volume import Affine, Array, Shape

_TIE = 1e-6
_SNAP = 1e-6
_EDGE = 0.5 + 1e-6
_CHUNK = 1 << 22


def sample_aligned(array: Array, aligned: Aligned, kind: str, fill: float, device: str) -> Array:
    """`kind` is linear (float32 out), nearest or one_hot (type kept)."""
    source = _tensor(array, kind, device).permute(*np.argsort(aligned.order).tolist())
    tables = [_Table(aligned.tables[r], device) for r in np.argsort(aligned.order)]
    if kind == "nearest":
        for axis, table in enumerate(tables):
            source = source.index_select(axis, table.nearest)
        out = source
    elif kind == "linear":
        # The axis that shrinks most goes first: less is carried on.
        for axis in sorted(range(3), key=lambda a: len(tables[a].low) / source.shape[a]):
            source = _blend(source, tables[axis], axis)
        out = source
    else:
        out = _vote(source, tables)
    a, b, c = (table.inside for table in tables)
    inside = a[:, None, None] & b[:, None] & c
    out = torch.where(inside, out, _fill(out, 0 if kind == "one_hot" else fill))
    return _array(out, array, kind)


class _Table:
    def __init__(self, table: AxisTable, device: str) -> None:
        self.low = torch.from_numpy(table.low).to(device)
        self.high = torch.from_numpy(table.high).to(device)
        self.nearest = torch.from_numpy(table.nearest).to(device)
        self.inside = torch.from_numpy(table.inside).to(device)
        self.weight = torch.from_numpy(table.weight).to(device)


def _tensor(array: Array, kind: str, device: str) -> torch.Tensor:
    # Few torch operations know unsigned 16 and 32 bits; int64 holds every label.
    wanted: Any = np.float32 if kind == "linear" else None
    if wanted is None:
        wanted = array.dtype if array.dtype.kind == "f" else np.int64
    return torch.from_numpy(np.ascontiguousarray(array, wanted)).to(device)


def _array(out: torch.Tensor, array: Array, kind: str) -> Array:
    values: Array = out.cpu().numpy()
    return values if kind == "linear" else values.astype(array.dtype)


def _fill(out: torch.Tensor, fill: float) -> torch.Tensor:
    return torch.tensor(fill, dtype=out.dtype, device=out.device)


def _blend(source: torch.Tensor, table: _Table, axis: int) -> torch.Tensor:
    a, b = source.index_select(axis, table.low), source.index_select(axis, table.high)
    shape = [1, 1, 1]
    shape[axis] = -1
    return torch.lerp(a, b, table.weight.to(a.dtype).view(shape))


def _vote(source: torch.Tensor, tables: list[_Table]) -> torch.Tensor:
    shape = [len(table.low) for table in tables]
    out = torch.empty(shape, dtype=source.dtype, device=source.device)
    planes = max(1, _CHUNK // (shape[1] * shape[2]))
    for start in range(0, shape[0], planes):
        part = slice(start, start + planes)
        labels, weights = [], []
        for n in range(8):
            at = [(t.high if h else t.low) for t, h in zip(tables, _corner(n), strict=True)]
            slab = source.index_select(0, at[0][part]).index_select(1, at[1])
            labels.append(slab.index_select(2, at[2]))
            w = [t.weight if h else 1 - t.weight for t, h in zip(tables, _corner(n), strict=True)]
            weights.append(w[0][part][:, None, None] * w[1][:, None] * w[2])
        out[part] = _elect(labels, weights)
    return out


def _corner(n: int) -> tuple[int, int, int]:
    return n & 4, n & 2, n & 1


def _elect(labels: list[torch.Tensor], weights: list[torch.Tensor]) -> torch.Tensor:
    best = labels[0].clone()
    most = torch.full(best.shape, -1.0, dtype=torch.float64, device=best.device)
    for label in labels:
        votes = torch.zeros_like(most)
        for other, weight in zip(labels, weights, strict=True):
            votes += torch.where(other == label, weight, 0.0)
        wins = votes > most + _TIE
        tied = ~wins & (votes > most - _TIE)
        wins |= tied & (label != 0) & ((best == 0) | (label < best))
        best, most = torch.where(wins, label, best), torch.where(wins, votes, most)
    return best


def sample_rotated(
    array: Array, matrix: Affine, shape: Shape, kind: str, fill: float, device: str
) -> Array:
    """The same for any target-to-source matrix."""
    source = _tensor(array, kind, device)
    m = torch.from_numpy(np.ascontiguousarray(matrix, np.float64)).to(device)
    count = int(np.prod(shape))
    out = torch.empty(count, dtype=source.dtype, device=device)
    for start in range(0, count, _CHUNK):
        index = torch.arange(start, min(start + _CHUNK, count), device=device)
        k, rest = index % shape[2], index // shape[2]
        target = torch.stack([rest // shape[1], rest % shape[1], k]).to(torch.float64)
        places = _snapped(m[:3, :3] @ target + m[:3, 3:])
        out[start : start + _CHUNK] = _at_places(source, places, kind, fill)
    return _array(out.view(*shape), array, kind)


def _snapped(places: torch.Tensor) -> torch.Tensor:
    doubled = torch.round(places * 2)
    return torch.where((places * 2 - doubled).abs() < 2 * _SNAP, doubled / 2, places)


def _at_places(source: torch.Tensor, places: torch.Tensor, kind: str, fill: float) -> torch.Tensor:
    last = torch.tensor(source.shape, device=source.device)[:, None] - 1
    inside = ((places >= -_EDGE) & (places <= last + _EDGE)).all(dim=0)
    held = torch.minimum(places.clamp(min=0), last.to(places.dtype))
    if kind == "nearest":
        near = torch.minimum(torch.floor(held + 0.5).long(), last)
        return torch.where(inside, source[near[0], near[1], near[2]], _fill(source, fill))
    low = torch.floor(held).long()
    high, weight = torch.minimum(low + 1, last), held - low
    labels, weights = [], []
    for n in range(8):
        at = [(high if h else low)[r] for r, h in enumerate(_corner(n))]
        w = [weight[r] if h else 1 - weight[r] for r, h in enumerate(_corner(n))]
        labels.append(source[at[0], at[1], at[2]])
        weights.append(w[0] * w[1] * w[2])
    if kind == "one_hot":
        return torch.where(inside, _elect(labels, weights), _fill(source, 0))
    total = torch.zeros_like(weights[0])
    for label, part in zip(labels, weights, strict=True):
        total += part * label
    return torch.where(inside, total.to(source.dtype), _fill(source, fill))
