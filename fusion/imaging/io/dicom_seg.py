"""DICOM segmentations (binary, fractional, label map) through highdicom."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fusion.imaging.errors import CaseError
from fusion.imaging.io.dicom import LPS_TO_RAS
from fusion.imaging.io.dicom_header import open_image
from fusion.imaging.io.labelset import Code, LabelSet, layered, moved_onto
from fusion.imaging.io.limits import LIMITS, Limits
from fusion.imaging.volume import Array, Grid

_HALF = 0.5


def read_segmentation(path: Path, grid: Grid | None = None, limits: Limits = LIMITS) -> LabelSet:
    """The segments of a DICOM-SEG, placed by the positions of its own frames.

    A fraction of one half or more counts as the structure.

    Args:
        path: the file.
        grid: the image's grid. Where the segmentation shares its voxels the result lies on it;
            else, and without it, on the smallest grid that holds the segmentation's frames.
        limits: bounds held before memory is asked for.

    Raises:
        CaseError: grid_conflict, when a segment reaches out of `grid`; geometry_irregular, when
            its frames are no regular volume.
    """
    # Takes half a second; images need none of it.
    from highdicom.seg import Segmentation

    dataset = open_image(path, limits, pixels=True)
    try:
        segmentation = Segmentation.from_dataset(dataset, copy=False)
        found = {n: segmentation.get_segment_description(n) for n in segmentation.segment_numbers}
        place = segmentation.get_volume_geometry(allow_missing_positions=True)
        names = {int(n): str(one.segment_label) for n, one in found.items()}
        codes = {int(n): _codes(one) for n, one in found.items()}
    except Exception as error:  # the library refuses what breaks the standard in many ways
        raise CaseError("unreadable", f"{path.name}: segmentation: {error}") from error
    if place is None:
        raise CaseError("geometry_irregular", f"{path.name}: its frames are no regular volume")
    own = _grid(place)
    limits.check_shape(path.name, own.shape, 2)
    names.pop(0, None)  # the background of a label map is no structure
    target = own
    masks = _masks(segmentation, names, own, path.name)
    if grid is not None and moved_onto(np.zeros(own.shape, bool), own, grid, path.name) is not None:
        target = grid
        masks = ((n, _moved(mask, own, grid, path.name)) for n, mask in masks)
    return LabelSet(layered(target, masks, max(names, default=0)), names, codes)


def _moved(mask: Array, own: Grid, grid: Grid, name: str) -> Array:
    moved = moved_onto(mask, own, grid, name)
    assert moved is not None  # noqa: S101 - the caller asked before
    return moved


def _grid(place: Any) -> Grid:
    """Highdicom counts (slice, row, column) in LPS; ours are (column, row, slice) in RAS."""
    k, j, i = (int(n) for n in place.spatial_shape)
    affine = LPS_TO_RAS @ np.asarray(place.affine, float)[:, [2, 1, 0, 3]]
    return Grid((i, j, k), affine)


def _masks(
    segmentation: Any, names: dict[int, str], own: Grid, name: str
) -> Iterator[tuple[int, Array]]:
    for number in names:
        try:
            volume = segmentation.get_volume(segment_numbers=[number], skip_overlap_checks=True)
        except MemoryError as error:
            raise CaseError("size_limit", f"{name}: segment {number}: out of memory") from error
        except Exception as error:
            raise CaseError("unreadable", f"{name}: segment {number}: {error}") from error
        mask: Array = np.asarray(volume.array)[..., 0].T >= _HALF
        if mask.shape != own.shape:
            raise CaseError(
                "unreadable", f"{name}: segment {number} is {mask.shape}, the volume {own.shape}"
            )
        yield number, mask


def _codes(described: Any) -> tuple[Code, ...]:
    """Property type, its modifiers, then regions with theirs; the category says nothing of use."""
    types = list(described.get("SegmentedPropertyTypeCodeSequence") or ())
    regions = list(described.get("AnatomicRegionSequence") or ())
    found = []
    for item in (*types, *regions):
        found.append(code_of(item))
        for keyword in (
            "SegmentedPropertyTypeModifierCodeSequence",
            "AnatomicRegionModifierSequence",
        ):
            found += [code_of(side) for side in item.get(keyword) or ()]
    return tuple(found)


def code_of(item: Any) -> Code:
    """One item of a code sequence, its value as short, long or URN text."""
    value = item.get("CodeValue") or item.get("LongCodeValue") or item.get("URNCodeValue") or ""
    scheme = str(item.get("CodingSchemeDesignator") or "")
    return Code(scheme, str(value), str(item.get("CodeMeaning") or ""))
