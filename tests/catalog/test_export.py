"""Exports: read back by the tools that people use on them."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import bibtexparser
import mlcroissant
import pyarrow.parquet as pq
import pyshacl
import pytest
from rdflib import DCAT, DCTERMS, RDF, Graph

from catalog.citation import citation, text_of, to_bibtex, to_csl
from catalog.croissant import dataset_jsonld
from catalog.export import FORMATS, KEYS, data_meta, to_csv, to_jsonl, to_parquet, to_turtle
from tests.factories import make_facts

SHAPES = Path(__file__).with_name("dcat_shapes.ttl")
COUNT = {"number": 3, "unit": "subject", "source": "curation", "raw": "3"}


@pytest.fixture(scope="module")
def shipped(shipped):
    return list(shipped.values())


@pytest.fixture
def pair():
    return [
        make_facts("alpha", modalities=["MR", "CT"], counts=[COUNT], aliases=["=SUM(A1)", "A & B"]),
        make_facts(
            "beta", name="50 % {of} _it_", licence="CC-BY-4.0", doi="10.1/x_y", year=2020, tasks=[]
        ),
    ]


def test_json_lines_carry_every_fact_with_its_claims(pair):
    rows = [json.loads(line) for line in to_jsonl(pair).decode().splitlines()]

    assert rows == pair
    assert rows[1]["claims"][0]["source"] == "curation"


def test_csv_lists_are_joined_counts_are_json_and_no_cell_is_a_formula(pair):
    rows = list(csv.DictReader(io.StringIO(to_csv(pair).decode())))

    assert tuple(rows[0]) == KEYS
    assert rows[0]["modalities"] == "MR|CT"
    assert json.loads(rows[0]["counts"])[0]["unit"] == "subject"
    assert rows[0]["aliases"] == "'=SUM(A1)|A & B"
    assert (rows[0]["licence"], rows[1]["modalities"]) == ("", "")


def test_parquet_columns_are_typed(pair):
    table = pq.read_table(io.BytesIO(to_parquet(pair)))

    assert tuple(table.column_names) == KEYS
    row = table.to_pylist()[0]
    assert row["modalities"] == ["MR", "CT"]
    assert row["counts"][0]["number"] == 3
    assert row["year"] is None


def test_every_shipped_dataset_is_valid_croissant(shipped):
    for facts in shipped[:: len(shipped) // 40]:
        data = dataset_jsonld(facts, f"https://portal.example/datasets/{facts['slug']}/")
        issues = mlcroissant.Dataset(jsonld=json.loads(json.dumps(data))).metadata.issues
        assert not issues.errors, facts["slug"]
        assert 50 <= len(data["description"]) <= 5000


def test_an_unknown_licence_is_left_out_of_json_ld_not_filled(pair):
    first, second = (dataset_jsonld(facts, "https://x.example/") for facts in pair)

    assert "license" not in first
    assert "unknown" in first["description"]
    assert second["license"] == ["https://spdx.org/licenses/CC-BY-4.0.html"]


def test_the_whole_catalog_is_valid_dcat(shipped):
    graph = Graph().parse(data=to_turtle(shipped), format="turtle")

    assert len(set(graph.subjects(RDF.type, DCAT.Dataset))) == len(shipped)
    licensed = {facts["slug"] for facts in shipped if facts["licence"]}
    assert len(set(graph.subjects(DCTERMS.license, None))) == len(licensed)
    conforms, _, text = pyshacl.validate(graph, shacl_graph=str(SHAPES))
    assert conforms, text


def test_the_shapes_can_fail(pair):
    graph = Graph().parse(data=to_turtle(pair), format="turtle")
    graph.remove((None, DCTERMS.title, None))

    assert not pyshacl.validate(graph, shacl_graph=str(SHAPES))[0]


def test_bibtex_is_read_back_with_its_special_characters(pair, shipped):
    library = bibtexparser.parse_string(to_bibtex(pair))
    assert not library.failed_blocks
    entry = library.entries_dict["beta"]
    assert entry["doi"] == "10.1/x_y"
    assert entry["title"].strip("{}") == r"50 \% \{of\} \_it\_".strip("{}")

    whole = bibtexparser.parse_string(to_bibtex(shipped))
    assert not whole.failed_blocks
    assert len(whole.entries) == len(shipped)


def test_a_citation_without_authors_begins_with_the_title():
    facts = make_facts("alpha", name="Alpha", year=2020, publisher="A place")

    assert text_of(citation(facts)).startswith("Alpha (2020). A place")


def test_csl_items_carry_what_is_stated_alone(pair):
    first, second = to_csl(pair)

    assert "issued" not in first
    assert second["issued"] == {"date-parts": [[2020]]}
    assert second["DOI"] == "10.1/x_y"


def test_the_papers_line_has_its_sixteen_fields_and_na_for_unknown(pair):
    line = data_meta(pair[0])

    assert len(line) == 16
    assert line["license"] == "NA"
    assert line["data_volume"] == {"total": 3, "unit": "subject"}
    assert line["valid_image_n"] == "NA"


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_the_same_facts_give_the_same_bytes(name, pair):
    write = FORMATS[name][2]

    assert write(pair) == write([json.loads(json.dumps(facts)) for facts in pair])
