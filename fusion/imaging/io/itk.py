"""NRRD and MetaImage through SimpleITK, read against a hostile header; LPS becomes RAS here."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813

from fusion.imaging.errors import CaseError
from fusion.imaging.geometry import without_shear
from fusion.imaging.io.limits import LIMITS, Limits, pick
from fusion.imaging.io.nifti import without_nan
from fusion.imaging.volume import Affine, Array, Grid, Volume

_READERS = {
    ".nrrd": "NrrdImageIO", ".nhdr": "NrrdImageIO", ".mha": "MetaImageIO", ".mhd": "MetaImageIO",
}  # fmt: skip
ITK_SUFFIXES = frozenset(_READERS)
_HEADER_BYTES = 256 * 1024
#: ITK copies a field that it refuses into 1024 bytes with its complaint, and dies of a longer one.
_FIELD_BYTES = 900
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_AXES = 3
_FARTHEST_MM = 1e9
_PLACE_KEYS = (
    "offset", "position", "origin", "elementspacing", "transformmatrix", "rotation", "orientation",
)  # fmt: skip


def read_itk(path: Path, limits: Limits = LIMITS, *, channel: int | None = None) -> Volume:
    """One 3D volume; a 2D image is a volume of one slice.

    `channel` takes one of several values a voxel, or one volume along a fourth axis.

    A header that does not say where voxels lie gives geometry "none"; it is not guessed.

    Raises:
        CaseError: size_limit, unreadable or dtype_refused, before voxels are read where possible.
    """
    limits.check_file(path)
    header, length = _header(path)
    _check_axes(path, header)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO(_READERS[path.suffix.lower()])
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise CaseError("unreadable", f"{path.name}: {_last_line(error)}") from error
    _check_place(reader, path.name)
    shape = _shape(reader, path.name)
    count = shape[3]
    item_bytes = _item_bytes(reader, path.name)
    limits.check_shape(path.name, shape[:3], item_bytes)
    taken = pick(path.name, count, channel)
    # ITK reads all channels at once.
    payload = limits.check_shape(path.name, [math.prod(shape[:3]), count], item_bytes, rows=2)
    _check_data(path, header, length, payload, limits)
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise CaseError("unreadable", f"{path.name}: {_last_line(error)}") from error
    array = _one_channel(image, shape, taken)
    array, flags = without_nan(array, path.name)
    known = _is_placed(header)
    affine = _affine(image) if known else np.diag([*_spacing(image), 1.0])
    return without_shear(
        Volume(array, Grid(shape[:3], affine), "itk" if known else "none", flags=flags)
    )


def _header(path: Path) -> tuple[Mapping[str, str], int]:
    """Keys in lower case with their values, and how many bytes the header has."""
    with path.open("rb") as stream:
        text = stream.read(_HEADER_BYTES)
    is_nrrd = _READERS[path.suffix.lower()] == "NrrdImageIO"
    if is_nrrd and not text.startswith(b"NRRD"):
        raise CaseError("unreadable", f"{path.name}: starts with {text[:4]!r}, expected b'NRRD'")
    found: dict[str, str] = {}
    length = 0
    for line in io.BytesIO(text) if is_nrrd else text.splitlines(keepends=True):
        length += len(line)
        words = line.decode("latin-1").strip()
        if is_nrrd and not words:
            return found, length
        if is_nrrd:
            _check_field(path, line)
        key, _, value = words.partition(":" if is_nrrd else "=")
        key = key.strip().lower()
        if key in found and key and not key.startswith("#"):
            raise CaseError("unreadable", f"{path.name}: {key[:80]!r} occurs twice in its header")
        found[key] = value.lstrip("=").strip()
        if not is_nrrd and key == "elementdatafile":
            return found, length
    if is_nrrd and length < _HEADER_BYTES:
        return found, length  # a detached header may end with the file
    expected = "a blank line" if is_nrrd else "ElementDataFile"
    raise CaseError("unreadable", f"{path.name}: its header has no {expected}")


def _check_field(path: Path, line: bytes) -> None:
    """Comments, content and `key:=value` of a NRRD header may be long, other fields may not."""
    name, _, value = line.partition(b":")
    is_free = line.startswith(b"#") or value.startswith(b"=") or name.lower() == b"content"
    if len(line) > _FIELD_BYTES and not is_free:
        said = name[:80].decode("latin-1")
        detail = f"{said!r} has {len(line)} bytes, expected {_FIELD_BYTES} at most"
        raise CaseError("unreadable", f"{path.name}: {detail}")


def _check_axes(path: Path, header: Mapping[str, str]) -> None:
    """ITK believes a header's number of axes, and reads text voxels without an end."""
    is_nrrd = _READERS[path.suffix.lower()] == "NrrdImageIO"
    count, sizes = ("dimension", "sizes") if is_nrrd else ("ndims", "dimsize")
    stated, listed = header.get(count, ""), header.get(sizes, "").split()
    if stated not in {"1", "2", "3", "4", "5"} or len(listed) != int(stated):
        raise CaseError(
            "unreadable", f"{path.name}: {count} {stated[:20]!r} with {len(listed)} sizes"
        )
    if is_nrrd:
        return
    if header.get("binarydata", "").lower() != "true":
        raise CaseError("unreadable", f"{path.name}: BinaryData is not True")
    for key in _PLACE_KEYS:
        if not all(_is_finite(word) for word in header.get(key, "").split()):
            # ITK would take it for 0.
            raise CaseError("no_geometry", f"{path.name}: {key} is {header[key][:80]!r}")


