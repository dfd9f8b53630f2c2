"""Runs: the database row is the truth, the Celery message only a hint."""

from __future__ import annotations

import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection, models, transaction
from django.db.models import Case, Exists, F, OuterRef, Q, When
from django.db.models.functions import Coalesce

from fusion.models import Bundle
from workers.clock import now

ADMISSION = 0x1A6E  # the advisory lock under which PostgreSQL gives out places to run


def lease_end() -> Any:
    """Until when a heartbeat of now keeps a run."""
    return now() + timedelta(seconds=settings.RUN_LEASE_SECONDS)


class RunQuerySet(models.QuerySet["Run"]):
    """Reads, and the one write that decides who works on a run."""

    def unfinished(self) -> RunQuerySet:
        """Runs with something still to happen."""
        return self.filter(state__in=[Run.State.QUEUED, Run.State.RUNNING, Run.State.PAUSED])

    def idle(self) -> RunQuerySet:
        """Runs with something still to happen that nobody works on.

        Queued; paused; between two stages (running without a lease); or with a lease that ran out.
        """
        return self.unfinished().filter(Q(lease_until=None) | Q(lease_until__lt=now()))

    def claimable(self) -> RunQuerySet:
        """Runs that nobody works on, that are due and that somebody may go on with.

        A run whose stage is done in chunks waits for the last of them.
        """
        due = Q(retry_at=None) | Q(retry_at__lte=now())
        free = self.idle().filter(due, pause_requested=False, chunks_open=0)
        return free.exclude(state=Run.State.PAUSED)

    def held_by(self, worker: str) -> RunQuerySet:
        """Runs that `worker` still holds: every write of a worker goes through this."""
        return self.filter(worker=worker, state=Run.State.RUNNING)

    @transaction.atomic
    def claim(self, pk: uuid.UUID, worker: str) -> Run | None:
        """Take one run; None when someone else has it, it has ended, or it has no place yet.

        One UPDATE decides the race, so a message that arrives twice does its work once. A run
        that has no place loses its message: it gets a new one when a place is free.
        """
        if no_place(self.filter(pk=pk, state=Run.State.QUEUED).first()):
            self.filter(pk=pk, state=Run.State.QUEUED).update(enqueued_at=None)
            return None
        number = models.PositiveIntegerField()
        was_lost = When(lease_until__lt=now(), then=F("lost_leases") + 1)
        taken = (
            self.claimable()
            .filter(pk=pk)
            .update(
                state=Run.State.RUNNING,
                worker=worker,
                lost_leases=Case(was_lost, default=F("lost_leases"), output_field=number),
                lease_until=lease_end(),
                retry_at=None,
                attempts=F("attempts") + 1,
                started_at=Coalesce("started_at", now()),
            )
        )
        return self.get(pk=pk) if taken else None


def no_place(run: Run | None) -> str:
    """Why a queued run has no place among those that run at once; "" when it has one.

    Inside a transaction it is decided for one run after the other. Without limits: no query.
    """
    most, each = settings.RUNS_AT_ONCE, settings.RUNS_AT_ONCE_PER_USER
    if run is None or not (most or each):
        return ""
    if connection.vendor == "postgresql" and connection.in_atomic_block:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [ADMISSION])
    running = Run.objects.filter(state=Run.State.RUNNING)
    if most and (found := running.count()) >= most:
        return f"{found} runs are under way, {most} may be at once"
    if each and (found := running.filter(owner=run.owner_id).count()) >= each:
        return f"{found} runs of {run.owner_words} are under way, {each} may be at once"
    return ""


