"""Charts as inline SVG: colours come from the page's style sheet, text can be read by machines."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from html import escape, unescape
from pathlib import Path

import numpy as np

from catalog.describe import number
from fusion.report.measure import Floats, boxes

WIDTH, HEIGHT = 340, 120
LEFT, FLOOR = 8, HEIGHT - 18
LOGARITHMIC = " (logarithmic axis)"
MOST_DOTS = 120
CUT, HEADROOM = 3.0, 1.6
ROW, LABEL = 26, 112
STRIP_WIDTH = 520


def histogram(before: Floats, after: Floats, edges: Floats, logarithmic: bool, title: str) -> str:
    """Two distributions on one axis: originals as an area, harmonised as a line."""
    frame = _Frame([before, after], edges)
    area = f"{LEFT},{FLOOR} {frame.outline(before)} {WIDTH - LEFT},{FLOOR}"
    drawn = f'<polygon class="area" points="{area}"/>'
    drawn += f'<polyline class="line" points="{frame.outline(after)}"/>'
    return _svg(WIDTH, HEIGHT, title + (LOGARITHMIC if logarithmic else ""), drawn + frame.axis())


def overlaid(lines: Sequence[Floats], edges: Floats, logarithmic: bool, title: str) -> str:
    """A line per source, in the colours s0 to s6 of the page, the later ones dashed."""
    frame = _Frame(lines, edges)
    drawn = "".join(
        f'<polyline class="line s{n % 7}{" later" if n > 6 else ""}" '  # noqa: PLR2004
        f'points="{frame.outline(line)}"/>'
        for n, line in enumerate(lines)
    )
    return _svg(WIDTH, HEIGHT, title + (LOGARITHMIC if logarithmic else ""), drawn + frame.axis())


class _Frame:
    """Places of a histogram's bins.

    One or two bins of background would flatten all others: they are cut, and the chart says how
    high they are.
    """

    def __init__(self, rows: Sequence[Floats], edges: Floats) -> None:
        highest, tops = np.max(rows, axis=0), []
        for row in rows:
            third, _, first = (float(share) for share in np.sort(row)[-3:])
            tops.append(first if first < CUT * third else HEADROOM * third or first)
        self._top = max(tops) or 1.0
        self._edges, self._step = edges, (WIDTH - 2 * LEFT) / len(highest)
        largest = float(highest.max())
        self._cut = (int(highest.argmax()), largest) if largest > self._top else None

    def outline(self, shares: Floats) -> str:
        points = []
        for n, share in enumerate(shares):
            y = FLOOR - min(float(share) / self._top, 1.0) * (FLOOR - 6)
            left, right = LEFT + n * self._step, LEFT + (n + 1) * self._step
            points += [f"{left:.1f},{y:.1f}", f"{right:.1f},{y:.1f}"]
        return " ".join(points)

    def axis(self) -> str:
        middle = self._edges[len(self._edges) // 2]
        texts = [
            _text(LEFT, HEIGHT - 4, number(self._edges[0]), "start"),
            _text(WIDTH / 2, HEIGHT - 4, number(middle), "middle"),
            _text(WIDTH - LEFT, HEIGHT - 4, number(self._edges[-1]), "end"),
        ]
        if self._cut:
            bin_, share = self._cut
            in_left = bin_ < len(self._edges) / 2
            x = LEFT + (bin_ + 1) * self._step + 3 if in_left else LEFT + bin_ * self._step - 3
            texts.append(_text(x, 14, f"cut: {share:.0%}", "start" if in_left else "end"))
        line = f'<line class="axis" x1="{LEFT}" y1="{FLOOR}" x2="{WIDTH - LEFT}" y2="{FLOOR}"/>'
        return line + "".join(texts)


def strips(values: Mapping[str, Sequence[float]], unit: str, title: str) -> str:
    """One row per source: a dot per case (by rank where there are many), box and median.

    The axis is logarithmic; values are above 0.
    """
    known = {name: list(found) for name, found in values.items() if len(found)}
    low = math.log10(min(found[0] for found in known.values()))
    high = math.log10(max(found[-1] for found in known.values()))
    if high - low < 0.2:  # noqa: PLR2004
        low, high = low - 0.1, high + 0.1
    inner = STRIP_WIDTH - LABEL - 50

    def x(value: float) -> float:
        return LABEL + (math.log10(value) - low) / (high - low) * inner

    parts = []
    for n, (name, found) in enumerate(known.items()):
        y = 14 + n * ROW
        _, first, middle, third, _ = boxes(found)
        wide = max(x(third) - x(first), 1)
        parts += [
            _text(LABEL - 10, y + 4, _shortened(name), "end"),
            _text(STRIP_WIDTH - 2, y + 4, f"n {len(found)}", "end"),
            f'<rect class="box" x="{x(first):.1f}" y="{y - 7}" width="{wide:.1f}" height="14"/>',
        ]
        ranks = np.unique(np.linspace(0, len(found) - 1, min(len(found), MOST_DOTS)).astype(int))
        parts += [
            f'<circle class="dot" cx="{x(found[rank]):.1f}" cy="{y + _jitter(i):.1f}" r="1.8"/>'
            for i, rank in enumerate(ranks)
        ]
        parts.append(
            f'<line class="middle" x1="{x(middle):.1f}" y1="{y - 9}" x2="{x(middle):.1f}" '
            f'y2="{y + 9}"/>'
        )
    height = 14 + len(known) * ROW + 10
    ends = ((low, "start"), ((low + high) / 2, "middle"), (high, "end"))
    parts += [
        _text(x(10**place), height - 2, f"{number(10**place)} {unit}", anchor)
        for place, anchor in ends
    ]
    return _svg(STRIP_WIDTH, height, title, "".join(parts))


def forest(
    rows: Sequence[tuple[str, float, Sequence[float] | None]], delta: float, title: str
) -> str:
    """Changes with their intervals around 0; the band is what does not matter, plus minus `delta`.

    Args:
        rows: (name, value, low and high or None where the interval is unreliable).
    """
    far = [abs(v) for _, value, span in rows for v in (value, *(span or ()))]
    reach = 1.1 * max([*far, 2 * delta])
    inner = STRIP_WIDTH - LABEL - 60

    def x(value: float) -> float:
        return LABEL + (value / reach + 1) / 2 * inner

    height = 14 + len(rows) * ROW + 12
    floor = height - 14
    wide = x(delta) - x(-delta)
    parts = [
        f'<rect class="band" x="{x(-delta):.1f}" y="0" width="{wide:.1f}" height="{floor}"/>',
        f'<line class="axis" x1="{x(0):.1f}" y1="0" x2="{x(0):.1f}" y2="{floor}"/>',
    ]
    for n, (name, value, span) in enumerate(rows):
        y = 14 + n * ROW
        parts += [
            _text(LABEL - 10, y + 4, _shortened(name), "end"),
            _text(STRIP_WIDTH - 2, y + 4, f"{value:+.3f}", "end"),
        ]
        if span:
            ends = f'x1="{x(span[0]):.1f}" x2="{x(span[1]):.1f}"'
            parts.append(f'<line class="line" {ends} y1="{y}" y2="{y}"/>')
        kind = "dot" if span else "hollow"
        parts.append(f'<circle class="{kind}" cx="{x(value):.1f}" cy="{y}" r="4"/>')
    parts += [
        _text(x(place), height - 2, f"{place:+.3g}" if place else "0", "middle")
        for place in (-reach / 1.1, 0, reach / 1.1)
    ]
    return _svg(STRIP_WIDTH, height, title, "".join(parts))


def reliability(points: Sequence[tuple[float, float]], title: str) -> str:
    """(Said, seen) pairs, 0 to 1, as a line; on the diagonal all is well."""
    side, edge = 240, 26
    inner = side - 2 * edge

    def place(said: float, seen: float) -> tuple[float, float]:
        return edge + said * inner, side - edge - seen * inner

    def line(kind: str, pairs: Sequence[tuple[float, float]]) -> str:
        joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*pair) for pair in pairs))
        return f'<polyline class="{kind}" fill="none" points="{joined}"/>'

    parts = [line("axis", [(0, 1), (0, 0), (1, 0)]), line("axis later", [(0, 0), (1, 1)])]
    parts.append(line("line", points))
    for x, y in (place(*pair) for pair in points):
        parts.append(f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="3"/>')
    parts += [
        _text(side / 2, side - 6, "probability said", "middle"),
        _text(edge, edge - 8, "share seen", "start"),
        _text(edge - 4, side - edge + 10, "0", "end"),
        _text(side - edge, side - edge + 12, "1", "middle"),
        _text(edge - 6, edge + 4, "1", "end"),
    ]
    return _svg(side, side, title, "".join(parts))


def _jitter(n: int) -> float:
    """The same small shifts in every report."""
    return ((n * 7) % 11 - 5) * 1.0


def _shortened(name: str) -> str:
    return name if len(name) <= 16 else name[:15] + "…"  # noqa: PLR2004


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(width: int, height: int, title: str, content: str) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">'
        f"{content}</svg>"
    )


_CHART = re.compile(
    r'<svg (viewBox="[\d. ]+" role="img" aria-label="([^"]*)")>(.*?)</svg>', re.DOTALL
)


def charts_in(page: str) -> list[tuple[str, str]]:
    """Title and picture of each chart of a report's page, as SVG files that stand alone."""
    style = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")
    start = '<svg xmlns="http://www.w3.org/2000/svg"'
    return [
        (unescape(title), f"{start} {head}><style>{style}</style>{content}</svg>\n")
        for head, title, content in _CHART.findall(page)
    ]
