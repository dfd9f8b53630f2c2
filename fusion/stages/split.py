"""Stage split: every case that is kept gets its split; no person is in two."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fusion.classes import confounded
from fusion.dedup import find_doubts
from fusion.errors import BuildError
from fusion.harmonise import SAMPLE_FILE, add_label_layer, save_case
from fusion.norm import fit_norms
from fusion.splits import Rules, holdout, kfold, leave_one_source_out
from fusion.stages.base import Build, Progress, exclude, harmonised_cases


def run(build: Build, progress: Progress) -> None:
    """Write group and split into every case.json; cases left out lose theirs."""
    dedup = build.load("dedup.json")
    by_id = {c["id"]: c for c in harmonised_cases(build)}
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
    why = ("split", "official_test_group", "its subject is official test")
    rows = [exclude(progress, (c["source"], c["name"]), *why) for c in cases if c["id"] in dropped]
    build.save("split.json", {"notes": notes, "excluded": rows})


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
