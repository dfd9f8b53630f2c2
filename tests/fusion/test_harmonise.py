"""What happens to one case's voxels: unit, clip, norm, the way to a grid and back."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from fusion.errors import BuildError, RecipeError
from fusion.plan import make_plan
from fusion.recipe_check import check_recipe
from tests.fusion.made import (
    block,
    body,
    brain,
    fuse,
    member,
    recipe,
    write_nifti,
    write_source,
)

CT = {"modality": "CT", "family": "CT"}


def test_a_ct_is_stored_in_hu_as_int16_with_nothing_below_air(tmp_path):
    arrays = {f"c{i}": body(i).astype(np.float32) for i in range(4)}
    arrays["c0"][0, 0, 0] = -1207
    write_source(tmp_path / "a", arrays)

    built = fuse(recipe(member("a", **CT)), tmp_path)

    case = built.cases["c0"]
    stored = nib.load(built.file("c0", "image"))
    assert case["unit"] == "hu"
    assert (stored.get_data_dtype(), int(stored.dataobj[0, 0, 0])) == (np.int16, -1024)
    assert [step["op"] for step in case["transforms"]] == ["reorient", "clip", "cast"]
    assert case["transforms"][1]["params"]["voxels_below"] == 1


def test_a_ct_stored_from_zero_is_refused_with_the_rule_that_would_read_it(tmp_path):
    shifted = {f"c{i}": (body(i).astype(np.int32) + 1100).clip(0) for i in range(4)}
    for array in shifted.values():
        array[3, 3, 3] = 2600
    write_source(tmp_path / "a", shifted)

    with pytest.raises(BuildError, match=r"unit_conflict.*intercept: -1024"):
        fuse(recipe(member("a", **CT)), tmp_path)

    rule = {"unit": "hu", "intercept": -1100, "reason": "stored from 0"}
    built = fuse(recipe(member("a", **CT, intensity=rule)), tmp_path)
    inside = nib.load(built.file("c1", "image")).get_fdata()[10, 9, 8]
    assert abs(inside - 50) < 75
    assert built.cases["c1"]["transforms"][1]["params"] == {"slope": 1.0, "intercept": -1100.0}


def test_a_ct_without_air_keeps_its_numbers_and_says_that_its_unit_is_unknown(tmp_path):
    crops = {f"c{i}": body(i)[6:14, 6:12, 5:11] for i in range(4)}
    for crop in crops.values():
        crop[0, 0, 0] = -90  # fat
    write_source(tmp_path / "a", crops)

    built = fuse(recipe(member("a", **CT)), tmp_path)

    assert {row["unit"] for row in built.cases.values()} == {"unknown"}
    assert built.findings().count("unit_unknown") == 4


def test_sources_of_different_units_are_fused_in_the_native_profile_only():
    windowed = member("a", **CT, intensity={"unit": "windowed"})
    data = recipe(windowed, member("b", **CT))

    with pytest.raises(RecipeError, match="E06: unit of CT: a windowed, b hu"):
        make_plan(check_recipe(data, {"a", "b"}))
    make_plan(check_recipe(data | {"target": {"profile": "native"}}, {"a", "b"}))


def test_heads_are_shared_only_when_somebody_says_that_they_have_no_face():
    layers = [{"path": "labels/{name}.nii.gz", "kind": "mask", "concept": "hippocampus"}]
    terms = {"images": "CC0-1.0", "labels": "CC0-1.0"}
    head = member("a", layers=layers, licence=terms, faces="unknown")
    data = recipe(head, concepts=["hippocampus"], build="shareable")

    with pytest.raises(RecipeError, match="face_unattested"):
        make_plan(check_recipe(data, {"a"}))
    head["description"]["faces"] = "removed"
    make_plan(check_recipe(data, {"a"}))
    head["description"]["faces"] = "unknown"
    plan = make_plan(check_recipe(data | {"build": "private"}, {"a"}))
    assert "heads, faces unknown" in " ".join(plan.known_limits)


def test_the_norm_of_a_ct_is_fitted_on_training_cases_alone(tmp_path):
    arrays = {f"c{i}": body(i) for i in range(10)}
    write_source(tmp_path / "a", arrays)
    built = fuse(recipe(member("a", **CT)), tmp_path)
    train = [name for name, row in built.cases.items() if row["split"] == "train"]
    test = [name for name, row in built.cases.items() if row["split"] == "test"]

    inside = np.concatenate([arrays[name][block() > 0] for name in train])
    (norm,) = built.manifest["norm"]
    assert norm["method"] == "clip_z_score"
    assert norm["fitted_on"] == "train"
    assert norm["split_id"] == built.manifest["splits"]["id"]
    low, high = np.percentile(inside, [0.5, 99.5])
    clipped = np.clip(inside, low, high)
    assert norm["params"]["mean"] == pytest.approx(clipped.mean(), abs=0.5)
    assert norm["params"]["std"] == pytest.approx(clipped.std(), rel=0.03)
    assert norm["params"]["low"] == pytest.approx(low, abs=3)

    for name in test:  # other test images, the same numbers
        write_source(tmp_path / "a", {name: arrays[name] + np.int16(40)})
    again = fuse(recipe(member("a", **CT)), tmp_path, tmp_path / "again")
    assert {n: r["split"] for n, r in again.cases.items()} == {
        n: r["split"] for n, r in built.cases.items()
    }
    assert again.manifest["norm"][0]["params"] == norm["params"]


def test_an_mr_gets_a_z_score_over_its_body_and_a_normalised_one_is_no_air(tmp_path):
    plain = brain(1)
    normalised = np.where(plain > 300, (plain - 500) / 10, 0).astype(np.float32)
    write_source(tmp_path / "a", {"plain": plain, "normalised": normalised})

    norms = {n: r["norm"] for n, r in fuse(recipe(member("a")), tmp_path).cases.items()}

    inside = plain[plain > 300]
    assert norms["plain"]["params"]["mean"] == pytest.approx(inside.mean(), rel=0.01)
    assert norms["normalised"]["params"]["foreground"] == "not 0"
    assert norms["normalised"]["params"]["mean"] == pytest.approx(0, abs=0.1)
    assert norms["normalised"]["params"]["low"] < -1, "negative values are no air"


def test_the_way_to_a_grid_and_back_is_measured_and_thin_structures_are_flagged(tmp_path):
    shape = (60, 60, 60)
    sheet = np.zeros(shape, np.uint8)
    sheet[10:50, 10:50, 29:31] = 1
    solid = np.zeros(shape, np.uint8)
    solid[15:45, 15:45, 15:45] = 1
    write_source(
        tmp_path / "a",
        {"sheet": brain(1, shape), "solid": brain(2, shape)},
        {"sheet": sheet, "solid": solid},
    )
    target = {"profile": "grid", "spacing_mm": [2.7, 2.7, 2.7]}

    built = fuse(recipe(member("a"), target=target), tmp_path)

    trips = {name: row["roundtrip"]["spleen"] for name, row in built.cases.items()}
    assert trips["solid"]["dice"] > 0.93
    assert trips["sheet"]["dice"] < 0.85
    assert trips["solid"]["voxels"] == 27_000
    flagged = [row["detail"] for row in built.report["findings"] if row["code"] == "low_roundtrip"]
    assert len(flagged) == 1
    assert "sheet: spleen" in flagged[0]


def test_a_structure_that_no_rule_carries_over_keeps_its_native_mask(tmp_path):
    shape = (40, 40, 40)
    dots = np.zeros(shape, np.uint8)
    dots[4:36:5, 4:36:5, 4:36:5] = 1
    write_source(tmp_path / "a", {"dots": brain(1, shape)}, {"dots": dots})
    target = {"profile": "grid", "spacing_mm": [3.1, 3.1, 3.1]}

    built = fuse(recipe(member("a"), target=target), tmp_path)

    assert "structure_lost" in built.cases["dots"]["flags"]
    assert "structure_lost" in built.findings()
    native = np.asarray(nib.load(built.file("dots", "label_native")).dataobj)
    assert np.array_equal(native, dots)


def test_each_channel_has_numbers_of_its_own_to_normalise_by(tmp_path):
    for i in range(3):
        write_source(tmp_path / "a", {f"c{i}": brain(i)})
        array = brain(i + 9) * 3
        write_nifti(tmp_path / "a" / "flair" / f"c{i}.nii.gz", array)
    cases = {
        "channels": {"T1c": "images/{name}.nii.gz", "FLAIR": "flair/{name}.nii.gz"},
        "subject": "{name}",
    }

    built = fuse(recipe(member("a", cases=cases)), tmp_path)

    norm = built.cases["c1"]["norm"]
    assert norm["method"] == "per_channel"
    first, second = (one["params"]["mean"] for one in norm["params"])
    assert second == pytest.approx(3 * first, rel=0.02)


def test_an_image_whose_header_says_that_words_are_in_it_is_left_out(tmp_path):
    for i in range(6):
        folder = tmp_path / "a" / f"p{i}"
        folder.mkdir(parents=True)
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.SOPClassUID, dataset.SOPInstanceUID = MRImageStorage, f"1.2.3.{i}"
        dataset.SeriesInstanceUID, dataset.Modality = f"1.2.{i}", "MR"
        dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = 9, 8, 1
        dataset.BitsAllocated = dataset.BitsStored = 16
        dataset.HighBit, dataset.PixelRepresentation = 15, 0
        dataset.PhotometricInterpretation = "MONOCHROME2"
        dataset.PixelSpacing, dataset.SliceThickness = [1, 1], 1
        dataset.ImagePositionPatient = [0, 0, 0]
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        dataset.BurnedInAnnotation = "YES" if i == 2 else "NO"
        pixels = np.random.default_rng(i).integers(0, 900, (9, 8), dtype=np.uint16)
        dataset.PixelData = pixels.tobytes()
        dataset.save_as(folder / "1.dcm", enforce_file_format=True)
        label = np.zeros((8, 9, 1), np.uint8)
        label[2 : 4 + i % 3, 2:5] = 1
        write_nifti(tmp_path / "a" / "labels" / f"p{i}.nii.gz", label, np.diag([-1.0, -1, 1, 1]))
    source = member("a", cases={"image": "{name}/", "subject": "{name}"})
    source["description"]["cases"]["fields"] = {"name": r"p\d"}

    built = fuse(recipe(source), tmp_path)

    assert built.codes == {"p2": "phi_found"}
