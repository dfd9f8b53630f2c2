"""FreeSurfer volumes (.mgz, .mgh), read against a hostile header."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from nibabel.freesurfer.mghformat import MGHHeader

from fusion.imaging.errors import CaseError
from fusion.imaging.geometry import without_shear
from fusion.imaging.io.limits import LIMITS, Limits, pick
from fusion.imaging.io.nifti import without_nan
from fusion.imaging.io.streams import open_stream, read_exactly, skip
from fusion.imaging.volume import Array, Grid, Volume

MGH_SUFFIXES = frozenset({".mgz", ".mgh"})
_DATA_OFFSET = 284
_DTYPES = {0: ">u1", 1: ">i4", 3: ">f4", 4: ">i2", 10: ">u2"}
_VERSION = 1


def read_mgh(path: Path, limits: Limits = LIMITS, *, channel: int | None = None) -> Volume:
    """One 3D volume; `channel` takes one frame of several.

    Raises:
        CaseError: no_geometry where the file says that its place is not known.
    """
    with open_stream(path, limits) as stream:
        block = bytes(read_exactly(stream, _DATA_OFFSET, f"{path.name} header"))
        header = MGHHeader(block[: MGHHeader._hdrdtype.itemsize], check=False)  # noqa: SLF001
        version, code = int(header["version"]), int(header["type"])
        if version != _VERSION:
            raise CaseError("unreadable", f"{path.name}: MGH version {version}, expected 1")
        if code not in _DTYPES:
            raise CaseError("dtype_refused", f"{path.name}: MGH type {code}, not in {[*_DTYPES]}")
        dtype = np.dtype(_DTYPES[code])
        i, j, k, frames = (int(n) for n in header["dims"])
        expected = limits.check_shape(path.name, (i, j, k), dtype.itemsize)
        taken = pick(path.name, limits.check_frames(path.name, frames, expected), channel)
        skip(stream, taken * expected, path.name)
        payload = read_exactly(stream, expected, path.name)
        # Scan parameters and names may follow the last frame.
        skip(stream, (frames - taken - 1) * expected, path.name)
    if not _is_placed(block):
        raise CaseError("no_geometry", f"{path.name}: the file says that its place is not known")
    array: Array = np.frombuffer(payload, dtype).reshape((i, j, k), order="F")
    array, flags = without_nan(array.astype(dtype.newbyteorder("=")), path.name)
    with np.errstate(all="ignore"):
        affine = header.get_affine()
    return without_shear(Volume(array, Grid((i, j, k), affine), "mgh", flags=flags))


def _is_placed(block: bytes) -> bool:
    """FreeSurfer's own flag; without it the library would assume coronal slices of 1 mm."""
    return int.from_bytes(block[28:30], "big", signed=True) > 0
