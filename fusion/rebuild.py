"""Make a bundle again from its recipe, and say whether it is the same."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from fusion.build import STAGES, Build, Progress, run_stage
from fusion.bundle.names import SUMS
from fusion.errors import BuildError
from fusion.plan import Plan

SHOWN = 10  # differences named in a message
#: What makes the content of a case; its files may differ by the version of a compressor.
_CONTENT = (
    "source", "group", "split", "t1", "shape", "spacing", "unit", "annotated", "present",
    "classes", "transforms",
)  # fmt: skip


@dataclass(frozen=True)
class Rebuilt:
    """`equal`: bytes (SHA256SUMS), or content (T1 and the rest of each case), or completed.

    `lines` say what was compared and, with `content`, which files differ.
    """

    bundle: Path
    equal: Literal["bytes", "content", "completed"]
    cases: int
    lines: tuple[str, ...] = ()


def rebuild(
    given: Path, data_root: Path, out: Path, progress: Progress, *, complete: bool = False
) -> Rebuilt:
    """Build what `given`, a bundle or its recipe folder, was built from.

    Args:
        given: a bundle folder, or its `recipe` folder alone.
        data_root: where local sources lie.
        out: the new bundle's folder.
        progress: who watches.
        complete: fill in the cases that a shareable bundle lists without files. The result is a
            private build with an identifier of its own; each case is compared with the bundle.

    Raises:
        BuildError: upstream_changed, when a source file is not the one that was fused;
            plan_changed; rebuild_differs, with the cases that came out otherwise.
    """
    recipe = given / "recipe" if (given / "recipe" / "recipe.json").is_file() else given
    plan = Plan.from_dict(_read(recipe / "recipe.json"))
    if complete:
        plan = replace(plan, build="private", sources=[_whole(s) for s in plan.sources])
    work = out.with_name(f"{out.name}.work")
    build = Build(plan, data_root, work, out)
    try:
        run_stage("acquire", build, progress)
        check_sources(_read(recipe / "sources.json"), build.load("lock.json"))
        for stage in STAGES:
            if stage not in {"acquire", "baseline"}:
                run_stage(stage, build, progress)
    finally:
        for folder in (work, build.partial):
            shutil.rmtree(folder, ignore_errors=True)
    return compare(given, recipe, out, complete=complete)


def _whole(source: Mapping[str, Any]) -> dict[str, Any]:
    return {**source, "ships": dict.fromkeys(source["ships"], "harmonised")}


def check_sources(expected: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Every source file is the one that was fused.

    Raises:
        BuildError: upstream_changed, naming file, found and expected.
    """
    changed = []
    for source, rows in expected["sources"].items():
        before = {row["path"]: row["sha256"] for row in rows["files"]}
        after = {row["path"]: row["sha256"] for row in found["sources"][source]["files"]}
        changed += [
            f"{source}: {path}: found {after.get(path, 'no file')}, "
            f"expected {before.get(path, 'no such file')}"
            for path in sorted({*before, *after})
            if before.get(path) != after.get(path)
        ]
    if changed:
        raise BuildError("upstream_changed", _listed(changed, "source files differ"))


def compare(given: Path, recipe: Path, out: Path, *, complete: bool = False) -> Rebuilt:
    """How the bundle in `out` stands to the one that was given.

    Raises:
        BuildError: rebuild_differs.
    """
    made = _read(out / "manifest.json")
    lock = _read(recipe / "lock.json")
    sums = given / SUMS
    if not complete and sums.is_file() and sums.read_bytes() == (out / SUMS).read_bytes():
        return Rebuilt(out, "bytes", len(made["cases"]), ("SHA256SUMS are equal",))
    by_id = {case["id"]: case for case in made["cases"]}
    wrong = _wrong_t1(lock["expected_t1"], by_id)
    lines = [f"T1 of {len(by_id)} cases is equal"]
    if (given / "manifest.json").is_file():
        wrong += _wrong_content(_read(given / "manifest.json")["cases"], by_id)
        lines.append("shape, labels, split and transforms of each case are equal")
    if wrong:
        raise BuildError("rebuild_differs", _listed(wrong, "cases came out otherwise"))
    if complete:
        return Rebuilt(out, "completed", len(by_id), tuple(lines))
    return Rebuilt(out, "content", len(by_id), (*lines, *_other_files(given, out, lock)))


def _wrong_t1(expected: Mapping[str, str], made: Mapping[str, Mapping[str, Any]]) -> list[str]:
    found = {case_id: case["t1"] for case_id, case in made.items()}
    return [
        f"{case_id}: T1 {found.get(case_id, 'none: no such case')}, "
        f"expected {expected.get(case_id, 'no such case')}"
        for case_id in sorted({*expected, *found})
        if expected.get(case_id) != found.get(case_id)
    ]


def _wrong_content(cases: list[dict[str, Any]], made: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return [
        f"{case['id']}: {key}: found {made[case['id']][key]}, expected {case[key]}"
        for case in cases
        if case["id"] in made
        for key in _CONTENT
        if case[key] != made[case["id"]][key]
    ]


def _other_files(given: Path, out: Path, lock: Mapping[str, Any]) -> list[str]:
    """Why bytes differ, as far as it can be seen."""
    if not (given / SUMS).is_file():
        return ["no SHA256SUMS were given: bytes were not compared"]
    before, after = (
        dict(line.split("  ")[::-1] for line in (folder / SUMS).read_text("utf-8").splitlines())
        for folder in (given, out)
    )
    names = sorted(n for n in {*before, *after} if before.get(n) != after.get(n))
    made = _read(out / "recipe" / "lock.json")
    same = lock["requirements_sha256"] == made["requirements_sha256"]
    why = "with the same packages" if same else "packages differ (requirements_sha256)"
    return [f"bytes differ in {len(names)} files, {why}: {', '.join(names[:SHOWN])}"]


def _listed(rows: list[str], what: str) -> str:
    more = f"; and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
    return f"{len(rows)} {what}: {'; '.join(rows[:SHOWN])}{more}"


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        message = f"{path.name}: {error}; expected a bundle or its recipe folder"
        raise BuildError("not_found", message) from error
