"""NIfTI-1, NIfTI-2 and Analyze, in one file or two, read against a hostile header."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import numpy as np
from defusedxml import ElementTree
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header
from nibabel.spatialimages import HeaderDataError

from fusion.imaging.errors import CaseError
from fusion.imaging.geometry import choose_affine, without_shear
from fusion.imaging.io.limits import LIMITS, Limits, pick
from fusion.imaging.io.streams import (
    Buffer,
    gzip_blocks,
    open_stream,
    read_exactly,
    refuse_rest,
    skip,
    write_atomically,
)
from fusion.imaging.parallel import elementwise
from fusion.imaging.volume import Affine, Array, Grid, Shape, Volume

_CODES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4"}
_CODES |= {1024: "i8", 1280: "u8"}
_SIZES: dict[int, Any] = {348: Nifti1Header, 540: Nifti2Header}
_MAGIC = {348: (b"n+1", b"ni1"), 540: (b"n+2", b"ni2")}
_PAIR = {".hdr": ".img", ".img": ".hdr"}
PAIR_SUFFIXES = frozenset(_PAIR)
_OFFSET = 352
#: Voxels are packed in pieces of about this size.
_WRITE_BYTES = 1 << 20
#: Share of NaN and infinite voxels that may be replaced by the smallest finite value.
NAN_SHARE = 1e-3


def read_nifti(
    path: Path, limits: Limits = LIMITS, *, form: str | None = None, channel: int | None = None
) -> Volume:
    """One 3D volume, slope and intercept applied; see `read_image` for the arguments.

    Of a pair, either file may be named. Analyze has no affine: its volumes are `no_geometry`,
    unless `form` is "none".
    """
    parts = pair_of(path)
    with ExitStack() as opened:
        stream = opened.enter_context(open_stream(parts[0], limits))
        header, offset = _read_header(stream, path.name, paired=len(parts) > 1)
        shape, dtype = _shape(header, path.name), _dtype(header, path.name)
        expected = limits.check_shape(path.name, shape[:3], dtype.itemsize)
        frames = limits.check_frames(path.name, shape[3], expected)
        taken = pick(path.name, frames, channel)
        if len(parts) > 1:
            stream = opened.enter_context(open_stream(parts[1], limits))
        _skip_extensions(stream, offset, path.name, limits)
        skip(stream, taken * expected, path.name)
        payload = read_exactly(stream, expected, path.name)
        skip(stream, (frames - taken - 1) * expected, path.name)
        refuse_rest(stream, path.name, frames * expected)
    array: Array = np.frombuffer(payload, dtype).reshape(shape[:3], order="F")
    array = _scaled(array.astype(dtype.newbyteorder("="), copy=False), header)
    array, flags = without_nan(array, path.name)
    affine, geometry = _place(header, shape[:3], path.name, form)
    return without_shear(Volume(array, Grid(shape[:3], affine), geometry, flags=flags))


def pair_of(path: Path) -> tuple[Path, ...]:
    """The file, or header and voxels where two files (.hdr, .img) hold one image.

    Raises:
        CaseError: unreadable, when the other one is not there.
    """
    packed = path.suffix if path.suffix.lower() == ".gz" else ""
    plain = path.name.removesuffix(packed)
    stem, dot, suffix = plain.rpartition(".")
    if f".{suffix.lower()}" not in _PAIR:
        return (path,)
    other = _PAIR[f".{suffix.lower()}"].removeprefix(".")
    other = other.upper() if suffix.isupper() else other
    beside = [
        path.with_name(f"{stem}{dot}{other}{end}") for end in dict.fromkeys((packed, "", ".gz"))
    ]
    found = next((p for p in beside if p.is_file() and not p.is_symlink()), None)
    if found is None:
        raise CaseError("unreadable", f"{path.name}: no {beside[0].name} beside it")
    return (path, found) if suffix.lower() == "hdr" else (found, path)


def _read_header(stream: IO[bytes], name: str, *, paired: bool = False) -> tuple[Any, int]:
    """The header, and how many bytes lie between it (of a pair: the start) and the voxels."""
    first = bytes(read_exactly(stream, 4, f"{name} header"))
    sizes = {order: int.from_bytes(first, order) for order in ("little", "big")}
    order, size = next(((o, s) for o, s in sizes.items() if s in _SIZES), ("", 0))
    if not order:
        raise CaseError("unreadable", f"{name}: header size {sizes['little']}, expected 348 or 540")
    block = first + bytes(read_exactly(stream, size - 4, f"{name} header"))
    header = _SIZES[size](block, endianness="<" if order == "little" else ">", check=False)
    magic, expected = bytes(header["magic"])[:3], _MAGIC[size][int(paired)]
    offset = float(header["vox_offset"])
    if paired and size == 348 and magic[:1] != b"n":  # noqa: PLR2004
        _as_analyze(header)
    elif magic != expected:
        raise CaseError("unreadable", f"{name}: magic {magic!r}, expected {expected!r}")
    least = 0 if paired else size + 4
    start = 0 if paired else size
    if not np.isfinite(offset) or (offset != 0 and offset < start) or offset != int(offset):
        raise CaseError("unreadable", f"{name}: voxels start at {offset}, expected >= {least}")
    return header, (int(offset) or least) - start


def _as_analyze(header: Nifti1Header) -> None:
    """Analyze 7.5 shares sizes and types with NIfTI; what NIfTI added to it means nothing."""
    for field in ("qform_code", "sform_code", "scl_slope", "scl_inter"):
        header[field] = 0


def _shape(header: Nifti1Header, name: str) -> tuple[int, int, int, int]:
    """(I, J, K, N): N volumes on one grid, along one axis after the third."""
    dims = [int(n) for n in header["dim"]]
    count = dims[0]
    if not 1 <= count <= 7:  # noqa: PLR2004
        raise CaseError("unreadable", f"{name}: {count} axes, expected 3")
    sizes = dims[1 : count + 1]
    further = [n for n in sizes[3:] if n != 1]
    if len(further) > 1:
        raise CaseError("unreadable", f"{name}: {count}D {tuple(sizes)}, expected 3D or 4D")
    i, j, k = [*sizes, 1, 1][:3]
    return i, j, k, (further or [1])[0]


def _dtype(header: Nifti1Header, name: str) -> np.dtype[Any]:
    code = int(header["datatype"])
    if code not in _CODES:
        raise CaseError(
            "dtype_refused", f"{name}: NIfTI datatype {code}, expected one of {sorted(_CODES)}"
        )
    return np.dtype(f"{header.endianness}{_CODES[code]}")


def _skip_extensions(stream: IO[bytes], count: int, name: str, limits: Limits) -> bytes:
    if count > limits.header_bytes:
        raise CaseError("size_limit", f"{name}: {count} bytes of header extensions")
    return bytes(read_exactly(stream, count, f"{name} header extensions"))


def _scaled(array: Array, header: Nifti1Header) -> Array:
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if not np.isfinite(slope) or slope == 0:
        return array
    intercept = intercept if np.isfinite(intercept) else 0.0
    return rescaled(array, slope, intercept)


def rescaled(array: Array, slope: float, intercept: float) -> Array:
    """`array * slope + intercept`; integers stay integers where nothing is lost."""
    if (slope, intercept) == (1.0, 0.0):
        return array
    if array.dtype.kind == "f":
        kind = array.dtype.type
        floats: Array = array * kind(slope) + kind(intercept)
        return floats
    if slope == int(slope) and intercept == int(intercept):
        steps = int(slope), int(intercept)
        ends = [int(end) * steps[0] + steps[1] for end in (array.min(), array.max())]
        for whole in (np.int16, np.int32):
            low, high = np.iinfo(whole).min, np.iinfo(whole).max
            if low <= min(*ends, *steps) and max(*ends, *steps) <= high:
                # What overflows on the way comes back: the result fits.
                out: Array = array.astype(whole)
                out *= whole(steps[0])
                out += whole(steps[1])
                return out
    scaled: Array = elementwise(lambda part: part * slope + intercept, array, np.float32)
    return scaled


def without_nan(array: Array, name: str) -> tuple[Array, tuple[str, ...]]:
    """A few NaN or infinite voxels become the smallest value and a flag; many refuse the case."""
    if array.dtype.kind != "f":
        return array, ()
    if np.isfinite(array.min()) and np.isfinite(array.max()):
        return array, ()
    good = np.isfinite(array)
    share = 1 - float(np.count_nonzero(good)) / array.size
    if share > NAN_SHARE:
        raise CaseError(
            "unreadable", f"{name}: {share:.2%} of voxels are NaN or infinite, limit 0.1%"
        )
    return np.where(good, array, array[good].min()), ("nan_replaced",)


def _place(header: Nifti1Header, shape: Shape, name: str, form: str | None) -> tuple[Affine, str]:
    if form == "none":
        return np.eye(4), "none"
    forms = {"sform": _form(header, "sform"), "qform": _form(header, "qform")}
    if form is None and shape[2] == 1 and all(affine is None for affine in forms.values()):
        sizes = np.abs(np.nan_to_num(header["pixdim"][1:4].astype(float)))
        return np.diag([*np.where(sizes > 0, sizes, 1.0), 1.0]), "none"
    return choose_affine(name, shape, forms, form)


def _form(header: Nifti1Header, which: str) -> Affine | None:
    try:
        with np.errstate(all="ignore"):
            found: Affine | None = getattr(header, f"get_{which}")(coded=True)[0]
    except (HeaderDataError, ValueError, np.linalg.LinAlgError):
        return np.full((4, 4), np.nan)
    return found


def label_names(path: Path | str, limits: Limits = LIMITS) -> dict[int, str]:
    """Names of label values that travel in the header extensions (XML `<Label Key="1">spleen`)."""
    path = Path(path)
    with open_stream(path, limits) as stream:
        header, offset = _read_header(stream, path.name)
        block = _skip_extensions(stream, offset, path.name, limits)
    names: dict[int, str] = {}
    for content in _extensions(block, header.endianness):
        names |= _names_in(content)
    return names


def _extensions(block: bytes, endianness: str) -> list[bytes]:
    """Contents of the extensions; `block` starts with the four bytes that announce them."""
    found: list[bytes] = []
    at = 4
    order: Any = "little" if endianness == "<" else "big"
    while block[:1] != b"\0" and at + 8 <= len(block):
        size = int.from_bytes(block[at : at + 4], order)
        if size < 8 or at + size > len(block):  # noqa: PLR2004
            break
        found.append(block[at + 8 : at + size].rstrip(b"\0"))
        at += size
    return found


def _names_in(content: bytes) -> dict[int, str]:
    if b"<Label" not in content:
        return {}
    try:
        root = ElementTree.fromstring(content)
    except (ElementTree.ParseError, ValueError):
        return {}
    keyed = [(node.get("Key", ""), (node.text or "").strip()) for node in root.iter("Label")]
    return {int(key): text for key, text in keyed if key.isdigit() and text}


def write_nifti(volume: Volume, path: Path | str) -> None:
    """Write .nii or .nii.gz: equal volumes give equal bytes; free-text fields are blank.

    A volume without a place (geometry none) gets form codes of 0: its header says that, too.
    """
    path = Path(path)
    array = _storable(volume.array)
    header = Nifti1Header()
    header.set_data_dtype(array.dtype)
    header.set_data_shape(array.shape)
    header.set_xyzt_units("mm", "unknown")
    header["magic"], header["vox_offset"] = b"n+1", _OFFSET
    header["scl_slope"], header["scl_inter"] = 1, 0
    header["descrip"] = header["aux_file"] = header["intent_name"] = header["db_name"] = b""
    if volume.geometry == "none":
        header["pixdim"][:4] = (1, *volume.grid.spacing_mm)
    else:
        _set_forms(header, volume.grid)
    head, array = bytes(header.binaryblock) + b"\0\0\0\0", array.T
    planes = max(1, _WRITE_BYTES // array[0].nbytes)

    def block(number: int) -> Buffer:
        """The header, then some planes at a time in the order of the file."""
        if number == 0:
            return head
        part = array[(number - 1) * planes : number * planes]
        return np.ascontiguousarray(part).data.cast("B")

    count = 1 + -(-len(array) // planes)
    packed = path.name.endswith(".gz")
    write_atomically(path, gzip_blocks(block, count) if packed else map(block, range(count)))


def _storable(array: Array) -> Array:
    if array.dtype == bool:
        return array.astype(np.uint8)
    if array.dtype == np.float16:
        return array.astype(np.float32)
    if array.dtype.kind in "ui" and array.dtype.itemsize == 8:  # noqa: PLR2004
        low, high = int(array.min()), int(array.max())
        if np.iinfo(np.int32).min <= low and high <= np.iinfo(np.int32).max:
            return array.astype(np.int32)
    return array


def _set_forms(header: Nifti1Header, grid: Grid) -> None:
    header.set_sform(grid.affine, code=1)
    header.set_qform(grid.affine, code=1, strip_shears=True)
    # A quaternion cannot hold a sheared grid: then the sform stands alone.
    sform, qform = header.get_sform(), header.get_qform()
    if np.abs(sform - qform).max() > 1e-3 * min(grid.spacing_mm):
        header["qform_code"] = 0
