"""Classes, subjects and splits from tables: what is said, what is not, what contradicts itself."""

from __future__ import annotations

import json
import re

import numpy as np
import openpyxl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from fusion.cases import FoundCase, find_cases
from fusion.classes import class_of, rolled_up
from fusion.found import found_cases, from_bytes
from fusion.imaging.errors import CaseError
from fusion.imaging.io.guard import Guard
from fusion.source import SourceDescription
from fusion.tables import look_up

FINDINGS = {"Cardiomegaly": "heart", "Edema": "brain_tumour_oedema", "Pneumonia": "pneumonia"}


def described(classes=None, **cases) -> SourceDescription:
    return SourceDescription.model_validate(
        {
            "name": "made",
            "modality": "DX",
            "family": "X-ray",
            "dimension": "2D",
            "cases": {"image": "images/{name}.png", **cases},
            "classes": classes,
        }
    )


def states(folder, classes, name="a", fields=(), **cases):
    """What class_of says when every concept is wanted as it is."""
    description = described(classes, **cases)
    mapping = {c: c for c in description.concepts()}
    case = FoundCase(name, None, f"images/{name}.png", (), None, (("name", name), *fields))
    source = {"annotated": list(mapping), "mapping": mapping}
    return class_of(description, source, folder, case)


def refused(folder, classes, **more) -> CaseError:
    with pytest.raises(CaseError) as caught:
        states(folder, classes, **more)
    return caught.value


def columns(**more):
    table = {"table": "t.csv", "key": "Image", "columns": FINDINGS, "exclusive": False}
    return table | more


def test_one_column_per_finding_keeps_uncertain_apart_and_blank_unsaid(tmp_path):
    (tmp_path / "t.csv").write_text("Image,Cardiomegaly,Edema,Pneumonia\na,1.0,-1.0,\nb,0.0,0,1\n")

    assert states(tmp_path, columns()) == {"heart": 1, "brain_tumour_oedema": -1}
    assert states(tmp_path, columns(), "b") == {
        "heart": 0,
        "brain_tumour_oedema": 0,
        "pneumonia": 1,
    }


def test_a_dataset_may_say_what_its_own_cells_mean(tmp_path):
    (tmp_path / "t.csv").write_text("Image,Cardiomegaly,Edema,Pneumonia\na,yes,no,\nb,2,0,1\n")
    own = {"yes": 1, "no": 0, "": 0}

    assert states(tmp_path, columns(states=own))["pneumonia"] == 0
    assert refused(tmp_path, columns(states=own), name="b").code == "label_unmapped"
    soft = states(tmp_path, columns(threshold=1.5), "b")
    assert soft == {"heart": 1, "brain_tumour_oedema": 0, "pneumonia": 0}


def test_a_row_of_blanks_is_no_normal_finding(tmp_path):
    (tmp_path / "t.csv").write_text("Image,Cardiomegaly,Edema,Pneumonia\na,,,\n")

    assert refused(tmp_path, columns()).code == "label_missing"


def test_a_list_of_findings_says_nothing_of_the_others_unless_declared(tmp_path):
    (tmp_path / "t.csv").write_text("name,Labels\na,Cardiomegaly|Edema\n")
    rule = {"table": "t.csv", "column": "Labels", "sep": "|", "values": FINDINGS}

    with pytest.raises(ValidationError, match="state exclusive"):
        described(rule)
    rule["exclusive"] = False
    assert states(tmp_path, rule) == {"heart": 1, "brain_tumour_oedema": 1}
    assert states(tmp_path, rule | {"unlisted": "absent"})["pneumonia"] == 0


def test_one_hot_columns_must_have_one_class(tmp_path):
    rows = "Image,Cardiomegaly,Edema,Pneumonia\na,0.0,1.0,0.0\nb,1,1,0\nc,0,0,0\n"
    (tmp_path / "t.csv").write_text(rows)
    rule = columns(exclusive=True)

    assert states(tmp_path, rule) == {"heart": 0, "brain_tumour_oedema": 1, "pneumonia": 0}
    assert {refused(tmp_path, rule, name=n).code for n in "bc"} == {"label_ambiguous"}


