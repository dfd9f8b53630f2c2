"""Figures of many weighted copies of one sample at once: a bootstrap is a matrix of weights.

`weights` is (B, N): how often each of N cases stands in each of B resamples; a row of ones is the
sample itself. Each function gives (B,), not a number where its figure is undefined.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
ECE_BINS = 15


def _share(part: Floats, whole: Floats) -> Floats:
    """Part by whole, not a number where whole is 0."""
    share: Floats = np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0)
    return share


def mean(values: Floats, weights: Floats) -> Floats:
    """Mean of (N,) values."""
    return _share(weights @ values, weights.sum(axis=1))


def lesion_f1(counts: Floats, weights: Floats) -> Floats:
    """2 TP / (2 TP + FP + misses) over all cases; `counts` is (N, 3) in that order."""
    hits, false, missed = (weights @ counts).T
    return _share(2 * hits, 2 * hits + false + missed)


def auroc(probability: Floats, truth: Floats, weights: Floats) -> Floats:
    """Chance that a positive case ranks above a negative one; ties count half."""
    positive, negative = _by_value(probability, truth, weights)
    below = np.cumsum(negative, axis=1) - negative / 2
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    return _share((positive * below).sum(axis=1), pairs)


def average_precision(probability: Floats, truth: Floats, weights: Floats) -> Floats:
    """Precision at each threshold, weighted by the recall that it adds."""
    positive, negative = (part[:, ::-1] for part in _by_value(probability, truth, weights))
    return _area(positive, negative, positive.sum(axis=1))


def _by_value(probability: Floats, truth: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Weight of the positive and the negative cases at each distinct value, rising: (B, V)."""
    order = np.argsort(probability, kind="stable")
    starts = np.flatnonzero(np.diff(probability[order], prepend=-np.inf) > 0)
    ranked, is_positive = weights[:, order], truth[order]
    positive = np.add.reduceat(ranked * is_positive, starts, axis=1)
    negative = np.add.reduceat(ranked * (1 - is_positive), starts, axis=1)
    return positive, negative


def _area(hits: Floats, false: Floats, whole: Floats) -> Floats:
    """Sum of precision times added recall, from the highest value down."""
    found = np.cumsum(hits, axis=1)
    precision = _share(found, found + np.cumsum(false, axis=1))
    return _share((np.nan_to_num(precision) * hits).sum(axis=1), whole)


def balanced_accuracy(
    probability: Floats, truth: Floats, threshold: float, weights: Floats
) -> Floats:
    """Mean of sensitivity and specificity."""
    above = (probability >= threshold).astype(float)
    sensitivity = _share(weights @ (truth * above), weights @ truth)
    specificity = _share(weights @ ((1 - truth) * (1 - above)), weights @ (1 - truth))
    return (sensitivity + specificity) / 2


def brier(probability: Floats, truth: Floats, weights: Floats) -> Floats:
    """Mean squared distance of probability and truth."""
    return mean((probability - truth) ** 2, weights)


def calibration(probability: Floats, truth: Floats) -> list[tuple[float, float, int]]:
    """(mean probability, share of positives, cases) of up to 15 bins of equal mass.

    Bins follow the rank of the probability; with fewer cases than bins each has one.
    """
    order = np.argsort(probability, kind="stable")
    parts = np.array_split(order, min(ECE_BINS, len(order)))
    return [(float(probability[p].mean()), float(truth[p].mean()), len(p)) for p in parts]


def ece(probability: Floats, truth: Floats) -> float:
    """Expected calibration error: mean distance of confidence and frequency over the bins."""
    rows = calibration(probability, truth)
    return sum(n * abs(said - seen) for said, seen, n in rows) / sum(n for _, _, n in rows)


def box_ap(
    predicted: Sequence[Sequence[tuple[float, bool]]], reference: Floats, weights: Floats
) -> Floats:
    """Average precision of boxes, those of all cases in one ranking by confidence.

    Args:
        predicted: per case (confidence, matches a reference box).
        reference: (N,) reference boxes of each case.
        weights: as everywhere.
    """
    rows = [(c, hit, n) for n, boxes in enumerate(predicted) for c, hit in boxes]
    whole = weights @ reference
    if not rows:
        return _share(np.zeros(len(weights)), whole)
    confidence, hits, case = (np.array(column) for column in zip(*rows, strict=True))
    positive, negative = _by_value(confidence.astype(float), hits.astype(float), weights[:, case])
    return _area(positive[:, ::-1], negative[:, ::-1], whole)


def best_threshold(probability: Floats, truth: Floats) -> float:
    """The threshold of best balanced accuracy; 0.5 where one class only or as good."""
    if len(np.unique(truth)) != 2:  # noqa: PLR2004
        return 0.5
    steps = np.unique(probability)
    candidates = [0.5, *((steps[1:] + steps[:-1]) / 2).tolist()]
    once = np.ones((1, len(truth)))
    scores = [float(balanced_accuracy(probability, truth, t, once)[0]) for t in candidates]
    return float(candidates[int(np.argmax(scores))])
