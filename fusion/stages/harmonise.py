"""Stage harmonise: each case on its own, in a process of its own; finished ones are found again."""

from __future__ import annotations

import errno
import json
import shutil
import traceback
from collections import Counter, deque
from collections.abc import Collection, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fusion.bundle.text import write_json
from fusion.cases import FoundCase
from fusion.errors import BuildError
from fusion.harmonise import case_id, harmonise_case, save_case
from fusion.imaging.errors import CaseError
from fusion.imaging.parallel import set_threads
from fusion.plan import Plan
from fusion.pool import in_children, share_cores
from fusion.results import PASSING, case_keys, plan_for_cases, source_for_cases
from fusion.stages.base import Build, Progress, exclude
from fusion.stages.sources import case_of, described, paths_of, roots_of
from fusion.tables import version_of

LARGEST_EXCLUDED_SHARE = 0.2
ON_PURPOSE = frozenset({"hidden", "label_ignored"})  # the source description says so
_STORE_THREADS = 4
#: What came of a case: its key, and why it is excluded ({code, detail}) or None.
Verdict = Mapping[str, Any]


def run(build: Build, progress: Progress) -> None:
    """All cases on this host; the workers share the same steps among hosts."""
    works = case_works(build, progress)
    progress.stage("harmonise", len(works))
    finish_harmonise(build, harmonise_cases(build, works, progress))


@dataclass(frozen=True)
class CaseWork:
    """One case to harmonise: its place in cases.json, and the key of its result."""

    number: int
    data: Mapping[str, Any]
    id: str
    key: str
    size_bytes: int


def case_works(
    build: Build, progress: Progress, numbers: Collection[int] | None = None
) -> list[CaseWork]:
    """Ingested cases (all, or some), with the key that files and plan give each."""
    roots, lock = roots_of(build, progress), build.workdir / "lock.json"
    locked = _locked(lock, version_of(lock))
    listed = build.workdir / "cases.json"
    cases = _ingested(listed, version_of(listed))
    plan, sources = plan_for_cases(build.plan), {one["id"]: one for one in build.plan.sources}
    key_of = {i: case_keys(plan, source_for_cases(one)) for i, one in sources.items()}
    tables = {i: described(one).tables_of_cases() for i, one in sources.items()}
    works = []
    for number in range(len(cases)) if numbers is None else sorted(numbers):
        progress.check()
        data = cases[number]
        source, case = data["source"], case_of(data)
        paths = {*paths_of(case, roots[source]), *tables[source]}
        files = [locked[source][path] for path in sorted(paths) if path in locked[source]]
        key = key_of[source](case, {file["path"]: file["sha256"] for file in files})
        own, size = case_id(source, case.name, build.plan.seed), sum(f["bytes"] for f in files)
        works.append(CaseWork(number, data, own, key, size))
    return works


def harmonise_cases(
    build: Build, works: Sequence[CaseWork], progress: Progress, keep_children: int = 0
) -> list[dict[str, str]]:
    """Each case on its own; what was done before, here or elsewhere, is not done again.

    Returns:
        The excluded ones, as rows {source, name, stage, code, detail}.

    Raises:
        BuildError: the fault is not one case's.
    """
    excluded: list[dict[str, str]] = []
    (build.workdir / "making").mkdir(parents=True, exist_ok=True)
    with (
        TemporaryDirectory(dir=build.workdir / "making", ignore_cleanup_errors=True) as scratch,
        ThreadPoolExecutor(_STORE_THREADS) as store,
    ):
        making = Path(scratch)
        known = list(store.map(partial(_find_result, build, making), works))
        progress.check()
        waiting = [work for work, one in zip(works, known, strict=True) if one is None]
        made = _made(build, making, waiting, progress, keep_children)
        ahead: deque[tuple[CaseWork, Future[Verdict]]] = deque()
        told = 0
        with closing(made):
            for work, one in zip(works, known, strict=True):
                progress.check()
                answer = next(made) if one is None else None
                ahead.append((work, store.submit(_settle, build, making, work, one, answer)))
                while len(ahead) > _STORE_THREADS or (ahead and len(ahead) + told == len(works)):
                    before, verdict = ahead.popleft()
                    told += 1
                    excluded += _told(progress, before, verdict.result())
                    progress.advance(told)
            next(made, None)
    return excluded


def _find_result(build: Build, making: Path, work: CaseWork) -> Verdict | None:
    """What came of the case before, its files in their place; None when it must be made."""
    place = build.workdir / "cases" / work.id
    if (verdict := _verdict_in(place, work.key)) is not None:
        return verdict
    folder = making / work.id
    if build.results is None or not build.results.fetch(work.key, folder):
        return None
    if (case := folder / "case.json").is_file():
        row = json.loads(case.read_text("utf-8"))
        if row["id"] != work.id:  # made with another seed
            save_case(folder, row | {"id": work.id})
    _put_in_place(folder, place, work.key)
    return _verdict_in(place, work.key)


