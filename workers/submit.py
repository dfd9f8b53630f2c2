"""The only door to the queue: what asks for work, and what finds lost work again."""

from __future__ import annotations

import hashlib
import json
import logging
import uuid
from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from typing import Any

from celery import current_app
from django.conf import settings
from django.db import transaction
from django.db.models import F, Q

from workers.broker import message_priority
from workers.clock import now
from workers.identity import is_gone
from workers.models import Run, RunChunk, RunNotice, RunStage, no_place
from workers.notices import take_due
from workers.own import checked_recipe
from workers.publish import is_published
from workers.refresh import due_sources
from workers.room import check_room
from workers.terms import check_terms

logger = logging.getLogger(__name__)
#: Which queue a stage waits in, if not in `cpu`: those that mostly read and write, or train.
STAGE_QUEUES = {"acquire": "io", "package": "io", "verify": "io", "baseline": "gpu"}


class RunConflictError(Exception):
    """A run is not in the state in which that could be done to it."""


def submit_run(
    recipe: Mapping[str, Any],
    *,
    fresh: bool = False,
    owner: Any = None,
    priority: int = Run.Priority.NORMAL,
) -> Run:
    """Queue the bundle of a resolved recipe once: the same recipe returns the same run.

    What a user starts is private; the same recipe of somebody else is another run, unless that
    run has no owner and is public.

    A run that failed or was cancelled, or whose bundle is no longer there, makes room for a new
    one; with `fresh`, so does one that succeeded.

    Args:
        owner: the user who asks; None: a visitor without an account.

    Raises:
        RecipeError: the recipe cannot be run; nothing is queued.
        BuildError: disk_full or storage_quota: there is no room for it; nothing is queued.
    """
    checked = checked_recipe(recipe, owner)
    resolved = checked.as_dict()
    key = key_of(resolved, owner.pk if owner else None)
    same = Run.objects.select_related("bundle").in_bulk(
        [key, key_of(resolved, None)], field_name="idempotency_key"
    )
    for one in (same.get(key), same.get(key_of(resolved, None))):
        if one is not None and _still_counts(one, fresh=fresh):
            return one
    check_terms(resolved["sources"], owner)
    fields = {
        "title": checked.title,
        "recipe": resolved,
        "owner": owner,
        "public": owner is None,
        "priority": priority,
        "bytes_asked": check_room(resolved["sources"], owner),
    }
    return _create(fields, key, instead_of=same.get(key))


def cancel_run(run: Run) -> Run:
    """Ask for the end of a run; at once when nobody works on it, else within seconds."""
    Run.objects.unfinished().filter(pk=run.pk).update(cancel_requested=True)
    end_cancelled_runs()
    run.refresh_from_db()
    return run


def pause_run(run: Run) -> Run:
    """Ask a run to rest; at once when nobody works on it, else within seconds.

    Raises:
        RunConflictError: it has ended.
    """
    changed = Run.objects.unfinished().filter(pk=run.pk).update(pause_requested=True)
    rest_paused_runs()
    return _changed(run, changed, "paused")


@transaction.atomic
def resume_run(run: Run) -> Run:
    """Let a paused run go on from its finished work, when its turn comes.

    Raises:
        RunConflictError: it is not paused.
    """
    mine = Run.objects.filter(pk=run.pk, cancel_requested=False)
    # Asked to rest, but its worker has not heard of it, or lets go of it just now.
    changed = (
        mine.filter(state__in=[Run.State.QUEUED, Run.State.RUNNING])
        .filter(pause_requested=True)
        .update(pause_requested=False)
    )
    changed += mine.filter(state=Run.State.PAUSED).update(
        state=Run.State.QUEUED, pause_requested=False, attempts=0, retry_at=None, enqueued_at=now()
    )
    _changed(run, changed, "resumed")
    if run.chunks_open:
        transaction.on_commit(requeue_lost_runs, robust=True)
    else:
        _send_after_commit(run)
    return run


