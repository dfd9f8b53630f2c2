"""One slice of a case as somebody looks through it: window, masks, letters for the sides.

Equal input, equal bytes.
"""

from __future__ import annotations

import io
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
from PIL import Image

from fusion.imaging.boxes import filled
from fusion.imaging.errors import CaseError
from fusion.imaging.resize import resize_array
from fusion.imaging.volume import Affine, Array, Grid, Picture, Volume
from fusion.report.pictures import (
    AXIS_OF,
    PALETTE,
    Marked,
    Plane,
    Rgb,
    centre,
    colour_of,
    draw_letters,
    grown,
    in_ras,
    outlines,
    owners,
    percentiles,
    plane_at,
    rectangles,
    scaled,
    window_2d,
    window_3d,
)

DRAWING = 1  # goes up when the same slice is drawn in another way
PLANES = tuple(AXIS_OF)
PICTURE = "picture"  # the one plane of a 2D case
OVERLAYS = ("outline", "fill", "off")
#: Windows of a CT by name: from, to, HU.
CT_WINDOWS = {
    "soft tissue": (-160.0, 240.0),
    "lung": (-1350.0, 150.0),
    "bone": (-500.0, 1300.0),
    "brain": (0.0, 80.0),
    "wide": (-1000.0, 1000.0),
}
#: Windows of other images: percent left out at either end.
CUTS = {"percentiles 0.5 to 99.5": 0.5, "percentiles 2 to 98": 2.0, "percentiles 5 to 95": 5.0,
        "whole range": 0.0}  # fmt: skip
TILTED_DEGREES = 5.0


@dataclass(frozen=True)
class Look:
    """How a slice is drawn.

    `low` and `high` are the values drawn black and white; `side` is the longer side in pixels;
    `opacity` is 0 to 1; the label values in `hidden` are not drawn.
    """

    low: float
    high: float
    overlay: str = "outline"
    opacity: float = 1.0
    hidden: frozenset[int] = frozenset()
    side: int = 512


@dataclass(frozen=True, eq=False)
class Scene:
    """An image to look at, with its label map on the same grid.

    A volume is in RAS order: index 0 of the planes is left, posterior and inferior.
    """

    image: Volume | Picture
    marks: Array | None
    boxes: tuple[Marked, ...] = ()  # of a picture; those of a volume are filled in `marks`

    @property
    def planes(self) -> tuple[str, ...]:
        return PLANES if isinstance(self.image, Volume) else (PICTURE,)

    @property
    def size_bytes(self) -> int:
        return self.image.array.nbytes + (0 if self.marks is None else self.marks.nbytes)

    @property
    def tilt_degrees(self) -> float:
        """Largest angle between an axis of the slices and the body's axis nearest to it."""
        if not isinstance(self.image, Volume):
            return 0.0
        axes = self.image.grid.affine[:3, :3] / np.array(self.image.grid.spacing_mm)
        return math.degrees(math.acos(min(1.0, float(np.abs(np.diag(axes)).min()))))

    def slices(self, plane: str) -> int:
        """How many slices a plane has."""
        return self.image.array.shape[AXIS_OF[plane]] if plane in AXIS_OF else 1

    @cached_property
    def middle(self) -> dict[str, int]:
        """The slice of each plane through the centre of the labels, or of the image."""
        if not isinstance(self.image, Volume):
            return {PICTURE: 0}
        place = centre(self.image.array.shape if self.marks is None else self.marks)
        return {plane: place[axis] for plane, axis in AXIS_OF.items()}

    @cached_property
    def windows(self) -> dict[str, tuple[float, float]]:
        """From, to by name; the first is that of the contact sheets."""
        image = self.image
        if isinstance(image, Volume) and image.unit == "hu":
            low, high, _ = window_3d(image, self.marks)
            first = next(name for name, ends in CT_WINDOWS.items() if ends == (low, high))
            return {first: (low, high), **CT_WINDOWS}
        found = {name: percentiles(image.array, cut)[:2] for name, cut in CUTS.items()}
        if isinstance(image, Picture) and image.array.dtype == np.uint8:
            found = {"as stored": window_2d(image)[:2], **found}
        return found

    def plane(self, name: str, index: int) -> Plane:
        """One slice of `plane`."""
        if isinstance(self.image, Picture):
            return Plane(name, self.image.array, self.marks, (1.0, 1.0), "", self.boxes)
        found = plane_at(self.image, self.marks, name, index)
        if self.image.geometry == "none":  # nobody says which side is which
            return Plane(name, found.image, found.label, found.pixel_mm, "")
        return found


