"""Work on a run: claim it, run the stage that is next, record what came of it."""

from __future__ import annotations

import logging
import time
import uuid

from django.conf import settings
from django.db import transaction
from django.db.models import Max, Min

from fusion.errors import BuildError, CancelledError
from workers.chunks import CHUNKED, make_chunks
from workers.faults import attempt, may_pass
from workers.identity import new_token
from workers.lease import Heartbeat, Lease, LeaseLostError, PausedError
from workers.logs import bind
from workers.models import Run
from workers.progress import DatabaseProgress
from workers.publish import publish
from workers.room import asked_bytes, check_disks
from workers.stages import (
    build_of,
    close_stage,
    come_up_to,
    gather,
    is_done_here,
    remove_folder,
)
from workers.submit import enqueue, free_runs_of_dead_workers
from workers.terms import TermsError, check_terms

__all__ = ["may_pass", "work_on"]
logger = logging.getLogger(__name__)


def work_on(run_id: uuid.UUID, stage: str) -> None:
    """Run `stage` of a run if it is what comes next and nobody else works on it.

    Whatever happens is written to the row; only a database that is away raises, and then the
    lease runs out and the run is found again.
    """
    free_runs_of_dead_workers(run_id)
    lease = Lease(run_id, new_token())
    run = Run.objects.filter(stage=stage).claim(run_id, lease.worker)
    if run is None:
        logger.info("run %s: %s is not to be done here and now", run_id, stage)
        return
    bind(worker=lease.worker, attempt=run.attempts)
    try:
        _attempt(run, lease)
    except LeaseLostError as lost:
        logger.warning("%s", lost)
    except PausedError:
        lease.paused()
        logger.info("run %s: paused in stage %s", run_id, stage)
    except CancelledError:
        lease.cancelled()
        logger.info("run %s: cancelled in stage %s", run_id, stage)
        remove_folder(run)


def _attempt(run: Run, lease: Lease) -> None:
    def fail(code: str, message: str) -> None:
        lease.fail(code, message)
        logger.error("run %s: failed in stage %s: %s: %s", run.pk, run.stage, code, message)

    def retry(code: str, message: str) -> None:
        lease.retry_later(code, message, run.attempts)
        logger.warning("run %s: stage %s is tried again later: %s", run.pk, run.stage, message)

    def work() -> None:
        with Heartbeat(lease) as heartbeat:
            _advance(run, lease, heartbeat)

    if run.cancel_requested:
        raise CancelledError
    if run.attempts > settings.RUN_MAX_ATTEMPTS:
        fail("too_many_attempts", _gave_up(run))
        return
    attempt(work, fail, retry)


def _advance(run: Run, lease: Lease, heartbeat: Heartbeat) -> None:
    """Run the stage, on what this host has or gets of the ones before it."""
    from fusion.build import STAGES, run_stage
    from fusion.pool import end_waiting_children

    end_waiting_children()  # those of chunks; other stages need the memory
    if run.stage == STAGES[0]:
        check_disks(*asked_bytes(run.recipe["sources"]))
        _check_terms(run)
    started = time.monotonic()
    build, progress = build_of(run), DatabaseProgress(lease, heartbeat)
    come_up_to(run, build, run.stage, heartbeat.check)
    if not is_done_here(run, run.stage):
        progress.begin(run.stage)
        if run.stage not in CHUNKED:
            run_stage(run.stage, build, progress)
        elif make_chunks(run, lease, build, progress):
            return
        else:
            gather(run, build, progress)
        if run.stage == "acquire":
            files = (one["files"] for one in build.load("lock.json")["sources"].values())
            lease.write(bytes_in=sum(row["bytes"] for rows in files for row in rows))
        if run.stage == "report":
            found = build.load("report.json")
            lease.write(quality={**found["overview"], "findings": found["findings"]})
        progress.end()
        close_stage(run, build, run.stage)
    with transaction.atomic():
        following = lease.stage_done(run.stage, _seconds(run, started))
        if following is not None:
            transaction.on_commit(lambda: enqueue(run.pk, following.name), robust=True)
    if following is None:
        heartbeat.check()
        lease.succeed(publish(build.out, build.locked_plan(), run.recipe, public=run.public))
        remove_folder(run)


def _check_terms(run: Run) -> None:
    """Once more where files are fetched: a run may have been made by other ways than `submit`.

    Raises:
        BuildError: terms_open.
    """
    try:
        check_terms(run.recipe["sources"], run.owner)
    except TermsError as error:
        raise BuildError("terms_open", str(error)) from error


def _seconds(run: Run, started: float) -> float:
    """How long the stage took: its chunks from first to last, and what this process did."""
    chunks = run.chunks.filter(stage=run.stage)
    ends = chunks.aggregate(first=Min("started_at"), last=Max("finished_at"))
    here = time.monotonic() - started
    return here + (ends["last"] - ends["first"]).total_seconds() if ends["last"] else here


def _gave_up(run: Run) -> str:
    last = f" Last fault: {run.error}" if run.error else " Its workers were killed."
    limit = settings.RUN_MAX_ATTEMPTS
    return f"stage {run.stage}: {limit} attempts without progress.{last}"