@transaction.atomic
def retry_run(run: Run) -> Run:
    """Let a failed run try again from where it stopped.

    Raises:
        RunConflictError: it has not failed, or another run of its recipe took its place.
    """
    key = key_of(run.recipe, run.owner_id)
    other = Run.objects.filter(idempotency_key=key).exclude(pk=run.pk).first()
    if other is not None:
        raise RunConflictError(f"run {run.pk}: run {other.pk} of the same recipe took its place")
    changed = Run.objects.filter(pk=run.pk, state=Run.State.FAILED).update(
        state=Run.State.QUEUED,
        idempotency_key=key,
        attempts=0,
        retries=F("retries") + 1,
        error_code="",
        error="",
        worker="",
        lease_until=None,
        retry_at=None,
        finished_at=None,
        cancel_requested=False,
        pause_requested=False,
        enqueued_at=now(),
    )
    _changed(run, changed, "retried")
    run.stages.filter(state=RunStage.State.FAILED).update(state=RunStage.State.WAITING)
    run.notices.update(state=RunNotice.State.WAITING, attempts=0, due_at=None)
    _send_after_commit(run)
    return run


def set_priority(run: Run, priority: int) -> Run:
    """Let a run go before others, or after them, from its next stage on.

    Raises:
        RunConflictError: it has ended.
    """
    changed = Run.objects.unfinished().filter(pk=run.pk).update(priority=priority)
    _changed(run, changed, "given another priority")
    if run.state == Run.State.QUEUED:  # a second message, which may overtake the first
        enqueue(run.pk, run.stage, run.priority)
    return run


def end_cancelled_runs() -> int:
    """End the runs that were cancelled while nobody works on them."""
    return (
        Run.objects.idle()
        .filter(cancel_requested=True)
        .update(
            state=Run.State.CANCELLED,
            error_code="cancelled",
            error="",
            worker="",
            lease_until=None,
            finished_at=now(),
        )
    )


def rest_paused_runs() -> int:
    """Note as paused the runs that should rest and that nobody works on."""
    resting = Run.objects.idle().filter(pause_requested=True, cancel_requested=False)
    ids = list(resting.exclude(state=Run.State.PAUSED).values_list("pk", flat=True))
    changed = resting.filter(pk__in=ids).update(
        state=Run.State.PAUSED, worker="", lease_until=None, enqueued_at=None
    )
    stages = RunStage.objects.filter(run__in=ids, run__state=Run.State.PAUSED)
    stages.filter(state=RunStage.State.RUNNING).update(state=RunStage.State.WAITING)
    # Whoever works on a chunk hears of it by the loss of the chunk, within seconds.
    chunks = RunChunk.objects.filter(run__in=ids, run__state=Run.State.PAUSED)
    chunks.filter(state=RunChunk.State.WAITING).update(
        worker="", lease_until=None, enqueued_at=None
    )
    return changed


def requeue_lost_runs(patience_seconds: float | None = None) -> int:
    """Send a new message for each run that waits without one; returns their number.

    A message is lost when its worker is killed. Runs of a process that ended on this machine are
    freed at once, others when their lease runs out. Two callers at once send one message. What
    goes first is asked for first; a run without a place among those at once waits on.

    Args:
        patience_seconds: how long a message may be under way; None: as long as a lease.
    """
    free_runs_of_dead_workers()
    end_cancelled_runs()
    rest_paused_runs()
    let_go_on()
    patience = settings.RUN_LEASE_SECONDS if patience_seconds is None else patience_seconds
    sent = _send(Q(enqueued_at=None) | Q(enqueued_at__lte=now() - timedelta(seconds=patience)))
    if sent:
        logger.info("requeued %d waiting runs", sent)
    return sent


def send_waiting_runs() -> int:
    """Send the messages of runs that had no place; for when a place became free."""
    if not (settings.RUNS_AT_ONCE or settings.RUNS_AT_ONCE_PER_USER):
        return 0
    let_go_on()
    return _send(Q(enqueued_at=None))


def let_go_on() -> int:
    """Resumed runs in the midst of a stage that is done in chunks: their chunks may be taken."""
    waiting = Run.objects.filter(state=Run.State.QUEUED, chunks_open__gt=0, pause_requested=False)
    changed = 0
    for run in waiting.order_by("-priority", "created_at"):
        with transaction.atomic():
            mine = Run.objects.filter(pk=run.pk, state=Run.State.QUEUED)
            if no_place(run) or not mine.update(state=Run.State.RUNNING):
                continue
            changed += 1
            chunks = run.chunks.filter(stage=run.stage, state=RunChunk.State.WAITING)
            messages = partial(enqueue_chunks, run.pk, run.stage, chunks.update(enqueued_at=now()))
            transaction.on_commit(messages, robust=True)
    return changed


