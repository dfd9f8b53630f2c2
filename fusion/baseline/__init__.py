"""Baseline of a built bundle: can a small network learn from it, source by source?

The smoke tier trains one arm per fold with one seed at low resolution. That shows that the
bundle is usable, never whether fusing helps: its verdict is always "inconclusive".
torch and MONAI are imported only when a baseline runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fusion.baseline.cases import Case, arms_of, limited, read_cases
from fusion.baseline.score import class_rows, dice_rows
from fusion.baseline.tier import SMOKE, Tier

__all__ = ["SMOKE", "Tier", "run_baseline"]

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
    tier: Tier = SMOKE,
) -> dict[str, Any]:
    """Train on the fused train split and test per source; the result is plain JSON data.

    Args:
        plan: a build's plan as data.
        workdir: the build's work folder; its `cases/` are read, nothing is written.
        device: auto, cpu or cuda.
        threads: of torch; 0 takes all cores. Same count, same numbers (on one machine).
        progress: called with units of work done and in total.
        check: called at each unit; may raise to stop the baseline.
        tier: limits of cost.

    Raises:
        ValueError: no usable case, or a plan that a baseline cannot follow.
    """
    task, seed = str(plan["task"]), int(plan["seed"])
    if task not in _TASKS:
        raise ValueError(f"task: found {task!r}, expected one of {', '.join(_TASKS)}")
    concepts = [str(concept["id"]) for concept in plan["concepts"]]
    sources = [str(source["id"]) for source in plan["sources"]]
    found = read_cases(workdir)
    usable = [case for case in found if _is_usable(case, task)]
    if not usable:
        raise ValueError(f"{workdir.name}/cases: found {len(found)} cases, none fit for {task}")
    cases = limited(usable, tier.cases, seed)
    arms = arms_of(cases, sources, str(plan["protocol"]))

    from fusion.baseline.planes import canvas_for
    from fusion.baseline.train import Job, Meter, train_arms

    job = Job(task, concepts, cases, arms, canvas_for(cases, tier), seed, tier)
    meter = Meter(job.total, progress, check)
    report, records, where = train_arms(job, device, threads, meter)
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
        "pixels": job.canvas.edge,
        "arms": records,
        "per_source": per_source,
        "notes": _notes(job, len(found), len(usable)),
    }


def _is_usable(case: Case, task: str) -> bool:
    return case.label is not None if task == "segmentation" else bool(case.classes)


def _reason(tier: Tier) -> str:
    return (
        f"The {tier.name} tier trains one network with one seed on at most {tier.cases} small "
        "cases and without the arms to compare with (each source alone, every other source). "
        "It shows that the bundle can be learnt from, not whether fusing helps."
    )


def _notes(job: Any, found: int, usable: int) -> Sequence[str]:
    edge, pixel = job.canvas.edge, job.canvas.pixel_mm
    size = f"{edge} x {edge} pixels" + (f" of {pixel:.3g} mm" if pixel else "")
    notes = [f"Planes were brought to {size}; figures are measured there."]
    if usable < found:
        notes.append(f"{found - usable} of {found} cases have no label for this task.")
    if len(job.cases) < usable:
        notes.append(f"{len(job.cases)} of {usable} cases were drawn, in proportion.")
    learnt = {concept for arm in job.arms for case in arm.train for concept in case.annotated}
    notes += [
        f"{concept} is annotated in no training case: its figures mean nothing."
        for concept in job.concepts
        if concept not in learnt
    ]
    return notes
