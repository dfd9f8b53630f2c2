"""Boxes through the whole pipeline: read, checked, turned with their image, stored and shown."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import mlcroissant
import nibabel as nib
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from fusion.build import STAGES, Build, run_stage
from fusion.bundle import read_boxes
from fusion.bundle.materialise import write_views
from fusion.bundle.read_bundle import Bundle
from fusion.bundle.verify import verify_bundle
from fusion.errors import BuildError, RecipeError
from fusion.plan import make_plan
from fusion.recipe_check import check_recipe
from tests.fusion.test_real_cases import Silent

SIZE = (24, 31)  # rows, columns
COUNT = 8
#: x, y, width, height per picture; the last one was looked through and shows nothing.
DRAWN = {i: [(4 + i, 2, 7, 9.5), (20, 10 + i, 6.25, 4)][: 1 + i % 2] for i in range(COUNT - 1)}
COCO = {
    "path": "coco.json",
    "kind": "shapes",
    "values": {"Lesions": "rib_fracture", "Cysts": "cardiomegaly"},
}


@pytest.fixture
def root(tmp_path):
    rng = np.random.default_rng(1)
    (tmp_path / "made" / "images").mkdir(parents=True)
    for i in range(COUNT):
        pixels = rng.integers(0, 100, SIZE, dtype=np.uint8)
        for x, y, width, height in DRAWN.get(i, ()):
            pixels[y : int(y + height), x : int(x + width)] = 250
        Image.fromarray(pixels).save(tmp_path / "made" / "images" / f"{i}.png")
    write_coco(tmp_path, DRAWN)
    return tmp_path


def write_coco(root, drawn, **more):
    images = [{"id": i, "file_name": f"{i}.png", "height": SIZE[0], "width": SIZE[1]}
              for i in range(COUNT)]  # fmt: skip
    annotations = [
        {"id": 10 * i + n, "image_id": i, "category_id": 1 + n, "bbox": box, **more}
        for i, boxes in drawn.items()
        for n, box in enumerate(boxes)
    ]
    data = {"images": images, "annotations": annotations}
    data["categories"] = [{"id": 1, "name": "Lesions"}, {"id": 2, "name": "Cysts"}]
    (root / "made" / "coco.json").write_text(json.dumps(data))


def planned(layers, *, sources=None, **changes):
    description = {
        "name": "made",
        "modality": "OP",
        "family": "Fundus photography",
        "dimension": "2D",
        "cases": {"image": "images/{name}.png", "subject": "{name}"},
        "layers": layers,
    } | changes.pop("description", {})
    source = {
        "id": "made",
        "dataset": "made",
        "location": {"kind": "local", "path": "made"},
        "description": description,
    } | changes.pop("member", {})
    data = {
        "schema": "imaging-x/recipe/1",
        "title": "boxes",
        "task": "detection",
        "baseline": {"tier": "none"},
        "views": ["monai", "huggingface", "nnunet"],
        "sources": sources or [source],
    } | changes
    return make_plan(check_recipe(data, {"made", "other"}))


def build(plan, root, out="out"):
    made, seen = Build(plan, root, root / f"{out}.work", root / out), Silent()
    for stage in STAGES:
        run_stage(stage, made, seen)
    report = verify_bundle(root / out)
    assert report.ok, report
    return seen


def found_in(root, out="out"):
    """Name of each case -> its boxes as (concept, corners)."""
    with Bundle(root / out) as bundle:
        return {
            case["name"]: sorted(
                (bundle.concepts[c], corners)
                for c, corners in zip(found.classes, found.corners.tolist(), strict=True)
            )
            for case in bundle.cases()
            if (found := read_boxes.boxes_of(bundle, case, check=True))
        }


def expected(drawn):
    """COCO's boxes as corners."""
    names = ("rib_fracture", "cardiomegaly")
    return {
        str(i): sorted(
            (names[n], [x, y, x + width, y + height])
            for n, (x, y, width, height) in enumerate(drawn.get(i, ()))
        )
        for i in range(COUNT)
    }