class Run(models.Model):
    """One fusion run: a recipe on its way to a bundle, through the stages of fusion.build."""

    class State(models.TextChoices):
        """Where a run stands."""

        QUEUED = "queued"
        RUNNING = "running"
        PAUSED = "paused"
        SUCCEEDED = "succeeded"
        FAILED = "failed"
        CANCELLED = "cancelled"

    class Priority(models.IntegerChoices):
        """Which of the waiting runs goes first."""

        LOW = 1
        NORMAL = 5
        HIGH = 9

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    idempotency_key = models.CharField(max_length=100, unique=True, null=True)
    title = models.CharField(max_length=300)
    recipe = models.JSONField()  # resolved: source descriptions inlined
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL
    )
    public = models.BooleanField(default=True)  # seen by everybody, not by its owner alone
    priority = models.PositiveSmallIntegerField(choices=Priority, default=Priority.NORMAL)
    state = models.CharField(max_length=20, choices=State, default=State.QUEUED, db_index=True)
    stage = models.CharField(max_length=20, blank=True)
    attempts = models.PositiveSmallIntegerField(default=0)  # claims since the last progress
    worker = models.CharField(max_length=200, blank=True)
    lease_until = models.DateTimeField(null=True)
    enqueued_at = models.DateTimeField(null=True)  # when the last message about it was sent
    retry_at = models.DateTimeField(null=True)  # not before this, after a fault that may pass
    cancel_requested = models.BooleanField(default=False)
    chunks_open = models.PositiveIntegerField(default=0)  # of its stage: it goes on when all ended
    pause_requested = models.BooleanField(default=False)
    lost_leases = models.PositiveIntegerField(default=0)  # holds that ended by death or silence
    retries = models.PositiveIntegerField(default=0)  # after faults that may pass, and by hand
    bytes_asked = models.PositiveBigIntegerField(default=0)  # what its bundle will have, about
    bytes_in = models.PositiveBigIntegerField(null=True)  # of the source files, once listed
    quality = models.JSONField(null=True)  # what the report stage measured, and its findings
    error_code = models.CharField(max_length=60, blank=True)
    error = models.TextField(blank=True)
    bundle = models.ForeignKey(Bundle, null=True, on_delete=models.SET_NULL, related_name="runs")
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    given_up_at = models.DateTimeField(null=True)  # its owner has no use for the bundle any more

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
    def owner_words(self) -> str:
        """Whose it is, for people: runs without an owner are one anonymous user's."""
        return f"user {self.owner}" if self.owner else "visitors without an account"

    @property
    def folder(self) -> Path:
        """Scratch of this run; gone when it has succeeded or was cancelled."""
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
    started_at = models.DateTimeField(null=True)  # last, after a pause or a failure again
    done_before = models.PositiveIntegerField(default=0)  # what was done already then

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


class RunNotice(models.Model):
    """Somebody wants to hear of the end of a run (workers/notices.py)."""

    class Kind(models.TextChoices):
        """How they are told."""

        MAIL = "mail"
        HOOK = "hook"

    class State(models.TextChoices):
        """Where a notice stands; it waits for the end of its run, or for the next attempt."""

        WAITING = "waiting"
        DELIVERED = "delivered"
        FAILED = "failed"

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="notices")
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    kind = models.CharField(max_length=10, choices=Kind)
    target = models.CharField(max_length=500)  # a mail address or a URL
    page = models.CharField(max_length=500)  # address of the run's page, as its owner sees it
    state = models.CharField(max_length=20, choices=State, default=State.WAITING)
    attempts = models.PositiveSmallIntegerField(default=0)
    due_at = models.DateTimeField(null=True)  # not before; None: once its run has ended
    answer = models.CharField(max_length=300, blank=True)  # to the last attempt
    created_at = models.DateTimeField(auto_now_add=True)
    delivered_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["run", "owner", "kind", "target"], name="one_notice_per_address"
            )
        ]

    def __str__(self) -> str:
        return f"{self.kind} of run {self.run_id}: {self.state}"


