"""Voxels that nobody annotated: no background and no concept, in every form that the bundle has."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from fusion.baseline.segment import partial_loss
from fusion.bundle.ignoring import IgnoringCases, counted, ignored_of
from fusion.bundle.masked import masked_dice, masked_loss
from fusion.bundle.materialise import write_views
from fusion.bundle.read_bundle import Bundle
from fusion.bundle.verify import verify_bundle
from fusion.bundle.write import write_sums
from fusion.source import Layer, SourceDescription
from tests.fusion.made import block, fuse, member, person, recipe, write_source

LAYER = {"path": "labels/{name}.nii.gz", "kind": "label_map"}


def unseen(value: int = 255) -> np.ndarray:
    """A block of 1 in the middle, and a slab of `value` along one side of it."""
    label = block()
    label[:, :6] = value
    return label


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Source a says where nobody looked, source b cannot; on a coarser grid."""
    root = tmp_path_factory.mktemp("ignore")
    write_source(
        root / "a", {f"a{n}": person(n) for n in range(3)}, {f"a{n}": unseen() for n in range(3)}
    )
    write_source(root / "b", {f"b{n}": person(n + 10) for n in range(3)})
    said = [LAYER | {"values": {"1": "spleen", "255": "ignore"}}]
    data = recipe(
        member("a", layers=said),
        member("b"),
        views=["nnunet", "monai", "bids", "huggingface"],
        target={"profile": "grid", "spacing_mm": [1, 2, 2]},
    )
    return fuse(data, root)


def test_ignored_voxels_go_through_to_the_bundle_as_the_value_after_all_concepts(built):
    case = built.cases["a0"]
    label = np.asarray(nib.load(built.file("a0", "label")).dataobj)

    assert np.unique(label).tolist() == [0, 1, 2]
    assert (label[:, :3] == 2).all()
    assert (label[:, 3:] < 2).all()
    assert case["ignored"] == 20 * 3 * 8
    counts = {row["name"]: row["ignored"] for row in built.manifest["cases"]}
    assert (counts["a0"], counts["b0"]) == (case["ignored"], 0)
    assert case["roundtrip"].keys() == {"spleen"}
    assert built.manifest["plan"]["ignore"] == 2
    assert built.manifest["label_maps"][0]["values"] == {
        "0": "background", "1": "spleen", "2": "ignore"
    }  # fmt: skip
    assert verify_bundle(built.build.out).ok


def test_the_report_states_the_share_that_nobody_annotated(built):
    rows = built.report["measured"]["ignored"]

    share = pytest.approx(1 / 3, abs=1e-3)
    assert rows == [{"source": "a", "cases": 3, "some": 3, "share": [share] * 5}]
    page = (built.build.out / "report" / "report.html").read_text()
    assert "Voxels that nobody annotated" in page
    assert "| 2 | ignore |" in (built.build.out / "datasheet.md").read_text()


def test_each_view_names_the_ignored_value(built, tmp_path):
    views = built.build.out / "views"
    nnunet = json.loads(next(views.rglob("dataset.json")).read_text())
    monai = json.loads((views / "monai" / "datalist.json").read_text())
    table = pq.read_table(views / "huggingface" / "cases.parquet").to_pylist()
    ignored = built.cases["a0"]["ignored"]

    assert nnunet["labels"] == {"background": 0, "spleen": 1, "ignore": 2}
    assert (monai["ignore"], monai["labels"]["2"]) == (2, "ignore")
    rows = [row for section in ("training", "validation", "test") for row in monai.get(section, [])]
    assert {row["ignored"] for row in rows} == {0, ignored}
    assert "2\tignore" in next((views / "bids").glob("*_dseg.tsv")).read_text()
    assert {row["ignored"] for row in table} == {0, ignored}
    write_views(built.build.out, ["nnunet"], tmp_path / "view")
    for path in (tmp_path / "view").rglob("labels*/a__*"):
        assert np.unique(np.asarray(nib.load(path).dataobj)).tolist() == [0, 1, 2]


