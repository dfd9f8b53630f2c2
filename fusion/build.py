"""Recipe to bundle, stage by stage. Each stage finds its finished work again in the work folder."""

from __future__ import annotations

import errno
import fcntl
import json
import platform
import shutil
import traceback
from collections import Counter, deque
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import numpy as np
from pydantic import ValidationError

from fusion.bundle.content import file_of
from fusion.bundle.manifest import manifest_of
from fusion.bundle.names import BASELINE
from fusion.bundle.text import write_json
from fusion.bundle.verify import verify_bundle
from fusion.bundle.views import VIEWS, make_view
from fusion.bundle.write import write_bundle
from fusion.cases import FoundCase
from fusion.classes import confounded
from fusion.dedup import (
    THRESHOLDS,
    Access,
    copy_rank,
    find_doubts,
    find_duplicates,
    overlap_findings,
)
from fusion.errors import BuildError, CancelledError
from fusion.found import as_case, found_cases, from_bytes
from fusion.harmonise import (
    SAMPLE_FILE,
    THUMB_FILE,
    add_label_layer,
    case_id,
    harmonise_case,
    read_original,
    save_case,
)
from fusion.imaging.errors import CaseError
from fusion.imaging.geometry import to_ras
from fusion.imaging.hashes import file_sha256, read_thumb
from fusion.imaging.io import image_parts, read_image
from fusion.imaging.io.dicom_header import is_dicom, names_in
from fusion.imaging.parallel import set_threads
from fusion.imaging.volume import Volume
from fusion.norm import fit_norms
from fusion.plan import Plan, findings_of
from fusion.pool import in_children, share_cores
from fusion.recipe import place_of
from fusion.report.write import FOLDER, write_report
from fusion.results import PASSING, Results, case_keys, plan_for_cases, source_for_cases
from fusion.source import SourceDescription
from fusion.sources import acquire
from fusion.sources.safety import FetchRules
from fusion.splits import Rules, holdout, kfold, leave_one_source_out
from fusion.tables import version_of

__all__ = ["STAGES", "Build", "CancelledError", "Progress", "run_all", "run_stage", "summarise"]

STAGES = (
    "acquire",
    "ingest",
    "harmonise",
    "deduplicate",
    "split",
    "report",
    "package",
    "baseline",
    "verify",
)
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
LARGEST_EXCLUDED_SHARE = 0.2
ON_PURPOSE = frozenset({"hidden", "label_ignored"})  # the source description says so
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Progress(Protocol):
    """Who watches a build: a terminal, or rows in the database."""

    def stage(self, name: str, total: int) -> None:
        """A stage begins; `total` units lie ahead."""

    def advance(self, done: int) -> None:
        """So many units of the stage are done."""

    def case(
        self, source: str, name: str, state: str, *, stage: str, code: str = "", detail: str = ""
    ) -> None:
        """A case is pending, used or excluded."""

    def check(self) -> None:
        """Raise CancelledError when the user asked to stop."""


@dataclass(frozen=True)
class Build:
    """One build: what, from where, and where to. `out` appears by renaming, whole or not at all."""

    plan: Plan
    data_root: Path
    workdir: Path
    out: Path
    cache: Path | None = None
    #: Where finished cases are found again and kept; None: in the work folder alone.
    results: Results | None = None
    device: str = "auto"
    threads: int = 0
    #: Processes that harmonise cases beside each other; 0: as cores and memory allow.
    children: int = 0
    #: What may be fetched, and with whose credentials; None: the operator's settings.
    rules: FetchRules | None = None

    @property
    def partial(self) -> Path:
        return self.out.with_name(self.out.name + ".partial")

    def locked_plan(self) -> Plan:
        """The plan bound to the source files that were found."""
        lock = self.workdir / "lock.json"
        return self.plan.with_lock(file_sha256(lock))

    def load(self, name: str) -> Any:
        return json.loads((self.workdir / name).read_text("utf-8"))

    def save(self, name: str, value: Any) -> None:
        write_json(self.workdir / name, value)


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
        _STAGES[name](build, progress)


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


def _roots(build: Build, progress: Progress) -> dict[str, Path]:
    """Folder of each source: where acquisition left it, else (on another host) acquired again."""
    known = build.workdir / "roots.json"
    if known.is_file():
        roots = {i: Path(path) for i, path in build.load(known.name).items()}
        if all(root.is_dir() for root in roots.values()):
            return roots
    return _acquired_roots(build, progress)


