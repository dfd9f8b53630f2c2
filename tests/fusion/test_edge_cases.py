"""The ends of what can come in: each of these has broken somebody's fused set."""

from __future__ import annotations

import json
import multiprocessing
import resource
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from catalog.overlaps import OverlapGraph
from fusion.build import STAGES, Build, run_all, run_stage
from fusion.bundle.verify import verify_bundle
from fusion.errors import BuildError, CancelledError, RecipeError
from fusion.plan import make_plan
from fusion.recipe_check import check_recipe
from tests.fusion.made import (
    RAS,
    block,
    brain,
    fuse,
    member,
    person,
    recipe,
    write_nifti,
    write_source,
)
from tests.fusion.test_real_cases import Silent


@pytest.fixture
def one(tmp_path) -> Path:
    """A source `a` of six cases."""
    write_source(tmp_path / "a", {f"c{i}": brain(i) for i in range(6)})
    return tmp_path


def values(name: str, table: dict[str, str]) -> dict:
    layer = {"path": "labels/{name}.nii.gz", "kind": "label_map", "values": table}
    return member(name, layers=[layer])


def test_one_source_alone_is_fused(one):
    built = fuse(recipe(member("a")), one)

    assert len(built.cases) == 6
    assert verify_bundle(built.build.out).ok


def test_a_source_with_itself_is_refused():
    twin = member("a") | {"id": "b"}

    with pytest.raises(RecipeError, match="E07: a and b are one dataset"):
        make_plan(check_recipe(recipe(member("a"), twin), {"a"}))


def test_what_was_known_before_any_file_is_among_the_findings(one):
    write_source(one / "b", {f"d{i}": brain(i + 50)[::-1] for i in range(6)})
    cases = {"image": "images/{name}.nii.gz", "subject": None}
    overlaps = [{"dataset": "a", "kind": "subset", "evidence": "its web page"}]
    licence = {"images": "CC-BY-4.0", "labels": "CC-BY-4.0"}
    data = recipe(
        member("a", licence=licence),
        member("b", cases=cases, overlaps=overlaps, licence={"images": "LicenseRef-DUA"}),
        accept={"overlap": [{"datasets": ["a", "b"], "reason": "a test"}]},
    )

    findings = fuse(data, one).report["findings"]

    texts = [(row["code"], row["detail"]) for row in findings]
    assert len(texts) == len(set(texts))
    assert [code for code, _ in texts].count("licence_unknown") == 2, "images and labels of b"
    told = {(row["code"], row["detail"].split(":")[0]) for row in findings}
    assert ("overlap_certain", "a and b") in told
    assert {("licence_unknown", "b"), ("recipe_only", "b"), ("subjects_unknown", "b")} <= told
    assert not {("licence_unknown", "a"), ("recipe_only", "a"), ("subjects_unknown", "a")} & told
    assert "accepted: a test" in next(r["detail"] for r in findings if "overlap" in r["code"])


def test_sources_without_a_common_concept_are_refused_with_what_each_has():
    data = recipe(values("a", {"1": "spleen"}), values("b", {"1": "liver"}), concepts=[])

    with pytest.raises(RecipeError, match=r"E05.*a: spleen; b: liver"):
        make_plan(check_recipe(data, {"a", "b"}))


def test_a_union_says_which_broad_concept_it_leaves_to_the_background():
    sides = values("b", {"1": "kidney_left", "2": "kidney_right"})
    sides["description"]["covers"] = ["kidney"]
    broad = values("a", {"1": "kidney", "2": "spleen"})
    data = recipe(broad, sides, mode="union", concepts=[])

    limits = " ".join(make_plan(check_recipe(data, {"a", "b"})).known_limits)
    spelled = make_plan(check_recipe(data | {"concepts": ["kidney", "spleen"]}, {"a", "b"}))

    assert "a: kidney lies above kidney_left, kidney_right and becomes background" in limits
    assert "becomes background" not in " ".join(spelled.known_limits)


def test_a_source_that_loses_all_its_cases_stops_the_build_and_names_why(one):
    write_source(one / "b", {f"d{i}": np.zeros((8, 8, 8), np.uint8) for i in range(3)})

    with pytest.raises(BuildError, match=r"source b: 3 of 3 .*degenerate") as caught:
        fuse(recipe(member("a"), member("b")), one)
    assert caught.value.code == "source_failed"


