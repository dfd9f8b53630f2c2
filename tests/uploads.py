"""Archives and files that people might send, made in code."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid


def png(seed: int, side: int = 40, *, mask: bool = False) -> bytes:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 255, (side, side, 3), dtype=np.uint8)
    if mask:
        pixels = np.zeros((side, side), np.uint8)
        pixels[10:30, 10:20] = 255
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def fundus(people: int = 4) -> dict[str, bytes]:
    """Images and vessel masks of so many people."""
    found = {}
    for number in range(people):
        found[f"images/p{number}.png"] = png(number)
        found[f"masks/p{number}.png"] = png(number, mask=True)
    return found


def dicom(modality: str = "US", **tags: object) -> bytes:
    """One small picture; `tags` are attributes by keyword."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, generate_uid()
    data.Modality, data.Rows, data.Columns = modality, 8, 8
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit, data.PixelRepresentation = 7, 0
    data.PixelData = bytes(64)
    for keyword, value in tags.items():
        setattr(data, keyword, value)
    out = io.BytesIO()
    pydicom.dcmwrite(out, data, enforce_file_format=True)
    return out.getvalue()


def zipped(files: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for path, content in files.items():
            archive.writestr(path, content)
    return out.getvalue()
