"""Small pictures of cases: window, contours, letters for the sides. Equal input, equal bytes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from catalog.describe import number
from fusion.imaging.boxes import Corners, filled
from fusion.imaging.geometry import to_ras
from fusion.imaging.resize import resize_array
from fusion.imaging.volume import Array, Picture, Volume, every

Rgb = tuple[int, int, int]
Marked = tuple[int, Corners]  # a label value and its box
#: Okabe and Ito's colours, told apart by colour-blind people; bright ones first.
PALETTE: tuple[Rgb, ...] = (
    (86, 180, 233), (230, 159, 0), (240, 228, 66), (204, 121, 167),
    (0, 158, 115), (213, 94, 0), (0, 114, 178),
)  # fmt: skip
WHITE: Rgb = (255, 255, 255)
AXIS_OF = {"axial": 2, "coronal": 1, "sagittal": 0}  # of an array in RAS order
SIDE_3D, SIDE_2D, GAP = 128, 192, 2
SOFT, WIDE = (-160.0, 240.0), (-1000.0, 1000.0)  # windows of a CT, HU
GREYS, COLOURS = 64, 96
#: Share of a small pixel from which a label is drawn; thin structures would vanish at a half.
COVERED = 0.3
_GLYPHS = {
    "L": "10000 10000 10000 10000 10000 10000 11111",
    "R": "11110 10001 10001 11110 10100 10010 10001",
    "A": "01110 10001 10001 11111 10001 10001 10001",
    "P": "11110 10001 10001 11110 10000 10000 10000",
    "S": "01111 10000 10000 01110 00001 00001 11110",
    "I": "01110 00100 00100 00100 00100 00100 01110",
}


@dataclass(frozen=True)
class Plane:
    """One slice as it is looked at: row 0 on top, column 0 on the viewer's left.

    `pixel_mm` is (height, width); `letters` name the sides left, right, top, bottom. `boxes` are
    (value, (x0, y0, x1, y1)) in pixels of the image.
    """

    name: str
    image: Array
    label: Array | None
    pixel_mm: tuple[float, float]
    letters: str
    boxes: tuple[Marked, ...] = ()


@dataclass(frozen=True)
class Drawing:
    """A finished picture; `shown` are the label values drawn, `window` says how grey was chosen."""

    png: bytes
    width: int
    height: int
    planes: tuple[str, ...]
    shown: tuple[int, ...]
    window: str


def colour_of(value: int) -> Rgb:
    """Colour of label value 1, 2, ..; they repeat after seven."""
    return PALETTE[(value - 1) % len(PALETTE)]


def draw(
    image: Volume | Picture,
    label: Volume | Picture | None,
    boxes: Sequence[Marked] | None = None,
) -> Drawing:
    """Three slices through the label's centre, or the picture without and with its contours.

    Boxes of a volume are drawn as solid things would be; None where the labels are no boxes.
    """
    values = None if label is None else label.array
    if isinstance(image, Picture):
        low, high, window = window_2d(image)
        tiles = [Plane("picture", image.array, None, (1.0, 1.0), "")]
        if values is not None:
            tiles.append(Plane("contours", image.array, values, (1.0, 1.0), ""))
        if boxes is not None:
            tiles.append(Plane("boxes", image.array, None, (1.0, 1.0), "", tuple(boxes)))
        side = SIDE_2D
    else:
        if boxes is not None:
            values = filled(boxes, image.array.shape)
        low, high, window = window_3d(image, values)
        tiles, side = list(planes(image, values)), SIDE_3D
    return _compose(tiles, side, low, high, window)


def compare(image: Array, reference: Array | None, prediction: Array | None) -> Drawing:
    """One slice or picture alone, with the outlines of its reference, and of a prediction.

    Args:
        image: (H, W) or (H, W, 3).
        reference: (H, W), value v is concept v; None where the labels are no masks.
        prediction: the same.
    """
    low, high, window = window_2d(Picture(image))
    marked = [("reference", reference), ("prediction", prediction)]
    tiles = [Plane("image", image, None, (1.0, 1.0), "")]
    tiles += [Plane(n, image, marks, (1.0, 1.0), "") for n, marks in marked if marks is not None]
    return _compose(tiles, SIDE_2D, low, high, window)


def planes(image: Volume, label: Array | None) -> tuple[Plane, ...]:
    """Axial, coronal and sagittal slice through the label's centre."""
    turned, marks = in_ras(image, label)
    place = centre(turned.array.shape if marks is None else marks)
    return tuple(plane_at(turned, marks, name, place[axis]) for name, axis in AXIS_OF.items())


def in_ras(image: Volume, label: Array | None) -> tuple[Volume, Array | None]:
    """Image and label map in RAS order, as views of the same memory."""
    turned, step = to_ras(image)
    if label is None:
        return turned, None
    axes, flips = step.params["axes"], step.params["flips"]
    return turned, label.transpose(axes)[tuple(slice(None, None, -1 if f else 1) for f in flips)]


