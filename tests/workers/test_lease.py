"""Claims, heartbeats and progress, on real rows."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils.timezone import now

from fusion.errors import CancelledError
from workers.lease import Heartbeat, Lease, LeaseLostError
from workers.models import Run, RunCase, RunStage
from workers.progress import DatabaseProgress

MakeRun = Callable[..., Run]
pytestmark = pytest.mark.django_db


def claimed(run: Run, worker: str = "w1") -> Lease:
    assert Run.objects.claim(run.pk, worker) is not None
    return Lease(run.pk, worker)


def progress_of(run: Run, worker: str = "w1") -> DatabaseProgress:
    lease = claimed(run, worker)
    progress = DatabaseProgress(lease, Heartbeat(lease))
    progress.begin("harmonise")
    return progress


def expire(run: Run) -> None:
    Run.objects.filter(pk=run.pk).update(lease_until=now() - timedelta(seconds=1))


def stage_of(run: Run) -> RunStage:
    return RunStage.objects.get(run=run, name="harmonise")


def test_of_two_claims_one_wins(make_run: MakeRun):
    run = make_run()

    assert Run.objects.claim(run.pk, "w1").attempts == 1
    assert Run.objects.claim(run.pk, "w2") is None


def test_an_abandoned_run_is_claimed_again(make_run: MakeRun):
    run = make_run()
    claimed(run)
    expire(run)

    assert Run.objects.claim(run.pk, "w2").attempts == 2


@pytest.mark.alone
def test_a_worker_that_cannot_prove_to_be_alive_stops_before_another_goes_on(
    make_run: MakeRun, settings: Any
):
    settings.RUN_LEASE_SECONDS = 0.2
    heartbeat = Heartbeat(claimed(make_run()))
    heartbeat.check()
    time.sleep(0.3)

    with pytest.raises(LeaseLostError, match="without a heartbeat"):
        heartbeat.check()


@pytest.mark.parametrize("state", ["succeeded", "failed", "cancelled"])
def test_an_ended_run_is_not_claimed(make_run: MakeRun, state: str):
    assert Run.objects.claim(make_run(state=state).pk, "w1") is None


def test_a_run_that_waits_for_a_fault_to_pass_is_not_claimed_before(make_run: MakeRun):
    run = make_run()
    claimed(run).retry_later("may_pass", "no connection", attempts=1)

    assert Run.objects.claim(run.pk, "w2") is None
    Run.objects.update(retry_at=now())
    assert Run.objects.claim(run.pk, "w2").attempts == 2


def test_a_worker_that_lost_its_run_writes_nothing_more(make_run: MakeRun):
    run = make_run()
    progress = progress_of(run)
    expire(run)
    claimed(run, "w2")

    def report() -> None:
        progress.case("s", "late", "used", stage="harmonise")
        progress.flush()

    for write in (
        report,
        progress.flush,
        progress.lease.extend,
        lambda: progress.lease.stage_done("harmonise", 1.0),
        lambda: progress.lease.fail("internal_error", "too late"),
        lambda: progress.lease.retry_later("may_pass", "too late", 1),
    ):
        with pytest.raises(LeaseLostError, match="w1"):
            write()

    run.refresh_from_db()
    assert (run.worker, run.state, run.error) == ("w2", "running", "")
    assert not RunCase.objects.exists()
    assert stage_of(run).state == "running"


def test_a_done_stage_frees_the_run_for_the_next(make_run: MakeRun):
    run = make_run(stage="acquire")
    following = claimed(run).stage_done("acquire", 1.25)

    run.refresh_from_db()
    assert following.name == run.stage == "ingest"
    assert (run.attempts, run.worker, run.lease_until) == (0, "", None)
    assert run.stages.get(name="acquire").seconds == 1.25
    assert Run.objects.claim(run.pk, "w2") is not None


def test_cases_are_upserted_and_progress_never_falls(make_run: MakeRun):
    run = make_run()
    progress = progress_of(run)
    progress.stage("harmonise", 3)
    for name in ("a", "b", "c"):
        progress.case("s", name, "pending", stage="ingest")
    progress.case("s", "b", "excluded", stage="harmonise", code="degenerate", detail="all 0")
    progress.advance(2)
    progress.advance(1)
    progress.flush()
    progress.case("s", "a", "used", stage="harmonise")
    progress.flush()

    rows = list(RunCase.objects.values_list("name", "state", "code"))
    assert rows == [("a", "used", ""), ("b", "excluded", "degenerate"), ("c", "pending", "")]
    assert (stage_of(run).done, stage_of(run).total) == (2, 3)


def test_ten_thousand_cases_take_few_queries(make_run: MakeRun):
    progress = progress_of(make_run())
    with CaptureQueriesContext(connection) as queries:
        for number in range(10_000):
            progress.case("s", f"c{number:05d}", "used", stage="harmonise")
            progress.advance(number)
        progress.flush()

    assert RunCase.objects.count() == 10_000
    assert len(queries) < 300


def test_work_beyond_all_earlier_attempts_starts_their_count_anew(make_run: MakeRun):
    run = make_run()
    for attempt, done in ((1, 5), (2, 5), (3, 6)):
        progress = progress_of(run, f"w{attempt}")
        progress.stage("harmonise", 10)
        progress.advance(done)
        progress.flush()
        run.refresh_from_db()
        seen = run.attempts
        expire(run)

    assert seen == 1
    assert stage_of(run).done == 6


@pytest.mark.alone
@pytest.mark.django_db(transaction=True)
def test_a_silent_stage_keeps_its_run_by_the_heartbeat(make_run: MakeRun, settings: Any):
    settings.RUN_LEASE_SECONDS = 2
    run = make_run()
    with Heartbeat(claimed(run)) as heartbeat:
        time.sleep(3.5)  # longer than the lease
        heartbeat.check()
        assert Run.objects.claim(run.pk, "w2") is None
    time.sleep(2.5)
    assert Run.objects.claim(run.pk, "w2") is not None


@pytest.mark.alone
@pytest.mark.django_db(transaction=True)
def test_the_heartbeat_hears_of_a_cancellation_and_of_a_takeover(make_run: MakeRun):
    run, other = make_run(), make_run()
    with Heartbeat(claimed(run)) as heartbeat, Heartbeat(claimed(other)) as lost:
        Run.objects.filter(pk=run.pk).update(cancel_requested=True)
        Run.objects.filter(pk=other.pk).update(worker="w2")
        time.sleep(1.6)
        with pytest.raises(CancelledError):
            heartbeat.check()
        with pytest.raises(LeaseLostError):
            lost.check()