def _acquired_roots(build: Build, progress: Progress) -> dict[str, Path]:
    cache = build.cache or build.workdir / "cache"
    roots = {}
    for source in build.plan.sources:
        place = place_of(source["location"])
        try:
            roots[source["id"]] = acquire(
                place,
                data_root=build.data_root,
                cache=cache,
                check=progress.check,
                rules=build.rules,
            )
        except BuildError as error:
            raise BuildError(error.code, f"source {source['id']}: {error}") from error
        progress.check()
    return roots


def _acquire(build: Build, progress: Progress) -> None:
    """Fetch, list and hash the files of every source."""
    progress.stage("acquire", 100)
    share = 100 / len(build.plan.sources)
    roots = _acquired_roots(build, progress)
    lock: dict[str, Any] = {}
    for number, source in enumerate(build.plan.sources):
        root, description = roots[source["id"]], _described(source)
        found, _ = _found(description, root, progress.check)
        used = sorted(_files_of(found, root, description))
        rows = _hashed(root, used, progress, number * share, share)
        if not found:
            arrays = (one.file for one in description.cases.arrays)
            pattern = description.cases.template() or ", ".join(dict.fromkeys(arrays))
            place = source["location"].get("path", root.name)
            raise BuildError(
                "source_failed",
                f"source {source['id']}: no file below {place!r} matches {pattern!r}",
            )
        lock[source["id"]] = {"location": source["location"], "files": rows}
        progress.advance(round((number + 1) * share))
    build.save("roots.json", {i: str(root) for i, root in roots.items()})
    build.save("lock.json", {"schema": "imaging-x/lock/1", "sources": lock})


def _hashed(
    root: Path, paths: Sequence[str], progress: Progress, before: float, share: float
) -> list[dict[str, Any]]:
    """Bytes and SHA-256 of the files; `share` units of the stage, however large one file is."""
    sizes = {path: (root / path).stat().st_size for path in paths}
    total, read, rows = max(1, sum(sizes.values())), 0, []
    for path, size in sizes.items():

        def told(part: int, read: int = read) -> None:
            progress.check()
            progress.advance(int(before + share * min(1.0, (read + part) / total)))

        told(0)
        rows.append({"path": path, "bytes": size, "sha256": file_sha256(root / path, told)})
        read += size
    return rows


def _described(source: Mapping[str, Any]) -> SourceDescription:
    description = SourceDescription.model_validate(source["description"])
    return description.in_use(source["uses"], source["channels"])


def _found(
    description: SourceDescription, root: Path, check: Callable[[], None]
) -> tuple[list[FoundCase], list[dict[str, str]]]:
    """The cases of a source, and what was noticed in the tables that they are looked up in.

    Raises:
        BuildError: source_failed, when a table cannot be read.
    """
    paths = [p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()]
    job = (description.model_dump(mode="json", by_alias=True), root, paths)
    with closing(in_children(found_cases, [job], 1, check)) as answers:
        answer = next(answers)
        next(answers, None)
    if isinstance(answer, CaseError):
        raise BuildError("source_failed", f"{description.name}: {answer.message}")
    return from_bytes(answer)


def _paths_of(case: FoundCase, root: Path) -> set[str]:
    """The files of one case that are its own or that it shares with other cases, but no tables."""
    named = {case.image, *(path for files in case.layers for path in files)}
    named |= {path for path, _ in case.channels}
    if case.array:
        named |= {case.array.file, case.array.labels_file, case.array.masks_file}
    paths = set()
    for path in named - {""}:
        full = root / path
        parts = full.iterdir() if path.endswith("/") else image_parts(full)
        paths |= {p.relative_to(root).as_posix() for p in parts if p.is_file()}
    return paths


def _files_of(found: list[FoundCase], root: Path, description: SourceDescription) -> set[str]:
    paths = {path for case in found for path in _paths_of(case, root)}
    for one in description.cases.arrays if found else ():
        paths |= {file for file in one.files() if (root / file).is_file()}
    for table in description.tables() if found else ():
        if not (root / table).is_file():
            raise BuildError("source_failed", f"{description.name}: no table {table!r}")
        paths.add(table)
    return paths