def plane_at(image: Volume, label: Array | None, name: str, index: int) -> Plane:
    """One slice of a volume in RAS order, seen from below, in front or the left.

    Patient left is on the viewer's right, as radiologists look at it.
    """
    x, y, z = image.grid.spacing_mm
    back = slice(None, None, -1)
    cuts: dict[str, tuple[tuple[Any, ...], tuple[float, float], str]] = {
        "axial": ((back, back, index), (y, x), "RLAP"),
        "coronal": ((back, index, back), (z, x), "RLSI"),
        "sagittal": ((index, back, back), (z, y), "APSI"),
    }
    cut, mm, letters = cuts[name]
    return Plane(name, image.array[cut].T, None if label is None else label[cut].T, mm, letters)


def centre(label: Array | Sequence[int]) -> tuple[int, int, int]:
    """Voxel at the centre of the label (or of a shape).

    Where the slice there shows nothing, as between two hippocampi, the fullest slice of the axis.
    """
    if not isinstance(label, np.ndarray):
        return tuple(n // 2 for n in label)  # type: ignore[return-value]
    mask = label > 0
    if not mask.any():
        return centre(label.shape)
    found = []
    for axis in range(3):
        other = tuple(n for n in range(3) if n != axis)
        counts = mask.sum(axis=other)
        middle = int(np.rint((counts * np.arange(len(counts))).sum() / counts.sum()))
        found.append(middle if counts[middle] else int(counts.argmax()))
    return found[0], found[1], found[2]


def window_2d(image: Picture) -> tuple[float, float, str]:
    if image.array.dtype == np.uint8:
        return 0.0, 255.0, "as stored"
    return percentiles(image.array)


def window_3d(image: Volume, label: Array | None) -> tuple[float, float, str]:
    if image.unit != "hu":
        return percentiles(image.array)
    low, high = SOFT
    if label is not None and (label > 0).any():
        middle = float(np.median(image.array[label > 0]))
        low, high = SOFT if low <= middle <= high else WIDE
    return low, high, f"{low:g} to {high:g} HU"


def percentiles(array: Array, cut: float = 0.5) -> tuple[float, float, str]:
    """Low, high and words for the window that leaves out `cut` percent at either end."""
    step = max(1, array.size >> 18)
    values = every(array, step).astype(np.float64)
    low, high = np.quantile(values, [cut / 100, 1 - cut / 100])
    if high <= low:
        low, high = float(array.min()), max(float(array.max()), float(array.min()) + 1)
    words = f"percentiles {number(cut)} to {number(100 - cut)} ({number(low)} to {number(high)})"
    return float(low), float(high), words


def _compose(tiles: Sequence[Plane], side: int, low: float, high: float, window: str) -> Drawing:
    largest = max(
        max(n * mm for n, mm in zip(t.image.shape, t.pixel_mm, strict=False)) for t in tiles
    )
    width = len(tiles) * side + (len(tiles) - 1) * GAP
    colour = tiles[0].image.ndim == 3  # noqa: PLR2004
    canvas = np.zeros((side, width, 3) if colour else (side, width), np.float32)
    marks = np.zeros((side, width), np.uint16)
    for n, tile in enumerate(tiles):
        size = [max(1, round(s * mm * side / largest))
                for s, mm in zip(tile.image.shape, tile.pixel_mm, strict=False)]  # fmt: skip
        top, left = (side - size[0]) // 2, n * (side + GAP) + (side - size[1]) // 2
        box = (slice(top, top + size[0]), slice(left, left + size[1]))
        canvas[box] = scaled((tile.image.astype(np.float32) - low) / (high - low) * 255, size)
        if tile.label is not None:
            marks[box] = _contours(tile.label, size)
        marks[box] = np.where(drawn := rectangles(tile, size), drawn, marks[box])
    letters = np.zeros((side, width), bool)
    for n, tile in enumerate(tiles):
        draw_letters(letters[:, n * (side + GAP) : n * (side + GAP) + side], tile.letters)
    png = _encode(np.clip(canvas, 0, 255).astype(np.uint8), marks, letters)
    shown = tuple(int(v) for v in np.unique(marks) if v)
    return Drawing(png, width, side, tuple(t.name for t in tiles), shown, window)


def scaled(plane: Array, size: Sequence[int]) -> Array:
    """Averaged where it shrinks, interpolated where it grows."""
    small = (min(plane.shape[0], size[0]), min(plane.shape[1], size[1]))
    return resize_array(resize_array(plane, small, "area"), (size[0], size[1]), "linear")


def rectangles(tile: Plane, size: Sequence[int]) -> npt.NDArray[np.uint16]:
    """The edges of each box at (height, width); one pixel at least."""
    out = np.zeros((size[0], size[1]), np.uint16)
    height, width = tile.image.shape[:2]
    for value, (x0, y0, x1, y1) in tile.boxes:
        left, right = _pixels(x0, x1, size[1] / width, size[1])
        top, bottom = _pixels(y0, y1, size[0] / height, size[0])
        out[[top, bottom], left : right + 1] = value
        out[top : bottom + 1, [left, right]] = value
    return out


def _pixels(first: float, last: float, scale: float, size: int) -> tuple[int, int]:
    """The first and last pixel that a stretch covers when it is scaled."""
    start = min(int(first * scale), size - 1)
    return start, max(min(int(np.ceil(last * scale)) - 1, size - 1), start)


def _contours(label: Array, size: Sequence[int]) -> npt.NDArray[np.uint16]:
    """Inner outline of each value of `owners`."""
    return outlines(owners(label, size))


def owners(label: Array, size: Sequence[int]) -> npt.NDArray[np.uint16]:
    """The label map at (height, width): a pixel is of the value that covers most of it.

    The smallest structure keeps one pixel.
    """
    owner = np.zeros((size[0], size[1]), np.uint16)
    most = np.zeros(owner.shape, np.float32)
    places = []
    for value in np.unique(label):
        if value == 0:
            continue
        share = scaled((label == value).astype(np.float32), size)
        owner[share > most] = value
        most = np.maximum(most, share)
        places.append((value, np.unravel_index(share.argmax(), share.shape)))
    owner[most < COVERED] = 0
    for value, place in places:
        if not (owner == value).any():
            owner[place] = value
    return owner


def outlines(owner: npt.NDArray[np.uint16], width: int = 1) -> npt.NDArray[np.uint16]:
    """The pixels of each value within `width` of its edge or of the picture's."""
    out = np.zeros_like(owner)
    for value in np.unique(owner[owner > 0]):
        mask = inside = owner == value
        for _ in range(width):
            inside = ~grown(~np.pad(inside, 1))[1:-1, 1:-1]
        out[mask & ~inside] = value
    return out


def draw_letters(canvas: npt.NDArray[np.bool_], letters: str, scale: int = 1) -> None:
    """L, R, A, P, S, I at the middle of the sides left, right, top, bottom; (H, W) of a slice."""
    height, width = canvas.shape
    tall, wide, edge = 7 * scale, 5 * scale, 2 * scale
    middle, across = (height - tall) // 2, (width - wide) // 2
    rows = (middle, middle, edge, height - tall - edge)
    columns = (edge, width - wide - edge, across, across)
    block = np.ones((scale, scale), bool)
    for letter, top, left in zip(letters, rows, columns, strict=False):
        glyph = np.array([[c == "1" for c in row] for row in _GLYPHS[letter].split()])
        canvas[top : top + tall, left : left + wide] |= np.kron(glyph, block)


def grown(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The mask and the four neighbours of each pixel."""
    out = mask.copy()
    out[1:] |= mask[:-1]
    out[:-1] |= mask[1:]
    out[:, 1:] |= mask[:, :-1]
    out[:, :-1] |= mask[:, 1:]
    return out


def _encode(canvas: Array, marks: Array, letters: Array) -> bytes:
    """A palette PNG: few greys or colours, then the label colours, then white."""
    if canvas.ndim == 2:  # noqa: PLR2004
        index = (canvas.astype(np.uint16) * (GREYS - 1) // 255).astype(np.uint8)
        grey = [round(n * 255 / (GREYS - 1)) for n in range(GREYS)]
        palette = [channel for value in grey for channel in (value, value, value)]
    else:
        few = Image.fromarray(canvas).quantize(
            COLOURS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE
        )
        index = np.asarray(few).copy()
        palette = (few.getpalette() or [])[: 3 * COLOURS]
    first = len(palette) // 3
    drawn = marks > 0
    index[drawn] = first + (marks[drawn] - 1) % len(PALETTE)
    index[grown(letters)] = 0
    index[letters] = first + len(PALETTE)
    out = io.BytesIO()
    image = Image.frombytes("P", (index.shape[1], index.shape[0]), index.tobytes())
    image.putpalette([*palette, *(c for rgb in (*PALETTE, WHITE) for c in rgb)])
    image.save(out, "PNG", compress_level=9)
    return out.getvalue()


def hex_of(colour: Rgb) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def joined(rows: Sequence[Sequence[bytes]]) -> bytes | None:
    """PNGs side by side, one row below the other, as one PNG; None without any."""
    opened = [[Image.open(io.BytesIO(png)).convert("RGB") for png in row] for row in rows]
    if not opened:
        return None
    width = max(sum(one.width + GAP for one in row) - GAP for row in opened)
    height = sum(max(one.height for one in row) + GAP for row in opened) - GAP
    canvas, top = Image.new("RGB", (width, height)), 0
    for row in opened:
        left = 0
        for one in row:
            canvas.paste(one, (left, top))
            left += one.width + GAP
        top += max(one.height for one in row) + GAP
    out = io.BytesIO()
    few = canvas.quantize(192, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    few.save(out, "PNG", compress_level=9)
    return out.getvalue()