def test_a_reader_leaves_ignored_voxels_out_of_loss_and_metric(built):
    with Bundle(built.build.out) as bundle:
        data = IgnoringCases(bundle)
        item = next(data[n] for n in range(len(data)) if data[n]["source"] == "a")
        case = next(case for case in bundle.cases() if case["id"] == item["id"])
        assert (item["ignored"].numpy() == ignored_of(bundle, case)).all()
    label, ignored = item["label"][None], item["ignored"][None]
    annotated = torch.tensor([[True]])
    logits = torch.randn(1, 2, *label.shape[1:], requires_grad=True)

    counted(masked_loss, logits, label, annotated, ignored).mean().backward()

    assert label.max() == 1
    assert not logits.grad[:, :, ignored[0]].any()
    assert logits.grad[:, :, ~ignored[0]].any()
    wrong = torch.where(ignored, torch.ones_like(label), label)
    assert counted(masked_dice, wrong, label, annotated, ignored).item() == 1
    assert masked_dice(wrong, label, annotated).item() < 1
    assert (built.build.out / "tools" / "ignoring.py").is_file()


def test_a_bundle_with_another_count_of_ignored_voxels_is_refused(built):
    path = built.build.out / "manifest.json"
    before = path.read_bytes()
    data = json.loads(before)
    next(case for case in data["cases"] if case["ignored"])["ignored"] -= 1
    path.write_text(json.dumps(data))
    try:
        write_sums(built.build.out)
        found = {check.code: check.detail for check in verify_bundle(built.build.out).checks}
    finally:
        path.write_bytes(before)
        write_sums(built.build.out)

    assert "ignored pixels, expected" in found["pixels"]


def test_a_baseline_learns_nothing_where_nobody_looked():
    logits = torch.randn(2, 1, 6, 6, requires_grad=True)
    targets = torch.zeros(2, 2, 6, 6)
    targets[:, 0, :3], targets[:, 1, :, 3:] = 1, 1

    partial_loss(logits, targets, torch.tensor([[True], [True]])).backward()

    assert not logits.grad[..., 3:].any()
    assert logits.grad[..., :3].any()


def test_a_file_of_its_own_may_say_what_was_not_annotated_and_wins_over_a_concept(tmp_path):
    write_source(tmp_path / "a", {"a0": person(1)}, {"a0": block()})
    write_source(tmp_path / "a" / "void", {"a0": person(1)}, {"a0": block(value=9)})
    layers = [
        LAYER | {"values": {"1": "spleen"}},
        {"path": "void/labels/{name}.nii.gz", "kind": "mask", "concept": "ignore"},
    ]

    case = fuse(recipe(member("a", layers=layers)), tmp_path).cases["a0"]

    assert case["present"] == {"spleen": 0}
    assert case["ignored"] == int(block().sum())


def test_what_classes_cannot_say_is_a_finding(tmp_path):
    write_source(
        tmp_path / "a", {"a0": person(1), "a1": person(2)}, {"a0": unseen(), "a1": block()}
    )
    said = [LAYER | {"values": {"1": "spleen", "255": "ignore"}}]

    built = fuse(
        recipe(member("a", layers=said) | {"convert": "presence"}, task="classification"), tmp_path
    )

    details = [r["detail"] for r in built.report["findings"] if r["code"] == "ignore_lost"]
    assert details == [
        f"a0: {int((unseen() == 255).sum())} voxels are not annotated, which classes cannot say"
    ]
    assert "ignore" not in built.manifest["plan"]
    assert not (built.build.out / "tools" / "ignoring.py").exists()


def test_ignore_is_no_part_of_another_meaning_and_no_class():
    with pytest.raises(ValueError, match="nothing else besides"):
        Layer(**LAYER, values={"1": "spleen+ignore"})
    described = member("a")["description"] | {
        "layers": [],
        "classes": {"table": "t.csv", "column": "c", "values": {"x": "ignore"}},
    }
    with pytest.raises(ValueError, match="ignore is of masks"):
        SourceDescription.model_validate(described)
