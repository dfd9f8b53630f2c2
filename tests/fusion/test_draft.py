"""Drafts of source descriptions: common layouts are recognised, guesses wait for a person."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
import yaml
from PIL import Image

from fusion.cases import find_cases
from fusion.draft import draft
from fusion.errors import RecipeError
from fusion.recipe_check import check_recipe
from fusion.recipe_files import parse
from fusion.source import SourceDescription
from fusion.tables import look_up

RNG = np.random.default_rng(4)


def volume(path, values=None, shape=(9, 10, 8), channels=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    if values is None:
        array = RNG.normal(100, 30, (*shape, channels) if channels else shape).astype(np.float32)
    else:
        array = np.zeros(shape, np.uint8)
        for n, value in enumerate(values):
            array[2:6, 2:8, 2 * n + 1 : 2 * n + 3] = value
    nib.save(nib.Nifti1Image(array, np.eye(4)), path)


def picture(path, mask=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    if mask is None:
        Image.fromarray(RNG.integers(0, 255, (24, 20, 3), dtype=np.uint8)).save(path)
        return
    array = np.zeros((24, 20), np.uint8)
    for n, value in enumerate(mask):
        array[4 : 4 + 8, 3 + 8 * n : 9 + 8 * n] = value
    Image.fromarray(array).save(path)


def drafted(folder):
    text = draft(folder).text()
    return yaml.safe_load(text), text


def confirmed(value, concept="lesion"):
    """The draft as a person would leave it: each proposal taken, each gap filled."""
    if isinstance(value, dict):
        return {k: confirmed(v, concept) for k, v in value.items()}
    if isinstance(value, list):
        return [confirmed(v, concept) for v in value]
    if isinstance(value, str) and value.startswith("?"):
        return value[1:] or concept
    return value


def found(folder, data):
    """The cases that the confirmed draft finds in its folder."""
    description = SourceDescription.model_validate(confirmed(data))
    paths = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]
    return look_up(description, folder, find_cases(description, paths))[0]


def decathlon(root):
    for i in range(3):
        volume(root / "imagesTr" / f"liver_{i}.nii.gz", channels=2)
        volume(root / "labelsTr" / f"liver_{i}.nii.gz", [1, 2])
    labels = {"0": "background", "1": "liver", "2": "zzz"}
    info = {"labels": labels, "modality": {"0": "FLAIR", "1": "T1w"}}
    (root / "dataset.json").write_text(json.dumps(info))


def nnunet(root):
    for i in range(3):
        for channel in range(2):
            volume(root / "imagesTr" / f"c_{i}_{channel:04d}.nii.gz")
        volume(root / "labelsTr" / f"c_{i}.nii.gz", [1, 2])
    info = {"labels": {"background": 0, "liver": 1, "zzz": 2}, "file_ending": ".nii.gz"}
    info["channel_names"] = {"0": "T1", "1": "T2"}
    (root / "dataset.json").write_text(json.dumps(info))


@pytest.mark.parametrize("make", [decathlon, nnunet])
def test_names_of_labels_and_channels_are_taken_from_dataset_json(tmp_path, make):
    make(tmp_path)

    data, text = drafted(tmp_path)

    assert data["layers"][0]["values"] == {"1": "liver", "2": "?"}
    assert len(data["cases"]["channels"]) == 2
    assert data["modality"] == "MR"
    assert "'zzz'" in text
    cases = found(tmp_path, data)
    assert [len(c.channels) for c in cases] == [2, 2, 2]
    assert all(c.layers[0] and not c.code for c in cases)


def test_a_value_for_what_nobody_looked_at_is_no_background_unless_a_person_says_so(tmp_path):
    for i in range(3):
        volume(tmp_path / "imagesTr" / f"c_{i}_0000.nii.gz")
        volume(tmp_path / "labelsTr" / f"c_{i}.nii.gz", [1, 2, 3])
    labels = {"background": 0, "liver": 1, "void": 2, "ignore": 3}
    info = {"labels": labels, "channel_names": {"0": "CT"}, "file_ending": ".nii.gz"}
    (tmp_path / "dataset.json").write_text(json.dumps(info))

    data, text = drafted(tmp_path)

    assert data["layers"][0]["values"] == {"1": "liver", "2": "?", "3": "ignore"}
    assert "'void': background, or ignore where nobody looked" in text


def test_bids_subjects_are_known(tmp_path):
    for i in (1, 2):
        volume(tmp_path / f"sub-0{i}/anat/sub-0{i}_T1w.nii.gz")
        volume(
            tmp_path / f"derivatives/labels/sub-0{i}/anat/sub-0{i}_T1w_lesion-manual.nii.gz", [1]
        )
    (tmp_path / "dataset_description.json").write_text("{}")

    data, _ = drafted(tmp_path)

    cases = found(tmp_path, data)
    assert [(c.subject, c.code, len(c.layers[0])) for c in cases] == [("01", "", 1), ("02", "", 1)]


def test_pictures_and_masks_in_folders_by_class_with_several_masks_each(tmp_path):
    for kind in ("benign", "malignant"):
        for i in range(4):
            picture(tmp_path / kind / "images" / f"{kind} ({i}).png")
            picture(tmp_path / kind / "mask" / f"{kind} ({i})_mask.png", [255])
    picture(tmp_path / "benign" / "mask" / "benign (2)_mask_1.png", [255])

    data, _ = drafted(tmp_path)

    assert set(data["classes"]["values"]) == {"benign", "malignant"}
    assert data["layers"][0] | {"path": ""} == {
        "path": "",
        "kind": "mask",
        "threshold": 127,
        "concept": "?",
    }
    cases = found(tmp_path, data)
    assert sorted(len(c.layers[0]) for c in cases) == [1] * 7 + [2]


def test_a_publisher_s_split_is_no_class(tmp_path):
    for part, count in (("train", 5), ("test", 3)):
        for i in range(count):
            for kind in ("Pneumonia", "Normal"):
                picture(tmp_path / part / kind / f"{part}{kind}{i}.png")

    data, _ = drafted(tmp_path)

    assert set(data["classes"]["values"]) == {"Pneumonia", "Normal"}
    cases = found(tmp_path, data)
    assert sorted(c.split for c in cases) == ["test"] * 6 + ["train"] * 10


def test_a_table_beside_the_images_gives_class_and_person(tmp_path):
    lines = ["image ID,patient id,class label"]
    for i in range(8):
        picture(tmp_path / "data" / f"{i:03d}.png")
        picture(tmp_path / "truth" / f"{i:03d}.png", [128, 255])
        lines.append(f"{i},p{i // 2},{i % 3}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))

    data, text = drafted(tmp_path)

    assert data["classes"]["column"] == "class label"
    assert set(data["classes"]["values"]) == {"0", "1", "2"}
    assert set(data["layers"][0]["values"]) == {"128", "255"}
    assert "labels.csv: 8 rows, column 'image ID' names the images" in text
    cases = found(tmp_path, data)
    assert [c.subject for c in cases] == [f"p{i // 2}" for i in range(8)]


def test_arrays_and_annotation_files_are_seen(tmp_path):
    (tmp_path / "a").mkdir()
    arrays = {}
    for part in ("train", "test"):
        arrays[f"{part}_images"] = RNG.integers(0, 255, (4, 8, 8), dtype=np.uint8)
        arrays[f"{part}_labels"] = np.array([[0], [1], [1], [0]], np.uint8)
    np.savez(tmp_path / "a" / "set.npz", **arrays)
    images, annotations = [], []
    for i in range(3):
        picture(tmp_path / "b" / "train2017" / f"{i}.jpg")
        images.append({"id": i, "file_name": f"{i}.jpg"})
        area = [[2, 2, 8, 2, 8, 9]]
        annotations.append({"id": i, "image_id": i, "category_id": 1, "segmentation": area})
    coco = {"images": images, "annotations": annotations}
    coco["categories"] = [{"id": 1, "name": "polyp"}]
    (tmp_path / "b" / "instances.json").write_text(json.dumps(coco))

    arrays_draft, _ = drafted(tmp_path / "a")
    coco_draft, _ = drafted(tmp_path / "b")

    assert {row["split"] for row in arrays_draft["cases"]["arrays"]} == {"test", "train"}
    assert set(arrays_draft["classes"]["values"]) == {"0", "1"}
    assert coco_draft["layers"] == [
        {"path": "instances.json", "kind": "shapes", "values": {"polyp": "polyp"}}
    ]
    assert len(found(tmp_path / "b", coco_draft)) == 3


def test_one_folder_per_case_with_sequences_and_a_label(tmp_path):
    for i in range(3):
        name = f"BraTS_{i:03d}"
        for part in ("t1ce", "flair"):
            volume(tmp_path / name / f"{name}_{part}.nii.gz")
        volume(tmp_path / name / f"{name}_seg.nii.gz", [1, 2, 4])

    data, _ = drafted(tmp_path)

    assert set(data["cases"]["channels"]) == {"t1ce", "flair"}
    assert set(data["layers"][0]["values"]) == {"1", "2", "4"}
    assert data["modality"] == "?MR"
    assert [c.code for c in found(tmp_path, data)] == ["", "", ""]


def test_a_proposal_is_refused_until_a_person_confirms_it(tmp_path):
    for i in range(3):
        picture(tmp_path / "images" / f"{i}.png")
        picture(tmp_path / "polyp masks" / f"{i}.png", [255])
    data, text = drafted(tmp_path)
    assert data["layers"][0]["concept"] == "?polyp"
    assert "concept: ?polyp  # TODO confirm" in text

    def recipe(description):
        source = {
            "id": "a",
            "dataset": "a",
            "location": {"kind": "local", "path": "a"},
            "description": description,
        }
        return check_recipe(
            {
                "schema": "imaging-x/recipe/1",
                "title": "drafted",
                "task": "segmentation",
                "sources": [source],
            },
            {"a"},
        )

    with pytest.raises(RecipeError) as caught:
        recipe(parse(text))
    places = {p.path.rpartition(".")[2] for p in caught.value.problems}
    assert places == {"modality", "family", "description"}
    assert all("proposed, not confirmed" in str(p.message) for p in caught.value.problems)
    assert recipe(confirmed(data))
