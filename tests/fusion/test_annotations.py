"""Label files of other kinds through the whole pipeline: drawn, coloured, numbered, converted."""

from __future__ import annotations

import json

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from fusion.build import STAGES, Build, run_stage
from fusion.bundle.read_bundle import Bundle
from fusion.bundle.verify import verify_bundle
from fusion.errors import BuildError, RecipeError
from fusion.plan import make_plan
from fusion.recipe_check import check_recipe
from tests.fusion.test_real_cases import Silent

SIZE = (24, 31)
COUNT = 6


@pytest.fixture
def root(tmp_path):
    """Six pictures: in each a square, whose place differs; the last one is empty."""
    rng = np.random.default_rng(1)
    (tmp_path / "made" / "images").mkdir(parents=True)
    for i in range(COUNT):
        image = Image.fromarray(rng.integers(0, 255, (*SIZE, 3), dtype=np.uint8))
        image.save(tmp_path / "made" / "images" / f"{i}.png")
    return tmp_path


def square(i: int) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    if i < COUNT - 1:
        mask[2 + i : 9 + i, 4:11] = True
    return mask


def recipe(layers, task="segmentation", **member):
    description = {
        "name": "made",
        "modality": "OP",
        "family": "Fundus photography",
        "dimension": "2D",
        "cases": {"image": "images/{name}.png", "subject": "{name}"},
        "layers": layers,
    }
    return made_plan(description, task, **member)


def made_plan(description, task="segmentation", **member):
    source = {
        "id": "made",
        "dataset": "made",
        "location": {"kind": "local", "path": "made"},
        "description": description,
        **member,
    }
    data = {
        "schema": "imaging-x/recipe/1",
        "title": "annotations",
        "task": task,
        "baseline": {"tier": "none"},
        "views": [],
        "sources": [source],
    }
    return make_plan(check_recipe(data, {"made"}))


def build(plan, root):
    made, seen = Build(plan, root, root / "work", root / "out"), Silent()
    for stage in STAGES:
        run_stage(stage, made, seen)
    assert verify_bundle(root / "out").ok
    return seen


def labels(root):
    with Bundle(root / "out") as bundle:
        return {case["name"]: bundle.label(case) for case in bundle.cases()}


def write_coco(root, box_only=()):
    images = [
        {"id": i, "file_name": f"{i}.png", "height": SIZE[0], "width": SIZE[1]}
        for i in range(COUNT)
    ]
    annotations = []
    for i in range(COUNT - 1):
        x0, y0, x1, y1 = 4, 2 + i, 11, 9 + i
        area = [] if i in box_only else [[x0, y0, x1, y0, x1, y1, x0, y1]]
        row = {"id": i, "image_id": i, "category_id": 1, "segmentation": area}
        annotations.append(row | {"bbox": [x0, y0, x1 - x0, y1 - y0]})
    data = {"images": images, "annotations": annotations}
    data["categories"] = [{"id": 1, "name": "Lesions"}]
    (root / "made" / "coco.json").write_text(json.dumps(data))


COCO = {"path": "coco.json", "kind": "shapes", "values": {"Lesions": "lesion"}}


def test_one_annotation_file_serves_all_pictures_and_joins_none_of_them(root):
    write_coco(root)

    build(recipe([COCO]), root)

    found = labels(root)
    assert len(found) == COUNT
    for i in range(COUNT):
        np.testing.assert_array_equal(found[str(i)], square(i))
    with Bundle(root / "out") as bundle:
        assert len({case["group"] for case in bundle.cases()}) == COUNT


def test_a_box_is_no_mask_unless_the_description_says_so(root):
    write_coco(root, box_only={2, 3})

    with pytest.raises(BuildError, match="boxes: fill"):
        build(recipe([COCO]), root)
    build(recipe([COCO | {"boxes": "fill"}]), root)
    np.testing.assert_array_equal(labels(root)["2"], square(2))


def test_presence_is_made_from_outlines_and_boxes_when_the_recipe_declares_it(root):
    write_coco(root, box_only={2})

    with pytest.raises(RecipeError, match=r"E04.*convert: presence"):
        recipe([COCO], "classification")
    plan = recipe([COCO], "classification", convert="presence")
    build(plan, root)

    with Bundle(root / "out") as bundle:
        said = {case["name"]: case["classes"] for case in bundle.cases()}
        roles = {row["role"] for case in bundle.cases() for row in case["files"]}
    assert roles == {"image", "record"}
    assert said == {str(i): {"lesion": int(i < COUNT - 1)} for i in range(COUNT)}
    assert any(limit.startswith("E04") for limit in plan.known_limits)


