"""Charts show what is there, and nothing that a name could bring in."""

from __future__ import annotations

import re

import numpy as np
import pytest
from defusedxml import ElementTree

from catalog.describe import number
from fusion.report.charts import FLOOR, histogram, overlaid, strips

EDGES = np.linspace(0, 100, 49)


def heights(svg: str, tag: str) -> list[float]:
    points = ElementTree.fromstring(svg).find(tag).get("points")
    return [FLOOR - float(point.split(",")[1]) for point in points.split()]


def test_a_background_does_not_flatten_the_rest_and_its_height_is_told():
    body = np.exp(-(((np.arange(48) - 24) / 6) ** 2))
    shares = 0.4 * body / body.sum()
    shares[0] = 0.6

    svg = histogram(shares, shares, EDGES, False, "x")

    found = heights(svg, "polyline")
    assert max(found[20:80]) > 0.5 * max(found)
    assert "cut: 60%" in svg


def test_a_plain_distribution_is_not_cut():
    shares = np.full(48, 1 / 48)

    assert "cut" not in overlaid([shares, shares], EDGES, False, "x")


def test_larger_values_lie_further_right():
    svg = strips({"a": [1.0, 2.0], "b": [1000.0]}, "ml", "sizes")

    first, second, third = (float(x) for x in re.findall(r'circle class="dot" cx="([^"]+)"', svg))
    assert first < second < third


@pytest.mark.parametrize("values", [{"a": [5.0]}, {"a": [5.0] * 400, "b": []}])
def test_equal_values_are_drawn(values):
    assert ElementTree.fromstring(strips(values, "ml", "sizes")).get("role") == "img"


def test_names_are_escaped():
    name = '"/><script>&'

    svg = strips({name: [1.0]}, "ml", name)

    assert "<script" not in svg
    assert name in "".join(ElementTree.fromstring(svg).itertext())


def test_numbers_are_written_without_exponents():
    assert [number(v) for v in (15_080.0, 3.14159, 0.25, -1024)] == [
        "15,080",
        "3.14",
        "0.25",
        "-1,024",
    ]
