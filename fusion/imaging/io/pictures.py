"""2D pictures through Pillow: PNG, JPEG, TIFF, BMP, PPM, WebP, and each of them gzipped."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from fusion.imaging.errors import CaseError
from fusion.imaging.io.limits import LIMITS, Limits, pick
from fusion.imaging.io.streams import open_stream, read_bounded, write_atomically
from fusion.imaging.volume import Array, Picture

PICTURE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".ppm", ".pgm", ".pbm", ".webp"}
)
_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "PPM", "WEBP")
_GREY = {"L", "LA", "La"}
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
        return _pixels(ImageOps.exif_transpose(image), name)


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
    if array.dtype not in (np.uint8, np.uint16) or (array.dtype == np.uint16 and array.ndim != 2):  # noqa: PLR2004
        raise CaseError(
            "dtype_refused",
            f"{path.name}: {array.dtype} {array.shape}, expected uint8, or uint16 with one channel",
        )
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(array)).save(out, format="PNG", compress_level=6)
    write_atomically(path, out.getbuffer())
