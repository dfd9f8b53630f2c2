"""Numpy files, without pickle and with sizes checked from the header."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import IO

import numpy as np

from fusion.imaging.errors import CaseError
from fusion.imaging.io.limits import LIMITS, Limits, pick
from fusion.imaging.io.streams import open_stream, read_exactly, refuse_rest
from fusion.imaging.volume import Array, Picture

_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read_npz(path: Path | str, key: str, limits: Limits = LIMITS) -> Array:
    """The array `key` of an .npz archive (any shape; the first axis may count items)."""
    path = Path(path)
    limits.check_file(path)
    try:
        with (
            zipfile.ZipFile(path) as archive,
            archive.open(_member(archive, key, path.name)) as member,
        ):
            return _read_npy(member, f"{path.name}[{key}]", limits)
    except CaseError:
        raise
    except Exception as error:  # a damaged archive: zlib, names that are no text, encryption
        raise CaseError("unreadable", f"{path.name}: {error}") from error


def read_array(path: Path, key: str = "", limits: Limits = LIMITS) -> Array:
    """The one array of an .npy file, or the array `key` of an .npz archive, any shape."""
    if path.suffix.lower() == ".npz":
        return read_npz(path, key, limits)
    with open_stream(path, limits) as stream:
        return _read_npy(stream, path.name, limits)


def _member(archive: zipfile.ZipFile, key: str, name: str) -> str:
    keys = [member.removesuffix(".npy") for member in archive.namelist()]
    if key not in keys:
        raise CaseError("unreadable", f"{name}: no array {key!r}; it has {keys}")
    return archive.namelist()[keys.index(key)]


def read_npy(path: Path, limits: Limits = LIMITS, *, channel: int | None = None) -> Picture:
    """A picture from an .npy file; an array of more axes has no place in the world."""
    pick(path.name, 1, channel)
    with open_stream(path, limits) as stream:
        array = _read_npy(stream, path.name, limits)
    if array.ndim == 3 and array.shape[2] == 4:  # noqa: PLR2004
        array = array[..., :3]
    if array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3):  # noqa: PLR2004
        return Picture(array, bits=array.dtype.itemsize * 8)
    raise CaseError("no_geometry", f"{path.name}: {array.shape} without an affine")


def _read_npy(stream: IO[bytes], name: str, limits: Limits) -> Array:
    try:
        version = np.lib.format.read_magic(stream)
        shape, fortran_order, dtype = _HEADERS[version](stream)
    except Exception as error:  # numpy hands the header to Python's own parser
        raise CaseError("unreadable", f"{name}: not an .npy header: {error}") from error
    if dtype.kind not in "buif" or dtype.itemsize > 8:  # noqa: PLR2004
        raise CaseError("dtype_refused", f"{name}: {dtype}, expected real numbers")
    if not shape or math.prod(shape) == 0:
        raise CaseError("unreadable", f"{name}: empty array of shape {shape}")
    expected = limits.check_shape(name, shape, dtype.itemsize, rows=1)
    payload = read_exactly(stream, expected, name)
    refuse_rest(stream, name, expected)
    array: Array = np.frombuffer(payload, dtype).reshape(shape, order="F" if fortran_order else "C")
    if dtype.kind == "f" and not np.isfinite(array).all():
        raise CaseError("unreadable", f"{name}: NaN or infinite values")
    return array.astype(dtype.newbyteorder("="), copy=False)
