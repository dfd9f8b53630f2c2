# ruff: noqa: PLR2004, S311 - shares of chance; repeatable, not secret
"""Feed damaged files to every reader: only CaseError may come out, soon and in little memory.

    scripts/fuzz_readers.py --seconds 180 [--reader nifti ...] [--seed 1] [--keep FOLDER]
    scripts/fuzz_readers.py --inputs 300

Input number n of a reader is a function of the seed, the reader and n alone. Batches run in forked
children with a bounded address space and an alarm per input, so that a crash or a hang in a C
library is a finding like any other. Exits with 1 when there is one.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import mmap
import os
import random
import re
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fusion.errors import BuildError
from fusion.imaging.errors import CaseError
from fusion.imaging.io import (
    Limits,
    dicom_facts,
    label_names,
    read_h5,
    read_image,
    read_npz,
    read_structures,
    video_facts,
)
from fusion.imaging.io.shapes import read_shapes
from fusion.imaging.volume import Grid
from fusion.sources.archive import ArchiveLimits, unpack

LIMITS = Limits(
    voxels=8_000_000, size_bytes=32 * 2**20, file_bytes=64 * 2**20, header_bytes=2**20, frames=500
)
#: Address space above the start of a batch: a few times what the limits let through.
MEMORY = 1536 * 2**20
SECONDS_EACH = 60
BATCH = 400
GRID = Grid((8, 8, 4), np.diag([-0.5, -0.8, 2, 1]))
SHARED = Path(__file__).resolve().parent.parent.parent / "shared" / "data"

Files = dict[str, bytes]  # name -> content; the first is the one that is read


@dataclass
class Reader:
    """What is called, on which healthy files, and how their bytes are laid out."""

    call: Callable[[Path], Any]
    seeds: Callable[[Path], list[Files]]
    dictionary: tuple[bytes, ...] = ()
    real: tuple[str, ...] = ()  # patterns below the shared data


@dataclass
class Outcome:
    inputs: int = 0
    read: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    findings: dict[str, tuple[int, str]] = field(default_factory=dict)  # what -> first input, text


# --- healthy files -----------------------------------------------------------------------------


def _voxels(*shape: int) -> Any:
    return np.random.default_rng(sum(shape)).integers(0, 300, shape).astype(np.int16)


def _saved(folder: Path, name: str, save: Callable[[Path], Any]) -> Files:
    folder.mkdir(parents=True, exist_ok=True)
    save(folder / name)
    return {name: (folder / name).read_bytes()}


def nifti_seeds(folder: Path) -> list[Files]:
    import nibabel as nib

    xml = b'<CaretExtension><Label Key="1">spleen</Label></CaretExtension>'
    found = []
    kind: Any
    for kind, name, shape in (
        (nib.Nifti1Image, "a.nii", (6, 5, 4)),
        (nib.Nifti2Image, "b.nii", (6, 5, 4)),
        (nib.Nifti1Image, "c.nii.gz", (6, 5, 4, 3)),
    ):
        image = kind(_voxels(*shape), GRID.affine)
        image.header.extensions.append(nib.nifti1.Nifti1Extension(0, xml))
        found.append(_saved(folder, name, partial(nib.save, image)))
    for kind, stem in ((nib.Nifti1Pair, "d"), (nib.AnalyzeImage, "e")):
        nib.save(kind(_voxels(6, 5, 1), GRID.affine), folder / f"{stem}.img")
        found.append({n: (folder / n).read_bytes() for n in (f"{stem}.hdr", f"{stem}.img")})
    return found


def itk_seeds(_: Path) -> list[Files]:
    raw = _voxels(6, 5, 4).tobytes(order="F")
    nrrd = (
        "NRRD0004\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: 6 5 4\n"
        "space directions: (0.5,0,0) (0,0.8,0) (0,0,2)\nkinds: domain domain domain\n"
        "endian: little\nencoding: {}\nspace origin: (1,2,3)\n\n"
    )
    mha = (
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\n"
        "CompressedData = {}\nTransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = 1 2 3\n"
        "ElementSpacing = 0.5 0.8 2\nDimSize = 6 5 4\nElementType = MET_SHORT\n"
        "ElementDataFile = {}\n"
    )
    return [
        {"a.nrrd": nrrd.format("raw").encode() + raw},
        {"b.nrrd": nrrd.format("gzip").encode() + gzip.compress(raw)},
        {"c.mha": mha.format("False", "LOCAL").encode() + raw},
        {"d.mha": mha.format("True", "LOCAL").encode() + zlib.compress(raw)},
        {"e.mhd": mha.format("False", "e.raw").encode(), "e.raw": raw},
    ]


def slicer_seeds(_: Path) -> list[Files]:
    raw = (_voxels(2, 6, 5, 4) % 3).astype(np.uint8).tobytes(order="F")
    head = (
        "NRRD0004\ntype: unsigned char\ndimension: 4\nspace: left-posterior-superior\n"
        "sizes: 2 6 5 4\nspace directions: none (0.5,0,0) (0,0.8,0) (0,0,2)\n"
        "kinds: list domain domain domain\nendian: little\nencoding: raw\nspace origin: (0,0,0)\n"
        "Segment0_Name:=Liver\nSegment0_Layer:=0\nSegment0_LabelValue:=1\n"
        "Segment1_Name:=Lung\nSegment1_Layer:=1\nSegment1_LabelValue:=2\n\n"
    )
    return [{"a.seg.nrrd": head.encode() + raw}]


def mgh_seeds(folder: Path) -> list[Files]:
    import nibabel as nib

    image = nib.MGHImage(_voxels(6, 5, 4, 2), GRID.affine)
    return [_saved(folder, name, lambda path: nib.save(image, path)) for name in ("a.mgz", "b.mgh")]


def minc_seeds(folder: Path) -> list[Files]:
    import h5py
    from nibabel.externals.netcdf import netcdf_file

    axes = ("zspace", "yspace", "xspace")
    folder.mkdir(parents=True, exist_ok=True)
    one = netcdf_file(str(folder / "a.mnc"), "w")
    with h5py.File(folder / "b.mnc", "w") as two:
        image = two.create_dataset("minc-2.0/image/0/image", data=_voxels(4, 5, 6))
        image.attrs["dimorder"] = np.bytes_(",".join(axes))
        for name, size in zip(axes, (4, 5, 6), strict=True):
            axis2 = two.create_dataset(f"minc-2.0/dimensions/{name}", (), "i4")
            one.createDimension(name, size)
            axis = one.createVariable(name, "i", ())
            axis.spacing, axis.step, axis.start = b"regular__", 2.0, 1.0
            axis2.attrs["step"], axis2.attrs["start"] = 2.0, 1.0
        for name, value in (("image-min", 0.0), ("image-max", 10.0)):
            two[f"minc-2.0/image/0/{name}"] = np.full(4, value)
            two[f"minc-2.0/image/0/{name}"].attrs["dimorder"] = np.bytes_("zspace")
            one.createVariable(name, "d", ("zspace",))[:] = np.full(4, value)
    image1 = one.createVariable("image", "h", axes)
    image1.signtype = b"signed__"
    image1[:] = _voxels(4, 5, 6)
    one.close()
    return [{name: (folder / name).read_bytes()} for name in ("a.mnc", "b.mnc")]


def array_seeds(folder: Path) -> list[Files]:
    npy = _saved(folder, "a.npy", lambda path: np.save(path, _voxels(9, 7)))
    stored = _saved(folder, "b.npz", lambda path: np.savez(path, x=_voxels(5, 9, 7)))
    packed = _saved(folder, "c.npz", lambda path: np.savez_compressed(path, x=_voxels(5, 9, 7)))
    return [npy, stored, packed]


def h5_seeds(folder: Path) -> list[Files]:
    import h5py

    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for name, options in (
        ("a.h5", {}),
        ("b.h5", {"compression": "gzip", "chunks": (1, 9, 7), "shuffle": True}),
    ):
        with h5py.File(folder / name, "w") as file:
            file.create_dataset("x", data=_voxels(5, 9, 7), **options)
        found.append({name: (folder / name).read_bytes()})
    return found


def picture_seeds(folder: Path) -> list[Files]:
    from PIL import Image

    from fusion.imaging.io import write_png

    folder.mkdir(parents=True, exist_ok=True)
    grey = (_voxels(11, 7) % 255).astype(np.uint8)
    colour = (_voxels(11, 7, 3) % 255).astype(np.uint8)
    deep = _voxels(11, 7).astype(np.uint16) * 200
    found = []
    name: Any
    array: Any
    options: dict[str, Any]
    for name, array, options in (
        ("a.png", colour, {}),
        ("b.png", deep, {}),
        ("c.jpg", colour, {"quality": 90}),
        ("d.tif", colour, {"compression": "tiff_lzw"}),
        ("e.tif", deep, {}),
        ("f.bmp", colour, {}),
        ("g.ppm", grey, {}),
        ("h.webp", colour, {"lossless": True}),
    ):
        found.append(_saved(folder, name, partial(Image.fromarray(array).save, **options)))
    palette = Image.fromarray(grey % 4).convert("P")
    found.append(_saved(folder, "i.png", palette.save))
    found.append(_saved(folder, "j.png", lambda p: write_png(_voxels(9, 8, 3).astype("u2"), p)))
    pages = [Image.fromarray(grey), Image.fromarray(grey)]
    found.append(
        _saved(folder, "k.tif", lambda p: pages[0].save(p, save_all=True, append_images=pages[1:]))
    )
    return found


def _dicom(path: Path, **tags: Any) -> Any:
    import pydicom
    from pydicom.dataset import FileDataset, FileMetaDataset

    meta: Any = FileMetaDataset()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
    meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    ds: Any = FileDataset(io.BytesIO(), {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID, ds.SeriesInstanceUID = meta[0x00020002].value, "1.2.3.4", "1"
    ds.Modality, ds.PatientName, ds.SliceThickness = "CT", "A^B", 3
    ds.ImageOrientationPatient, ds.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, 1]
    ds.PixelSpacing, ds.Rows, ds.Columns = [0.8, 0.5], 64, 48
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.RescaleSlope, ds.RescaleIntercept = 1, -1024
    ds.PixelData = _voxels(64, 48).tobytes()
    for tag, value in tags.items():
        setattr(ds, tag, value)
    ds.save_as(path, enforce_file_format=True)
    return ds


def _functional_groups(ds: Any, *, seg: bool = False) -> None:
    from pydicom.dataset import Dataset

    def item(**values: Any) -> Dataset:
        one = Dataset()
        for key, value in values.items():
            setattr(one, key, value)
        return one

    ds.NumberOfFrames = 3
    measures = item(PixelSpacing=[0.8, 0.5], SpacingBetweenSlices=2, SliceThickness=2)
    turn = item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    scale = item(RescaleSlope=1, RescaleIntercept=-1024, RescaleType="HU")
    shared = item(PixelMeasuresSequence=[measures], PlaneOrientationSequence=[turn])
    if not seg:
        shared.PixelValueTransformationSequence = [scale]
    ds.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for n in range(3):
        frame = item(
            PlanePositionSequence=[item(ImagePositionPatient=[0, 0, 2 * n])],
            FrameContentSequence=[item(DimensionIndexValues=[1, n + 1])],
        )
        if seg:
            frame.SegmentIdentificationSequence = [item(ReferencedSegmentNumber=1)]
        frames.append(frame)
    ds.PerFrameFunctionalGroupsSequence = frames


def dicom_seeds(folder: Path) -> list[Files]:
    import pydicom
    from PIL import Image
    from pydicom.encaps import encapsulate

    folder.mkdir(parents=True, exist_ok=True)
    found = []

    def keep(name: str, change: Callable[[Any], Any] | None = None, **tags: Any) -> None:
        path = folder / name
        _dicom(path, **tags)
        if change:
            ds = pydicom.dcmread(path)
            change(ds)
            ds.save_as(path, enforce_file_format=True)
        found.append({name: path.read_bytes()})

    def as_syntax(uid: str) -> Callable[[Any], None]:
        return lambda ds: setattr(ds.file_meta, "TransferSyntaxUID", uid)

    def as_jpeg(ds: Any) -> None:
        out = io.BytesIO()
        Image.fromarray((_voxels(64, 48) % 255).astype(np.uint8)).save(out, format="JPEG")
        as_syntax(pydicom.uid.JPEGBaseline8Bit)(ds)
        ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8, 8, 7
        ds.PixelData = encapsulate([out.getvalue()])
        ds["PixelData"].is_undefined_length = True

    def as_colour(ds: Any) -> None:
        del ds.ImagePositionPatient
        ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "YBR_FULL", 0
        ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8, 8, 7
        ds.PixelData = bytes(64 * 48 * 3)

    keep("a.dcm")
    keep("b.dcm", as_syntax(pydicom.uid.ImplicitVRLittleEndian))
    keep("c.dcm", as_syntax(pydicom.uid.DeflatedExplicitVRLittleEndian))
    keep("d.dcm", lambda ds: ds.compress(pydicom.uid.RLELossless))
    keep("e.dcm", lambda ds: ds.compress(pydicom.uid.JPEG2000Lossless))
    keep("f.dcm", lambda ds: ds.compress(pydicom.uid.JPEGLSLossless))
    keep("g.dcm", as_jpeg)
    keep("h.dcm", as_colour)
    keep("i.dcm", _functional_groups, PixelData=_voxels(3, 64, 48).tobytes())
    injected = pydicom.Dataset()
    injected.RadionuclideTotalDose, injected.RadionuclideHalfLife = 3.7e8, 6586.2
    injected.RadiopharmaceuticalStartTime = "100000"
    keep(
        "j.dcm", Modality="PT", Units="BQML", CorrectedImage=["ATTN", "DECY"], PatientWeight=70,
        DecayCorrection="START", SeriesDate="20200102", SeriesTime="110000",
        AcquisitionDate="20200102", AcquisitionTime="110001",
        RadiopharmaceuticalInformationSequence=[injected],
    )  # fmt: skip
    return found


def series_seeds(folder: Path) -> list[Files]:
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"s/{n}.dcm" for n in range(3)]
    (folder / "s").mkdir(exist_ok=True)
    for n, name in enumerate(names):
        _dicom(folder / name, ImagePositionPatient=[0, 0, 2 * n], SOPInstanceUID=f"1.2.{n}")
    return [{name: (folder / name).read_bytes() for name in names}]


def seg_seeds(folder: Path) -> list[Files]:
    import pydicom
    from pydicom.dataset import Dataset

    folder.mkdir(parents=True, exist_ok=True)

    def code(value: str, meaning: str) -> Dataset:
        one = Dataset()
        one.CodeValue, one.CodingSchemeDesignator, one.CodeMeaning = value, "SCT", meaning
        return one

    import highdicom.seg  # noqa: F401 - here, so that no input pays for the import

    segment = Dataset()
    segment.SegmentNumber, segment.SegmentLabel = 1, "Liver"
    segment.SegmentAlgorithmType = "MANUAL"
    segment.SegmentedPropertyCategoryCodeSequence = [code("123037004", "Body structure")]
    segment.SegmentedPropertyTypeCodeSequence = [code("10200004", "Liver")]
    found = []
    for name, kind, bits in (("a.dcm", "BINARY", 1), ("b.dcm", "FRACTIONAL", 8)):
        ds = _dicom(folder / name, Modality="SEG")
        _functional_groups(ds, seg=True)
        ds.SOPClassUID = pydicom.uid.SegmentationStorage
        ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
        ds.SegmentationType, ds.SegmentSequence = kind, [segment]
        ds.Rows, ds.Columns = 8, 8
        ds.BitsAllocated = ds.BitsStored = bits
        ds.HighBit = bits - 1
        if bits > 1:
            ds.SegmentationFractionalType, ds.MaximumFractionalValue = "PROBABILITY", 255
        ds.FrameOfReferenceUID, ds.StudyInstanceUID = "1.2", "1.3"
        ds.PatientID, ds.PatientBirthDate, ds.PatientSex = "p", "", ""
        ds.StudyID, ds.StudyDate, ds.StudyTime, ds.AccessionNumber = "1", "", "", ""
        ds.ContentDate, ds.ContentTime = "20200101", "101010"
        ds.ReferringPhysicianName, ds.Manufacturer = "", "m"
        ds.PixelData = bytes(range(8 * 3 * bits))
        for tag in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
            delattr(ds, tag)
        organisation = Dataset()
        organisation.DimensionOrganizationUID = "1.2.9"
        ds.DimensionOrganizationSequence = [organisation]
        pointers = []
        for pointer, group in ((0x0062000B, 0x0062000A), (0x00200032, 0x00209113)):
            one = Dataset()
            one.DimensionIndexPointer, one.FunctionalGroupPointer = pointer, group
            one.DimensionOrganizationUID = "1.2.9"
            pointers.append(one)
        ds.DimensionIndexSequence = pointers
        ds.save_as(folder / name, enforce_file_format=True)
        found.append({name: (folder / name).read_bytes()})
    return found


def rtstruct_seeds(folder: Path) -> list[Files]:
    import pydicom
    from pydicom.dataset import Dataset

    folder.mkdir(parents=True, exist_ok=True)
    ds = _dicom(folder / "a.dcm", Modality="RTSTRUCT")
    for tag in ("PixelData", "Rows", "Columns", "BitsAllocated"):
        delattr(ds, tag)
    ds.SOPClassUID = pydicom.uid.RTStructureSetStorage
    roi, drawn, contour = Dataset(), Dataset(), Dataset()
    roi.ROINumber, roi.ROIName, drawn.ReferencedROINumber = 1, "Liver", 1
    contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", 4
    contour.ContourData = ["0", "0", "2", "2", "0", "2", "2", "3", "2", "0", "3", "2"]
    drawn.ContourSequence = [contour]
    ds.StructureSetROISequence, ds.ROIContourSequence = [roi], [drawn]
    ds.save_as(folder / "a.dcm", enforce_file_format=True)
    return [{"a.dcm": (folder / "a.dcm").read_bytes()}]


def video_seeds(folder: Path) -> list[Files]:
    import av
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    frames = [np.full((32, 48, 3), value, np.uint8) for value in (20, 90, 160, 230)]
    found = []
    for name, codec, pixels in (
        ("a.mp4", "mpeg4", "yuv420p"), ("b.avi", "mjpeg", "yuvj420p"),
        ("c.mkv", "mpeg4", "yuv420p"), ("e.mp4", "libx264", "yuv420p"),
    ):  # fmt: skip
        with av.open(str(folder / name), "w") as container:
            stream: Any = container.add_stream(codec, rate=10)
            stream.width, stream.height, stream.pix_fmt = 48, 32, pixels
            for array in frames:
                for packet in stream.encode(av.VideoFrame.from_ndarray(array, format="rgb24")):
                    container.mux(packet)
            for packet in stream.encode():
                container.mux(packet)
        found.append({name: (folder / name).read_bytes()})
    pages = [Image.fromarray(array) for array in frames]
    found.append(
        _saved(folder, "d.gif", lambda p: pages[0].save(p, save_all=True, append_images=pages[1:]))
    )
    return found


def shape_seeds(_: Path) -> list[Files]:
    ring = [[1, 1], [9, 1], [9, 7]]
    coco = {
        "images": [{"id": 1, "file_name": "a.png", "height": 9, "width": 11}],
        "categories": [{"id": 1, "name": "cell"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[1, 1, 9, 1, 9, 7]]},
            {"id": 2, "image_id": 1, "category_id": 1, "bbox": [1, 1, 3, 3]},
            {
                "id": 3,
                "image_id": 1,
                "category_id": 1,
                "segmentation": {"counts": [40, 9, 50], "size": [9, 11]},
            },
        ],
    }
    labelme = {"imageHeight": 9, "imageWidth": 11, "shapes": [{"label": "cell", "points": ring}]}
    polygon = {"type": "Polygon", "coordinates": [ring]}
    geo = {"features": [{"geometry": polygon, "properties": {"classification": {"name": "x"}}}]}
    voc = (
        "<annotation><size><width>11</width><height>9</height></size><object><name>cell</name>"
        "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>4</xmax><ymax>5</ymax></bndbox></object>"
        "</annotation>"
    )
    texts = {
        "a.json": json.dumps(coco), "b.json": json.dumps(labelme), "c.geojson": json.dumps(geo),
        "d.xml": voc, "e.txt": "0 0.5 0.5 0.2 0.2\n1 0.1 0.1 0.9 0.1 0.5 0.8\n",
    }  # fmt: skip
    return [{name: text.encode()} for name, text in texts.items()]


def archive_seeds(folder: Path) -> list[Files]:
    import tarfile
    import zipfile

    folder.mkdir(parents=True, exist_ok=True)
    members = {"a/x.png": bytes(300), "a/y.txt": b"text" * 40, "b": b"z"}
    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in members.items():
            packed.writestr(name, content)
    for name, mode in (("b.tar", "w"), ("c.tar.gz", "w:gz")):
        make: Any = tarfile.open
        with make(folder / name, mode) as opened:
            for member, content in members.items():
                info = tarfile.TarInfo(member)
                info.size = len(content)
                opened.addfile(info, io.BytesIO(content))
    return [{name: (folder / name).read_bytes()} for name in ("a.zip", "b.tar", "c.tar.gz")]


def _shapes(path: Path) -> Any:
    found = read_shapes(path, LIMITS)
    for drawing in found.drawings.values():
        for shape in drawing.shapes:
            shape.mask((9, 11))
    return found


def _archive(path: Path) -> Any:
    """Unpacked, nothing outside of the cache is touched."""
    outside = {p for p in path.parent.parent.iterdir() if p.name != "outcomes.jsonl"}
    try:
        unpack(path, path.parent / "cache", ArchiveLimits(expanded_bytes=2**20, members=50))
    except BuildError as error:
        raise CaseError(error.code, str(error)) from error
    finally:
        left = {p for p in path.parent.parent.iterdir() if p.name != "outcomes.jsonl"} - outside
        if left:
            raise AssertionError(f"written outside: {left}")


def _array(path: Path) -> Any:
    return read_npz(path, "x", LIMITS) if path.suffix == ".npz" else read_image(path, LIMITS)


def _h5(path: Path) -> Any:
    return read_h5(path, "x", LIMITS), read_h5(path, "x", LIMITS, row=0)


def _any(path: Path) -> Any:
    return read_image(path, LIMITS, channel=0)


def _nifti(path: Path) -> Any:
    if path.suffix not in {".hdr", ".img"}:
        label_names(path, LIMITS)
    return _any(path)


def _dicom_file(path: Path) -> Any:
    dicom_facts(path, LIMITS)
    return _any(path)


def _series(path: Path) -> Any:
    return read_image(path.parent, LIMITS)


def _structures(path: Path) -> Any:
    return read_structures(path, GRID, LIMITS)


def _video(path: Path) -> Any:
    video_facts(path, LIMITS)
    return read_image(path, LIMITS, channel=1)


_DICOM_WORDS = (
    b"\x28\x00\x08\x00IS\x02\x001 ",
    b"1.2.840.10008.1.2.1.99",
    b"SQ\0\0",
    b"\xff\xff\xff\xff",
)
READERS: dict[str, Reader] = {
    "nifti": Reader(_nifti, nifti_seeds, (), ("*/*/*.nii.gz",)),
    "itk": Reader(_any, itk_seeds, (b"double", b"list", b"LIST", b"dimension: 4", b"MET_DOUBLE")),
    "slicer": Reader(_structures, slicer_seeds, (b"Segment2_Name:=x\n", b"9999999999")),
    "mgh": Reader(_any, mgh_seeds),
    "minc": Reader(_any, minc_seeds),
    "arrays": Reader(_array, array_seeds, (b"|O", b"<c16", b"'fortran_order': True", b"999999999")),
    "h5": Reader(_h5, h5_seeds),
    "pictures": Reader(_any, picture_seeds, (), ("*/*/*.bmp", "*/*/*.png")),
    "dicom": Reader(_dicom_file, dicom_seeds, _DICOM_WORDS, ("*/*/*.dcm", "*/*/*/*.dcm")),
    "series": Reader(_series, series_seeds, _DICOM_WORDS),
    "seg": Reader(_structures, seg_seeds, _DICOM_WORDS),
    "rtstruct": Reader(_structures, rtstruct_seeds, _DICOM_WORDS),
    "shapes": Reader(_shapes, shape_seeds, (b"null", b"[]", b"{}", b"NaN", b'"', b"<!ENTITY x>")),
    "archives": Reader(_archive, archive_seeds, (b"../", b"/tmp/x", b"\x00")),
    "video": Reader(_video, video_seeds, (b"moov", b"trak", b"idx1", b"stsd")),
}

# --- damage ------------------------------------------------------------------------------------

_EDGES: tuple[int, ...] = (
    0,
    1,
    2,
    3,
    7,
    8,
    16,
    127,
    128,
    255,
    256,
    32767,
    32768,
    65535,
    65536,
    2**31 - 1,
    2**31,
)
_EDGES += (2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1)


def _place(content: bytearray, rng: random.Random) -> int:
    """More often near the start, where headers are."""
    near = min(len(content), 700) if rng.random() < 0.7 else len(content)
    return rng.randrange(max(near, 1))


def _flip(content: bytearray, rng: random.Random) -> None:
    at = _place(content, rng)
    if content:
        content[at] ^= 1 << rng.randrange(8)


def _byte(content: bytearray, rng: random.Random) -> None:
    at = _place(content, rng)
    if content:
        content[at] = rng.randrange(256)


def _integer(content: bytearray, rng: random.Random) -> None:
    width = rng.choice((1, 2, 4, 8))
    value = rng.choice(_EDGES) & (2 ** (8 * width) - 1)
    at = _place(content, rng)
    content[at : at + width] = value.to_bytes(width, rng.choice(("little", "big")))


def _float(content: bytearray, rng: random.Random) -> None:
    value = rng.choice((0.0, -1.0, 1e-30, 1e30, float("nan"), float("inf"), -float("inf")))
    form = rng.choice(("<f", ">f", "<d", ">d"))
    at = _place(content, rng)
    content[at : at + struct.calcsize(form)] = struct.pack(form, value)


def _cut(content: bytearray, rng: random.Random) -> None:
    del content[rng.randrange(len(content) + 1) :]


def _remove(content: bytearray, rng: random.Random) -> None:
    at = _place(content, rng)
    del content[at : at + rng.choice((1, 2, 4, 16, 100))]


def _repeat(content: bytearray, rng: random.Random) -> None:
    at, size = _place(content, rng), rng.choice((1, 4, 16, 200))
    content[at:at] = content[at : at + size] * rng.choice((1, 2, 50))


def _number_in_text(content: bytearray, rng: random.Random) -> None:
    found = list(re.finditer(rb"-?\d+(\.\d+)?", bytes(content[:2000])))
    if found:
        match = rng.choice(found)
        text = rng.choice(("0", "-1", "1e308", "nan", "inf", "1e-300", str(rng.choice(_EDGES))))
        content[match.start() : match.end()] = text.encode()


_DAMAGE = (_flip, _byte, _integer, _integer, _float, _cut, _remove, _repeat, _number_in_text)


def damaged(content: bytes, rng: random.Random, words: tuple[bytes, ...], other: bytes) -> bytes:
    """Some of the bytes changed; what packs or signs them is done again, half of the time."""
    inner = rng.random() < 0.6
    if inner and content[:2] == b"\x1f\x8b":
        return gzip.compress(damaged(gzip.decompress(content), rng, words, b""), 1)
    out = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        if words and rng.random() < 0.15:
            at = _place(out, rng)
            word = rng.choice(words)
            out[at : at + (len(word) if rng.random() < 0.5 else 0)] = word
        elif other and rng.random() < 0.05:
            at = _place(out, rng)
            out[at:] = other[at:]
        elif out:
            rng.choice(_DAMAGE)(out, rng)
    if inner and out[:4] == b"\x89PNG":
        return _signed_png(bytes(out))
    if inner and content[:4] == b"PK\x03\x04":
        return _signed_zip(bytes(content), rng, words)
    return bytes(out)


def _signed_png(content: bytes) -> bytes:
    """Chunks keep valid checksums, so that damage reaches the decoder."""
    out, at = bytearray(content[:8]), 8
    while at + 12 <= len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        body = content[at + 4 : at + 8 + size]
        out += content[at : at + 4] + body + struct.pack(">I", zlib.crc32(body))
        at += 12 + size
    return bytes(out + content[at:])


def _signed_zip(content: bytes, rng: random.Random, words: tuple[bytes, ...]) -> bytes:
    import zipfile

    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            new.writestr(name, damaged(old.read(name), rng, words, b""))
    return out.getvalue()


def input_of(reader: Reader, name: str, seeds: list[Files], seed: int, number: int) -> Files:
    """Input `number`: one healthy file set with one of its files damaged."""
    rng = random.Random(f"{seed}:{name}:{number}")
    chosen = rng.choice(seeds)
    victim = rng.choice(list(chosen)) if rng.random() < 0.3 else next(iter(chosen))
    other = next(iter(rng.choice(seeds).values()))
    return {
        path: damaged(content, rng, reader.dictionary, other) if path == victim else content
        for path, content in chosen.items()
    }


# --- running -----------------------------------------------------------------------------------


def put(files: Files, folder: Path) -> Path:
    """Write one input; returns the file that is read."""
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder / next(iter(files))


def _one(reader: Reader, path: Path) -> tuple[str, str]:
    """What came of one input: read, a code, or a finding with its trace."""
    try:
        reader.call(path)
    except CaseError as error:
        return error.code, ""
    except MemoryError:
        return "! memory", traceback.format_exc(limit=-4)
    except BaseException as error:  # noqa: BLE001 - that is what is looked for
        frames = traceback.extract_tb(error.__traceback__)
        ours = [f for f in frames if "fusion" in f.filename and "site-packages" not in f.filename]
        at = ours[-1] if ours else frames[-1]
        text = traceback.format_exc(limit=-6)
        return f"! {type(error).__name__} at {Path(at.filename).name}:{at.lineno}", text
    return "read", ""


def _batch(
    name: str, seeds: list[Files], seed: int, first: int, last: int, folder: Path, shared: mmap.mmap
) -> None:
    """In the child: inputs first to last, their outcomes as lines of outcomes.jsonl."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 1)
    os.dup2(devnull, 2)
    warnings.simplefilter("ignore")
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with (folder / "outcomes.jsonl").open("a") as out:
        for number in range(first, last):
            shared[:8] = number.to_bytes(8, "little")
            place = folder / "case"
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            path = put(input_of(READERS[name], name, seeds, seed, number), place)
            signal.setitimer(signal.ITIMER_REAL, SECONDS_EACH)
            what, text = _one(READERS[name], path)
            signal.setitimer(signal.ITIMER_REAL, 0)
            out.write(json.dumps([number, what, text]) + "\n")
            out.flush()


