"""Recipe to bundle, stage by stage. Each stage finds its finished work again in the work folder."""

from __future__ import annotations

import errno
import fcntl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from fusion.errors import BuildError, CancelledError
from fusion.plan import Plan
from fusion.report.write import FOLDER
from fusion.stages import (
    acquire,
    baseline,
    deduplicate,
    harmonise,
    ingest,
    package,
    report,
    split,
    verify,
)
from fusion.stages.base import Build, Progress

__all__ = [
    "OUTPUTS",
    "STAGES",
    "Build",
    "CancelledError",
    "Progress",
    "full_disk_told",
    "needs",
    "run_all",
    "run_stage",
]

_RUN: dict[str, Callable[[Build, Progress], None]] = {
    "acquire": acquire.run,
    "ingest": ingest.run,
    "harmonise": harmonise.run,
    "deduplicate": deduplicate.run,
    "split": split.run,
    "report": report.run,
    "package": package.run,
    "baseline": baseline.run,
    "verify": verify.run,
}
STAGES = tuple(_RUN)
#: What each stage leaves in the work folder for later ones, besides the cases themselves.
OUTPUTS: Mapping[str, tuple[str, ...]] = {
    "acquire": ("lock.json",),
    "ingest": ("cases.json",),
    "harmonise": (),
    "deduplicate": ("dedup.json",),
    "split": (),
    "report": ("report.json", FOLDER),
    "package": (),
    "baseline": ("baseline.json", "final/baseline"),
    "verify": (),
}
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def run_all(build: Build, progress: Progress) -> None:
    """Every stage in order, in this process; alone in the work folder.

    Raises:
        BuildError: busy, when another process builds in the same work folder.
    """
    build.workdir.mkdir(parents=True, exist_ok=True)
    with (build.workdir / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BuildError("busy", f"another build works in {build.workdir.name}") from error
        for name in STAGES:
            run_stage(name, build, progress)


def run_stage(name: str, build: Build, progress: Progress) -> None:
    """Run one stage; running it again is safe and quick.

    Raises:
        BuildError: the build cannot go on; disk_full leaves what is finished for another try.
        CancelledError: the user asked.
    """
    with full_disk_told(name, build):
        build.workdir.mkdir(parents=True, exist_ok=True)
        _RUN[name](build, progress)


@contextmanager
def full_disk_told(name: str, build: Build) -> Iterator[None]:
    """A disk without room, found anywhere in stage `name`, becomes a BuildError: disk_full."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_SPACE:
            raise
        where = Path(error.filename).name if error.filename else build.workdir.name
        raise BuildError("disk_full", f"stage {name}: {where}: {error.strerror}") from error


def needs(name: str, plan: Plan) -> tuple[str, ...]:
    """The stages whose results a stage builds on, in order."""
    if name != "baseline":
        return STAGES[: STAGES.index(name)]
    return () if plan.baseline["tier"] == "none" else STAGES[: STAGES.index("package")]
