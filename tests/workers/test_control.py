"""Pausing, retrying, priorities, places and room, on real rows and a real queue."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.utils.timezone import now

from fusion.errors import BuildError
from fusion.models import Bundle
from tests.workers.conftest import demo_recipe
from workers import room
from workers.identity import new_token
from workers.lease import Heartbeat, Lease
from workers.models import Run, RunChunk
from workers.submit import (
    RunConflictError,
    cancel_run,
    pause_run,
    requeue_lost_runs,
    resume_run,
    retry_run,
    set_priority,
    submit_run,
)

MakeRun = Callable[..., Run]
pytestmark = pytest.mark.django_db


def claimed(run: Run) -> Lease:
    lease = Lease(run.pk, new_token())
    assert Run.objects.claim(run.pk, lease.worker)
    return lease


def test_a_waiting_run_is_paused_at_once_and_nobody_takes_it(make_run: MakeRun, messages: Any):
    run = pause_run(make_run())

    assert run.state == "paused"
    assert Run.objects.claim(run.pk, "w") is None
    assert requeue_lost_runs(0) == 0
    assert messages() == []


def test_a_worker_that_pauses_keeps_the_place_of_the_run(make_run: MakeRun):
    run = make_run(stage="harmonise")
    lease = claimed(run)
    run.stages.filter(name="harmonise").update(state="running", done=3, total=9)

    run = pause_run(run)
    assert (run.state, run.pause_requested) == ("running", True)
    lease.paused()

    run.refresh_from_db()
    assert (run.state, run.stage, run.worker, run.attempts) == ("paused", "harmonise", "", 0)
    stage = run.stages.get(name="harmonise")
    assert (stage.state, stage.done) == ("waiting", 3)


def test_a_resumed_run_is_sent_and_claimed_again(
    make_run: MakeRun, messages: Any, django_capture_on_commit_callbacks: Any
):
    run = pause_run(make_run(stage="split"))
    with django_capture_on_commit_callbacks(execute=True):
        resume_run(run)

    assert (run.state, run.pause_requested) == ("queued", False)
    assert messages() == [("cpu", [str(run.pk), "split"])]
    assert Run.objects.claim(run.pk, "w") is not None


def test_a_run_resumed_before_its_worker_let_go_is_not_left_lying(make_run: MakeRun):
    run = make_run()
    lease = claimed(run)
    resume_run(pause_run(run))
    lease.paused()

    run.refresh_from_db()
    assert (run.state, run.lease_until) == ("running", None)
    assert Run.objects.claim(run.pk, "w") is not None


def test_a_paused_run_can_be_cancelled_and_an_ended_one_not_paused(make_run: MakeRun):
    run = cancel_run(pause_run(make_run()))
    assert run.state == "cancelled"

    for act in (pause_run, resume_run, retry_run):
        with pytest.raises(RunConflictError, match="cancelled"):
            act(run)


def test_a_paused_run_whose_worker_died_rests(make_run: MakeRun):
    run = make_run()
    claimed(run)
    pause_run(run)
    Run.objects.update(lease_until=now() - timedelta(seconds=1))

    requeue_lost_runs()

    run.refresh_from_db()
    assert run.state == "paused"


def test_a_failed_run_is_retried_from_its_stage(
    make_run: MakeRun, messages: Any, django_capture_on_commit_callbacks: Any
):
    run = make_run(stage="package", state="running")
    claimed(run).fail("disk_full", "no room left")
    run.stages.filter(name="package").update(state="failed")
    run.refresh_from_db()

    with django_capture_on_commit_callbacks(execute=True):
        retry_run(run)

    assert (run.state, run.stage, run.error, run.error_code) == ("queued", "package", "", "")
    assert (run.retries, run.attempts, run.finished_at) == (1, 0, None)
    assert run.stages.get(name="package").state == "waiting"
    assert messages() == [("io", [str(run.pk), "package"])]


@pytest.mark.usefixtures("datasets")
def test_a_failed_run_whose_recipe_runs_again_elsewhere_is_not_retried():
    first = submit_run(demo_recipe())
    Run.objects.update(state="failed")
    second = submit_run(demo_recipe())

    first.refresh_from_db()
    with pytest.raises(RunConflictError, match=str(second.pk)):
        retry_run(first)


def test_messages_come_in_the_order_of_their_priority(make_run: MakeRun, messages: Any):
    low, normal, high = (
        make_run(title=name, priority=Run.Priority[name]) for name in ("LOW", "NORMAL", "HIGH")
    )
    assert requeue_lost_runs(0) == 3
    assert [args[0] for _, args in messages()] == [str(r.pk) for r in (high, normal, low)]

    set_priority(low, Run.Priority.HIGH)

    order = [args[0] for _, args in messages()]
    assert order.index(str(low.pk)) < order.index(str(normal.pk))


def test_more_runs_than_allowed_at_once_wait_and_say_so(
    make_run: MakeRun, settings: Any, messages: Any, django_capture_on_commit_callbacks: Any
):
    from portal.progress import waits_for

    settings.RUNS_AT_ONCE = 1
    first, second = make_run(), make_run(enqueued_at=now())
    lease = claimed(first)

    assert Run.objects.claim(second.pk, "w") is None
    second.refresh_from_db()
    assert waits_for(second) == "a place: 1 runs are under way, 1 may be at once"
    assert requeue_lost_runs(0) == 0

    with django_capture_on_commit_callbacks(execute=True):
        lease.fail("source_failed", "none")
    assert messages() == [("io", [str(second.pk), second.stage])]
    assert Run.objects.claim(second.pk, "w") is not None


def test_between_two_stages_a_run_keeps_its_place(make_run: MakeRun, settings: Any):
    settings.RUNS_AT_ONCE = 1
    first, second = make_run(stage="acquire"), make_run()
    claimed(first).stage_done("acquire", 1.0)

    assert Run.objects.claim(second.pk, "w") is None
    assert Run.objects.claim(first.pk, "w") is not None


def test_places_are_counted_for_each_user_and_visitors_are_one(make_run: MakeRun, settings: Any):
    settings.RUNS_AT_ONCE_PER_USER = 1
    ada, bob = (User.objects.create(username=name) for name in ("ada", "bob"))
    claimed(make_run(owner=ada))
    claimed(make_run())

    assert Run.objects.claim(make_run(owner=ada).pk, "w") is None
    assert Run.objects.claim(make_run().pk, "w") is None
    assert Run.objects.claim(make_run(owner=bob).pk, "w") is not None


@pytest.fixture
def small_source(settings: Any, tmp_path: Path) -> dict[str, Any]:
    """A local source of the sample recipe with two pairs of 1 MB, and a stranger's file."""
    settings.DATA_ROOT = tmp_path
    source = demo_recipe()["sources"][0]
    cases = source["description"]["cases"]
    folder = tmp_path / source["location"]["path"]
    for template in (cases["image"], *(la["path"] for la in source["description"]["layers"])):
        file = folder / template
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(bytes(10**6))
    (folder / "stranger.bin").write_bytes(bytes(9 * 10**6))
    return source


