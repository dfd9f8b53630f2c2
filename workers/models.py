"""Runs: the database row is the truth, the Celery message only a hint."""

from __future__ import annotations

import uuid
from datetime import timedelta
from pathlib import Path

from django.conf import settings
from django.db import models
from django.db.models import Exists, F, OuterRef, Q
from django.db.models.expressions import CombinedExpression
from django.db.models.functions import Coalesce

from fusion.models import Bundle
from workers.clock import now


def lease_end() -> CombinedExpression:
    """Until when a heartbeat of now keeps a run."""
    return now() + timedelta(seconds=settings.RUN_LEASE_SECONDS)


class RunQuerySet(models.QuerySet["Run"]):
    """Reads, and the one write that decides who works on a run."""

    def unfinished(self) -> RunQuerySet:
        """Runs with something still to happen."""
        return self.filter(state__in=[Run.State.QUEUED, Run.State.RUNNING])

    def claimable(self) -> RunQuerySet:
        """Runs that nobody works on and that are due.

        Queued; between two stages (running without a lease); or with a lease that ran out. A run
        whose stage is done in chunks waits for the last of them.
        """
        idle = Q(lease_until=None) | Q(lease_until__lt=now())
        due = Q(retry_at=None) | Q(retry_at__lte=now())
        return self.unfinished().filter(idle, due, chunks_open=0)

    def held_by(self, worker: str) -> RunQuerySet:
        """Runs that `worker` still holds: every write of a worker goes through this."""
        return self.filter(worker=worker, state=Run.State.RUNNING)

    def claim(self, pk: uuid.UUID, worker: str) -> Run | None:
        """Take one run; None when someone else has it or it has ended.

        One UPDATE decides the race, so a message that arrives twice does its work once.
        """
        taken = (
            self.claimable()
            .filter(pk=pk)
            .update(
                state=Run.State.RUNNING,
                worker=worker,
                lease_until=lease_end(),
                retry_at=None,
                attempts=F("attempts") + 1,
                started_at=Coalesce("started_at", now()),
            )
        )
        return self.get(pk=pk) if taken else None


class Run(models.Model):
    """One fusion run: a recipe on its way to a bundle, through the stages of fusion.build."""

    class State(models.TextChoices):
        """Where a run stands."""

        QUEUED = "queued"
        RUNNING = "running"
        SUCCEEDED = "succeeded"
        FAILED = "failed"
        CANCELLED = "cancelled"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    idempotency_key = models.CharField(max_length=100, unique=True, null=True)
    title = models.CharField(max_length=300)
    recipe = models.JSONField()  # resolved: source descriptions inlined
    state = models.CharField(max_length=20, choices=State, default=State.QUEUED, db_index=True)
    stage = models.CharField(max_length=20, blank=True)
    attempts = models.PositiveSmallIntegerField(default=0)  # claims since the last progress
    worker = models.CharField(max_length=200, blank=True)
    lease_until = models.DateTimeField(null=True)
    enqueued_at = models.DateTimeField(null=True)  # when the last message about it was sent
    retry_at = models.DateTimeField(null=True)  # not before this, after a fault that may pass
    cancel_requested = models.BooleanField(default=False)
    chunks_open = models.PositiveIntegerField(default=0)  # of its stage: it goes on when all ended
    quality = models.JSONField(null=True)  # what the report stage measured, and its findings
    error_code = models.CharField(max_length=60, blank=True)
    error = models.TextField(blank=True)
    bundle = models.ForeignKey(Bundle, null=True, on_delete=models.SET_NULL, related_name="runs")
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    objects = RunQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        indexes = [models.Index(fields=["state", "lease_until"], name="run_state_and_lease")]

    def __str__(self) -> str:
        return f"{self.title} ({self.state})"

    @property
    def has_ended(self) -> bool:
        """Nothing more will happen to it."""
        return self.state in {self.State.SUCCEEDED, self.State.FAILED, self.State.CANCELLED}

    @property
    def folder(self) -> Path:
        """Scratch of this run; gone when the run has ended."""
        return Path(settings.WORK_DIR) / str(self.pk)


class RunStage(models.Model):
    """Progress of one stage of a run."""

    class State(models.TextChoices):
        """Where a stage stands."""

        WAITING = "waiting"
        RUNNING = "running"
        DONE = "done"
        FAILED = "failed"

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="stages")
    position = models.PositiveSmallIntegerField()
    name = models.CharField(max_length=20)
    state = models.CharField(max_length=20, choices=State, default=State.WAITING)
    done = models.PositiveIntegerField(default=0)
    total = models.PositiveIntegerField(default=0)
    seconds = models.FloatField(null=True)

    class Meta:
        ordering = ["position"]
        constraints = [
            models.UniqueConstraint(fields=["run", "position"], name="one_row_per_run_and_stage")
        ]

    def __str__(self) -> str:
        return f"{self.name} {self.done}/{self.total}"


