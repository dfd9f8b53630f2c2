"""Real worker processes on the embedded broker: killed, restarted, cancelled."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fusion.recipe_files import example_recipes, load_recipe
from tests.workers.conftest import SOON_FREE, Site, demo_recipe, slow_recipe

pytestmark = pytest.mark.slow
MakeSite = Callable[[str], Site]


CANCEL_IN_TRAINING = """
import time
from workers.submit import *
run = Run.objects.get(pk='{run}')
until = time.monotonic() + 100
while not run.stages.get(name="baseline").done and time.monotonic() < until:
    time.sleep(0.05)
cancel_run(run)
"""


PAUSE_IN_HARMONISE = """
import time
from workers.submit import *
run = Run.objects.get(pk='{run}')
until = time.monotonic() + 100
while run.stages.get(name="harmonise").state != "running" and time.monotonic() < until:
    time.sleep(0.02)
pause_run(run)
"""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, prepared: Path, sample_data: Path) -> str:
    """SHA256SUMS of a run that nobody disturbed."""
    state = tmp_path_factory.mktemp("undisturbed") / "state"
    shutil.copytree(prepared, state)
    site = Site(state, sample_data)
    run = site.submit(demo_recipe())
    site.start_worker()
    try:
        assert site.wait_for_end(run) == "succeeded", site.logs()
    finally:
        site.close()
    return site.sums()


def test_a_worker_killed_again_and_again_still_ends_with_the_same_bundle(
    make_site: MakeSite, undisturbed: str
):
    site = make_site("killed")
    site.extra = SOON_FREE
    run = site.submit(demo_recipe())
    for stage in ("harmonise", "package"):
        worker = site.start_worker()
        site.wait(lambda stage=stage: site.stage_state(run, stage)[0] != "waiting")
        site.kill(worker)
        assert site.state_of(run) == "running"

    site.start_worker()

    assert site.wait_for_end(run) == "succeeded", site.logs()
    assert site.sums() == undisturbed
    site.wait(lambda: not list((site.state / "work").iterdir()), 15)


def test_a_killed_pool_process_is_replaced_without_a_restart(make_site: MakeSite, undisturbed: str):
    site = make_site("pool")
    site.extra = SOON_FREE
    run = site.submit(demo_recipe())
    worker = site.start_worker()
    held = "FROM workers_runchunk WHERE run_id = ? AND lease_until IS NOT NULL"
    site.wait(lambda: site.one(f"SELECT COUNT(*) {held}", run)[0] > 0)

    (holder,) = site.one(f"SELECT worker {held}", run)
    child = int(holder.split("/")[2])
    assert child != worker.pid
    os.kill(child, signal.SIGKILL)

    assert site.wait_for_end(run) == "succeeded", site.logs()
    assert worker.poll() is None
    assert site.sums() == undisturbed


def test_two_workers_and_doubled_messages_do_the_work_once(make_site: MakeSite, undisturbed: str):
    site = make_site("twice")
    run = site.submit(demo_recipe())
    (message,) = (site.state / "queue").glob("*.io.msg")
    for copy in range(3):
        message.with_name(f"{copy}{message.name}").write_bytes(message.read_bytes())
    site.start_worker()
    site.start_worker()

    assert site.wait_for_end(run) == "succeeded", site.logs()
    assert site.sums() == undisturbed
    (attempts,) = site.one("SELECT MAX(attempts) FROM workers_run")
    assert attempts == 0
    assert site.logs().count("is not to be done here and now") >= 3


def test_two_workers_share_the_cases_of_one_run(make_site: MakeSite, tmp_path: Path):
    recipe = slow_recipe(tmp_path)
    alone, both = make_site("alone"), make_site("both")
    for site in (alone, both):
        site.data = tmp_path
    alone.manage("fuse", str(_written(recipe, tmp_path)), "--out", str(tmp_path / "bundle"))
    both.extra = {"IMAGINGX_CHUNK_CASES": "1"}
    both.start_worker()
    both.start_worker()
    both.wait(lambda: both.logs().count("ready") >= 2, 120)

    run = both.submit(recipe)

    assert both.wait_for_end(run) == "succeeded", both.logs()
    assert both.sums() == (tmp_path / "bundle" / "SHA256SUMS").read_text()
    query = "SELECT group_concat(worker) FROM workers_runchunk WHERE state = 'done'"
    workers = both.one(query)[0].split(",")
    assert len(workers) == 8
    assert len({worker.split("/")[2] for worker in workers}) == 2
    assert both.stage_state(run, "harmonise") == ("done", 8)


def _written(recipe: dict[str, Any], folder: Path) -> Path:
    path = folder / "recipe.json"
    path.write_text(json.dumps(recipe))
    return path


def test_a_run_paused_in_harmonise_rests_and_ends_with_the_same_bundle(
    make_site: MakeSite, undisturbed: str
):
    site = make_site("paused")
    run = site.submit(demo_recipe())
    site.start_worker()
    site.manage("shell", "-v0", "-c", PAUSE_IN_HARMONISE.format(run=run))

    assert site.wait(lambda: site.state_of(run) == "paused", 20) < 8
    assert site.stage_state(run, "harmonise")[0] == "waiting", site.logs()
    assert (site.state / "work" / _dashed(run) / "work" / "lock.json").is_file()
    time.sleep(2)
    assert site.state_of(run) == "paused"

    site.manage("steer_run", "resume", run)
    assert site.wait_for_end(run) == "succeeded", site.logs()
    assert site.sums() == undisturbed


def test_a_failed_run_goes_on_where_it_stopped_when_its_fault_is_mended(
    make_site: MakeSite, undisturbed: str
):
    site = make_site("retried")
    data = site.data
    site.data = site.state / "no data yet"
    run = site.submit(demo_recipe())
    worker = site.start_worker()
    assert site.wait_for_end(run) == "failed"
    site.kill(worker)
    site.data = data

    site.manage("steer_run", "retry", run)
    site.start_worker()

    assert site.wait_for_end(run) == "succeeded", site.logs()
    assert site.sums() == undisturbed


@pytest.mark.alone
def test_a_cancelled_training_ends_within_seconds(make_site: MakeSite):
    site = make_site("cancelled")
    recipe = load_recipe(example_recipes()["hippocampus-sample"])
    run = site.submit({**recipe, "baseline": {"tier": "small"}})  # trains for minutes
    site.start_worker()
    site.manage("shell", "-v0", "-c", CANCEL_IN_TRAINING.format(run=run))

    assert site.wait(lambda: site.state_of(run) == "cancelled", 20) < 8
    site.wait(lambda: not (site.state / "work" / _dashed(run)).exists(), 15)
    assert not (site.state / "bundles").exists()


def test_a_missing_source_fails_the_run_with_its_reason(make_site: MakeSite):
    site = make_site("missing")
    recipe = demo_recipe()
    recipe["sources"][0]["location"]["path"] = "sample/nowhere"
    run = site.submit(recipe)
    site.start_worker()

    assert site.wait_for_end(run) == "failed"
    code, error = site.one("SELECT error_code, error FROM workers_run WHERE id = ?", run)
    assert code == "source_failed"
    assert "nowhere" in error


@pytest.mark.alone
def test_a_terminated_idle_worker_ends_by_itself(make_site: MakeSite):
    site = make_site("idle")
    worker = site.start_worker()
    site.wait(lambda: "ready" in site.logs(), 60)

    worker.send_signal(signal.SIGTERM)

    try:
        assert worker.wait(timeout=20) == 0
    except subprocess.TimeoutExpired:
        pytest.fail(site.logs())


def _dashed(run: str) -> str:
    return "-".join((run[:8], run[8:12], run[12:16], run[16:20], run[20:]))
