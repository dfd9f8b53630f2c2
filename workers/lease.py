"""A worker's hold on a run: the heartbeat that keeps it, and the writes that need it."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Any, Protocol, Self

from django.conf import settings
from django.db import Error as DatabaseFault
from django.db import connection, transaction
from django.db.models import F, Max, QuerySet

from fusion.errors import CancelledError
from fusion.models import Bundle
from workers.clock import now
from workers.models import Run, RunChunk, RunStage, lease_end
from workers.submit import rest_paused_runs, send_notices, send_waiting_runs

logger = logging.getLogger(__name__)
BEAT_SECONDS = 1.0  # how soon a worker hears of a cancellation
LONGEST_WAIT_SECONDS = 900


class PausedError(CancelledError):
    """The user asked for the run to rest; what is finished is kept."""


class LeaseLostError(Exception):
    """Another worker took the run over; this one must write nothing more about it."""


@dataclass(frozen=True)
class Lease:
    """One claim of one run. Each method is one short transaction."""

    run_id: uuid.UUID
    worker: str

    def write(self, **fields: Any) -> None:
        """Set fields of the run, if it is still held.

        Raises:
            LeaseLostError: the run is no longer this worker's.
        """
        held = Run.objects.held_by(self.worker).filter(pk=self.run_id)
        if not held.update(**fields):
            raise LeaseLostError(f"run {self.run_id}: no longer held by {self.worker}")

    def extend(self) -> None:
        """Prove to be alive."""
        self.write(lease_until=lease_end())

    def wishes(self) -> tuple[bool, bool] | None:
        """The user wants it cancelled, wants it to rest; None when it is no longer held."""
        held = Run.objects.held_by(self.worker).filter(pk=self.run_id)
        return held.values_list("cancel_requested", "pause_requested").first()

    @transaction.atomic
    def stage_done(self, name: str, seconds: float) -> RunStage | None:
        """Close a stage and let go of the run; returns the stage that comes next."""
        stages = RunStage.objects.filter(run_id=self.run_id)
        following = stages.exclude(name=name).exclude(state=RunStage.State.DONE).first()
        if following is not None:
            self.write(
                stage=following.name,
                attempts=0,
                worker="",
                lease_until=None,
                enqueued_at=now(),
            )
        else:
            self.extend()
        stages.filter(name=name).update(state=RunStage.State.DONE, seconds=round(seconds, 3))
        return following

    def succeed(self, bundle: Bundle) -> None:
        """The bundle is published."""
        self._end(Run.State.SUCCEEDED, bundle=bundle, stage="", attempts=0)

    @transaction.atomic
    def fail(self, code: str, message: str) -> None:
        """The run ends here, with a reason."""
        self._end(Run.State.FAILED, error_code=code[:60], error=message)
        running = RunStage.objects.filter(run_id=self.run_id, state=RunStage.State.RUNNING)
        running.update(state=RunStage.State.FAILED)

    def cancelled(self) -> None:
        """The user's wish was fulfilled."""
        self._end(Run.State.CANCELLED, error_code="cancelled")

    def paused(self) -> None:
        """Let go of the run; it rests, unless it was resumed meanwhile."""
        self.write(worker="", lease_until=None, enqueued_at=None, attempts=0)
        rest_paused_runs()
        send_waiting_runs()

    def retry_later(self, code: str, message: str, attempts: int) -> None:
        """Let go of the run until a fault may have passed, ever longer."""
        self.write(
            worker="",
            lease_until=None,
            enqueued_at=None,
            retry_at=retry_time(attempts),
            error_code=code[:60],
            error=message,
            retries=F("retries") + 1,
        )

    def _end(self, state: Run.State, **fields: Any) -> None:
        fields = {"error_code": "", "error": "", **fields}
        self.write(state=state, worker="", lease_until=None, finished_at=now(), **fields)
        transaction.on_commit(send_waiting_runs, robust=True)  # its place is free
        transaction.on_commit(send_notices, robust=True)


