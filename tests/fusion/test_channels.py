"""Several images per case: MR sequences in files of their own or along a fourth axis."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest

from fusion.build import STAGES, Build, run_stage
from fusion.bundle.materialise import write_views
from fusion.bundle.read_bundle import Bundle
from fusion.bundle.verify import verify_bundle
from fusion.errors import RecipeError
from fusion.plan import make_plan
from fusion.recipe_check import check_recipe
from tests.fusion.test_real_cases import Silent

SHAPE = (11, 9, 7)
AFFINE = np.diag([1.0, 1.5, 2.0, 1.0])
KNOWN = {"apart", "stacked", "single"}


def save(path, array, affine=AFFINE):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)


def volumes(count, seed, shape=SHAPE):
    rng = np.random.default_rng(seed)
    return [rng.normal(100, 20, shape).astype(np.float32) for _ in range(count)]


def label():
    mask = np.zeros(SHAPE, np.uint8)
    mask[3:8, 2:7, 2:5] = 1
    return mask


def source(name, cases, layer="{name}/seg.nii.gz"):
    description = {
        "name": name,
        "modality": "MR",
        "family": "MR",
        "dimension": "3D",
        "cases": {"subject": "{name}", **cases},
        "layers": [{"path": layer, "kind": "label_map", "values": {"1": "brain_tumour"}}],
    }
    location = {"kind": "local", "path": name}
    return {"id": name, "dataset": name, "location": location, "description": description}


@pytest.fixture
def apart(tmp_path):
    """Three cases, one file per sequence; FLAIR runs along other axes on the same voxels."""
    for i in range(3):
        t1c, flair = volumes(2, i)
        folder = tmp_path / "apart" / f"p{i}"
        save(folder / f"p{i}_t1ce.nii.gz", t1c)
        flipped = AFFINE @ np.array([[-1, 0, 0, 10], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
        save(folder / f"p{i}_flair.nii.gz", flair[::-1], flipped)
        save(folder / "seg.nii.gz", label())
    paths = {"T1c": "{name}/{name}_t1ce.nii.gz", "FLAIR": "{name}/{name}_flair.nii.gz"}
    return source("apart", {"channels": paths})


@pytest.fixture
def stacked(tmp_path):
    """Three cases, one 4D file each: FLAIR, T1, T1c."""
    for i in range(3):
        save(tmp_path / "stacked" / f"s{i}.nii.gz", np.stack(volumes(3, 50 + i), axis=-1))
        save(tmp_path / "stacked" / "labels" / f"s{i}.nii.gz", label())
    channels = {name: {"channel": n} for n, name in enumerate(("FLAIR", "T1", "T1c"))}
    cases = {"image": "{name}.nii.gz", "channels": channels}
    return source("stacked", cases, "labels/{name}.nii.gz")


def recipe(*sources, **changes):
    base = {
        "schema": "imaging-x/recipe/1",
        "title": "several sequences",
        "task": "segmentation",
        "target": {"profile": "canonical"},
        "baseline": {"tier": "none"},
        "sources": list(sources),
    }
    return make_plan(check_recipe(base | changes, KNOWN))


def build(plan, root):
    made, seen = Build(plan, root, root / "work", root / "out"), Silent()
    for stage in STAGES:
        run_stage(stage, made, seen)
    rows = [json.loads(p.read_text()) for p in (root / "work/final/cases").glob("*/case.json")]
    return {row["name"]: row for row in rows}, seen


def test_files_apart_and_a_fourth_axis_give_the_same_channels_in_one_order(
    apart, stacked, tmp_path
):
    plan = recipe(apart, stacked)

    rows, _ = build(plan, tmp_path)

    assert plan.channels == ["T1c", "FLAIR"]
    assert verify_bundle(tmp_path / "out").ok
    assert {row["channels"] for row in rows.values()} == {2}
    with Bundle(tmp_path / "out") as bundle:
        by_name = {case["name"]: case for case in bundle.cases()}
        t1c, flair = volumes(2, 1)
        np.testing.assert_array_equal(bundle.load(by_name["p1"], "image")[0], t1c)
        np.testing.assert_array_equal(bundle.load(by_name["p1"], "image_1")[0], flair)
        flair, _, t1c = volumes(3, 51)
        np.testing.assert_array_equal(bundle.load(by_name["s1"], "image")[0], t1c)
        np.testing.assert_array_equal(bundle.load(by_name["s1"], "image_1")[0], flair)
        case = next(bundle.cases("train"))
        item = bundle.torch("train")[0]
        for n, role in enumerate(("image", "image_1")):
            np.testing.assert_array_equal(item["image"][n], bundle.load(case, role)[0])


def test_nnunet_gets_one_file_per_channel_and_their_names(apart, tmp_path):
    build(recipe(apart, channels=["FLAIR", "T1c"]), tmp_path)

    write_views(tmp_path / "out", ["nnunet"], tmp_path / "view")
    (view,) = (tmp_path / "view").iterdir()
    data = json.loads((view / "dataset.json").read_text())
    assert data["channel_names"] == {"0": "FLAIR", "1": "T1c"}
    names = sorted(path.name[-12:] for path in (view / "imagesTr").iterdir())
    assert names.count("_0000.nii.gz") == names.count("_0001.nii.gz") == len(names) // 2 > 0


def test_a_channel_on_another_grid_is_taken_to_the_first_one_and_said(apart, tmp_path):
    coarse = volumes(1, 7, (6, 9, 7))[0]
    save(tmp_path / "apart/p1/p1_flair.nii.gz", coarse, np.diag([2.0, 1.5, 2.0, 1.0]))

    rows, _ = build(recipe(apart), tmp_path)

    assert rows["p1"]["shape"] == list(SHAPE)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    found = [f["detail"] for f in report["findings"] if f["code"] == "channel_resampled"]
    assert found[0].startswith("p1: from (6, 9, 7)")
    case = tmp_path / "work/final/cases" / rows["p1"]["id"] / "image_1.nii.gz"
    # Every second voxel centre of the first grid is a voxel centre of the coarse one.
    np.testing.assert_allclose(nib.load(case).get_fdata()[::2], coarse, rtol=1e-5)


def test_a_case_without_one_of_the_wanted_channels_is_named_with_it(apart, tmp_path):
    for i in range(3, 9):
        for part in ("t1ce", "flair"):
            save(tmp_path / f"apart/p{i}/p{i}_{part}.nii.gz", volumes(1, i)[0])
        save(tmp_path / f"apart/p{i}/seg.nii.gz", label())
    (tmp_path / "apart/p4/p4_flair.nii.gz").unlink()

    _, both = build(recipe(apart), tmp_path)
    (tmp_path / "again").mkdir()
    plan = recipe(apart, channels=["T1c"])
    made, one = Build(plan, tmp_path, tmp_path / "again/w", tmp_path / "again/out"), Silent()
    for stage in STAGES:
        run_stage(stage, made, one)

    assert both.codes == {"p4": "image_missing"}
    assert one.codes == {}


def test_sources_without_a_common_channel_are_refused_by_name(apart, stacked):
    stacked["description"]["cases"]["channels"] = {"T2": {"channel": 0}, "ADC": {"channel": 1}}

    with pytest.raises(RecipeError, match=r"E03.*apart: T1c, FLAIR; stacked: T2, ADC"):
        recipe(apart, stacked)


def test_a_source_of_one_unnamed_image_does_not_pass_for_a_named_channel(apart):
    single = source("single", {"image": "{name}.nii.gz"})

    with pytest.raises(RecipeError, match="E03"):
        recipe(apart, single)
    with pytest.raises(RecipeError, match="single has no T1c"):
        recipe(apart, single, channels=["T1c"])
    single["description"]["cases"]["channel"] = "T1c"
    assert recipe(apart, single).channels == ["T1c"]
