"""The baseline's part of a bundle: page, model card, sums."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
from defusedxml import ElementTree
from huggingface_hub import ModelCard

from fusion.baseline.evaluate import evaluate, not_run
from fusion.baseline.page import gain_rows, render
from fusion.baseline.results import ArmResult
from fusion.baseline.write import write_baseline
from tests.baseline.made import Work, plan
from tests.baseline.studies import arms_of, case_result, classes, mask, record, shifted

HOSTILE = '<script>alert("1")</script> & "quoted"'


def made_plan(**more) -> dict:
    made = plan(*"abc", bundle_id="0" * 64, title=f"Discs {HOSTILE}", known_limits=["few discs"])
    licence = {"images": "CC-BY-4.0", "labels": "CC-BY-NC-4.0"}
    made["sources"] = [
        {
            "id": s,
            "description": {"name": f"Set {s}", "licence": licence, "annotation": "manual"},
            "ships": {"images": "harmonised", "labels": "harmonised" if s != "c" else "recipe"},
        }
        for s in "abc"
    ]
    made["concepts"] = [{"id": "disc", "label": "Disc"}]
    return {**made, **more}


def segmented(train: list[str]) -> list[ArmResult]:
    dice = shifted(own=0.8, other=0.5, fused=0.9, rest=0.7)
    rows = {
        arm: [
            case_result(arm, s, n, masks={"disc": mask(dice(arm, s, n))})
            for s in "abc"
            for n in range(22)
        ]
        for arm in arms_of("abc")
    }
    rows["single:b"] = []
    failed = {"single:b": "loss is nan at step 2"}
    return [
        ArmResult(record(arm, train, reason=failed.get(arm, "")), tuple(rows[arm])) for arm in rows
    ]


def classified(train: list[str]) -> list[ArmResult]:
    truth = [0, 1] * 15
    said = np.clip(np.array(truth) * 0.6 + 0.2 + np.sin(np.arange(30)) * 0.3, 0, 1).tolist()
    return [
        ArmResult(record(arm, train), tuple(r for s in "abc" for r in classes(arm, s, said, truth)))
        for arm in arms_of("abc")
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A bundle's folder with the baseline of a segmentation, one arm of which failed."""
    root = tmp_path_factory.mktemp("baseline")
    work = Work(root / "work" / "final")
    cases = [work.picture(s, "train", name="x", present={"disc": 9}) for s in "abc"]
    trained = root / "trained"
    (trained / "pictures").mkdir(parents=True)
    square = np.zeros((40, 50), np.uint8)
    square[10:20, 10:30] = 1
    for name in ("a-10", "a-11", "c-10"):
        np.savez(trained / "pictures" / f"{name}.npz", image=square * 90 + 20,
                 reference=square, prediction=np.roll(square, 5, axis=0))  # fmt: skip
    for name in ("weights.safetensors", "network.json"):
        (trained / name).write_bytes(name.encode())
    data = evaluate(
        made_plan(), root / "work" / "final", segmented(cases), tier="small", resamples=300,
        training={"device": "cpu", "versions": {"torch": "2.9"}}, notes=["64 pixels"],
    )  # fmt: skip
    write_baseline(data, made_plan(), trained, root / "bundle")
    return root / "bundle" / "baseline"


@pytest.fixture(scope="module")
def html(folder) -> str:
    return (folder / "baseline.html").read_text("utf-8")


def test_the_page_is_well_formed_fetches_nothing_and_runs_nothing(html):
    root = ElementTree.fromstring(html.removeprefix("<!doctype html>"))

    values = [value for one in root.iter() for name, value in one.items()
              if name in {"src", "href", "srcset", "data", "action"}]  # fmt: skip
    assert [v for v in values if not v.startswith(("data:image/png;base64,", "#"))] == []
    assert not re.search(r"url\(|@import|https?://", html.split("</style>")[0])
    assert not [one for one in root.iter() if one.tag in {"script", "link", "iframe", "object"}]
    ids = [one.get("id") for one in root.iter() if one.get("id")]
    assert len(ids) == len(set(ids))
    assert {v[1:] for v in values if v.startswith("#")} <= set(ids)
    assert "<script" not in html
    assert all(one.get("alt") for one in root.iter() if one.tag == "img")


