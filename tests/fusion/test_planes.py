"""Frames and slices as cases, volumes without a place, and rows of tables that draw shapes."""

from __future__ import annotations

import json
from dataclasses import replace

import av
import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from fusion.build import STAGES, Build, run_stage
from fusion.bundle.read_bundle import Bundle
from fusion.bundle.verify import verify_bundle
from fusion.errors import BuildError, RecipeError
from fusion.plan import make_plan
from fusion.recipe_check import check_recipe
from tests.fusion.made import block, fuse, member, person, recipe, write_nifti
from tests.fusion.test_real_cases import Silent

FLAT = {"dimension": "2D", "layers": [], "classes": None}


def bundle_of(root):
    assert verify_bundle(root / "bundle").ok
    return Bundle(root / "bundle")


@pytest.fixture
def solids(tmp_path):
    """Eight volumes in an .npz that says nothing of place, and their classes."""
    folder = tmp_path / "made"
    folder.mkdir()
    rng = np.random.default_rng(3)
    images = rng.integers(0, 255, (8, 10, 11, 12), dtype=np.uint8)
    np.savez(folder / "set.npz", images=images, labels=np.arange(8)[:, None] % 2)
    cases = {"arrays": [{"file": "set.npz", "images": "images", "labels": "labels"}]}
    classes = {"values": {"0": "no_finding", "1": "pneumonia"}}
    changes = {"geometry": "none", "cases": cases, "layers": [], "classes": classes}
    return tmp_path, images, member("made", **changes)


def classified(*sources, **changes):
    accept = {"unknown_subjects": [source["id"] for source in sources]}
    data = recipe(*sources, task="classification", concepts=["no_finding", "pneumonia"])
    return data | {"accept": accept} | changes


def test_volumes_without_a_place_serve_classes_and_the_bundle_says_that_no_place_is_known(solids):
    root, images, source = solids

    built = fuse(classified(source), root)

    case = built.cases["images_000003"]
    assert (case["spacing_mm"], case["axcodes"], case["shape"]) == (None, None, [10, 11, 12])
    assert case["transforms"] == []
    header = nib.load(built.file("images_000003", "image"))
    assert (int(header.header["sform_code"]), int(header.header["qform_code"])) == (0, 0)
    np.testing.assert_array_equal(np.asarray(header.dataobj), images[3])
    assert any("no_geometry" in limit for limit in built.manifest["known_limits"])
    with bundle_of(root) as bundle:
        assert {case["classes"]["pneumonia"] for case in bundle.cases()} == {0, 1}


@pytest.mark.parametrize("target", [{"profile": "grid", "spacing_mm": [1, 1, 1]}])
def test_volumes_without_a_place_are_not_resampled(solids, target):
    _, _, source = solids

    with pytest.raises(RecipeError, match=r"E06.*no_geometry"):
        make_plan(check_recipe(classified(source, target=target), {"made"}))


def test_masks_of_volumes_without_a_place_are_refused_before_anything_is_read():
    with pytest.raises(RecipeError, match=r"E06.*no_geometry"):
        make_plan(check_recipe(recipe(member("made", geometry="none")), {"made"}))


@pytest.fixture
def scans(tmp_path):
    """Four volumes with a label that fills another box in each."""
    labels = {}
    for number in range(4):
        label = np.zeros((20, 18, 16), np.uint8)
        label[4 : 9 + number, 5:12, 3:13] = 1
        write_nifti(tmp_path / "made" / "images" / f"{number}.nii.gz", person(number))
        write_nifti(tmp_path / "made" / "labels" / f"{number}.nii.gz", label)
        labels[str(number)] = label
    planes = {"axis": "axial", "every": 10, "window": [-300, 900]}
    cases = {"image": "images/{name}.nii.gz", "subject": None, "planes": planes}
    return tmp_path, labels, member("made", dimension="2D", cases=cases)


def test_slices_of_one_volume_stay_in_one_split_whoever_it_shows(scans):
    root, labels, source = scans
    accept = {"unknown_subjects": ["made"]}

    built = fuse(recipe(source, accept=accept), root)

    assert len(built.cases) == 8
    by_volume: dict[str, set] = {}
    for name, case in built.cases.items():
        by_volume.setdefault(name.partition("_")[0], set()).add((case["group"], case["split"]))
    assert all(len(found) == 1 for found in by_volume.values())
    assert {split for found in by_volume.values() for _, split in found} > {"train"}
    assert len({group for found in by_volume.values() for group, _ in found}) == 4
    # Patient right is on the left, the front on top.
    with bundle_of(root) as bundle:
        case = next(c for c in bundle.cases() if c["name"] == "2_00010")
        np.testing.assert_array_equal(bundle.label(case), labels["2"][::-1, ::-1, 10].T)
    step = built.cases["2_00010"]["transforms"][0]
    assert (step["op"], step["params"]["index"], step["params"]["axis"]) == ("frame", 10, "axial")
    assert step["shape_in"] == [20, 18, 16]
    assert built.cases["2_00010"]["origin"]["image"]["plane"] == 10


