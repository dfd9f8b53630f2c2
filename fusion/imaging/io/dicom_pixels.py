"""Pixels of DICOM images: decoded frame by frame, then turned into what they mean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pydicom
from pydicom.encaps import generate_frames
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut
from pydicom.pixels.utils import iter_pixels

from fusion.imaging.errors import CaseError
from fusion.imaging.io.dicom_header import number
from fusion.imaging.volume import Array

_SOF = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF})
_JPEG_LS_SOF = 0xF7
_J2K_START = b"\xff\x4f\xff\x51"
_COLOUR = 3
#: Plausible body weight, kg, and injected activity, Bq; other values are other units.
_WEIGHT_KG = (1.0, 500.0)
_DOSE_BQ = (1e5, 1e12)
_MOST_HALF_LIVES = 10


def frames_of(dataset: pydicom.Dataset, name: str, indices: Sequence[int]) -> Iterator[Array]:
    """Stored values of some frames: (rows, columns), or (rows, columns, 3) in RGB.

    Raises:
        CaseError: unreadable; the pixels are damaged, or not of the size of the header.
    """
    expected = (int(dataset.Rows), int(dataset.Columns))
    try:
        _check_streams(dataset, expected, name)
        for frame in iter_pixels(dataset, indices=list(indices)):
            yield _of_size(frame, expected, name)
    except CaseError:
        raise
    except MemoryError as error:
        raise CaseError("size_limit", f"{name}: pixels need more memory than there is") from error
    except Exception as error:  # decoders of ten syntaxes raise what they like
        raise CaseError("unreadable", f"{name}: pixels: {error}") from error


def _of_size(frame: Array, expected: tuple[int, int], name: str) -> Array:
    if frame.shape[:2] != expected:
        raise CaseError("unreadable", f"{name}: pixels are {frame.shape}, header {expected}")
    return frame


def _check_streams(dataset: pydicom.Dataset, expected: tuple[int, int], name: str) -> None:
    """No compressed frame claims another size: a decoder asks for memory by its word."""
    if not dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        return
    count = int(dataset.get("NumberOfFrames") or 1)
    for stream in generate_frames(dataset.PixelData, number_of_frames=count):
        found = _stream_size(stream)
        if found not in (None, expected):
            raise CaseError("unreadable", f"{name}: a frame is {found}, the header {expected}")


def _stream_size(stream: bytes) -> tuple[int, int] | None:
    """Rows and columns of a JPEG, JPEG-LS or JPEG 2000 stream; None where it does not say."""
    start = stream[:512].find(_J2K_START)
    if start >= 0:
        x1, y1, x0, y0 = (
            int.from_bytes(stream[start + at : start + at + 4]) for at in (8, 12, 16, 20)
        )
        return y1 - y0, x1 - x0
    if stream[:2] != b"\xff\xd8":
        return None
    at = 2
    while at + 9 <= len(stream) and stream[at] == 0xFF:  # noqa: PLR2004
        marker = stream[at + 1]
        if marker in _SOF or marker == _JPEG_LS_SOF:
            return int.from_bytes(stream[at + 5 : at + 7]), int.from_bytes(stream[at + 7 : at + 9])
        # Fill bytes stand alone; every other segment before the frame header has a length.
        at += 1 if marker == 0xFF else 2 + int.from_bytes(stream[at + 2 : at + 4])  # noqa: PLR2004
    return None


def picture_pixels(dataset: pydicom.Dataset, frame: Array, name: str) -> Array:
    """A frame as people see it: palette expanded, MONOCHROME1 inverted, depth kept."""
    if frame.ndim == _COLOUR:
        return frame
    kind = str(dataset.get("PhotometricInterpretation", ""))
    if kind == "PALETTE COLOR":
        try:
            colours: Array = apply_color_lut(frame, dataset)
        except Exception as error:
            raise CaseError("unreadable", f"{name}: palette: {error}") from error
        deep = colours.dtype.itemsize > 1
        return (colours >> 8).astype(np.uint8) if deep else colours
    falling = (number(dataset, "RescaleSlope") or 1.0) < 0
    if (kind == "MONOCHROME1") is falling or frame.dtype.kind not in "ui":
        return frame
    inverted: Array
    if frame.dtype.kind == "i":
        inverted = ~frame
        return inverted
    top = max(2 ** int(dataset.get("BitsStored") or 8) - 1, int(frame.max()))
    inverted = (top - frame.astype(np.int64)).astype(frame.dtype)
    return inverted


def has_modality_lut(dataset: pydicom.Dataset) -> bool:
    return bool(dataset.get("ModalityLUTSequence"))


def through_modality_lut(dataset: pydicom.Dataset, frame: Array, name: str) -> Array:
    """Values of a device whose scale is a table rather than a line."""
    try:
        values: Array = apply_modality_lut(frame, dataset)
    except Exception as error:
        raise CaseError("unreadable", f"{name}: modality LUT: {error}") from error
    return values


def suv_factor(headers: Sequence[pydicom.Dataset]) -> float | None:
    """What turns the values of a PET series into SUV by body weight; None where a tag lacks.

    Follows the vendor-neutral way of the QIBA profile: activity at the start of the series.
    """
    first = headers[0]
    if first.get("Modality") != "PT" or len({str(h.get("Units", "")) for h in headers}) != 1:
        return None
    if first.get("Units") == "GML":
        return 1.0 if str(first.get("SUVType") or "BW") == "BW" else None
    corrections = set(first.get("CorrectedImage") or ())
    if first.get("Units") != "BQML" or not {"ATTN", "DECY"} <= corrections:
        return None
    injected = list(first.get("RadiopharmaceuticalInformationSequence") or ())
    weight = _within(number(first, "PatientWeight"), _WEIGHT_KG)
    if len(injected) != 1 or weight is None:
        return None
    dose = _within(number(injected[0], "RadionuclideTotalDose"), _DOSE_BQ)
    left = _share_left(headers, injected[0])
    return None if dose is None or left is None else weight * 1000.0 / (dose * left)


def _within(value: float | None, span: tuple[float, float]) -> float | None:
    return value if value is not None and span[0] <= value <= span[1] else None


def _share_left(headers: Sequence[pydicom.Dataset], injected: pydicom.Dataset) -> float | None:
    """Share of the injected activity that is left at the moment the values are corrected to."""
    first = headers[0]
    if first.get("DecayCorrection") == "ADMIN":
        return 1.0
    half_life = number(injected, "RadionuclideHalfLife") or 0.0
    start = _moment(first.get("SeriesDate"), first.get("SeriesTime"))
    if first.get("DecayCorrection") != "START" or half_life <= 0 or start is None:
        return None
    acquired = [_moment(h.get("AcquisitionDate"), h.get("AcquisitionTime")) for h in headers]
    # A series time after the acquisition is that of a later reconstruction.
    if any(moment is None or moment < start for moment in acquired):
        return None
    whole = str(injected.get("RadiopharmaceuticalStartDateTime") or "")
    at = _moment(whole[:8], whole[8:].partition("+")[0].partition("-")[0])
    if at is None:
        at = _moment(first.get("SeriesDate"), injected.get("RadiopharmaceuticalStartTime"))
    elapsed = (start - at).total_seconds() if at is not None else -1.0
    if not 0 <= elapsed <= _MOST_HALF_LIVES * half_life:
        return None
    return float(2.0 ** (-elapsed / half_life))


def _moment(date: Any, time: Any) -> datetime | None:
    """A DICOM date and time: YYYYMMDD, HHMMSS.FFFFFF."""
    whole, _, fraction = str(time or "").strip().partition(".")
    try:
        moment = datetime.strptime(f"{str(date).strip()}{whole:0<6}", "%Y%m%d%H%M%S")  # noqa: DTZ007
        return moment + timedelta(seconds=float(f"0.{fraction or 0}"))
    except ValueError:
        return None
