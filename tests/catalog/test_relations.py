"""A list of overlaps becomes relations of the records: once, to the right one, and counted."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from catalog.importers.entry import ImportSourceError
from catalog.importers.relations import join, read_overlaps, split_evidence
from catalog.record import DatasetRecord
from catalog.records_io import FOLDER, read_folder, write_folder

HEAD = "parent,child,kind,evidence\n"


def record(slug: str, **fields) -> DatasetRecord:
    found = {"name": slug.upper(), "sources": [{"id": "curation"}], **fields}
    return DatasetRecord(slug=slug, **found)


def records(*slugs: str, **fields) -> dict[str, DatasetRecord]:
    return {slug: record(slug, **fields) for slug in slugs}


def row(parent: str, child: str, kind: str = "derived", evidence: str = "[cited] Its paper"):
    return {"parent": parent, "child": child, "kind": kind, "evidence": evidence}


def listed(folder: Path, text: str) -> Path:
    (folder / "overlaps.csv").write_text(HEAD + text, "utf-8")
    return folder


def test_the_child_gets_the_relation_with_what_it_rests_on():
    joined = join(records("whole", "part"), [row("WHOLE", "Part", "subset")], {})

    (relation,) = joined.records["part"].relations
    assert (relation.to, relation.kind) == ("whole", "subset")
    assert (relation.trust, relation.evidence) == ("cited", "Its paper")
    assert joined.records["whole"].relations == []
    assert (joined.added, joined.known) == (1, 0)


def test_an_alias_leads_to_its_record_and_a_name_without_one_is_counted():
    rows = [row("The Whole (v2)", "part"), row("elsewhere", "part"), row("elsewhere", "whole")]
    joined = join(records("whole", "part"), rows, {"The Whole (v2)": "whole", "elsewhere": None})

    assert joined.added == 1
    assert joined.unmatched == {"elsewhere": 2}


def test_a_name_of_two_records_is_matched_with_neither():
    twins = {slug: record(slug, name="Twin") for slug in ("twin-2019", "twin-2020")} | records(
        "part"
    )
    joined = join(twins, [row("Twin", "part")], {})

    assert joined.added == 0
    assert joined.unmatched == {"Twin": 1}


@pytest.mark.parametrize(("holder", "other"), [("part", "whole"), ("whole", "part")])
def test_what_a_record_says_of_the_two_already_is_left_alone(holder, other):
    known = records("whole", "part")
    stated = {"to": other, "kind": "shared_patients", "evidence": "a curator's"}
    known[holder] = record(holder, relations=[stated])
    joined = join(known, [row("whole", "part", "subset")], {})

    assert (joined.added, joined.known) == (0, 1)
    assert joined.records == known


@pytest.mark.parametrize(
    ("note", "expected"),
    [
        (
            "[cited] Bilic et al. arXiv:1901.04056: IRCAD gave cases",
            "Bilic et al. arXiv:1901.04056",
        ),
        ("[read] doi: 10.1/x: says so", "doi: 10.1/x"),
        ("[guessed] a page", "a page"),
        ("a page", "a page"),
    ],
)
def test_evidence_names_the_place_and_not_what_it_says(note, expected):
    trust, place = split_evidence(note)

    assert place == expected
    assert trust == ("cited" if note.startswith("[cited]") else "read")


def test_an_unknown_kind_is_named_with_its_line(tmp_path):
    listed(tmp_path, "a,b,derived,x\na,b,cousin,x\n")

    with pytest.raises(ImportSourceError, match=r"overlaps.csv:3: kind: found 'cousin', expected"):
        read_overlaps(tmp_path)


def test_an_alias_to_no_record_stops_the_import(tmp_path):
    folder = tmp_path / "records"
    folder.mkdir()
    write_folder(records("whole", "part").values(), folder)
    listed(tmp_path, "whole,part,subset,x\n")

    with pytest.raises(CommandError, match=r"aliases.yaml: .*expected the slug of a record"):
        call_command("import_relations", str(tmp_path), records=folder)


def test_a_circle_is_refused_and_nothing_is_written(tmp_path):
    folder = tmp_path / "records"
    shutil.copytree(FOLDER, folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    names = ("drive", "stare", "hrf")
    listed(
        tmp_path,
        "".join(f"{a},{b},derived,x\n" for a, b in zip(names, names[1:] + names[:1], strict=True)),
    )

    with pytest.raises(CommandError, match="form a circle: "):
        call_command("import_relations", str(tmp_path), records=folder)

    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_the_shipped_records_hold_what_the_list_says(shared_data, capsys):
    call_command("import_relations", str(shared_data.parent / "sources"), dry_run=True)

    said = capsys.readouterr().out
    assert " 0 new, " in said
    assert sum(len(one.relations) for one in read_folder(FOLDER).values()) > 300
