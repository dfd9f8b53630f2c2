"""DICOM: a folder that holds one series, or one file. LPS is turned to RAS here, nowhere else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom

from fusion.imaging.errors import CaseError
from fusion.imaging.io.dicom_header import facts_of, is_dicom, number, open_image, refusing
from fusion.imaging.io.dicom_pixels import (
    frames_of,
    has_modality_lut,
    picture_pixels,
    suv_factor,
    through_modality_lut,
)
from fusion.imaging.io.limits import LIMITS, Limits, pick
from fusion.imaging.io.nifti import rescaled
from fusion.imaging.volume import Affine, Array, Grid, Picture, Volume

#: Largest relative spread of slice steps, and of the sideways drift of a tilted gantry.
STEP_SPREAD = 0.05
_DIRECTION_TOLERANCE = 1e-3
_PLACE_DECIMALS = 3
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_MAX_FILES = 8_192
#: What may tell the volumes of one series apart, in this order; each volume has one value.
_APART = (
    "TemporalPositionIdentifier",
    "EchoTime",
    "EchoNumbers",
    "DiffusionBValue",
    "InversionTime",
    "FlipAngle",
    "AcquisitionNumber",
    "ImageType",
)
#: Times that differ from slice to slice; their order within each place counts.
_TIMES = ("TriggerTime",)
#: So many files, each with a series UID of its own, are one series whose UIDs were made anew.
_MANY_UIDS = 3
_Floats = npt.NDArray[np.float64]


def read_series(folder: Path, limits: Limits = LIMITS, *, channel: int | None = None) -> Volume:
    """The volume of the one series in `folder`, its files in any order and of any name.

    `channel` takes one of several volumes at one place: time points, echoes, phases, b values.

    Raises:
        CaseError: geometry_irregular for doubled, missing or unevenly spaced slices.
    """
    with refusing(folder.name):
        return _read_series(folder, limits, channel)


def _read_series(folder: Path, limits: Limits, channel: int | None) -> Volume:
    files = _dicom_files(folder)
    if len(files) == 1:
        alone = read_dicom_file(files[0], limits, channel=channel)
        if isinstance(alone, Volume):
            return alone
    headers, planes, chosen = _sorted_out(folder.name, files, limits, channel)
    order, affine = stack(folder.name, [planes[at] for at in chosen])
    shape = (int(headers[0].Columns), int(headers[0].Rows), len(chosen))
    limits.check_shape(folder.name, shape, 4)
    slices = []
    for at in (chosen[n] for n in order):
        dataset = open_image(files[at], limits, pixels=True)
        slices.append(_scaled(dataset, planes[at], _frames(dataset, files[at].name, [0])[0]))
    array = np.stack([one.T for one in slices], axis=-1)
    used = [headers[at] for at in chosen]
    return _placed(array, Grid(shape, affine), used, planes[chosen[0]])


def slice_names(folder: Path, limits: Limits = LIMITS, *, channel: int | None = None) -> list[str]:
    """Name of the file of each slice, along the last axis of what `read_series` gives."""
    with refusing(folder.name):
        files = _dicom_files(folder)
        _, planes, chosen = _sorted_out(folder.name, files, limits, channel)
        order, _ = stack(folder.name, [planes[at] for at in chosen])
        return [files[chosen[n]].name for n in order]


def _sorted_out(
    name: str, files: list[Path], limits: Limits, channel: int | None
) -> tuple[list[pydicom.Dataset], list[Plane], list[int]]:
    """Headers and planes of all files, and which of them are the volume `channel`."""
    headers = [_single(path, limits) for path in files]
    _check_series(name, headers)
    planes = [_plane(name, header, None, None) for header in headers]
    volumes, tag = _volumes(name, headers, planes)
    along = f"volumes at the same place, told apart by {tag}" if tag else "volume"
    return headers, planes, volumes[pick(name, len(volumes), channel, along=along)]


def _volumes(
    name: str, headers: Sequence[pydicom.Dataset], planes: Sequence[Plane]
) -> tuple[list[list[int]], str]:
    """File numbers of each volume of a series, and the tag that tells them apart.

    Several slices at every place are time points, echoes, phases: one tag must tell which slice
    belongs to which volume.

    Raises:
        CaseError: geometry_irregular, when no tag does.
    """
    at_place = _by_place(planes)
    counts = {len(files) for files in at_place}
    if len(counts) != 1 or counts == {1}:
        return [list(range(len(planes)))], ""
    count = counts.pop()
    for tag in _APART:
        values = [_sortable(header.get(tag)) for header in headers]
        by_value = {
            value: [at for at, one in enumerate(values) if one == value] for value in set(values)
        }
        each = [sorted(values[at] for at in files) for files in at_place]
        if len(by_value) == count and all(len(set(one)) == count for one in each):
            return [by_value[value] for value in sorted(by_value)], tag
    for tag in _TIMES:  # the same phase of the heart is not the same millisecond in each slice
        values = [_sortable(header.get(tag)) for header in headers]
        if all(len({values[at] for at in files}) == count for files in at_place):
            ranked = [sorted(files, key=lambda at: values[at]) for files in at_place]
            return [[files[rank] for files in ranked] for rank in range(count)], tag
    raise CaseError(
        "geometry_irregular",
        f"{name}: {count} slices at each place, and none of {', '.join((*_APART, *_TIMES))} tells"
        " them apart",
    )


def _sortable(value: Any) -> tuple[float, str]:
    text = "" if value is None else str(value)
    try:
        return float(text), ""
    except ValueError:
        return 0.0, text


def _by_place(planes: Sequence[Plane]) -> list[list[int]]:
    """Numbers of the planes at each place, in order of their first."""
    found: dict[tuple[float, ...], list[int]] = {}
    for index, plane in enumerate(planes):
        key = tuple((np.round(plane.position, _PLACE_DECIMALS) + 0.0).tolist())
        found.setdefault(key, []).append(index)
    return list(found.values())


def read_dicom_file(
    path: Path, limits: Limits = LIMITS, *, channel: int | None = None
) -> Volume | Picture:
    """One file: a volume where its frames have a place in the patient, else a picture.

    `channel` takes one of several volumes (echoes, phases), or one frame of a cine loop.
    """
    with refusing(path.name):
        return _read_file(path, limits, channel)


def _read_file(path: Path, limits: Limits, channel: int | None) -> Volume | Picture:
    header = open_image(path, limits)
    frames = int(header.get("NumberOfFrames") or 1)
    planes = _planes(path.name, header, frames)
    if planes is None or int(header.get("SamplesPerPixel") or 1) > 1:
        taken = pick(path.name, frames, channel, along="frames")
        dataset = open_image(path, limits, pixels=True)
        array = _frames(dataset, path.name, [taken])[0]
        bits = int(header.get("BitsStored") or 8)
        return Picture(picture_pixels(dataset, array, path.name), bits, _flags(header, path.name))
    volumes = _by_channel(header, planes)
    chosen = volumes[pick(path.name, len(volumes), channel)]
    order, affine = stack(path.name, [planes[at] for at in chosen])
    shape = (int(header.Columns), int(header.Rows), len(chosen))
    limits.check_shape(path.name, shape, 4)
    dataset = open_image(path, limits, pixels=True)
    indices = [chosen[at] for at in order]
    values = [
        _scaled(dataset, planes[at], frame)
        for at, frame in zip(indices, _frames(dataset, path.name, indices), strict=True)
    ]
    array = np.stack([one.T for one in values], axis=-1)
    return _placed(array, Grid(shape, affine), [header], planes[chosen[0]])


def _dicom_files(folder: Path) -> list[Path]:
    files = sorted(path for path in folder.iterdir() if path.is_file())
    named = [path for path in files if path.suffix.lower() == ".dcm"]
    files = named or [path for path in files if path.name != "DICOMDIR" and is_dicom(path)]
    if not files:
        raise CaseError("unreadable", f"{folder.name}: no .dcm file in this folder")
    if len(files) > _MAX_FILES:
        raise CaseError("size_limit", f"{folder.name}: {len(files)} files, limit {_MAX_FILES}")
    return files


def _single(path: Path, limits: Limits) -> pydicom.Dataset:
    header = open_image(path, limits)
    if (frames := int(header.get("NumberOfFrames") or 1)) != 1:
        raise CaseError("unreadable", f"{path.name}: {frames} frames, expected one image a file")
    return header


def _check_series(name: str, headers: list[pydicom.Dataset]) -> None:
    for tag in ("SeriesInstanceUID", "Rows", "Columns", "SamplesPerPixel"):
        found = Counter(str(header.get(tag, "")) for header in headers)
        anew = tag == "SeriesInstanceUID" and len(found) == len(headers) >= _MANY_UIDS
        if len(found) != 1 and not anew:
            raise CaseError("unreadable", f"{name}: {tag} differs in one folder: {dict(found)}")
    if int(headers[0].get("SamplesPerPixel") or 1) != 1:
        raise CaseError("dtype_refused", f"{name}: colour slices, expected grey")
    counts = Counter(str(header.get("SOPInstanceUID", "")) for header in headers)
    if doubled := [uid for uid, count in counts.items() if count > 1]:
        raise CaseError(
            "geometry_irregular", f"{name}: SOPInstanceUID {doubled[0]} occurs more than once"
        )


@dataclass(frozen=True)
class Plane:
    """Where one frame lies (LPS, mm), and what its values are multiplied with."""

    orientation: _Floats
    position: _Floats
    spacing: _Floats  # between rows, between columns
    thickness: float
    slope: float = 1.0
    intercept: float = 0.0
    rescale_type: str = ""


def _planes(name: str, header: pydicom.Dataset, frames: int) -> list[Plane] | None:
    """One plane a frame; None where the frames have no place in the patient."""
    per_frame = list(header.get("PerFrameFunctionalGroupsSequence") or ())
    if not per_frame:
        has_place = frames == 1 and "ImagePositionPatient" in header
        return [_plane(name, header, None, None)] if has_place else None
    if len(per_frame) != frames:
        raise CaseError(
            "unreadable", f"{name}: {frames} frames, but {len(per_frame)} frame descriptions"
        )
    shared = next(iter(header.get("SharedFunctionalGroupsSequence") or ()), None)
    if _group("PlanePositionSequence", per_frame[0], shared) is None:
        return None
    return [_plane(name, header, frame, shared) for frame in per_frame]


def _group(
    keyword: str, frame: pydicom.Dataset | None, shared: pydicom.Dataset | None
) -> pydicom.Dataset | None:
    """A functional group's one item: the frame's own, else the one that all frames share."""
    for groups in (frame, shared):
        for item in (groups.get(keyword) or ()) if groups is not None else ():
            found: pydicom.Dataset = item
            return found
    return None


def _plane(
    name: str,
    header: pydicom.Dataset,
    frame: pydicom.Dataset | None,
    shared: pydicom.Dataset | None,
) -> Plane:
    """The plane of a frame by its functional groups, or of a whole classic image."""

    def of(keyword: str) -> pydicom.Dataset:
        return header if frame is None else (_group(keyword, frame, shared) or header)

    measures, values = of("PixelMeasuresSequence"), of("PixelValueTransformationSequence")
    try:
        orientation = np.array(of("PlaneOrientationSequence").ImageOrientationPatient, float)
        position = np.array(of("PlanePositionSequence").ImagePositionPatient, float)
        spacing = np.array(measures.PixelSpacing, float)
    except Exception as error:
        raise CaseError("no_geometry", f"{name}: {error}") from error
    sizes = (orientation.shape, position.shape, spacing.shape)
    finite = all(np.isfinite(v).all() for v in (orientation, position, spacing))
    if sizes != ((6,), (3,), (2,)) or not finite:
        raise CaseError("no_geometry", f"{name}: position, orientation or spacing is not complete")
    stated = number(measures, "SpacingBetweenSlices") or number(measures, "SliceThickness") or 1.0
    return Plane(
        orientation,
        position,
        spacing,
        abs(stated),
        number(values, "RescaleSlope", 1.0) or 1.0,
        number(values, "RescaleIntercept", 0.0) or 0.0,
        str(values.get("RescaleType", "")),
    )


def _by_channel(header: pydicom.Dataset, planes: Sequence[Plane]) -> list[list[int]]:
    """Frame numbers of each volume: frames at one place belong to different volumes."""
    at_place = _by_place(planes)
    counts = {len(frames) for frames in at_place}
    if len(counts) != 1 or counts == {1}:
        return [list(range(len(planes)))]
    groups = list(header.get("PerFrameFunctionalGroupsSequence") or ())

    def rank(index: int) -> tuple[list[int], int]:
        content = _group("FrameContentSequence", groups[index], None)
        values = content.get("DimensionIndexValues") if content is not None else None
        return [int(v) for v in np.atleast_1d(values if values is not None else [])], index

    ordered = [sorted(frames, key=rank) for frames in at_place]
    return [[frames[channel] for frames in ordered] for channel in range(counts.pop())]


def stack(name: str, planes: Sequence[Plane]) -> tuple[list[int], Affine]:
    """Order along the normal, and the affine; from positions, never from SliceThickness."""
    directions = np.stack([plane.orientation for plane in planes])
    positions = np.stack([plane.position for plane in planes])
    spacing = np.stack([plane.spacing for plane in planes])
    if np.ptp(directions, axis=0).max() > _DIRECTION_TOLERANCE:
        raise CaseError("geometry_irregular", f"{name}: slices are not parallel")
    if np.ptp(spacing, axis=0).max() > _DIRECTION_TOLERANCE * spacing.max():
        raise CaseError("geometry_irregular", f"{name}: PixelSpacing differs between slices")
    normal = np.cross(directions[0, :3], directions[0, 3:])
    order = np.argsort(positions @ normal, kind="stable")
    step = _step(name, positions[order], normal, planes[0].thickness)
    return order.tolist(), LPS_TO_RAS @ plane_affine(planes[order[0]], step)


def plane_affine(plane: Plane, step: _Floats) -> Affine:
    """Column, row and slice index to LPS, mm."""
    affine = np.eye(4)
    affine[:3, 0] = plane.orientation[:3] * plane.spacing[1]
    affine[:3, 1] = plane.orientation[3:] * plane.spacing[0]
    affine[:3, 2] = step
    affine[:3, 3] = plane.position
    return affine


def _step(name: str, positions: _Floats, normal: _Floats, thickness: float) -> _Floats:
    if len(positions) == 1:
        return normal * thickness
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
    mean: _Floats = (positions[-1] - positions[0]) / (len(positions) - 1)
    drift = float(np.linalg.norm(mean - (mean @ normal) * normal))
    if drift > STEP_SPREAD * usual:
        raise CaseError("geometry_irregular", f"{name}: tilted gantry, {drift:.3g} mm per slice")
    return mean


def _frames(dataset: pydicom.Dataset, name: str, indices: Sequence[int]) -> list[Array]:
    return list(frames_of(dataset, name, indices))


def _scaled(dataset: pydicom.Dataset, plane: Plane, frame: Array) -> Array:
    if has_modality_lut(dataset):
        return through_modality_lut(dataset, frame, "image")
    return rescaled(frame, plane.slope, plane.intercept)


def _placed(array: Array, grid: Grid, headers: Sequence[pydicom.Dataset], plane: Plane) -> Volume:
    """The volume with its unit; PET becomes SUV where all tags for that are there."""
    is_ct = headers[0].get("Modality") == "CT" and plane.intercept != 0
    unit = "hu" if plane.rescale_type.upper() == "HU" or is_ct else "unknown"
    if (factor := suv_factor(headers)) is not None:
        array, unit = (array * np.float32(factor)).astype(np.float32), "suv"
    flags = tuple(dict.fromkeys(flag for h in headers for flag in _flags(h, "image")))
    return Volume(array, grid, "dicom", unit=unit, flags=flags)


def _flags(header: pydicom.Dataset, name: str) -> tuple[str, ...]:
    return ("burned_in_annotation",) if facts_of(header, name).burned_in else ()
