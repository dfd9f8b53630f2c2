"""What is odd in the real sample sources, one test per oddity; `docs/quirks.md` lists them all."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from PIL import Image

from catalog.records_io import FOLDER
from fusion.build import STAGES, Build, run_stage
from fusion.imaging.io import label_names, read_image, write_nifti
from fusion.plan import Plan, make_plan
from fusion.recipe_check import check_recipe
from fusion.recipe_files import example_recipes, load_recipe, shipped_descriptions
from tests.fusion.test_real_cases import Silent

SLUGS = {path.stem for path in FOLDER.glob("*.yaml")}


@dataclass(frozen=True)
class Done:
    """A build up to some stage: rows of cases, codes of excluded cases, the plan."""

    build: Build
    listed: list[dict]
    codes: dict[str, str]

    @property
    def rows(self) -> dict[str, dict]:
        return {row["name"]: row for row in self.listed}

    @property
    def plan(self) -> Plan:
        return self.build.plan

    def label(self, name: str) -> np.ndarray:
        return self._read(name, "label")

    def image(self, name: str, role: str = "image") -> np.ndarray:
        return self._read(name, role)

    def _read(self, name: str, role: str) -> np.ndarray:
        row = self.rows[name]
        (file,) = (f["path"] for f in row["files"] if f["role"] == role)
        return read_image(self.build.workdir / "cases" / row["id"] / file).array


@pytest.fixture(scope="module")
def harmonised(shared_data, tmp_path_factory):
    """A shipped recipe, built as far as asked; each one once."""
    known: dict[tuple, Done] = {}

    def run(name: str, last: str = "harmonise", only: str = "", **changes: object) -> Done:
        key = (name, last, only, json.dumps(changes, sort_keys=True))
        if key not in known:
            recipe = load_recipe(example_recipes()[name]) | {"baseline": {"tier": "none"}} | changes
            if only:
                recipe["sources"] = [s for s in recipe["sources"] if s["id"] == only]
                recipe["accept"] = {}
            known[key] = _run(recipe, shared_data, tmp_path_factory.mktemp(name), last)
        return known[key]

    return run


def _run(recipe: dict, data_root: Path, folder: Path, last: str) -> Done:
    plan = make_plan(check_recipe(recipe, SLUGS))
    build, progress = Build(plan, data_root, folder / "work", folder / "out"), Silent()
    for stage in STAGES[: STAGES.index(last) + 1]:
        run_stage(stage, build, progress)
    paths = (build.workdir / "cases").glob("*/case.json")
    rows = [json.loads(path.read_text("utf-8")) for path in paths]
    return Done(build, rows, progress.codes)


# hippocampus


def test_label_files_of_another_data_type_are_read_as_whole_numbers(shared_data, harmonised):
    folder = shared_data / "hippocampus_mri/msd_task04/labels"
    odd = ("hippocampus_003", "hippocampus_243")
    kinds = {nib.load(folder / f"{n}.nii.gz").get_data_dtype().kind for n in odd}
    crops = harmonised("hippocampus")

    assert kinds == {"f"}
    assert all(crops.rows[n]["present"]["hippocampus"] > 1000 for n in odd)


def test_intensities_that_differ_by_thousands_are_kept_as_they_are(harmonised):
    crops = harmonised("hippocampus")
    names = [n for n in crops.rows if n.startswith("hippocampus_")]
    largest = {n: float(crops.image(n).max()) for n in names[:40]}

    assert {crops.rows[n]["dtype"] for n in names} == {"uint8", "float32"}
    assert min(largest.values()) <= 255
    assert max(largest.values()) > 10_000


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("colin27-aal", "colin27_aal"),
        ("mni152-neuromorphometrics", "mni152_neuromorphometrics"),
    ],
)
def test_left_and_right_lie_on_the_side_that_the_description_says(name, folder, shared_data):
    (layer,) = shipped_descriptions()[name].layers
    label = read_image(shared_data / "hippocampus_mri" / folder / layer.path)
    for value, concept in layer.table().items():
        index = np.argwhere(label.array == value).mean(axis=0)
        x = (label.grid.affine @ [*index, 1])[0]
        assert (x > 0) == concept.endswith("_right"), "x grows to the right"


def test_names_in_dicom_headers_do_not_reach_what_is_written(shared_data, tmp_path):
    folders = sorted((shared_data / "hippocampus_mri/udacity_hcrop_dicom").glob("Study*/*"))
    for folder in folders:
        volume = read_image(folder)
        write_nifti(volume, tmp_path / "crop.nii")
        content = (tmp_path / "crop.nii").read_bytes()
        name = pydicom.dcmread(next(folder.iterdir()), stop_before_pixels=True).PatientName
        assert str(name)
        assert not [p for p in str(name).replace("^", " ").split() if p.encode() in content]
    assert len(folders) == 3


# spinal cord


def test_five_images_of_one_person_in_four_geometries_stay_one_subject(harmonised):
    cord = harmonised("spinal-cord", last="split")

    assert {row["subject"] for row in cord.rows.values()} == {"errsm_30"}
    assert {row["axcodes"] for row in cord.rows.values()} == {"RAS"}
    spacings = {n: [round(s, 2) for s in row["spacing_mm"]] for n, row in cord.rows.items()}
    assert spacings["t1w"] == [1, 1, 1]
    assert max(s[2] for s in spacings.values()) > 15
    final = (cord.build.workdir / "final" / "cases").glob("*/case.json")
    assert len({json.loads(path.read_text())["split"] for path in final}) == 1


def test_other_form_codes_of_a_label_do_not_move_it_and_a_float64_label_is_read(harmonised):
    cord = harmonised("spinal-cord")

    assert not [
        f for row in cord.rows.values() for f in row["findings"] if "resampled" in f["code"]
    ]
    assert all(row["present"]["spinal_cord"] > 100 for row in cord.rows.values())


# abdomen


@pytest.mark.parametrize(
    ("name", "concepts"),
    [("totalsegmentator-example-ct-small", 117), ("totalsegmentator-example-mr", 50)],
)
def test_the_names_inside_a_label_file_are_those_of_the_description(name, concepts, shared_data):
    described = shipped_descriptions()[name]
    (layer,) = described.layers
    written = label_names(shared_data / "abdomen_ct/totalsegmentator" / layer.path)
    table = layer.table()

    assert len(written) == len(table) == concepts
    for value, text in written.items():
        concept = table[int(value)]
        for side, other in (("left", "right"), ("right", "left")):
            assert not (side in concept and other in text), text
    assert {v: table[v] for v in (1, 5)} == {1: "spleen", 5: "liver"}


def test_spleen_and_liver_of_117_labels_and_of_one_are_one_concept_each(harmonised):
    abdomen = harmonised("abdomen-ct")
    annotated = {row["source"]: row["annotated"] for row in abdomen.rows.values()}
    present = {row["source"]: row["present"] for row in abdomen.rows.values()}

    assert annotated["msd"] == ["spleen"], "the liver is unknown there, not absent"
    assert annotated["ts_dicom"] == ["spleen", "liver"]
    assert all(present[s]["spleen"] > 500 for s in ("ts_ct", "ts_dicom", "msd"))
    assert present["msd"]["liver"] == 0


def test_air_below_the_scale_is_clipped_and_all_scans_are_in_hounsfield_units(harmonised):
    abdomen = harmonised("abdomen-ct")
    for name, row in abdomen.rows.items():
        assert row["unit"] == "hu", name
        assert row["axcodes"] == "RAS"
        assert abdomen.image(name).min() >= -1024
    dicom = next(n for n, row in abdomen.rows.items() if row["source"] == "ts_dicom")
    liver = abdomen.image(dicom)[abdomen.label(dicom) == 2]
    assert 60 < liver.mean() < 120, "the label lies on the liver"
    assert abdomen.rows[dicom]["spacing_mm"][2] == 2.0, "the step, not the thickness"


def test_labels_made_by_a_model_are_for_training_only_and_two_parts_of_a_dataset_are_accepted(
    harmonised,
):
    gates = harmonised("abdomen-ct").plan.gates

    pseudo = [g["detail"] for g in gates if g["code"] == "E13"]
    assert [p.split(":")[0] for p in pseudo] == ["ts_ct", "ts_small", "ts_dicom"]
    same = [g for g in gates if g["code"] == "E07"]
    assert {g["verdict"] for g in same} == {"accepted"}
    assert "are one dataset" in same[0]["detail"]


# brain tumour


def test_two_sequences_become_two_channels_whose_zero_is_not_air(harmonised):
    tumour = harmonised("brain-tumour")

    assert tumour.plan.channels == ["T1c", "FLAIR"]
    for name, row in tumour.rows.items():
        assert row["channels"] == 2
        assert row["axcodes"] == "RAS"
        assert row["present"].keys() == {
            "brain_tumour_necrosis",
            "brain_tumour_oedema",
            "brain_tumour_non_enhancing",
            "brain_tumour_enhancing",
        }
        assert min(row["present"].values()) > 0
        roles = [f["role"] for f in row["files"] if f["role"] != "label"]
        assert all(tumour.image(name, role).min() < 0 for role in roles)
        assert not [f for f in row["findings"] if "resampled" in f["code"]]
    assert "0 is the mean, not air" in " ".join(tumour.plan.known_limits)


def test_a_mask_of_almost_one_is_not_lost_by_comparing_with_one(shared_data, harmonised):
    brain = harmonised("brain-tumour", concepts=["brain"])
    for name, row in brain.rows.items():
        path = shared_data / "brain_tumour_mri/brats2013_deepmedic" / name / "brainmask.nii.gz"
        mask = np.asarray(nib.load(path).dataobj)
        assert not (mask == 1).any()
        assert row["present"]["brain"] >= np.count_nonzero(mask)


# chest X-ray


def test_a_blank_finding_is_left_out_on_purpose_and_never_normal(shared_data, harmonised):
    chest = harmonised("chest-x-ray", only="figure1")
    path = shared_data / "chest_xray/figure1_covid/metadata.csv"
    with path.open(encoding="latin-1", newline="") as file:
        rows = {row["patientid"]: row["finding"] for row in csv.DictReader(file)}
    names = {n: f"COVID-{n.split('_')[0]}{n.split('_')[1]}" for n in [*chest.rows, *chest.codes]}

    assert list(chest.codes.values()) == ["label_ignored"] * 12
    assert {rows[names[n]] for n in chest.codes} == {""}
    said = {n: [c for c, s in row["classes"].items() if s == 1] for n, row in chest.rows.items()}
    assert len(said) == 32
    for name, classes in said.items():
        finding = rows[names[name]]
        assert classes == (["no_finding"] if finding == "No finding" else ["pneumonia"])


def test_images_a_b_and_c_of_one_number_are_one_person(harmonised):
    chest = harmonised("chest-x-ray", only="figure1")
    subjects = {n: row["subject"] for n, row in chest.rows.items()}

    lettered = [n for n in subjects if n.split("_")[1]]
    assert lettered
    assert all(subjects[n] == n.split("_")[0] for n in subjects)
    assert len(set(subjects.values())) < len(subjects)


def test_clinical_notes_of_the_table_do_not_reach_the_bundle(harmonised):
    chest = harmonised("chest-x-ray", last="package", only="figure1")
    texts = [
        p
        for p in chest.build.partial.rglob("*")
        if p.suffix in {".json", ".jsonl", ".md", ".csv", ".cff"}
    ]

    assert texts
    content = "".join(path.read_text("utf-8") for path in texts)
    assert "saturation" not in content
    assert "COVID-00001" not in content


def test_a_balanced_copy_is_counted_as_it_is_and_keeps_the_publishers_split(harmonised):
    mnist = harmonised("chest-x-ray", last="ingest", only="mnist")
    cases = mnist.build.load("cases.json")["cases"]
    number = {s: sum(case["split"] == s for case in cases) for s in ("train", "val", "test")}

    assert number == {"train": 2428, "val": 270, "test": 468}
    assert "2428, 270 and 468 images instead of" in " ".join(mnist.plan.known_limits)


# breast ultrasound


def test_one_mask_per_lesion_is_united_whatever_its_mode(shared_data, harmonised):
    breast = harmonised("breast-ultrasound")
    for finding, number in (("benign", 4), ("benign", 54), ("benign", 100), ("malignant", 53)):
        folder = shared_data / "breast_ultrasound/busi" / finding / "mask"
        files = sorted(folder.glob(f"{finding} ({number})_mask*.png"))
        masks = [np.asarray(Image.open(file).convert("RGB"))[..., 0] > 0 for file in files]
        assert len(masks) > 1
        made = breast.label(f"{finding}_{number}") > 0
        assert np.array_equal(made, np.logical_or.reduce(masks))
        assert made.mean() < 0.5, "an alpha channel was taken for a lesion"


def test_an_empty_mask_of_a_normal_breast_is_truly_absent(harmonised):
    breast = harmonised("breast-ultrasound")
    normal = {n: row for n, row in breast.rows.items() if n.startswith("normal_")}

    assert len(normal) == 6
    assert {row["present"]["breast_lesion"] for row in normal.values()} == {0}
    assert all(row["annotated"] == ["breast_lesion"] for row in normal.values())


def test_jpeg_masks_of_a_resized_copy_are_thresholded_and_its_lost_sizes_are_said(harmonised):
    breast = harmonised("breast-ultrasound")
    copies = {n: row for n, row in breast.rows.items() if row["source"] == "bus_uc"}

    assert len(copies) == 20
    for name, row in copies.items():
        assert row["shape"] == [512, 512]
        assert set(np.unique(breast.label(name))) == {0, 1}
    assert "the native sizes are lost" in " ".join(breast.plan.known_limits)


# white blood cells


def test_image_001_finds_row_1_under_either_head_line(shared_data, harmonised):
    cells = harmonised("white-blood-cell-classes")
    order = ["neutrophil", "lymphocyte", "monocyte", "eosinophil", "basophil"]
    folder = shared_data / "wbc_microscopy"
    for source, place, number, title in (
        ("tecom", "tecom_dataset1", 1, "class label"),
        ("cellavision", "cellavision_dataset2", 2, "class"),
    ):
        path = folder / place / f"Class Labels of Dataset {number}.csv"
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = {int(row["image ID"]): int(row[title]) for row in csv.DictReader(file)}
        mine = [row for row in cells.listed if row["source"] == source]
        assert len(mine) < len(table), "the table lists images that are not there"
        for row in mine:
            (said,) = [c for c, state in row["classes"].items() if state == 1]
            assert said == order[table[int(row["name"])] - 1]


def test_stray_grey_values_of_three_masks_are_background_by_declaration(shared_data, harmonised):
    cells = harmonised("white-blood-cells")
    made = {row["name"]: row for row in cells.listed if row["source"] == "cellavision"}

    assert len(made) == 20
    for name in ("034", "035", "047"):
        path = shared_data / "wbc_microscopy/cellavision_dataset2/Dataset 2" / f"{name}.png"
        mask = np.asarray(Image.open(path))
        assert not set(np.unique(mask)) <= {0, 128, 255}
        assert made[name]["present"] == {
            "cell_nucleus": int((mask == 255).sum()),
            "cytoplasm": int((mask == 128).sum()),
        }
