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
from django.db.models import Q

from catalog.models import Dataset
from catalog.services import facts_of, overlap_graph
from fusion.recipe import Recipe, check_recipe
from workers.clock import now
from workers.identity import is_gone
from workers.models import Run, RunStage
from workers.publish import is_published

logger = logging.getLogger(__name__)
GPU_STAGES = frozenset({"baseline"})


def submit_run(recipe: Mapping[str, Any], *, fresh: bool = False) -> Run:
    """Queue the bundle of a resolved recipe once: the same recipe returns the same run.

    A run that failed or was cancelled, or whose bundle is no longer there, makes room for a new
    one; with `fresh`, so does one that succeeded.

    Raises:
        RecipeError: the recipe cannot be run; nothing is queued.
    """
    known = set(Dataset.objects.values_list("slug", flat=True))
    checked = check_recipe(recipe, known, overlap_graph(), facts_of)
    resolved = checked.as_dict()
    key = f"build:{digest(resolved)}"
    earlier = Run.objects.filter(idempotency_key=key).select_related("bundle").first()
    if earlier is not None and _still_counts(earlier, fresh=fresh):
        return earlier
    return _create(checked, resolved, key, instead_of=earlier)


def cancel_run(run: Run) -> Run:
    """Ask for the end of a run; at once when nobody works on it, else within seconds."""
    Run.objects.unfinished().filter(pk=run.pk).update(cancel_requested=True)
    end_cancelled_runs()
    run.refresh_from_db()
    return run


def end_cancelled_runs() -> int:
    """End the runs that were cancelled while nobody works on them."""
    idle = Run.objects.unfinished().filter(Q(lease_until=None) | Q(lease_until__lt=now()))
    return idle.filter(cancel_requested=True).update(
        state=Run.State.CANCELLED,
        error_code="cancelled",
        error="",
        worker="",
        lease_until=None,
        finished_at=now(),
    )


def requeue_lost_runs(patience_seconds: float | None = None) -> int:
    """Send a new message for each run that waits without one; returns their number.

    A message is lost when its worker is killed. Runs of a process that ended on this machine are
    freed at once, others when their lease runs out. Two callers at once send one message.

    Args:
        patience_seconds: how long a message may be under way; None: as long as a lease.
    """
    free_runs_of_dead_workers()
    end_cancelled_runs()
    patience = settings.RUN_LEASE_SECONDS if patience_seconds is None else patience_seconds
    overdue = Q(enqueued_at=None) | Q(enqueued_at__lte=now() - timedelta(seconds=patience))
    waiting = Run.objects.claimable().filter(overdue).order_by("created_at")
    sent = 0
    for pk, stage, before in waiting.values_list("pk", "stage", "enqueued_at"):
        if Run.objects.filter(pk=pk, stage=stage, enqueued_at=before).update(enqueued_at=now()):
            enqueue(pk, stage)
            sent += 1
    if sent:
        logger.info("requeued %d waiting runs", sent)
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


def enqueue(run_id: uuid.UUID, stage: str) -> None:
    """Send the message that `stage` of a run can be worked on."""
    queue = "gpu" if stage in GPU_STAGES else "cpu"
    current_app.send_task("workers.tasks.advance", args=[str(run_id), stage], queue=queue)


def digest(resolved: Mapping[str, Any]) -> str:
    """SHA-256 of a recipe as canonical JSON."""
    text = json.dumps(resolved, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _still_counts(run: Run, *, fresh: bool) -> bool:
    if not run.has_ended:
        return not run.cancel_requested
    if run.state != Run.State.SUCCEEDED or fresh:
        return False
    return run.bundle is not None and is_published(run.bundle.bundle_id)


@transaction.atomic
def _create(recipe: Recipe, resolved: dict[str, Any], key: str, instead_of: Run | None) -> Run:
    from fusion.build import STAGES

    if instead_of is not None:
        Run.objects.filter(pk=instead_of.pk).update(idempotency_key=None)
    run, created = Run.objects.get_or_create(
        idempotency_key=key,
        defaults={
            "title": recipe.title,
            "recipe": resolved,
            "stage": STAGES[0],
            "enqueued_at": now(),
        },
    )
    if created:
        RunStage.objects.bulk_create(
            RunStage(run=run, position=position, name=name) for position, name in enumerate(STAGES)
        )
        # The broker may be away: then the row waits for requeue_lost_runs.
        transaction.on_commit(partial(enqueue, run.pk, run.stage), robust=True)
    return run