def test_only_files_that_belong_to_cases_count(small_source: dict[str, Any]):
    bundle, fetched = room.asked_bytes([small_source])

    number = 1 + len({la["path"] for la in small_source["description"]["layers"]})
    assert bundle == number * 10**6 * room.GROWTH["packed"]
    assert fetched == 0


@pytest.mark.usefixtures("datasets", "small_source")
def test_a_run_without_room_on_the_disk_is_refused_with_the_figures(settings: Any):
    settings.DISK_RESERVE_BYTES = 10**18

    with pytest.raises(BuildError, match=r"found .* free .* needed about .* 1000000000.0 GB") as no:
        submit_run(demo_recipe())

    assert no.value.code == "disk_full"
    assert not Run.objects.exists()


@pytest.mark.usefixtures("datasets", "small_source")
def test_a_user_over_the_storage_quota_is_refused_with_the_figures(settings: Any):
    settings.BUNDLE_BYTES_PER_USER = 21 * 10**6
    ada = User.objects.create(username="ada")
    made = {"title": "t", "build": "private", "recipe": {}, "summary": {}, "files": []}
    bundle = Bundle.objects.create(bundle_id="b", size_bytes=20 * 10**6, **made)
    Run.objects.create(title="r", recipe={}, state="succeeded", owner=ada, bundle=bundle)

    said = r"user ada: 20.0 MB used, 0 bytes on .* 21.0 MB allowed; bundles are removed on the page"
    with pytest.raises(BuildError, match=said):
        submit_run(demo_recipe(), owner=ada)
    assert submit_run(demo_recipe()).bytes_asked > 10**6

    Run.objects.filter(bundle=bundle).update(given_up_at=now())
    assert submit_run(demo_recipe(seed=3), owner=ada).owner == ada
    settings.BUNDLE_BYTES = 10**6
    with pytest.raises(BuildError, match="on their way"):
        submit_run(demo_recipe(seed=4), owner=ada)


