"""DICOM: a folder that holds one series, or one file. LPS is turned to RAS here, nowhere else."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.errors import InvalidDicomError

from fusion.imaging.errors import CaseError
from fusion.imaging.io.limits import LIMITS, Limits
from fusion.imaging.io.nifti import rescaled
from fusion.imaging.volume import Affine, Array, Grid, Picture, Volume

_DEFLATED = "1.2.840.10008.1.2.1.99"
#: Largest relative spread of slice steps, and of the sideways drift of a tilted gantry.
STEP_SPREAD = 0.05
_DIRECTION_TOLERANCE = 1e-3
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_MAX_FILES = 8_192


def read_series(folder: Path, limits: Limits = LIMITS) -> Volume:
    """The volume of the one series in `folder` (files *.dcm, any order).

    Raises:
        CaseError: geometry_irregular for doubled, missing or unevenly spaced slices.
    """
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".dcm")
    if not files:
        raise CaseError("unreadable", f"{folder.name}: no .dcm file in this folder")
    if len(files) > _MAX_FILES:
        raise CaseError("size_limit", f"{folder.name}: {len(files)} files, limit {_MAX_FILES}")
    headers = [_header(path, limits) for path in files]
    _check_series(folder.name, headers)
    order, affine = _stack(folder.name, headers)
    rows, columns = int(headers[0].Rows), int(headers[0].Columns)
    limits.check_shape(folder.name, (columns, rows, len(files)), 4)
    slices = [_values(files[at], headers[at]) for at in order]
    array = np.stack([one.T for one in slices], axis=-1)
    grid = Grid((columns, rows, len(files)), affine)
    return Volume(array, grid, "dicom", unit=_unit(headers[0]))


def read_dicom_file(path: Path, limits: Limits = LIMITS) -> Volume | Picture:
    """One file: a one-slice volume where it has a place in the patient, else a picture."""
    header = _header(path, limits)
    limits.check_shape(path.name, (int(header.Rows), int(header.Columns)), 4)
    array = _values(path, header)
    if "ImagePositionPatient" in header and array.ndim == 2:  # noqa: PLR2004
        _, affine = _stack(path.name, [header])
        grid = Grid((array.shape[1], array.shape[0], 1), affine)
        return Volume(array.T[..., None], grid, "dicom", unit=_unit(header))
    if header.get("PhotometricInterpretation") == "MONOCHROME1":
        array = array.max() + array.min() - array
    return Picture(array, bits=int(header.get("BitsStored", 8)))


def _header(path: Path, limits: Limits) -> pydicom.Dataset:
    limits.check_file(path)
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True)
        syntax = str(header.file_meta.TransferSyntaxUID)
        needed = (header.Rows, header.Columns, header.BitsAllocated)
    except (InvalidDicomError, AttributeError, OSError, ValueError, KeyError) as error:
        raise CaseError("unreadable", f"{path.name}: not a DICOM image: {error}") from error
    if syntax == _DEFLATED:
        raise CaseError("unreadable", f"{path.name}: deflated transfer syntax is refused")
    if None in needed or int(header.get("NumberOfFrames") or 1) != 1:
        frames = header.get("NumberOfFrames")
        raise CaseError("unreadable", f"{path.name}: {frames} frames, expected one image a file")
    return header


def _check_series(name: str, headers: list[pydicom.Dataset]) -> None:
    for tag in ("SeriesInstanceUID", "Rows", "Columns", "SamplesPerPixel"):
        found = Counter(str(header.get(tag, "")) for header in headers)
        if len(found) != 1:
            raise CaseError("unreadable", f"{name}: {tag} differs in one folder: {dict(found)}")
    if int(headers[0].get("SamplesPerPixel", 1)) != 1:
        raise CaseError("dtype_refused", f"{name}: colour slices, expected grey")
    counts = Counter(str(header.get("SOPInstanceUID", "")) for header in headers)
    if doubled := [uid for uid, count in counts.items() if count > 1]:
        raise CaseError(
            "geometry_irregular", f"{name}: SOPInstanceUID {doubled[0]} occurs more than once"
        )


def _stack(name: str, headers: list[pydicom.Dataset]) -> tuple[list[int], Affine]:
    """Order along the normal, and the affine; from positions, never from SliceThickness."""
    try:
        directions = np.array([h.ImageOrientationPatient for h in headers], float)
        positions = np.array([h.ImagePositionPatient for h in headers], float)
        spacing = np.array([h.PixelSpacing for h in headers], float)
    except (AttributeError, TypeError, ValueError) as error:
        raise CaseError("no_geometry", f"{name}: {error}") from error
    if np.ptp(directions, axis=0).max() > _DIRECTION_TOLERANCE:
        raise CaseError("geometry_irregular", f"{name}: slices are not parallel")
    if np.ptp(spacing, axis=0).max() > _DIRECTION_TOLERANCE * spacing.max():
        raise CaseError("geometry_irregular", f"{name}: PixelSpacing differs between slices")
    along_row, along_column = directions[0, :3], directions[0, 3:]
    normal = np.cross(along_row, along_column)
    order = np.argsort(positions @ normal, kind="stable")
    step = _step(name, positions[order], normal, headers[0])
    affine = np.eye(4)
    affine[:3, 0] = along_row * spacing[0, 1]
    affine[:3, 1] = along_column * spacing[0, 0]
    affine[:3, 2] = step
    affine[:3, 3] = positions[order[0]]
    return order.tolist(), _LPS_TO_RAS @ affine


def _step(name: str, positions: Array, normal: Array, header: pydicom.Dataset) -> Array:
    if len(positions) == 1:
        stated = header.get("SpacingBetweenSlices") or header.get("SliceThickness") or 1.0
        return normal * abs(float(stated))
    steps = np.diff(positions, axis=0)
    along = steps @ normal
    usual = float(np.median(along))
    if usual <= 0 or along.min() < STEP_SPREAD * usual:
        raise CaseError("geometry_irregular", f"{name}: two slices {along.min():.3g} mm apart")
    if along.max() - along.min() > STEP_SPREAD * usual:
        raise CaseError(
            "geometry_irregular",
            f"{name}: slice steps run from {along.min():.4g} to {along.max():.4g} mm; is a slice"
            " missing?",
        )
    mean: Array = (positions[-1] - positions[0]) / (len(positions) - 1)
    drift = float(np.linalg.norm(mean - (mean @ normal) * normal))
    if drift > STEP_SPREAD * usual:
        raise CaseError("geometry_irregular", f"{name}: tilted gantry, {drift:.3g} mm per slice")
    return mean


def _values(path: Path, header: pydicom.Dataset) -> Array:
    try:
        pixels: Array = pydicom.dcmread(path).pixel_array
    except Exception as error:  # decoders of eight syntaxes raise what they like
        raise CaseError("unreadable", f"{path.name}: pixels: {error}") from error
    expected = (int(header.Rows), int(header.Columns))
    if pixels.shape[:2] != expected:
        raise CaseError("unreadable", f"{path.name}: pixels are {pixels.shape}, header {expected}")
    slope = _number(header, "RescaleSlope", 1.0)
    return rescaled(pixels, slope or 1.0, _number(header, "RescaleIntercept", 0.0))


def _number(header: pydicom.Dataset, tag: str, default: float) -> float:
    value: Any = header.get(tag)
    number = default if value in (None, "") else float(value)
    return number if np.isfinite(number) else default


def _unit(header: pydicom.Dataset) -> str:
    stated = str(header.get("RescaleType", "")).upper() == "HU"
    shifted = header.get("Modality") == "CT" and _number(header, "RescaleIntercept", 0.0) != 0
    return "hu" if stated or shifted else "unknown"
