"""The outside readers of a bundle: mlcroissant and nnU-Net."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from fusion.bundle.croissant import REQUIRED, missing_fields
from fusion.bundle.nnunet import dataset_id, dataset_name
from fusion.bundle.pixels import decode
from fusion.bundle.verify import verify_bundle
from fusion.bundle.write import write_bundle
from tests.bundle.factories import make_case, make_plan

NNUNET = """
import sys
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity
if __name__ == "__main__":
    verify_dataset_integrity(sys.argv[1], 1)
"""


def run(arguments, cwd, **env) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(one) for one in arguments],
        cwd=cwd,
        env=os.environ | env,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def verify_integrity(view: Path, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    script = tmp_path / "integrity.py"
    script.write_text(NNUNET)
    folders = {n: str(tmp_path) for n in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
    return run([sys.executable, script, view], tmp_path, **folders)


def view_of(bundle: Path) -> Path:
    return next((bundle / "nnunet").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["3D", "2D", "loso"])
def test_nnunet_accepts_the_view(built_once, tmp_path, kind):
    done = verify_integrity(view_of(built_once[kind]), tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "most likely OK" in done.stdout


def test_a_holdout_validates_on_val_and_tests_on_test(built_once):
    view = view_of(built_once["3D"])
    data = json.loads((view / "dataset.json").read_text())
    folds = json.loads((view / "splits_final.json").read_text())

    assert data["labels"]["background"] == 0
    assert data["numTraining"] == len(list((view / "imagesTr").iterdir())) == 6
    assert len(list((view / "imagesTs").iterdir())) == len(list((view / "labelsTs").iterdir())) == 2
    assert [(len(fold["train"]), len(fold["val"])) for fold in folds] == [(4, 2)]


def test_leaving_one_source_out_validates_on_that_source(built_once):
    view = view_of(built_once["loso"])
    folds = json.loads((view / "splits_final.json").read_text())

    assert not (view / "imagesTs").exists()
    for fold, held_out in zip(folds, ("first", "second"), strict=True):
        assert all(name.startswith(held_out) for name in fold["val"])
        assert not any(name.startswith(held_out) for name in fold["train"])
        assert len(fold["train"]) == len(fold["val"]) == 4


def test_the_dataset_id_follows_from_the_bundle_id():
    ids = {dataset_id(f"{number:064x}") for number in range(2_000)}

    assert (min(ids), max(ids)) == (500, 999)
    assert dataset_name("0" * 64, "Été: 2 sources/one") == "Dataset500_T2SourcesOne"


@pytest.mark.slow
def test_a_concept_that_only_some_cases_were_annotated_for_is_not_exported(tmp_path):
    labels = np.tile(np.arange(3, dtype=np.uint8), (12, 6))[:, :17]
    make_case(tmp_path, "first", 1, "train", "2D", label=labels)
    partial = np.where(labels == 1, 0, labels)
    make_case(
        tmp_path, "second", 1, "val", "2D", label=partial, annotated=["hippocampus-posterior"],
        present={"hippocampus-posterior": int((partial == 2).sum())},
    )  # fmt: skip
    write_bundle(make_plan("2D", mode="union"), tmp_path, tmp_path / "out")

    view = view_of(tmp_path / "out")
    assert json.loads((view / "dataset.json").read_text())["labels"] == {
        "background": 0,
        "hippocampus-posterior": 1,
    }
    for path in (view / "labelsTr").iterdir():
        np.testing.assert_array_equal(decode(path.name, path.read_bytes()).array, labels == 2)
    assert verify_integrity(view, tmp_path).returncode == 0
    assert verify_bundle(tmp_path / "out").ok


def test_without_a_common_concept_the_view_is_left_out_with_its_reason(tmp_path):
    for source, concept, value in [("first", "anterior", 1), ("second", "posterior", 2)]:
        label = np.full((8, 9, 5), value, np.uint8)
        names = {"annotated": [f"hippocampus-{concept}"], "present": {}}
        make_case(tmp_path, source, 1, "train", "3D", label=label, **names)
    write_bundle(make_plan(mode="union"), tmp_path, tmp_path / "out")

    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert "no concept" in manifest["views"]["nnunet"]["omitted"]
    assert not (tmp_path / "out" / "nnunet").exists()
    assert "No nnU-Net view" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.slow
def test_grey_and_colour_pictures_get_one_channel_count(tmp_path):
    make_case(tmp_path, "first", 1, "train", "2D", channels=1)
    make_case(tmp_path, "second", 2, "val", "2D", channels=3)
    write_bundle(make_plan("2D"), tmp_path, tmp_path / "out")

    done = verify_integrity(view_of(tmp_path / "out"), tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert verify_bundle(tmp_path / "out").ok


@pytest.mark.parametrize("kind", ["3D", "2D", "loso"])
def test_mlcroissant_validates_the_description(built_once, kind):
    tool = Path(sys.executable).with_name("mlcroissant")
    done = run([tool, "validate", "--jsonld", "croissant.json"], built_once[kind])

    assert done.returncode == 0, done.stderr
    assert "Done" in done.stderr
    assert "WARNING" not in done.stderr.upper().replace("W0000", ""), done.stderr


def test_mlcroissant_loads_the_cases_with_their_split(built_once):
    script = (
        "import mlcroissant, json\n"
        "rows = list(mlcroissant.Dataset('croissant.json').records('cases'))\n"
        "print(json.dumps([{k: v.decode() for k, v in row.items()} for row in rows]))"
    )
    done = run([sys.executable, "-c", script], built_once["2D"])

    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert len(rows) == 8
    assert {row["cases/split"] for row in rows} == {"train", "val", "test"}


@pytest.mark.parametrize("field", REQUIRED)
def test_each_required_field_is_missed(built_once, field):
    data = json.loads((built_once["3D"] / "croissant.json").read_text())
    assert missing_fields(data) == []

    del data[field]
    assert field in missing_fields(data)


def test_the_published_date_comes_from_the_sources_not_from_the_clock(built_once):
    data = json.loads((built_once["3D"] / "croissant.json").read_text())

    assert data["datePublished"] == "2018-01-01"
    assert [one["@id"] for one in data["prov:wasDerivedFrom"]] == [
        "https://doi.org/10.1234/abcd",
        "https://example.org/data/second",
    ]


def test_citations_parse(built_once):
    cff = yaml.safe_load((built_once["3D"] / "CITATION.cff").read_text())
    bib = (built_once["3D"] / "references.bib").read_text()

    assert {"cff-version", "message", "title", "authors"} <= set(cff)
    assert [row["title"] for row in cff["references"]] == [
        "The first set & more",
        "The second set & more",
    ]
    assert bib.count("@misc{") == 2
    assert "100\\% real" in bib
