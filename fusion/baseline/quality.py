"""What the fused network says of the labels: calibration, doubtful labels, worst cases. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from fusion.baseline.cases import FUSED
from fusion.baseline.metrics import calibration, ece
from fusion.baseline.results import CaseResult
from fusion.baseline.study import Study

Row = Mapping[str, Any]
MOST_DOUBTED, MOST_WORST = 20, 10
NO_LABELS: Mapping[str, str] = {}
FEWEST_DOUBTED = 2  # cases of a class before its mean confidence says anything


def reliability(study: Study) -> list[dict[str, Any]]:
    """Per source and over all: what the fused network said against what was, in 15 bins.

    All concepts of a source count together; a case stands once per concept, its probability the
    mean over the seeds.
    """
    pooled = _said(study, splits=("test",))
    rows = []
    for source in ["", *study.sources]:
        pairs = [
            (p, t) for (_, s, _), (p, t) in pooled.items() if source in {"", s}
        ]  # fmt: skip
        if not pairs or (source and len(study.sources) == 1):
            continue
        said, truth = np.array(pairs, float).T
        bins = [
            {"said": round(p, 4), "seen": round(t, 4), "n": n}
            for p, t, n in calibration(said, truth)
        ]
        rows.append(
            {
                "source": source or None,
                "n": len(pairs),
                "ece": round(ece(said, truth), 4),
                "brier": round(float(np.mean((said - truth) ** 2)), 4),
                "bins": bins,
            }
        )
    return rows


def _said(study: Study, splits: Sequence[str]) -> dict[tuple[str, str, str], tuple[float, int]]:
    """(case, source, concept) -> mean probability of the fused arm, truth."""
    found: dict[tuple[str, str, str], list[tuple[float, int]]] = {}
    for row in study.results:
        if row.arm == FUSED and row.split in splits:
            for concept, truth in row.truth.items():
                key = row.case, row.source, concept
                found.setdefault(key, []).append((row.probability[concept], truth))
    return {
        key: (float(np.mean([p for p, _ in pairs])), pairs[0][1])
        for key, pairs in sorted(found.items())
    }


def doubtful(study: Study) -> list[dict[str, Any]]:
    """Classes that the fused network contradicts with confidence, the surest first.

    Confident learning (Northcutt 2021) per concept: a label is doubted where the probability of
    the contrary is at least the mean that this contrary has among its own cases. Only cases that
    the network was not trained on speak.
    """
    by_concept: dict[str, list[tuple[str, str, float, int]]] = {}
    for (case, source, concept), (p, truth) in _said(study, splits=("test", "val")).items():
        by_concept.setdefault(concept, []).append((case, source, p, truth))
    rows: list[dict[str, Any]] = []
    for concept, found in by_concept.items():
        own = {t: [p if t else 1 - p for _, _, p, truth in found if truth == t] for t in (0, 1)}
        if min(len(values) for values in own.values()) < FEWEST_DOUBTED:
            continue
        limits = {t: float(np.mean(values)) for t, values in own.items()}
        for case, source, p, truth in found:
            contrary = 1 - p if truth else p
            if contrary >= limits[1 - truth] and contrary > 1 - contrary:
                rows.append(
                    {
                        "case": case,
                        "source": source,
                        "concept": concept,
                        "label": truth,
                        "probability": round(p, 4),
                    }
                )
    rows.sort(
        key=lambda row: (-abs(row["probability"] - row["label"]), row["case"], row["concept"])
    )
    return rows[:MOST_DOUBTED]


def agreement(findings: Iterable[Row], hits: Mapping[str, int]) -> dict[str, Any]:
    """What deduplication saw of images that carry two labels: how many, and how they differ."""
    rows = [row for row in findings if row["code"] == "label_conflict"]
    dice = [value for row in rows for value in (row.get("dice") or {}).values()]
    kappas = [row["kappa"] for row in rows if row.get("kappa") is not None]
    return {
        "same_images": sum(int(hits.get(tier, 0)) for tier in ("T0", "T1")),
        "different_labels": sum("kappa" not in row for row in rows),
        "dice": _ends(dice),
        "kappa": _ends(kappas),
        "examples": [row["detail"] for row in rows[:MOST_DOUBTED]],
    }


def _ends(values: Sequence[float]) -> dict[str, float] | None:
    if not values:
        return None
    return {
        "min": round(min(values), 4),
        "median": round(float(np.median(values)), 4),
        "max": round(max(values), 4),
    }


def worst(
    study: Study, names: Mapping[str, str], labels: Mapping[str, str] = NO_LABELS
) -> list[dict[str, Any]]:
    """Test cases that the fused network fails most; `names` are the original ones.

    `labels`: what people call the concepts.

    Masks: lowest mean Dice over the concepts. Classes: the farthest from the truth. Boxes: the
    most missed or invented boxes.
    """
    by_case: dict[tuple[str, str], list[tuple[float, str]]] = {}
    for row in study.results:
        if row.arm == FUSED and row.split == "test" and (found := failure(row, labels)):
            by_case.setdefault((row.case, row.source), []).append(found)
    ranked = sorted(
        (float(np.mean([score for score, _ in found])), case, source, found[0][1])
        for (case, source), found in by_case.items()
    )
    return [
        {
            "case": case,
            "source": source,
            "name": names.get(case, case),
            "score": round(score, 4),
            "says": says,
        }
        for score, case, source, says in ranked[:MOST_WORST]
    ]


def failure(row: CaseResult, labels: Mapping[str, str] = NO_LABELS) -> tuple[float, str] | None:
    """A score (low is bad) and what happened, in words; None where nothing was to be found."""
    dice = {c: m.dice for c, m in row.masks.items() if m.dice is not None}
    if dice:
        ranked = sorted(dice.items(), key=lambda r: r[1])
        says = ", ".join(f"{labels.get(c, c)} Dice {d:.2f}" for c, d in ranked)
        return float(np.mean(list(dice.values()))), says
    if row.truth:
        far = {c: abs(row.probability[c] - t) for c, t in row.truth.items()}
        concept = max(far, key=lambda c: (far[c], c))
        word = "present" if row.truth[concept] else "absent"
        said = row.probability[concept]
        name = labels.get(concept, concept)
        return 1 - far[concept], f"{name} is {word}, the network says {said:.2f}"
    if row.boxes:
        wrong = sum(box.wrong for box in row.boxes.values())
        return 0.0 - wrong, f"{wrong} boxes missed or invented"
    return None
