"""A stage in chunks: what workers on one or several hosts do with its rows. Real cases."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from django.conf import settings as configured
from django.utils.timezone import now
from PIL import Image

from fusion.recipe_files import example_recipes, load_recipe
from tests.fusion.test_real_cases import made_source
from tests.workers.conftest import bring
from workers.chunks import UNIT_BYTES, cut, needed_results, requeue_lost_chunks, work_on_chunk
from workers.lease import ChunkLease, Heartbeat, LeaseLostError
from workers.models import Run, RunChunk
from workers.progress import ChunkProgress
from workers.runner import work_on
from workers.submit import cancel_run, pause_run, resume_run, retry_run
from workers.watch import sweep_results

MakeRun = Callable[..., Run]
pytestmark = pytest.mark.django_db(transaction=True)
ELSEWHERE = "elsewhere/1/1/1/x"


@pytest.fixture(autouse=True)
def host(settings: Any, tmp_path: Path) -> Callable[[str], None]:
    """Goes over to another host: its own folders, the same database. The first is `a`."""
    settings.DATA_ROOT, settings.CHUNK_CASES = tmp_path / "data", 1

    def go(name: str) -> None:
        settings.STATE_DIR = tmp_path / name
        settings.WORK_DIR = tmp_path / name / "work"
        settings.RESULTS_DIR = tmp_path / name / "results"
        settings.BUNDLE_DIR = tmp_path / name / "bundles"
        settings.STATE_DIR.mkdir(exist_ok=True)

    go("a")
    return go


@pytest.fixture
def shared(settings: Any, tmp_path: Path) -> Path:
    """A storage that all hosts see."""
    store = "django.core.files.storage.FileSystemStorage"
    work = {"BACKEND": store, "OPTIONS": {"location": tmp_path / "shared"}}
    settings.STORAGES = {**configured.STORAGES, "work": work}
    return tmp_path / "shared"


@pytest.fixture
def run(make_run: MakeRun, tmp_path: Path) -> Run:
    """A run of four small cases, each with a chunk of its own, none of them done."""
    recipe = load_recipe(example_recipes()["retinal-vessels"]) | {"baseline": {"tier": "none"}}
    made = make_run(recipe=recipe | made_source(tmp_path / "data", (24, 31)))
    for number, path in enumerate(sorted(tmp_path.glob("data/made/images/*.png"))):
        noise = np.random.default_rng(number).integers(0, 255, (24, 31, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path)
    bring(made, "harmonise")
    work_on(made.pk, "harmonise")
    made.refresh_from_db()
    return made


def stage_of(run: Run) -> tuple[str, int, int]:
    row = run.stages.get(name="harmonise")
    return row.state, row.done, row.total


def test_a_stage_is_cut_once_and_its_run_waits_for_the_chunks(run: Run):
    assert (run.chunks_open, run.chunks.count(), run.worker) == (4, 4, "")
    assert stage_of(run) == ("running", 0, 4)

    work_on(run.pk, "harmonise")

    run.refresh_from_db()
    assert (run.chunks_open, run.chunks.count(), run.stage) == (4, 4, "harmonise")


def test_the_chunk_that_ends_last_moves_the_run_on_once(run: Run):
    for left in (3, 2, 1, 0):
        before = run.enqueued_at
        work_on_chunk(run.pk, "harmonise")
        run.refresh_from_db()
        assert run.chunks_open == left
        assert stage_of(run) == ("running", 4 - left, 4)
        assert (run.enqueued_at > before) == (left == 0)

    work_on_chunk(run.pk, "harmonise")  # a message too many
    work_on(run.pk, "harmonise")

    run.refresh_from_db()
    assert (run.stage, run.chunks_open) == ("deduplicate", 0)
    assert stage_of(run) == ("done", 4, 4)
    assert set(run.cases.values_list("state", "stage")) == {("used", "harmonise")}


@pytest.mark.parametrize("sees", ["a shared storage", "nothing but the database"])
def test_two_hosts_do_one_stage_and_make_the_same_bundle(
    make_run: MakeRun, run: Run, host, request, sees
):
    if sees == "a shared storage":
        request.getfixturevalue("shared")
        # The first stages were done before the storage was there: as on a host of its own.
    for name in ("a", "b", "a", "b"):
        host(name)
        work_on_chunk(run.pk, "harmonise")
    work_on(run.pk, "harmonise")
    for stage, name in zip(
        ("deduplicate", "split", "report", "package", "baseline", "verify"), "abbaba", strict=True
    ):
        host(name)
        work_on(run.pk, stage)
    run.refresh_from_db()
    assert run.state == "succeeded", run.error

    host("alone")
    alone = make_run(recipe=run.recipe)
    bring(alone, "verify")
    work_on(alone.pk, "verify")

    bundles = sorted(run.bundle.files, key=lambda file: file["path"])
    alone.refresh_from_db()
    assert bundles == sorted(alone.bundle.files, key=lambda file: file["path"])


def test_a_worker_that_was_cut_off_writes_nothing_when_it_comes_back(run: Run):
    first = run.chunks.first()
    assert first is not None
    stale = RunChunk.objects.claim(first.pk, ELSEWHERE)
    assert stale is not None
    lease = ChunkLease(stale.pk, run.pk, ELSEWHERE)
    run.chunks.filter(pk=stale.pk).update(lease_until=now() - timedelta(seconds=1))
    work_on_chunk(run.pk, "harmonise")  # its lease ran out: another one does the chunk

    progress = ChunkProgress(lease, Heartbeat(lease), stale)
    with pytest.raises(LeaseLostError):
        progress.case("made", "0", "excluded", stage="harmonise", code="unreadable")
    with pytest.raises(LeaseLostError):
        progress.advance(1)
    with pytest.raises(LeaseLostError):
        lease.done()

    run.refresh_from_db()
    assert run.chunks_open == 3
    assert stage_of(run) == ("running", 1, 4)
    assert not run.cases.filter(state="excluded").exists()


def test_a_chunk_that_nobody_ended_is_found_again_and_a_message_is_not_sent_twice(run: Run):
    first = run.chunks.first()
    assert first is not None
    RunChunk.objects.claim(first.pk, ELSEWHERE)

    assert requeue_lost_chunks() == 0
    run.chunks.filter(pk=first.pk).update(lease_until=now() - timedelta(seconds=1))
    assert requeue_lost_chunks() == 1
    assert requeue_lost_chunks() == 0

    run.chunks.update(enqueued_at=now() - timedelta(hours=1))
    assert requeue_lost_chunks() == 4
    assert requeue_lost_chunks() == 0


def test_a_chunk_that_kills_its_workers_is_split_and_the_case_that_does_is_named(
    run: Run, settings: Any
):
    settings.CHUNK_CASES = 0
    run.chunks.all().delete()
    Run.objects.filter(pk=run.pk).update(chunks_open=0)
    work_on(run.pk, "harmonise")
    whole = run.chunks.get()
    assert whole.total == 4
    run.chunks.update(attempts=settings.CHUNK_MAX_ATTEMPTS)

    work_on_chunk(run.pk, "harmonise")

    run.refresh_from_db()
    parts = list(run.chunks.filter(state="waiting"))
    assert run.chunks.get(pk=whole.pk).state == "split"
    assert [part.total for part in parts] == [1] * 4
    assert run.chunks_open == 4

    run.chunks.filter(pk=parts[2].pk).update(attempts=settings.RUN_MAX_ATTEMPTS)
    for _ in parts:
        work_on_chunk(run.pk, "harmonise")
    case = run.cases.get(state="excluded")
    assert (case.name, case.code) == ("2", "unreadable")
    assert "its worker ended" in case.detail
    assert stage_of(run) == ("running", 4, 4)


def test_a_fault_that_stays_ends_the_run_with_its_reason_and_one_that_may_pass_waits(
    run: Run, settings: Any, tmp_path: Path
):
    first, second = run.chunks.all()[:2]
    (tmp_path / "data" / "made").rename(tmp_path / "data" / "away")
    run.chunks.filter(pk=first.pk).update(
        attempts=settings.RUN_MAX_ATTEMPTS, error_code="may_pass", error="ConnectionError: gone"
    )

    work_on_chunk(run.pk, "harmonise")

    run.refresh_from_db()
    assert (run.state, run.error_code) == ("failed", "too_many_attempts")
    assert "ConnectionError: gone" in run.error
    assert run.stages.get(name="harmonise").state == "failed"
    work_on_chunk(run.pk, "harmonise")
    second.refresh_from_db()
    assert second.attempts == 0  # nobody takes what is left of an ended run


def test_a_cancelled_run_ends_at_once_and_its_chunks_hear_of_it(run: Run):
    first = run.chunks.first()
    assert first is not None
    held = RunChunk.objects.claim(first.pk, ELSEWHERE)
    assert held is not None
    lease = ChunkLease(held.pk, run.pk, ELSEWHERE)
    assert lease.wishes() == (False, False)

    cancel_run(run)

    assert run.state == "cancelled"
    assert lease.wishes() == (True, False)
    work_on_chunk(run.pk, "harmonise")
    assert not run.chunks.exclude(pk=held.pk).exclude(attempts=0).exists()


def test_a_paused_run_gives_out_no_chunk_and_goes_on_from_the_finished_ones(run: Run):
    work_on_chunk(run.pk, "harmonise")
    pause_run(run)
    assert run.state == "paused"
    work_on_chunk(run.pk, "harmonise")
    assert stage_of(run)[1] == 1

    resume_run(run)
    bring(run, "deduplicate")

    run.refresh_from_db()
    assert (run.stage, run.chunks.filter(state="done").count()) == ("deduplicate", 4)


def test_a_failed_run_that_is_retried_does_only_the_chunks_that_are_left(run: Run):
    work_on_chunk(run.pk, "harmonise")
    chunk = run.chunks.filter(state="waiting").first()
    assert chunk is not None
    held = RunChunk.objects.claim(chunk.pk, ELSEWHERE)
    assert held is not None
    ChunkLease(held.pk, run.pk, ELSEWHERE).fail("internal_error", "of this worker alone")
    Run.objects.filter(pk=run.pk).update(idempotency_key=None)
    run.refresh_from_db()
    assert run.state == "failed"

    retry_run(run)
    work_on(run.pk, "harmonise")

    run.refresh_from_db()
    assert (run.chunks_open, run.state) == (3, "running")
    bring(run, "deduplicate")
    run.refresh_from_db()
    assert (run.stage, stage_of(run)) == ("deduplicate", ("done", 4, 4))


def test_results_that_an_unfinished_run_needs_are_not_swept(run: Run, settings: Any):
    settings.RESULTS_BYTES = 1
    bring_all = [work_on_chunk(run.pk, "harmonise") for _ in range(4)]
    places = list(Path(settings.RESULTS_DIR).glob("??/*"))
    assert len(bring_all) == len(places) == len(needed_results())

    assert sweep_results() == 0
    Run.objects.filter(pk=run.pk).update(state="failed")
    assert sweep_results() == 4
    assert not any(place.exists() for place in places)


@pytest.mark.parametrize(
    ("sizes", "children", "cases", "expected"),
    [
        ([0] * 1000, 1, 0, [512, 488]),
        ([0] * 1000, 2, 0, [1000]),
        ([UNIT_BYTES * 1023] * 5, 2, 0, [2, 2, 1]),
        ([UNIT_BYTES * 127] * 10, 1, 0, [4, 4, 2]),
        ([0] * 5, 8, 2, [2, 2, 1]),
        ([], 4, 0, []),
    ],
)
def test_chunks_hold_equal_work_and_keep_all_processes_busy(sizes, children, cases, expected):
    works = [SimpleNamespace(size_bytes=size) for size in sizes]

    assert [len(chunk) for chunk in cut(works, children, cases)] == expected
