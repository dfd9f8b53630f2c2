from __future__ import annotations

import json
import tarfile
from itertools import groupby

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from fusion.bundle.errors import BundleError
from fusion.bundle.gate import find_leaks
from fusion.bundle.read_bundle import Bundle
from fusion.bundle.shards import Item, Sample, distribute, write_shards
from fusion.bundle.ustar import header
from fusion.bundle.verify import verify_bundle
from fusion.bundle.write import write_bundle
from tests.bundle.conftest import build
from tests.bundle.factories import make_case, make_plan, make_workdir


@pytest.mark.parametrize("kind", ["3D", "2D", "loso"])
def test_a_fresh_bundle_passes_every_check(built_once, kind):
    report = verify_bundle(built_once[kind])

    assert report.ok, [(c.code, c.detail) for c in report.checks if not c.ok]
    assert len(report.checks) == 15


@pytest.mark.parametrize("dimension", ["3D", "2D"])
def test_two_builds_of_one_plan_have_equal_checksums(tmp_path, dimension):
    first = build(tmp_path / "a", dimension, build_info={"took_s": 1})
    second = build(tmp_path / "b", dimension, build_info={"took_s": 2})

    assert (first / "SHA256SUMS").read_bytes() == (second / "SHA256SUMS").read_bytes()
    assert "build_info.json" not in (first / "SHA256SUMS").read_text()


def test_a_run_that_was_cut_off_starts_again(tmp_path):
    out = build(tmp_path)
    before = (out / "SHA256SUMS").read_bytes()
    (out / "left-over.txt").write_text("from a killed run")

    write_bundle(make_plan(), tmp_path / "work", out, *_facts())

    assert (out / "SHA256SUMS").read_bytes() == before


def test_the_manifest_counts_what_came_in_and_what_was_left_out(built_once):
    manifest = json.loads((built_once["3D"] / "manifest.json").read_text())

    first = manifest["sources"][0]
    assert (first["n_cases_in"], first["n_used"]) == (5, 4)
    assert first["excluded"] == {"no_geometry": 1}
    assert manifest["splits"]["counts"]["train"]["first"]["cases"] == 2
    assert manifest["norm"] == [{"fitted_on": "train", "method": "zscore"}]
    assert {case["norm_ref"] for case in manifest["cases"]} == {0}


def test_limits_and_the_private_notice_stand_before_everything_else(built_once):
    text = (built_once["3D"] / "README.md").read_text()

    assert text.index("Private build") < text.index("Only eight cases") < text.index("## Sources")


def test_an_unknown_licence_is_written_as_unknown(built_once):
    assert "LicenseRef-unknown" in (built_once["3D"] / "LICENSES" / "second.txt").read_text()


META_FIELDS = [
    "dataset_name", "release_date", "homepage_url", "organization", "challenge_series", "license",
    "dataset_description", "modality_primary", "modality_secondary", "anatomical_structure",
    "disease", "data_volume", "valid_image_n", "label_presence", "task_type",
    "num_classes_per_task",
]  # fmt: skip


def test_the_paper_s_table_of_sources_has_its_sixteen_fields(built_once):
    lines = (built_once["3D"] / "data-meta.jsonl").read_text().splitlines()
    first, second = map(json.loads, lines)

    assert sorted(first) == sorted(second) == sorted(META_FIELDS)
    assert first["dataset_name"] == "The first set & more"
    assert first["release_date"] == "2018"
    assert first["license"] == "CC-BY-SA-4.0"
    assert second["license"] == "LicenseRef-unknown"
    assert json.loads(first["data_volume"]) == {"total": 4, "train": 2, "val": 1, "test": 1}
    assert (first["valid_image_n"], first["label_presence"]) == (4, "labeled")
    assert (first["modality_primary"], first["modality_secondary"]) == ("MR", "MR:mr")
    assert (first["disease"], first["challenge_series"]) == ("NA", "NA")
    assert json.loads(first["num_classes_per_task"]) == {"segmentation": 2}


def test_the_paper_s_annotations_have_four_blocks_per_case(built_once):
    rows = (built_once["3D"] / "annotations-segmentation.jsonl").read_text().splitlines()
    row = json.loads(rows[0])

    assert len(rows) == 8
    assert set(row) == {"record", "context", "media_geometry", "tasks"}
    assert set(row["record"]) == {"dataset_name", "image_path", "sample_id"}
    assert set(row["context"]) == {
        "subject", "age", "sex", "site", "modality", "anatomy", "text", "extra",
    }  # fmt: skip
    assert set(row["media_geometry"]) >= {
        "task_type", "leaf_task", "annotation_type", "dimension", "spacing", "orientation",
        "slice_index", "frame_index", "timestamps", "camera",
    }  # fmt: skip
    shard, _, member = row["record"]["image_path"].partition("#")
    with tarfile.open(built_once["3D"] / shard) as tar:
        assert member in tar.getnames()
    manifest = json.loads((built_once["3D"] / "manifest.json").read_text())
    case = next(c for c in manifest["cases"] if c["id"] == row["record"]["sample_id"])
    assert row["context"]["subject"] == case["group"]
    assert row["media_geometry"]["spacing"] == [1.0, 1.5, 2.25]
    assert row["tasks"][0]["annotated"] == case["annotated"]
    assert row["tasks"][0]["schema_variant"] == "label_map"


