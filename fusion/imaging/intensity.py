"""What intensities mean: the unit of a CT, the foreground of an MR, numbers to normalise by."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk  # noqa: N813

from fusion.imaging.parallel import elementwise
from fusion.imaging.transforms import Transform, record
from fusion.imaging.volume import Array, Volume, every

#: Air, and below it nothing that a scanner measures.
LOWEST_HU = -1024
_AIR_SEEN = -200.0
_BEYOND_WINDOWS = 1500
_EIGHT_BITS = 255
_CLIP = (0.5, 99.5)
_SAMPLED = 1 << 20
#: A value that this share of the voxels holds, and nothing lies below, is what masking left.
_MASKED_SHARE = 0.2


def strided(array: Array, most: int = _SAMPLED) -> Array:
    """At most `most` values of `array`, evenly spread, in memory order; always the same ones."""
    step = max(1, math.ceil(array.size / most))
    # An odd step does not walk along one column of an even-sized grid.
    return every(array, step + (step > 1 and step % 2 == 0))


def ct_unit(volume: Volume) -> tuple[str, str]:
    """The unit of a CT, and the values that say so: hu, offset, windowed or unknown.

    hu: the header says so, or the 1st percentile lies below -200. offset: nothing is negative and
    something is above 1500 (air may be 0: an intercept of -1024 is missing). windowed: whole
    numbers from 0 to 255. Else unknown, such as a tight crop without air.
    """
    low, high = float(volume.array.min()), float(volume.array.max())
    first = float(np.percentile(strided(volume.array), 1))
    seen = f"min {low:g}, p1 {first:g}, max {high:g}"
    if volume.unit == "hu":
        return "hu", f"{seen}, unit from the header"
    if first < _AIR_SEEN:
        return "hu", seen
    if low >= 0 and high > _BEYOND_WINDOWS:
        return "offset", seen
    if low >= 0 and high <= _EIGHT_BITS and _is_whole(volume.array):
        return "windowed", seen
    return "unknown", seen


def rescale(volume: Volume, slope: float, intercept: float) -> tuple[Volume, Transform]:
    """`array * slope + intercept` as float32, or int32 where both are whole and so are voxels."""
    whole = volume.array.dtype.kind in "iu" and slope == int(slope) and intercept == int(intercept)
    if whole:
        array: Array = volume.array.astype(np.int32) * int(slope) + int(intercept)
    else:
        array = volume.array.astype(np.float32) * np.float32(slope) + np.float32(intercept)
    scaled = volume.with_array(array)
    params = {"slope": slope, "intercept": intercept}
    return scaled, record("rescale", params, volume, scaled, invertible=True)


def as_hounsfield(volume: Volume) -> tuple[Volume, list[Transform]]:
    """A CT in HU as int16: nothing below -1024, fractions rounded; each change is a step."""
    steps = []
    is_low = volume.array.min() < LOWEST_HU
    below = int(np.count_nonzero(volume.array < LOWEST_HU)) if is_low else 0
    over = np.iinfo(np.int16).max
    if below or volume.array.max() > over:
        clipped = volume.with_array(np.clip(volume.array, LOWEST_HU, over))
        params = {"low": LOWEST_HU, "high": over, "voxels_below": below}
        steps.append(record("clip", params, volume, clipped, invertible=False))
        volume = clipped
    if volume.array.dtype != np.int16:
        whole = volume.array.dtype.kind in "iu" or _is_whole(volume.array)
        rounded = elementwise(lambda part: part if whole else np.rint(part), volume.array, np.int16)
        stored = volume.with_array(rounded)
        params = {"rounded": not whole}
        steps.append(record("cast", params, volume, stored, invertible=whole))
        volume = stored
    return replace(volume, unit="hu"), steps


def _is_whole(array: Array) -> bool:
    slowest = int(np.argmax(np.abs(array.strides)))
    parts = np.moveaxis(array, slowest, 0)  # most images show a fraction in the first
    return array.dtype.kind in "iub" or all((part == np.rint(part)).all() for part in parts)


def foreground(array: Array) -> tuple[npt.NDArray[np.bool_], str]:
    """Voxels that show the body, and the rule that found them.

    Where a fifth or more of the voxels hold one and the same smallest value (or exactly 0, in an
    image that was already normalised), the background was masked out: all others. Else those
    above Otsu's threshold.
    """
    sampled = strided(array)
    values, counts = np.unique(sampled, return_counts=True)
    usual = values[counts.argmax()]
    if counts.max() >= _MASKED_SHARE * sampled.size and usual in (values[0], 0):
        return array != usual, f"not {usual:g}"
    image = sitk.GetImageFromArray(sampled.astype(np.float32)[None, :])
    otsu = sitk.OtsuThresholdImageFilter()
    otsu.Execute(image)
    threshold = float(otsu.GetThreshold())
    return array > threshold, f"above Otsu's {threshold:g}"


def z_score(array: Array) -> dict[str, Any]:
    """Numbers to normalise an image by: clip to `low`..`high`, subtract `mean`, divide by `std`.

    All over the foreground; `low` and `high` are the 0.5th and 99.5th percentile, `mean` and
    `std` are taken after the clip.
    """
    mask, rule = foreground(array)
    inside = strided(array[mask] if mask.any() else array).astype(np.float64)
    low, high = np.percentile(inside, _CLIP)
    clipped = np.clip(inside, low, high)
    return {
        "low": _round(low),
        "high": _round(high),
        "mean": _round(clipped.mean()),
        "std": _round(clipped.std() or 1.0),
        "foreground": rule,
    }


def pooled(samples: list[npt.NDArray[Any]]) -> dict[str, Any]:
    """The same numbers over the samples of several images, each image counting alike."""
    values = np.concatenate([one.astype(np.float64) for one in samples])
    weights = np.concatenate([np.full(len(one), 1 / len(one)) for one in samples])
    order = np.argsort(values, kind="stable")
    share = np.cumsum(weights[order]) / weights.sum()
    last = len(values) - 1
    low, high = (
        float(values[order][min(int(np.searchsorted(share, p / 100)), last)]) for p in _CLIP
    )
    clipped = np.clip(values, low, high)
    mean = float(np.average(clipped, weights=weights))
    variance = float(np.average((clipped - mean) ** 2, weights=weights))
    std = math.sqrt(variance) or 1.0
    return {"low": _round(low), "high": _round(high), "mean": _round(mean), "std": _round(std)}


def _round(value: float) -> float:
    """Seven digits: sums over threads and machines differ beyond them."""
    return float(f"{float(value):.7g}")
