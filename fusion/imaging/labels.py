"""Label values: read safely, mapped to concepts, never invented."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from fusion.imaging.errors import CaseError
from fusion.imaging.volume import Array

#: Floats this close to an integer are that integer (0.99999997 is stored where 1 was meant).
INTEGER_TOLERANCE = 1e-3
_MAX_LABEL = 65_535
_MAX_NAMED = 8


def as_integers(array: Array) -> Array:
    """The label values as uint8 or uint16, whichever holds them.

    Raises:
        CaseError: dtype_refused for fractions, negatives, NaN or values over 65,535.
    """
    if array.dtype == bool:
        return array.astype(np.uint8)
    if array.dtype.kind not in "uif":
        raise CaseError("dtype_refused", f"labels are {array.dtype}, expected integers")
    low, high = (array.min(), array.max()) if array.size else (0, 0)
    if not (low >= -INTEGER_TOLERANCE and high <= _MAX_LABEL + INTEGER_TOLERANCE):
        raise CaseError("dtype_refused", f"label values span {low} to {high}, expected 0 to 65535")
    kind = np.uint8 if high < 255.5 else np.uint16  # noqa: PLR2004
    if array.dtype.kind != "f":
        return array.astype(kind, copy=False)
    rounded = np.rint(array)
    if (worst := float(np.abs(array - rounded).max(initial=0))) > INTEGER_TOLERANCE:
        example = array[np.abs(array - rounded) > INTEGER_TOLERANCE].flat[0]
        raise CaseError(
            "dtype_refused",
            f"label values such as {example} are up to {worst:.3g} from an integer; are these"
            " probabilities?",
        )
    return rounded.astype(kind)


def value_counts(labels: Array, size: int = 0) -> npt.NDArray[np.int64]:
    """Voxels of each value 0, 1, .. of unsigned `labels`; at least `size` numbers."""
    from fusion.imaging.label_kernels import count  # compiled: not for web processes

    counts = count(labels)
    return np.pad(counts, (0, max(0, size - len(counts))))


def remap(labels: Array, table: Mapping[int, int]) -> Array:
    """Replace every value by `table[value]`: uint8, or uint16 when a new value needs it.

    Background 0 stays 0 unless the table says otherwise.

    Raises:
        CaseError: label_unmapped, with the values and how many voxels hold each.
    """
    table = {0: 0, **table}
    if (wrong := [v for v in table.values() if not 0 <= v <= _MAX_LABEL]) != []:
        raise ValueError(f"new label values {wrong} are outside 0 to {_MAX_LABEL}")
    values = as_integers(labels)
    from fusion.imaging.label_kernels import look_up  # compiled: not for web processes

    counts = value_counts(values)
    unmapped = [int(v) for v in np.flatnonzero(counts) if int(v) not in table]
    if unmapped:
        shown = ", ".join(f"{v} ({counts[v]} voxels)" for v in unmapped[:_MAX_NAMED])
        more = f" and {len(unmapped) - _MAX_NAMED} more" if len(unmapped) > _MAX_NAMED else ""
        raise CaseError("label_unmapped", f"values {shown}{more} are not in the mapping")
    kind = np.uint8 if max(table.values()) < 256 else np.uint16  # noqa: PLR2004
    lookup = np.zeros(len(counts), kind)
    for old, new in table.items():
        if 0 <= old < len(lookup):
            lookup[old] = new
    return look_up(lookup, values)


def from_probabilities(maps: Sequence[Array], scale: float) -> Array:
    """The likeliest class per voxel, 0..n; what the maps leave over is background.

    Args:
        maps: n arrays of one shape, each 0..`scale`.
        scale: the stored value that means certainty, such as 255.
    """
    if not maps or any(one.shape != maps[0].shape for one in maps):
        raise CaseError("grid_conflict", f"probability maps are {[m.shape for m in maps]}")
    best = np.full(maps[0].shape, scale, np.float32)
    for one in maps:
        best -= one
    np.maximum(best, 0, out=best)
    labels = np.zeros(maps[0].shape, np.uint8 if len(maps) < 256 else np.uint16)  # noqa: PLR2004
    for value, one in enumerate(maps, start=1):
        better = one > best
        labels[better] = value
        best = np.where(better, one, best)
    return labels


def binarise(array: Array, threshold: float, channel: int = 0) -> Array:
    """1 where the chosen channel is above `threshold`, else 0: uint8 (H, W).

    Alpha never counts: it is 255 everywhere in masks that were saved as RGBA.
    """
    if array.ndim == 3:  # noqa: PLR2004
        colours = {1: 1, 2: 1, 3: 3, 4: 3}.get(array.shape[2], 0)
        if not 0 <= channel < colours:
            raise CaseError("dtype_refused", f"channel {channel} of a mask of {array.shape}")
        array = array[..., channel]
    return (array > threshold).astype(np.uint8)