def test_empty_masks_are_absence_and_neither_duplicates_nor_errors(tmp_path):
    images = {f"c{i}": brain(i) for i in range(6)}
    write_source(
        tmp_path / "a", images, {n: np.zeros(i.shape, np.uint8) for n, i in images.items()}
    )

    built = fuse(recipe(member("a")), tmp_path)

    assert {row["present"]["spleen"] for row in built.cases.values()} == {0}
    assert all(row["annotated"] == ["spleen"] for row in built.cases.values())
    assert len({row["group"] for row in built.cases.values()}) == 6


def test_a_single_case_is_a_bundle_of_training_data(tmp_path):
    write_source(tmp_path / "a", {"only": brain(1)})

    built = fuse(recipe(member("a")), tmp_path)

    assert built.cases["only"]["split"] == "train"
    assert "small_stratum" in built.findings()


def test_a_volume_of_one_slice_stays_one_slice(tmp_path):
    write_source(tmp_path / "a", {"flat": brain(1, (20, 18, 1))}, {"flat": block((20, 18, 1))})
    target = {"profile": "grid", "spacing_mm": [2, 2, 2]}

    built = fuse(recipe(member("a"), target=target), tmp_path)

    assert built.cases["flat"]["shape"] == [10, 9, 1]


def test_a_4d_image_is_excluded_with_the_number_of_its_images(one):
    write_nifti(one / "a" / "images" / "c9.nii.gz", np.stack([brain(9)] * 3, axis=-1))
    write_nifti(one / "a" / "labels" / "c9.nii.gz", block())

    built = fuse(recipe(member("a")), one)

    assert built.codes == {"c9": "unreadable"}
    (row,) = built.report["exclusions"]["unreadable"]
    assert "3 images along the 4th axis" in row["detail"]


def test_slices_ten_times_as_thick_as_wide_are_not_smeared_into_each_other(tmp_path):
    affine = np.diag([0.5, 0.5, 5.0, 1.0])
    image = np.zeros((40, 40, 6), np.float32)
    image[..., 3] = 1000
    write_source(tmp_path / "a", {"thick": image}, {"thick": block((40, 40, 6))}, affine)
    target = {"profile": "grid", "spacing_mm": [1, 1, 5]}

    built = fuse(recipe(member("a"), target=target), tmp_path)

    planes = np.asarray(nib.load(built.file("thick", "image")).dataobj).mean(axis=(0, 1))
    assert np.allclose(planes, [0, 0, 0, 1000, 0, 0])


@pytest.mark.parametrize(
    "affine",
    [
        np.array([[-1.5, 0, 0, 30], [0, 2, 0, -9], [0, 0, 1, 4], [0, 0, 0, 1.0]]),
        np.array([[0, 0, 2.0, 5], [-1, 0, 0, 8], [0, 1.2, 0, 1], [0, 0, 0, 1]]),
        np.array([[0.96, -0.28, 0, 3], [0.28, 0.96, 0, 2], [0, 0, 2, 1], [0, 0, 0, 1.0]]),
    ],
    ids=["left-handed", "permuted", "oblique"],
)
def test_nothing_moves_in_the_world_whatever_the_axes(tmp_path, affine):
    label = np.zeros((20, 18, 16), np.uint8)
    label[4:9, 3:7, 10:14] = 1
    write_source(tmp_path / "a", {"c": brain(1)}, {"c": label}, affine)
    before = affine @ [*np.argwhere(label).mean(axis=0), 1]

    built = fuse(recipe(member("a")), tmp_path)

    stored = nib.load(built.file("c", "label"))
    inside = np.argwhere(np.asarray(stored.dataobj) == 1)
    assert len(inside) == label.sum()
    assert np.allclose(stored.affine @ [*inside.mean(axis=0), 1], before, atol=1e-3)
    assert "".join(nib.aff2axcodes(stored.affine)) == "RAS"


def test_label_values_above_255_and_with_gaps_keep_their_meaning(tmp_path):
    label = block(value=300, dtype=np.uint16)
    label[:2] = 7
    write_source(
        tmp_path / "a", {f"c{i}": brain(i) for i in range(3)}, {f"c{i}": label for i in range(3)}
    )
    source = values("a", {"300": "spleen", "7": "liver"})

    built = fuse(recipe(source, concepts=["liver", "spleen"]), tmp_path)

    assert built.cases["c0"]["present"] == {
        "liver": int((label == 7).sum()),
        "spleen": int((label == 300).sum()),
    }