def test_the_page_shows_every_figure_or_its_reason(folder, html):
    data = json.loads((folder / "baseline.json").read_text())
    dice = [row for row in data["matrix"] if row["metric"] == "dice" and row["concept"] is None]

    assert len(dice) == 7 * 3
    for row in dice:
        assert (f"{row['value']:.3f}" if row["value"] is not None else row["reason"]) in html
    assert "arm failed: seed 1: loss is nan at step 2" in html
    assert "Verdict: inconclusive" in html
    for row in data["reasons"]:
        assert row.split("<")[0][:60] in html


def test_gains_stand_in_the_order_of_the_sources(folder):
    data = json.loads((folder / "baseline.json").read_text()) | {"sources": ["c", "a", "b"]}

    names = [row["name"] for row in gain_rows(data)]

    assert names == ["G c", "G a", "G b", "U c", "U a", "U b", "mean U"]


def test_concepts_have_the_names_that_people_use(folder, html):
    data = json.loads((folder / "baseline.json").read_text())
    data["shift"]["cramers_v"] = {"disc": 0.25, "all together": None}
    moved = {"concept": "disc", "a": "a", "b": "b", "ks": 0.60714, "shifted": True}
    data["label_quality"]["volume_shifts"] = [moved]

    page = render(data, folder, {})

    assert "Disc Dice 0.8" in html
    assert '<th scope="row">Disc</th><td class="num">0.25</td>' in page
    assert '<td class="num">not defined: all cases alike</td>' in page
    assert "Disc: a and b, KS 0.61" in page


def test_worst_cases_have_pictures_where_they_may_be_shown(folder, html):
    data = json.loads((folder / "baseline.json").read_text())
    sources = [row["source"] for row in data["worst"]]

    assert "c" in sources
    assert html.count('src="data:image/png;base64,') == 2  # a-10 and a-11; c may not be shown
    assert "the licence does not allow its pictures to be passed on" in html
    assert "no picture was kept" in html
    assert "image, reference, prediction" in html


def test_the_sums_name_every_file_of_the_folder(folder):
    lines = (folder / "SHA256SUMS").read_text().splitlines()

    found = {line.split("  ")[1].removeprefix("baseline/"): line.split("  ")[0] for line in lines}
    assert set(found) == {
        "README.md", "baseline.html", "baseline.json", "network.json", "weights.safetensors",
    }  # fmt: skip
    for name, digest in found.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest


def test_the_card_is_one_that_the_hub_reads_and_says_what_the_weights_come_from(folder):
    card = ModelCard.load(folder / "README.md")

    assert card.data.library_name == "monai"
    assert card.data.pipeline_tag == "image-segmentation"
    results = {(r.dataset_config, r.metric_type): r.metric_value for r in card.data.eval_results}
    data = json.loads((folder / "baseline.json").read_text())
    fused = [r for r in data["matrix"] if r["arm"] == "fused" and r["concept"] is None]
    assert results == {(r["source"], r["metric"]): r["value"] for r in fused}
    assert len(fused) == 6
    for said in ("Not for clinical use", "CC-BY-NC-4.0", "few discs", "loss is nan at step 2",
                 "Intended use", "95 % interval", "64 pixels", "inconclusive"):  # fmt: skip
        assert said in card.text


def test_a_bundle_without_weights_has_no_card_and_a_baseline_that_did_not_run_has_a_page(tmp_path):
    data = not_run(made_plan(), "smoke", "no usable case")

    write_baseline(data, made_plan(), tmp_path / "nothing", tmp_path / "bundle")

    names = sorted(path.name for path in (tmp_path / "bundle" / "baseline").iterdir())
    assert names == ["SHA256SUMS", "baseline.html", "baseline.json"]
    html = (tmp_path / "bundle" / "baseline" / "baseline.html").read_text()
    assert "not run: no usable case" in html
    ElementTree.fromstring(html.removeprefix("<!doctype html>"))


def test_classes_have_calibration_and_doubts_on_their_page(tmp_path):
    work = Work(tmp_path / "work" / "final")
    cases = [
        work.picture(s, "train", label=None, name="x", classes={"ill": 1}, annotated=["ill"])
        for s in "abc"
    ]
    plan_data = made_plan(task="classification", concepts=[{"id": "ill", "label": "Ill"}])

    data = evaluate(
        plan_data, tmp_path / "work" / "final", classified(cases), tier="small", resamples=100
    )
    write_baseline(data, plan_data, tmp_path / "none", tmp_path / "bundle")

    html = (tmp_path / "bundle" / "baseline" / "baseline.html").read_text()
    ElementTree.fromstring(html.removeprefix("<!doctype html>"))
    for said in ("Reliability, all sources", "AUROC", "Calibration error (ECE)", "Brier score"):
        assert said in html