def sums(folder: Path) -> str:
    return (folder / "SHA256SUMS").read_text()


def test_boxes_of_coco_come_out_as_they_were_drawn_and_an_empty_picture_has_none(root):
    build(planned([COCO]), root)

    assert found_in(root) == expected(DRAWN)
    manifest = json.loads((root / "out" / "manifest.json").read_text())
    assert manifest["plan"]["task"] == "detection"
    empty = next(c for c in manifest["cases"] if c["name"] == str(COUNT - 1))
    assert sorted(empty["annotated"]) == ["cardiomegaly", "rib_fracture"]
    assert set(empty["present"].values()) == {0}
    assert len(manifest["boxes"]) == sum(map(len, DRAWN.values()))
    assert not any(box["derived"] for box in manifest["boxes"])


def test_the_same_recipe_gives_the_same_bytes(root):
    for out in ("first", "second"):
        build(planned([COCO]), root, out)

    assert sums(root / "first") == sums(root / "second")


def test_views_of_other_tools_hold_the_boxes_or_say_why_they_cannot(root):
    build(planned([COCO]), root)

    write_views(root / "out", ["monai"], root / "monai")
    listed = json.loads((root / "monai" / "datalist.json").read_text())
    rows = [row for part in ("training", "validation", "test") for row in listed.get(part, ())]
    assert listed["labels"] == {"0": "cardiomegaly", "1": "rib_fracture"}
    import monai.transforms as mt

    load = mt.LoadImage(image_only=True, ensure_channel_first=False)
    for row in rows:
        image = np.asarray(load(root / "monai" / row["image"]))
        for x0, y0, x1, y1 in row["box"]:  # as MONAI has it: the first axis is the width
            assert image[int(x0) : int(x1), int(y0) : int(y1)].min() == 250
        assert len(row["box"]) == len(row["label"])
    coco = [json.loads(path.read_text()) for path in (root / "monai").glob("coco-*.json")]
    boxes = [row["bbox"] for one in coco for row in one["annotations"]]
    assert sorted(boxes) == sorted(list(map(float, b)) for one in DRAWN.values() for b in one)
    for one in coco:
        assert all((root / "monai" / row["file_name"]).is_file() for row in one["images"])
    table = pq.read_table(root / "out" / "views" / "huggingface" / "cases.parquet").to_pylist()
    assert {row["name"]: len(row["objects"]["corners"]) for row in table} == {
        name: len(found) for name, found in expected(DRAWN).items()
    }
    said = json.loads((root / "out" / "manifest.json").read_text())["views"]
    assert "no place for boxes" in said["nnunet"]["omitted"]


def test_the_paper_and_croissant_get_one_record_per_case_and_per_box(root):
    build(planned([COCO]), root)

    lines = (root / "out" / "annotations-detection.jsonl").read_text().splitlines()
    tasks = [json.loads(line)["tasks"][0] for line in lines]
    assert sorted(len(task["boxes"]) for task in tasks) == sorted(
        len(boxes) for boxes in expected(DRAWN).values()
    )
    dataset = mlcroissant.Dataset(root / "out" / "croissant.json")
    records = list(dataset.records("boxes"))
    corners = sorted(record["boxes/corners"] for record in records)
    assert corners == sorted(c for boxes in expected(DRAWN).values() for _, c in boxes)


def test_the_reader_that_travels_with_a_bundle_gives_boxes_to_torch(root):
    build(planned([COCO]), root)
    assert (root / "out" / "tools" / "read_boxes.py").read_bytes() == Path(
        read_boxes.__file__
    ).read_bytes()

    with Bundle(root / "out") as bundle:
        items = list(read_boxes.BoxCases(bundle))

    assert len(items) == COUNT
    assert {tuple(item["boxes"].shape[1:]) for item in items} == {(4,)}
    assert sum(len(item["labels"]) for item in items) == sum(map(len, DRAWN.values()))


