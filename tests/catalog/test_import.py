"""The converter: rows of one dataset become one record, and nothing is invented."""

from __future__ import annotations

import io
from collections import Counter

import pytest
from django.core.management import CommandError, call_command

from catalog.importers.claims import parse_number
from catalog.importers.imaging_x import clean_url, convert, group_rows, same_dataset, slug_of
from catalog.importers.tables import read_tables
from catalog.records_io import FOLDER, dump_record


@pytest.fixture(scope="module")
def source_folder(shared_data):
    return shared_data.parent / "sources"


@pytest.fixture(scope="module")
def tables(source_folder):
    return read_tables(source_folder)


@pytest.fixture(scope="module")
def records(tables):
    return {record.slug: record for record in convert(tables)}


def row(url, *, year="2020", modality="CT"):
    return {"url": url, "year": year, "modality": modality}


def test_each_row_lands_in_exactly_one_record(tables, records):
    placed = Counter(raw["row"] for record in records.values() for raw in record.raw)

    assert placed == dict.fromkeys(range(len(tables.rows)), 1)
    assert 890 <= len(records) <= 930


def test_the_shipped_records_are_what_the_converter_writes(records):
    changed = [
        slug
        for slug, record in records.items()
        if (FOLDER / f"{slug}.yaml").read_text("utf-8") != dump_record(record)
    ]

    assert changed == []


def test_a_dataset_listed_in_nine_sections_is_one_record_with_all_its_modalities(records):
    record = records["cmb-crc"]

    assert len(record.raw) == 9
    assert record.modalities == ["MR", "CT", "PET", "X-ray", "Ultrasound", "Histopathology"]
    assert record.dimensions == ["2D", "3D"]
    assert record.homepage == "https://doi.org/10.7937/DJG7-GZ87"


def test_reg_means_registration_or_regression_by_dataset(records):
    assert "Registration" in records["anhir"].tasks
    assert "Regression" in records["rsna-bone-age"].tasks or records["aasce"].tasks == [
        "Regression"
    ]


def test_a_value_judged_wrong_is_replaced_and_stays_visible(records):
    record = records["med-node"]

    assert record.modalities == ["Clinical photography"]
    assert record.diseases == ["Melanoma"]
    assert record.raw[0]["modality"] == "Dermoscopy"
    claim = next(claim for claim in record.claims if claim.field == "modality")
    assert claim.applied
    assert "'Dermoscopy'" in claim.reason


def test_a_linked_archive_gives_licence_access_and_subjects(records):
    record = records["4d-lung"]

    assert (record.licence, record.access, record.access_basis) == (
        "CC-BY-3.0",
        "open",
        "listed in IDC",
    )
    assert [(c.number, c.unit) for c in record.counts if c.unit == "subject"] == [(20, "subject")]


def test_a_licence_of_a_derived_benchmark_is_not_the_originals(records):
    claims = [claim for claim in records["oct2017"].claims if claim.field == "licence"]

    assert claims == []
    assert records["drive"].licence is None


def test_no_sentence_is_carried_over(records):
    long = [
        (slug, claim.reason)
        for slug, record in records.items()
        for claim in record.claims
        if claim.reason and len(claim.reason) > 200
    ]

    assert long == []


def test_rows_of_one_name_at_unrelated_places_stay_apart():
    first = row("https://a.example/x", year="2015")
    later = row("https://b.example/y", year="2021")

    assert not same_dataset(first, later, ("", ""))
    assert same_dataset(first, {**later, "url": "https://A.example/x/"}, ("", ""))
    assert same_dataset(first, later, ("", "mirror host, not the original source"))


def test_two_datasets_of_one_name_become_two_records(tables):
    apart = [
        {**tables.rows[0], "name": "Twin", "url": "https://a.example/x", "year": "2015"},
        {**tables.rows[0], "name": "Twin", "url": "https://b.example/y", "year": "2021"},
    ]
    pair = type(tables)(**{**vars(tables), "rows": apart, "url_issues": {}, "suspects": {}})

    assert group_rows(pair) == [[0], [1]]
    assert [record.slug for record in convert(pair)] == ["twin", "twin-2021"]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("2.7k", 2700),
        ("1,100", 1100),
        ("200+", 200),
        ("1M", 1_000_000),
        ("0", None),
        ("Neck", None),
    ],
)
def test_sample_cells_are_read_as_numbers_or_not_at_all(text, number):
    assert parse_number(text) == number


def test_addresses_lose_markdown_escapes():
    assert clean_url(r"https://www.synapse.org/\#!Synapse:syn1") == (
        "https://www.synapse.org/#!Synapse:syn1"
    )
    assert clean_url("https://vindr.ai/datasets/spinexr==") == "https://vindr.ai/datasets/spinexr"


def test_slugs_are_plain_ascii():
    assert slug_of("M&Ms-2") == "m-and-ms-2"
    assert slug_of("ATM'22") == "atm22"


def test_the_command_writes_once_and_then_finds_nothing_to_do(source_folder, tmp_path):
    first, second = io.StringIO(), io.StringIO()
    call_command("import_imaging_x", source_folder, records=tmp_path, stdout=first)
    call_command("import_imaging_x", source_folder, records=tmp_path, stdout=second)

    assert "0 changed, 0 unchanged, 0 deleted" in first.getvalue()
    assert "0 created, 0 changed" in second.getvalue()


def test_a_folder_without_the_table_is_refused(tmp_path):
    with pytest.raises(CommandError, match=r"suspects\.csv: expected in"):
        call_command("import_imaging_x", tmp_path)
