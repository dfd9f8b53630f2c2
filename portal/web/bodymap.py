"""A body seen from the front: regions of the anatomy vocabulary as shapes with labels. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

LEFT, RIGHT = 128, 332  # where labels end and begin; the figure stands around x = 230
STEPS = 6


@dataclass(frozen=True)
class Shape:
    """A region's outline in the figure, its label's height, and where the label's line ends."""

    term: str
    outline: str
    side: int
    y: int
    to: tuple[int, int]

    @property
    def line(self) -> str:
        start = self.side + (4 if self.side == LEFT else -4)
        return f"M{start} {self.y} L{self.to[0]} {self.to[1]}"

    @property
    def anchor(self) -> str:
        return "end" if self.side == LEFT else "start"


@dataclass(frozen=True)
class Region:
    """A shape with the number of datasets behind it; `shade` from 1 to 6 grows with its log."""

    shape: Shape
    count: int
    shade: int


def _ellipse(x: float, y: float, rx: float, ry: float) -> str:
    return f"M{x - rx} {y} a{rx} {ry} 0 1 0 {2 * rx} 0 a{rx} {ry} 0 1 0 {-2 * rx} 0Z"


def _both(x: float, y: float, rx: float, ry: float) -> str:
    """An ellipse and its mirror image."""
    return _ellipse(x, y, rx, ry) + _ellipse(460 - x, y, rx, ry)


# Larger shapes first: what lies on top of another is drawn after it.
SHAPES = (
    Shape(
        "Musculoskeletal",
        "M190 94 Q170 96 166 122 L152 194 L144 238 L159 242 L172 196 L186 136Z"
        "M270 94 Q290 96 294 122 L308 194 L316 238 L301 242 L288 196 L274 136Z"
        "M191 266 Q208 278 228 279 L223 334 L219 402 L202 402 L196 334Z"
        "M269 266 Q252 278 232 279 L237 334 L241 402 L258 402 L264 334Z",
        RIGHT, 306, (262, 300),
    ),
    Shape("Head and neck", _ellipse(230, 44, 26, 33) + "M219 72 L219 88 L241 88 L241 72Z",
          LEFT, 66, (218, 66)),
    Shape("Chest", "M190 93 Q230 82 270 93 L276 122 L268 168 L192 168 L184 122Z",
          RIGHT, 110, (268, 110)),
    Shape("Abdomen", "M192 170 L268 170 L264 228 L196 228Z", RIGHT, 178, (262, 178)),
    Shape("Pelvis", "M196 230 L264 230 L269 264 Q230 284 191 264Z", RIGHT, 236, (260, 238)),
    Shape("Brain", _ellipse(230, 32, 21, 16), LEFT, 26, (214, 30)),
    Shape("Eye", _both(221, 54, 5.5, 3.5), RIGHT, 50, (245, 54)),
    Shape("Lung", "M223 98 Q200 98 195 154 Q210 164 223 152Z"
          "M237 98 Q260 98 265 154 Q250 164 237 152Z", LEFT, 112, (206, 122)),
    Shape("Spine", "M227.5 90 h5 V228 h-5Z", RIGHT, 84, (232, 94)),
    Shape("Heart", _ellipse(237, 138, 11, 13), RIGHT, 142, (246, 140)),
    Shape("Breast", _both(208, 148, 9, 9), LEFT, 146, (202, 148)),
    Shape("Liver", "M200 174 Q226 168 246 178 Q232 194 202 194Z", LEFT, 180, (206, 182)),
    Shape("Kidney", _both(208, 208, 7, 10), LEFT, 212, (204, 209)),
    Shape("Gastrointestinal tract", "M220 198 h20 q6 0 6 6 v14 q0 6 -6 6 h-20 q-6 0 -6 -6 v-14 "
          "q0 -6 6 -6Z", RIGHT, 208, (244, 210)),
    Shape("Prostate", _ellipse(230, 258, 9, 7), RIGHT, 266, (237, 260)),
    Shape("Hand", _both(150, 252, 8, 13), LEFT, 268, (146, 258)),
    Shape("Knee", _both(210, 334, 11, 12), LEFT, 334, (203, 334)),
    Shape("Foot", "M202 404 L220 404 L220 416 Q200 422 190 416Z"
          "M258 404 L240 404 L240 416 Q260 422 270 416Z", RIGHT, 404, (264, 410)),
)  # fmt: skip


def regions(counts: Mapping[str, int]) -> list[Region]:
    """Every shape with its number of datasets; the most frequent has the strongest shade."""
    most = max((counts.get(shape.term, 0) for shape in SHAPES), default=0)
    return [
        Region(shape, number, _shade(number, most))
        for shape in SHAPES
        if (number := counts.get(shape.term, 0))
    ]


def _shade(number: int, most: int) -> int:
    return max(1, math.ceil(STEPS * math.log1p(number) / math.log1p(most)))
