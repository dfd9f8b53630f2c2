"""Chest X-rays whose source tells the finding: refused, and where accepted, flagged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fusion.baseline import run_baseline
from fusion.build import STAGES, Build, run_stage
from fusion.errors import BuildError, RecipeError
from fusion.plan import make_plan
from fusion.recipe_check import check_recipe
from fusion.recipe_files import example_recipes, load_recipe
from tests.baseline.made import QUICK
from tests.fusion.test_real_cases import Silent
from tests.fusion.test_recipe import KNOWN

DATASETS = {"bright": "pneumoniamnist", "dark": "figure-1-covid-19-chest-x-ray-dataset-initiative"}


def radiographs(root: Path, name: str, level: int, ill: int, well: int) -> dict:
    """Grey pictures in folders by class, as bright as their source; and the recipe's member."""
    rng = np.random.default_rng(level)
    for kind, number in (("ill", ill), ("well", well)):
        (root / name / kind).mkdir(parents=True)
        for n in range(number):
            coarse = np.kron(rng.normal(0, 12, (4, 4)), np.ones((8, 8)))
            picture = level + coarse + rng.normal(0, 6, (32, 32))
            path = root / name / kind / f"{kind}{n}.png"
            Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).save(path)
    values = {
        k: v for k, v, has in (("ill", "pneumonia", ill), ("well", "no_finding", well)) if has
    }
    description = {
        "name": name,
        "modality": "DX",
        "family": "X-ray",
        "dimension": "2D",
        "annotation": "manual",
        "cases": {
            "image": "{kind}/{name}.png",
            "fields": {"kind": "ill|well"},
            "subject": "{name}",
        },
        "classes": {"field": "kind", "values": values, "exclusive": True},
    }
    location = {"kind": "local", "path": name}
    return {"id": name, "dataset": DATASETS[name], "location": location, "description": description}


def recipe(*members: dict, **changes) -> dict:
    return {
        "schema": "imaging-x/recipe/1",
        "title": "Chest X-rays",
        "task": "classification",
        "mode": "union",
        "views": [],
        "splits": {"train": 0.5, "val": 0.1, "test": 0.4},
        "sources": list(members),
    } | changes


def judged(data: dict, root: Path, data_root: Path | None = None) -> dict:
    """Every stage up to the baseline, which is a very short one."""
    plan = make_plan(check_recipe(data, KNOWN))
    build = Build(plan, data_root or root, root / "work", root / "bundle")
    for stage in STAGES[: STAGES.index("package")]:
        run_stage(stage, build, Silent())
    final = build.workdir / "final"
    return run_baseline(plan.as_dict(), final, device="cpu", threads=1, tier=QUICK)


def test_a_class_of_one_source_is_refused_and_where_accepted_is_flagged_with_the_verdict(tmp_path):
    members = [
        radiographs(tmp_path, "bright", 170, 14, 0),
        radiographs(tmp_path, "dark", 80, 0, 14),
    ]

    with pytest.raises(RecipeError, match=r"class_confounded: pneumonia occurs in bright only"):
        make_plan(check_recipe(recipe(*members), KNOWN))
    found = judged(recipe(*members, accept={"confounding": True}), tmp_path)

    shift = found["shift"]
    assert shift["shortcut_risk"]
    assert shift["after"]["value"] > 0.9
    assert not shift["matched"]  # no label is in both
    assert shift["cramers_v"]["pneumonia"] > 0.9
    assert "shortcut_risk" in {row["code"] for row in found["findings"]}
    assert any(row.startswith("shortcut_risk: ") for row in found["reasons"])
    assert found["verdict"] == "inconclusive"


def test_a_class_that_is_much_more_frequent_in_one_source_passes_and_is_flagged(tmp_path):
    members = [
        radiographs(tmp_path, "bright", 170, 18, 6),
        radiographs(tmp_path, "dark", 80, 6, 18),
    ]

    found = judged(recipe(*members), tmp_path)

    assert found["shift"]["matched"]
    assert found["shift"]["cramers_v"]["pneumonia"] == pytest.approx(0.5, abs=0.05)
    assert "shortcut_risk" in {row["code"] for row in found["findings"]}


def real(mnist_leaves_out: str, figure1_leaves_out: str) -> dict:
    """The shipped recipe of real chest X-rays, without the cases of one class in each source.

    Of the array file its val part is enough: 270 radiographs.
    """
    data = load_recipe(example_recipes()["chest-x-ray"]) | {"mode": "union"}
    for source, left_out in zip(
        data["sources"], (mnist_leaves_out, figure1_leaves_out), strict=True
    ):
        classes = source["description"]["classes"]
        del classes["values"][left_out]
        classes["ignore_values"] = [*classes.get("ignore_values", []), left_out]
    npz = data["sources"][0]["description"]["cases"]["npz"]
    npz["arrays"] = [part for part in npz["arrays"] if part["split"] == "val"]
    return data


def test_real_radiographs_whose_source_tells_the_finding_are_refused_and_where_accepted_flagged(
    shared_data, tmp_path
):
    data = real(mnist_leaves_out="1", figure1_leaves_out="No finding")

    with pytest.raises(RecipeError) as refused:
        make_plan(check_recipe(data, KNOWN))
    assert "class_confounded: no_finding occurs in mnist only" in str(refused.value)
    assert "class_confounded: pneumonia occurs in figure1 only" in str(refused.value)
    data["accept"]["confounding"] = True
    found = judged(data, tmp_path, shared_data)

    shift = found["shift"]
    assert not shift["matched"]
    assert shift["cramers_v"]["pneumonia"] > 0.9
    assert shift["after"]["value"] > 0.5
    assert shift["shortcut_risk"]
    assert "shortcut_risk" in {row["code"] for row in found["findings"]}
    assert any(row.startswith("shortcut_risk: ") for row in found["reasons"])
    assert found["verdict"] == "inconclusive"


def test_a_class_that_a_source_could_have_but_has_no_case_of_is_refused_when_that_is_seen(tmp_path):
    members = [
        radiographs(tmp_path, "bright", 170, 14, 14),
        radiographs(tmp_path, "dark", 80, 0, 14),
    ]
    members[1]["description"]["classes"]["values"]["ill"] = "pneumonia"

    with pytest.raises(BuildError, match=r"^pneumonia occurs in bright only, among") as refused:
        judged(recipe(*members), tmp_path)
    assert refused.value.code == "class_confounded"
    accepted = recipe(*members, accept={"confounding": True})
    judged(accepted, tmp_path)

    assert "pneumonia occurs in bright only" in (tmp_path / "work" / "split.json").read_text()


def test_sources_that_look_alike_are_no_risk_however_their_classes_are_spread(tmp_path):
    members = [
        radiographs(tmp_path, "bright", 120, 18, 6),
        radiographs(tmp_path, "dark", 121, 6, 18),
    ]

    found = judged(recipe(*members), tmp_path)

    assert found["shift"]["after"]["value"] < 0.5
    assert not found["findings"] or "shortcut_risk" not in {r["code"] for r in found["findings"]}
