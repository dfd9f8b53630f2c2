"""Each mark of a figure says how many its search finds: on the page, in CSV, SVG and JSON."""

from __future__ import annotations

import csv
import io
import re
from html import unescape
from xml.etree import ElementTree as ET

import pytest

from catalog.models import Dataset
from catalog.statistics import Figure, every
from portal.figures import bars, lines, to_svg
from tests.factories import make_dataset

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("datasets", "more")]
API = "/api/v1/catalog/statistics/"
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def more():
    """Narrow terms, labelled organs, stated years and a dataset of which nothing is known."""
    make_dataset("liver-ct", modalities=["CT"], anatomies=["Liver"], tasks=["Segmentation"],
                 dimensions=["3D"], year=2013, access="open", licence="CC-BY-4.0")  # fmt: skip
    make_dataset("organs", modalities=["CT", "MR"], classes=["spleen", "kidney_left"],
                 tasks=["Segmentation", "Classification"], dimensions=["3D"],
                 labelled=True, diseases=[])  # fmt: skip
    make_dataset("silent")


def _total(client, address: str) -> int:
    """How many datasets the API finds with the question of a page's address."""
    return client.get(f"/api/v1/datasets/?{address.split('?')[1]}").json()["total"]


def _rows(client, name: str) -> list[dict[str, str]]:
    answer = client.get(API + f"{name}/", {"format": "csv"})
    assert answer["Content-Disposition"] == f'attachment; filename="{name}.csv"'
    return list(csv.DictReader(io.StringIO(answer.content.decode())))


@pytest.mark.parametrize(
    "name", ["modality", "anatomy", "task", "dimension", "disease", "access", "licence", "tier",
             "year", "coverage"],
)  # fmt: skip
def test_each_row_of_the_csv_says_what_its_search_finds(client, name):
    rows = _rows(client, name)

    searched = [row for row in rows if row["search"]]
    assert searched
    for row in searched:
        assert _total(client, row["search"]) == int(row["datasets"]), row
    figures = client.get(API).json()
    every_one = [*figures["figures"], figures["coverage"]]
    shown = next(one["rows"] for one in every_one if one["name"] == name)
    assert [(row[name], int(row["datasets"])) for row in rows] == [
        (row["value"], row["number"]) for row in shown
    ]


def test_broader_terms_count_what_is_narrower(client):
    found = {row["anatomy"]: int(row["datasets"]) for row in _rows(client, "anatomy")}

    assert (found["Liver"], found["Spleen"], found["Abdomen"]) == (1, 1, 2)


@pytest.mark.parametrize("name", ["modality-anatomy", "modality-task"])
def test_each_cell_of_the_csv_says_what_its_search_finds(client, name):
    down, across = name.split("-")

    rows = _rows(client, name)

    assert sum(int(row[key]) for row in rows for key in row if key != name) > 4
    for row in rows:
        for value in row.keys() - {name}:
            asked = {down: row[name], across: value}
            total = client.get("/api/v1/datasets/", asked).json()["total"]
            assert total == int(row[value]), asked


def test_each_mark_of_the_page_leads_to_as_many_datasets_as_it_says(client):
    html = unescape(client.get("/statistics/").content.decode())

    marks = re.findall(r'<a class="bar-row" href="([^"]+)">.*?<span class="count">([\d,]+)<', html)
    cells = re.findall(r'<a href="(/datasets/[^"]+)"><span class="[^"]+">[^<]+</span>(\d+)<', html)
    assert len(marks) > 20
    assert len(cells) > 8
    for address, number in [*marks, *cells]:
        assert _total(client, address) == int(number.replace(",", "")), address
    for name in every([]):
        assert f'href="{API}{name}/?format=svg"' in html
        assert f'href="{API}{name}/?format=csv"' in html


@pytest.mark.parametrize("name", list(every([])))
def test_the_svg_is_the_figure_of_the_page_with_named_links(client, name):
    answer = client.get(API + f"{name}/", {"format": "svg"})

    assert answer["Content-Type"].startswith("image/svg+xml")
    drawn = ET.fromstring(answer.content)  # noqa: S314 - our own
    figure = _figure(name)
    assert drawn.findtext(f"{SVG}title") == figure.title
    marks = (
        bars(figure, 15)
        if isinstance(figure, Figure)
        else [mark for line in lines(figure, down=15, across=14) for mark in line.marks]
    )
    links = {link.get("href"): link for link in drawn.iter(f"{SVG}a")}
    linked = [mark for mark in marks if mark.question and (mark.number or "-" not in name)]
    assert len(links) == len(linked)
    for mark in linked:
        link = links[f"http://testserver/datasets/?{mark.question}"]
        unit = "images" if name == "images" else "datasets"
        assert f"{mark.value}: {mark.number} {unit}" in str(link.get("aria-label"))
        assert f"{mark.number:,}" in [text.text for text in link.iter(f"{SVG}text")]


def _figure(name: str):
    return every(Dataset.objects.facts())[name]


def test_words_of_the_catalog_are_no_markup_in_the_svg():
    figure = Figure("licence", "<b>", "&", 1, (("<script>alert(1)</script>", 1),))

    drawn = to_svg(figure, "https://x.org/?a=1&b")

    assert ET.fromstring(drawn)  # noqa: S314
    assert "<script>" not in drawn


def test_a_figure_that_is_not_there_is_named(client):
    answer = client.get(API + "modalities/")

    assert answer.status_code == 404
    assert "modality" in answer.json()["detail"]
    assert client.get(API + "modality/").json()["rows"][0].keys() == {"value", "number"}
    assert client.get(API + "modality/", {"format": "png"}).status_code == 400
