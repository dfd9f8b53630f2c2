"""The catalog through the API: whole as a file, one dataset as JSON-LD, figures and findings."""

from __future__ import annotations

import io
import json

import bibtexparser
import mlcroissant
import pyarrow.parquet as pq
import pytest

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("datasets")]


def test_the_catalog_comes_as_a_file_in_each_format(client):
    parquet = client.get("/api/v1/catalog/export/", {"format": "parquet"})
    lines = client.get("/api/v1/catalog/export/")

    assert pq.read_table(io.BytesIO(parquet.content)).num_rows == 4
    assert 'filename="datasets.parquet"' in parquet["Content-Disposition"]
    assert next(json.loads(line)["slug"] for line in lines.content.splitlines()) == "first-fundus"


def test_a_selection_comes_as_bibtex_and_an_unknown_slug_is_named(client):
    params = {"format": "bibtex", "slug": ["first-fundus", "icbm152-2009a"]}
    text = client.get("/api/v1/catalog/export/", params).content.decode()
    wrong = client.get("/api/v1/catalog/export/", {"slug": "furst-fundus"})

    keys = [entry.key for entry in bibtexparser.parse_string(text).entries]
    assert keys == ["first-fundus", "icbm152-2009a"]
    assert wrong.status_code == 400
    assert wrong.json()["errors"][0]["found"] == "furst-fundus"


def test_an_unknown_format_names_the_nearest(client):
    answer = client.get("/api/v1/catalog/export/", {"format": "parket"})

    assert answer.status_code == 400
    assert "'parquet'" in answer.json()["errors"][0]["message"]


def test_a_dataset_is_croissant_that_names_its_page(client):
    answer = client.get("/api/v1/datasets/first-fundus/croissant/")

    assert answer["Content-Type"].startswith("application/ld+json")
    data = json.loads(answer.content)
    assert not mlcroissant.Dataset(jsonld=data).metadata.issues.errors
    assert data["subjectOf"]["url"] == "http://testserver/datasets/first-fundus/"
    assert data["license"] == ["https://spdx.org/licenses/CC-BY-4.0.html"]


@pytest.mark.parametrize(
    ("style", "said"),
    [("text", "First Fundus (2011)"), ("bibtex", "@misc{first-fundus,"), ("csl", '"dataset"')],
)
def test_a_dataset_is_cited_in_three_styles(client, style, said):
    answer = client.get("/api/v1/datasets/first-fundus/citation/", {"style": style})

    assert said in answer.content.decode()


def test_figures_state_their_counting_rule(client):
    data = client.get("/api/v1/catalog/statistics/").json()

    assert data["datasets"] == 4
    figures = {figure["name"]: figure for figure in data["figures"]}
    assert {"value": "Fundus photography", "number": 2} in figures["modality"]["rows"]
    assert figures["year"] | {"rows": None} == {
        "name": "year",
        "title": "Releases per year",
        "rule": figures["year"]["rule"],
        "of": 1,
        "rows": None,
    }
    assert all(row["rule"] for row in (*data["figures"], *data["matrices"]))
    matrix = next(row for row in data["matrices"] if row["name"] == "modality-anatomy")
    cell = matrix["cells"][matrix["down"].index("MR")][matrix["across"].index("Brain")]
    assert cell == 2


def test_findings_are_counted_and_listed_by_code(client):
    data = client.get("/api/v1/catalog/findings/", {"code": "licence_unknown"}).json()

    counts = {row["code"]: row["count"] for row in data["codes"]}
    assert counts["licence_unknown"] == 3
    assert next(row["slug"] for row in data["findings"]) == "icbm152-2009a"


def test_one_dataset_tells_every_claim(client):
    record = client.get("/api/v1/datasets/first-fundus/").json()["record"]

    claim = next(row for row in record["claims"] if row["field"] == "licence")
    assert (claim["value"], claim["source"], claim["used"]) == ("CC-BY-4.0", "curation", True)


def test_what_a_search_finds_is_exported_and_a_slip_is_named(client):
    asked = {"q": "fundus", "licence": "CC-BY-4.0", "format": "csv"}
    rows = client.get("/api/v1/catalog/export/", asked).content.decode().splitlines()
    none = client.get("/api/v1/catalog/export/", {"modality": "PET"})
    wrong = client.get("/api/v1/catalog/export/", {"modality": "Fundos"})

    assert [row.split(",")[0] for row in rows[1:]] == ["first-fundus"]
    assert none.content == b""
    assert wrong.status_code == 400
    assert "Fundus photography" in wrong.json()["errors"][0]["message"]