def test_a_label_stored_as_almost_one_is_one(tmp_path):
    write_source(
        tmp_path / "a",
        {f"c{i}": brain(i) for i in range(3)},
        {f"c{i}": block(dtype=np.float32) * np.float32(0.9999) for i in range(3)},
    )

    built = fuse(recipe(member("a")), tmp_path)

    assert built.cases["c0"]["present"]["spleen"] == block().sum()


def test_a_value_that_nobody_mapped_excludes_its_case_with_the_count(one):
    label = block()
    label[0, 0, :3] = 5
    write_nifti(one / "a" / "labels" / "c0.nii.gz", label)

    built = fuse(recipe(member("a")), one)

    assert built.codes == {"c0": "label_unmapped"}
    (row,) = built.report["exclusions"]["label_unmapped"]
    assert "5 (3 voxels)" in row["detail"]


def test_two_labels_that_claim_one_voxel_exclude_the_case(one):
    for i in range(6):
        write_nifti(one / "a" / "livers" / f"c{i}.nii.gz", np.zeros_like(block()))
    write_nifti(one / "a" / "livers" / "c2.nii.gz", block())
    layers = [
        {"path": "labels/{name}.nii.gz", "kind": "mask", "concept": "spleen"},
        {"path": "livers/{name}.nii.gz", "kind": "mask", "concept": "liver"},
    ]

    built = fuse(recipe(member("a", layers=layers), concepts=["liver", "spleen"]), one)

    assert built.codes == {"c2": "label_collision"}


def test_names_that_differ_in_case_alone_or_are_no_ascii_get_ids_of_their_own(tmp_path):
    names = ["Müller", "MÜLLER", "müller", "患者一", "a b (1)"]
    write_source(tmp_path / "a", {name: brain(i) for i, name in enumerate(names)})

    built = fuse(recipe(member("a")), tmp_path)

    ids = [row["id"] for row in built.cases.values()]
    assert sorted(built.cases) == sorted(names)
    assert len({one.lower() for one in ids}) == len(names)
    assert all(one.isascii() and " " not in one for one in ids)
    assert verify_bundle(built.build.out).ok


def test_the_same_id_in_two_sources_is_two_people(one):
    write_source(one / "a", {f"c{i}": person(i) for i in range(6)})
    write_source(one / "b", {f"c{i}": person(i + 50) for i in range(6)})
    for path in (one / "b" / "labels").iterdir():
        write_nifti(path, np.roll(np.asarray(nib.load(path).dataobj), 1, axis=0))

    built = fuse(recipe(member("a"), member("b")), one)

    assert len(built.manifest["cases"]) == 12
    assert len({case["group"] for case in built.manifest["cases"]}) == 12


def test_one_person_under_two_ids_is_found_by_the_image_and_kept_once(one):
    write_source(one / "b", {f"d{i}": brain(i + 50) for i in range(9)} | {"other": brain(2)})

    built = fuse(recipe(member("a"), member("b")), one)

    assert {"c2", "other"} & set(built.cases) != {"c2", "other"}
    assert "duplicate" in built.codes.values()


def test_official_test_data_win_over_training_cases_of_the_same_person(tmp_path):
    images = {f"p{i}_{v}": brain(10 * i + v) for i in range(6) for v in range(2)}
    write_source(tmp_path / "a", images)
    cases = {
        "image": "images/p{person}_{visit}.nii.gz",
        "subject": "{person}",
        "split": {"0_1": "test"},
    }
    layer = {"path": "labels/p{person}_{visit}.nii.gz", "kind": "mask", "concept": "spleen"}

    built = fuse(recipe(member("a", cases=cases, layers=[layer])), tmp_path)

    assert built.cases["0_1"]["split"] == "test"
    assert built.codes == {"0_0": "official_test_group"}


class StopAfter(Silent):
    """Somebody presses cancel when so many cases are harmonised."""

    def __init__(self, cases: int) -> None:
        super().__init__()
        self.left = cases

    def case(self, source, name, state, *, stage, code="", detail=""):
        self.left -= stage == "harmonise"

    def check(self) -> None:
        if self.left <= 0:
            raise CancelledError


