"""Submitting, cancelling and finding lost runs again, on real rows."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.core.management import call_command
from django.utils.timezone import now

from fusion.build import STAGES
from fusion.errors import RecipeError
from fusion.models import Bundle
from tests.workers.conftest import demo_recipe
from workers.identity import is_gone, new_token
from workers.models import Run, RunStage
from workers.submit import cancel_run, requeue_lost_runs, submit_run
from workers.watch import look

MakeRun = Callable[..., Run]
pytestmark = pytest.mark.django_db


@pytest.fixture
def published(settings: Any, tmp_path: Path) -> Bundle:
    """A bundle whose files are in the storage."""
    settings.STORAGES = {
        **settings.STORAGES,
        "bundles": {
            "BACKEND": "django.core.files.storage.FileSystemStorage",
            "OPTIONS": {"location": tmp_path / "bundles"},
        },
    }
    storages["bundles"].save("b1/SHA256SUMS", ContentFile(b""))
    return Bundle.objects.create(
        bundle_id="b1", title="t", build="private", recipe={}, summary={}, files=[], size_bytes=0
    )


@pytest.mark.usefixtures("datasets")
def test_a_submitted_run_has_all_stages_and_one_message_after_commit(
    messages: Any, django_capture_on_commit_callbacks: Any
):
    with django_capture_on_commit_callbacks(execute=True):
        run = submit_run(demo_recipe())
        assert messages() == []

    assert [stage.name for stage in run.stages.all()] == list(STAGES)
    assert (run.state, run.stage, run.title) == ("queued", STAGES[0], demo_recipe()["title"])
    assert messages() == [("io", [str(run.pk), STAGES[0]])]


@pytest.mark.usefixtures("datasets")
def test_the_same_recipe_returns_the_same_run_however_it_is_written():
    run = submit_run(demo_recipe())
    shuffled = dict(reversed(list(demo_recipe().items())))

    assert submit_run(shuffled) == run
    assert submit_run(demo_recipe(seed=7)) != run
    assert submit_run(demo_recipe(), fresh=True) == run


@pytest.mark.usefixtures("datasets")
@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_a_run_that_came_to_nothing_makes_room_for_a_new_one(state: str):
    run = submit_run(demo_recipe())
    Run.objects.update(state=state)

    again = submit_run(demo_recipe())

    assert again != run
    assert Run.objects.count() == 2


@pytest.mark.usefixtures("datasets")
def test_a_succeeded_run_is_returned_while_its_bundle_is_there(published: Bundle):
    run = submit_run(demo_recipe())
    Run.objects.update(state="succeeded", bundle=published)

    assert submit_run(demo_recipe()) == run
    assert submit_run(demo_recipe(), fresh=True) != run

    Run.objects.update(state="succeeded", bundle=published)
    storages["bundles"].delete("b1/SHA256SUMS")
    assert submit_run(demo_recipe()).state == "queued"


@pytest.mark.usefixtures("datasets")
def test_a_recipe_with_faults_queues_nothing():
    recipe = demo_recipe()
    recipe["sources"][0]["dataset"] = "icbm152-2009"

    with pytest.raises(RecipeError, match="icbm152-2009a"):
        submit_run(recipe)

    assert not Run.objects.exists()


def test_a_queued_run_is_cancelled_at_once(make_run: MakeRun):
    run = cancel_run(make_run())

    assert run.state == "cancelled"
    assert run.finished_at is not None
    assert Run.objects.claim(run.pk, "w") is None


def test_a_running_run_is_only_asked_to_stop(make_run: MakeRun):
    run = make_run()
    Run.objects.claim(run.pk, new_token())

    run = cancel_run(run)

    assert (run.state, run.cancel_requested) == ("running", True)


def test_an_ended_run_cannot_be_cancelled(make_run: MakeRun):
    run = cancel_run(make_run(state="succeeded"))

    assert (run.state, run.cancel_requested) == ("succeeded", False)


def test_a_run_without_a_message_gets_exactly_one(make_run: MakeRun, messages: Any):
    run = make_run(enqueued_at=now() - timedelta(hours=1))
    make_run(enqueued_at=now(), title="just queued")
    make_run(state="succeeded")

    assert requeue_lost_runs() == 1
    assert requeue_lost_runs() == 0
    assert messages() == [("io", [str(run.pk), STAGES[0]])]


def test_the_baseline_waits_in_the_gpu_queue(make_run: MakeRun, messages: Any):
    run = make_run(stage="baseline", state="running")

    call_command("requeue_lost_runs")

    assert messages() == [("gpu", [str(run.pk), "baseline"])]


def test_a_watch_outlives_a_broker_that_is_away(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    away = Celery(broker="amqp://guest@127.0.0.1:1//", set_as_current=False)
    away.conf.task_publish_retry = False
    make_run(enqueued_at=None)
    with monkeypatch.context() as patched:
        patched.setattr("workers.submit.current_app", away)
        look(0)
    assert "could not look" in caplog.text

    assert requeue_lost_runs(0) == 1


def test_a_run_whose_second_message_was_lost_as_well_is_sent_again(make_run: MakeRun):
    run = make_run(enqueued_at=None)
    assert requeue_lost_runs(0) == 1
    assert Run.objects.claim(run.pk, "elsewhere/1/1/1/x") is not None
    Run.objects.update(lease_until=now() - timedelta(seconds=1))

    assert requeue_lost_runs(0) == 1
    assert requeue_lost_runs(0) == 1


def test_a_run_whose_process_died_here_is_freed_before_its_lease_ends(
    make_run: MakeRun, messages: Any
):
    code = "from workers.identity import new_token; print(new_token())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    dead = done.stdout.strip()
    run, alive = make_run(), make_run()
    Run.objects.claim(run.pk, dead)
    Run.objects.claim(alive.pk, new_token())

    assert requeue_lost_runs() == 1

    assert messages() == [("io", [str(run.pk), STAGES[0]])]
    assert Run.objects.claim(run.pk, "w").attempts == 2


def test_a_run_of_another_machine_is_freed_by_its_lease_alone(make_run: MakeRun, messages: Any):
    run = make_run()
    Run.objects.claim(run.pk, "elsewhere/1/1/1/x")
    assert requeue_lost_runs() == 0

    Run.objects.update(lease_until=now() - timedelta(seconds=1))

    assert requeue_lost_runs() == 1
    assert len(messages()) == 1


def test_a_run_cancelled_while_its_worker_was_dead_ends(make_run: MakeRun):
    run = make_run()
    Run.objects.claim(run.pk, "elsewhere/1/1/1/x")
    cancel_run(run)
    Run.objects.update(lease_until=now() - timedelta(seconds=1))

    requeue_lost_runs()

    run.refresh_from_db()
    assert run.state == "cancelled"


def test_a_token_tells_whether_its_process_lives():
    place, pid, started, nonce = new_token().rsplit("/", 3)

    assert not is_gone(f"{place}/{pid}/{started}/{nonce}")
    assert is_gone(f"{place}/{pid}/{int(started) - 1}/{nonce}")  # the number was given anew
    assert not is_gone(f"other-host/{pid}/{int(started) - 1}/{nonce}")
    assert not is_gone("")
    assert int(pid) == os.getpid()


def test_stage_rows_are_unique_per_position(make_run: MakeRun):
    run = make_run()
    assert RunStage.objects.filter(run=run).count() == len(STAGES)
