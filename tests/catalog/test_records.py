"""Record files: each shipped one valid and found by its slug, and faults named where they stand."""

from __future__ import annotations

import pytest

from catalog.collection import HARVESTED, read_catalog
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
sources:
- {id: curation}
modalities:
- value: [MR]
  source: curation
"""


def test_the_shipped_catalog_has_more_than_two_thousand_datasets_half_of_them_curated(shipped):
    tiers = [one["tier"] for one in shipped.values()]

    assert len(tiers) >= 2000
    assert tiers.count("curated") >= 1000


def test_the_datasets_of_the_example_recipes_are_there(shipped):
    assert [slug for slug in RECIPE_SLUGS if slug not in shipped] == []


def test_a_relation_is_stored_once_and_seen_from_both_sides(shipped):
    one, other = "icbm152-2009a", "mni152-neuromorphometrics"
    seen = [(row["to"], row["kind"]) for row in shipped[one]["relations"]]
    back = [(row["to"], row["kind"]) for row in shipped[other]["relations"]]

    assert seen.count((other, "shared_patients")) == 1
    assert back.count((one, "shared_patients")) == 1


def test_files_are_written_the_way_they_are_read():
    for path in sorted(FOLDER.glob("*.yaml"))[::97]:
        text = path.read_text("utf-8")
        assert dump_record(parse_record(text, path.name)) == text


def test_every_size_has_a_unit_and_every_known_licence_and_access_a_claim(shipped):
    for slug, one in shipped.items():
        assert all(count["unit"] for count in one["counts"]), slug
        for field in ("licence", "access"):
            used = {c["value"] for c in one["claims"] if c["field"] == field and c["used"]}
            assert used - {None} == {one[field]} - {None, "unknown"}, slug


def test_a_curators_claim_says_why_or_how_it_is_known(shipped):
    bare = [
        (slug, claim["field"])
        for slug, one in shipped.items()
        for claim in one["claims"]
        if claim["source"] == "curation" and not (claim["reason"] or claim["basis"])
    ]

    assert bare == []


def test_no_sentence_is_carried_over(shipped):
    long = [
        (slug, claim["field"])
        for slug, one in shipped.items()
        for claim in one["claims"]
        if len(claim["raw"] or "") > 200 or len(claim["reason"] or "") > 300
    ]

    assert long == []


@pytest.mark.parametrize(
    ("line", "field", "message"),
    [
        ("tasks:\n- value: [Segmentation]\n  source: idc\n- value: [Segmentatoin]\n  source: idc",
         "tasks.1.value.0", "nearest: 'Segmentation'"),
        ("anatomies:\n- {value: [Hipocampus], source: idc}", "anatomies.0.value.0",
         "nearest: 'Hippocampus'"),
        ("licence:\n- {value: CC-BYNC-4.0, source: idc}", "licence.0.value",
         "nearest: 'CC-BY-NC-4.0'"),
        ("colour: blue", "colour", "unknown key"),
        ("year:\n- {value: 20222, source: idc}", "year.0.value", "found 20222"),
        ("access:\n- {value: secret, source: idc}", "access.0.value", "found 'secret'"),
        ("counts:\n- {number: 3, unit: heads, source: idc}", "counts.0.unit", "found 'heads'"),
        ("counts:\n- {number: 3, source: hearsay}", "counts.0.source", "found 'hearsay'"),
    ],
)  # fmt: skip
def test_a_faulty_value_is_named_with_file_line_and_nearest(line, field, message):
    text = GOOD + line + "\n"

    with pytest.raises(RecordError) as error:
        parse_record(text, "tiny.yaml")

    (problem,) = error.value.problems
    assert message in str(problem)
    assert str(problem).startswith(f"tiny.yaml:{len(text.splitlines()) - (field[0] == 't')}: ")
    assert problem.field == field


def test_broken_yaml_is_named_with_its_line():
    with pytest.raises(RecordError, match=r"tiny\.yaml:\d+: no valid YAML"):
        parse_record(GOOD + "aliases: [a\nb: c: d\n", "tiny.yaml")


def test_a_file_must_be_named_after_its_slug(tmp_path):
    (tmp_path / "tiny.yaml").write_text(GOOD)
    (tmp_path / "other.yaml").write_text(GOOD)

    with pytest.raises(RecordError, match="expected 'other' as the file is named"):
        read_folder(tmp_path)


def write(folder, slug, more=""):
    text = GOOD.replace("slug: tiny", f"slug: {slug}")
    (folder / f"{slug}.yaml").write_text(text + more)


def test_a_relation_must_lead_to_a_dataset_and_never_in_a_circle(tmp_path):
    def relation(to, kind="subset"):
        return f"relations:\n- {{to: {to}, kind: {kind}, evidence: seen}}\n"

    write(tmp_path, "tiny", relation("gone"))
    with pytest.raises(RecordError, match="found 'gone', which is no dataset"):
        read_catalog(tmp_path, tmp_path)

    write(tmp_path, "tiny", relation("other"))
    write(tmp_path, "other", relation("third", "derived"))
    write(tmp_path, "third", relation("tiny", "version_of"))
    with pytest.raises(RecordError, match="form a circle: other > third > tiny > other"):
        read_catalog(tmp_path, tmp_path)

    write(tmp_path, "third", relation("tiny", "shared_patients"))
    assert len(read_catalog(tmp_path, tmp_path)) == 3


def test_two_records_may_not_be_one_row_of_a_source(tmp_path):
    listed = "{id: curation}\n- {id: openneuro, ref: ds000001}"
    for slug in ("one", "two"):
        text = GOOD.replace("slug: tiny", f"slug: {slug}").replace("{id: curation}", listed)
        (tmp_path / f"{slug}.yaml").write_text(text)

    with pytest.raises(RecordError, match="openneuro 'ds000001', which one lists too"):
        read_catalog(tmp_path, tmp_path)


def test_a_record_takes_the_claims_of_the_harvested_row_that_it_lists(tmp_path):
    text = GOOD.replace("{id: curation}", "{id: openneuro, ref: ds000001}")
    (tmp_path / "tiny.yaml").write_text(text)

    facts = read_catalog(tmp_path, HARVESTED)

    assert "openneuro-ds000001" not in facts
    assert {c["source"] for c in facts["tiny"]["claims"]} == {"curation", "openneuro"}
    assert facts["openneuro-ds000002"]["tier"] == "harvested"


def test_the_catalog_states_at_least_what_it_promises(shipped):
    """The shares that the README names; a refresh that loses them should be noticed."""
    rows = list(shipped.values())
    curated = [one for one in rows if one["tier"] == "curated"]

    def share(found, of):
        return sum(map(bool, found)) / len(of)

    assert share([one["licence"] for one in rows], rows) >= 0.70
    assert share([one["licence"] for one in curated], curated) >= 0.45
    assert share([one["access"] != "unknown" for one in rows], rows) >= 0.90
    assert share([one["year"] for one in rows], rows) >= 0.97
