"""Progress of a build, written to the database in few short transactions."""

from __future__ import annotations

import logging
import time

from django.db import transaction
from django.db.models import F, QuerySet

from workers.clock import now
from workers.lease import ChunkLease, Heartbeat, Lease
from workers.logs import bind, bound
from workers.models import Run, RunCase, RunChunk, RunStage, lease_end

logger = logging.getLogger(__name__)
FLUSH_SECONDS = 0.5
FLUSH_CASES = 500


class DatabaseProgress:
    """Fulfils fusion.build.Progress for one held run.

    Cases are buffered and upserted together; each flush extends the lease, and writes nothing
    when the run was lost. `done` never falls: after a takeover it stands until the finished work
    has been found again.
    """

    def __init__(self, lease: Lease | ChunkLease, heartbeat: Heartbeat) -> None:
        self.lease = lease
        self._heartbeat = heartbeat
        self._stage = ""
        self._done = 0
        self._mark = 0  # how far earlier attempts came
        self._cases: dict[tuple[str, str], RunCase] = {}
        self._flushed = 0.0

    def begin(self, name: str) -> None:
        """A stage starts; its total may not be known yet."""
        self.flush()
        self._stage = name
        bind(stage=name)
        with transaction.atomic():
            self.lease.write(lease_until=lease_end())
            resting = self._row().exclude(state=RunStage.State.RUNNING)
            resting.update(state=RunStage.State.RUNNING, started_at=now(), done_before=F("done"))
        self._done = self._mark = self._row().values_list("done", flat=True).get()

    def stage(self, name: str, total: int) -> None:
        """A stage begins, and its total is known."""
        if name != self._stage:
            self.begin(name)
        self._row().update(total=total)

    def end(self) -> None:
        """The stage did all of its total."""
        self.flush()
        self._row().update(done=F("total"))

    def advance(self, done: int) -> None:
        """`done` of the stage's total are done."""
        self._done = max(self._done, done)
        self._check_and_flush()

    def case(
        self, source: str, name: str, state: str, *, stage: str, code: str = "", detail: str = ""
    ) -> None:
        """What became of one case."""
        if code:
            with bound(source=source, case=name):
                logger.info("case %s: %s: %s", state, code, detail)
        self._cases[source, name] = RunCase(
            run_id=self.lease.run_id,
            source=source,
            name=name,
            state=RunCase.State(state),
            stage=stage,
            code=code,
            detail=detail,
        )
        self._check_and_flush()

    def check(self) -> None:
        """Raise CancelledError or LeaseLostError when the work should stop."""
        self._heartbeat.check()

    def flush(self) -> None:
        """Write what is buffered.

        Raises:
            LeaseLostError: another worker took the run over; nothing is written.
        """
        if not self._stage and not self._cases:
            return
        with transaction.atomic():
            self._write()
            RunCase.objects.bulk_create(
                self._cases.values(),
                batch_size=FLUSH_CASES,
                update_conflicts=True,
                unique_fields=["run", "source", "name"],
                update_fields=["state", "stage", "code", "detail"],
            )
        self._cases = {}
        self._flushed = time.monotonic()

    def _write(self) -> None:
        self.lease.extend()
        if self._done > self._mark:  # further than any attempt before: the count starts anew
            Run.objects.filter(pk=self.lease.run_id, attempts__gt=1).update(attempts=1)
        self._row().filter(done__lt=self._done).update(done=self._done)

    def _check_and_flush(self) -> None:
        self._heartbeat.check()
        is_due = time.monotonic() - self._flushed > FLUSH_SECONDS
        if is_due or len(self._cases) >= FLUSH_CASES:
            self.flush()

    def _row(self) -> QuerySet[RunStage]:
        return RunStage.objects.filter(run_id=self.lease.run_id, name=self._stage)


class ChunkProgress(DatabaseProgress):
    """Progress of one held chunk; what it gains is added to the stage, which others add to, too.

    What was excluded is kept with the chunk.
    """

    def __init__(self, lease: ChunkLease, heartbeat: Heartbeat, chunk: RunChunk) -> None:
        super().__init__(lease, heartbeat)
        self._stage = chunk.stage
        self._done = self._mark = chunk.done
        self._excluded: list[dict[str, str]] = []

    def begin(self, name: str) -> None:
        """The stage began before its chunks."""

    def stage(self, name: str, total: int) -> None:
        """Its total was known before its chunks."""

    def end(self) -> None:
        """Write what is left."""
        self.flush()

    def case(
        self, source: str, name: str, state: str, *, stage: str, code: str = "", detail: str = ""
    ) -> None:
        """What became of one case."""
        if state == RunCase.State.EXCLUDED:
            row = {"source": source, "name": name, "stage": stage, "code": code, "detail": detail}
            self._excluded.append(row)
        super().case(source, name, state, stage=stage, code=code, detail=detail)

    def _write(self) -> None:
        gained = self._done - self._mark
        if gained <= 0:
            self.lease.extend()
            return
        self.lease.write(
            done=self._done,
            excluded=self._excluded,
            attempts=1,
            error_code="",
            error="",
            lease_until=lease_end(),
        )
        self._row().update(done=F("done") + gained)
        self._mark = self._done