def _send(which: Q) -> int:
    waiting = Run.objects.claimable().filter(which).order_by("-priority", "created_at")
    sent = 0
    for run in waiting.only("stage", "enqueued_at", "priority", "state", "owner"):
        if run.state == Run.State.QUEUED and no_place(run):
            continue
        # No comparison with the time that was read: databases keep it in another precision.
        mine = Run.objects.claimable().filter(which, pk=run.pk, stage=run.stage)
        if mine.update(enqueued_at=now()):
            enqueue(run.pk, run.stage, run.priority)
            sent += 1
    return sent


def free_runs_of_dead_workers(pk: uuid.UUID | None = None) -> int:
    """End the leases whose process ran on this machine and is gone."""
    running = Run.objects.filter(state=Run.State.RUNNING).exclude(lease_until=None)
    if pk is not None:
        running = running.filter(pk=pk)
    freed = 0
    for run_id, worker in running.values_list("pk", "worker"):
        if is_gone(worker):
            logger.warning("run %s: its worker %s is gone", run_id, worker)
            held = Run.objects.held_by(worker).filter(pk=run_id)
            freed += held.update(worker="", lease_until=None, enqueued_at=None)
    return freed


def enqueue(run_id: uuid.UUID, stage: str, priority: int | None = None) -> None:
    """Send the message that `stage` of a run can be worked on, to go before or after others."""
    _message("workers.tasks.advance", run_id, stage, priority)


def enqueue_chunks(run_id: uuid.UUID, stage: str, number: int) -> None:
    """Send the message that a chunk of the stage can be taken, `number` times."""
    priority = Run.objects.values_list("priority", flat=True).get(pk=run_id)
    for _ in range(number):
        _message("workers.tasks.take_chunk", run_id, stage, priority)


def send_notices() -> int:
    """Ask for the delivery of each notice that is due; returns their number."""
    ids = take_due()
    for notice_id in ids:
        current_app.send_task("workers.tasks.tell", args=[notice_id], queue="io")
    return len(ids)


def send_due() -> None:
    """Ask for each harvest that is due, and for a round of link checks."""
    for source in due_sources():
        current_app.send_task("workers.tasks.harvest", args=[source], queue="io")
    current_app.send_task("workers.tasks.check_links", queue="io")


def enqueue_deposit(pk: uuid.UUID) -> None:
    """Send the message that a bundle is to be sent elsewhere."""
    current_app.send_task("workers.tasks.send_deposit", args=[str(pk)], queue="io")


def _message(task: str, run_id: uuid.UUID, stage: str, priority: int | None) -> None:
    if priority is None:
        priority = Run.objects.values_list("priority", flat=True).get(pk=run_id)
    current_app.send_task(
        task,
        args=[str(run_id), stage],
        queue=STAGE_QUEUES.get(stage, "cpu"),
        priority=message_priority(priority),
    )


def digest(resolved: Mapping[str, Any]) -> str:
    """SHA-256 of a recipe as canonical JSON."""
    text = json.dumps(resolved, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def key_of(resolved: Mapping[str, Any], owner: int | None = None) -> str:
    """One run of a recipe counts for each user, and one for all visitors without an account."""
    return f"build:{digest(resolved)}" + (f":{owner}" if owner else "")


def _still_counts(run: Run, *, fresh: bool) -> bool:
    if not run.has_ended:
        return not run.cancel_requested
    if run.state != Run.State.SUCCEEDED or fresh:
        return False
    if run.bundle is None or run.given_up_at is not None:
        return False
    return is_published(run.bundle.bundle_id)


def _changed(run: Run, changed: int, what: str) -> Run:
    run.refresh_from_db()
    if not changed:
        raise RunConflictError(f"run {run.pk}: it is {run.state} and cannot be {what}")
    return run


def _send_after_commit(run: Run) -> None:
    """The broker may be away: then the row waits for requeue_lost_runs."""
    message = partial(enqueue, run.pk, run.stage, run.priority)
    transaction.on_commit(message, robust=True)


@transaction.atomic
def _create(fields: Mapping[str, Any], key: str, instead_of: Run | None) -> Run:
    from fusion.build import STAGES

    if instead_of is not None:
        Run.objects.filter(pk=instead_of.pk).update(idempotency_key=None)
    run, created = Run.objects.get_or_create(
        idempotency_key=key, defaults={**fields, "stage": STAGES[0], "enqueued_at": now()}
    )
    if created:
        RunStage.objects.bulk_create(
            RunStage(run=run, position=position, name=name) for position, name in enumerate(STAGES)
        )
        _send_after_commit(run)
    return run