def test_a_box_beyond_the_edge_is_clipped_one_without_extent_left_out_and_both_are_told(root):
    write_coco(root, DRAWN | {0: [(-2, 3, 6, 5)], 2: [(4, 4, 0, 5)], 4: [(3, 3, 5, 5)] * 1})

    build(planned([COCO]), root)

    found = found_in(root)
    assert found["0"] == [("rib_fracture", [0, 3, 4, 8])]
    assert found["2"] == []
    codes = [row["code"] for row in json.loads((root / "out/report.json").read_text())["findings"]]
    assert {"box_clipped", "box_empty"} <= set(codes)


def test_a_box_beside_the_image_excludes_the_case(root):
    write_coco(root, DRAWN | {3: [(40, 3, 6, 5)]})

    seen = build(planned([COCO]), root)

    assert seen.codes["3"] == "grid_conflict"
    assert "3" not in found_in(root)


def test_equal_boxes_are_kept_once(root):
    data = json.loads((root / "made" / "coco.json").read_text())
    data["annotations"] += [one | {"id": 1000 + one["id"]} for one in data["annotations"]]
    (root / "made" / "coco.json").write_text(json.dumps(data))

    build(planned([COCO]), root)

    assert found_in(root) == expected(DRAWN)
    report = json.loads((root / "out" / "report.json").read_text())
    assert "box_duplicate" in {row["code"] for row in report["findings"]}


def test_rows_of_a_table_and_yolo_files_give_the_same_boxes(root):
    lines = ["image,class,x,y,w,h"]
    (root / "made" / "yolo").mkdir()
    for i in range(COUNT):
        text = ""
        for n, (x, y, w, h) in enumerate(DRAWN.get(i, ())):
            lines.append(f"{i},{n},{x},{y},{w},{h}")
            middle = ((x + w / 2) / SIZE[1], (y + h / 2) / SIZE[0], w / SIZE[1], h / SIZE[0])
            text += f"{n} {' '.join(map(repr, middle))}\n"
        (root / "made" / "yolo" / f"{i}.txt").write_text(text)
        if i not in DRAWN:
            lines.append(f"{i},none,,,,")
    (root / "made" / "boxes.csv").write_text("\n".join(lines))
    values = {"0": "rib_fracture", "1": "cardiomegaly"}
    rows = {"key": "image", "name": "class", "extent": ["x", "y", "w", "h"], "nothing": ["none"]}
    table = {"path": "boxes.csv", "kind": "shapes", "rows": rows, "values": values}
    yolo = {"path": "yolo/{name}.txt", "kind": "shapes", "values": values}

    build(planned([table]), root, "table")
    build(planned([yolo]), root, "yolo")

    assert found_in(root, "table") == expected(DRAWN)
    assert found_in(root, "yolo") == expected(DRAWN)


def test_a_source_of_masks_needs_the_declared_conversion_and_its_boxes_are_marked(root):
    (root / "made" / "masks").mkdir()
    for i in range(COUNT):
        mask = np.zeros(SIZE, np.uint8)
        mask[2:6, 3 + i : 9 + i] = 255
        mask[12:20, 5:6] = 255
        Image.fromarray(mask * (i in DRAWN)).save(root / "made" / "masks" / f"{i}.png")
    layer = {"path": "masks/{name}.png", "kind": "mask", "concept": "rib_fracture"}

    with pytest.raises(RecipeError, match=r"E04.*convert: box"):
        planned([layer])
    plan = planned([layer], member={"convert": "box"})
    build(plan, root)

    found = found_in(root)
    assert found["2"] == [("rib_fracture", [5, 2, 11, 6]), ("rib_fracture", [5, 12, 6, 20])]
    assert found[str(COUNT - 1)] == []
    assert any(limit.startswith("E04") for limit in plan.known_limits)
    with Bundle(root / "out") as bundle:
        kinds = [read_boxes.boxes_of(bundle, case).derived for case in bundle.cases()]
    assert np.concatenate(kinds).all()


