"""Formats through the whole pipeline: a DICOM series beside NIfTI, classes from an .npz file."""

from __future__ import annotations

import json

import numpy as np
import SimpleITK as sitk

from fusion.build import STAGES, Build, run_stage
from fusion.bundle.summary import summarise
from fusion.bundle.verify import verify_bundle
from fusion.plan import make_plan
from fusion.recipe_check import check_recipe
from tests.fusion.test_real_cases import Silent

KNOWN = {"ct", "msd", "made"}


def run(recipe, data_root, out):
    plan = make_plan(check_recipe(recipe, KNOWN))
    made = Build(plan, data_root, out.with_name("work"), out)
    for stage in STAGES:
        run_stage(stage, made, Silent())
    assert verify_bundle(out).ok
    rows = [json.loads(p.read_text()) for p in (made.workdir / "final" / "cases").glob("*/*.json")]
    return {row["name"]: row for row in rows}, summarise(out)


def source(name, path, cases, layer):
    description = {
        "name": name,
        "modality": "CT",
        "family": "CT",
        "dimension": "3D",
        "cases": {"subject": name, **cases},
        "layers": [{"kind": "label_map", **layer}],
    }
    location = {"kind": "local", "path": path}
    return {"id": name, "dataset": name, "location": location, "description": description}


def test_a_dicom_series_and_a_nifti_file_share_the_spleen(shared_data, tmp_path):
    (nifti,) = (shared_data / "abdomen_ct" / "msd_task09_spleen2" / "sub-spleen2").rglob("*.nii.gz")
    (label,) = (shared_data / "abdomen_ct" / "msd_task09_spleen2" / "derivatives").rglob("*.nii.gz")
    root = shared_data / "abdomen_ct" / "msd_task09_spleen2"
    recipe = {
        "schema": "imaging-x/recipe/1",
        "title": "spleens",
        "task": "segmentation",
        "concepts": ["spleen"],
        "baseline": {"tier": "none"},
        "sources": [
            source(
                "ct",
                "abdomen_ct/totalsegmentator_dicom",
                {"image": "example_ct_dicom/"},
                {
                    "path": "example_seg_dicom.nii.gz",
                    "values": {"1": "spleen", "*": "background"},
                },
            ),
            source(
                "msd",
                "abdomen_ct/msd_task09_spleen2",
                {"image": nifti.relative_to(root).as_posix()},
                {"path": label.relative_to(root).as_posix(), "values": {"1": "spleen"}},
            ),
        ],
    }

    cases, summary = run(recipe, shared_data, tmp_path / "bundle")

    series = cases["example_ct_dicom"]
    assert series["spacing_mm"][2] == 2.0, "the slice step, not SliceThickness"
    assert series["unit"] == "hu"
    assert all(
        row["present"]["spleen"] > 1000 and row["axcodes"] == "RAS" for row in cases.values()
    )
    assert [s["used"] for s in summary["sources"]] == [1, 1]


def test_classes_of_an_npz_keep_the_official_test_set(tmp_path):
    rng = np.random.default_rng(3)
    arrays = {}
    for split, count in (("train", 12), ("test", 4)):
        arrays[f"{split}_images"] = rng.integers(0, 255, (count, 28, 28), dtype=np.uint8)
        arrays[f"{split}_labels"] = np.arange(count, dtype=np.uint8)[:, None] % 2
    (tmp_path / "made").mkdir()
    np.savez(tmp_path / "made" / "made.npz", **arrays)
    description = {
        "name": "made",
        "modality": "DX",
        "family": "X-ray",
        "dimension": "2D",
        "cases": {
            "npz": {
                "file": "made.npz",
                "arrays": [
                    {"images": f"{s}_images", "labels": f"{s}_labels", "split": s}
                    for s in ("train", "test")
                ],
            }
        },
        "classes": {"values": {"0": "no_finding", "1": "pneumonia"}},
    }
    recipe = {
        "schema": "imaging-x/recipe/1",
        "title": "chest classes",
        "task": "classification",
        "baseline": {"tier": "none"},
        "views": [],
        "accept": {"unknown_subjects": ["made"]},
        "sources": [
            {
                "id": "made",
                "dataset": "made",
                "location": {"kind": "local", "path": "made"},
                "description": description,
            }
        ],
    }

    cases, summary = run(recipe, tmp_path, tmp_path / "bundle")

    assert len(cases) == 16
    test = {name for name, row in cases.items() if row["split"] == "test"}
    assert {f"test_images_{i:06d}" for i in range(4)} <= test
    assert cases["train_images_000001"]["classes"] == {"no_finding": 0, "pneumonia": 1}
    assert summary["cases"] == 16


def test_two_part_images_with_one_header_are_two_images_and_both_parts_are_locked(tmp_path):
    rng = np.random.default_rng(5)
    for name in ("p1", "p2", "p3"):
        folder = tmp_path / "meta" / name
        folder.mkdir(parents=True)
        label = np.zeros((12, 12, 12), np.uint8)
        label[3:8, 3:8, 3:8] = 1
        pixels = rng.integers(-200, 300, label.shape).astype(np.int16)
        for array, file in ((pixels, "image.mhd"), (label, "label.nrrd")):
            image = sitk.GetImageFromArray(array)
            image.SetSpacing((1.0, 1.0, 2.0))
            sitk.WriteImage(image, str(folder / file))
    cases = {"image": "{case}/image.mhd"}
    layer = {"path": "{case}/label.nrrd", "values": {"1": "spleen"}}
    recipe = {
        "schema": "imaging-x/recipe/1",
        "title": "two parts",
        "task": "segmentation",
        "baseline": {"tier": "none"},
        "views": [],
        "sources": [source("made", "meta", {**cases, "subject": "{case}"}, layer)],
    }

    rows, _ = run(recipe, tmp_path, tmp_path / "bundle")

    headers = {(tmp_path / "meta" / n / "image.mhd").read_bytes() for n in ("p1", "p2", "p3")}
    assert len(headers) == 1
    assert len(rows) == 3, "images with one header are no duplicates"
    lock = json.loads((tmp_path / "work" / "lock.json").read_text())
    assert "p1/image.raw" in {row["path"] for row in lock["sources"]["made"]["files"]}
