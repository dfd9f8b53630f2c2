"""Baseline of a built bundle: what does a network learn from each source, alone and together?

The same network is trained on every source alone, on all together and on all but each, with equal
steps, and each of them is tested on the test cases of every source. torch and MONAI are imported
only when a baseline runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from catalog import concepts as vocabulary
from catalog.vocab import VocabularyError
from fusion.baseline.cases import FUSED, Case, arms_of, limited, read_cases
from fusion.baseline.tier import SMOKE, TIERS, Tier

__all__ = ["FOLDER", "SMOKE", "TIERS", "Tier", "run_baseline"]

FOLDER = "baseline"
_TASKS = ("segmentation", "classification", "detection")


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
    """Train every arm of the plan's protocol, test it and judge: what baseline.json says.

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
    if task == "detection" and (solid := [case.id for case in usable if case.spacing_mm]):
        raise ValueError(
            f"task: boxes of volumes are not trained, found {len(solid)} volumes ({solid[0]}), "
            "expected pictures"
        )
    cases = limited(usable, tier.cases, seed)
    arms = arms_of(cases, sources, str(plan["protocol"]), seed)

    from fusion.baseline.evaluate import evaluate
    from fusion.baseline.grid import canvas_for
    from fusion.baseline.train import Job, Meter, train_arms

    job = Job(
        task=task,
        concepts=concepts,
        lesions=frozenset(concept for concept in concepts if _is_lesion(concept)),
        cases=cases,
        arms=arms,
        canvas=canvas_for(cases, tier, fills=task != "segmentation"),
        seed=seed,
        tier=tier,
        target={"profile": plan.get("profile"), "spacing_mm": plan.get("spacing_mm")},
        names=[str(name) for name in plan.get("channels") or []],
        facts={"bundle_id": plan.get("bundle_id", ""), "protocol": plan["protocol"]},
    )
    meter = Meter(job.total, progress, check)
    results, where = train_arms(job, device, threads, meter, workdir / FOLDER)
    training = {
        **where,
        "steps": job.steps,
        "dimensions": job.canvas.dims,
        "pixels": job.canvas.edge,
    }
    notes = _notes(job, len(found), len(usable))
    return evaluate(plan, workdir, results, tier=tier.name, training=training, notes=notes)


def _is_usable(case: Case, task: str) -> bool:
    if task == "detection":
        return case.boxes is not None
    return case.label is not None if task == "segmentation" else bool(case.classes)


def _is_lesion(concept: str) -> bool:
    """Whether single findings are counted: a lesion by the vocabulary."""
    try:
        return "lesion" in {concept, *vocabulary.ancestors(concept)}
    except VocabularyError:
        return False


def _notes(job: Any, found: int, usable: int) -> Sequence[str]:
    canvas = job.canvas
    most = f"at most {canvas.edge} x {canvas.edge} pixels"
    if canvas.voxel_mm is None:
        brought = f"Pictures were brought to {most}"
    elif canvas.axis is None:
        brought = f"Volumes were brought to voxels of {canvas.voxel_mm:.3g} mm"
    else:
        brought = f"Planes were brought to {most} of {canvas.voxel_mm:.3g} mm"
    where = "on their own pixels" if job.task == "detection" else "there"
    notes = [f"{brought}; figures are measured {where}."]
    if usable < found:
        notes.append(f"{found - usable} of {found} cases have no label for this task.")
    if len(job.cases) < usable:
        notes.append(
            f"{len(job.cases)} of {usable} cases were drawn, as many of each source as it has."
        )
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
