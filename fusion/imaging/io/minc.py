"""MINC 1 (NetCDF) and MINC 2 (HDF5) through nibabel, sizes checked before voxels are read."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.externals.netcdf import netcdf_file
from nibabel.minc1 import Minc1File
from nibabel.minc2 import Minc2File

from fusion.imaging.errors import CaseError
from fusion.imaging.geometry import without_shear
from fusion.imaging.io.hdf5 import checked_dataset, open_h5
from fusion.imaging.io.limits import LIMITS, Limits, pick
from fusion.imaging.io.nifti import without_nan
from fusion.imaging.io.streams import open_stream, read_bounded
from fusion.imaging.volume import Array, Grid, Volume

MINC_SUFFIXES = frozenset({".mnc"})
_HDF5 = b"\x89HDF"
_AXES = 3
_IMAGE = "minc-2.0/image/0"


def read_minc(path: Path, limits: Limits = LIMITS, *, channel: int | None = None) -> Volume:
    """One 3D volume, real values as the file's ranges say; `channel` takes one time point."""
    limits.check_file(path)
    with path.open("rb") as raw:
        opener = _open_2 if raw.read(4) == _HDF5 else _open_1
    try:
        with warnings.catch_warnings(), opener(path, limits) as file:
            warnings.simplefilter("ignore")
            return _volume(file, path.name, limits, channel)
    except CaseError:
        raise
    except MemoryError as error:
        raise CaseError("size_limit", f"{path.name}: more memory than there is") from error
    except Exception as error:  # both libraries answer damaged files with whatever comes
        raise CaseError("unreadable", f"{path.name}: not MINC: {error}") from error


@contextmanager
def _open_1(path: Path, limits: Limits) -> Iterator[Any]:
    with open_stream(path, limits) as stream:
        content = read_bounded(stream, limits.size_bytes, path.name)
    if content.getvalue()[:3] != b"CDF":
        raise CaseError("unreadable", f"{path.name}: neither NetCDF nor HDF5, expected MINC")
    yield Minc1File(netcdf_file(content))


@contextmanager
def _open_2(path: Path, limits: Limits) -> Iterator[Any]:
    with open_h5(path, limits) as file:
        for name in ("image", "image-max", "image-min"):
            found = checked_dataset(file, f"{_IMAGE}/{name}", path.name, scalar=True)
            limits.check_shape(path.name, (*found.shape, 1), 8)
        yield Minc2File(file)


def _volume(file: Any, name: str, limits: Limits, channel: int | None) -> Volume:
    shape = tuple(int(n) for n in file.get_data_shape())
    axes = [str(axis) for axis in file._dim_names]  # noqa: SLF001 - no public way to the names
    spatial = [n for n, axis in enumerate(axes) if axis.endswith("space")]
    further = [n for n in range(len(shape)) if n not in spatial]
    if len(axes) != len(shape) or len(spatial) != _AXES or len(further) > 1:
        raise CaseError("unreadable", f"{name}: axes {axes} of {shape}, expected x, y and z")
    dtype = np.dtype(file.get_data_dtype())
    if dtype.kind not in "uif":
        raise CaseError("dtype_refused", f"{name}: {dtype}, expected real numbers")
    i, j, k = (shape[n] for n in spatial)
    limits.check_shape(name, (i, j, k), 8)
    limits.check_shape(name, shape, dtype.itemsize)
    count = shape[further[0]] if further else 1
    taken = pick(name, count, channel)
    index = tuple(taken if n in further else slice(None) for n in range(len(shape)))
    array: Array = np.asarray(file.get_scaled_data(index), np.float32)
    array, flags = without_nan(array, name)
    affine = np.asarray(file.get_affine(), float)
    return without_shear(Volume(array, Grid((i, j, k), affine), "minc", flags=flags))
