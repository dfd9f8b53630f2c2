"""The work folder of a run on this host, brought to where the run stands."""

from __future__ import annotations

import fcntl
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from django.conf import settings

from fusion.recipe_check import check_recipe
from workers.credentials import rules_of_run
from workers.models import Run, RunChunk
from workers.results import StageFiles, case_results, shared_storage

if TYPE_CHECKING:
    from fusion.build import Build, Progress
    from fusion.stages.harmonise import CaseWork

_POLL_SECONDS = 0.2
#: Stages whose work lies in more than the files that other hosts get.
_REPEATED = frozenset({"split", "package"})


def build_of(run: Run) -> Build:
    """The build of a run in its folder on this host."""
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
        results=case_results(),
        device=settings.DEVICE,
        threads=settings.THREADS,
        children=settings.HARMONISE_WORKERS,
        rules=rules_of_run(run),
    )


def remove_folder(run: Run) -> None:
    """Nothing half-written stays behind an ended run."""
    shutil.rmtree(run.folder, ignore_errors=True)


class Quiet:
    """A fusion.build.Progress that tells nothing: what is repeated here was told before."""

    def __init__(self, check: Callable[[], None]) -> None:
        self.check = check

    def stage(self, name: str, total: int) -> None: ...

    def advance(self, done: int) -> None: ...

    def case(
        self, source: str, name: str, state: str, *, stage: str, code: str = "", detail: str = ""
    ) -> None: ...


def is_done_here(run: Run, stage: str) -> bool:
    """This host has what the stage makes."""
    return _mark(run, stage).exists()


def close_stage(run: Run, build: Build, stage: str) -> None:
    """Note that the stage is done here, and give other hosts what it wrote."""
    from fusion.build import OUTPUTS

    shared = shared_storage()
    if shared and OUTPUTS[stage]:
        StageFiles(shared, str(run.pk)).save(stage, build.workdir, OUTPUTS[stage])
    _mark(run, stage).touch()


def come_up_to(run: Run, build: Build, stage: str, check: Callable[[], None]) -> None:
    """Have on this host what `stage` builds on: found here, fetched, or made again.

    Raises:
        BuildError: it cannot be made here.
    """
    from fusion.build import needs, run_stage

    with _alone(run, check):
        for name in needs(stage, build.plan):
            if is_done_here(run, name):
                continue
            if name == "harmonise":
                gather(run, build, Quiet(check))
            elif not _fetched(run, build, name):
                run_stage(name, build, Quiet(check))
            _mark(run, name).touch()


def gather(run: Run, build: Build, progress: Progress) -> None:
    """Bring the cases that chunks did, wherever that was, together on this host.

    Raises:
        BuildError: source_failed, when too many of a source are excluded.
    """
    from fusion.stages.harmonise import case_works, finish_harmonise, harmonise_cases

    rows = [
        row
        for chunk in RunChunk.objects.filter(run=run, stage="harmonise")
        for row in chunk.excluded
    ]
    why = {(row["source"], row["name"]): row for row in rows}
    works = case_works(build, progress)
    used = [work for work in works if _name(work) not in why]
    # Nearly all are found; one that is gone from the stores is made again.
    for row in harmonise_cases(build, used, Quiet(progress.check)):
        why[row["source"], row["name"]] = row
    finish_harmonise(build, [why[_name(work)] for work in works if _name(work) in why])


def _name(work: CaseWork) -> tuple[str, str]:
    return work.data["source"], work.data["name"]


def _fetched(run: Run, build: Build, stage: str) -> bool:
    shared = shared_storage()
    if shared is None or stage in _REPEATED:
        return False
    return StageFiles(shared, str(run.pk)).fetch(stage, build.workdir)


def _mark(run: Run, stage: str) -> Path:
    return run.folder / f"{stage}.done"


@contextmanager
def _alone(run: Run, check: Callable[[], None]) -> Iterator[None]:
    """One process of this host at a time brings the folder up to a stage."""
    run.folder.mkdir(parents=True, exist_ok=True)
    with (run.folder / "lock").open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                check()
                time.sleep(_POLL_SECONDS)
        yield
