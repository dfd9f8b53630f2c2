"""Harvested tables: written and read back without loss, rebuilt without a difference."""

from __future__ import annotations

import io

import pytest
from django.core.management import CommandError, call_command

from catalog import harvest
from catalog.collection import HARVESTED
from catalog.importers import idc, openneuro
from catalog.importers.cells import make_claim
from catalog.importers.entry import Entry
from catalog.record import Count, Link
from catalog.records_io import RecordError

READ = {"idc": idc.entries, "openneuro": openneuro.entries}


@pytest.fixture(scope="module")
def source_folder(shared_data):
    return shared_data.parent / "sources"


def claim(field, value, raw=None):
    return make_claim(field, value, "idc", raw)


FULL = Entry(
    source="idc",
    ref="b|c",
    name='A "name", with | and \\',
    aliases=("x|y", "z\\"),
    links=(
        Link(url="https://a.example/|1", source="idc"),
        Link(url="https://b.example/", kind="download", source="idc"),
    ),
    facts={
        "year": claim("year", 2016, "2016"),
        "modalities": claim("modalities", ["MR", "CT"], "MR;CT"),
        "modality_details": claim("modality_details", ["MR: T1|T2"]),
        "tasks": claim("tasks", [], "none"),
        "labelled": claim("labelled", False),
        "spacing": claim("spacing", {"min_mm": [0.5, 0.5, 1.0]}),
        "size_bytes": claim("size_bytes", 5, "=5"),
        "licence": claim("licence", None, "Custom"),
        "access": claim("access", "open", "="),
        "citation": claim("citation", {"title": 'T; "t"', "authors": ["A, B."], "year": 2016}),
    },
    counts=(
        Count(number=16, unit="subject", source="idc"),
        Count(number=3, split="train", what='a "b"; c', raw="3, or so", source="idc"),
        Count(number=7, source="idc"),
    ),
)
BARE = Entry(source="idc", ref="a", name="A")


def table(*lines):
    return "\n".join(("ref,name,counts,modalities,year,licence", *lines, ""))


def test_entries_come_back_as_they_were_and_in_order(tmp_path):
    path = tmp_path / "idc.csv"

    assert harvest.write_table([FULL, BARE], path) == 2
    assert list(harvest.read_table(path)) == [BARE, FULL]
    assert b"\r" not in path.read_bytes()


def test_columns_that_nobody_needs_are_left_out(tmp_path):
    path = tmp_path / "idc.csv"
    harvest.write_table([BARE], path)

    assert path.read_text() == "ref,name\na,A\n"


def test_a_claim_of_nothing_and_no_claim_are_told_apart(tmp_path):
    path = tmp_path / "idc.csv"
    harvest.write_table([FULL, BARE], path)
    empty, full = harvest.read_table(path)

    assert full.facts["licence"].value is None
    assert full.facts["tasks"].value == []
    assert "tasks" not in empty.facts


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([BARE, BARE], "a: comes twice"),
        ([Entry(source="aws", ref="a", name="A")], "found source 'aws', expected 'idc'"),
        (
            [Entry("idc", "a", "A", links=(Link(url="https://a.b/", source="idc", issue="x"),))],
            "no place for issue",
        ),
        ([Entry("idc", "a", "")], "name: found '': expected a text"),
    ],
)
def test_what_the_table_cannot_hold_is_refused(tmp_path, entries, message):
    with pytest.raises(ValueError, match=message):
        harvest.write_table(entries, tmp_path / "idc.csv")

    assert list(tmp_path.iterdir()) == []