def run(
    name: str, seed: int, *, seconds: float, inputs: int, keep: Path | None, real: bool
) -> Outcome:
    """Fuzz one reader for so long, or so many inputs."""
    outcome = Outcome()
    with tempfile.TemporaryDirectory() as temporary, mmap.mmap(-1, 8) as shared:
        folder = Path(temporary)
        seeds = READERS[name].seeds(folder / "seeds")
        seeds += _real_seeds(READERS[name]) if real else []
        started, first = time.monotonic(), 0
        while (first < inputs) if inputs else (time.monotonic() - started < seconds):
            last = min(first + BATCH, inputs) if inputs else first + BATCH
            (folder / "outcomes.jsonl").write_text("")
            shared[:8] = first.to_bytes(8, "little")
            child = os.fork()
            if child == 0:
                try:
                    _batch(name, seeds, seed, first, last, folder, shared)
                finally:
                    os._exit(0)
            status = os.waitpid(child, 0)[1]
            rows = [json.loads(row) for row in (folder / "outcomes.jsonl").read_text().splitlines()]
            first = first + len(rows)
            if first < last:
                number = int.from_bytes(shared[:8], "little")
                ended = signal.Signals(status & 127).name if status & 127 else f"exit {status >> 8}"
                what = "hang" if ended == "SIGALRM" else ended
                victim = next(iter(input_of(READERS[name], name, seeds, seed, number)))
                rows.append([number, f"! {what} in {victim}", ""])
                first = number + 1
            _count(outcome, rows, name, seeds, seed, keep)
    return outcome