def test_rows_that_contradict_each_other_never_let_the_last_one_win(tmp_path):
    (tmp_path / "t.csv").write_text("name,grade\na,1\na,1\nb,1\nb,2\n")
    rule = {"table": "t.csv", "column": "grade", "values": {"1": "pneumonia", "2": "covid19"}}

    assert states(tmp_path, rule)["pneumonia"] == 1
    error = refused(tmp_path, rule, name="b")
    assert (error.code, "1, 2" in error.message) == ("label_ambiguous", True)
    several = states(tmp_path, rule | {"many_rows": True, "exclusive": False}, "b")
    assert several == {"pneumonia": 1, "covid19": 1}


def test_grades_become_classes_by_ranges_and_ends(tmp_path):
    grades = ["0", "1.0", "2", "4", "-1", "x"]
    (tmp_path / "t.csv").write_text(
        "name,grade\n" + "".join(f"{i},{g}\n" for i, g in enumerate(grades))
    )
    rule = {"table": "t.csv", "column": "grade", "ignore_values": ["-1"]}
    rule["values"] = {"0": "no_finding", "1-2": "pneumonia", ">2": "covid19"}

    said = [next(c for c, s in states(tmp_path, rule, str(i)).items() if s) for i in range(4)]
    assert said == ["no_finding", "pneumonia", "pneumonia", "covid19"]
    assert refused(tmp_path, rule, name="4").code == "label_ignored"
    assert refused(tmp_path, rule, name="5").code == "label_unmapped"


def test_keys_are_found_without_their_zeros_folders_and_endings(tmp_path):
    (tmp_path / "t.csv").write_text("Image,grade\n1,2\n20,3\n")
    (tmp_path / "p.csv").write_text("Path,grade\nset/train/p1/view1.jpg,2\n")
    values = {"2": "pneumonia", "3": "covid19"}
    short = {"table": "t.csv", "key": "Image", "column": "grade", "pattern": r"0*(\d+)"}

    assert states(tmp_path, short | {"values": values}, "001")["pneumonia"] == 1
    path = {"table": "p.csv", "key": "Path", "column": "grade", "values": values}
    path["match"] = "set/train/{person}/{name}.jpg"
    more = {"image": "{person}/{name}.png", "fields": (("person", "p1"),)}
    case = {"name": "view1", "fields": more.pop("fields"), **more}
    assert states(tmp_path, path, **case)["pneumonia"] == 1
    with pytest.raises(ValidationError, match=re.escape("{person} is no field")):
        described(path)


def table_files(folder):
    rows = [("name", "finding"), ("é1", "Pneumonia"), ("é2", "Edema")]
    text = "\n".join(",".join(row) for row in rows)
    (folder / "utf8.csv").write_text(text, "utf-8")
    (folder / "bom.csv").write_text(text, "utf-8-sig")
    (folder / "latin.csv").write_text(text, "latin-1")
    (folder / "semi.csv").write_text(text.replace(",", ";"), "utf-8")
    (folder / "tabs.tsv").write_text(text.replace(",", "\t"), "utf-8")
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.save(folder / "book.xlsx")
    data = [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]
    (folder / "list.json").write_text(json.dumps({"images": data}), "utf-8")
    (folder / "lines.jsonl").write_text("\n".join(map(json.dumps, data)), "utf-8")
    keyed = {row["name"]: {"finding": row["finding"]} for row in data}
    (folder / "keyed.json").write_text(json.dumps(keyed), "utf-8")


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("utf8.csv", {}),
        ("bom.csv", {}),
        ("latin.csv", {}),
        ("semi.csv", {}),
        ("tabs.tsv", {}),
        ("book.xlsx", {}),
        ("list.json", {"records": "images"}),
        ("lines.jsonl", {}),
        ("keyed.json", {"key": "key"}),
    ],
)
def test_every_kind_of_table_says_the_same(tmp_path, name, more):
    table_files(tmp_path)
    rule = {"table": name, "column": "finding", "values": FINDINGS, **more}

    assert states(tmp_path, rule, "é1")["pneumonia"] == 1
    assert states(tmp_path, rule, "é2")["pneumonia"] == 0
    _, findings = look_up(described(rule), tmp_path, [])
    said = {f["code"]: f["detail"] for f in findings}
    assert ("table_encoding" in said) == (name == "latin.csv")
    assert said["table_rows_unused"].endswith("2 of 2 names have no image here"), "no names"