MANIFEST = {
    "": "schema_version bundle_id title builder plan sources compatibility overlaps concepts "
    "label_maps cases groups splits norm dedup checks privacy known_limits citations",
    "builder": "version lock_sha256",
    "plan": "mode profile target concepts seed protocol accept",
    "sources.0": "id name version url doi retrieved licence citation official_split n_cases_in "
    "n_used excluded",
    "compatibility": "S C parts gates",
    "cases.0": "id source group split files t1 shape spacing unit annotated present flags "
    "transforms norm_ref",
    "cases.0.files.0": "path sha256 bytes licence role",
    "groups": "n merged_by",
    "splits": "id counts",
    "dedup": "tiers thresholds hits reviewed",
}


@pytest.mark.parametrize("place", MANIFEST)
def test_the_manifest_holds_what_it_promises(built_once, place):
    part = json.loads((built_once["3D"] / "manifest.json").read_text())
    for step in place.split(".") if place else ():
        part = part[int(step)] if step.isdigit() else part[step]

    assert set(MANIFEST[place].split()) <= set(part)


def test_the_manifest_fits_the_schema_in_its_bundle_and_a_damaged_one_does_not(built_once):
    for folder in built_once.values():
        schema = json.loads((folder / "manifest.schema.json").read_text())
        manifest = json.loads((folder / "manifest.json").read_text())
        Draft202012Validator.check_schema(schema)
        validator = Draft202012Validator(schema)

        assert list(validator.iter_errors(manifest)) == []
        for key in manifest:
            without = {name: value for name, value in manifest.items() if name != key}
            assert any(key in error.message for error in validator.iter_errors(without))
        assert list(validator.iter_errors(manifest | {"surprise": 1}))


def test_the_datasheet_answers_the_usual_questions(built_once):
    text = (built_once["3D"] / "datasheet.md").read_text()

    for heading in (
        "Motivation", "Composition", "Collection", "Preprocessing and labelling", "Uses",
        "Distribution", "Maintenance", "Privacy",
    ):  # fmt: skip
        assert f"## {heading}\n" in text
    assert "no_geometry" in text


def test_what_a_report_left_is_in_the_bundle_and_its_checksums(tmp_path):
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "report.html").write_text("<p>looked at</p>")
    out = build(tmp_path, report=tmp_path / "report")

    assert (out / "report" / "report.html").read_text() == "<p>looked at</p>"
    assert "  report/report.html\n" in (out / "SHA256SUMS").read_text()
    assert verify_bundle(out).ok


def test_shards_read_as_webdataset_samples(built_once):
    shards = sorted((built_once["3D"] / "shards").glob("train-*.tar"))
    assert len(shards) > 1  # the cap is small

    for shard in shards:
        with tarfile.open(shard) as tar:
            members = tar.getmembers()
        assert all(m.mtime == m.uid == m.gid == 0 and m.mode == 0o644 for m in members)
        samples = groupby(members, key=lambda m: m.name.partition(".")[0])
        for key, parts in samples:
            names = [part.name for part in parts]
            assert names == [f"{key}.image.nii.gz", f"{key}.label.nii.gz", f"{key}.json"]


def test_a_reader_gets_each_file_by_its_offset(built_once):
    with Bundle(built_once["3D"]) as bundle:
        cases = list(bundle.cases("train"))
        assert len(cases) == 4
        for case in reversed(cases):
            (image, affine), label = bundle.image(case, check=True), bundle.label(case)
            assert list(image.shape) == case["shape"] == list(label.shape)
            assert np.diag(affine)[:3].tolist() == [1.0, 1.5, 2.25]
            record = json.loads(bundle.read(case, "record", check=True))
            assert record["id"] == case["id"]


def test_a_training_loop_sees_which_concepts_were_looked_for(built_once):
    with Bundle(built_once["2D"]) as bundle:
        cases = bundle.torch("train")
        item = cases[0]

    assert len(cases) == 4
    assert item["image"].shape[0] == 3
    assert item["image"].shape[1:] == item["label"].shape
    assert item["annotated"].tolist() == [True, True]


