"""The sources of a build: their folders, cases and files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from fusion.cases import FoundCase
from fusion.errors import BuildError
from fusion.found import as_case, found_cases, from_bytes
from fusion.imaging.errors import CaseError
from fusion.imaging.io import image_parts
from fusion.locations import place_of
from fusion.pool import in_children
from fusion.source import SourceDescription
from fusion.sources import acquire
from fusion.stages.base import Build, Progress


def described(source: Mapping[str, Any]) -> SourceDescription:
    """The description of one of a plan's sources, cut to what the plan uses of it."""
    description = SourceDescription.model_validate(source["description"])
    return description.in_use(source["uses"], source["channels"])


def roots_of(build: Build, progress: Progress) -> dict[str, Path]:
    """Folder of each source: where acquisition left it, else (on another host) acquired again."""
    known = build.workdir / "roots.json"
    if known.is_file():
        roots = {i: Path(path) for i, path in build.load(known.name).items()}
        if all(root.is_dir() for root in roots.values()):
            return roots
    return acquired_roots(build, progress)


def acquired_roots(build: Build, progress: Progress) -> dict[str, Path]:
    """Fetch each source, or find it in the cache: its id and its folder.

    Raises:
        BuildError: it cannot be had; the message names the source.
    """
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


def found_in(
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


def paths_of(case: FoundCase, root: Path) -> set[str]:
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


def case_of(data: Mapping[str, Any]) -> FoundCase:
    """A row of cases.json, read back."""
    return as_case({k: v for k, v in data.items() if k != "source"})