def test_a_class_that_is_not_mapped_is_named_with_its_count_and_the_nearest_one(root):
    write_coco(root)

    with pytest.raises(BuildError, match=r"'Lesions' \(1 shapes; did you mean 'Lesion'\?\)"):
        build(recipe([COCO | {"values": {"Lesion": "lesion"}}]), root)
    build(recipe([COCO | {"values": {"lesion": "lesion"}, "ignore_values": ["Lesions"]}]), root)
    assert not any(label.any() for label in labels(root).values())


def test_a_picture_that_the_file_does_not_list_means_what_the_layer_says(root):
    write_coco(root)
    path = root / "made" / "coco.json"
    data = json.loads(path.read_text())
    data["images"].pop()
    path.write_text(json.dumps(data))

    assert build(recipe([COCO]), root).codes == {"5": "label_missing"}
    build(recipe([COCO | {"missing": "absent"}]), root)
    assert not labels(root)["5"].any()


def test_a_file_for_pictures_of_another_size_is_refused(root):
    write_coco(root)
    path = root / "made" / "coco.json"
    path.write_text(path.read_text().replace('"height": 24', '"height": 48'))

    with pytest.raises(BuildError, match=r"grid_conflict.*\(48, 31\).*\(24, 31\)"):
        build(recipe([COCO]), root)


def test_colours_mean_concepts_within_a_tolerance(root):
    (root / "made" / "masks").mkdir()
    for i in range(COUNT):
        mask = np.zeros((*SIZE, 3), np.uint8)
        mask[square(i)] = (250, 3, 0)
        mask[0, :3] = (0, 0, 255)
        Image.fromarray(mask).save(root / "made" / "masks" / f"{i}.png")
    layer = {"path": "masks/{name}.png", "kind": "colour_map", "tolerance": 8}
    values = {"#ff0000": "lesion", "#0000ff": "background"}

    build(recipe([layer | {"values": values}]), root)

    for i, label in labels(root).items():
        np.testing.assert_array_equal(label, square(int(i)))
    with pytest.raises(BuildError, match=r"#fa0300' \(49 pixels"):
        build(recipe([layer | {"values": values, "tolerance": 0}]), root)


def test_things_with_a_number_or_a_colour_each_are_one_concept(root):
    (root / "made" / "masks").mkdir()
    for i in range(COUNT):
        mask = np.zeros((*SIZE, 3), np.uint8)
        mask[square(i)] = (0, 7, i)
        mask[2:9, 20:24] = (0, 0, 200)
        picture = mask if i % 2 else mask.max(axis=2).astype(np.uint16) * 300
        Image.fromarray(picture).save(root / "made" / "masks" / f"{i}.png")
    layer = {"path": "masks/{name}.png", "kind": "instances", "concept": "lesion"}

    build(recipe([layer]), root)

    for i, label in labels(root).items():
        np.testing.assert_array_equal(label[:, :12], square(int(i))[:, :12])
        assert label[2:9, 20:24].all()


def test_of_two_layers_that_claim_a_pixel_the_higher_one_wins(root):
    for name in ("whole", "core"):
        (root / "made" / name).mkdir()
    for i in range(COUNT):
        core = np.zeros(SIZE, bool)
        core[6:8, 6:8] = True
        for name, mask in (("whole", square(i) | core), ("core", core)):
            path = root / "made" / name / f"{i}.png"
            Image.fromarray((mask * 255).astype(np.uint8)).save(path)
    disc = {"path": "whole/{name}.png", "kind": "mask", "threshold": 127, "concept": "fovea"}
    cup = {"path": "core/{name}.png", "kind": "mask", "threshold": 127, "concept": "lesion"}

    with pytest.raises(BuildError, match="label_collision"):
        build(recipe([disc, cup]), root)
    build(recipe([disc, cup | {"priority": 1}]), root)

    with Bundle(root / "out") as bundle:
        value = bundle.concepts.index("lesion") + 1
    assert all((label[6:8, 6:8] == value).all() for label in labels(root).values())


