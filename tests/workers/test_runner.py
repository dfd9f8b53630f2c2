"""work_on: what becomes of a run, whatever its stage does. Real recipes, real stages."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils.timezone import now

from fusion.codes import FINDINGS
from fusion.errors import BuildError
from fusion.recipe_files import example_recipes, load_recipe
from tests.fusion.test_real_cases import made_source
from tests.workers.conftest import bring, demo_recipe
from workers.models import Run
from workers.runner import may_pass, work_on
from workers.tidy import sweep_work_folders

MakeRun = Callable[..., Run]
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def folders(settings: Any, tmp_path: Path) -> Path:
    settings.WORK_DIR = tmp_path / "work"
    settings.STATE_DIR = tmp_path
    settings.DATA_ROOT = tmp_path / "data"
    return tmp_path


def test_a_message_for_a_run_that_is_not_there_does_nothing(make_run: MakeRun):
    run = make_run()
    pk = run.pk
    run.delete()

    work_on(pk, "acquire")


def test_a_message_for_another_stage_does_nothing(make_run: MakeRun):
    run = make_run(stage="package")

    work_on(run.pk, "acquire")

    run.refresh_from_db()
    assert (run.state, run.attempts) == ("queued", 0)


def test_a_source_that_is_not_there_fails_the_run_and_can_be_retried(
    make_run: MakeRun, settings: Any
):
    run = make_run()

    work_on(run.pk, "acquire")

    run.refresh_from_db()
    assert (run.state, run.error_code) == ("failed", "source_failed")
    assert "icbm152" in run.error
    assert run.stages.get(name="acquire").state == "failed"
    assert run.folder.exists()
    assert sweep_work_folders() == 0
    settings.KEEP_FAILED_HOURS = 0
    assert sweep_work_folders() == 1
    assert not run.folder.exists()


def test_what_the_report_stage_measured_stays_with_the_run(make_run: MakeRun, folders: Path):
    recipe = load_recipe(example_recipes()["retinal-vessels"]) | {"baseline": {"tier": "none"}}
    recipe |= made_source(folders / "data", (24, 31))
    run = make_run(recipe=recipe)

    bring(run, "package")

    run.refresh_from_db()
    assert run.stage == "package", run.error
    assert run.quality["sources"][0]["size_after"] == [24, 31]
    assert run.quality["fit"] is None  # one source
    codes = {finding["code"] for finding in run.quality["findings"]}
    assert codes <= set(FINDINGS)


def test_a_recipe_that_is_no_longer_valid_fails_with_its_problem(make_run: MakeRun):
    run = make_run(recipe={**demo_recipe(), "task": "regression"})

    work_on(run.pk, "acquire")

    run.refresh_from_db()
    assert run.error_code == "recipe_invalid"
    assert "regression" in run.error


def test_a_run_without_progress_gives_up_with_a_reason(make_run: MakeRun, settings: Any):
    run = make_run(attempts=settings.RUN_MAX_ATTEMPTS, stage="harmonise")

    work_on(run.pk, "harmonise")

    run.refresh_from_db()
    assert (run.state, run.error_code) == ("failed", "too_many_attempts")
    assert "harmonise" in run.error


def test_a_run_cancelled_before_its_turn_is_cancelled(make_run: MakeRun):
    run = make_run(cancel_requested=True)
    run.folder.mkdir(parents=True)

    work_on(run.pk, "acquire")

    run.refresh_from_db()
    assert run.state == "cancelled"
    assert not run.folder.exists()


def test_a_run_that_someone_else_holds_is_left_alone(make_run: MakeRun):
    run = make_run()
    Run.objects.filter(pk=run.pk).update(
        state="running", worker="elsewhere/1/1/1/x", lease_until=now() + timedelta(seconds=30)
    )

    work_on(run.pk, "acquire")

    run.refresh_from_db()
    assert (run.state, run.worker) == ("running", "elsewhere/1/1/1/x")


def test_lost_connections_and_full_disks_may_pass_and_bad_data_may_not():
    wrapped = BuildError("source_failed", "not fetched")
    wrapped.__cause__ = TimeoutError("no answer")

    assert may_pass(ConnectionResetError("gone"))
    assert may_pass(wrapped)
    assert may_pass(BuildError("disk_full", "stage harmonise: no space left"))
    assert not may_pass(BuildError("source_failed", "no file"))
    assert not may_pass(ValueError("bad"))


def test_a_full_gpu_is_known_by_the_class_that_torch_raises():
    torch = pytest.importorskip("torch")

    assert may_pass(torch.cuda.OutOfMemoryError("full"))


def test_only_scratch_of_ended_runs_is_swept(make_run: MakeRun, folders: Path):
    ended, going = make_run(state="failed"), make_run()
    for folder in (ended.folder, going.folder, folders / "work" / "notes"):
        folder.mkdir(parents=True)

    assert sweep_work_folders() == 1
    assert not ended.folder.exists()
    assert going.folder.exists()
    assert (folders / "work" / "notes").exists()