def _ingest(build: Build, progress: Progress) -> None:
    """Files become cases; what lacks an image or a label is excluded with its code."""
    progress.stage("ingest", len(build.plan.sources))
    roots = _roots(build, progress)
    rows, excluded, noticed = [], [], []
    for done, source in enumerate(build.plan.sources, 1):
        found, findings = _found(_described(source), roots[source["id"]], progress.check)
        noticed += [{**row, "detail": f"{source['id']}: {row['detail']}"} for row in findings]
        for case in found:
            progress.check()
            if case.code:
                excluded.append(
                    _exclusion(source["id"], case.name, "ingest", case.code, case.detail)
                )
                _tell(progress, excluded[-1])
            else:
                rows.append({"source": source["id"], **asdict(case)})
                progress.case(source["id"], case.name, "pending", stage="ingest")
        progress.advance(done)
    build.save("cases.json", {"cases": rows, "excluded": excluded, "findings": noticed})


def _exclusion(source: str, name: str, stage: str, code: str, detail: str) -> dict[str, str]:
    return {"source": source, "name": name, "stage": stage, "code": code, "detail": detail}


def _tell(progress: Progress, row: Mapping[str, str]) -> None:
    progress.case(
        row["source"],
        row["name"],
        "excluded",
        stage=row["stage"],
        code=row["code"],
        detail=row["detail"],
    )


def _harmonise(build: Build, progress: Progress) -> None:
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
    roots, lock = _roots(build, progress), build.workdir / "lock.json"
    locked = _locked(lock, version_of(lock))
    listed = build.workdir / "cases.json"
    cases = _ingested(listed, version_of(listed))
    plan, sources = plan_for_cases(build.plan), {one["id"]: one for one in build.plan.sources}
    key_of = {i: case_keys(plan, source_for_cases(one)) for i, one in sources.items()}
    tables = {i: _described(one).tables_of_cases() for i, one in sources.items()}
    works = []
    for number in range(len(cases)) if numbers is None else sorted(numbers):
        progress.check()
        data = cases[number]
        source, case = data["source"], _as_case(data)
        paths = {*_paths_of(case, roots[source]), *tables[source]}
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


