"""What was done to an image, step by step, and the way back for a prediction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from fusion.imaging.volume import Affine, Array, Grid, Picture, Volume

OPS = (
    "reorient",
    "crop",
    "pad",
    "resample",
    "rescale",
    "clip",
    "cast",
    "channel",
    "frame",
)
_VALUE_OPS = frozenset({"rescale", "clip", "cast", "channel", "frame"})
Rows = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Transform:
    """One step. Affines are rows of floats, None for pictures; `params` is plain JSON.

    Params by op: reorient {axes, flips} (flips after the axes are reordered); crop {start}, in
    voxels of the input; pad {before}; resample {interpolation, ...}; rescale {slope, intercept};
    clip {low, high}; others free.
    """

    op: str
    params: Mapping[str, Any]
    shape_in: tuple[int, ...]
    shape_out: tuple[int, ...]
    affine_in: Rows | None
    affine_out: Rows | None
    dtype_in: str
    dtype_out: str
    invertible: bool

    def __post_init__(self) -> None:
        if self.op not in OPS:
            raise ValueError(f"op is {self.op!r}, expected one of {OPS}")

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON; `from_dict` is its inverse, to the last bit of the affines."""
        return asdict(self) | {
            "params": dict(self.params),
            "shape_in": list(self.shape_in),
            "shape_out": list(self.shape_out),
            "affine_in": _lists(self.affine_in),
            "affine_out": _lists(self.affine_out),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Transform:
        return cls(
            **{
                **data,
                "shape_in": tuple(data["shape_in"]),
                "shape_out": tuple(data["shape_out"]),
                "affine_in": _rows(data["affine_in"]),
                "affine_out": _rows(data["affine_out"]),
            }
        )


def record(
    op: str,
    params: Mapping[str, Any],
    before: Volume | Picture,
    after: Volume | Picture,
    *,
    invertible: bool,
) -> Transform:
    """The step that led from `before` to `after`."""
    return Transform(
        op,
        dict(params),
        before.array.shape,
        after.array.shape,
        _rows(before.grid.affine.tolist()) if isinstance(before, Volume) else None,
        _rows(after.grid.affine.tolist()) if isinstance(after, Volume) else None,
        str(before.array.dtype),
        str(after.array.dtype),
        invertible,
    )


def crop(volume: Volume, start: tuple[int, int, int], shape: tuple[int, int, int]) -> Volume:
    """The block of `shape` voxels from `start`; the world does not move."""
    block = tuple(slice(s, s + n) for s, n in zip(start, shape, strict=True))
    if min(start) < 0 or any(
        s + n > m for s, n, m in zip(start, shape, volume.grid.shape, strict=True)
    ):
        raise ValueError(f"block {start} + {shape} leaves the volume {volume.grid.shape}")
    return replace(
        volume, array=volume.array[block], grid=Grid(shape, _shifted(volume.grid.affine, start))
    )


def pad(
    volume: Volume, before: tuple[int, int, int], shape: tuple[int, int, int], fill: float = 0.0
) -> Volume:
    """`volume` inside a block of `shape`, `before` voxels from its corner; the rest is `fill`."""
    array = np.full(shape, fill, volume.array.dtype)
    inside = tuple(slice(b, b + n) for b, n in zip(before, volume.grid.shape, strict=True))
    if min(before) < 0 or array[inside].shape != volume.grid.shape:
        raise ValueError(f"{volume.grid.shape} at {before} does not fit into {shape}")
    array[inside] = volume.array
    start = (-before[0], -before[1], -before[2])
    return replace(volume, array=array, grid=Grid(shape, _shifted(volume.grid.affine, start)))


def invert(
    transforms: Iterable[Transform | Mapping[str, Any]],
    volume: Volume,
    *,
    values: bool = False,
) -> Volume:
    """Bring a prediction back: original shape and affine exactly, whatever the chain.

    Label maps (integers) come back by linear one-hot votes, floats by linear interpolation. Steps
    that changed only values are undone when `values` is set and the step can be undone.

    Raises:
        ValueError: `volume` does not have the shape that the last step gave.
    """
    steps = [s if isinstance(s, Transform) else Transform.from_dict(s) for s in transforms]
    for step in reversed(steps):
        if step.op in _VALUE_OPS:
            volume = _undo_values(step, volume) if values and step.invertible else volume
            continue
        if volume.array.shape != step.shape_out:
            raise ValueError(
                f"cannot undo {step.op}: the volume is {volume.array.shape}, expected"
                f" {step.shape_out}"
            )
        volume = _undo_place(step, volume)
    return volume


def _undo_place(step: Transform, volume: Volume) -> Volume:
    grid = _grid_in(step)
    if step.op == "reorient":
        return replace(volume, array=_undo_reorient(step, volume.array), grid=grid)
    if step.op == "crop":
        back = pad(volume, _triple(step.params["start"]), grid.shape)
        return replace(back, grid=grid)
    if step.op == "pad":
        back = crop(volume, _triple(step.params["before"]), grid.shape)
        return replace(back, grid=grid)
    from fusion.imaging.harmonise import resample  # it builds on this module

    kind = "linear" if volume.array.dtype.kind == "f" else "one_hot"
    return resample(replace(volume, grid=_grid_out(step)), grid, interpolation=kind)


def _undo_reorient(step: Transform, array: Array) -> Array:
    flips, axes = step.params["flips"], step.params["axes"]
    flipped = array[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]
    return flipped.transpose(np.argsort(axes))


def _undo_values(step: Transform, volume: Volume) -> Volume:
    array: Array = volume.array
    if step.op == "rescale":
        array = (array.astype(np.float64) - step.params["intercept"]) / step.params["slope"]
    elif step.op != "cast":
        return volume
    wanted = np.dtype(step.dtype_in)
    if wanted.kind in "ui" and array.dtype.kind == "f":
        array = np.rint(array)
    return replace(volume, array=array.astype(wanted))


def _grid_in(step: Transform) -> Grid:
    return _grid(step.shape_in, step.affine_in, step.op)


def _grid_out(step: Transform) -> Grid:
    return _grid(step.shape_out, step.affine_out, step.op)


def _grid(shape: tuple[int, ...], affine: Rows | None, op: str) -> Grid:
    if affine is None:
        raise ValueError(f"cannot undo {op}: the step holds no affine")
    return Grid(_triple(shape), np.array(affine))


def _shifted(affine: Affine, start: tuple[int, int, int]) -> Affine:
    moved = affine.copy()
    moved[:3, 3] += affine[:3, :3] @ np.array(start, float)
    return moved


def _triple(values: Iterable[int]) -> tuple[int, int, int]:
    a, b, c = values
    return int(a), int(b), int(c)


def _rows(affine: Any) -> Rows | None:
    return None if affine is None else tuple(tuple(float(v) for v in row) for row in affine)


def _lists(affine: Rows | None) -> list[list[float]] | None:
    return None if affine is None else [list(row) for row in affine]
