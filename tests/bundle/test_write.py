from __future__ import annotations

import json
import tarfile
from itertools import groupby

import numpy as np
import pytest

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
    assert len(report.checks) == 12


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


def test_the_pages_of_the_paper_have_their_fields(built_once):
    meta = (built_once["3D"] / "data-meta.jsonl").read_text().splitlines()
    rows = (built_once["3D"] / "annotations-segmentation.jsonl").read_text().splitlines()

    assert [len(json.loads(line)) for line in meta] == [16, 16]
    assert set(json.loads(rows[0])) == {"record", "context", "media_geometry", "tasks"}
    assert len(rows) == 8


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
