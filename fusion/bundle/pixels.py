"""Decode and encode the images of a bundle; files may come from strangers."""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from isal import igzip
from numpy.typing import NDArray
from PIL import Image

from fusion.bundle.errors import BundleError

MAX_BYTES = 2 << 30
NIFTI, PNG = ".nii.gz", ".png"
_TEXT_FIELDS = ("descrip", "db_name", "aux_file", "intent_name")
_GZIP = b"\x1f\x8b"
#: What Pillow finds in a JPEG that speaks of pixels only.
_JPEG_KEYS = {"jfif", "jfif_version", "jfif_unit", "jfif_density", "dpi", "progressive"} | {
    "progression", "adobe", "adobe_transform", "icc_profile",
}  # fmt: skip
#: Chunks of a PNG that describe pixels; any other one could hold words about a person.
_PNG_CHUNKS = {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"sRGB", b"gAMA", b"cHRM", b"sBIT"}


@dataclass(frozen=True)
class Decoded:
    """`array` (I, J, K) with its affine, or (H, W[, C]) without; `words` found beside pixels."""

    array: NDArray[Any]
    affine: NDArray[np.float64] | None
    words: tuple[str, ...] = ()

    @property
    def grid_shape(self) -> tuple[int, ...]:
        """Shape without channels."""
        return self.array.shape if self.affine is not None else self.array.shape[:2]


def suffix_of(name: str) -> str:
    """`.nii.gz` or `.png`.

    Raises:
        BundleError: neither of the two.
    """
    for suffix in (NIFTI, PNG):
        if name.endswith(suffix):
            return suffix
    raise BundleError("format_unknown", f"{name}: expected a name that ends in .nii.gz or .png")


def decode(name: str, data: bytes) -> Decoded:
    """Decode image bytes; `name` gives the format.

    Raises:
        BundleError: the bytes are no such image, or unpack to more than 2 GiB.
    """
    suffix = suffix_of(name)
    try:
        return _decode_nifti(data) if suffix == NIFTI else _decode_png(data)
    except BundleError as error:
        raise BundleError(error.code, f"{name}: {error}") from error
    except Exception as error:
        # Readers raise whatever broken bytes make them raise: all of it means the same.
        raise BundleError("unreadable", f"{name}: {type(error).__name__}: {error}") from error


def encode_labels(name: str, labels: NDArray[Any], like: Decoded) -> bytes:
    """A label map (uint8 or uint16) on the grid of `like`, as deterministic bytes."""
    if suffix_of(name) == PNG:
        out = io.BytesIO()
        Image.fromarray(labels).save(out, "PNG", compress_level=6)
        return out.getvalue()
    from nibabel import Nifti1Image  # not for web processes

    image = Nifti1Image(labels, like.affine)
    image.header.set_xyzt_units("mm")
    image.set_qform(like.affine, code=1)
    image.set_sform(like.affine, code=1)
    return bytes(igzip.compress(image.to_bytes(), compresslevel=1, mtime=0))


def words_beside(name: str, data: bytes) -> tuple[str, ...] | None:
    """What a publisher's file says beside its pixels; None where this cannot be told."""
    lower = name.lower()
    try:
        if lower.endswith((".nii", NIFTI)):
            return _decode_nifti(data).words
        if lower.endswith(PNG):
            return tuple(f"PNG chunk {chunk.decode('latin-1')}" for chunk in _other_chunks(data))
        if lower.endswith((".jpg", ".jpeg")):
            with Image.open(io.BytesIO(data), formats=("JPEG",)) as picture:
                return tuple(f"JPEG {key}" for key in sorted(set(picture.info) - _JPEG_KEYS))
    except Exception:  # noqa: BLE001 - broken bytes raise whatever they raise: nothing can be told
        return None
    return None


def _decode_nifti(data: bytes) -> Decoded:
    from nibabel import Nifti1Image

    image = Nifti1Image.from_bytes(_gunzip(data) if data[:2] == _GZIP else data)
    header = image.header
    words = [
        f"{field}={text!r}"
        for field in _TEXT_FIELDS
        if (text := bytes(header[field].tobytes()).strip(b"\0 ").decode("latin-1"))
    ]
    words += [f"header extension {one.get_code()}" for one in header.extensions]
    return Decoded(np.asanyarray(image.dataobj), np.asarray(image.affine, float), tuple(words))


def _gunzip(data: bytes) -> bytes:
    """Inflate every gzip member and stop one byte past the limit."""
    parts, total = [], 0
    while data:
        inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
        part = inflater.decompress(data, MAX_BYTES - total + 1)
        total += len(part)
        if total > MAX_BYTES:
            raise BundleError("size_limit", f"unpacks to more than {MAX_BYTES} bytes")
        if not inflater.eof:
            raise BundleError("unreadable", "the gzip stream is cut short")
        parts.append(part)
        data = inflater.unused_data
    return b"".join(parts)


def _decode_png(data: bytes) -> Decoded:
    words = tuple(f"PNG chunk {name.decode('latin-1')}" for name in _other_chunks(data))
    with Image.open(io.BytesIO(data), formats=("PNG",)) as picture:
        height, width = picture.height, picture.width
        if height * width * 8 > MAX_BYTES:
            raise BundleError("size_limit", f"{width} x {height} pixels are too many")
        array = np.asarray(picture)
    return Decoded(array, None, words)


def _other_chunks(data: bytes) -> list[bytes]:
    found, position = [], 8
    while position + 8 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        name = data[position + 4 : position + 8]
        if name not in _PNG_CHUNKS:
            found.append(name)
        position += length + 12
    return found