class RunCase(models.Model):
    """One case of a run: how far it came, or why it was excluded."""

    class State(models.TextChoices):
        """Where a case stands."""

        PENDING = "pending"
        USED = "used"
        EXCLUDED = "excluded"

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="cases")
    source = models.CharField(max_length=60)
    name = models.CharField(max_length=300)
    state = models.CharField(max_length=20, choices=State, default=State.PENDING)
    stage = models.CharField(max_length=20, blank=True)
    code = models.CharField(max_length=60, blank=True)
    detail = models.TextField(blank=True)

    class Meta:
        ordering = ["source", "name"]
        constraints = [
            models.UniqueConstraint(
                fields=["run", "source", "name"], name="one_row_per_run_and_case"
            )
        ]

    def __str__(self) -> str:
        return f"{self.source}/{self.name} {self.state}"


class RunChunkQuerySet(models.QuerySet["RunChunk"]):
    """Reads, and the one write that decides who works on a chunk."""

    def in_work(self) -> RunChunkQuerySet:
        """Chunks of the stages at which their runs stand."""
        runs = Run.objects.filter(pk=OuterRef("run_id"), stage=OuterRef("stage"))
        return self.filter(Exists(runs.filter(state=Run.State.RUNNING)))

    def claimable(self) -> RunChunkQuerySet:
        """Chunks that nobody works on and that are due."""
        idle = Q(lease_until=None) | Q(lease_until__lt=now())
        due = Q(retry_at=None) | Q(retry_at__lte=now())
        wished = Run.objects.filter(pk=OuterRef("run_id"), cancel_requested=True)
        waiting = self.in_work().filter(idle, due, state=RunChunk.State.WAITING)
        return waiting.exclude(Exists(wished))

    def held_by(self, worker: str) -> RunChunkQuerySet:
        """Chunks that `worker` still holds: every write of a worker goes through this."""
        return self.in_work().filter(worker=worker, state=RunChunk.State.WAITING)

    def claim(self, pk: int, worker: str) -> RunChunk | None:
        """Take one chunk; None when someone else has it or it is done."""
        taken = (
            self.claimable()
            .filter(pk=pk)
            .update(
                worker=worker,
                lease_until=lease_end(),
                retry_at=None,
                attempts=F("attempts") + 1,
                started_at=Coalesce("started_at", now()),
            )
        )
        return self.select_related("run").get(pk=pk) if taken else None


class RunChunk(models.Model):
    """Some cases of one stage of a run, done by one worker beside those that do the others.

    `done` never falls. What came of a case stands in RunCase and, under its key, in the store of
    case results; the exclusions are kept here so that the run goes on without them.
    """

    class State(models.TextChoices):
        """Where a chunk stands. Waiting with a lease: somebody works on it."""

        WAITING = "waiting"
        DONE = "done"
        SPLIT = "split"  # killed its workers: its cases have chunks of their own

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="chunks")
    stage = models.CharField(max_length=20)
    number = models.PositiveIntegerField()
    cases = models.JSONField()  # [place in the list of cases, key of its result]
    state = models.CharField(max_length=20, choices=State, default=State.WAITING)
    done = models.PositiveIntegerField(default=0)
    total = models.PositiveIntegerField()
    excluded = models.JSONField(default=list)
    attempts = models.PositiveSmallIntegerField(default=0)  # claims since the last progress
    worker = models.CharField(max_length=200, blank=True)  # who holds it, or did it
    lease_until = models.DateTimeField(null=True)
    enqueued_at = models.DateTimeField(null=True)
    retry_at = models.DateTimeField(null=True)
    error_code = models.CharField(max_length=60, blank=True)
    error = models.TextField(blank=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    objects = RunChunkQuerySet.as_manager()

    class Meta:
        ordering = ["run", "stage", "number"]
        constraints = [
            models.UniqueConstraint(
                fields=["run", "stage", "number"], name="one_row_per_run_and_chunk"
            )
        ]
        indexes = [models.Index(fields=["state", "lease_until"], name="chunk_state_and_lease")]

    def __str__(self) -> str:
        return f"{self.stage} {self.number}: {self.done}/{self.total}"
