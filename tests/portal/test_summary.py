from __future__ import annotations

from typing import Any

from portal.summary import summary_lines

SUMMARY: dict[str, Any] = {
    "cases": 3,
    "concepts": ["Grey matter"],
    "sources": [
        {
            "id": "one",
            "cases_in": 4,
            "used": 3,
            "excluded": {"no_geometry": 1},
            "licence": {"images": "CC0-1.0", "labels": "unknown"},
        }
    ],
    "splits": {"train": {"one": 2}, "test": {"one": 1}},
    "baseline": None,
}


def lines_of(**changes: Any) -> list[str]:
    lines = summary_lines("A title", "private", {**SUMMARY, **changes})
    return [" ".join(line.split()) for line in lines]


def test_the_summary_names_exclusions_splits_and_a_missing_baseline():
    lines = lines_of()

    assert "one 4 3 no_geometry 1 not run" in lines
    assert {"train one 2", "test one 1", "baseline verdict: not run"} <= set(lines)
    assert any("small sample" in line for line in lines)


def test_a_baseline_that_could_not_run_says_why_and_blames_no_source():
    said = "not run: task: boxes of volumes are not trained"
    told = {"verdict": "inconclusive", "reason": said, "metric": "box_ap", "matrix": [], "arms": []}
    lines = lines_of(baseline=told)

    assert "one 4 3 no_geometry 1 not run" in lines
    assert f"baseline verdict: inconclusive: {said}" in lines


def test_dice_is_shown_per_source_and_only_where_it_was_measured():
    cells = {None: 0.5, "grey_matter": 0.5, "white_matter": None}
    rows = [{"arm": "fused", "source": "one", "metric": "dice", "concept": c, "value": v}
            for c, v in cells.items()]  # fmt: skip
    baseline = {"verdict": "inconclusive", "metric": "dice", "matrix": rows}
    lines = lines_of(cases=90, baseline=baseline)

    assert "one 4 3 no_geometry 1 grey_matter 0.50" in lines
    assert "baseline verdict: inconclusive" in lines
    assert not any("small" in line for line in lines)
