"""Finished cases, found again by what decides them: across runs, work folders and hosts."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import uuid
import zlib
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import asdict, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from fusion.bundle.manifest import LOCK_FILE
from fusion.bundle.text import dump_json, sha256_of, write_json
from fusion.cases import FoundCase
from fusion.plan import Plan

_ABANDONED_SECONDS = 3600.0
SUMS = "sums.json"  # SHA-256 of each file of a result: a result with it is whole
#: What may depend on the host, its load or its memory: true for one run, not for later ones.
PASSING = frozenset({"size_limit", "unreadable", "upstream_changed"})
#: What of a plan decides the files of a case.
_IN_CASES = ("dimension", "profile", "spacing_mm", "concepts", "builder_version")
#: Parts of a source description that leave each case as it is.
_OUTSIDE = (
    "dataset", "version", "year", "publisher", "homepage", "doi", "citation", "documented",
    "checked", "licence", "species", "synthetic", "annotation", "covers", "faces", "overlaps",
    "known_limits",
)  # fmt: skip


class Results(Protocol):
    """A store of what came of cases: a folder each, under the key of the case."""

    def fetch(self, key: str, folder: Path) -> bool:
        """Bring a result to `folder`, which is not there yet; False where there is no whole one."""

    def keep(self, key: str, folder: Path) -> None:
        """Store the files of `folder`; a result that is there already stays."""


def plan_for_cases(plan: Plan) -> Plan:
    """Only what may touch a case: nothing else of the plan can be seen while it is harmonised."""
    kept = {name: getattr(plan, name) for name in _IN_CASES}
    blank = {f.name: type(getattr(plan, f.name))() for f in fields(plan) if f.name not in kept}
    return replace(plan, **blank | {"overlap_plan": None})


def source_for_cases(source: Mapping[str, Any]) -> dict[str, Any]:
    """Only what may touch a case of a source of the plan."""
    described = {k: v for k, v in source["description"].items() if k not in _OUTSIDE}
    used = ("id", "uses", "channels", "annotated", "mapping")
    return {key: source[key] for key in used} | {"description": described | {"name": source["id"]}}


def case_keys(plan: Plan, source: Mapping[str, Any]) -> Callable[[FoundCase, Any], str]:
    """How to get the key of each case of a source: a digest of all that decides its result.

    The plan and the source are what `plan_for_cases` and `source_for_cases` left of them; the
    second argument of the function is {path: SHA-256} of the case's files, as acquired.
    """
    shared = _digest([asdict(plan), source, *_environment()])

    def key(case: FoundCase, files: Mapping[str, str]) -> str:
        return _digest([shared, asdict(case), files])

    return key


@cache
def _environment() -> tuple[str, str]:
    """Other versions of libraries may write other bytes."""
    return sha256_of(LOCK_FILE) if LOCK_FILE.is_file() else "", zlib.ZLIB_RUNTIME_VERSION


def _digest(value: Any) -> str:
    return hashlib.sha256(dump_json(value, indent=None).encode()).hexdigest()


class ResultFolder:
    """Results as folders of one file system; files are shared with work folders by hard links.

    Args:
        root: folder of the store.
        limit_bytes: what `evict` leaves at most.
    """

    def __init__(self, root: Path, limit_bytes: int) -> None:
        self.root, self.limit_bytes = root, limit_bytes

    def fetch(self, key: str, folder: Path) -> bool:
        """As Results.fetch; every file is compared with its sum, a damaged result goes."""
        place = self._place(key)
        folder.parent.mkdir(parents=True, exist_ok=True)
        if not self._linked(place, folder):
            shutil.rmtree(folder, ignore_errors=True)
            self._remove(place)
            return False
        with suppress(FileNotFoundError):
            os.utime(place)  # used last: evicted last
        return True

    def keep(self, key: str, folder: Path) -> None:
        """As Results.keep: written beside its place, synced, renamed."""
        place = self._place(key)
        if place.is_dir():
            return
        part = self._part()
        part.mkdir(parents=True)
        try:
            sums = {}
            for path in sorted(p for p in folder.iterdir() if p.is_file()):
                link_or_copy(path, part / path.name)
                _sync(part / path.name)
                sums[path.name] = sha256_of(path)
            write_json(part / SUMS, sums)
            place.parent.mkdir(parents=True, exist_ok=True)
            with suppress(OSError):  # another one was faster: its result is the same
                part.rename(place)
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def evict(self, needed: Collection[str] = ()) -> int:
        """Remove results, used longest ago first, until the rest fits; returns how many went.

        Args:
            needed: keys of results that stay in any case.
        """
        for part in self._part().parent.glob("*"):
            with suppress(FileNotFoundError):
                if part.stat().st_mtime < time.time() - _ABANDONED_SECONDS:
                    shutil.rmtree(part, ignore_errors=True)
        found = []
        for place in self.root.glob("??/*"):
            with suppress(FileNotFoundError):
                size = sum(path.stat().st_size for path in place.iterdir())
                found.append((place.stat().st_mtime_ns, place.name, size))
        excess = sum(size for _, _, size in found) - self.limit_bytes
        gone = 0
        for _, key, size in sorted(found):
            if excess <= 0:
                break
            if key not in needed:
                self._remove(self._place(key))
                excess -= size
                gone += 1
        return gone

    def _linked(self, place: Path, folder: Path) -> bool:
        try:
            sums = json.loads((place / SUMS).read_text("utf-8"))
            folder.mkdir()
            for name, expected in sums.items():
                link_or_copy(place / name, folder / name)
                if sha256_of(folder / name) != expected:
                    return False
        except (ValueError, AttributeError, FileNotFoundError):
            return False
        return True

    def _place(self, key: str) -> Path:
        return self.root / key[:2] / key

    def _part(self) -> Path:
        return self.root / "part" / uuid.uuid4().hex

    def _remove(self, place: Path) -> None:
        """At once for whoever looks: what is being read is never half there."""
        gone = self._part()
        gone.parent.mkdir(parents=True, exist_ok=True)
        with suppress(OSError):
            place.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)


def link_or_copy(source: Path, target: Path) -> None:
    """A hard link; a copy where the file system has none."""
    try:
        target.hardlink_to(source)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(source, target)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
