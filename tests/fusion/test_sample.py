"""The sample of `make demo`: two heads of different people, so that its baseline can train."""

from __future__ import annotations

import json
from pathlib import Path

from fusion.build import STAGES, Build, run_stage
from fusion.plan import make_plan
from fusion.recipe_check import check_recipe
from fusion.recipe_files import example_recipes, load_recipe
from portal.management.commands.demo import RECIPE
from tests.fusion.test_real_cases import Silent
from tests.fusion.test_recipe import KNOWN
from tests.workers.conftest import sample_data  # noqa: F401 - fixture


def test_the_demo_learns_from_each_head_and_is_tested_on_the_other(
    sample_data: Path,  # noqa: F811
    tmp_path: Path,
):
    plan = make_plan(check_recipe(load_recipe(example_recipes()[RECIPE]), KNOWN))
    build = Build(plan, sample_data, tmp_path / "work", tmp_path / "bundle")
    for stage in STAGES[: STAGES.index("report")]:
        run_stage(stage, build, Silent())

    paths = sorted((build.workdir / "final" / "cases").glob("*/case.json"))
    colin27, mni152 = (json.loads(path.read_text("utf-8")) for path in paths)
    assert (colin27["source"], mni152["source"]) == ("colin27", "mni152")
    assert colin27["split"] == {"fold0": "test", "fold1": "train"}
    assert mni152["split"] == {"fold0": "train", "fold1": "test"}
    assert min(case["present"]["hippocampus"] for case in (colin27, mni152)) > 1000
    assert plan.baseline["tier"] == "smoke"
