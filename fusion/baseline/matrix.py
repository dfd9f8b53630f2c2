"""Generalisation matrix: trained on one source, tested on another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fusion.baseline import metrics
from fusion.baseline.resample import Figure, Floats, average
from fusion.baseline.results import CaseResult
from fusion.baseline.study import BOXES, MASKS, Study

NOT_TESTED = "not annotated in any test case"
NOT_LEARNT = "not annotated in any training case"
EMPTY = "empty in reference and prediction of every test case"


@dataclass(frozen=True)
class Cell:
    """One figure of the matrix; `concept` "" is the mean over the concepts of A and B.

    Attributes:
        cases: those that the figure is made of; of a mean over concepts, of all of them.
        empty: cases left out because reference and prediction are empty.
        positive: cases of the class, or boxes in the reference.
    """

    arm: str
    source: str
    concept: str
    metric: str
    figure: Figure
    cases: int = 0
    empty: int = 0
    positive: int | None = None

    def as_dict(self) -> dict[str, Any]:
        return {
            "arm": self.arm,
            "source": self.source,
            "concept": self.concept or None,
            "metric": self.metric,
            **figure_row(self.figure),
            "n_cases": self.cases,
            "n_empty_excluded": self.empty,
            "n_positive": self.positive,
        }


def figure_row(figure: Figure) -> dict[str, Any]:
    """A figure as plain data: [low, high], "unreliable", or null where there is nothing."""
    interval = figure.interval
    ends: list[float] | str | None = [round(end, 6) for end in interval] if interval else None
    if not interval and figure.value is not None and figure.draws is not None:
        ends = "unreliable"
    return {
        "value": None if figure.value is None else round(figure.value, 6),
        "ci": ends,
        "n_groups": figure.groups,
        "reason": figure.reason,
    }


def matrix(study: Study) -> list[Cell]:
    """Every arm on every source: each figure of each concept, and its mean over the concepts."""
    return [
        cell
        for arm in study.arms
        for source in study.sources
        for metric in study.metrics
        for cell in _row(study, arm, source, metric)
    ]


def _row(study: Study, arm: str, source: str, metric: str) -> list[Cell]:
    """Concept by concept; their mean comes first."""
    cells = [_cell(study, arm, source, concept, metric) for concept in study.concepts]
    known = [cell for cell in cells if cell.figure.value is not None]
    seen = study.tests.get((arm, source), {})
    used = [row for rows in seen.values() for row in rows
            if any(_has(row, cell.concept, metric) for cell in known)]  # fmt: skip
    mean = average([cell.figure for cell in cells])
    mean = replace(mean, groups=len({row.group for row in used}))
    empty = sum(cell.empty for cell in cells)
    whole = Cell(arm, source, "", metric, mean, len({row.case for row in used}), empty)
    return [whole, *cells]


def _has(row: CaseResult, concept: str, metric: str) -> bool:
    """The case has a part in the figure."""
    if metric in MASKS:
        score = row.masks.get(concept)
        return score is not None and getattr(score, _FIELD[metric]) is not None
    return concept in (row.boxes if metric in BOXES else row.truth)


def _cell(study: Study, arm: str, source: str, concept: str, metric: str) -> Cell:
    seeds = study.tests.get((arm, source), {})
    nothing = Cell(arm, source, concept, metric, Figure(None))
    if why := _objection(study, arm, source, concept):
        return replace(nothing, figure=Figure(None, reason=why))
    if metric in MASKS:
        return _mask_cell(study, nothing, [row for rows in seeds.values() for row in rows])
    place, counts = study.draws[source]
    found, used = [], []
    for seed, rows in seeds.items():
        used = [row for row in rows if _has(row, concept, metric)]
        if not used:
            return replace(nothing, figure=Figure(None, reason=NOT_TESTED))
        score = _score(metric, used, concept, study.thresholds.get((arm, seed, concept), 0.5))
        weights = counts[:, [place[row.group] for row in used]]
        found.append((float(score(np.ones((1, len(used))))[0]), score(weights)))
    value = float(np.mean([one for one, _ in found]))
    draws = np.mean([many for _, many in found], axis=0)
    figure = Figure(value, draws, len({row.group for row in used}))
    if np.isnan(value):
        figure = Figure(None, reason=_UNDEFINED[metric])
    elif metric == "ece":
        figure = replace(figure, draws=None)  # a resample would have other bins
    positive = sum(row.boxes[concept].reference if metric in BOXES else row.truth[concept]
                   for row in used)  # fmt: skip
    return replace(nothing, figure=figure, cases=len(used), positive=positive)


def _objection(study: Study, arm: str, source: str, concept: str) -> str:
    """Why a cell is empty before any case is looked at."""
    seeds = study.tests.get((arm, source), {})
    trained = any(record.arm == arm for record in study.records)
    if not seeds and arm in study.failed:
        return f"arm failed: {study.failed[arm]}"
    if not trained:
        return "arm not trained"
    if not seeds:
        tested = any(s == source for _, s in study.tests)
        return "not tested on this source" if tested else "no test case"
    return "" if concept in study.learnt[arm] else NOT_LEARNT


_FIELD = {"dice": "dice", "nsd": "nsd", "lesion_f1": "lesions"}
_UNDEFINED = {
    "auroc": "one class only",
    "balanced_accuracy": "one class only",
    "ap": "no positive case",
    "brier": "no case",
    "ece": "no case",
    "box_ap": "no box in the reference",
}


def _mask_cell(study: Study, nothing: Cell, rows: Sequence[CaseResult]) -> Cell:
    """Of each case the mean over the seeds that scored it; cases empty in all are counted."""
    by_case: dict[str, tuple[str, list[Any]]] = {}
    for row in rows:
        if nothing.concept in row.masks:
            value = getattr(row.masks[nothing.concept], _FIELD[nothing.metric])
            found = by_case.setdefault(row.case, (row.group, []))[1]
            found += [] if value is None else [value]
    kept = [(group, np.mean(found, axis=0)) for group, found in by_case.values() if found]
    lesions = nothing.metric == "lesion_f1"
    empty = 0 if lesions else len(by_case) - len(kept)
    if not kept:
        why = "no concept of lesions" if lesions else EMPTY
        return replace(
            nothing, figure=Figure(None, reason=why if by_case else NOT_TESTED), empty=empty
        )
    place, counts = study.draws[nothing.source]
    values = np.array([value for _, value in kept], float)
    weights = counts[:, [place[group] for group, _ in kept]]
    score = metrics.lesion_f1 if lesions else metrics.mean
    value = float(score(values, np.ones((1, len(kept))))[0])
    figure = Figure(value, score(values, weights), len({group for group, _ in kept}))
    if np.isnan(value):
        figure = Figure(None, reason="no lesion in reference or prediction")
    return replace(nothing, figure=figure, cases=len(kept), empty=empty)


def _score(
    metric: str, rows: Sequence[CaseResult], concept: str, threshold: float
) -> Callable[[Floats], Floats]:
    """The figure as a function of the weights of these cases."""
    if metric in BOXES:
        boxes = [row.boxes[concept] for row in rows]
        reference = np.array([box.reference for box in boxes], float)
        return lambda weights: metrics.box_ap([b.predicted for b in boxes], reference, weights)
    said = np.array([row.probability[concept] for row in rows], float)
    truth = np.array([row.truth[concept] for row in rows], float)
    if metric == "balanced_accuracy":
        return lambda weights: metrics.balanced_accuracy(said, truth, threshold, weights)
    if metric == "ece":
        return lambda weights: np.full(len(weights), metrics.ece(said, truth))
    score = {"auroc": metrics.auroc, "ap": metrics.average_precision, "brier": metrics.brier}
    return lambda weights: score[metric](said, truth, weights)
