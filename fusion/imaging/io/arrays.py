"""Arrays of numpy and MATLAB files, without pickle and with sizes checked from the header."""

from __future__ import annotations

import io
import math
import zipfile
from pathlib import Path
from typing import IO, Any, Literal

import h5py
import numpy as np

from fusion.imaging.errors import CaseError
from fusion.imaging.io.hdf5 import read_h5
from fusion.imaging.io.limits import LIMITS, Limits, pick
from fusion.imaging.io.streams import open_stream, read_exactly, refuse_rest, skip
from fusion.imaging.volume import Array, Picture

H5_SUFFIXES = frozenset({".h5", ".hdf5", ".hdf"})
_WORD_BYTES = 4 * 256  # of one item that is text
#: MATLAB classes that are numbers -> bytes of an item.
_MAT_KINDS = {"double": 8, "single": 4, "logical": 1} | {
    f"{sign}int{bits}": bits // 8 for sign in ("", "u") for bits in (8, 16, 32, 64)
}
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read_npz(path: Path | str, key: str, limits: Limits = LIMITS, *, words: bool = False) -> Array:
    """The array `key` of an .npz archive (any shape; the first axis may count items)."""
    path = Path(path)
    limits.check_file(path)
    try:
        with (
            zipfile.ZipFile(path) as archive,
            archive.open(_member(archive, key, path.name)) as member,
        ):
            return _read_npy(member, f"{path.name}[{key}]", limits, words=words)
    except CaseError:
        raise
    except Exception as error:  # a damaged archive: zlib, names that are no text, encryption
        raise CaseError("unreadable", f"{path.name}: {error}") from error


def read_array(path: Path, key: str = "", limits: Limits = LIMITS, *, words: bool = False) -> Array:
    """The one array of an .npy file, or the array `key` of a .npz, .mat or .h5 file, any shape.

    Args:
        words: text is allowed, too (of .npy and .npz).
    """
    suffix = path.suffix.lower()
    if suffix == ".npz":
        return read_npz(path, key, limits, words=words)
    if suffix == ".mat":
        return _read_mat(path, key, limits)
    if suffix in H5_SUFFIXES:
        return read_h5(path, key, limits)
    with open_stream(path, limits) as stream:
        return _read_npy(stream, path.name, limits, words=words)


def npy_shape(path: Path, limits: Limits = LIMITS) -> tuple[int, ...]:
    """Sizes of the array of an .npy file, from its header."""
    with open_stream(path, limits) as stream:
        return _npy_header(stream, path.name, words=True)[0]


def read_npy_row(path: Path, row: int, limits: Limits = LIMITS) -> Array:
    """One item along the first axis of an .npy file, however large the file is."""
    with open_stream(path, limits) as stream:
        shape, fortran_order, dtype = _npy_header(stream, path.name, words=True)
        if fortran_order:
            raise CaseError("unreadable", f"{path.name}: rows in Fortran order lie apart")
        if not 0 <= row < shape[0]:
            raise CaseError("unreadable", f"{path.name}: no row {row}; it has {shape[0]}")
        size = limits.check_shape(path.name, (1, *shape[1:]), dtype.itemsize, rows=1)
        if isinstance(stream, io.BufferedReader):
            stream.seek(row * size, io.SEEK_CUR)
        else:
            skip(stream, row * size, path.name)
        payload = read_exactly(stream, size, path.name)
    return _values(payload, shape[1:], "C", dtype, path.name)


def _read_mat(path: Path, key: str, limits: Limits) -> Array:
    """An array of a MATLAB file: up to version 7 through scipy, 7.3 is HDF5 with axes reversed."""
    limits.check_file(path)
    with path.open("rb") as file:
        is_h5 = file.read(512).find(b"MATLAB 7.3") == 0 or h5py.is_hdf5(path)
    if is_h5:
        return read_h5(path, key, limits).T
    from scipy.io import loadmat, whosmat

    try:
        known = {name: (shape, kind) for name, shape, kind in whosmat(path)}
        if key in known and known[key][1] in _MAT_KINDS:
            limits.check_shape(f"{path.name}[{key}]", known[key][0], _MAT_KINDS[known[key][1]])
            found = loadmat(path, variable_names=[key], struct_as_record=False)[key]
        else:
            found = None
    except (CaseError, MemoryError):
        raise
    except Exception as error:  # scipy answers damaged files with whatever its parser raises
        raise CaseError("unreadable", f"{path.name}: no MATLAB file: {error}") from error
    if found is None:
        has = {name: kind for name, (_, kind) in sorted(known.items())[:20]}
        raise CaseError("unreadable", f"{path.name}: no array of numbers {key!r}; it has {has}")
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "buif":
        raise CaseError("dtype_refused", f"{path.name}[{key}]: expected real numbers")
    if found.dtype.kind == "f" and not np.isfinite(found).all():
        raise CaseError("unreadable", f"{path.name}[{key}]: NaN or infinite values")
    return np.ascontiguousarray(found)


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


def _npy_header(
    stream: IO[bytes], name: str, *, words: bool
) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    try:
        version = np.lib.format.read_magic(stream)
        shape, fortran_order, dtype = _HEADERS[version](stream)
    except Exception as error:  # numpy hands the header to Python's own parser
        raise CaseError("unreadable", f"{name}: not an .npy header: {error}") from error
    is_text = words and dtype.kind in "US" and 0 < dtype.itemsize <= _WORD_BYTES
    if not is_text and (dtype.kind not in "buif" or dtype.itemsize > 8):  # noqa: PLR2004
        raise CaseError("dtype_refused", f"{name}: {dtype}, expected real numbers")
    if not shape or math.prod(shape) == 0:
        raise CaseError("unreadable", f"{name}: empty array of shape {shape}")
    return shape, fortran_order, dtype


def _read_npy(stream: IO[bytes], name: str, limits: Limits, *, words: bool = False) -> Array:
    shape, fortran_order, dtype = _npy_header(stream, name, words=words)
    expected = limits.check_shape(name, shape, dtype.itemsize, rows=1)
    payload = read_exactly(stream, expected, name)
    refuse_rest(stream, name, expected)
    return _values(payload, shape, "F" if fortran_order else "C", dtype, name)


def _values(
    payload: bytes | bytearray | memoryview,
    shape: tuple[int, ...],
    order: Literal["C", "F"],
    dtype: np.dtype[Any],
    name: str,
) -> Array:
    array: Array = np.frombuffer(payload, dtype).reshape(shape, order=order)
    if dtype.kind == "f" and not np.isfinite(array).all():
        raise CaseError("unreadable", f"{name}: NaN or infinite values")
    return array.astype(dtype.newbyteorder("="), copy=False)
