"""What every stage works with: the build, its work folder, and who watches."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from fusion.bundle.text import write_json
from fusion.imaging.file_hash import file_sha256
from fusion.plan import Plan, findings_of
from fusion.results import Results
from fusion.sources.safety import FetchRules


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
        """Where the bundle is written until it is whole."""
        return self.out.with_name(self.out.name + ".partial")

    def locked_plan(self) -> Plan:
        """The plan bound to the source files that were found."""
        lock = self.workdir / "lock.json"
        return self.plan.with_lock(file_sha256(lock))

    def load(self, name: str) -> Any:
        """A JSON file of the work folder."""
        return json.loads((self.workdir / name).read_text("utf-8"))

    def save(self, name: str, value: Any) -> None:
        """Write a JSON file of the work folder."""
        write_json(self.workdir / name, value)


def exclude(
    progress: Progress, case: tuple[str, str], stage: str, code: str, detail: str
) -> dict[str, str]:
    """Tell that a case (source, name) is left out; the row that the bundle's report shows of it."""
    source, name = case
    progress.case(source, name, "excluded", stage=stage, code=code, detail=detail)
    return {"source": source, "name": name, "stage": stage, "code": code, "detail": detail}


def harmonised_cases(build: Build) -> list[dict[str, Any]]:
    """What harmonise wrote of each case that it could use, in the order of case ids."""
    return [
        json.loads(path.read_text("utf-8"))
        for path in sorted((build.workdir / "cases").glob("*/case.json"))
    ]


def all_exclusions(build: Build) -> list[dict[str, str]]:
    """The rows of `exclude`, of every stage before the report."""
    return [
        *build.load("cases.json")["excluded"],
        *build.load("excluded.json"),
        *build.load("dedup.json")["rows"],
        *build.load("split.json")["excluded"],
    ]


def all_findings(build: Build) -> list[dict[str, str]]:
    """Rows {severity, code, detail}: of the plan, the tables, the copies, the splits, the cases."""
    found = [*findings_of(build.plan), *build.load("cases.json")["findings"]]
    found += [*build.load("dedup.json")["findings"]]
    found += build.load("split.json")["notes"]
    for case in harmonised_cases(build):
        found += case["findings"]
    return [{"severity": "warning", **row} for row in found]