def _count(
    outcome: Outcome, rows: list[Any], name: str, seeds: list[Files], seed: int, keep: Path | None
) -> None:
    for number, what, text in rows:
        outcome.inputs += 1
        if what == "read":
            outcome.read += 1
        elif not what.startswith("!"):
            outcome.refused[what] += 1
        elif what not in outcome.findings:
            outcome.findings[what] = (number, text)
            if keep:
                place = keep / f"{name}-{seed}-{number}"
                place.mkdir(parents=True, exist_ok=True)
                put(input_of(READERS[name], name, seeds, seed, number), place)


def _real_seeds(reader: Reader) -> list[Files]:
    found = [path for pattern in reader.real for path in sorted(SHARED.glob(pattern))[:400:40]]
    small = [path for path in found if path.stat().st_size < 300_000]
    return [{path.name: path.read_bytes()} for path in small[:10]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=60, help="per reader")
    parser.add_argument("--inputs", type=int, default=0, help="per reader, instead of seconds")
    parser.add_argument("--reader", action="append", choices=sorted(READERS))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="folder for the inputs of findings")
    parser.add_argument(
        "--real", action="store_true", help="real files as seeds too, where present"
    )
    given = parser.parse_args()
    found = 0
    for name in given.reader or READERS:
        outcome = run(
            name, given.seed, seconds=given.seconds, inputs=given.inputs, keep=given.keep,
            real=given.real,
        )  # fmt: skip
        refused = ", ".join(f"{code} {n}" for code, n in outcome.refused.most_common())
        print(f"{name}: {outcome.inputs} inputs, {outcome.read} read, refused: {refused or 'none'}")
        for what, (number, text) in outcome.findings.items():
            found += 1
            print(f"  finding {what}, input {number}\n{text}".rstrip())
        sys.stdout.flush()
    print(f"{found} findings")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
