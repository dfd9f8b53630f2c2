"""A stage in chunks: cut, taken by any worker on any host, and joined by the one that ends last."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import transaction
from django.db.models import Q

from fusion.errors import CancelledError
from workers.clock import now
from workers.faults import attempt
from workers.identity import is_gone, new_token
from workers.lease import ChunkLease, Heartbeat, Lease, LeaseLostError
from workers.logs import bind
from workers.models import Run, RunChunk, RunStage
from workers.progress import ChunkProgress, DatabaseProgress
from workers.stages import build_of, come_up_to, remove_folder
from workers.submit import enqueue, enqueue_chunks

if TYPE_CHECKING:
    from fusion.build import Build
    from fusion.stages.harmonise import CaseWork

logger = logging.getLogger(__name__)
CHUNKED = frozenset({"harmonise"})
#: A case costs one unit, and one more for so many bytes of its files. A chunk has about so many
#: units for each process that works on it: some ten seconds of work.
UNIT_BYTES, UNITS = 256 * 1024, 512
_GONE = (Run.State.SUCCEEDED, Run.State.CANCELLED)  # a failed run may be tried again
_RESENT = 32  # messages of one run that are sent again at a time


def make_chunks(run: Run, lease: Lease, build: Build, progress: DatabaseProgress) -> bool:
    """Cut the stage into chunks and let go of the run; False when there is nothing (more) to cut.

    Rows, messages and the end of the lease are one transaction: it happens once.
    """
    from fusion.pool import share_cores
    from fusion.stages.harmonise import case_works

    if run.chunks.filter(stage=run.stage).exists():
        return _open_again(run, lease)
    works = case_works(build, progress)
    progress.stage(run.stage, len(works))
    _, children = share_cores(build.threads, build.children, len(works))
    chunks = list(cut(works, children, settings.CHUNK_CASES))
    if not chunks:
        return False
    with transaction.atomic():
        lease.write(
            worker="", lease_until=None, attempts=0, enqueued_at=now(), chunks_open=len(chunks)
        )
        RunStage.objects.filter(run=run, name=run.stage).update(done=0)
        RunChunk.objects.bulk_create(
            RunChunk(
                run=run,
                stage=run.stage,
                number=number,
                cases=[[work.number, work.key] for work in chunk],
                total=len(chunk),
                enqueued_at=now(),
            )
            for number, chunk in enumerate(chunks)
        )
        transaction.on_commit(lambda: enqueue_chunks(run.pk, run.stage, len(chunks)), robust=True)
    return True


def _open_again(run: Run, lease: Lease) -> bool:
    """Let the chunks go on that a failed run left; False when all are done."""
    left = run.chunks.filter(stage=run.stage, state=RunChunk.State.WAITING)
    if not (number := left.count()):
        return False
    with transaction.atomic():
        lease.write(worker="", lease_until=None, attempts=0, enqueued_at=now(), chunks_open=number)
        left.update(
            worker="",
            lease_until=None,
            attempts=0,
            error_code="",
            error="",
            retry_at=None,
            enqueued_at=now(),
        )
        transaction.on_commit(lambda: enqueue_chunks(run.pk, run.stage, number), robust=True)
    return True


def cut(works: Sequence[CaseWork], children: int, cases: int = 0) -> Iterator[list[CaseWork]]:
    """The cases in order, in chunks of about equal work.

    Args:
        works: the cases, with the sizes of their files.
        children: processes that work on one chunk; none of them should be idle.
        cases: of one chunk; 0: as many as make enough work.
    """
    chunk: list[CaseWork] = []
    units = 0.0
    for work in works:
        chunk.append(work)
        units += 1 + work.size_bytes / UNIT_BYTES
        is_full = units >= UNITS * children and len(chunk) >= children
        if len(chunk) == cases or (is_full and not cases):
            yield chunk
            chunk, units = [], 0.0
    if chunk:
        yield chunk


def work_on_chunk(run_id: uuid.UUID, stage: str) -> None:
    """Do one chunk of a run's stage, if there is one that nobody does.

    Whatever happens is written to the rows; only a database that is away raises, and then the
    lease runs out and the chunk is found again.
    """
    free_chunks_of_dead_workers(run_id)
    chunk = _take_next(run_id, stage)
    if chunk is None:
        logger.info("run %s: no chunk of %s is to be done here and now", run_id, stage)
        return
    lease = ChunkLease(chunk.pk, run_id, chunk.worker)
    bind(worker=chunk.worker, attempt=chunk.attempts, chunk=chunk.number)
    try:
        _attempt(chunk, lease)
    except LeaseLostError as lost:
        logger.warning("%s", lost)
    except CancelledError:
        lease.let_go()
        logger.info("run %s: cancelled or paused in chunk %s of %s", run_id, chunk.number, stage)
    # Not before this process has stopped to write there.
    if chunk.run.folder.exists() and Run.objects.filter(pk=run_id, state__in=_GONE).exists():
        remove_folder(chunk.run)


def _take_next(run_id: uuid.UUID, stage: str) -> RunChunk | None:
    """The first chunk that is free; another worker that wants the same one gets another."""
    token = new_token()
    while True:
        free = RunChunk.objects.claimable().filter(run_id=run_id, stage=stage)
        numbers = list(free.order_by("number").values_list("pk", flat=True)[:8])
        for pk in numbers:
            if chunk := RunChunk.objects.claim(pk, token):
                return chunk
        if not numbers:
            return None


def _attempt(chunk: RunChunk, lease: ChunkLease) -> None:
    name = f"run {chunk.run_id}: chunk {chunk.number} of {chunk.stage}"

    def fail(code: str, message: str) -> None:
        lease.fail(code, message)
        logger.error("%s failed: %s: %s", name, code, message)

    def retry(code: str, message: str) -> None:
        lease.retry_later(code, message, chunk.attempts)
        logger.warning("%s is tried again later: %s", name, message)

    def work() -> None:
        with Heartbeat(lease) as heartbeat:
            _do(chunk, lease, heartbeat)

    if chunk.error and chunk.attempts > settings.RUN_MAX_ATTEMPTS:
        limit = settings.RUN_MAX_ATTEMPTS
        message = f"stage {chunk.stage}: {limit} attempts without progress."
        fail("too_many_attempts", f"{message} Last fault: {chunk.error}")
    elif _is_poison(chunk):
        logger.warning("%s ended its workers: each of its cases gets its own chunk", name)
        with transaction.atomic():
            parts = lease.split(chunk)
            transaction.on_commit(
                lambda: enqueue_chunks(chunk.run_id, chunk.stage, parts), robust=True
            )
    else:
        attempt(work, fail, retry)


def _is_poison(chunk: RunChunk) -> bool:
    """It ended its workers again and again, and can be split."""
    is_tried = not chunk.error and chunk.attempts > settings.CHUNK_MAX_ATTEMPTS
    return is_tried and chunk.total > 1 and chunk.done < chunk.total


def _do(chunk: RunChunk, lease: ChunkLease, heartbeat: Heartbeat) -> None:
    from fusion.build import full_disk_told
    from fusion.pool import share_cores
    from fusion.stages.harmonise import case_works, harmonise_cases

    build = build_of(chunk.run)
    come_up_to(chunk.run, build, chunk.stage, heartbeat.check)
    progress = ChunkProgress(lease, heartbeat, chunk)
    works = case_works(build, progress, [number for number, _ in chunk.cases])
    if not chunk.error and chunk.total == 1 and chunk.attempts > settings.RUN_MAX_ATTEMPTS:
        # As a reading process that ends: one bad case never stops a build.
        detail = f"its worker ended {settings.RUN_MAX_ATTEMPTS} times while it was read"
        data = works[0].data
        progress.case(
            data["source"], data["name"], "excluded", stage=chunk.stage,
            code="unreadable", detail=detail,
        )  # fmt: skip
        progress.advance(1)
    else:
        # The next chunk is likely to follow: its processes are kept.
        _, children = share_cores(build.threads, build.children, len(works))
        with full_disk_told(chunk.stage, build):
            harmonise_cases(build, works, progress, keep_children=children)
    with transaction.atomic():
        progress.end()
        if lease.done():
            transaction.on_commit(lambda: enqueue(chunk.run_id, chunk.stage), robust=True)


def requeue_lost_chunks(patience_seconds: float | None = None) -> int:
    """Send a new message for each chunk that waits without one; returns their number.

    Chunks that somebody took and did not end have none. Of those that were never taken, messages
    may wait behind other work: some are sent again when nobody has worked on the run for long.

    Args:
        patience_seconds: how long a message may be under way; None: as long as a lease.
    """
    free_chunks_of_dead_workers()
    patience = settings.RUN_LEASE_SECONDS if patience_seconds is None else patience_seconds
    waiting = RunChunk.objects.claimable().order_by("run", "number")
    dropped = waiting.filter(Q(enqueued_at=None) | Q(lease_until__lt=now()))
    overdue = waiting.filter(lease_until=None, enqueued_at__lte=now() - timedelta(seconds=patience))
    busy = RunChunk.objects.in_work().filter(lease_until__gte=now())
    overdue = overdue.exclude(run__in=busy.values("run"))
    sent: dict[uuid.UUID, int] = {}
    for found, most in ((dropped, None), (overdue, _RESENT)):
        for pk, run_id, stage in list(found.values_list("pk", "run_id", "stage")):
            if most is not None and sent.get(run_id, 0) >= most:
                continue
            if found.filter(pk=pk).update(enqueued_at=now(), lease_until=None, worker=""):
                enqueue_chunks(run_id, stage, 1)
                sent[run_id] = sent.get(run_id, 0) + 1
    total = sum(sent.values())
    if total:
        logger.info("requeued %d waiting chunks", total)
    return total


def free_chunks_of_dead_workers(run_id: uuid.UUID | None = None) -> int:
    """End the leases whose process ran on this machine and is gone."""
    held = RunChunk.objects.in_work().filter(state=RunChunk.State.WAITING)
    held = held.exclude(lease_until=None)
    if run_id is not None:
        held = held.filter(run_id=run_id)
    freed = 0
    for pk, worker in held.values_list("pk", "worker"):
        if is_gone(worker):
            logger.warning("chunk %s: its worker %s is gone", pk, worker)
            mine = RunChunk.objects.held_by(worker).filter(pk=pk)
            freed += mine.update(worker="", lease_until=None, enqueued_at=None)
    return freed


def needed_results() -> set[str]:
    """Keys of the results that unfinished runs ask for."""
    chunks = RunChunk.objects.filter(run__in=Run.objects.unfinished())
    return {key for cases in chunks.values_list("cases", flat=True) for _, key in cases}