def test_things_that_touch_have_a_box_each_where_each_has_a_number(root):
    (root / "made" / "cells").mkdir()
    for i in range(COUNT):
        numbers = np.zeros(SIZE, np.uint16)
        numbers[2:6, 3:9] = 7
        numbers[4:9, 9:12] = 300
        Image.fromarray(numbers).save(root / "made" / "cells" / f"{i}.png")
    layer = {"path": "cells/{name}.png", "kind": "instances", "concept": "rib_fracture"}

    build(planned([layer], member={"convert": "box"}), root)

    assert found_in(root)["1"] == [("rib_fracture", [3, 2, 9, 6]), ("rib_fracture", [9, 4, 12, 9])]


def test_an_outline_needs_the_conversion_too(root):
    write_coco(root, DRAWN, segmentation=[[4, 2, 11, 2, 11, 9]])
    data = json.loads((root / "made" / "coco.json").read_text())
    for one in data["annotations"]:
        del one["bbox"]
    (root / "made" / "coco.json").write_text(json.dumps(data))

    with pytest.raises(BuildError, match="convert: box"):
        build(planned([COCO]), root)
    build(planned([COCO], member={"convert": "box"}), root, "made-of")

    assert found_in(root, "made-of")["0"] == [("rib_fracture", [4, 2, 11, 9])]


def test_a_copy_that_was_enlarged_is_taken_back_with_its_boxes(root):
    for path in (root / "made" / "images").glob("*.png"):
        Image.open(path).resize((SIZE[1] * 2, SIZE[0] * 2), Image.Resampling.NEAREST).save(path)
    data = json.loads((root / "made" / "coco.json").read_text())
    for one in data["annotations"]:
        one["bbox"] = [2 * number for number in one["bbox"]]
    for one in data["images"]:
        one["height"], one["width"] = 2 * SIZE[0], 2 * SIZE[1]
    (root / "made" / "coco.json").write_text(json.dumps(data))
    rule = {"enlarged_by": 2, "reason": "the host enlarged it"}

    build(planned([COCO], description={"adjust": [rule]}), root)

    assert found_in(root) == expected(DRAWN)


def solid(root, spacing=(1.0, 2.0, 3.0)):
    """Volumes whose axes run another way than RAS, with two blocks each."""
    affine = np.array([[0, spacing[1], 0, 5], [-spacing[0], 0, 0, 7], [0, 0, -spacing[2], 9.0]])
    affine = np.vstack([affine, [0, 0, 0, 1]])
    for i in range(4):
        rng = np.random.default_rng(i)
        image, label = rng.normal(100, 5, (14, 12, 10)), np.zeros((14, 12, 10), np.uint8)
        label[2:5, 3 : 6 + i, 1:4] = 1
        label[9:13, 8:11, 6:9] = 1
        image[label > 0] += 400
        for name, array in (("images", image.astype(np.float32)), ("labels", label)):
            (root / "made" / name).mkdir(parents=True, exist_ok=True)
            made = nib.Nifti1Image(array, affine)
            made.set_sform(affine, 1)
            made.set_qform(affine, 1)
            nib.save(made, root / "made" / name / f"{i}.nii.gz")
    return {
        "modality": "MR",
        "family": "MR",
        "dimension": "3D",
        "cases": {"image": "images/{name}.nii.gz", "subject": "{name}"},
    }


@pytest.mark.parametrize(
    "target", [{"profile": "canonical"}, {"profile": "native"},
               {"profile": "grid", "spacing_mm": [2.0, 2.0, 1.5]}],
    ids=lambda target: target["profile"],
)  # fmt: skip
def test_boxes_of_volumes_go_where_their_image_goes(tmp_path, target):
    described = solid(tmp_path)
    layer = {"path": "labels/{name}.nii.gz", "kind": "mask", "concept": "cardiomegaly"}
    plan = planned([layer], description=described, member={"convert": "box"}, target=target,
                   views=["monai"])  # fmt: skip

    build(plan, tmp_path)

    with Bundle(tmp_path / "out") as bundle:
        for case in bundle.cases():
            image, _ = bundle.image(case)
            found = read_boxes.boxes_of(bundle, case)
            assert len(found.corners) == 2
            inside = np.zeros(image.shape, bool)
            for corners in found.corners:
                low, high = np.round(corners[:3]).astype(int), np.round(corners[3:]).astype(int)
                inside[tuple(map(slice, low, high))] = True
            if target["profile"] == "grid":  # voxels at an edge hold a part of the block
                assert image[inside].mean() > 300
                assert image[~inside].mean() < 150
            else:
                assert image[inside].min() > 300
                assert image[~inside].max() < 300


