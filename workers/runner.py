"""Work on a run: claim it, run the stage that is next, record what came of it."""

from __future__ import annotations

import logging
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import transaction

from fusion.errors import BuildError, CancelledError, RecipeError
from fusion.recipe import check_recipe
from workers.identity import new_token
from workers.lease import Heartbeat, Lease, LeaseLostError, PausedError
from workers.logs import bind
from workers.models import Run
from workers.progress import DatabaseProgress
from workers.publish import publish
from workers.room import asked_bytes, check_disks
from workers.submit import enqueue, free_runs_of_dead_workers

if TYPE_CHECKING:
    from fusion.build import Build

logger = logging.getLogger(__name__)
TOO_MANY_REQUESTS, SERVER_FAULT = 429, 500
#: Faults that may pass, by class name: their libraries are not imported for this.
PASSING = frozenset(
    {
        "ConnectionError",  # the builtin one, requests, elasticsearch
        "TimeoutError",
        "TransportError",  # httpx
        "HTTPClientError",  # botocore
        "OutOfMemoryError",  # a GPU that others fill
        "OperationalError",  # the database
    }
)
#: And by code: a disk that others fill, or that somebody makes room on.
PASSING_CODES = frozenset({"disk_full"})


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
    if run.cancel_requested:
        raise CancelledError
    if run.attempts > settings.RUN_MAX_ATTEMPTS:
        _fail(run, lease, "too_many_attempts", _gave_up(run))
        return
    try:
        with Heartbeat(lease) as heartbeat:
            _advance(run, lease, heartbeat)
    except (LeaseLostError, CancelledError):
        raise
    except RecipeError as error:
        _fail(run, lease, "recipe_invalid", str(error))
    except BuildError as error:
        if may_pass(error):
            _retry(run, lease, error)
        else:
            _fail(run, lease, error.code, str(error))
    except Exception as error:
        if may_pass(error):
            _retry(run, lease, error)
        else:
            logger.exception("run %s: stage %s", run.pk, run.stage)
            _fail(run, lease, "internal_error", f"{type(error).__name__}: {error}")


def _advance(run: Run, lease: Lease, heartbeat: Heartbeat) -> None:
    """Run the stage (and, on a machine without their results, the ones before it)."""
    from fusion.build import STAGES, run_stage

    build = _build_of(run)
    progress = DatabaseProgress(heartbeat)
    if run.stage == STAGES[0]:
        check_disks(*asked_bytes(run.recipe["sources"]))
    started = time.monotonic()
    for name in STAGES[: STAGES.index(run.stage) + 1]:
        mark = run.folder / f"{name}.done"
        if not mark.exists():
            progress.begin(name)
            run_stage(name, build, progress)
            if name == "acquire":
                files = (one["files"] for one in build.load("lock.json")["sources"].values())
                lease.write(bytes_in=sum(row["bytes"] for rows in files for row in rows))
            if name == "report":
                found = build.load("report.json")
                quality = {**found["overview"], "findings": found["findings"]}
                lease.write(quality=quality)
            progress.end()
            mark.touch()
    with transaction.atomic():
        following = lease.stage_done(run.stage, time.monotonic() - started)
        if following is not None:
            transaction.on_commit(lambda: enqueue(run.pk, following.name), robust=True)
    if following is None:
        heartbeat.check()
        lease.succeed(publish(build.out, build.locked_plan(), run.recipe))
        remove_folder(run)


def _build_of(run: Run) -> Build:
    from fusion.build import Build
    from fusion.plan import make_plan

    known = {source["dataset"] for source in run.recipe["sources"]}  # checked when submitted
    work = run.folder / "work"
    work.mkdir(parents=True, exist_ok=True)
    return Build(
        plan=make_plan(check_recipe(run.recipe, known)),
        data_root=Path(settings.DATA_ROOT),
        workdir=work,
        out=run.folder / "bundle",
        cache=Path(settings.STATE_DIR) / "cache",
        device=settings.DEVICE,
        threads=settings.THREADS,
        children=settings.HARMONISE_WORKERS,
    )


def remove_folder(run: Run) -> None:
    """Nothing half-written stays behind an ended run."""
    shutil.rmtree(run.folder, ignore_errors=True)


def may_pass(error: BaseException) -> bool:
    """A full disk or GPU, a lost connection or a busy server, here or as the cause."""
    causes = list(_causes(error))
    if any(getattr(one, "code", None) in PASSING_CODES for one in causes):
        return True
    names = {kind.__name__ for one in causes for kind in type(one).__mro__}
    return not PASSING.isdisjoint(names) or any(_is_busy(one) for one in causes)


def _is_busy(error: BaseException) -> bool:
    """An HTTP answer that asks to come again."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return isinstance(status, int) and (status == TOO_MANY_REQUESTS or status >= SERVER_FAULT)


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__


def _retry(run: Run, lease: Lease, error: Exception) -> None:
    code = getattr(error, "code", "")
    lease.retry_later(
        code if isinstance(code, str) and code else "may_pass",
        f"{type(error).__name__}: {error}",
        run.attempts,
    )
    logger.warning("run %s: stage %s is tried again later: %s", run.pk, run.stage, error)


def _fail(run: Run, lease: Lease, code: str, message: str) -> None:
    lease.fail(code, message)
    logger.error("run %s: failed in stage %s: %s: %s", run.pk, run.stage, code, message)


def _gave_up(run: Run) -> str:
    last = f" Last fault: {run.error}" if run.error else " Its workers were killed."
    limit = settings.RUN_MAX_ATTEMPTS
    return f"stage {run.stage}: {limit} attempts without progress.{last}"