#: What came of a case: its key, and why it is excluded ({code, detail}) or None.
Verdict = Mapping[str, Any]
_STORE_THREADS = 4


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
    plan, roots = plan_for_cases(build.plan), _roots(build, progress)
    sources = {one["id"]: source_for_cases(one) for one in build.plan.sources}
    lock = build.workdir / "lock.json"
    threads, children = share_cores(build.threads, build.children, len(works))
    jobs = [
        (
            *(plan, sources[work.data["source"]], roots[work.data["source"]]),
            *(_as_case(work.data), making / work.id, lock, threads),
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
    row = _exclusion(source, name, "harmonise", why["code"], why["detail"])
    _tell(progress, row)
    return [row]


def finish_harmonise(build: Build, excluded: list[dict[str, str]]) -> None:
    """Note the excluded cases, in their order.

    Raises:
        BuildError: source_failed, when they are too many of one source.
    """
    build.save("excluded.json", excluded)
    _check_shares(build, excluded)


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


def _as_case(data: Mapping[str, Any]) -> FoundCase:
    return as_case({k: v for k, v in data.items() if k != "source"})


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


def _cases(build: Build) -> list[dict[str, Any]]:
    return [
        json.loads(path.read_text("utf-8"))
        for path in sorted((build.workdir / "cases").glob("*/case.json"))
    ]


def _deduplicate(build: Build, progress: Progress) -> None:
    cases = _cases(build)
    progress.stage("deduplicate", len(cases))
    accepted = set(build.plan.accept["unknown_subjects"])
    single = {
        s["id"]: f"all:{s['id']}"
        for s in build.plan.sources
        if not _described(s).cases.has_subjects and s["id"] not in accepted
    }
    rank = copy_rank(build.plan.sources, build.plan.overlaps)
    access = _access(build, cases, progress)
    found = find_duplicates(cases, single, access, rank=rank, concepts=build.plan.concept_ids())
    progress.check()
    if build.plan.overlap_plan == "refuse" and found.shared:
        pairs = "; ".join(f"{row['a']} and {row['b']}: {row['tiers']}" for row in found.shared)
        raise BuildError("overlap_found", f"overlap_plan is refuse, but images are shared: {pairs}")
    found.findings += overlap_findings(found.shared, build.plan.overlaps)
    excluded = []
    for case in cases:
        if case["id"] in found.excluded:
            detail = found.excluded[case["id"]]
            excluded.append(
                _exclusion(case["source"], case["name"], "deduplicate", "duplicate", detail)
            )
            _tell(progress, excluded[-1])
    build.save("dedup.json", {**asdict(found), "rows": excluded})
    progress.advance(len(cases))


def _access(build: Build, cases: list[dict[str, Any]], progress: Progress) -> Access:
    """Thumbnails, labels and original images of the work folder, read when they are asked for."""
    folder, rows = build.workdir / "cases", {case["id"]: case for case in cases}

    def thumb(case_id: str) -> Any:
        progress.check()
        return read_thumb(folder / case_id / THUMB_FILE, solid=len(rows[case_id]["shape"]) == 3)  # noqa: PLR2004

    def label(case_id: str) -> Any:
        progress.check()
        file = file_of(rows[case_id], "label")
        if file is None:
            return None
        found = read_image(folder / case_id / file["path"])
        return (to_ras(found)[0] if isinstance(found, Volume) else found).array

    @lru_cache(maxsize=4)
    def original(case_id: str) -> Any:
        progress.check()
        row = rows[case_id]
        source = next(s for s in build.plan.sources if s["id"] == row["source"])
        ingested = build.load("cases.json")["cases"]
        data = next(c for c in ingested if (c["source"], c["name"]) == (row["source"], row["name"]))
        root = _roots(build, progress)[source["id"]]
        description = _described(source).in_use(source["uses"], source["channels"])
        return read_original(description, root, _as_case(data))

    return Access(thumb, label, original)


def _split(build: Build, progress: Progress) -> None:
    """Write group and split into every case.json; cases left out lose theirs."""
    dedup = build.load("dedup.json")
    by_id = {c["id"]: c for c in _cases(build)}
    cases = [c for i, c in by_id.items() if i not in dedup["excluded"]]
    progress.stage("split", len(cases))
    for case in cases:
        case["group"] = dedup["group_of"][case["id"]]
    plan = build.plan
    made = (s["id"] for s in plan.sources if s["description"]["annotation"] == "pseudo")
    rules = Rules(frozenset(made), plan.official_val)
    if plan.protocol == "loso":
        found = leave_one_source_out(cases, [s["id"] for s in plan.sources], rules)
    elif plan.protocol == "kfold":
        found = kfold(cases, plan.seed, rules)
    else:
        found = holdout(cases, plan.splits, plan.seed, rules)
    split, notes, dropped = found.split, found.notes, found.dropped
    rows = [
        _exclusion(
            c["source"], c["name"], "split", "official_test_group", "its subject is official test"
        )
        for c in cases
        if c["id"] in dropped
    ]
    kept = [c | {"split": split[c["id"]]} for c in cases if c["id"] not in dropped]
    notes += _check_confounding(build, kept)
    notes += _reviewed(build, find_doubts(dedup["unresolved"], kept))
    norms = fit_norms(kept, lambda c: np.load(build.workdir / "cases" / c["id"] / SAMPLE_FILE))
    final = build.workdir / "final"
    shutil.rmtree(final, ignore_errors=True)
    for done, case in enumerate(kept, 1):
        progress.check()
        case["norm"] = norms.get(case["id"])
        if plan.overlap_plan == "keep_relabelled":
            for other in dedup["relabelled"].get(case["id"], []):
                case["files"] += add_label_layer(build.workdir / "cases", case, by_id[other])
        _link_case(build.workdir / "cases" / case["id"], final / "cases" / case["id"], case)
        progress.advance(done)
    build.save("split.json", {"notes": notes, "excluded": rows})
    for row in rows:
        _tell(progress, row)


def _check_confounding(build: Build, kept: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Findings for classes that one source alone turned out to have; not those that the plan names.

    Raises:
        BuildError: class_confounded, unless the recipe accepts it.
    """
    if build.plan.task != "classification":
        return []
    named = {gate["detail"] for gate in build.plan.gates}
    found = [row for row in confounded(kept) if f"class_confounded: {row}" not in named]
    if found and not build.plan.accept["confounding"]:
        seen = f"{'; '.join(found)}, among the cases that can be used"
        raise BuildError("class_confounded", f"{seen}; set accept.confounding to go on")
    return [{"code": "class_confounded", "detail": row} for row in found]


def _reviewed(build: Build, doubts: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Findings for look-alikes across splits; what is to be shared needs somebody's word."""
    rows, open_ = [], []
    for doubt in doubts:
        reason = next(
            (
                accepted["reason"]
                for accepted in build.plan.accept["leak_review"]
                if not accepted["cases"] or set(accepted["cases"]) == set(doubt["names"])
            ),
            "",
        )
        said = f"; accepted: {reason}" if reason else ""
        rows.append({"code": "leak_review", "detail": doubt["detail"] + said})
        if not reason:
            open_.append(doubt["detail"])
    if open_ and build.plan.build == "shareable":
        raise BuildError(
            "leak_review",
            f"{len(open_)} pairs look alike across splits; look at them and state a reason under "
            f"accept.leak_review, or use build: private: {'; '.join(open_[:20])}",
        )
    return rows


def _link_case(source: Path, target: Path, case: Mapping[str, Any]) -> None:
    target.mkdir(parents=True)
    for file in case["files"]:
        (target / file["path"]).hardlink_to(source / file["path"])
    row = {k: v for k, v in case.items() if k not in {"findings", "subject", "official_split"}}
    save_case(target, row)


def _exclusions(build: Build) -> list[dict[str, str]]:
    return [
        *build.load("cases.json")["excluded"],
        *build.load("excluded.json"),
        *build.load("dedup.json")["rows"],
        *build.load("split.json")["excluded"],
    ]


def _findings(build: Build) -> list[dict[str, str]]:
    found = [*findings_of(build.plan), *build.load("cases.json")["findings"]]
    found += [*build.load("dedup.json")["findings"]]
    found += build.load("split.json")["notes"]
    for case in _cases(build):
        found += case["findings"]
    return [{"severity": "warning", **row} for row in found]


def _report(build: Build, progress: Progress) -> None:
    """Measure what the files hold, set it beside what was said of them, and draw it."""
    progress.stage("report", 100)

    def units(done: int, total: int) -> None:
        progress.advance(round(100 * done / max(total, 1)))
        progress.check()

    added = write_report(
        build.locked_plan().as_dict(),
        build.workdir / "final",
        _cases(build),
        _exclusions(build),
        _findings(build),
        build.workdir / FOLDER,
        units,
    )
    build.save("report.json", added)
    progress.advance(100)


def _package(build: Build, progress: Progress) -> None:
    progress.stage("package", 1)
    progress.check()
    dedup = build.load("dedup.json")
    plan, report = build.locked_plan(), build.load("report.json")
    facts = {
        "tiers": ["T0", "T1", "T2", "T3", "T4"],
        "thresholds": THRESHOLDS,
        "hits": dedup["hits"],
        "merged_by": dedup["merged_by"],
        "shared": dedup["shared"],
        "plan": plan.overlap_plan or "drop_child_copies",
        "reviewed": plan.accept["leak_review"],
    }
    write_bundle(
        plan,
        build.workdir / "final",
        build.partial,
        _exclusions(build),
        [*_findings(build), *report["findings"]],
        {"seed": plan.seed, "protocol": plan.protocol},
        facts,
        report=build.workdir / FOLDER,
        measured=report,
        roots=_roots(build, progress),
        lock=build.load("lock.json"),
    )
    progress.advance(1)


def _baseline(build: Build, progress: Progress) -> None:
    """Train and test; a failed baseline is reported, the bundle stays."""
    path = build.workdir / "baseline.json"
    if build.plan.baseline["tier"] == "none" or path.is_file():
        progress.stage("baseline", 1)
        progress.advance(1)
        return
    plan = build.locked_plan()
    progress.stage("baseline", 100)
    from fusion.baseline import run_baseline  # it loads torch
    from fusion.baseline.evaluate import not_run

    def units(done: int, total: int) -> None:
        progress.advance(round(100 * done / max(total, 1)))

    try:
        result = run_baseline(
            plan.as_dict(),
            build.workdir / "final",
            device=build.device,
            threads=build.threads,
            progress=units,
            check=progress.check,
        )
    except ValueError as error:
        result = not_run(plan.as_dict(), plan.baseline["tier"], str(error))
    build.save("baseline.json", result)


def _verify(build: Build, progress: Progress) -> None:
    progress.stage("verify", 1)
    progress.check()
    if not build.partial.is_dir() and build.out.is_dir():
        return
    _write_build_info(build)
    _add_baseline(build)
    report = verify_bundle(build.partial, _people(build, progress))
    if not report.ok:
        wrong = {check.code: check.detail for check in report.checks if not check.ok}
        failed = "; ".join(f"{code}: {detail}" for code, detail in wrong.items())
        code = "phi_found" if set(wrong) == {"privacy"} else "verify_failed"
        raise BuildError(code, f"the built bundle does not verify: {failed}")
    if build.out.exists():
        shutil.rmtree(build.out)
    build.partial.rename(build.out)
    progress.advance(1)


def _people(build: Build, progress: Progress) -> set[str]:
    """Names of people in the headers of the DICOM files that were used."""
    roots, names = _roots(build, progress), set()
    for source, rows in build.load("lock.json")["sources"].items():
        for row in rows["files"]:
            path = roots[source] / row["path"]
            with suppress(CaseError):  # what cannot be read was not used
                if is_dicom(path):
                    names |= names_in(path)
    return names


def _write_build_info(build: Build) -> None:
    """What may differ between two builds of one bundle, and is outside SHA256SUMS."""
    info = {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }
    write_json(build.partial / "build_info.json", info)


def _add_baseline(build: Build) -> None:
    """Its figures, its page and the weights, where a baseline was asked for."""
    if (build.workdir / "baseline.json").is_file():
        from fusion.baseline.write import write_baseline

        trained = build.workdir / "final" / BASELINE
        plan = build.locked_plan().as_dict()
        write_baseline(build.load("baseline.json"), plan, trained, build.partial)


def summarise(bundle: Path) -> dict[str, Any]:
    """What a person wants to know first about a bundle folder."""
    manifest = json.loads((bundle / "manifest.json").read_text("utf-8"))
    baseline_path = bundle / BASELINE / "baseline.json"
    baseline = json.loads(baseline_path.read_text("utf-8")) if baseline_path.is_file() else None
    datasets = {s["id"]: s["dataset"] for s in manifest["plan"].get("sources", [])}
    sources = [
        {
            "id": s["id"],
            "name": s["name"],
            "dataset": s.get("dataset") or datasets.get(s["id"], ""),
            "licence": {p: s["licence"].get(p) or "unknown" for p in ("images", "labels")},
            "cases_in": s["n_cases_in"],
            "used": s["n_used"],
            "excluded": s["excluded"],
        }
        for s in manifest["sources"]
    ]
    report_path = bundle / "report.json"
    report = json.loads(report_path.read_text("utf-8")) if report_path.is_file() else {}
    return {
        "bundle_id": manifest["bundle_id"],
        "sources": sources,
        "cases": len(manifest["cases"]),
        "concepts": [c["label"] for c in manifest["concepts"]],
        "splits": {
            split: {source: row["cases"] for source, row in by_source.items()}
            for split, by_source in manifest["splits"]["counts"].items()
        },
        "findings": report.get("findings", []),
        "exclusions": report.get("exclusions", []),
        "measured": (report.get("measured") or {}).get("overview"),
        "known_limits": manifest["known_limits"],
        "views": _views(manifest),
        "baseline": baseline,
    }


def _views(manifest: Mapping[str, Any]) -> dict[str, str]:
    """View -> why it cannot be had, "" where it can; a bundle of an earlier version has none."""
    try:
        whole = manifest_of(manifest)
    except ValidationError:
        return {}
    return {name: make_view(name, whole).omitted for name in VIEWS}


_STAGES: dict[str, Callable[[Build, Progress], None]] = {
    "acquire": _acquire,
    "ingest": _ingest,
    "harmonise": _harmonise,
    "deduplicate": _deduplicate,
    "split": _split,
    "report": _report,
    "package": _package,
    "baseline": _baseline,
    "verify": _verify,
}
