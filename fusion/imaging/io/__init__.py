"""Read and write images: one module per format family, one door."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fusion.imaging.errors import CaseError
from fusion.imaging.io.arrays import (
    H5_SUFFIXES,
    npy_shape,
    read_array,
    read_npy,
    read_npy_row,
    read_npz,
)
from fusion.imaging.io.dicom import read_dicom_file, read_series, slice_names
from fusion.imaging.io.dicom_header import DicomFacts, dicom_facts, is_dicom
from fusion.imaging.io.hdf5 import h5_shape, read_h5
from fusion.imaging.io.itk import ITK_SUFFIXES, parts_of, read_itk
from fusion.imaging.io.labelset import Code, LabelSet
from fusion.imaging.io.limits import LIMITS, Limits
from fusion.imaging.io.mgh import MGH_SUFFIXES, read_mgh
from fusion.imaging.io.minc import MINC_SUFFIXES, read_minc
from fusion.imaging.io.nifti import PAIR_SUFFIXES, label_names, pair_of, read_nifti, write_nifti
from fusion.imaging.io.pictures import PICTURE_SUFFIXES, read_picture, write_png
from fusion.imaging.io.shapes import Drawing, Shape, ShapeFile, read_shapes
from fusion.imaging.io.structures import read_structures
from fusion.imaging.io.video import (
    VIDEO_SUFFIXES,
    VideoFacts,
    read_frame,
    read_frames,
    read_video,
    video_facts,
)
from fusion.imaging.volume import Picture, Volume

__all__ = [
    "H5_SUFFIXES",
    "LIMITS",
    "PICTURE_SUFFIXES",
    "VIDEO_SUFFIXES",
    "Code",
    "DicomFacts",
    "Drawing",
    "LabelSet",
    "Limits",
    "Shape",
    "ShapeFile",
    "VideoFacts",
    "dicom_facts",
    "h5_shape",
    "image_parts",
    "label_names",
    "npy_shape",
    "read_array",
    "read_frame",
    "read_frames",
    "read_h5",
    "read_image",
    "read_npy_row",
    "read_npz",
    "read_shapes",
    "read_structures",
    "slice_names",
    "video_facts",
    "write_nifti",
    "write_png",
]


def read_image(
    path: Path | str,
    limits: Limits = LIMITS,
    *,
    form: str | None = None,
    channel: int | None = None,
) -> Volume | Picture:
    """Read a file of any known format, or a folder that holds one DICOM series.

    NIfTI, Analyze, NRRD, MetaImage, MGH and MINC give volumes, pictures and frames of videos
    pictures, DICOM either.

    Args:
        path: file or folder; a final .gz is undone. Of two files of one image, either.
        limits: bounds held before memory is asked for.
        form: "sform" or "qform" where a source's rule settles which of two affines is right,
            "none" where it says that no file tells.
        channel: index on the fourth axis, where one file holds several images of one size: MR
            sequences, time points, pages. Needed where there are several.

    Raises:
        CaseError: the file cannot be used; its code says why.
    """
    path = Path(path)
    reader = _reader_of(path)
    try:
        if reader is read_nifti:
            return read_nifti(path, limits, form=form, channel=channel)
        return reader(path, limits, channel=channel)
    except (CaseError, OSError, MemoryError):
        raise
    except Exception as error:  # what a library makes of a file that nobody foresaw
        raise CaseError("unreadable", f"{path.name}: {type(error).__name__}: {error}") from error


_BY_SUFFIX: dict[str, Callable[..., Volume | Picture]] = {
    ".npy": read_npy,
    ".dcm": read_dicom_file,
    **dict.fromkeys((".nii", *PAIR_SUFFIXES), read_nifti),
    **dict.fromkeys(PICTURE_SUFFIXES, read_picture),
    **dict.fromkeys(ITK_SUFFIXES, read_itk),
    **dict.fromkeys(MGH_SUFFIXES, read_mgh),
    **dict.fromkeys(MINC_SUFFIXES, read_minc),
    **dict.fromkeys(VIDEO_SUFFIXES, read_video),
}


def _reader_of(path: Path) -> Callable[..., Volume | Picture]:
    if path.is_dir():
        return read_series
    suffix = suffix_of(path)
    packed_itk = suffix in ITK_SUFFIXES and path.suffix.lower() not in ITK_SUFFIXES
    if suffix in _BY_SUFFIX and not packed_itk:
        return _BY_SUFFIX[suffix]
    if path.is_file() and is_dicom(path):
        return read_dicom_file
    known = ", ".join(sorted({".nii.gz", *_BY_SUFFIX}))
    raise CaseError("unreadable", f"{path.name}: no reader for {suffix!r}; known: {known}")


def suffix_of(path: Path) -> str:
    """The last suffix in lower case, a final .gz left out."""
    name = path.name.lower().removesuffix(".gz")
    return name[name.rfind(".") :] if "." in name else ""


def image_parts(path: Path) -> tuple[Path, ...]:
    """The files that hold one image: two where a header has its voxels in another file.

    A header that cannot be read counts as the whole image; reading it says what is wrong.
    """
    try:
        if suffix_of(path) in PAIR_SUFFIXES:
            return pair_of(path)
        if path.suffix.lower() in ITK_SUFFIXES:
            return parts_of(path)
    except (CaseError, OSError):
        return (path,)
    return (path,)
