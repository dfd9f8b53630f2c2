"""How well a predicted mask fits: overlap, surface, lesions and volume of one structure."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from monai.metrics.panoptic_quality import compute_panoptic_quality
from monai.metrics.surface_dice import compute_surface_dice
from scipy import ndimage

from fusion.baseline.results import MaskScore

Mask = npt.NDArray[np.bool_]
_TOLERANCE_MM = 2.0
_LESION_IOU = 0.1


def mask_score(
    predicted: Mask,
    reference: Mask,
    spacing: Sequence[float],
    *,
    has_mm: bool,
    is_lesion: bool,
) -> MaskScore:
    """Scores of one structure in one case.

    Args:
        predicted: (N, ...): planes of a volume, one picture or one volume; with N > 1 or a
            volume all figures are of the whole volume.
        reference: the same.
        spacing: of each axis, mm; pixels without `has_mm`.
        has_mm: else the tolerance of surfaces is one pixel, and volumes are counts of pixels.
        is_lesion: whether single findings are counted.
    """
    if len(predicted) == 1:
        predicted, reference, spacing = predicted[0], reference[0], spacing[1:]
    unit = float(np.prod(spacing))
    sizes = int(predicted.sum()), int(reference.sum())
    dice, nsd = (None, None) if not any(sizes) else (0.0, 0.0)
    if all(sizes):
        dice = 2 * int((predicted & reference).sum()) / sum(sizes)
        coarsest = max(spacing)
        tolerance = max(_TOLERANCE_MM, coarsest) if has_mm else coarsest
        nsd = surface_dice(predicted, reference, spacing, tolerance)
    found = lesions(predicted, reference) if is_lesion else None
    return MaskScore(dice, nsd, found, sizes[1] * unit, sizes[0] * unit)


def surface_dice(
    predicted: Mask, reference: Mask, spacing: Sequence[float], tolerance: float
) -> float:
    """Normalised surface Dice by MONAI, on the box that holds both structures."""
    box = ndimage.find_objects((predicted | reference).astype(np.uint8))[0]
    around = [1] * predicted.ndim  # so that a structure at the box's edge has a surface there
    first, second = (
        torch.from_numpy(np.pad(mask[box], [(one, one) for one in around]))[None, None]
        for mask in (predicted, reference)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of MONAI about an argument of its own
        score = compute_surface_dice(
            first,
            second,
            [tolerance * (1 + 1e-6)],
            include_background=True,
            spacing=list(spacing),
        )
    return float(score)


def lesions(predicted: Mask, reference: Mask) -> tuple[int, int, int]:
    """True positives, false positives and misses of connected parts, paired at IoU > 0.1."""
    whole = np.ones((3,) * predicted.ndim)  # parts that touch at a corner are one
    (found, n_found), (true, n_true) = (
        ndimage.label(mask, structure=whole) for mask in (predicted, reference)
    )
    if not n_found or not n_true:
        return 0, n_found, n_true
    counts = compute_panoptic_quality(
        torch.from_numpy(found),
        torch.from_numpy(true),
        match_iou_threshold=_LESION_IOU,
        output_confusion_matrix=True,
    )
    hits, false, missed = (int(n) for n in counts[:3])
    return hits, false, missed
