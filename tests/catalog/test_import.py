"""The Project-Imaging-X parser and the import: rows of one dataset become one, nothing invented."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import replace

import pytest
from django.core.management import CommandError, call_command

from catalog.importers import imaging_x
from catalog.importers.imaging_x import Table, clean_url, convert, group_rows, same_dataset
from catalog.importers.link import slug_of
from catalog.records_io import FOLDER, parse_record


@pytest.fixture(scope="module")
def source_folder(shared_data):
    return shared_data.parent / "sources"


@pytest.fixture(scope="module")
def table(source_folder):
    return imaging_x.read_table(source_folder)


@pytest.fixture(scope="module")
def entries(table):
    return {entry.ref: entry for entry in convert(table)}


def row(url="https://a.example/x", **changes):
    return {
        "section": "CT Datasets", "name": "Twin", "url": url, "year": "2020", "dim": "3D",
        "modality": "CT", "structure": "Liver", "samples": "300", "label": True, "task": "Seg",
        "diseases": "NA", "access": "open", **changes,
    }  # fmt: skip


def only(*rows):
    (entry,) = convert(Table(rows=list(rows)))
    return entry


def test_each_row_lands_in_exactly_one_entry(table, entries):
    placed = sorted(index for group in group_rows(table) for index in group)

    assert placed == list(range(len(table.rows)))
    assert 890 <= len(entries) <= 930


def test_a_dataset_listed_in_nine_sections_is_one_entry_with_all_its_modalities(entries):
    entry = entries["CMB-CRC"]

    wanted = ["MR", "CT", "PET", "X-ray", "Ultrasound", "Histopathology"]
    assert entry.facts["modalities"].value == wanted
    assert entry.facts["dimensions"].value == ["2D", "3D"]


def test_reg_means_registration_or_regression_by_dataset(entries):
    assert "Registration" in entries["ANHIR"].facts["tasks"].value
    assert entries["AASCE"].facts["tasks"].value == ["Regression"]


def test_a_claim_keeps_the_cells_own_words_and_a_bare_number_has_no_unit():
    entry = only(row(task="Seg, Cls"), row(url="https://www.A.example/x/", samples="2.7k"))

    assert entry.facts["tasks"].raw == "Seg, Cls | Seg"
    assert [(c.number, c.unit, c.raw) for c in entry.counts] == [
        (300, None, "300"),
        (2700, None, "2.7k"),
    ]
    assert "diseases" not in entry.facts


def test_the_year_of_most_rows_is_claimed_and_an_unknown_one_is_not():
    rows = [row(year="2019"), row(year="2018"), row(year="2018")]

    assert only(*rows).facts["year"].value == 2018
    assert "year" not in only(row(year="NA")).facts


def test_rows_of_one_name_at_unrelated_places_stay_apart():
    first, later = row(year="2015"), row("https://b.example/y", year="2021")

    assert not same_dataset(first, later, ("", ""))
    assert same_dataset(first, {**later, "url": "https://A.example/x/"}, ("", ""))
    assert same_dataset(first, later, ("", "mirror host, not the original source"))
    assert [entry.ref for entry in convert(Table(rows=[first, later]))] == ["Twin", "Twin (2021)"]


def test_addresses_lose_markdown_escapes_and_bad_ones_are_marked():
    assert clean_url(r"https://www.synapse.org/\#!Synapse:syn1") == (
        "https://www.synapse.org/#!Synapse:syn1"
    )
    assert clean_url("https://vindr.ai/datasets/spinexr==") == "https://vindr.ai/datasets/spinexr"
    table = replace(Table(rows=[row()]), url_issues={0: "retired wiki page"})
    assert [link.kind for link in next(convert(table)).links] == ["retired"]


def test_slugs_are_plain_ascii():
    assert slug_of("M&Ms-2") == "m-and-ms-2"
    assert slug_of("ATM'22") == "atm22"
    assert slug_of("fastMRI+") == "fastmri-plus"


def test_importing_again_what_the_records_hold_changes_no_record(source_folder, tmp_path):
    out = io.StringIO()
    records, links = tmp_path / "records", tmp_path / "links.csv"
    shutil.copytree(FOLDER, records)
    shutil.copy(FOLDER.parent / "importers" / "links.csv", links)
    before = links.read_bytes()

    call_command("import_sources", source_folder, records=records, links=links, stdout=out)

    assert " 0 created, 0 changed, " in out.getvalue()
    assert links.read_bytes() == before


def write_source(folder, *rows):
    place = folder / "project_imaging_x"
    place.mkdir(parents=True, exist_ok=True)
    (place / "datasets.json").write_text(json.dumps(rows))


def run_import(tmp_path, *rows, decisions=""):
    write_source(tmp_path / "sources", *rows)
    records, links = tmp_path / "records", tmp_path / "links.csv"
    records.mkdir(exist_ok=True)
    if decisions:
        links.write_text(f"source,ref,name,decision,slug,score,reason\n{decisions}\n")
    out = io.StringIO()
    call_command(
        "import_sources",
        tmp_path / "sources",
        source=["project-imaging-x"],
        records=records,
        links=links,
        stdout=out,
    )
    files = {
        path.stem: parse_record(path.read_text(), path.name) for path in records.glob("*.yaml")
    }
    return files, links.read_text(), out.getvalue()


def test_a_new_dataset_waits_in_the_queue_until_a_person_says_new(tmp_path):
    files, links, said = run_import(tmp_path, row())
    assert files == {}
    assert "project-imaging-x,Twin,Twin,open,,0,resembles no record" in links
    assert "review queue: 1 links wait for a person" in said

    files, _, said = run_import(tmp_path, row(), decisions="project-imaging-x,Twin,Twin,new,,,")
    assert [claim.value for claim in files["twin"].modalities] == [["CT"]]
    assert "review queue: empty" in said


def test_a_changed_source_changes_its_own_claims_and_no_curators(tmp_path):
    decided = "project-imaging-x,Twin,Twin,new,,,"
    run_import(tmp_path, row(), decisions=decided)
    path = tmp_path / "records" / "twin.yaml"
    line = "- {value: 2015, source: curation, basis: known, reason: paper}\n"
    path.write_text(path.read_text().replace("year:\n", f"year:\n{line}"))

    files, _, _ = run_import(tmp_path, row(year="2021"), decisions=decided)

    assert [(claim.value, claim.source) for claim in files["twin"].year] == [
        (2015, "curation"),
        (2021, "project-imaging-x"),
    ]


def test_a_folder_without_the_table_and_a_broken_table_are_refused(tmp_path):
    with pytest.raises(CommandError, match=r"datasets\.json: expected in project_imaging_x/"):
        call_command("import_sources", tmp_path, source=["project-imaging-x"])
    write_source(tmp_path)
    (tmp_path / "project_imaging_x" / "datasets.json").write_text("{broken")
    with pytest.raises(CommandError, match=r"datasets\.json: no valid JSON"):
        call_command("import_sources", tmp_path, source=["project-imaging-x"])
