"""A figure of the catalog as marks that lead to what they count, as CSV and as SVG. Pure."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from urllib.parse import urlencode

from catalog.facet_values import FACT_OF
from catalog.statistics import Figure, Matrix

ROWS_SHOWN = 15
ACROSS_SHOWN = 14
IN_ORDER = frozenset({"year", "coverage"})
_ASKED = frozenset({*FACT_OF, "access", "licence", "tier", "year"})
#: Facts of which a search can leave out the datasets where they are unknown.
_KNOWN = {
    **{field: facet for facet, field in FACT_OF.items()},
    **{name: name for name in ("year", "labelled", "licence", "access")},
}
_NAME, _BAR, _NUMBER, _ROW = 210, 330, 110, 22
_CELL, _HEAD = 56, 150
_INK, _MUTED, _FILL = "#17202b", "#526070", "#0b63a5"


@dataclass(frozen=True)
class Mark:
    """One bar or cell: `question` is the query string of the search behind it, "" without one.

    `share` is of the longest bar, or of the fullest cell: 0 to 1.
    """

    value: str
    number: int
    share: float
    question: str


@dataclass(frozen=True)
class Line:
    """A row of a matrix."""

    value: str
    marks: tuple[Mark, ...]


def unit_of(figure: Figure | Matrix) -> str:
    """What its numbers count."""
    return "images" if figure.name == "images" else "datasets"


def bars(figure: Figure, most: int | None = None) -> list[Mark]:
    """The bars of a figure, the `most` largest ones; all where an order is shown."""
    rows = figure.rows if most is None or figure.name in IN_ORDER else figure.rows[:most]
    longest = figure.of if figure.name == "coverage" else max((n for _, n in rows), default=1)
    return [
        Mark(value, number, number / max(longest, 1), question_of(figure.name, value))
        for value, number in rows
    ]


def lines(
    matrix: Matrix,
    tone: Callable[[float], float] = float,
    down: int | None = None,
    across: int | None = None,
) -> list[Line]:
    """The cells of a matrix, of its first rows and columns.

    `tone` is applied to a number before it is compared, as a logarithm for uneven ones.
    """
    full = tone(max((cell for line in matrix.cells for cell in line), default=1)) or 1
    first, second = matrix.name.split("-")
    return [
        Line(
            value,
            tuple(
                Mark(other, n, min(tone(n) / full, 1), urlencode({first: value, second: other}))
                for other, n in zip(matrix.across[:across], row, strict=False)
            ),
        )
        for value, row in zip(matrix.down[:down], matrix.cells, strict=False)
    ]


def question_of(name: str, value: str) -> str:
    """The query string of the search that finds what a bar counts; "" where no search does."""
    if name == "coverage":
        return urlencode({f"not_{_KNOWN[value]}": "unknown"}) if value in _KNOWN else ""
    return urlencode({name: value}) if name in _ASKED else ""


def to_csv(figure: Figure | Matrix, search: str) -> str:
    """Every number of a figure, not only those that a page shows.

    Args:
        search: address of the search page; each row of a figure names the search behind it.
    """
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    if isinstance(figure, Matrix):
        rows.writerow([figure.name, *figure.across])
        for line in lines(figure):
            rows.writerow([line.value, *(mark.number for mark in line.marks)])
    else:
        rows.writerow([figure.name, unit_of(figure), "search"])
        rows.writerows([mark.value, mark.number, _address(mark, search)] for mark in bars(figure))
    return out.getvalue()


def to_svg(figure: Figure | Matrix, search: str) -> str:
    """A figure as its page shows it, drawn by itself: each mark is a link with a name."""
    width, height, drawn = (
        _matrix(figure, search) if isinstance(figure, Matrix) else _chart(figure, search)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="system-ui, sans-serif" font-size="12" '
        f'role="group" aria-labelledby="title rule">'
        f'<title id="title">{escape(figure.title)}</title>'
        f'<desc id="rule">{escape(figure.rule)} {figure.of} datasets.</desc>'
        f'<rect width="100%" height="100%" fill="#ffffff"/>'
        f"{_text(8, 20, figure.title, size=15, weight=600)}{''.join(drawn)}</svg>\n"
    )


def _chart(figure: Figure, search: str) -> tuple[int, int, Iterator[str]]:
    marks = bars(figure, ROWS_SHOWN)
    return _NAME + _BAR + _NUMBER, 44 + _ROW * len(marks), _rows(marks, figure, search)


def _rows(marks: Sequence[Mark], figure: Figure, search: str) -> Iterator[str]:
    for place, mark in enumerate(marks):
        top = 34 + place * _ROW
        drawn = _text(_NAME - 8, top + 13, mark.value, anchor="end") + (
            f'<rect x="{_NAME}" y="{top + 3}" width="{mark.share * _BAR:.1f}" '
            f'height="{_ROW - 8}" fill="{_FILL}"/>'
        )
        drawn += _text(_NAME + mark.share * _BAR + 6, top + 13, f"{mark.number:,}", fill=_MUTED)
        yield _linked(drawn, f"{mark.value}: {mark.number} {unit_of(figure)}", mark, search)


def _matrix(matrix: Matrix, search: str) -> tuple[int, int, Iterator[str]]:
    shown = lines(matrix, down=ROWS_SHOWN, across=ACROSS_SHOWN)
    across = matrix.across[:ACROSS_SHOWN]
    width = _NAME + _CELL * len(across) + 90
    return width, _HEAD + _ROW * len(shown) + 12, _cells(shown, across, search)


def _cells(shown: Sequence[Line], across: Sequence[str], search: str) -> Iterator[str]:
    for column, value in enumerate(across):
        x = _NAME + (column + 0.5) * _CELL
        turned = f'transform="rotate(-40 {x:.0f} {_HEAD - 8})"'
        yield _text(x, _HEAD - 8, value, more=turned)
    for row, line in enumerate(shown):
        top = _HEAD + row * _ROW
        yield _text(_NAME - 8, top + 15, line.value, anchor="end")
        for column, mark in enumerate(line.marks):
            if not mark.number:
                continue
            x = _NAME + column * _CELL
            opacity = 0.08 + 0.46 * math.ceil(10 * mark.share) / 10
            drawn = (
                f'<rect x="{x}" y="{top}" width="{_CELL - 1}" height="{_ROW - 1}" '
                f'fill="{_FILL}" fill-opacity="{opacity:.2f}"/>'
            )
            drawn += _text(x + _CELL / 2, top + 15, f"{mark.number:,}", anchor="middle")
            name = f"{line.value}, {mark.value}: {mark.number} datasets"
            yield _linked(drawn, name, mark, search)


def _linked(drawn: str, name: str, mark: Mark, search: str) -> str:
    told = f"<title>{escape(name)}</title>{drawn}"
    if not mark.question:
        return f"<g>{told}</g>"
    return f'<a href="{escape(_address(mark, search))}" aria-label="{escape(name)}">{told}</a>'


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", fill: str = _INK, size: int = 12,
    weight: int = 400, more: str = "",
) -> str:  # fmt: skip
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{fill}" font-size="{size}" '
        f'font-weight="{weight}" {more}>{escape(text)}</text>'
    )


def _address(mark: Mark, search: str) -> str:
    return f"{search}?{mark.question}" if mark.question else ""
