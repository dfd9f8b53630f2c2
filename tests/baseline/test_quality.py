"""Calibration, doubtful labels, duplicates and worst cases, and the whole of baseline.json."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from fusion.baseline.document import baseline_schema
from fusion.baseline.evaluate import evaluate, not_run
from fusion.baseline.matrix import matrix
from fusion.baseline.quality import agreement, doubtful, reliability, worst
from fusion.baseline.results import ArmResult
from tests.baseline.made import Work, plan
from tests.baseline.studies import case_result, classes, mask, record, study


def classified(said, truth, **more):
    rows = classes("fused", "a", said, truth)
    return study("ab", lambda *_: 0.0, results=rows, records=[record("fused")], concepts=["ill"],
                 task="classification", annotated={"t": frozenset({"ill"})}, **more)  # fmt: skip


def test_a_label_that_the_network_surely_contradicts_is_listed_first_and_others_are_not():
    said = [0.9, 0.8, 0.95, 0.1, 0.2, 0.05, 0.02, 0.6]
    truth = [1, 1, 1, 0, 0, 0, 1, 0]  # the seventh is a swapped label; the last one is unsure

    found = doubtful(classified(said, truth))

    assert [(row["case"], row["label"]) for row in found] == [("a-6", 1)]


def test_without_two_cases_of_a_class_nothing_is_doubted():
    assert doubtful(classified([0.9, 0.1, 0.1], [0, 0, 1])) == []


def test_the_calibration_error_over_the_concepts_is_a_figure_without_an_interval():
    made = classified([0.8] * 10, [1] * 8 + [0] * 2)

    (mean,) = (c for c in matrix(made) if (c.arm, c.source, c.concept, c.metric)
               == ("fused", "a", "", "ece"))  # fmt: skip
    row = mean.as_dict()

    assert row["value"] is not None
    assert (row["ci"], row["n_cases"], row["reason"]) == (None, 10, "")


def test_reliability_sets_what_was_said_against_what_was():
    rows = reliability(classified([0.8] * 10 + [0.2] * 10, [1] * 8 + [0] * 2 + [1] * 2 + [0] * 8))

    whole, own = rows
    assert (whole["source"], own["source"], whole["n"]) == (None, "a", 20)
    assert sum(one["n"] for one in whole["bins"]) == 20
    assert whole["brier"] == pytest.approx(0.16)


def test_duplicates_with_other_labels_are_told_with_their_agreement():
    findings = [
        {"code": "label_conflict", "detail": "one", "dice": {"disc": 0.8}},
        {"code": "label_conflict", "detail": "two", "dice": {"disc": 0.9, "cup": 0.4}},
        {"code": "label_conflict", "detail": "a and b", "kappa": 0.62},
        {"code": "near_duplicate", "detail": "other"},
    ]

    found = agreement(findings, {"T0": 3, "T1": 4, "T2": 9})

    assert (found["same_images"], found["different_labels"]) == (7, 2)
    assert found["dice"] == {"min": 0.4, "median": 0.8, "max": 0.9}
    assert found["kappa"]["median"] == 0.62


def test_the_worst_cases_of_the_fused_network_come_first_and_say_what_went_wrong():
    made = study("ab", lambda arm, _source, n: 0.9 if arm != "fused" else n / 30)

    rows = worst(made, {"a-0": "scan 1"}, {"disc": "Optic disc"})

    assert [row["score"] for row in rows[:3]] == [0.0, 0.0, pytest.approx(1 / 30, abs=1e-4)]
    assert (rows[0]["name"], rows[0]["says"]) == ("scan 1", "Optic disc Dice 0.00")
    ill = worst(classified([0.9, 0.4], [0, 0]), {})
    assert ill[0]["says"] == "ill is absent, the network says 0.90"


def results(sources: str, train: list[str], number: int = 24) -> list[ArmResult]:
    arms = [*(f"single:{s}" for s in sources), "fused", *(f"without:{s}" for s in sources)]
    return [
        ArmResult(
            record(arm, train),
            tuple(
                case_result(arm, s, n, masks={"disc": mask(0.5 + n / 100)})
                for s in sources
                for n in range(number)
            ),
        )
        for arm in arms
    ]


def bundle_plan(*sources: str) -> dict:
    made = plan(*sources, bundle_id="0" * 64, title="Discs")
    made["sources"] = [{"id": s, "description": {"annotation": "text-mined"}} for s in sources]
    return made


def test_baseline_json_fits_its_schema_and_holds_every_cell(tmp_path: Path):
    work = Work(tmp_path / "final")
    cases = [work.picture(s, "train", name="x", present={"disc": 9}) for s in "aaabbbccc"]
    arms = results("abc", cases)

    found = evaluate(bundle_plan(*"abc"), tmp_path / "final", arms, tier="small", resamples=200)

    jsonschema.validate(json.loads(json.dumps(found, allow_nan=False)), baseline_schema())
    assert len(found["matrix"]) == 7 * 3 * 2 * 2  # arms, sources, Dice and NSD, concept and mean
    assert all(row["reason"] for row in found["matrix"] if row["value"] is None)
    assert all(row["silver"] for row in found["matrix"])
    assert found["matrix"][0]["value"] == pytest.approx(0.615)
    again = evaluate(bundle_plan(*"abc"), tmp_path / "final", arms, tier="small", resamples=200)
    assert found == again


def test_a_baseline_that_did_not_run_says_so_in_the_same_shape():
    found = not_run(bundle_plan("a"), "smoke", "no usable case")

    jsonschema.validate(found, baseline_schema())
    assert (found["verdict"], found["reason"]) == ("inconclusive", "not run: no usable case")