def _is_finite(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def header_of(path: Path) -> Mapping[str, str]:
    """What the header says: keys in lower case with their values."""
    return _header(path)[0]


def parts_of(path: Path) -> tuple[Path, ...]:
    """The header and, where voxels lie in a file of their own, that file.

    Raises:
        CaseError: the header names no file in its own folder.
    """
    place = _voxel_file(path, _header(path)[0])
    return (path,) if place == path else (path, place)


def _voxel_file(path: Path, header: Mapping[str, str]) -> Path:
    named = header.get("elementdatafile") or header.get("data file") or header.get("datafile", "")
    if not named or named.upper() == "LOCAL":
        return path
    place = path.with_name(named) if Path(named).name == named else path
    if place == path or named.upper().startswith("LIST") or "%" in named:
        raise CaseError(
            "unreadable", f"{path.name}: voxels in {named!r}, expected a file in the same folder"
        )
    if not _is_plain_file(place):
        raise CaseError("unreadable", f"{path.name}: its voxel file {named[:80]!r} is not there")
    return place


def _is_plain_file(path: Path) -> bool:
    try:
        return path.is_file() and not path.is_symlink()
    except (OSError, ValueError):  # a name that no file can have
        return False


def _check_data(
    path: Path, header: Mapping[str, str], length: int, payload: int, limits: Limits
) -> None:
    """Voxels lie in this file or in one beside it, and raw ones are all there."""
    place = _voxel_file(path, header)
    limits.check_file(place)
    encoding = header.get("encoding", "raw").lower()
    if header.get("compresseddata", "").lower() == "true" or encoding not in {"raw", ""}:
        return
    there = place.stat().st_size - (length if place == path else 0)
    if there < payload:
        raise CaseError("unreadable", f"{path.name}: {there} bytes of voxels, expected {payload}")


def _check_place(reader: Any, name: str) -> None:
    """ITK turns numbers that are not finite over for ever when it reads the voxels."""
    place = np.array([*reader.GetDirection(), *reader.GetSpacing(), *reader.GetOrigin()], float)
    if not (np.abs(place) < _FARTHEST_MM).all():
        raise CaseError("no_geometry", f"{name}: its axes, spacing or origin are no lengths")


def _shape(reader: Any, name: str) -> tuple[int, int, int, int]:
    """(I, J, K, N): N values a voxel, or N volumes along one further axis."""
    sizes = [int(size) for size in reader.GetSize()]
    further = [n for n in (*sizes[_AXES:], int(reader.GetNumberOfComponents())) if n != 1]
    if len(further) > 1:
        raise CaseError(
            "unreadable",
            f"{name}: sizes {tuple(sizes)} with {reader.GetNumberOfComponents()} values a voxel,"
            " expected 3D or 4D",
        )
    i, j, k = [*sizes, 1, 1][:_AXES]
    return i, j, k, (further or [1])[0]


def _one_channel(image: Any, shape: tuple[int, int, int, int], channel: int) -> Array:
    if image.GetNumberOfComponentsPerPixel() > 1:
        image = sitk.VectorIndexSelectionCast(image, channel)
        channel = 0
    array: Array = sitk.GetArrayViewFromImage(image).T.reshape((*shape[:3], -1), order="A")
    return array[..., channel].copy()


def _item_bytes(reader: Any, name: str) -> int:
    kind = sitk.GetPixelIDValueAsString(reader.GetPixelID()).removeprefix("vector of ")
    for bits in (8, 16, 32, 64):
        if kind.startswith(f"{bits}-bit") and "complex" not in kind:
            return bits // 8
    raise CaseError("dtype_refused", f"{name}: voxels are {kind!r}, expected integers or floats")


def _is_placed(header: Mapping[str, str]) -> bool:
    """Whether the header says where voxels lie in the body, not only how large they are."""
    if "space directions" in header:
        return bool(header.get("space"))
    has_axes = any(key in header for key in ("transformmatrix", "orientation", "rotation"))
    return has_axes and "elementspacing" in header


def _spacing(image: Any) -> list[float]:
    return [*image.GetSpacing(), 1.0, 1.0][:_AXES]


def _affine(image: Any) -> Affine:
    """Voxel to RAS world, mm; a 2D image lies in the plane z = 0."""
    axes = image.GetDimension()
    lps = np.eye(4)
    direction = np.eye(_AXES)
    used = min(axes, _AXES)
    direction[:used, :used] = np.array(image.GetDirection()).reshape(axes, axes)[:used, :used]
    lps[:3, :3] = direction @ np.diag(_spacing(image))
    lps[:used, 3] = image.GetOrigin()[:used]
    if not math.isfinite(float(np.abs(lps).sum())):
        raise CaseError("no_geometry", f"affine {lps.tolist()} is not finite")
    affine: Affine = _LPS_TO_RAS @ lps
    return affine


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1].strip()