def test_a_cancelled_build_goes_on_where_it_stopped(one):
    plan = make_plan(check_recipe(recipe(member("a")), {"a"}))
    build = Build(plan, one, one / "work", one / "bundle")
    with pytest.raises(CancelledError):
        run_all(build, StopAfter(3))
    assert not build.out.exists()
    done = {p: p.stat().st_mtime_ns for p in sorted(build.workdir.glob("cases/*/verdict.json"))}
    assert len(done) >= 3  # others were under way

    run_all(build, Silent())

    assert {p: p.stat().st_mtime_ns for p in done} == done, "finished cases were done again"
    fresh = fuse(recipe(member("a")), one, one / "fresh")
    assert (build.out / "SHA256SUMS").read_text() == (fresh.build.out / "SHA256SUMS").read_text()


def test_two_builds_of_one_plan_at_once_do_not_write_over_each_other(one):
    plan = make_plan(check_recipe(recipe(member("a")), {"a"}))
    build = Build(plan, one, one / "work", one / "bundle")
    refused = []

    class Second(Silent):
        def stage(self, name, total):
            if name == "harmonise":
                with pytest.raises(BuildError) as caught:
                    run_all(build, Silent())
                refused.append(caught.value.code)

    run_all(build, Second())

    assert refused == ["busy"]
    assert verify_bundle(build.out).ok


def _within(limit: int, root: Path, pipe) -> None:
    """Build where no file may grow beyond `limit` bytes, which fails as a full disk does."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    plan = make_plan(check_recipe(recipe(member("a")), {"a"}))
    try:
        run_all(Build(plan, root, root / "work", root / "bundle"), Silent())
    except BuildError as error:
        pipe.send((error.code, str(error)))


def test_a_full_disk_is_named_and_what_is_done_is_used_when_there_is_room_again(one):
    receive, send = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=_within, args=(8_000, one, send))
    child.start()
    assert receive.poll(120)
    code, message = receive.recv()
    child.join()

    assert code == "disk_full"
    assert "stage" in message
    assert not (one / "bundle").exists()
    plan = make_plan(check_recipe(recipe(member("a")), {"a"}))
    run_all(build := Build(plan, one, one / "work", one / "bundle"), Silent())
    assert verify_bundle(build.out).ok


def test_a_case_cut_off_between_its_files_is_done_again(one):
    """What a killed worker leaves: files without the note that the case is finished."""
    whole = fuse(recipe(member("a")), one)
    build = Build(whole.build.plan, one, one / "second.work", one / "second")
    shutil.copytree(whole.build.workdir, build.workdir)
    case = next(iter(sorted((build.workdir / "cases").iterdir())))
    (case / "verdict.json").unlink()
    (case / "image.nii.gz").write_bytes(b"half")

    for stage in STAGES:
        run_stage(stage, build, Silent())

    assert (build.out / "SHA256SUMS").read_text() == (whole.build.out / "SHA256SUMS").read_text()


def test_a_header_whose_two_places_disagree_excludes_the_case_unless_a_rule_settles_it(one):
    image = nib.Nifti1Image(brain(7), RAS)
    image.set_sform(RAS, 1)
    image.set_qform(np.diag([1.0, 1, 2, 1]), 1)
    nib.save(image, one / "a" / "images" / "c0.nii.gz")

    built = fuse(recipe(member("a")), one)
    settled = fuse(recipe(member("a", geometry="sform")), one, one / "settled")

    assert built.codes == {"c0": "geometry_conflict"}
    assert settled.codes == {}


@pytest.mark.parametrize(
    ("one_name", "other", "certainty"),
    [
        ("LiTS", "MSD Task03", "certain"),
        ("KiTS19", "KiTS23", "certain"),
        ("NIH ChestX-ray14", "RSNA Pneumonia", "certain"),
        ("LIDC-IDRI", "LUNA16", "certain"),
        ("ISIC18", "ISIC19", "certain"),
    ],
)
def test_known_copies_are_found_in_the_shipped_catalog(shipped, one_name, other, certainty):
    graph = OverlapGraph({slug: row["relations"] for slug, row in shipped.items()})

    def named(text: str) -> list[str]:
        return [s for s, row in shipped.items() if text.lower() in json.dumps(row["name"]).lower()]

    found = [graph.between(a, b) for a in named(one_name) for b in named(other) if a != b]

    assert certainty in {row.certainty for row in found if row is not None}
