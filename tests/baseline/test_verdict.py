"""Matrix, gains and verdict on results whose figures are known by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.baseline.matrix import matrix
from fusion.baseline.study import Study
from fusion.baseline.verdict import gains, judge
from tests.baseline.studies import (
    arms_of,
    case_result,
    classes,
    mask,
    record,
    shifted,
    spread,
    study,
)


def cell(found, arm, source, concept="disc", metric="dice"):
    return next(
        c for c in found if (c.arm, c.source, c.concept, c.metric) == (arm, source, concept, metric)
    )


def judged(made: Study, tier: str = "small"):
    cells = matrix(made)
    return judge(made, gains(made, cells), tier)


def test_matrix_gains_and_verdict_of_a_known_shift_are_those_computed_by_hand():
    made = study("abc", shifted(own=0.8, other=0.5, fused=0.9, rest=0.7))
    noise = float(np.mean([spread(n) for n in range(30)]))

    cells = matrix(made)
    found = gains(made, cells)

    for arm, source, expected in (
        ("single:a", "a", 0.8),
        ("single:a", "b", 0.5),
        ("fused", "c", 0.9),
    ):
        assert cell(cells, arm, source).figure.value == pytest.approx(expected + noise)
        assert cell(cells, arm, source).figure.groups == 30
    for source in "abc":
        assert found.own[source].value == pytest.approx(0.1)
        assert found.unseen[source].value == pytest.approx(0.2)
        # The noise of a case is the same in both arms: a paired interval has no width.
        assert found.own[source].interval == pytest.approx((0.1, 0.1))
    assert found.mean_unseen.interval == pytest.approx((0.2, 0.2))
    assert judge(made, found, "small").name == "helps"


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ({"own": 0.8, "other": 0.5, "fused": 0.6, "rest": 0.5}, "harms"),
        ({"own": 0.8, "other": 0.5, "fused": 0.6, "rest": 0.7}, "mixed"),
        ({"own": 0.8, "other": 0.7, "fused": 0.805, "rest": 0.7}, "neutral"),
        ({"own": 0.8, "other": 0.7, "fused": 0.9, "rest": 0.7}, "inconclusive"),
    ],
)
def test_each_verdict_follows_from_its_own_figures(values, verdict):
    found = judged(study("abc", shifted(**values)))

    assert found.name == verdict
    if verdict in {"harms", "mixed"}:
        assert "worse than a alone by more than 0.01 Dice" in found.reasons[0]
    assert any(row.startswith("Mean U: ") for row in found.reasons)


def test_networks_of_unequal_steps_get_no_verdict_and_their_gains_are_shown():
    made = study("abc", shifted(own=0.8, other=0.5, fused=0.9, rest=0.7))
    cut = replace(record("fused"), state="cut", reason="cut short by the time limit: 7 of 10 steps")
    records = [cut if one.arm == "fused" else one for one in made.records]

    found = judged(replace(made, records=records))

    assert found.name == "inconclusive"
    assert "Arm fused had fewer steps (seed 1: cut short by the time limit: 7 of 10 steps)." in (
        found.reasons
    )
    assert any(row.startswith("G of a (fused against a alone): +0.100") for row in found.reasons)


def test_a_source_with_swapped_labels_never_gets_helps():
    """Source c says the contrary: alone it fits itself, and it spoils what is learnt with it."""

    def dice(arm: str, source: str, n: int) -> float:
        spoilt = arm in {"fused", "without:a", "without:b"}
        if arm == "single:c":
            base = 0.8 if source == "c" else 0.1
        elif source == "c":
            base = 0.1
        elif spoilt:
            base = 0.55
        else:
            base = 0.8 if arm.endswith(source) else 0.7
        return base + spread(n)

    found = judged(study("abc", dice))

    assert found.name == "harms"
    assert "On c the fused network is worse than c alone" in found.reasons[0]


def test_two_sources_cannot_be_shown_to_help_and_the_reason_says_so():
    made = study("ab", shifted(own=0.6, other=0.5, fused=0.9, rest=0.5))
    made = replace(
        made,
        records=[r for r in made.records if not r.arm.startswith("without:")],
        results=[r for r in made.results if not r.arm.startswith("without:")],
    )

    found = judged(made)

    assert found.name == "inconclusive"
    assert any("all but one is the other one" in reason for reason in found.reasons)


def test_whole_sources_left_out_give_a_gain_on_unseen_ones_but_no_verdict():
    made = study("abc", shifted(own=0.8, other=0.5, fused=0.9, rest=0.7))
    made = replace(
        made,
        records=[r for r in made.records if r.arm != "fused"],
        results=[r for r in made.results if r.arm != "fused"],
    )

    found = gains(made, matrix(made))

    assert found.mean_unseen.interval == pytest.approx((0.2, 0.2))
    assert all(figure.value is None for figure in found.own.values())
    verdict = judge(made, found, "small")
    assert verdict.name == "inconclusive"
    assert verdict.reasons[0].startswith("G of a is not known: ")


def test_smoke_is_inconclusive_and_one_source_has_no_verdict():
    made = study("abc", shifted(own=0.8, other=0.5, fused=0.9, rest=0.7))
    one = study("a", shifted(own=0.8, other=0.5, fused=0.9, rest=0.7))

    assert judged(made, "smoke").name == "inconclusive"
    assert judged(one).name is None
    assert "one source only" in judged(one).reasons[0]


@pytest.mark.parametrize("tier", ["smoke", "small"])
def test_a_baseline_whose_networks_all_failed_shows_nothing(tier):
    failed = [record(arm, reason="no training case") for arm in arms_of("ab")]
    made = study("ab", shifted(own=0, other=0, fused=0, rest=0), records=failed, results=[])

    found = judged(made, tier)

    assert found.name == "inconclusive"
    assert "No network was trained" in found.reasons[0]
    assert not any("can be learnt from, not" in reason for reason in found.reasons)


def test_few_groups_leave_intervals_unreliable_and_the_verdict_open():
    made = study("abc", shifted(own=0.8, other=0.5, fused=0.9, rest=0.7), number=19)

    row = cell(matrix(made), "fused", "a").as_dict()
    found = judged(made)

    assert (row["ci"], row["n_groups"]) == ("unreliable", 19)
    assert found.name == "inconclusive"
    assert "G of a is unreliable: 19 test groups, at least 20 are needed." in found.reasons


def test_groups_are_counted_not_cases():
    made = study("abc", shifted(own=0.8, other=0.5, fused=0.9, rest=0.7))
    paired = [
        replace(row, group=f"{row.source}{int(row.case.split('-')[1]) // 2}")
        for row in made.results
    ]

    row = cell(matrix(replace(made, results=paired)), "fused", "a").as_dict()

    assert (row["n_cases"], row["n_groups"], row["ci"]) == (30, 15, "unreliable")


def test_a_failed_arm_is_named_and_its_row_gives_the_reason():
    made = study("abc", shifted(own=0.8, other=0.5, fused=0.9, rest=0.7))
    broken = replace(
        made,
        records=[
            record(r.arm, reason="loss is nan at step 2") if r.arm == "single:b" else r
            for r in made.records
        ],
        results=[row for row in made.results if row.arm != "single:b"],
    )

    empty = cell(matrix(broken), "single:b", "a").as_dict()
    found = judged(broken)

    assert (empty["value"], empty["ci"]) == (None, None)
    assert empty["reason"] == "arm failed: seed 1: loss is nan at step 2"
    assert found.name == "inconclusive"
    assert "Arm single:b failed (seed 1: loss is nan at step 2)." in found.reasons
    assert "G of b is not known: arm failed: seed 1: loss is nan at step 2." in found.reasons


def test_only_concepts_that_both_sides_know_are_compared():
    """a knows disc and cup, b knows disc: what a says of the cup in b cannot be judged."""
    results = [
        case_result(arm, source, n, masks={c: mask(v) for c, v in scores.items()})
        for arm in ("single:a", "single:b", "fused")
        for source, scores in (("a", {"disc": 0.8, "cup": 0.4}), ("b", {"disc": 0.6}))
        for n in range(20)
    ]
    made = study(
        "ab",
        lambda *_: 0.0,
        results=results,
        concepts=["disc", "cup"],
        records=[
            record("single:a", ["ta"]),
            record("single:b", ["tb"]),
            record("fused", ["ta", "tb"]),
        ],
        annotated={"ta": frozenset({"disc", "cup"}), "tb": frozenset({"disc"})},
    )

    cells = matrix(made)

    assert cell(cells, "fused", "a", "").figure.value == pytest.approx(0.6)
    assert cell(cells, "single:a", "b", "").figure.value == pytest.approx(0.6)
    assert cell(cells, "single:b", "a", "").figure.value == pytest.approx(0.8)
    unknown = cell(cells, "single:b", "a", "cup").figure
    assert (unknown.value, unknown.reason) == (None, "not annotated in any training case")
    untested = cell(cells, "single:a", "b", "cup").figure
    assert (untested.value, untested.reason) == (None, "not annotated in any test case")


def test_empty_cases_are_left_out_and_counted():
    made = study("abc", lambda _arm, _source, n: None if n < 4 else 0.5)

    row = cell(matrix(made), "fused", "a").as_dict()

    assert (row["value"], row["n_cases"], row["n_empty_excluded"]) == (0.5, 26, 4)


def test_all_empty_is_no_figure_with_a_reason():
    row = cell(matrix(study("abc", lambda *_: None)), "fused", "a").as_dict()

    assert row["value"] is None
    assert row["reason"] == "empty in reference and prediction of every test case"


def test_seeds_are_averaged_case_by_case_first():
    rows = [
        case_result("fused", "a", n, seed=s, masks={"disc": mask(v)})
        for s, values in ((1, (0.2, 0.4)), (2, (0.6, None)))
        for n, v in enumerate(values)
    ]
    made = study(
        "a", lambda *_: 0.0, results=rows, records=[record("fused"), record("fused", seed=2)]
    )

    assert cell(matrix(made), "fused", "a").figure.value == pytest.approx((0.4 + 0.4) / 2)


def test_lesions_are_counted_over_all_cases():
    rows = [
        case_result("fused", "a", n, masks={"disc": mask(0.5, counts)})
        for n, counts in enumerate([(2, 1, 0), (1, 0, 3)])
    ]
    made = study("a", lambda *_: 0.0, results=rows, records=[record("fused")])

    assert cell(matrix(made), "fused", "a", metric="lesion_f1").figure.value == pytest.approx(
        6 / 10
    )


def test_a_threshold_is_chosen_on_val_cases_and_one_class_has_no_auroc():
    rows = classes("fused", "a", [0.1, 0.2, 0.3, 0.4], [0, 0, 1, 1], split="val")
    rows += classes("fused", "a", [0.22, 0.26, 0.28, 0.1], [0, 1, 1, 0])
    rows += classes("fused", "b", [0.3, 0.1], [1, 1])
    made = study(
        "ab",
        lambda *_: 0.0,
        results=rows,
        records=[record("fused")],
        task="classification",
        concepts=["ill"],
        annotated={"t": frozenset({"ill"})},
    )

    found = matrix(made)

    assert cell(found, "fused", "a", "ill", "auroc").figure.value == 1
    # 0.25 parts the val cases, and the test cases, too; 0.5 would call all of them healthy.
    assert cell(found, "fused", "a", "ill", "balanced_accuracy").figure.value == 1
    one = cell(found, "fused", "b", "ill", "auroc").as_dict()
    assert (one["value"], one["reason"], one["n_positive"]) == (None, "one class only", 2)


@settings(max_examples=15, deadline=None)
@given(st.permutations("abc"), st.integers(0, 2**32 - 1))
def test_renaming_the_sources_permutes_the_matrix_and_changes_no_verdict(names, seed):
    rng = np.random.default_rng(seed)
    table = {(arm, s): rng.uniform(0.3, 0.9) for arm in arms_of("abc") for s in "abc"}
    made = study("abc", lambda arm, s, n: table[arm, s] + spread(n, 0.02), number=22, resamples=200)
    new = dict(zip("abc", names, strict=True))

    def renamed(arm: str) -> str:
        kind, _, source = arm.partition(":")
        return f"{kind}:{new[source]}" if source else arm

    other = replace(
        made,
        records=[replace(r, arm=renamed(r.arm)) for r in made.records],
        results=[replace(r, arm=renamed(r.arm), source=new[r.source]) for r in made.results],
    )

    before = {(renamed(c.arm), new[c.source], c.concept, c.metric): c for c in matrix(made)}
    after = {(c.arm, c.source, c.concept, c.metric): c for c in matrix(other)}

    assert before.keys() == after.keys()
    for key, one in before.items():
        assert after[key].figure.value == pytest.approx(one.figure.value)
        assert after[key].figure.interval == pytest.approx(one.figure.interval)
    assert judged(made).name == judged(other).name


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.0, 0.3))
def test_noise_never_turns_harm_into_help(seed, width):
    rng = np.random.default_rng(seed)
    harmful = shifted(own=0.8, other=0.6, fused=0.6, rest=0.55)
    noise = {
        (a, s, n): rng.normal(0, width) for a in arms_of("abc") for s in "abc" for n in range(25)
    }

    found = judged(
        study("abc", lambda a, s, n: harmful(a, s, n) + noise[a, s, n], number=25, resamples=500)
    )

    assert found.name != "helps"


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_more_harm_never_makes_a_better_verdict(seed):
    rng = np.random.default_rng(seed)
    own, other, fused, rest = rng.uniform(0.4, 0.9, 4)
    worse = fused - rng.uniform(0.05, 0.3)

    before = judged(study("abc", shifted(own, other, fused, rest), number=20, resamples=100))
    after = judged(study("abc", shifted(own, other, worse, rest), number=20, resamples=100))

    if before.name in {"harms", "mixed"}:
        assert after.name == before.name
    if after.name == "helps":
        assert before.name == "helps"
