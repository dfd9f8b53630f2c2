"""DICOM data sets under bounds: sizes first, deflate counted, what could identify a person."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
from pydicom.filereader import read_dataset, read_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from fusion.imaging.errors import CaseError
from fusion.imaging.io.limits import LIMITS, Limits

_PREAMBLE = 128 + 4
#: The group length element itself: tag, VR, length, value.
_GROUP_LENGTH = 12
#: Attributes that name a person, a place or a day (PS3.15, basic profile), where filled in.
IDENTIFYING = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientAddress", "PatientTelephoneNumbers",
    "OtherPatientIDs", "OtherPatientNames", "PatientMotherBirthName", "PatientComments",
    "AccessionNumber", "StudyID", "StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate",
    "InstitutionName", "InstitutionAddress", "InstitutionalDepartmentName", "StationName",
    "ReferringPhysicianName", "PerformingPhysicianName", "NameOfPhysiciansReadingStudy",
    "OperatorsName", "RequestingPhysician", "DeviceSerialNumber", "ImageComments",
)  # fmt: skip


@contextmanager
def refusing(name: str) -> Iterator[None]:
    """Whatever a damaged element raises, here or when it is asked for later, is unreadable."""
    try:
        yield
    except CaseError:
        raise
    except MemoryError as error:
        raise CaseError("size_limit", f"{name}: needs more memory than there is") from error
    except Exception as error:
        raise CaseError("unreadable", f"{name}: damaged DICOM: {error}") from error


def is_dicom(path: Path) -> bool:
    """Whether the file bears DICOM's mark; its name often says nothing."""
    with path.open("rb") as stream:
        return stream.read(_PREAMBLE)[128:] == b"DICM"


def open_dicom(path: Path, limits: Limits, *, pixels: bool = False) -> pydicom.Dataset:
    """The data set, without or with its pixels.

    Raises:
        CaseError: unreadable, or size_limit where a file or what it inflates to is too large.
    """
    limits.check_file(path)
    most = limits.size_bytes + limits.header_bytes
    if path.stat().st_size > most:
        raise CaseError("size_limit", f"{path.name}: more than {most} bytes")
    with refusing(path.name):
        # Only the file meta information; asking for more would inflate without a bound.
        meta = read_file_meta_info(path)
        if meta.TransferSyntaxUID == DeflatedExplicitVRLittleEndian:
            return _inflated(path, meta, most)
        return pydicom.dcmread(path, stop_before_pixels=not pixels)


def _inflated(path: Path, meta: Any, most: int) -> pydicom.Dataset:
    content = path.read_bytes()
    start = _PREAMBLE + _GROUP_LENGTH + int(meta.FileMetaInformationGroupLength)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    plain = inflater.decompress(content[start:], most)
    if inflater.unconsumed_tail:
        raise CaseError("size_limit", f"{path.name}: inflates to more than {most} bytes")
    dataset = read_dataset(io.BytesIO(plain), is_implicit_VR=False, is_little_endian=True)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta = meta
    return dataset


def open_image(path: Path, limits: Limits, *, pixels: bool = False) -> pydicom.Dataset:
    """A data set with an image, whose decoded size is within the limits."""
    dataset = open_dicom(path, limits, pixels=pixels)
    try:
        shape = (int(dataset.Columns), int(dataset.Rows))
        bits, samples = int(dataset.BitsAllocated), int(dataset.get("SamplesPerPixel") or 1)
        frames = int(dataset.get("NumberOfFrames") or 1)
    except Exception as error:
        raise CaseError("unreadable", f"{path.name}: not a DICOM image: {error}") from error
    if bits not in {1, 8, 16, 32, 64} or samples not in {1, 3}:
        raise CaseError(
            "dtype_refused",
            f"{path.name}: {samples} samples of {bits} bits, expected 1 or 3 of 1 to 64",
        )
    limits.check_shape(path.name, shape, 1)
    limits.check_frames(path.name, frames, 1)
    limits.check_shape(path.name, (frames, *shape, samples), max(bits // 8, 1), rows=1)
    return dataset


@dataclass(frozen=True)
class DicomFacts:
    """What a header says of privacy and kind; values that identify are not repeated.

    Args:
        modality: (0008,0060).
        burned_in: BurnedInAnnotation; None where it is not stated.
        deidentified: PatientIdentityRemoved; None where it is not stated.
        identifying: keywords of filled-in attributes that name a person, a place or a day.
        private: how many private elements there are.
    """

    modality: str
    burned_in: bool | None
    deidentified: bool | None
    identifying: tuple[str, ...]
    private: int


def dicom_facts(path: Path | str, limits: Limits = LIMITS) -> DicomFacts:
    """Facts about one file, for whoever decides on quarantine."""
    path = Path(path)
    return facts_of(open_dicom(path, limits), path.name)


def facts_of(dataset: pydicom.Dataset, name: str) -> DicomFacts:
    with refusing(name):
        return DicomFacts(
            str(dataset.get("Modality") or ""),
            _yes_or_no(dataset.get("BurnedInAnnotation")),
            _yes_or_no(dataset.get("PatientIdentityRemoved")),
            tuple(key for key in IDENTIFYING if str(dataset.get(key) or "").strip()),
            sum(1 for tag in dataset.keys() if tag.is_private),  # noqa: SIM118 - not a dict
        )


def names_in(path: Path, limits: Limits = LIMITS) -> set[str]:
    """Names of people in a file's header, but for a name that is the public subject id.

    Raises:
        CaseError: unreadable, or size_limit.
    """
    dataset = open_dicom(path, limits)
    names = {str(dataset.get(key) or "").strip() for key in _NAMES}
    return {name for name in names if name and name != str(dataset.get("PatientID") or "").strip()}


_NAMES = (
    "PatientName", "PatientBirthName", "PatientMotherBirthName", "ResponsiblePerson",
    "ReferringPhysicianName", "PerformingPhysicianName", "OperatorsName",
)  # fmt: skip


def _yes_or_no(value: Any) -> bool | None:
    return {"YES": True, "NO": False}.get(str(value or "").strip().upper())


def number(dataset: pydicom.Dataset, keyword: str, default: float | None = None) -> float | None:
    """A finite number, else `default`; text that is no number counts as not stated."""
    try:
        value = float(dataset.get(keyword))
    except Exception:  # noqa: BLE001 - a damaged element may raise anything
        return default
    return value if value - value == 0 else default