@pytest.mark.django_db
def test_users_see_what_their_bundles_take_and_how_long_they_are_kept(client: Any, settings: Any):
    ada = User.objects.create(username="ada")
    made = {"title": "t", "build": "private", "recipe": {}, "summary": {}, "files": []}
    bundle = Bundle.objects.create(bundle_id="b", size_bytes=20 * 10**6, **made)
    Run.objects.create(title="r", recipe={}, state="succeeded", owner=ada, bundle=bundle)
    Run.objects.create(title="r", recipe={}, state="queued", owner=ada, bytes_asked=3 * 10**6)
    client.force_login(ada)

    free = client.get("/account/").text
    settings.BUNDLE_BYTES_PER_USER, settings.RUNS_AT_ONCE_PER_USER = 21 * 10**6, 2
    settings.KEEP_BUNDLES, settings.KEEP_BUNDLE_DAYS = 3, 90
    bounded = client.get("/account/").text

    assert "Your bundles take 20.0 MB, runs under way about 3.0 MB more." in free
    assert "Bundles are kept until you or an operator remove them" in free
    assert "take 20.0 MB of 21.0 MB, runs" in bounded
    assert "2 of your runs at once" in bounded
    assert "go once 3 newer ones are there of their recipe, or 90 days after they were" in bounded


@pytest.mark.django_db(transaction=True)
def test_the_heartbeat_hears_of_a_pause(make_run: MakeRun):
    import time

    from workers.lease import PausedError

    run = make_run()
    with Heartbeat(claimed(run)) as heartbeat:
        pause_run(run)
        time.sleep(1.6)
        with pytest.raises(PausedError):
            heartbeat.check()


def test_a_lost_hold_is_counted(make_run: MakeRun):
    run = make_run()
    Run.objects.claim(run.pk, "elsewhere/1/1/x")
    Run.objects.update(lease_until=now() - timedelta(seconds=1))
    assert Run.objects.claim(run.pk, "w").lost_leases == 1


def test_the_command_steers_runs(make_run: MakeRun):
    run = make_run()

    call_command("steer_run", "pause", str(run.pk))
    run.refresh_from_db()
    assert run.state == "paused"
    call_command("steer_run", "resume", str(run.pk))
    call_command("steer_run", "priority", str(run.pk), "--to", "high")
    run.refresh_from_db()
    assert (run.state, run.priority) == ("queued", Run.Priority.HIGH)


def test_a_run_paused_among_its_chunks_frees_them_and_lets_them_go_on(
    make_run: MakeRun, django_capture_on_commit_callbacks: Any
):
    run = make_run(state="running", stage="harmonise", chunks_open=2)
    one, two = (
        RunChunk.objects.create(run=run, stage="harmonise", number=n, cases=[], total=3)
        for n in range(2)
    )
    assert RunChunk.objects.claim(one.pk, "w1") is not None

    assert pause_run(run).state == "paused"
    assert not RunChunk.objects.held_by("w1").exists()
    assert RunChunk.objects.claim(two.pk, "w2") is None

    with django_capture_on_commit_callbacks(execute=True):
        resume_run(run)
    run.refresh_from_db()
    assert run.state == "running"
    assert RunChunk.objects.claim(one.pk, "w2") is not None


def test_a_resumed_run_sends_a_message_for_each_chunk_that_is_left(
    make_run: MakeRun, messages: Any, django_capture_on_commit_callbacks: Any
):
    run = make_run(state="running", stage="harmonise", chunks_open=2)
    for number, state in enumerate(("done", "waiting", "waiting")):
        RunChunk.objects.create(
            run=run, stage="harmonise", number=number, cases=[], total=3, state=state
        )
    with django_capture_on_commit_callbacks(execute=True):
        resume_run(pause_run(run))

    assert messages() == [("cpu", [str(run.pk), "harmonise"])] * 2