def test_slices_whose_values_no_picture_holds_ask_for_a_window(scans):
    root, _, source = scans
    source["description"]["cases"]["planes"].pop("window")

    with pytest.raises(BuildError, match=r"dtype_refused.*window"):
        fuse(recipe(source), root)


def test_frames_that_a_table_lists_are_cases_with_the_outline_of_their_own_rows(tmp_path):
    folder = tmp_path / "made"
    folder.mkdir()
    lines = ["File,X1,Y1,X2,Y2,Frame"]
    for number in range(4):
        write_video(folder / f"v{number}.avi", number)
        for frame, (x0, x1) in ((2, (8, 20)), (5, (10 + number, 30))):
            lines.append(f"v{number}.avi,15,2,15,30,{frame}")
            lines += [f"v{number}.avi,{x0},{y},{x1},{y},{frame}" for y in (4, 12, 20)]
    (folder / "traces.csv").write_text("\n".join(lines) + "\n")
    planes = {"table": "traces.csv", "key": "File", "match": "{name}.avi", "column": "Frame"}
    rows = {"key": "File", "match": "{name}.avi", "chords": ["X1", "Y1", "X2", "Y2"]}
    layer = {"path": "traces.csv", "kind": "shapes", "rows": rows | {"plane": "Frame"}}
    description = {
        "dimension": "2D",
        "modality": "US",
        "family": "Ultrasound",
        "cases": {"image": "{name}.avi", "subject": "{name}", "planes": planes},
        "layers": [layer | {"values": {"*": "spleen"}}],
    }

    built = fuse(recipe(member("made", **description)), tmp_path)

    assert len(built.cases) == 8
    with bundle_of(tmp_path) as bundle:
        case = next(c for c in bundle.cases() if c["name"] == "v3_00005")
        expected = np.zeros((32, 48), bool)
        expected[4:20, 13:30] = True
        np.testing.assert_array_equal(bundle.label(case) > 0, expected)


def write_video(path, seed):
    rng = np.random.default_rng(seed)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuvj420p"
        for _ in range(7):
            coarse = np.kron(rng.integers(0, 255, (8, 12), np.uint8), np.ones((4, 4), np.uint8))
            frame = av.VideoFrame.from_ndarray(np.repeat(coarse[..., None], 3, 2), format="rgb24")
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


@pytest.fixture
def pictures(tmp_path):
    """Six pictures of 20 rows and 30 columns."""
    rng = np.random.default_rng(5)
    (tmp_path / "made" / "images").mkdir(parents=True)
    for number in range(6):
        array = rng.integers(0, 255, (20, 30), dtype=np.uint8)
        Image.fromarray(array).save(tmp_path / "made" / "images" / f"{number}.png")
    return tmp_path


def flat(layer, **changes):
    cases = {"image": "images/{name}.png", "subject": "{name}"}
    return member("made", dimension="2D", cases=cases, layers=[layer], **changes)


def square(number):
    mask = np.zeros((20, 30), bool)
    mask[3 : 8 + number, 6:15] = True
    return mask


def absolute(mask, first, *, down):
    flat_mask = (mask.T if down else mask).ravel()
    edges = np.flatnonzero(np.diff(flat_mask.astype(int), prepend=0, append=0))
    return [n for a, b in zip(edges[::2], edges[1::2], strict=True) for n in (a + first, b - a)]


def relative(mask):
    pairs, end = [], 0
    numbers = absolute(mask, 0, down=True)
    for start, length in zip(numbers[::2], numbers[1::2], strict=True):
        pairs += [start - end, length]
        end = start + length
    return pairs


def coco(mask):
    flat_mask = mask.T.ravel()
    edges = np.flatnonzero(np.diff(flat_mask.astype(int), prepend=0))
    return np.diff([0, *edges, flat_mask.size]).tolist()


CODINGS = {
    "pairs": ({}, lambda mask: absolute(mask, 1, down=True)),
    "pairs along rows from 0": (
        {"first": 0, "down": False},
        lambda mask: absolute(mask, 0, down=False),
    ),
    "relative": ({"coding": "relative"}, relative),
    "coco": ({"coding": "coco"}, coco),
}