def test_several_tables_are_one_and_a_lacking_column_is_named(tmp_path):
    (tmp_path / "train.csv").write_text("name,finding\na,Edema\n")
    (tmp_path / "valid.csv").write_text("name,finding\nb,Pneumonia\n")
    rule = {"table": ["train.csv", "valid.csv"], "column": "finding", "values": FINDINGS}

    assert [states(tmp_path, rule, n)["pneumonia"] for n in "ab"] == [0, 1]
    error = refused(tmp_path, rule | {"column": "label"})
    assert "no column ['label']; it has ['name', 'finding']" in error.message


@pytest.mark.parametrize("content", ["name,name\na,b\n", "name,finding\na,b,c\n", ""])
def test_a_broken_table_is_refused(tmp_path, content):
    (tmp_path / "t.csv").write_text(content)
    rule = {"table": "t.csv", "column": "finding", "values": FINDINGS}

    assert refused(tmp_path, rule).code == "unreadable"


def test_subjects_and_splits_come_from_columns_fields_and_lists(tmp_path):
    (tmp_path / "p.csv").write_text("Image Index,Patient ID\na.png,7\nb.png,7\nc.png,\n")
    (tmp_path / "test.txt").write_text("b.png\n")
    (tmp_path / "train.txt").write_text("a.png\nc.png\n")
    key = {"key": "Image Index", "match": "{name}.png"}
    subject = {"table": "p.csv", "column": "Patient ID", **key}
    lists = {"lists": {"test.txt": "test", "train.txt": "train"}, "match": "{name}.png"}
    description = described(subject_column=subject, split_from=lists)
    files = [f"images/{n}.png" for n in "abcd"]

    cases, findings = look_up(description, tmp_path, find_cases(description, files))

    assert [c.split for c in cases] == ["train", "test", "train", None]
    assert cases[0].subject == cases[1].subject == "7"
    assert cases[2].subject == cases[3].subject != "7", "blank subjects are one group"
    assert [f["code"] for f in findings] == ["subjects_unknown"], "d has no row, no row has no case"
    assert description.cases.has_subjects


def test_a_folder_that_names_the_split_hides_hidden_data_and_keeps_equal_names_apart(tmp_path):
    description = described(
        image="{part}/{name}.png",
        split_from={"field": "part", "values": {"train": "train", "final": "hidden"}},
    )

    found = find_cases(description, ["train/1.png", "final/1.png"])
    cases, _ = look_up(description, tmp_path, found)

    assert len({c.name for c in cases}) == 2
    assert [(c.split, c.code) for c in cases] == [("hidden", "hidden"), ("train", "")]


def test_a_missing_file_means_what_the_layer_says():
    def found(missing):
        layer = {"path": "m/{name}.png", "kind": "mask", "concept": "lesion", "missing": missing}
        description = described().model_copy(
            update={
                "layers": [type_of_layer(layer), type_of_layer(layer | {"path": "n/{name}.png"})]
            }
        )
        return {c.name: c.code for c in find_cases(description, ["images/a.png", "n/a.png"])}

    assert found("exclude") == {"a": "label_missing"}
    assert found("absent") == found("unknown") == {"a": ""}


def type_of_layer(data):
    from fusion.source import Layer

    return Layer.model_validate(data)


def test_two_files_for_one_image_are_not_settled_by_their_order():
    cases = find_cases(described(image="images/{name}_*.png"), ["images/a_1.png", "images/a_2.png"])

    assert [c.code for c in cases] == ["image_ambiguous"]


def test_a_word_may_mean_two_findings_and_a_wrong_one_is_met_with_the_nearest(tmp_path):
    (tmp_path / "t.csv").write_text("name,finding\na,Both\nb,Edema\nc,Pneumona\n")
    values = {"Both": "pneumonia+heart", "Edema": "brain_tumour_oedema", "Pneumonia": "pneumonia"}
    rule = {"table": "t.csv", "column": "finding", "values": values}

    assert states(tmp_path, rule) == {"pneumonia": 1, "heart": 1, "brain_tumour_oedema": 0}
    assert states(tmp_path, rule, "b") == {"pneumonia": 0, "heart": 0, "brain_tumour_oedema": 1}
    assert "did you mean 'Pneumonia'" in refused(tmp_path, rule, name="c").message