def _verdict_in(folder: Path, key: str) -> Verdict | None:
    try:
        found: Verdict = json.loads((folder / "verdict.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return found if found.get("key") == key else None


def _put_in_place(folder: Path, place: Path, key: str) -> None:
    """Rename a finished case; one that somebody else finished meanwhile is the same."""
    place.parent.mkdir(parents=True, exist_ok=True)
    for _ in range(2):
        try:
            folder.rename(place)
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                raise
        if _verdict_in(place, key) is not None:
            return
        shutil.rmtree(place, ignore_errors=True)  # of an earlier plan


def _made(
    build: Build, making: Path, works: Sequence[CaseWork], progress: Progress, keep: int
) -> Generator[Any]:
    """What each case's process answered, in order."""
    plan, roots = plan_for_cases(build.plan), roots_of(build, progress)
    sources = {one["id"]: source_for_cases(one) for one in build.plan.sources}
    lock = build.workdir / "lock.json"
    threads, children = share_cores(build.threads, build.children, len(works))
    jobs = [
        (
            *(plan, sources[work.data["source"]], roots[work.data["source"]]),
            *(case_of(work.data), making / work.id, lock, threads),
        )
        for work in works
    ]
    return in_children(harmonise_one, jobs, children, progress.check, keep)


def _settle(
    build: Build, making: Path, work: CaseWork, known: Verdict | None, answer: Any
) -> Verdict:
    """Bring a case that was made to its place and to the store; what was known stays."""
    if known is not None:
        return known
    folder, excluded = making / work.id, None
    if isinstance(answer, CaseError):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        excluded = {"code": answer.code, "detail": answer.message}
    elif answer:
        raise BuildError(*answer)
    verdict = {"key": work.key, "excluded": excluded}
    write_json(folder / "verdict.json", verdict)
    if build.results and (excluded is None or excluded["code"] not in PASSING):
        build.results.keep(work.key, folder)
    _put_in_place(folder, build.workdir / "cases" / work.id, work.key)
    return verdict


def _told(progress: Progress, work: CaseWork, verdict: Verdict) -> list[dict[str, str]]:
    source, name, why = work.data["source"], work.data["name"], verdict["excluded"]
    if why is None:
        progress.case(source, name, "used", stage="harmonise")
        return []
    return [exclude(progress, (source, name), "harmonise", why["code"], why["detail"])]


def finish_harmonise(build: Build, excluded: list[dict[str, str]]) -> None:
    """Note the excluded cases, in their order.

    Raises:
        BuildError: source_failed, when they are too many of one source.
    """
    build.save("excluded.json", excluded)
    _check_shares(build, excluded)


def _check_shares(build: Build, excluded: list[dict[str, str]]) -> None:
    """More than a fifth of a source excluded: something is wrong with all of it."""
    ingested = build.load("cases.json")
    total = Counter(c["source"] for c in [*ingested["cases"], *ingested["excluded"]])
    out: dict[str, list[dict[str, str]]] = {}
    for row in [*ingested["excluded"], *excluded]:
        if row["code"] not in ON_PURPOSE:
            out.setdefault(row["source"], []).append(row)
    for source, rows in out.items():
        if len(rows) > LARGEST_EXCLUDED_SHARE * total[source]:
            examples = "; ".join(f"{r['name']}: {r['code']}: {r['detail']}" for r in rows[:3])
            raise BuildError(
                "source_failed",
                f"source {source}: {len(rows)} of {total[source]} cases cannot be used (limit "
                f"{LARGEST_EXCLUDED_SHARE:.0%}): {examples}",
            )


def harmonise_one(
    plan: Plan,
    source: Mapping[str, Any],
    root: Path,
    case: FoundCase,
    folder: Path,
    lock: Path,
    threads: int,
) -> list[str] | None:
    """One case in this process, on so many threads; the code and text of a BuildError.

    Raises:
        CaseError: the case is excluded.
    """
    set_threads(threads)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        files = _locked(lock, version_of(lock))[source["id"]]
        locked = {path: file["sha256"] for path, file in files.items()}
        save_case(folder, harmonise_case(plan, source, root, case, folder, locked))
    except BuildError as error:
        return [error.code, str(error)]
    except (CaseError, OSError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - a fault of ours must not drop data
        where = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(where.filename).name}:{where.lineno}"
        what = f"{type(error).__name__}: {error} ({place})"
        return ["internal_error", f"source {source['id']}: {case.name}: {what}"[:2000]]
    return None


@lru_cache(maxsize=1)
def _locked(lock: Path, _: tuple[int, int]) -> dict[str, dict[str, Any]]:
    """Each file of each source, as acquired."""
    sources = json.loads(lock.read_text("utf-8"))["sources"]
    return {i: {file["path"]: file for file in one["files"]} for i, one in sources.items()}


@lru_cache(maxsize=1)
def _ingested(listed: Path, _: tuple[int, int]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(listed.read_text("utf-8"))["cases"]
    return found