@pytest.mark.parametrize("coding", CODINGS)
def test_run_lengths_of_a_table_give_the_mask_and_minus_one_an_empty_one(pictures, coding):
    changes, encode = CODINGS[coding]
    lines = [f"{n},{' '.join(map(str, encode(square(n))))}" for n in range(5)]
    (pictures / "made" / "runs.csv").write_text("\n".join(["id,runs", *lines, "5, -1"]))
    rows = {"key": "id", "runs": "runs", "nothing": ["-1"], **changes}
    layer = {"path": "runs.csv", "kind": "shapes", "rows": rows, "values": {"*": "spleen"}}

    fuse(recipe(flat(layer)), pictures)

    with bundle_of(pictures) as bundle:
        for case in bundle.cases():
            number = int(case["name"])
            expected = square(number) if number < 5 else np.zeros((20, 30), bool)
            np.testing.assert_array_equal(bundle.label(case) > 0, expected)


@pytest.mark.parametrize(
    ("runs", "words"),
    [
        ("1 5 7", "pairs of start and length"),
        ("590 30", "reach pixel"),
        ("-4 3", "pairs of start and length"),
        ("1 99999999999999999999", "reach pixel"),
        ("many", "invalid literal"),
    ],
)
def test_run_lengths_that_cannot_be_are_refused(pictures, runs, words):
    text = "\n".join(["id,runs", *(f"{n},{runs}" for n in range(6))])
    (pictures / "made" / "runs.csv").write_text(text)
    rows = {"key": "id", "runs": "runs"}
    layer = {"path": "runs.csv", "kind": "shapes", "rows": rows, "values": {"*": "spleen"}}

    with pytest.raises(BuildError, match=words):
        fuse(recipe(flat(layer)), pictures)


@pytest.mark.parametrize("compressed", [True, False])
def test_label_maps_of_matlab_files_are_read_by_the_name_of_their_array(pictures, compressed):
    (pictures / "made" / "labels").mkdir()
    for number in range(6):
        numbered = square(number) * np.int32(number + 4)
        path = pictures / "made" / "labels" / f"{number}.mat"
        savemat(path, {"inst_map": numbered, "note": "text"}, do_compression=compressed)
    layer = {"path": "labels/{name}.mat", "kind": "instances", "concept": "spleen"}

    fuse(recipe(flat(layer | {"array": "inst_map"})), pictures)

    with bundle_of(pictures) as bundle:
        for case in bundle.cases():
            np.testing.assert_array_equal(bundle.label(case) > 0, square(int(case["name"])))
    with pytest.raises(BuildError, match=r"no array of numbers 'note'; it has \{'inst_map'"):
        fuse(recipe(flat(layer | {"array": "note"})), pictures, pictures / "other")


def test_what_most_readers_say_is_the_class_and_a_tie_is_uncertain(pictures):
    votes = {0: "111", 1: "110", 2: "100", 3: "000", 4: "10", 5: "1"}
    lines = [f"{n},{vote}" for n, said in votes.items() for vote in said]
    (pictures / "made" / "readers.csv").write_text("\n".join(["id,found", *lines]))
    classes = {"table": "readers.csv", "key": "id", "columns": {"found": "pneumonia"}}
    classes |= {"many_rows": True, "majority": True, "exclusive": False}
    source = flat({}, classes=classes)
    source["description"]["layers"] = []

    built = fuse(recipe(source, task="classification", concepts=["pneumonia"]), pictures)

    found = {name: case["classes"]["pneumonia"] for name, case in built.cases.items()}
    assert found == {"0": 1, "1": 1, "2": 0, "3": 0, "4": -1, "5": 1}


def test_a_fault_of_ours_stops_the_build_and_names_the_case(tmp_path):
    for number in range(8):
        write_nifti(tmp_path / "made" / "images" / f"{number}.nii.gz", person(number))
        write_nifti(tmp_path / "made" / "labels" / f"{number}.nii.gz", block())
    plan = make_plan(check_recipe(recipe(member("made")), {"made"}))
    broken = replace(plan, sources=[plan.sources[0] | {"mapping": {"spleen": ["no", "name"]}}])
    build = Build(broken, tmp_path, tmp_path / "work", tmp_path / "out")

    for stage in STAGES[:2]:
        run_stage(stage, build, Silent())
    with pytest.raises(BuildError, match=r"source made: 0: TypeError") as caught:
        run_stage("harmonise", build, Silent())

    assert caught.value.code == "internal_error"
    assert not json.loads((tmp_path / "work" / "cases.json").read_text())["excluded"]