def test_a_table_is_named_after_its_source(tmp_path):
    with pytest.raises(ValueError, match="found the table 'mine', expected one of curation, idc"):
        harvest.write_table([BARE], tmp_path / "mine.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (table("a,A,,MR,x,"), "idc.csv:2: year: found 'x', expected a whole number"),
        (table("a,A,,MR,,", "b,B,,MR|Xray,,"), "idc.csv:3: modalities: found 'Xray', expected"),
        (table("a,A,16 persons,,,"), "idc.csv:2: counts: found '16 persons'"),
        (table("a,A,16 subject;3 study,,,"), "idc.csv:2: counts: found '16 subject;3 study'"),
        (table('a,"A\nB",,,,', "b,B,,,,CC BY"), "idc.csv:4: licence: found 'CC BY', expected an"),
        (table("a,A,,,,", "a,B,,,,"), "idc.csv:3: ref: found 'a' twice"),
        (table("a,,,,,"), "idc.csv:2: name: found '': expected a text"),
        (table("a,A"), "idc.csv:2: found 2 cells, expected 6"),
        ("ref,colour\na,red\n", "idc.csv:1: colour: found an unknown column"),
        ("ref\na\n", "idc.csv:1: name: missing"),
        ("ref,name,year_raw\na,A,2016\n", "idc.csv:2: year: found '': expected a value or '?'"),
        ("ref,name,citation\na,A,{\n", "idc.csv:2: citation: found '{'"),
        ("ref,name,links\na,A,official nowhere\n", "idc.csv:2: links: found 'official nowhere'"),
        ("ref,name,labelled\na,A,yes\n", "idc.csv:2: labelled: found 'yes', expected true or"),
        ("ref,name,tasks\na,A,Segmentation||Detection\n", "idc.csv:2: tasks: found"),
    ],
)
def test_a_broken_cell_is_named_with_its_line_and_column(tmp_path, text, message):
    path = tmp_path / "idc.csv"
    path.write_text(text, "utf-8")

    with pytest.raises(RecordError) as caught:
        list(harvest.read_table(path))

    assert message in str(caught.value)


def test_every_fault_is_listed(tmp_path):
    path = tmp_path / "idc.csv"
    path.write_text(table("a,A,x,MR,y,", "b,B,,,z,"), "utf-8")

    with pytest.raises(RecordError) as caught:
        list(harvest.read_table(path))

    assert [problem.field for problem in caught.value.problems] == ["counts", "year", "year"]


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(RecordError, match=r"idc\.csv: cannot be read"):
        list(harvest.read_table(tmp_path / "idc.csv"))


def test_two_readings_are_compared_by_ref():
    renamed = Entry(source="idc", ref="a", name="B")
    changes = harvest.compare([BARE, FULL], [renamed, Entry(source="idc", ref="n", name="N")])

    assert changes == harvest.Changes(new=("n",), changed=("a",), gone=("b|c",), unchanged=())


@pytest.mark.parametrize("source", READ)
def test_the_shipped_table_is_what_the_source_gives(source, source_folder):
    path = HARVESTED / f"{source}.csv"
    entries = sorted(READ[source](source_folder), key=lambda entry: entry.ref)

    assert path.read_text("utf-8") == harvest.format_table(entries, source)
    assert list(harvest.read_table(path)) == entries


def test_the_command_writes_once_and_then_finds_nothing_to_do(source_folder, tmp_path):
    path = tmp_path / "idc.csv"
    dry, first, second = io.StringIO(), io.StringIO(), io.StringIO()
    call_command("harvest", "idc", folder=source_folder, table=path, dry_run=True, stdout=dry)
    assert not path.exists()
    call_command("harvest", "idc", folder=source_folder, table=path, stdout=first)
    before = path.read_bytes()
    call_command("harvest", "idc", folder=source_folder, table=path, stdout=second)

    assert "205 new: 4d_lung, acrin_6698" in dry.getvalue()
    assert "205 entries written to idc.csv" in first.getvalue()
    assert "0 changed" in second.getvalue()
    assert "205 unchanged" in second.getvalue()
    assert path.read_bytes() == before


def test_the_command_names_a_missing_file_and_a_source_that_is_not_live(tmp_path):
    with pytest.raises(CommandError, match=r"idc_collections\.csv: expected in idc/"):
        call_command("harvest", "idc", folder=tmp_path)
    with pytest.raises(CommandError, match="expected one of idc, found openneuro"):
        call_command("harvest", "openneuro", live=True)