class WorkerProcess(models.Model):
    """A worker that lives, or did: it says so itself every RUN_WATCH_SECONDS."""

    name = models.CharField(max_length=200, primary_key=True)  # place/process/start
    host = models.CharField(max_length=80)
    pid = models.PositiveIntegerField()
    queues = models.JSONField()
    concurrency = models.PositiveSmallIntegerField()
    children = models.JSONField(default=list)  # process ids of its pool
    device = models.CharField(max_length=120)
    versions = models.JSONField()  # package -> version
    started_at = models.DateTimeField()
    seen_at = models.DateTimeField(db_index=True)

    class Meta:
        ordering = ["host", "pid"]

    def __str__(self) -> str:
        return f"{self.host}/{self.pid}"


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


class Credential(models.Model):
    """What a place asks of a user, sealed by workers.credentials: nobody reads it from the row."""

    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="credentials"
    )
    name = models.CharField(max_length=40)  # a key of fusion.sources.credentials.KINDS
    sealed = models.TextField()
    changed_at = models.DateTimeField(auto_now=True)
    tested_at = models.DateTimeField(null=True)
    accepted = models.BooleanField(null=True)  # at the last test; None: the place does not tell
    said = models.CharField(max_length=300, blank=True)  # whose it is, or why it was refused

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["owner", "name"], name="one_of_each_kind")]

    def __str__(self) -> str:
        return self.name


class AcceptedTerms(models.Model):
    """Terms of a dataset that a user accepted; others, or changed ones, have another digest."""

    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="accepted_terms"
    )
    dataset = models.CharField(max_length=200)
    digest = models.CharField(max_length=64)
    terms = models.JSONField()  # as they were shown
    accepted_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["dataset", "-accepted_at"]
        constraints = [
            models.UniqueConstraint(fields=["owner", "dataset", "digest"], name="accepted_once")
        ]

    def __str__(self) -> str:
        return f"{self.dataset} {self.digest[:12]}"


class DepositQuerySet(models.QuerySet["Deposit"]):
    """Reads, and the one write that decides who sends a deposit."""

    def claim(self, pk: uuid.UUID) -> Deposit | None:
        """Take one that nobody sends; None when someone does, or it is done."""
        free = Q(state__in=[Deposit.State.QUEUED, Deposit.State.FAILED]) | Q(
            state=Deposit.State.RUNNING, lease_until__lt=now()
        )
        taken = self.filter(free, pk=pk).update(
            state=Deposit.State.RUNNING,
            lease_until=lease_end(),
            attempts=models.F("attempts") + 1,
            error_code="",
            error="",
        )
        return self.select_related("bundle", "owner").get(pk=pk) if taken else None


class Deposit(models.Model):
    """A bundle on its way to a place that others get it from; sending again sends the rest."""

    class State(models.TextChoices):
        """Where a deposit stands."""

        QUEUED = "queued"
        RUNNING = "running"
        SUCCEEDED = "succeeded"
        FAILED = "failed"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    bundle = models.ForeignKey(Bundle, on_delete=models.CASCADE, related_name="deposits")
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    place = models.CharField(max_length=20)  # a key of fusion.deposits.PLACES
    target = models.CharField(max_length=300, blank=True)
    private = models.BooleanField(default=True)  # at first, where the place has that
    state = models.CharField(max_length=20, choices=State, default=State.QUEUED)
    sent_bytes = models.PositiveBigIntegerField(default=0)
    total_bytes = models.PositiveBigIntegerField()
    remote = models.CharField(max_length=300, blank=True)  # by what the place finds it again
    url = models.CharField(max_length=500, blank=True)
    doi = models.CharField(max_length=100, blank=True)  # reserved, not registered by the portal
    error_code = models.CharField(max_length=60, blank=True)
    error = models.TextField(blank=True)
    attempts = models.PositiveSmallIntegerField(default=0)  # claims since somebody asked for it
    enqueued_at = models.DateTimeField(null=True)  # when the last message was sent
    lease_until = models.DateTimeField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True)

    objects = DepositQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["bundle", "owner", "place", "target"], name="one_deposit_per_target"
            )
        ]

    def __str__(self) -> str:
        return f"{self.place}:{self.target} {self.state}"
