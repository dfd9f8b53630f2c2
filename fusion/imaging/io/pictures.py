"""2D pictures through Pillow: PNG, JPEG, TIFF, BMP, PPM, WebP, GIF, and each of them gzipped."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from fusion.imaging.errors import CaseError
from fusion.imaging.io.limits import LIMITS, Limits, pick
from fusion.imaging.io.streams import open_stream, read_bounded, write_atomically
from fusion.imaging.volume import Array, Picture

PICTURE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".ppm", ".pgm", ".pbm", ".webp", ".gif"}
)
_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "PPM", "WEBP", "GIF")
_FFMPEG = {"PNG": "png_pipe", "TIFF": "tiff_pipe"}
_ORIENTATION = 0x0112
_TURNS = {
    2: (True, 0), 3: (False, 2), 4: (True, 2), 5: (True, 3), 6: (False, 1), 7: (True, 1),
    8: (False, 3),
}  # fmt: skip
_GREY = {"L", "LA", "La"}
_COLOUR_AXES = 3
_SIXTEEN = {"I;16", "I;16L", "I;16B", "I;16N", "I"}


def read_picture(path: Path, limits: Limits = LIMITS, *, channel: int | None = None) -> Picture:
    """Grey (H, W) or RGB (H, W, 3): palette expanded, alpha dropped, EXIF orientation applied.

    `channel` takes one page of a TIFF, or one frame where a picture moves.
    """
    with open_stream(path, limits) as stream:
        content = read_bounded(stream, limits.size_bytes, path.name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return _decode(content, path.name, limits, channel)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as bomb:
        raise CaseError("size_limit", f"{path.name}: {bomb}") from bomb
    except CaseError:
        raise
    except (OSError, SyntaxError, ValueError, EOFError, TypeError, KeyError, IndexError) as error:
        # Pillow's plugins answer damaged files with any of these.
        raise CaseError("unreadable", f"{path.name}: {error}") from error


def _decode(content: io.BytesIO, name: str, limits: Limits, channel: int | None) -> Picture:
    with Image.open(content, formats=_FORMATS) as image:
        width, height = image.size
        limits.check_shape(name, (height, width), 4)
        # The further frames of an MPO are previews or the other eye of a camera.
        frames = 1 if image.format == "MPO" else int(getattr(image, "n_frames", 1))
        taken = pick(name, limits.check_frames(name, frames, 1), channel, along="frames")
        if taken:
            image.seek(taken)
            limits.check_shape(name, image.size[::-1], 4)
        if _is_deep(image):
            if taken or frames != 1:
                raise CaseError("dtype_refused", f"{name}: pages of 16-bit colour, expected one")
            return _deep_pixels(content, image, name)
        return _pixels(ImageOps.exif_transpose(image), name)


def _is_deep(image: Image.Image) -> bool:
    """Several channels of 16 bits, of which Pillow would keep 8."""
    tiles: Any = getattr(image, "tile", ())
    args = tiles[0].args if tiles else ""
    raw = args if isinstance(args, str) else str(args[0] if args else "")
    return ";16" in raw and image.mode not in _SIXTEEN


def _deep_pixels(content: io.BytesIO, image: Image.Image, name: str) -> Picture:
    """16 bits a channel, decoded by FFmpeg; alpha is dropped."""
    import av

    if image.format not in _FFMPEG or image.mode not in {"RGB", "RGBA", "LA"}:
        raise CaseError("dtype_refused", f"{name}: 16-bit {image.format} in {image.mode}")
    orientation = int(image.getexif().get(_ORIENTATION, 1))
    content.seek(0)
    try:
        with av.open(content, mode="r", format=_FFMPEG[image.format]) as container:
            frame = next(container.decode(video=0))
            # Pillow's size is that after turning.
            if sorted((frame.height, frame.width)) != sorted(image.size):
                raise CaseError("unreadable", f"{name}: two sizes in one picture")
            grey = image.mode == "LA"
            array = frame.to_ndarray(format="gray16le" if grey else "rgb48le")
    except (av.FFmpegError, StopIteration, ValueError) as error:
        raise CaseError("unreadable", f"{name}: {error}") from error
    return Picture(np.ascontiguousarray(_turned(array.astype(np.uint16), orientation)), bits=16)


def _turned(array: Array, orientation: int) -> Array:
    """EXIF orientation 1 to 8: perhaps mirrored, then turned clockwise by quarters."""
    mirrored, quarters = _TURNS.get(orientation, (False, 0))
    return np.rot90(array[:, ::-1] if mirrored else array, -quarters)


def _pixels(image: Image.Image, name: str) -> Picture:
    mode = image.mode
    if mode == "1":
        # 0 and 255, so that one threshold serves every file of a source with mixed depths.
        return Picture(np.where(np.asarray(image), np.uint8(255), np.uint8(0)), bits=1)
    if mode in _SIXTEEN:
        return Picture(_sixteen_bits(np.asarray(image), name), bits=16)
    if mode == "F":
        return Picture(_finite(np.asarray(image, np.float32), name), bits=32)
    if mode in _GREY:
        return Picture(_channel(image, 0))
    rgb = Picture(np.asarray(_to_rgb(image)).copy())
    return rgb.grey_if_equal() if mode in {"P", "PA"} else rgb


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in {"P", "PA"}:
        return image.convert("RGBA").convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _channel(image: Image.Image, index: int) -> Array:
    array = np.asarray(image)
    return array.copy() if array.ndim == 2 else array[..., index].copy()  # noqa: PLR2004


def _sixteen_bits(array: Array, name: str) -> Array:
    low, high = int(array.min()), int(array.max())
    if low < 0 or high > 65_535:  # noqa: PLR2004
        raise CaseError(
            "dtype_refused", f"{name}: pixels span {low} to {high}, expected 0 to 65535"
        )
    return array.astype(np.uint16)


def _finite(array: Array, name: str) -> Array:
    if not np.isfinite(array).all():
        raise CaseError("unreadable", f"{name}: float picture with NaN or infinite pixels")
    return array.copy()


def write_png(picture: Picture | Array, path: Path | str) -> None:
    """Write 8 or 16 bits, without text or time: equal pixels give equal bytes."""
    path = Path(path)
    array = picture.array if isinstance(picture, Picture) else Picture(picture).array
    if array.dtype == bool:
        array = array.astype(np.uint8)
    if array.dtype not in (np.uint8, np.uint16):
        raise CaseError(
            "dtype_refused", f"{path.name}: {array.dtype} {array.shape}, expected uint8 or uint16"
        )
    if array.dtype == np.uint16 and array.ndim == _COLOUR_AXES:
        write_atomically(path, _png_of_deep_colour(array))
        return
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(array)).save(out, format="PNG", compress_level=6)
    write_atomically(path, out.getbuffer())


def _png_of_deep_colour(array: Array) -> bytes:
    """RGB of 16 bits, which Pillow cannot write: one chunk, each row less the one above it."""
    rows = np.ascontiguousarray(array, ">u2").view(np.uint8).reshape(array.shape[0], -1)
    above = np.vstack([np.zeros_like(rows[:1]), rows[:-1]])
    lines = np.hstack([np.full((len(rows), 1), 2, np.uint8), rows - above])
    head = struct.pack(">IIBBBBB", array.shape[1], array.shape[0], 16, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(lines.tobytes(), 6)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
