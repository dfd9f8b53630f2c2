"""From one number per case to a row per source and concept. Plain numpy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

_FEWEST_GROUPS = 20
_RESAMPLES = 10_000
_BLOCK = 500  # resamples drawn at once, to bound memory

Row = dict[str, Any]


@dataclass(frozen=True)
class CaseScore:
    """Dice of one test case per concept; None where reference and prediction are both empty."""

    source: str
    group: str
    dice: Mapping[str, float | None]


@dataclass(frozen=True)
class CaseGuess:
    """Probability and truth (0 or 1) of one case per concept."""

    source: str
    group: str
    probability: Mapping[str, float]
    truth: Mapping[str, int]


@dataclass
class Report:
    """Results of all arms: `failed` holds, per source, why there are none."""

    scores: list[CaseScore] = field(default_factory=list)
    guesses: list[CaseGuess] = field(default_factory=list)
    thresholds: dict[str, dict[str, float]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def dice_rows(report: Report, sources: Iterable[str], concepts: Sequence[str], seed: int) -> Row:
    """Mean Dice per source and concept; a row without a figure gives its reason."""
    return {
        source: {concept: _dice_row(report, source, concept, seed) for concept in concepts}
        for source in sources
    }


def _dice_row(report: Report, source: str, concept: str, seed: int) -> Row:
    tested = [score for score in report.scores if score.source == source]
    rows = [(score.group, score.dice[concept]) for score in tested if concept in score.dice]
    scored = [(group, dice) for group, dice in rows if dice is not None]
    row: Row = {
        "dice_mean": None,
        "n_cases": len(scored),
        "n_empty_excluded": len(rows) - len(scored),
        "ci": "unreliable",
    }
    if not scored:
        return row | {"reason": _why_nothing(report, source, tested=len(tested), asked=len(rows))}
    groups, values = zip(*scored, strict=True)
    return row | {
        "dice_mean": round(float(np.mean(values)), 6),
        "ci": interval(values, groups, seed),
    }


def _why_nothing(report: Report, source: str, *, tested: int, asked: int) -> str:
    if source in report.failed:
        return f"arm failed: {report.failed[source]}"
    if not tested:
        return "no test case"
    if not asked:
        return "not annotated in any test case"
    return "empty in reference and prediction of every test case"


def interval(values: Sequence[float], groups: Sequence[str], seed: int) -> list[float] | str:
    """95% percentile bootstrap of the mean over groups; "unreliable" below 20 groups."""
    names, index = np.unique(np.asarray(groups), return_inverse=True)
    if len(names) < _FEWEST_GROUPS:
        return "unreliable"
    sums = np.bincount(index, weights=np.asarray(values, float))
    counts = np.bincount(index)
    rng = np.random.default_rng(seed)
    means = []
    for _ in range(_RESAMPLES // _BLOCK):
        drawn = rng.integers(len(names), size=(_BLOCK, len(names)))
        means.append(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1))
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5])
    return [round(float(low), 6), round(float(high), 6)]


def class_rows(report: Report, sources: Iterable[str], concepts: Sequence[str]) -> Row:
    """AUROC and balanced accuracy per source and concept; null where one class only."""
    return {
        source: {concept: _class_row(report, source, concept) for concept in concepts}
        for source in sources
    }


def _class_row(report: Report, source: str, concept: str) -> Row:
    tested = [guess for guess in report.guesses if guess.source == source]
    known = [guess for guess in tested if concept in guess.truth]
    truth = np.array([guess.truth[concept] for guess in known], int)
    threshold = report.thresholds.get(source, {}).get(concept, 0.5)
    row: Row = {
        "auroc": None,
        "balanced_accuracy": None,
        "threshold": threshold,
        "n_cases": len(known),
        "n_positive": int(truth.sum()),
    }
    if not known:
        return row | {"reason": _why_nothing(report, source, tested=len(tested), asked=0)}
    if len(np.unique(truth)) == 1:
        return row | {"reason": "one class only"}
    probability = np.array([guess.probability[concept] for guess in known])
    return row | {
        "auroc": round(area_under_roc(probability, truth), 6),
        "balanced_accuracy": round(balanced_accuracy(probability, truth, threshold), 6),
    }


def area_under_roc(probability: np.ndarray, truth: np.ndarray) -> float:
    """Area under the ROC curve by MONAI; `truth` must hold 0 and 1."""
    import torch
    from monai.metrics.rocauc import compute_roc_auc

    area = compute_roc_auc(torch.from_numpy(probability), torch.from_numpy(truth))
    return float(np.asarray(area))


def balanced_accuracy(probability: np.ndarray, truth: np.ndarray, threshold: float) -> float:
    """Mean of sensitivity and specificity; `truth` must hold 0 and 1."""
    positive = probability >= threshold
    return float((positive[truth == 1].mean() + (~positive)[truth == 0].mean()) / 2)


def best_threshold(probability: np.ndarray, truth: np.ndarray) -> float:
    """The threshold of best balanced accuracy; 0.5 where one class only or as good."""
    if len(np.unique(truth)) != 2:  # noqa: PLR2004
        return 0.5
    steps = np.unique(probability)
    between = (steps[1:] + steps[:-1]) / 2
    candidates = [0.5, *between.tolist()]
    scores = [balanced_accuracy(probability, truth, candidate) for candidate in candidates]
    return float(candidates[scores.index(max(scores))])
