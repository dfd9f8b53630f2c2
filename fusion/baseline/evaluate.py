"""From the results of all arms to what baseline.json says."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fusion.baseline.document import Baseline
from fusion.baseline.matrix import matrix
from fusion.baseline.quality import agreement, doubtful, reliability, worst
from fusion.baseline.resample import RESAMPLES
from fusion.baseline.results import ArmRecord, ArmResult
from fusion.baseline.shift import RISKY_SHIFT, RISKY_V, Shift, measure_shift, seen_cases
from fusion.baseline.study import PRIMARY, Study
from fusion.baseline.verdict import gains, judge

Row = Mapping[str, Any]
SILVER = "text-mined"  # annotation of a source whose labels a program read from reports


def evaluate(
    plan: Row,
    final: Path,
    arms: Sequence[ArmResult],
    *,
    tier: str,
    training: Row | None = None,
    notes: Sequence[str] = (),
    resamples: int = RESAMPLES,
) -> dict[str, Any]:
    """The whole of baseline.json.

    Args:
        plan: a build's plan as data.
        final: holds `cases/<id>/case.json` and its files; beside it, where they are there, lie
            the build's own `cases` (with thumbnails), dedup.json and report.json.
        arms: what training left.
        tier: smoke, small or standard.
        training: where and how it was trained, kept as it is.
        notes: what a reader must know of it.
        resamples: of each bootstrap.
    """
    cases, work = _cases(final), final.parent
    study = _study(plan, cases, arms, resamples)
    cells = matrix(study)
    found = gains(study, cells)
    verdict = judge(study, found, tier)
    seen = seen_cases(cases, final / "cases", work / "cases", study.task, study.concepts)
    shift = measure_shift(seen, study.sources, study.seed)
    head = _head(plan, tier)
    risks = _risks(shift, head["concepts"])
    findings = risks + _doubts(doubts := doubtful(study), head["concepts"])
    silver = {s["id"] for s in plan["sources"] if s["description"].get("annotation") == SILVER}
    data = {
        **head,
        "seeds": study.seeds,
        "verdict": verdict.name,
        "reason": verdict.reasons[0],
        "reasons": [*verdict.reasons, *(row["detail"] for row in risks)],
        "gains": found.as_dict(),
        "arms": [_arm(arm.record) for arm in arms],
        "matrix": [{**cell.as_dict(), "silver": cell.source in silver} for cell in cells],
        "shift": shift.as_dict(),
        "calibration": reliability(study),
        "label_quality": _label_quality(work, doubts),
        "worst": worst(study, {case["id"]: case["name"] for case in cases}, head["concepts"]),
        "findings": findings,
        "training": dict(training or {}),
        "notes": list(notes),
    }
    return Baseline.model_validate(data).model_dump(mode="json")


def not_run(plan: Row, tier: str, reason: str) -> dict[str, Any]:
    """baseline.json of a bundle whose baseline could not be run."""
    said = f"not run: {reason}"
    nothing = dict.fromkeys(("gains", "shift", "label_quality"))
    lists: dict[str, list[Any]] = {
        name: []
        for name in ("seeds", "arms", "matrix", "calibration", "worst", "findings", "notes")
    }
    told = {"verdict": "inconclusive", "reason": said, "reasons": [said], "training": {}}
    data = {**_head(plan, tier), **nothing, **lists, **told}
    return Baseline.model_validate(data).model_dump(mode="json")


def _head(plan: Row, tier: str) -> dict[str, Any]:
    return {
        "bundle_id": plan["bundle_id"],
        "title": plan["title"],
        "tier": tier,
        "task": plan["task"],
        "protocol": plan["protocol"],
        "seed": plan["seed"],
        "sources": [source["id"] for source in plan["sources"]],
        "concepts": {c["id"]: c.get("label", c["id"]) for c in plan["concepts"]},
        "metric": PRIMARY[plan["task"]],
    }


def _cases(final: Path) -> list[dict[str, Any]]:
    paths = sorted((final / "cases").glob("*/case.json"))
    return [json.loads(path.read_text("utf-8")) for path in paths]


def _study(plan: Row, cases: Sequence[Row], arms: Sequence[ArmResult], resamples: int) -> Study:
    return Study(
        task=plan["task"],
        sources=[source["id"] for source in plan["sources"]],
        concepts=[concept["id"] for concept in plan["concepts"]],
        seed=plan["seed"],
        records=[arm.record for arm in arms],
        results=[case for arm in arms for case in arm.cases],
        annotated={case["id"]: frozenset(case["annotated"]) for case in cases},
        resamples=resamples,
    )


def _arm(record: ArmRecord) -> dict[str, Any]:
    keys = ("arm", "seed", "fold", "state", "reason", "steps", "best_step", "val_quality",
            "last_loss", "device")  # fmt: skip
    return {key: getattr(record, key) for key in keys} | {
        "n_train": len(record.train_cases),
        "n_val": len(record.val_cases),
        "n_test": len(record.test_cases),
        "notes": list(record.notes),
    }


def _risks(shift: Shift, labels: Mapping[str, str]) -> list[dict[str, str]]:
    if not shift.risky:
        return []
    v, strongest = shift.strongest
    what = labels.get(strongest, strongest)
    detail = (
        f"shortcut_risk: the source of a case can be told from its picture (shift index "
        f"{shift.after.value:.2f} after harmonisation, above {RISKY_SHIFT:g}) and tells its label "
        f"(Cramér's V {v:.2f} for {what}, above {RISKY_V:g}): a network may "
        "learn the source in place of the finding."
    )
    return [{"code": "shortcut_risk", "severity": "warning", "detail": detail}]


def _doubts(rows: Sequence[Row], labels: Mapping[str, str]) -> list[dict[str, str]]:
    return [
        {
            "code": "label_doubtful",
            "severity": "info",
            "detail": f"{row['case']}: {labels[row['concept']]} is labelled "
            f"{'present' if row['label'] else 'absent'}, the network says {row['probability']:.2f}",
        }
        for row in rows
    ]


def _label_quality(work: Path, doubts: list[dict[str, Any]]) -> dict[str, Any]:
    """What earlier stages measured of the labels, and what the network doubts."""
    dedup, report = _load(work / "dedup.json"), _load(work / "report.json")
    return {
        "duplicates": agreement(dedup.get("findings", []), dedup.get("hits", {})),
        "volume_shifts": report.get("label_shifts", []),
        "doubtful": doubts,
        "outliers": report.get("outliers", []),
    }


def _load(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    return found
