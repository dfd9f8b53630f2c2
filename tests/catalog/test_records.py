"""The shipped records: each valid, each found by its slug, none guessing."""

from __future__ import annotations

import pytest

from catalog.records_io import FOLDER, RecordError, dump_record, parse_record, read_folder

RECIPE_SLUGS = [
    "stare",
    "chase-db1",
    "fives",
    "msd-task04-hippocampus",
    "colin27-aal",
    "mni152-neuromorphometrics",
    "icbm152-2009a",
]
GOOD = """\
slug: tiny
name: Tiny
modalities:
- MR
sources:
- id: curation
"""


@pytest.fixture(scope="module")
def records():
    return read_folder()


def test_the_shipped_records_are_distinct_datasets(records):
    assert 850 <= len(records) <= 950


def test_the_datasets_of_the_example_recipes_are_there(records):
    assert [slug for slug in RECIPE_SLUGS if slug not in records] == []


def test_the_two_mni_templates_know_that_they_share_people(records):
    for one, other in (
        ("icbm152-2009a", "mni152-neuromorphometrics"),
        ("mni152-neuromorphometrics", "icbm152-2009a"),
    ):
        assert [(r.to, r.kind) for r in records[one].relations] == [(other, "shared_patients")]


def test_files_are_written_the_way_they_are_read():
    path = FOLDER / "stare.yaml"
    text = path.read_text("utf-8")

    assert dump_record(parse_record(text, path.name)) == text


def test_a_count_without_a_stated_unit_has_none(records):
    upstream = [
        count
        for record in records.values()
        for count in record.counts
        if count.source == "project-imaging-x"
    ]

    assert len(upstream) > 800
    assert all(count.unit is None or "images" in count.raw for count in upstream)


def test_access_says_what_it_rests_on(records):
    for record in records.values():
        assert (record.access == "unknown") == (record.access_basis is None), record.slug


def test_a_licence_rests_on_an_applied_claim(records):
    for record in records.values():
        claims = [c for c in record.claims if c.field == "licence" and c.applied]
        assert {c.value for c in claims} == ({record.licence} - {None}), record.slug


@pytest.mark.parametrize(
    ("line", "place", "message"),
    [
        ("modalities:\n- MR\n- MRI\n", "tiny.yaml:5: modalities.1", "nearest: 'MR'"),
        ("anatomies:\n- Hipocampus\n", "tiny.yaml:6: anatomies.0", "nearest: 'Hippocampus'"),
        ("licence: CC-BYNC-4.0\n", "tiny.yaml:5: licence", "nearest: 'CC-BY-NC-4.0'"),
        ("colour: blue\n", "tiny.yaml:5: colour", "unknown key"),
        ("year: 20222\n", "tiny.yaml:5: year", "found 20222"),
        ("access: secret\n", "tiny.yaml:5: access", "found 'secret'"),
    ],
)
def test_a_faulty_value_is_named_with_file_line_and_nearest(line, place, message):
    text = GOOD.replace("modalities:\n- MR\n", line) if line.startswith("mod") else GOOD + line

    with pytest.raises(RecordError) as error:
        parse_record(text, "tiny.yaml")

    (problem,) = error.value.problems
    assert message in str(problem)
    assert str(problem).startswith(place.rsplit(":", 2)[0])
    assert problem.field == place.rsplit(": ", 1)[1]
    assert text.splitlines()[problem.line - 1].strip()
    assert line.splitlines()[-1].strip() in text.splitlines()[problem.line - 1]


def test_broken_yaml_is_named_with_its_line():
    with pytest.raises(RecordError, match=r"tiny\.yaml:\d+: no valid YAML"):
        parse_record(GOOD + "aliases: [a\nb: c: d\n", "tiny.yaml")


def test_a_file_must_be_named_after_its_slug(tmp_path):
    (tmp_path / "tiny.yaml").write_text(GOOD)
    (tmp_path / "other.yaml").write_text(GOOD)

    with pytest.raises(RecordError, match="expected 'other' as the file is named"):
        read_folder(tmp_path)


def test_a_relation_must_lead_to_a_record(tmp_path):
    relation = "relations:\n- {to: gone, kind: subset, evidence: seen}\n"
    (tmp_path / "tiny.yaml").write_text(GOOD + relation)

    with pytest.raises(RecordError, match="found 'gone', which is no record"):
        read_folder(tmp_path)
