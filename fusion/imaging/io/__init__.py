"""Read and write images: one module per format family, one door."""

from __future__ import annotations

from pathlib import Path

from fusion.imaging.errors import CaseError
from fusion.imaging.io.arrays import read_npy, read_npz
from fusion.imaging.io.dicom import read_dicom_file, read_series
from fusion.imaging.io.itk import ITK_SUFFIXES, parts_of, read_itk
from fusion.imaging.io.limits import LIMITS, Limits
from fusion.imaging.io.nifti import label_names, read_nifti, write_nifti
from fusion.imaging.io.pictures import PICTURE_SUFFIXES, read_picture, write_png
from fusion.imaging.volume import Picture, Volume

__all__ = [
    "LIMITS",
    "Limits",
    "image_parts",
    "label_names",
    "read_image",
    "read_npz",
    "write_nifti",
    "write_png",
]


def read_image(
    path: Path | str, limits: Limits = LIMITS, *, form: str | None = None
) -> Volume | Picture:
    """Read NIfTI, NRRD, MetaImage, a picture, an array, DICOM, or a folder that is one series.

    Args:
        path: file or folder; a final .gz is undone.
        limits: bounds held before memory is asked for.
        form: "sform" or "qform" where a source's rule settles which of two affines is right.

    Raises:
        CaseError: the file cannot be used; its code says why.
    """
    path = Path(path)
    if path.is_dir():
        return read_series(path, limits)
    name = path.name.lower().removesuffix(".gz")
    suffix = name[name.rfind(".") :] if "." in name else ""
    if suffix == ".nii":
        return read_nifti(path, limits, form=form)
    if suffix in PICTURE_SUFFIXES:
        return read_picture(path, limits)
    if suffix == ".npy":
        return read_npy(path, limits)
    if suffix == ".dcm":
        return read_dicom_file(path, limits)
    if path.suffix.lower() in ITK_SUFFIXES:
        return read_itk(path, limits)
    known = ", ".join(sorted({".nii", ".nii.gz", ".npy", ".dcm", *ITK_SUFFIXES, *PICTURE_SUFFIXES}))
    raise CaseError("unreadable", f"{path.name}: no reader for {suffix!r}; known: {known}")


def image_parts(path: Path) -> tuple[Path, ...]:
    """The files that hold one image: two where a header names the file of its voxels.

    A header that cannot be read counts as the whole image; reading it says what is wrong.
    """
    if path.suffix.lower() not in ITK_SUFFIXES:
        return (path,)
    try:
        return parts_of(path)
    except (CaseError, OSError):
        return (path,)