def test_arrays_of_many_findings_and_h5_files(tmp_path):
    import h5py

    from fusion.arrays import array_cases, image_at

    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (3, 8, 6, 1), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", x=pixels, y=np.array([[1, 0], [0, 0], [1, 1]], np.uint8))
    for name, array in (("x", pixels), ("y", np.array([1, 0, 1], np.uint8).reshape(3, 1, 1, 1))):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file[name] = array
    many = {"values": {"0": "heart", "1": "pneumonia"}, "exclusive": False}
    source = {
        "annotated": ["heart", "pneumonia"],
        "mapping": {c: c for c in ("heart", "pneumonia")},
    }

    def said(classes, arrays):
        description = SourceDescription.model_validate(
            {
                "name": "made",
                "modality": "DX",
                "family": "X-ray",
                "dimension": "2D",
                "cases": {"arrays": [arrays]},
                "classes": classes,
            }
        )
        cases = list(array_cases(description, tmp_path))
        np.testing.assert_array_equal(image_at(tmp_path, cases[1].array), pixels[1, ..., 0])
        return [class_of(description, source, tmp_path, case) for case in cases]

    flat = [
        tuple(one.values()) for one in said(many, {"file": "a.npz", "images": "x", "labels": "y"})
    ]
    assert flat == [(1, 0), (0, 0), (1, 1)]
    apart = {"file": "x.h5", "images": "x", "labels_file": "y.h5", "labels": "y"}
    one = said({"values": {"0": "heart", "1": "pneumonia"}}, apart)
    assert [c["pneumonia"] for c in one] == [1, 0, 1]
    with pytest.raises(CaseError, match="state exclusive"):
        said({"values": many["values"]}, {"file": "a.npz", "images": "x", "labels": "y"})


@given(st.lists(st.sampled_from([1, 0, -1, None]), max_size=5), st.randoms(use_true_random=False))
def test_a_concept_is_absent_only_when_all_of_its_kinds_are(kinds, random):
    state = rolled_up(kinds)

    assert (state == 1) == (1 in kinds)
    assert (state == 0) == (bool(kinds) and set(kinds) == {0})
    random.shuffle(kinds)
    assert rolled_up(kinds) == state


@given(
    st.lists(
        st.tuples(
            st.text("ab,;\t \"'é0", min_size=1, max_size=6).map(str.strip).filter(bool),
            st.sampled_from(["Pneumonia", "Edema"]),
        ),
        min_size=1,
        max_size=8,
        unique_by=lambda row: row[0],
    )
)
def test_any_key_that_a_csv_can_hold_finds_its_row(tmp_path_factory, rows):
    import csv

    folder = tmp_path_factory.mktemp("tables")
    with (folder / "t.csv").open("w", encoding="utf-8", newline="") as out:
        csv.writer(out).writerows([("name", "finding"), *rows])
    rule = {"table": "t.csv", "column": "finding", "values": FINDINGS}

    for name, finding in rows:
        assert states(folder, rule, name)[FINDINGS[finding]] == 1


def test_a_table_that_outgrows_its_reader_fails_its_source_and_nothing_else(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").touch()
    (tmp_path / "small.csv").write_text("name,finding\na,Pneumonia\n")
    (tmp_path / "large.csv").write_text("name,finding\n" + "b,Pneumonia\n" * 1_500_000)
    rule = {"column": "finding", "values": FINDINGS}

    with Guard(memory_bytes=1 << 28, seconds=60, preload=("fusion.found",)) as guard:
        large = described(rule | {"table": "large.csv"}).model_dump(mode="json", by_alias=True)
        with pytest.raises(CaseError) as caught:
            guard.call(found_cases, large, tmp_path, ["images/a.png"])
        small = described(rule | {"table": "small.csv"}).model_dump(mode="json", by_alias=True)
        found, _ = from_bytes(guard.call(found_cases, small, tmp_path, ["images/a.png"]))

    assert caught.value.code == "size_limit"
    assert [case.name for case in found] == ["a"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", b'name,finding\n"a,Pneumonia\n' + b"x" * 200_000),
        ("t.json", b"[" * 100_000),
        ("t.json", b'{"a": 1e999999, "b": [}'),
        ("t.xlsx", b"PK\x03\x04" + bytes(500)),
        ("t.csv", b"\x00\xff" * 5_000),
        ("t.jsonl", b'{"name": "a"}\n{"name"'),
    ],
)
def test_a_damaged_table_is_refused_in_words(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    rule = {"table": name, "column": "finding", "values": FINDINGS}

    with pytest.raises(CaseError) as caught:
        look_up(described(rule), tmp_path, [])

    assert caught.value.code == "unreadable"
    assert name in caught.value.message
