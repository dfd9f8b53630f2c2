"""Boxes that a network finds: learnt, scored, brought back to the pixels of the picture."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from django.core.management import call_command
from monai.apps.detection.metrics.coco import COCOMetric
from monai.apps.detection.metrics.matching import matching_batch
from monai.data.box_utils import box_iou
from PIL import Image
from torch import nn

from fusion.baseline import FOLDER, TIERS, Tier, run_baseline
from fusion.baseline.cases import read_cases
from fusion.baseline.detect import (
    AnchorLoss,
    Detected,
    Detector,
    anchors_of,
    mean_ap,
    reference_of,
    retina_net,
    scores,
)
from fusion.baseline.fit import Room
from fusion.baseline.grid import canvas_for, load
from fusion.baseline.results import FILE, read_results
from fusion.baseline.segment import Predictor
from fusion.build import STAGES, Build, run_stage
from fusion.bundle.boxes import encode_boxes
from fusion.bundle.verify import verify_bundle
from fusion.errors import CancelledError
from fusion.imaging.boxes import overlaps
from fusion.plan import make_plan
from fusion.recipe_check import check_recipe
from tests.baseline.made import Work, discs, plan
from tests.fusion.test_real_cases import Silent

CPU = torch.device("cpu")
LEARNING = Tier(steps=100, shared_steps=200, fewest_steps=60)  # 66 steps of each of three networks
BRIEF = Tier(steps=4, fewest_steps=2, validations=2)


def told(*sources: str, **more):
    return plan(*sources, task="detection", **more)


def run(plan_data, work, tier=BRIEF, **more):
    return run_baseline(plan_data, work.root, device="cpu", threads=1, tier=tier, **more)


def figure(result, source, arm="fused", concept="disc"):
    return next(
        row
        for row in result["matrix"]
        if (row["arm"], row["source"], row["concept"]) == (arm, source, concept)
    )


def boxed(work: Work, train: int = 16, val: int = 3, test: int = 8) -> Work:
    for source in ("a", "b"):
        for split in ["train"] * train + ["val"] * val + ["test"] * test:
            work.boxed(source, split)
    return work


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Work, dict]:
    work = boxed(Work(tmp_path_factory.mktemp("boxed")))
    return work, run(told("a", "b"), work, LEARNING)


def test_boxes_around_discs_are_learnt_in_both_sources(trained, tmp_path: Path):
    _, result = trained
    fresh = run(told("a", "b"), boxed(Work(tmp_path), train=4), BRIEF)

    for source in ("a", "b"):
        row = figure(result, source)
        assert row["metric"] == "box_ap"
        assert row["value"] > 0.5
        assert row["value"] > figure(fresh, source)["value"] + 0.4
        assert (row["n_cases"], row["ci"]) == (8, "unreliable")
        assert row["n_positive"] > 5
    arms = [arm["arm"] for arm in result["arms"]]
    assert arms == ["fused", "single:a", "single:b", "without:a", "without:b"]
    assert result["metric"] == result["gains"]["metric"] == "box_ap"
    assert result["verdict"] == "inconclusive"
    json.dumps(result, allow_nan=False)


def test_the_worst_cases_are_kept_with_areas_of_boxes(trained):
    work, result = trained
    names = [row["case"] for row in result["worst"]]

    assert len(names) == 10
    assert result["worst"][0]["says"].endswith("boxes missed or invented")
    seen = set()
    for name in names:
        with np.load(work.root / FOLDER / "pictures" / f"{name}.npz") as kept:
            assert kept["image"].shape == kept["reference"].shape == kept["prediction"].shape
            seen |= set(np.unique(kept["reference"]).tolist())
    assert seen == {0, 1}


def test_predicted_boxes_lie_on_the_pixels_of_the_picture_that_was_given(trained, tmp_path: Path):
    work, _ = trained
    true, hits = 0, 0
    for seed in range(500, 508):
        image, boxes = discs(seed, (50, 72))
        Image.fromarray(image).save(tmp_path / f"{seed}.png")
        true += len(boxes)
    files = sorted(tmp_path.glob("*.png"))

    call_command("predict", str(work.root / FOLDER), *map(str, files), out=tmp_path / "out")

    head, *rows = csv.reader((tmp_path / "out" / "boxes.csv").read_text().splitlines())
    assert head == ["image", "concept", "x0", "y0", "x1", "y1", "confidence"]
    for seed in range(500, 508):
        wanted = np.array([corners for _, corners in discs(seed, (50, 72))[1]]).reshape(-1, 4)
        mine = [row for row in rows if row[0] == str(seed) and row[1] == "disc"]
        found = np.array([row[2:6] for row in mine], float).reshape(-1, 4)
        assert (found >= 0).all()
        assert (found[:, [0, 2]] <= 72).all()
        assert (found[:, [1, 3]] <= 50).all()
        surest = found[: len(wanted)]
        hits += int((overlaps(wanted, surest).max(axis=1, initial=0) >= 0.5).sum())
    assert true >= 8
    assert hits >= true / 2


def test_the_same_seed_gives_the_same_boxes_also_after_a_stop(tmp_path: Path):
    tier = Tier(steps=8, fewest_steps=8, validations=4)
    works = [Work(tmp_path / name) for name in ("whole", "stopped")]
    for work in works:
        for split in ["train"] * 4 + ["val"] * 2 + ["test"] * 2:
            work.boxed("a", split)
    whole = run(told("a"), works[0], tier)
    calls = []

    def stop() -> None:
        calls.append(1)
        if len(calls) == 8 + 5:  # cases are read, then steps done: after the second look
            raise CancelledError

    with pytest.raises(CancelledError):
        run(told("a"), works[1], tier, check=stop)
    assert list((works[1].root / FOLDER).glob("checkpoints/*.pt"))
    again = run(told("a"), works[1], tier)

    assert again == whole
    weights = [(work.root / FOLDER / "weights.safetensors").read_bytes() for work in works]
    assert weights[0] == weights[1]
    rows = [read_results(work.root / FOLDER / FILE) for work in works]
    assert rows[0] == rows[1]
    other = run(told("a", seed=8), works[1], tier)
    assert other["arms"][0]["last_loss"] != whole["arms"][0]["last_loss"]


def test_a_concept_that_nobody_looked_for_is_neither_learnt_nor_scored(tmp_path: Path):
    work = Work(tmp_path)
    both = ["disc", "other"]
    for split in ["train"] * 4 + ["test"] * 3:
        work.boxed("a", split, concepts=both, annotated=both)
        work.boxed("b", split, concepts=both, annotated=["other"])

    result = run(told("a", "b", concepts=[{"id": "disc"}, {"id": "other"}]), work)

    row = figure(result, "b")
    assert (row["value"], row["reason"]) == (None, "not annotated in any test case")
    assert figure(result, "b", concept="other")["n_cases"] == 3
    cases = [case for arm in read_results(work.root / FOLDER / FILE) for case in arm.cases]
    assert {tuple(case.boxes) for case in cases if case.source == "b"} == {("other",)}


def test_only_annotated_concepts_have_a_gradient():
    anchors, _ = anchors_of(64)
    outputs = torch.zeros(2, len(anchors), 2 + 4, requires_grad=True)
    box = [10.0, 12.0, 26.0, 25.0]
    targets = torch.tensor([[[0, *box]], [[-1.0] * 5]])
    annotated = torch.tensor([[True, False], [False, True]])

    AnchorLoss(64)(outputs, targets, annotated).backward()

    first, second = outputs.grad
    assert first[:, 0].abs().min() > 0
    assert first[:, 1].abs().max() == 0
    assert (first[:, 0] < 0).any()  # anchors on the box: more of class 0
    assert first[:, 2:].abs().max() > 0
    assert second[:, 0].abs().max() == second[:, 2:].abs().max() == 0
    assert (second[:, 1] > 0).all()  # looked for, and nothing there
    nothing = AnchorLoss(64)(outputs, targets, torch.zeros(2, 2, dtype=torch.bool))
    assert float(nothing) == 0


class Oracle(nn.Module):
    """Says the anchors that lie best on given boxes of the canvas, moved onto them."""

    def __init__(self, rows: np.ndarray, patch: int) -> None:
        super().__init__()
        anchors, _ = anchors_of(patch)
        self.said = torch.full((1, len(anchors), 1 + 4), -20.0)
        for row in torch.from_numpy(rows):
            at = int(np.argmax(overlaps(row[None, 1:].numpy(), anchors.numpy())))
            size = anchors[at, 2:] - anchors[at, :2]
            centre = (anchors[at, 2:] + anchors[at, :2]) / 2
            moved = ((row[3:] + row[1:3]) / 2 - centre) / size
            grown = torch.log((row[3:] - row[1:3]) / size)
            self.said[0, at] = torch.cat([torch.tensor([4.0]), moved, grown])

    def forward(self, _: torch.Tensor) -> torch.Tensor:
        return self.said


def test_boxes_go_to_the_canvas_and_come_back(tmp_path: Path):
    work = Work(tmp_path)
    for _ in range(6):
        work.boxed("a", "train")
    cases = read_cases(tmp_path)
    canvas = canvas_for(cases, Tier(), fills=True)
    stacks = {case.id: load(case, canvas, 1) for case in cases}
    detector, seen = Detector(["disc"], canvas, stacks, cases), 0
    predictor = Predictor(canvas, CPU, Room([]))
    for case in cases:
        true = reference_of(case, ["disc"])
        rows = detector._target(case)
        for _, top, left, bottom, right in rows:  # bright pixels on the canvas
            inside = stacks[case.id].images[
                0, 0, round(top) : round(bottom), round(left) : round(right)
            ]
            assert inside.mean() > stacks[case.id].images[0, 0].mean() + 0.1

        found = detector.detected(
            Oracle(rows, canvas.patch), stacks[case.id], case.shape, predictor
        )

        order = np.lexsort(found.boxes.T)
        np.testing.assert_allclose(
            found.boxes[order], true.boxes[np.lexsort(true.boxes.T)], atol=1e-3
        )
        (score,) = scores(found, true, ["disc"], case.annotated).values()
        assert [hit for _, hit in score.predicted] == [True] * len(true.boxes)
        seen += len(true.boxes)
    assert seen > 3


def test_the_surest_box_takes_the_free_one_that_it_lies_on_best():
    true = Detected(
        np.array([[0, 0, 10, 10], [20, 20, 30, 30], [0, 0, 10, 10.0]]),
        np.array([0, 0, 1]),
        np.ones(3),
    )
    said = np.array([[0, 0, 10, 9], [0, 1, 10, 10], [20, 20, 30, 24], [0, 0, 10, 10.0]])
    found = Detected(said, np.array([0, 0, 0, 2]), np.array([0.4, 0.9, 0.8, 0.7]))

    by_concept = scores(found, true, ["x", "y", "z", "w"], frozenset("xyz"))

    assert by_concept["x"].predicted == ((0.9, True), (0.8, False), (0.4, False))
    assert [by_concept[c].reference for c in "xyz"] == [2, 1, 0]
    assert (by_concept["y"].predicted, by_concept["z"].predicted) == ((), ((0.7, False),))
    assert [by_concept[c].wrong for c in "xyz"] == [2, 1, 1]
    assert set(by_concept) == set("xyz")


def test_box_ap_is_that_of_coco():
    rng = np.random.default_rng(3)
    metric = COCOMetric(["x"], iou_list=[0.5], max_detection=[100])
    rows, matches = [], []
    for _ in range(40):
        low = rng.uniform(0, 80, (4, 2))
        true = Detected(np.hstack([low, low + 20]), np.zeros(4, int), np.ones(4))
        moved = np.concatenate([true.boxes + rng.normal(0, 3, (4, 4)), true.boxes[:2] + 90])
        sure = np.concatenate([rng.uniform(0.3, 1, 4), rng.uniform(0, 0.8, 2)])
        found = Detected(moved, np.zeros(6, int), sure)
        rows.append(scores(found, true, ["x"], frozenset("x")))
        matches += matching_batch(
            box_iou,
            metric.iou_thresholds,
            [moved],
            [found.classes],
            [sure],
            [true.boxes],
            [true.classes],
        )

    (name,) = [key for key in metric(matches)[0] if key.startswith("AP_IoU_0.50")]

    assert 0.3 < mean_ap(rows) < 0.95
    assert mean_ap(rows) == pytest.approx(metric(matches)[0][name], abs=0.02)  # 101 recalls


def test_boxes_of_volumes_are_refused_with_the_reason(tmp_path: Path):
    work = Work(tmp_path)
    name = work.volume("a", "train")
    path = work.root / "cases" / name / "case.json"
    row = json.loads(path.read_text())
    row["files"].append({"role": "label_boxes", "path": "label_boxes.csv"})
    (path.parent / "label_boxes.csv").write_bytes(encode_boxes([], is_volume=True))
    path.write_text(json.dumps(row))

    with pytest.raises(ValueError, match=rf"found 1 volumes \({name}\), expected pictures"):
        run(told("a"), work)
    masks = Work(tmp_path / "masks")
    masks.picture("a", "train")
    with pytest.raises(ValueError, match="found 1 cases, none fit for detection"):
        run(told("a"), masks)


def test_numbers_that_are_none_fail_the_arm(tmp_path: Path):
    work = boxed(Work(tmp_path), train=2, val=0, test=1)

    result = run(told("a"), work, Tier(steps=4, fewest_steps=4, learning_rate_boxes=float("inf")))

    (arm,) = result["arms"]
    assert arm["state"] == "failed"
    assert "gives no numbers" in arm["reason"]


def test_equal_seeds_start_from_equal_weights():
    nets = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        nets.append(retina_net(1, 2, (16, 32, 64, 128)).state_dict())

    def equal(one, other):
        return all(torch.equal(one[name], other[name]) for name in one)

    assert equal(nets[0], nets[1])
    assert not equal(nets[0], nets[2])


def made_source(root: Path, name: str, first: int) -> dict:
    """Pictures with discs, and their boxes as COCO has them."""
    (root / name / "images").mkdir(parents=True)
    images, rows = [], []
    for seed in range(first, first + 12):
        picture, boxes = discs(seed, (60, 48))
        Image.fromarray(picture).save(root / name / "images" / f"{seed}.png")
        images.append({"id": seed, "file_name": f"{seed}.png", "height": 60, "width": 48})
        for _, (x0, y0, x1, y1) in boxes:
            box = [x0, y0, x1 - x0, y1 - y0]
            rows.append({"id": len(rows), "image_id": seed, "category_id": 1, "bbox": box})
    data = {"images": images, "annotations": rows, "categories": [{"id": 1, "name": "Lesions"}]}
    (root / name / "coco.json").write_text(json.dumps(data))
    description = {
        "name": name,
        "modality": "OP",
        "family": "Fundus photography",
        "dimension": "2D",
        "licence": {"images": "CC0-1.0", "labels": "CC0-1.0"},
        "cases": {"image": "images/{name}.png", "subject": "{name}"},
        "layers": [{"path": "coco.json", "kind": "shapes", "values": {"Lesions": "rib_fracture"}}],
    }
    location = {"kind": "local", "path": name}
    return {"id": name, "dataset": name, "location": location, "description": description}


def test_a_recipe_of_boxes_ends_with_a_baseline_in_its_bundle(tmp_path: Path, monkeypatch):
    monkeypatch.setitem(TIERS, "smoke", BRIEF)
    data = {
        "schema": "imaging-x/recipe/1",
        "title": "boxes",
        "task": "detection",
        "baseline": {"tier": "smoke"},
        "views": [],
        "sources": [made_source(tmp_path, "one", 0), made_source(tmp_path, "two", 100)],
    }
    made = Build(
        make_plan(check_recipe(data, {"one", "two"})), tmp_path, tmp_path / "work", tmp_path / "out"
    )

    for stage in STAGES:
        run_stage(stage, made, Silent())

    assert verify_bundle(tmp_path / "out").ok
    folder = tmp_path / "out" / "baseline"
    result = json.loads((folder / "baseline.json").read_text())
    assert (result["task"], result["metric"]) == ("detection", "box_ap")
    assert not result["reason"].startswith("not run")
    assert {arm["state"] for arm in result["arms"]} == {"done"}
    values = [row["value"] for row in result["matrix"] if row["concept"] is None]
    assert len(values) == 5 * 2
    assert None not in values
    assert set(result["shift"]["n_cases"]) == {"one", "two"}
    assert result["shift"]["matched"]
    assert json.loads((folder / "network.json").read_text())["task"] == "detection"
    assert "object-detection" in (folder / "README.md").read_text()
    page = (folder / "baseline.html").read_text()
    assert "Average precision of boxes" in page
    assert "boxes missed or invented" in page
    assert page.count("data:image/png;base64") >= 1