@dataclass(frozen=True)
class ChunkLease:
    """One claim of one chunk. Each method is one short transaction."""

    chunk_id: int
    run_id: uuid.UUID
    worker: str

    def write(self, **fields: Any) -> None:
        """Set fields of the chunk, if it is still held and its run still stands at its stage.

        Raises:
            LeaseLostError: it is not.
        """
        held = RunChunk.objects.held_by(self.worker).filter(pk=self.chunk_id)
        if not held.update(**fields):
            raise LeaseLostError(
                f"run {self.run_id}: chunk {self.chunk_id} no longer held by {self.worker}"
            )

    def extend(self) -> None:
        """Prove to be alive."""
        self.write(lease_until=lease_end())

    def wishes(self) -> tuple[bool, bool] | None:
        """The user wants the run cancelled, wants it to rest; None when this is no longer held."""
        mine = RunChunk.objects.filter(pk=self.chunk_id, worker=self.worker)
        found = mine.values_list("run__cancel_requested", "run__pause_requested").first()
        if found and not found[0] and not mine.in_work().exists():
            return None
        return found

    def let_go(self) -> None:
        """Somebody else may take it; nothing happens if it is no longer held."""
        RunChunk.objects.held_by(self.worker).filter(pk=self.chunk_id).update(
            worker="", lease_until=None, enqueued_at=None
        )

    @transaction.atomic
    def retry_later(self, code: str, message: str, attempts: int) -> None:
        """Let go of the chunk until a fault may have passed, ever longer."""
        self.write(
            worker="",
            lease_until=None,
            enqueued_at=None,
            retry_at=retry_time(attempts),
            error_code=code[:60],
            error=message,
        )
        self._run().update(retries=F("retries") + 1)

    @transaction.atomic
    def fail(self, code: str, message: str) -> None:
        """The whole run ends here, with a reason."""
        self.write(lease_until=None, error_code=code[:60], error=message)
        self._run().update(
            state=Run.State.FAILED,
            error_code=code[:60],
            error=message,
            chunks_open=0,
            finished_at=now(),
        )
        running = RunStage.objects.filter(run_id=self.run_id, state=RunStage.State.RUNNING)
        running.update(state=RunStage.State.FAILED)
        transaction.on_commit(send_waiting_runs, robust=True)  # its place is free
        transaction.on_commit(send_notices, robust=True)

    @transaction.atomic
    def done(self) -> bool:
        """Close the chunk; True when it was the last one: its run goes on."""
        self.write(state=RunChunk.State.DONE, lease_until=None, finished_at=now(), attempts=0)
        # The lock on the run's row lets one after the other through.
        self._run().update(chunks_open=F("chunks_open") - 1)
        return bool(self._run().filter(chunks_open=0).update(enqueued_at=now()))

    @transaction.atomic
    def split(self, chunk: RunChunk) -> int:
        """A chunk for each case that is left of a chunk; returns their number."""
        rest = chunk.cases[chunk.done :]
        self.write(
            state=RunChunk.State.SPLIT,
            cases=chunk.cases[: chunk.done],
            total=chunk.done,
            lease_until=None,
            finished_at=now(),
        )
        self._run().update(chunks_open=F("chunks_open") + len(rest) - 1)
        others = RunChunk.objects.filter(run_id=self.run_id, stage=chunk.stage)
        first = 1 + (others.aggregate(last=Max("number"))["last"] or 0)
        RunChunk.objects.bulk_create(
            RunChunk(
                run_id=self.run_id,
                stage=chunk.stage,
                number=number,
                cases=[case],
                total=1,
                enqueued_at=now(),
            )
            for number, case in enumerate(rest, first)
        )
        return len(rest)

    def _run(self) -> QuerySet[Run]:
        return Run.objects.filter(pk=self.run_id, state=Run.State.RUNNING)


def retry_time(attempts: int) -> Any:
    """When to try again after so many attempts: ever later."""
    wait = min(settings.RUN_RETRY_SECONDS * 2**attempts, LONGEST_WAIT_SECONDS)
    return now() + timedelta(seconds=wait)


class Hold(Protocol):
    """A claim that a heartbeat keeps: of a run, or of a chunk of one."""

    @property
    def run_id(self) -> uuid.UUID: ...

    def extend(self) -> None: ...

    def wishes(self) -> tuple[bool, bool] | None: ...


class Heartbeat:
    """A thread that extends the lease while the process lives, and hears of the user's wishes.

    Long stages that report nothing keep their run by it; `check` is cheap enough for inner loops.
    """

    def __init__(self, lease: Hold) -> None:
        self.lease = lease
        self._lost = threading.Event()
        self._cancelled = threading.Event()
        self._paused = threading.Event()
        self._extended = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)

    def check(self) -> None:
        """Stop here when there is no more reason to go on.

        Raises:
            CancelledError: the user asked for it.
            PausedError: the user asked for a rest.
            LeaseLostError: another worker took the run over, or may have: for as long as a lease
                the database could not be told that this one lives.
        """
        if self._lost.is_set():
            raise LeaseLostError(f"run {self.lease.run_id}: taken over by another worker")
        if time.monotonic() - self._extended > settings.RUN_LEASE_SECONDS:
            raise LeaseLostError(f"run {self.lease.run_id}: its lease ran out without a heartbeat")
        if self._cancelled.is_set():
            raise CancelledError(f"run {self.lease.run_id}: cancelled")
        if self._paused.is_set():
            raise PausedError(f"run {self.lease.run_id}: paused")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join(timeout=settings.RUN_LEASE_SECONDS)

    def _beat(self) -> None:
        try:
            while not self._stop.wait(BEAT_SECONDS) and not self._lost.is_set():
                try:
                    asked = time.monotonic()
                    if asked - self._extended > settings.RUN_LEASE_SECONDS / 4:
                        self.lease.extend()
                        self._extended = asked
                    self._listen()
                except LeaseLostError:
                    self._lost.set()
                except DatabaseFault:  # busy, away, or cut off: the next beat tries again
                    logger.warning("run %s: no heartbeat", self.lease.run_id, exc_info=True)
                    connection.close()
        finally:
            connection.close()

    def _listen(self) -> None:
        wishes = self.lease.wishes()
        if wishes is None:
            self._lost.set()
            return
        cancel, pause = wishes
        if cancel:
            self._cancelled.set()
        if pause:
            self._paused.set()
