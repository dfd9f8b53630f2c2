"""Real images from several publishers, fused with the shipped recipes. Baselines are left out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fusion.build import STAGES, Build, run_stage
from fusion.bundle.summary import summarise
from fusion.bundle.verify import verify_bundle
from fusion.errors import BuildError
from fusion.plan import make_plan
from fusion.recipe_check import check_recipe
from fusion.recipe_files import example_recipes, load_recipe
from tests.fusion.test_recipe import KNOWN


class Silent:
    """A progress that only remembers what was excluded."""

    def __init__(self) -> None:
        self.codes: dict[str, str] = {}

    def stage(self, name: str, total: int) -> None: ...

    def advance(self, done: int) -> None: ...

    def check(self) -> None: ...

    def case(self, source, name, state, *, stage, code="", detail=""):
        if code:
            self.codes[name] = code


def build(name: str, data_root: Path, out: Path, **changes) -> tuple[Build, Silent]:
    recipe = load_recipe(example_recipes()[name]) | {"baseline": {"tier": "none"}} | changes
    plan = make_plan(check_recipe(recipe, KNOWN))
    made, progress = Build(plan, data_root, out.with_name(out.name + ".work"), out), Silent()
    for stage in STAGES:
        run_stage(stage, made, progress)
    return made, progress


def test_planted_defects_of_the_hippocampus_crops_are_excluded_by_code(shared_data, tmp_path):
    made, progress = build("hippocampus", shared_data, tmp_path / "bundle")

    assert progress.codes == {
        "hippocampus_010": "image_missing",
        "hippocampus_118": "label_missing",
        "hippocampus_281": "image_missing",
    }
    summary = summarise(made.out)
    assert {s["id"]: (s["cases_in"], s["used"]) for s in summary["sources"]} == {
        "msd": (135, 132),
        "colin27": (1, 1),
        "mni152": (1, 1),
    }
    assert "label_resampled" in {finding["code"] for finding in summary["findings"]}


def test_vessels_keep_eyes_and_near_duplicates_together_and_return_to_native_size(
    shared_data, tmp_path
):
    made, _ = build("retinal-vessels", shared_data, tmp_path / "bundle")

    work = {
        row["name"]: row
        for path in (made.workdir / "final" / "cases").glob("*/case.json")
        if (row := json.loads(path.read_text()))
    }
    assert work["22_A"]["group"] == work["23_A"]["group"]
    assert all(work[f"0{i}_L"]["split"] == work[f"0{i}_R"]["split"] for i in range(1, 8))
    assert work["01_L"]["shape"] == [960, 999]
    assert work["im0001"]["shape"] == work["im0002"]["shape"] == [605, 700]
    share = work["28_A"]["present"]["retinal_vessel"] / np.prod(work["28_A"]["shape"])
    assert 0.02 < share < 0.3, "an alpha channel was taken for vessels"
    assert verify_bundle(made.out).ok


def made_source(folder: Path, mask_shape: tuple[int, int]) -> dict:
    """A recipe of one small source in `folder`/made."""
    rng = np.random.default_rng(1)
    for kind in ("images", "masks"):
        (folder / "made" / kind).mkdir(parents=True)
    for i in range(4):
        image = rng.integers(0, 255, (24, 31, 3), dtype=np.uint8)
        Image.fromarray(image).save(folder / "made" / "images" / f"{i}.png")
        shape = mask_shape if i < 2 else (24, 31)
        mask = np.zeros(shape, np.uint8)
        mask[3:9, 4:9] = 255
        Image.fromarray(mask).save(folder / "made" / "masks" / f"{i}.png")
    description = {
        "name": "made",
        "modality": "OP",
        "family": "Fundus photography",
        "dimension": "2D",
        "cases": {"image": "images/{name}.png", "subject": "{name}"},
        "layers": [
            {
                "path": "masks/{name}.png",
                "kind": "mask",
                "threshold": 127,
                "concept": "retinal_vessel",
            }
        ],
    }
    location = {"kind": "local", "path": "made"}
    source = {
        "id": "made",
        "dataset": "stare",
        "location": location,
        "description": description,
    }
    return {"sources": [source], "accept": {}}


def test_masks_of_another_shape_stop_a_source_with_both_shapes_in_the_message(tmp_path):
    changes = made_source(tmp_path, (20, 20))

    with pytest.raises(BuildError, match=r"grid_conflict.*\(20, 20\).*\(24, 31\)"):
        build("retinal-vessels", tmp_path, tmp_path / "bundle", **changes)
    assert not (tmp_path / "bundle").exists()


def test_a_folder_that_is_not_there_names_the_nearest_one(tmp_path):
    changes = made_source(tmp_path, (24, 31))
    changes["sources"][0]["location"]["path"] = "mede"

    with pytest.raises(BuildError, match="did you mean 'made'"):
        build("retinal-vessels", tmp_path, tmp_path / "bundle", **changes)


def test_two_builds_of_one_recipe_give_equal_checksums_and_a_changed_file_another_id(tmp_path):
    changes = made_source(tmp_path, (24, 31))
    first, _ = build("retinal-vessels", tmp_path, tmp_path / "a", **changes)
    again, _ = build("retinal-vessels", tmp_path, tmp_path / "b", **changes)

    sums = [(made.out / "SHA256SUMS").read_text() for made in (first, again)]
    assert sums[0] == sums[1]

    picture = tmp_path / "made" / "images" / "0.png"
    Image.fromarray(255 - np.asarray(Image.open(picture))).save(picture)
    third, _ = build("retinal-vessels", tmp_path, tmp_path / "c", **changes)
    assert third.locked_plan().bundle_id != first.locked_plan().bundle_id


def test_a_file_that_changed_since_it_was_acquired_is_not_used(tmp_path):
    changes = made_source(tmp_path, (24, 31))
    recipe = load_recipe(example_recipes()["retinal-vessels"]) | changes
    plan = make_plan(check_recipe(recipe | {"baseline": {"tier": "none"}}, KNOWN))
    made, progress = Build(plan, tmp_path, tmp_path / "work", tmp_path / "out"), Silent()
    for stage in STAGES[:2]:
        run_stage(stage, made, progress)
    picture = tmp_path / "made" / "images" / "0.png"
    Image.fromarray(255 - np.asarray(Image.open(picture))).save(picture)

    with pytest.raises(BuildError, match="0: upstream_changed"):
        run_stage("harmonise", made, progress)