def scene(
    image: Array,
    label: Array | None,
    affine: Affine | None,
    *,
    unit: str = "unknown",
    is_placed: bool = True,
    boxes: Sequence[Marked] = (),
) -> Scene:
    """A scene from decoded arrays; `affine` (voxel to mm, RAS+) is None for a picture.

    `boxes` are on the grid of the image, in place of a label map.

    Raises:
        CaseError: the arrays are no volume or picture, or the label map has another shape.
    """
    if label is not None and label.shape != image.shape[: label.ndim]:
        raise CaseError("grid_conflict", f"label is {label.shape}, its image {image.shape}")
    if affine is None:
        return Scene(Picture(image), label, tuple(boxes))
    if boxes:
        label = filled(boxes, image.shape)
    shape = image.shape if image.ndim == 3 else (0, 0, 0)  # noqa: PLR2004 - refused by the grid
    grid = Grid((shape[0], shape[1], shape[2]), affine)
    geometry = "sform" if is_placed else "none"
    return Scene(*in_ras(Volume(image, grid, geometry, unit), label))


def shade_of(value: int) -> Rgb:
    """Colour of a label value: that of the contact sheets, then darker and paler ones."""
    turn = (value - 1) // len(PALETTE)
    if not turn:
        return colour_of(value)
    towards = 0 if turn % 2 else 255
    red, green, blue = ((2 * c + towards) // 3 for c in colour_of(value))
    return red, green, blue


def draw_slice(plane: Plane, look: Look) -> bytes:
    """The slice as a PNG in its true proportions, with letters where the sides are known."""
    extents = [n * mm for n, mm in zip(plane.image.shape, plane.pixel_mm, strict=False)]
    size = [max(1, round(extent * look.side / max(extents))) for extent in extents]
    values = np.nan_to_num(plane.image.astype(np.float32))
    grey = scaled((values - look.low) / (look.high - look.low) * 255, size)
    grey = np.clip(np.rint(grey), 0, 255).astype(np.uint8)
    canvas = np.repeat(grey[..., None], 3, axis=2) if grey.ndim == 2 else grey.copy()  # noqa: PLR2004
    if plane.label is not None and look.overlay != "off":
        _draw_marks(canvas, _shown(plane.label, look.hidden), look)
    if plane.boxes and look.overlay != "off":
        _draw_boxes(canvas, plane, look)
    letters, scale = np.zeros(canvas.shape[:2], bool), 1 + look.side // 400
    if plane.letters and min(size) >= 3 * 9 * scale:
        draw_letters(letters, plane.letters, scale)
        canvas[grown(letters)] = 0
        canvas[letters] = 255
    out = io.BytesIO()
    is_grey = bool((canvas == canvas[..., :1]).all())
    Image.fromarray(canvas[..., 0] if is_grey else canvas).save(out, "PNG", compress_level=4)
    return out.getvalue()


def _draw_boxes(canvas: npt.NDArray[np.uint8], plane: Plane, look: Look) -> None:
    """The edges of the boxes, as wide as other outlines; a box has no other overlay."""
    shown = tuple(box for box in plane.boxes if box[0] not in look.hidden)
    edges = rectangles(replace(plane, boxes=shown), canvas.shape)
    for value in np.unique(edges[edges > 0]):
        mask = edges == value
        for _ in range(look.side // 400):
            mask = grown(mask)
        canvas[mask] = shade_of(int(value))


def _shown(label: Array, hidden: Collection[int]) -> Array:
    return np.where(np.isin(label, list(hidden)), 0, label) if hidden else label


def _draw_marks(canvas: npt.NDArray[np.uint8], label: Array, look: Look) -> None:
    """Colours on the pixels of the label map: whole voxels where it grows, none lost where not."""
    size = canvas.shape[:2]
    small = (min(label.shape[0], size[0]), min(label.shape[1], size[1]))
    owner = label if small == label.shape else owners(label, small)
    owner = resize_array(owner.astype(np.uint16), (size[0], size[1]), "nearest")
    if look.overlay == "outline":
        owner = outlines(owner, 1 + look.side // 400)
    for value in np.unique(owner[owner > 0]):
        mask = owner == value
        colour = np.array(shade_of(int(value)), np.float32)
        mixed = canvas[mask] * (1 - look.opacity) + colour * look.opacity
        canvas[mask] = np.rint(mixed).astype(np.uint8)