@pytest.mark.parametrize(
    ("dimension", "tier", "is_said"),
    [("3D", "smoke", True), ("3D", "none", False), ("2D", "smoke", False)],
)
def test_a_plan_says_that_boxes_of_volumes_are_not_trained(dimension, tier, is_said):
    layer = {"path": "labels/{name}.nii.gz", "kind": "mask", "concept": "cardiomegaly"}
    plan = planned([layer], description={"dimension": dimension}, member={"convert": "box"},
                   baseline={"tier": tier})  # fmt: skip

    words = "networks for boxes of volumes are not trained"
    warned = [gate["detail"] for gate in plan.gates if gate["verdict"] == "warn"]

    assert any(words in detail for detail in warned) is is_said
    assert any(words in limit for limit in plan.known_limits) is is_said


def test_two_sources_with_other_boxes_of_one_image_are_a_conflict_and_both_can_be_kept(root):
    other = root / "other"
    other.mkdir()
    (root / "made" / "images").rename(root / "images")
    moved = {i: [(x + 5, y, w, h) for x, y, w, h in boxes] for i, boxes in DRAWN.items()}
    mine = (root / "made" / "coco.json").read_text()
    write_coco(root, moved)
    (root / "made" / "coco.json").rename(other / "coco.json")
    (root / "made" / "coco.json").write_text(mine)
    for folder in ("made", "other"):
        (root / folder / "images").mkdir()
        for path in (root / "images").iterdir():
            (root / folder / "images" / path.name).write_bytes(path.read_bytes())
    description = {"name": "x", "modality": "OP", "family": "Fundus photography", "dimension": "2D",
                   "layers": [COCO],
                   "cases": {"image": "images/{name}.png", "subject": "{name}"}}  # fmt: skip
    sources = [
        {
            "id": i,
            "dataset": i,
            "location": {"kind": "local", "path": i},
            "description": description,
        }
        for i in ("made", "other")
    ]

    build(planned([], sources=sources, overlap_plan="keep_relabelled"), root)

    report = json.loads((root / "out" / "report.json").read_text())
    said = [row["detail"] for row in report["findings"] if row["code"] == "label_conflict"]
    assert any("boxes" in one for one in said)
    with Bundle(root / "out") as bundle:
        case = next(c for c in bundle.cases() if c["name"] == "0")
        rows = list(csv.reader(io.StringIO(bundle.read(case, "label_boxes_other").decode())))
    assert rows[1] == ["rib_fracture", "9.0", "2.0", "16.0", "11.5", "0"]


def test_labels_that_may_not_be_passed_on_are_nowhere_in_a_shareable_bundle(root):
    licence = {"images": "CC-BY-4.0", "labels": "LicenseRef-research-only"}
    plan = planned([COCO], build="shareable", description={"licence": licence})

    build(plan, root)

    manifest = json.loads((root / "out" / "manifest.json").read_text())
    assert manifest["boxes"] == []
    assert all(case["recipe_only"] == ["label_boxes"] for case in manifest["cases"])
    lines = (root / "out" / "annotations-detection.jsonl").read_text().splitlines()
    assert all(json.loads(line)["tasks"][0]["boxes"] is None for line in lines)
    listed = json.loads((root / "out" / "views" / "monai" / "datalist.json").read_text())
    assert not any("box" in row for row in listed["training"])


def test_verify_finds_a_box_that_was_changed_in_the_manifest(root):
    build(planned([COCO]), root)
    path = root / "out" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["boxes"][0]["corners"][2] += 100
    path.write_text(json.dumps(manifest))

    report = verify_bundle(root / "out")

    failed = {check.code: check.detail for check in report.checks if not check.ok}
    assert "is not what the manifest says" in failed["boxes"]
