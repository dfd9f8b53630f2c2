"""Baseline of a built bundle: what does a network learn from each source, alone and together?

The same network is trained on every source alone, on all together and on all but each, with equal
steps, and each of them is tested on the test cases of every source. torch and MONAI are imported
only when a baseline runs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from catalog import concepts as vocabulary
from catalog.vocab import VocabularyError
from fusion.baseline.cases import FUSED, WITHOUT, Case, arms_of, limited, read_cases
from fusion.baseline.results import ArmResult, CaseResult
from fusion.baseline.score import (
    CaseGuess,
    CaseScore,
    Report,
    best_threshold,
    class_rows,
    dice_rows,
)
from fusion.baseline.tier import SMOKE, TIERS, Tier

__all__ = ["FOLDER", "SMOKE", "TIERS", "Tier", "run_baseline"]

FOLDER = "baseline"
_TASKS = ("segmentation", "classification")


def _nothing(*_: int) -> None:
    pass


def run_baseline(
    plan: Mapping[str, Any],
    workdir: Path,
    *,
    device: str = "auto",
    threads: int = 0,
    progress: Callable[[int, int], None] = _nothing,
    check: Callable[[], None] = _nothing,
    tier: Tier | None = None,
) -> dict[str, Any]:
    """Train every arm of the plan's protocol and test it; the result is plain JSON data.

    Args:
        plan: a build's plan as data.
        workdir: the build's work folder; its `cases/` are read. Results of each arm and each case,
            and the weights of the fused arm, are left in its `baseline/`; a baseline that was
            stopped goes on from what it finds there.
        device: auto, cpu or cuda.
        threads: of torch; 0 takes all cores. Same count, same numbers (on one machine).
        progress: called with units of work done and in total.
        check: called at each unit; may raise to stop the baseline.
        tier: limits of cost; default: the plan's.

    Raises:
        ValueError: no usable case, or a plan that a baseline cannot follow.
    """
    task, seed = str(plan["task"]), int(plan["seed"])
    if task not in _TASKS:
        raise ValueError(f"task: found {task!r}, expected one of {', '.join(_TASKS)}")
    tier = tier or TIERS[(plan.get("baseline") or {}).get("tier", SMOKE.name)]
    concepts = [str(concept["id"]) for concept in plan["concepts"]]
    sources = [str(source["id"]) for source in plan["sources"]]
    found = read_cases(workdir)
    usable = [case for case in found if _is_usable(case, task)]
    if not usable:
        raise ValueError(f"{workdir.name}/cases: found {len(found)} cases, none fit for {task}")
    cases = limited(usable, tier.cases, seed)
    arms = arms_of(cases, sources, str(plan["protocol"]), seed)

    from fusion.baseline.grid import canvas_for
    from fusion.baseline.train import Job, Meter, train_arms

    job = Job(
        task=task,
        concepts=concepts,
        lesions=frozenset(concept for concept in concepts if _is_lesion(concept)),
        cases=cases,
        arms=arms,
        canvas=canvas_for(cases, tier, fills=task == "classification"),
        seed=seed,
        tier=tier,
        target={"profile": plan.get("profile"), "spacing_mm": plan.get("spacing_mm")},
        names=[str(name) for name in plan.get("channels") or []],
        facts={"bundle_id": plan.get("bundle_id", ""), "protocol": plan["protocol"]},
    )
    meter = Meter(job.total, progress, check)
    results, where = train_arms(job, device, threads, meter, workdir / FOLDER)
    report = _report(results, sources, concepts)
    if task == "segmentation":
        per_source = dice_rows(report, sources, concepts, seed)
    else:
        per_source = class_rows(report, sources, concepts)
    return {
        "tier": tier.name,
        "verdict": "inconclusive",
        "reason": _reason(tier),
        "task": task,
        "protocol": plan["protocol"],
        "seed": seed,
        **where,
        "steps": job.steps,
        "dimensions": job.canvas.dims,
        "pixels": job.canvas.edge,
        "arms": [_summary(arm) for arm in results],
        "per_source": per_source,
        "notes": _notes(job, len(found), len(usable)),
    }


def _is_usable(case: Case, task: str) -> bool:
    return case.label is not None if task == "segmentation" else bool(case.classes)


def _is_lesion(concept: str) -> bool:
    """Whether single findings are counted: a lesion by the vocabulary."""
    try:
        return "lesion" in {concept, *vocabulary.ancestors(concept)}
    except VocabularyError:
        return False


def _summary(arm: ArmResult) -> dict[str, Any]:
    """An arm in few words; `results.jsonl` names its cases."""
    row = arm.record
    return {
        "name": row.arm,
        "seed": row.seed,
        "fold": row.fold,
        "state": row.state,
        "reason": row.reason,
        "steps": row.steps,
        "best_step": row.best_step,
        "val_quality": row.val_quality,
        "last_loss": row.last_loss,
        "cases": [len(row.train_cases), len(row.val_cases), len(row.test_cases)],
        "device": row.device,
        "notes": list(row.notes),
    }


@dataclass(frozen=True)
class _Tested:
    """Results of one case under the arm that stands for its source, one per seed."""

    rows: list[CaseResult]

    def dice(self) -> dict[str, float | None]:
        """Mean over seeds; None where all seeds found nothing and there was nothing."""
        found = {}
        for concept in self.rows[0].masks:
            values = [row.masks[concept].dice for row in self.rows]
            known = [value for value in values if value is not None]
            found[concept] = float(np.mean(known)) if known else None
        return found

    def probability(self) -> dict[str, float]:
        """Mean over seeds."""
        return {
            concept: float(np.mean([row.probability[concept] for row in self.rows]))
            for concept in self.rows[0].probability
        }


def _report(
    results: Sequence[ArmResult], sources: Sequence[str], concepts: Sequence[str]
) -> Report:
    """Figures of each source under the fused arm; under the arm without it where none is fused."""
    report = Report()
    has_fused = any(arm.record.arm == FUSED for arm in results)
    for source in sources:
        name = FUSED if has_fused else f"{WITHOUT}{source}"
        arms = [arm for arm in results if arm.record.arm == name]
        if failed := [arm.record.reason for arm in arms if arm.record.state == "failed"]:
            report.failed[source] = failed[0]
        by_case: dict[tuple[str, str], list[CaseResult]] = defaultdict(list)
        for arm in arms:
            for row in arm.cases:
                if row.source == source or row.split == "val":
                    by_case[row.split, row.case].append(row)
        tested = [_Tested(rows) for (split, _), rows in by_case.items() if split == "test"]
        val = [_Tested(rows) for (split, _), rows in by_case.items() if split == "val"]
        for one in tested:
            group = one.rows[0].group
            report.scores.append(CaseScore(source, group, one.dice()))
            report.guesses.append(CaseGuess(source, group, one.probability(), one.rows[0].truth))
        report.thresholds[source] = {concept: _threshold(val, concept) for concept in concepts}
    return report


def _threshold(val: Sequence[_Tested], concept: str) -> float:
    known = [one for one in val if concept in one.rows[0].truth]
    probability = np.array([one.probability()[concept] for one in known])
    return best_threshold(probability, np.array([one.rows[0].truth[concept] for one in known]))


def _reason(tier: Tier) -> str:
    if tier.name != SMOKE.name:
        return "No verdict was asked for."
    return (
        f"The {tier.name} tier trains with one seed on at most {tier.cases} small cases. It shows "
        "that the bundle can be learnt from, not whether fusing helps."
    )


def _notes(job: Any, found: int, usable: int) -> Sequence[str]:
    canvas = job.canvas
    what = "Volumes" if canvas.dims > 2 else "Planes"  # noqa: PLR2004
    sides = " x ".join([str(canvas.edge)] * canvas.dims)
    size = f"at most {sides} pixels" + (f" of {canvas.voxel_mm:.3g} mm" if canvas.voxel_mm else "")
    notes = [f"{what} were brought to {size}; figures are measured there."]
    if usable < found:
        notes.append(f"{found - usable} of {found} cases have no label for this task.")
    if len(job.cases) < usable:
        notes.append(f"{len(job.cases)} of {usable} cases were drawn, in proportion.")
    if job.arms and not any(arm.name == FUSED for arm in job.arms):
        notes.append(
            "The protocol leaves whole sources out, so no network learns from all: there are no "
            "weights, and sources are judged by the network that never saw them."
        )
    learnt = {concept for arm in job.arms for case in arm.train for concept in case.annotated}
    notes += [
        f"{concept} is annotated in no training case: its figures mean nothing."
        for concept in job.concepts
        if concept not in learnt
    ]
    return notes
