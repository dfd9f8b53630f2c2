from __future__ import annotations

from pathlib import Path

import pytest

from fusion.baseline.results import (
    ArmRecord,
    ArmResult,
    BoxScore,
    CaseResult,
    MaskScore,
    read_results,
    write_results,
)


def test_results_come_back_from_their_file_as_they_were(tmp_path: Path):
    masks = {
        "lesion": MaskScore(0.1 + 0.2, 0.5, (1, 0, 2), 12.5, 0.0),
        "organ": MaskScore(None, None, None, None, None),
    }
    boxes = {"cell": BoxScore(((0.9, True), (0.1, False)), 3)}
    case = CaseResult("fused", 7, "test", "a__1", "a", "g:1", masks, boxes, {"x": 1 / 3}, {"x": 1})
    done = ArmRecord(
        "fused", 7, "done", "", 60, 40, 0.8, 0.1, ("a__0",), (), ("a__1",), "cpu", ("batch 4",)
    )
    failed = ArmRecord(
        "single:b", 7, "failed", "no training case", 60, None, None, None, (), (), (), "cpu", ()
    )
    arms = [ArmResult(done, (case,)), ArmResult(failed, ())]

    write_results(tmp_path / "baseline" / "results.jsonl", arms)

    assert read_results(tmp_path / "baseline" / "results.jsonl") == arms
    assert [path.name for path in (tmp_path / "baseline").iterdir()] == ["results.jsonl"]


def test_no_file_is_no_result_and_a_foreign_line_is_refused(tmp_path: Path):
    path = tmp_path / "results.jsonl"

    assert read_results(path) == []
    path.write_text('{"kind": "other"}\n')
    with pytest.raises(ValueError, match="found kind 'other'"):
        read_results(path)
