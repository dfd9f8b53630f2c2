"""Weighted figures against their plain definitions, and the coverage of the intervals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import average_precision_score, balanced_accuracy_score, roc_auc_score

from fusion.baseline import metrics
from fusion.baseline.resample import Figure, difference, group_counts

ONCE = np.ones((1, 12))
SCORES = arrays(float, 12, elements=st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0]))
TRUTH = arrays(float, 12, elements=st.sampled_from([0.0, 1.0])).filter(lambda t: 0 < t.sum() < 12)
TIMES = arrays(float, 12, elements=st.sampled_from([1.0, 2.0, 3.0]))


@settings(max_examples=60, deadline=None)
@given(SCORES, TRUTH, TIMES)
def test_weighted_figures_are_those_of_repeated_cases(said, truth, times):
    weights, repeat = times[None], times.astype(int)
    said_out, truth_out = np.repeat(said, repeat), np.repeat(truth, repeat)

    assert metrics.auroc(said, truth, weights)[0] == pytest.approx(
        roc_auc_score(truth_out, said_out)
    )
    assert metrics.average_precision(said, truth, weights)[0] == pytest.approx(
        average_precision_score(truth_out, said_out)
    )
    assert metrics.balanced_accuracy(said, truth, 0.5, weights)[0] == pytest.approx(
        balanced_accuracy_score(truth_out, said_out >= 0.5)
    )
    assert metrics.brier(said, truth, weights)[0] == pytest.approx(
        np.mean((said_out - truth_out) ** 2)
    )


def test_one_class_only_is_no_figure():
    said, truth = np.array([0.2, 0.8]), np.ones(2)

    assert np.isnan(metrics.auroc(said, truth, ONCE[:, :2])[0])
    assert np.isnan(metrics.balanced_accuracy(said, truth, 0.5, ONCE[:, :2])[0])
    assert np.isnan(metrics.average_precision(said, 1 - truth, ONCE[:, :2])[0])


def test_calibration_has_fifteen_bins_of_equal_mass():
    said = np.linspace(0, 1, 150)

    rows = metrics.calibration(said, np.ones(150))

    assert [n for _, _, n in rows] == [10] * 15
    assert metrics.ece(said, np.ones(150)) == pytest.approx(0.5)
    assert metrics.ece(np.full(10, 0.3), np.array([1] * 3 + [0] * 7, float)) < 0.7
    assert metrics.ece(np.array([0.0, 1.0]), np.array([0.0, 1.0])) == 0


def test_boxes_missed_and_invented_cost_what_they_should():
    # One ranking: hit (0.9), invented (0.8), hit (0.7) of three boxes: 1/3 * 1 + 1/3 * 2/3.
    predicted = [[(0.9, True), (0.8, False)], [(0.7, True)]]

    found = metrics.box_ap(predicted, np.array([1.0, 2.0]), np.ones((1, 2)))[0]

    assert found == pytest.approx(1 / 3 + 2 / 9)
    assert metrics.box_ap([[], []], np.array([1.0, 2.0]), np.ones((1, 2)))[0] == 0
    assert np.isnan(metrics.box_ap([[(0.9, False)]], np.zeros(1), np.ones((1, 1)))[0])


def test_the_threshold_is_the_one_of_best_balanced_accuracy():
    said, truth = np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.0, 0, 1, 1])

    assert metrics.best_threshold(said, truth) == pytest.approx(0.25)
    assert metrics.best_threshold(said, np.ones(4)) == 0.5


def test_intervals_of_the_mean_cover_the_truth_as_often_as_they_claim():
    """40 groups of one to three cases of like Dice, 600 studies, nominal 95 %.

    A percentile bootstrap of 40 groups covers a little less than it claims: 92 to 97 % pass.
    """
    rng = np.random.default_rng(11)
    covered = 0
    for trial in range(600):
        centre = rng.beta(8, 3, 40)  # skewed, as Dice is
        sizes = rng.integers(1, 4, 40)
        groups = np.repeat(np.arange(40), sizes)
        values = centre[groups] + rng.normal(0, 0.02, len(groups))
        _, counts = group_counts([f"{g:02d}" for g in groups], trial, ["x"], 300)
        draws = metrics.mean(values, counts[:, groups])
        low, high = Figure(float(values.mean()), draws, 40).interval
        covered += low <= 8 / 11 <= high
    assert 0.92 <= covered / 600 <= 0.97


def test_intervals_of_a_paired_difference_cover_it_and_are_narrow():
    """Both arms share the difficulty of a case: the interval is of what they do not share."""
    rng = np.random.default_rng(12)
    covered, widths, names = 0, [], [f"{g:02d}" for g in range(40)]
    for trial in range(600):
        hard = rng.normal(0.7, 0.15, 40)
        one, other = hard + 0.02 + rng.normal(0, 0.02, 40), hard + rng.normal(0, 0.02, 40)
        _, counts = group_counts(names, trial, ["x"], 300)
        figures = [Figure(float(v.mean()), metrics.mean(v, counts), 40) for v in (one, other)]
        low, high = difference(*figures).interval
        covered += low <= 0.02 <= high
        widths.append(high - low)
    assert 0.92 <= covered / 600 <= 0.97
    assert np.mean(widths) < 0.025  # unpaired it would be 0.13


def test_intervals_of_auroc_cover_it():
    """60 cases, true AUROC of two normals one apart: Phi(1 / sqrt 2) = 0.7602."""
    rng = np.random.default_rng(13)
    names = [f"{g:02d}" for g in range(60)]
    covered = 0
    for trial in range(300):
        truth = (np.arange(60) % 2).astype(float)
        said = rng.normal(truth, 1.0)
        _, counts = group_counts(names, trial, ["x"], 300)
        draws = metrics.auroc(said, truth, counts)
        low, high = Figure(
            float(metrics.auroc(said, truth, np.ones((1, 60)))[0]), draws, 60
        ).interval
        covered += low <= 0.76025 <= high
    assert 0.91 <= covered / 300 <= 0.98


def test_the_same_seed_draws_the_same_groups_and_the_order_of_cases_does_not_matter():
    names = [f"g{n}" for n in range(25)]
    first = group_counts(names, 3, ["a", "b"], 50)
    again = group_counts(names[::-1], 3, ["b", "a"], 50)
    other = group_counts(names, 3, ["a", "c"], 50)

    assert first[0] == again[0]
    np.testing.assert_array_equal(first[1], again[1])
    assert (first[1] != other[1]).any()
    assert (first[1].sum(axis=1) == 25).all()
