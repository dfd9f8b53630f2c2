"""DICOM-RT structure sets: contours in the patient become masks on an image's grid."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom

from fusion.imaging.errors import CaseError
from fusion.imaging.io.dicom import LPS_TO_RAS
from fusion.imaging.io.dicom_header import open_dicom
from fusion.imaging.io.dicom_seg import code_of
from fusion.imaging.io.labelset import PLACE_VOXELS, Code, LabelSet, layered
from fusion.imaging.io.limits import LIMITS, Limits
from fusion.imaging.raster import fill
from fusion.imaging.volume import Array, Grid

_Points = npt.NDArray[np.float64]
#: Contours that enclose an area; the others are points and lines.
_CLOSED = frozenset({"CLOSED_PLANAR", "CLOSEDPLANAR_XOR"})
_LEAST_POINTS = 3
#: A contour may run along the edge of the outermost voxels, and a little more.
_MARGIN_VOXELS = 1.0
_MOST_CROSSINGS = 50_000_000


def read_contours(path: Path, grid: Grid, limits: Limits = LIMITS) -> LabelSet:
    """The regions of an RTSTRUCT on `grid`: voxels whose centre a contour encloses.

    Contours of one region on one slice are combined even-odd, so that an inner one is a hole; one
    that encloses no centre keeps the voxel that it lies in.

    Raises:
        CaseError: grid_conflict; a contour does not lie on a slice of `grid`, or leaves it.
    """
    dataset = open_dicom(path, limits)
    try:
        regions = {
            int(item.ROINumber): str(item.get("ROIName") or "").strip()
            for item in dataset.get("StructureSetROISequence") or ()
        }
        contours = {
            int(item.ReferencedROINumber): list(item.get("ContourSequence") or ())
            for item in dataset.get("ROIContourSequence") or ()
        }
        codes = dict(_codes(dataset))
    except Exception as error:  # a damaged element raises whatever its parser meets
        raise CaseError("unreadable", f"{path.name}: structure set: {error}") from error
    if not regions:
        raise CaseError("unreadable", f"{path.name}: no region, expected a structure set")
    if min(regions) < 0 or set(contours) - set(regions):
        stray = sorted(n for n in {*regions, *contours} if n < 0 or n not in regions)
        raise CaseError("unreadable", f"{path.name}: regions {stray} are not named, or negative")
    # 0 is the background of a label map, and an allowed number of a region.
    shift = 1 if 0 in regions else 0
    notes: dict[int, str] = {}
    masks = (
        (number + shift, _mask(contours.get(number, ()), grid, f"{path.name}: {name!r}"))
        for number, name in regions.items()
    )
    for number, items in contours.items():
        if open_kinds := sorted({_kind(item) for item in items} - _CLOSED):
            notes[number + shift] = f"{', '.join(open_kinds)}: no area"
    layers = layered(grid, masks, max(regions) + shift)
    return LabelSet(
        layers,
        {number + shift: name for number, name in regions.items()},
        {number + shift: found for number, found in codes.items()},
        notes,
    )


def _kind(item: pydicom.Dataset) -> str:
    return str(item.get("ContourGeometricType") or "").strip().upper()


def _codes(dataset: pydicom.Dataset) -> Iterator[tuple[int, tuple[Code, ...]]]:
    for item in dataset.get("RTROIObservationsSequence") or ():
        found = tuple(code_of(code) for code in item.get("RTROIIdentificationCodeSequence") or ())
        if found:
            yield int(item.ReferencedROINumber), found


def _mask(items: Any, grid: Grid, name: str) -> Array:
    out = np.zeros(grid.shape, bool, order="F")
    to_voxel = np.linalg.inv(grid.affine) @ LPS_TO_RAS
    rings: dict[tuple[int, int], list[_Points]] = {}
    for item in items:
        if _kind(item) not in _CLOSED:
            continue
        points = _points(item, name) @ to_voxel[:3, :3].T + to_voxel[:3, 3]
        axis, at = _slice(points, grid, name)
        rows, columns = (n for n in range(3) if n != axis)
        # An outline's (0, 0) is the outer corner of the first pixel; a voxel's is its centre.
        rings.setdefault((axis, at), []).append(points[:, [columns, rows]] + 0.5)
    for (axis, at), drawn in rings.items():
        crossed = sum(float(np.abs(np.diff(ring[:, 1])).sum()) for ring in drawn)
        if crossed > _MOST_CROSSINGS:
            raise CaseError("size_limit", f"{name}: its contours cross {crossed:.0f} rows")
        plane = tuple(at if n == axis else slice(None) for n in range(3))
        out[plane] |= fill(drawn, out[plane].shape)
    return out


def _points(item: pydicom.Dataset, name: str) -> _Points:
    try:
        points = np.array(item.get("ContourData") or (), float).reshape(-1, 3)
    except Exception as error:
        raise CaseError("unreadable", f"{name}: contour: {error}") from error
    if len(points) < _LEAST_POINTS or not np.isfinite(points).all():
        raise CaseError("unreadable", f"{name}: a contour of {len(points)} points, expected >= 3")
    return points


def _slice(points: _Points, grid: Grid, name: str) -> tuple[int, int]:
    """The axis that the contour is flat along, and which slice on it."""
    spans = np.ptp(points, axis=0)
    axis = int(np.argmin(spans))
    at = float(points[:, axis].mean())
    if spans[axis] > PLACE_VOXELS or abs(at - round(at)) > PLACE_VOXELS:
        raise CaseError(
            "grid_conflict",
            f"{name}: a contour at slice {at:.2f}, {spans[axis]:.2f} thick, lies on no slice of"
            " the image",
        )
    low, high = points.min(axis=0), points.max(axis=0)
    last = np.array(grid.shape) - 1
    if (
        not 0 <= round(at) <= last[axis]
        or (low < -_MARGIN_VOXELS).any()
        or (high > last + _MARGIN_VOXELS).any()
    ):
        raise CaseError("grid_conflict", f"{name}: a contour lies outside the image")
    return axis, round(at)