def test_a_sample_larger_than_the_cap_gets_a_shard_of_its_own():
    samples = [Sample(k, (Item(f"{k}.json", bytes(n)),)) for k, n in [("a", 9), ("b", 9_000)]]

    assert [[s.key for s in part] for part in distribute(samples, 4_000)] == [["a"], ["b"]]


def test_a_file_that_changed_since_it_was_hashed_stops_the_build(tmp_path):
    case = make_workdir(tmp_path / "work")[0]
    path = tmp_path / "work" / "cases" / case["id"] / "image.nii.gz"
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")

    with pytest.raises(BundleError, match=case["files"][0]["sha256"]) as raised:
        write_bundle(make_plan(), tmp_path / "work", tmp_path / "out")

    assert raised.value.code == "file_changed"


@pytest.mark.parametrize(
    "same", [{"group": "g:same"}, {"t1": "a" * 64}], ids=["one group", "one image"]
)
def test_a_leak_across_splits_stops_the_build(tmp_path, same):
    make_case(tmp_path, "first", 1, "train", "3D", **same)
    make_case(tmp_path, "second", 2, "test", "3D", **same)

    with pytest.raises(BundleError, match=r"train .* and test") as raised:
        write_bundle(make_plan(), tmp_path, tmp_path / "out")

    assert raised.value.code == "leak_detected"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("bad", ["../up", "a/b", "a.b", "", "x" * 81, "nul\0"])
def test_an_unsafe_case_id_is_refused(tmp_path, bad):
    case = make_case(tmp_path, "first", 1, "train", "3D")
    path = tmp_path / "cases" / case["id"] / "case.json"
    path.write_text(json.dumps(case | {"id": bad}))

    with pytest.raises(BundleError) as raised:
        write_bundle(make_plan(), tmp_path, tmp_path / "out")

    assert raised.value.code == "name_unsafe"


@pytest.mark.parametrize("bad", ["../image.nii.gz", "/etc/passwd", "a/../../b", "C:x", "a\\b"])
def test_a_case_file_outside_its_folder_is_refused(tmp_path, bad):
    case = make_case(tmp_path, "first", 1, "train", "3D")
    case["files"][0]["path"] = bad
    (tmp_path / "cases" / case["id"] / "case.json").write_text(json.dumps(case))

    with pytest.raises(BundleError, match="expected a relative path"):
        write_bundle(make_plan(), tmp_path, tmp_path / "out")


def test_a_classification_bundle_has_classes_and_no_masks(tmp_path):
    plan = make_plan("2D", task="classification")
    for number, split in enumerate(("train", "val", "test")):
        classes = {"hippocampus-anterior": number % 2, "hippocampus-posterior": -1}
        case = make_case(tmp_path, "first", number, split, "2D", classes=classes, present={})
        case["files"] = case["files"][:1]
        (tmp_path / "cases" / case["id"] / "case.json").write_text(json.dumps(case))
    plan["sources"] = plan["sources"][:1]

    write_bundle(plan, tmp_path, tmp_path / "out")

    report = verify_bundle(tmp_path / "out")
    assert report.ok, [c.detail for c in report.checks if not c.ok]
    assert (tmp_path / "out" / "annotations-classification.jsonl").exists()
    with Bundle(tmp_path / "out") as bundle:
        assert bundle.torch("val")[0]["classes"].tolist() == [1, -1]


def test_a_long_path_uses_the_prefix_of_the_header(tmp_path):
    name = "root/" + "n" * 60 + "/" + "x" * 90
    (tmp_path / "long.tar").write_bytes(header(name, 0) + bytes(1024))

    with tarfile.open(tmp_path / "long.tar") as tar:
        assert tar.getnames() == [name]
    with pytest.raises(BundleError, match="ustar"):
        header("y" * 101, 0)


def test_shards_do_not_depend_on_the_order_of_the_samples(tmp_path):
    samples = [Sample(key, (Item(f"{key}.json", key.encode()),)) for key in "cab"]

    first = write_shards(tmp_path / "1", "train", samples)
    second = write_shards(tmp_path / "2", "train", samples[::-1])

    assert first == second


def _facts():
    from tests.bundle.conftest import EXCLUSIONS, FINDINGS

    return EXCLUSIONS, FINDINGS


def test_rows_of_one_array_file_share_its_hash_without_being_a_leak():
    image = {"path": "all.npz", "sha256": "b" * 64, "bytes": 9}
    cases = [
        {
            "id": f"c{row}",
            "group": f"g{row}",
            "t1": f"{row}",
            "split": split,
            "origin": {"image": {**image, "row": row}},
        }
        for row, split in enumerate(("train", "test"))
    ]

    assert find_leaks(cases) == []
    assert "file (T0)" in find_leaks([case | {"origin": {"image": image}} for case in cases])[0]
