"""A worker's hold on a run: the heartbeat that keeps it, and the writes that need it."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

from django.conf import settings
from django.db import DatabaseError, connection, transaction
from django.db.models import F

from fusion.errors import CancelledError
from fusion.models import Bundle
from workers.clock import now
from workers.models import Run, RunStage, lease_end
from workers.submit import rest_paused_runs, send_waiting_runs

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
        wait = min(settings.RUN_RETRY_SECONDS * 2**attempts, LONGEST_WAIT_SECONDS)
        self.write(
            worker="",
            lease_until=None,
            enqueued_at=None,
            retry_at=now() + timedelta(seconds=wait),
            error_code=code[:60],
            error=message,
            retries=F("retries") + 1,
        )

    def _end(self, state: Run.State, **fields: Any) -> None:
        fields = {"error_code": "", "error": "", **fields}
        self.write(state=state, worker="", lease_until=None, finished_at=now(), **fields)
        transaction.on_commit(send_waiting_runs, robust=True)  # its place is free


class Heartbeat:
    """A thread that extends the lease while the process lives, and hears of the user's wishes.

    Long stages that report nothing keep their run by it; `check` is cheap enough for inner loops.
    """

    def __init__(self, lease: Lease) -> None:
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
                except DatabaseError:  # busy or away: the next beat tries again
                    logger.warning("run %s: no heartbeat", self.lease.run_id, exc_info=True)
                    connection.close()
        finally:
            connection.close()

    def _listen(self) -> None:
        held = Run.objects.held_by(self.lease.worker).filter(pk=self.lease.run_id)
        wishes = held.values_list("cancel_requested", "pause_requested").first()
        if wishes is None:
            self._lost.set()
            return
        cancel, pause = wishes
        if cancel:
            self._cancelled.set()
        if pause:
            self._paused.set()