def test_named_structures_are_mapped_by_their_names(tmp_path):
    rng = np.random.default_rng(2)
    (tmp_path / "made").mkdir()
    liver = np.zeros((8, 10, 12), np.uint8)
    liver[2:5, 3:7, 4:9] = 1
    liver[6, 3:7, 4:9] = 2
    for i in range(3):
        image = sitk.GetImageFromArray(rng.normal(50, 9, liver.shape).astype(np.int16))
        sitk.WriteImage(image, str(tmp_path / "made" / f"{i}.nrrd"))
        label = sitk.GetImageFromArray(liver)
        for n, name in enumerate(("Liver", "Couch")):
            label.SetMetaData(f"Segment{n}_Name", name)
            label.SetMetaData(f"Segment{n}_Layer", "0")
            label.SetMetaData(f"Segment{n}_LabelValue", str(n + 1))
        sitk.WriteImage(label, str(tmp_path / "made" / f"{i}.seg.nrrd"))
    layer = {"path": "{name}.seg.nrrd", "kind": "segments", "values": {"Liver": "liver"}}

    def plan(**more):
        data = {"name": "made", "dimension": "3D", "modality": "MR", "family": "MR"}
        data["cases"] = {"image": "{name}.nrrd", "fields": {"name": r"\d"}, "subject": "{name}"}
        return made_plan(data | {"layers": [layer | more]})

    with pytest.raises(BuildError, match=r"'Couch' \(1 structures"):
        build(plan(), tmp_path)
    build(plan(ignore_values=["Couch"]), tmp_path)
    assert {int(label.sum()) for label in labels(tmp_path).values()} == {60}


def colour_recipe(values, concepts=(), **layer):
    rule = {"path": "masks/{name}.png", "kind": "label_map", "values": values, **layer}
    description = {
        "name": "made",
        "modality": "OP",
        "family": "Fundus photography",
        "dimension": "2D",
        "cases": {"image": "images/{name}.png", "subject": "{name}"},
        "layers": [rule],
    }
    return source_recipe([("made", description)], concepts)


def source_recipe(sources, concepts=(), **changes):
    data = {
        "schema": "imaging-x/recipe/1",
        "title": "meanings",
        "task": "segmentation",
        "concepts": list(concepts),
        "baseline": {"tier": "none"},
        "views": [],
        "sources": [
            {
                "id": name,
                "dataset": name,
                "location": {"kind": "local", "path": name},
                "description": description,
            }
            for name, description in sources
        ],
    }
    return make_plan(check_recipe(data | changes, {"made", "other"}))


def test_a_value_that_means_two_concepts_serves_either_and_not_both_at_once(root):
    (root / "made" / "masks").mkdir()
    for i in range(COUNT):
        mask = square(i).astype(np.uint8)
        mask[2:9, 20:24] = 2
        Image.fromarray(mask).save(root / "made" / "masks" / f"{i}.png")
    values = {"1": "fovea", "2": "fovea+lesion"}

    with pytest.raises(RecipeError, match=r"E05: label_collision: made's fovea\+lesion"):
        colour_recipe(values, ["fovea", "lesion"])
    for concept, pixels in (("lesion", 28), ("fovea", 28 + 49)):
        build(colour_recipe(values, [concept]), root)
        assert int((labels(root)["0"] == 1).sum()) == pixels


def test_outlines_by_different_protocols_are_not_one_concept_unless_accepted():
    def described(name, inside):
        layer = {"path": "m/{name}.png", "kind": "mask", "concept": "liver"}
        return name, {
            "name": name,
            "modality": "CT",
            "family": "CT",
            "dimension": "3D",
            "cases": {"image": "i/{name}.png", "subject": "{name}"},
            "layers": [layer | {"protocol": {"includes_lesion": inside}}],
        }

    sources = [described("made", inside=True), described("other", inside=False)]

    with pytest.raises(
        RecipeError, match=r"E05.*liver.*includes_lesion \(made true, other false\)"
    ):
        source_recipe(sources)
    plan = source_recipe(sources, accept={"protocol": {"liver": "lesions are small here"}})
    assert any("lesions are small here" in limit for limit in plan.known_limits)
    assert source_recipe([described("made", inside=True), described("other", inside=True)])


def test_values_left_out_on_purpose_are_counted(root):
    (root / "made" / "masks").mkdir()
    for i in range(COUNT):
        mask = square(i).astype(np.uint8)
        mask[2:9, 20:24] = 255
        Image.fromarray(mask).save(root / "made" / "masks" / f"{i}.png")

    build(colour_recipe({"1": "lesion"}, ignore_values=[255]), root)

    assert int(labels(root)["0"].sum()) == 49
    report = json.loads((root / "out" / "report.json").read_text())
    found = [f["detail"] for f in report["findings"] if f["code"] == "values_ignored"]
    assert len(found) == COUNT
    assert "0.png: value 255 of 28 voxels became background" in found
