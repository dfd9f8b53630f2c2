"""The outside readers of a bundle: nnU-Net, MONAI, BIDS, Hugging Face, mlcroissant."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from huggingface_hub import DatasetCard
from monai.data.decathlon_datalist import check_missing_files, load_decathlon_datalist

from fusion.bundle.croissant import REQUIRED, REQUIRED_RAI, missing_fields
from fusion.bundle.errors import BundleError
from fusion.bundle.materialise import write_views
from fusion.bundle.pixels import decode
from fusion.bundle.read_bundle import Bundle
from fusion.bundle.verify import verify_bundle
from fusion.bundle.views.nnunet import dataset_id, dataset_name
from fusion.bundle.write import write_bundle, write_sums
from tests.bundle.factories import make_case, make_plan, sha, volume_bytes

NNUNET = """
import multiprocessing, sys
# nnU-Net asks for new interpreters, each of which loads torch again.
multiprocessing.get_context = lambda _=None, get=multiprocessing.get_context: get("fork")
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity
if __name__ == "__main__":
    for folder in sys.argv[1:]:
        print(folder, flush=True)
        verify_dataset_integrity(folder, 1)
"""


def run(arguments, cwd, **env) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(one) for one in arguments],
        cwd=cwd,
        env=os.environ | env,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def view_of(bundle: Path, out: Path, *names: str, lossy: bool = False) -> Path:
    write_views(bundle, names or ["nnunet"], out, lossy=lossy)
    return next(out.glob("Dataset*")) if not names else out


@pytest.mark.slow
def test_nnunet_accepts_every_kind_of_view(built_once, tmp_path):
    partial, colours, sequences = (tmp_path / name for name in ("partial", "colours", "sequences"))
    bundles = built_once | {
        "partial": partly_annotated(partial),
        "colours": grey_and_colour(colours),
        "sequences": two_sequences_each(sequences),
    }
    views = [view_of(bundle, tmp_path / f"view-{kind}") for kind, bundle in bundles.items()]
    views.append(view_of(bundles["partial"], tmp_path / "view-lossy", lossy=True))
    (script := tmp_path / "integrity.py").write_text(NNUNET)
    folders = {n: str(tmp_path) for n in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}

    done = run([sys.executable, script, *views], tmp_path, **folders)

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("most likely OK") == len(views) == 7


def test_no_pixel_is_stored_twice(built_once):
    for folder in built_once.values():
        assert [p for p in folder.rglob("*") if p.name.endswith((".nii.gz", ".png"))] == []
        assert list((folder / "views").rglob("dataset.json"))


def test_views_made_together_share_their_files(built_once, tmp_path):
    out = view_of(built_once["3D"], tmp_path / "views", "nnunet", "monai", "bids")

    for path in [*out.rglob("*_0000.nii.gz"), *out.glob("monai/*/*"), *out.rglob("*_dseg.nii.gz")]:
        assert path.stat().st_nlink == 3, path


def test_a_view_needs_an_undamaged_shard(bundle, tmp_path):
    shard = next((bundle / "shards").glob("train-*.tar"))
    data = bytearray(shard.read_bytes())
    data[600] ^= 1
    shard.write_bytes(data)

    with pytest.raises(BundleError, match="found SHA-256"):
        write_views(bundle, ["nnunet"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_changed_description_of_a_view_is_found(bundle):
    path = next((bundle / "views").rglob("dataset.json"))
    path.write_text(path.read_text().replace("anterior", "anteriox"))
    write_sums(bundle)

    report = {check.code: check.detail for check in verify_bundle(bundle).checks}
    assert path.name in report["views"]


def test_a_holdout_validates_on_val_and_tests_on_test(built_once, tmp_path):
    view = view_of(built_once["3D"], tmp_path / "view")
    data = json.loads((view / "dataset.json").read_text())
    folds = json.loads((view / "splits_final.json").read_text())

    assert data["labels"]["background"] == 0
    assert data["numTraining"] == len(list((view / "imagesTr").iterdir())) == 6
    assert len(list((view / "imagesTs").iterdir())) == len(list((view / "labelsTs").iterdir())) == 2
    assert [(len(fold["train"]), len(fold["val"])) for fold in folds] == [(4, 2)]


def test_leaving_one_source_out_validates_on_that_source(built_once, tmp_path):
    view = view_of(built_once["loso"], tmp_path / "view")
    folds = json.loads((view / "splits_final.json").read_text())

    assert not (view / "imagesTs").exists()
    for fold, held_out in zip(folds, ("first", "second"), strict=True):
        assert all(name.startswith(held_out) for name in fold["val"])
        assert not any(name.startswith(held_out) for name in fold["train"])
        assert len(fold["train"]) == len(fold["val"]) == 4


def test_the_dataset_id_follows_from_the_bundle_id():
    ids = {dataset_id(f"{number:064x}") for number in range(2_000)}

    assert (min(ids), max(ids)) == (500, 999)
    assert dataset_name("0" * 64, "Été: 2 sources/one") == "Dataset500_T2SourcesOne"


def partly_annotated(folder: Path, dimension: str = "2D") -> Path:
    """The second source was not searched for the anterior part."""
    shape = (12, 17) if dimension == "2D" else (8, 9, 5)
    labels = np.resize(np.arange(3, dtype=np.uint8), shape)
    make_case(folder, "first", 1, "train", dimension, label=labels)
    partial = np.where(labels == 1, 0, labels)
    make_case(
        folder, "second", 1, "val", dimension, label=partial, annotated=["hippocampus-posterior"],
        present={"hippocampus-posterior": int((partial == 2).sum())},
    )  # fmt: skip
    write_bundle(make_plan(dimension, mode="union"), folder, folder / "out")
    return folder / "out"


def test_a_concept_that_only_some_cases_were_annotated_for_is_not_exported(tmp_path):
    bundle = partly_annotated(tmp_path)
    view = view_of(bundle, tmp_path / "view")

    assert json.loads((view / "dataset.json").read_text())["labels"] == {
        "background": 0,
        "hippocampus-posterior": 1,
    }
    for path in (view / "labelsTr").iterdir():
        seen = np.resize(np.arange(3), (12, 17)) == 2
        np.testing.assert_array_equal(decode(path.name, path.read_bytes()).array, seen)
    assert verify_bundle(bundle).ok


def test_a_lossy_view_ignores_what_nobody_looked_at(tmp_path):
    view = view_of(partly_annotated(tmp_path), tmp_path / "view", lossy=True)
    labels = json.loads((view / "dataset.json").read_text())["labels"]

    assert labels["ignore"] == max(labels.values()) == 3
    whole, partial = sorted((view / "labelsTr").iterdir())
    every_third = np.resize(np.arange(3), (12, 17))
    np.testing.assert_array_equal(decode("a.png", whole.read_bytes()).array, every_third)
    np.testing.assert_array_equal(
        decode("a.png", partial.read_bytes()).array, np.where(every_third == 2, 2, 3)
    )


def test_lossy_is_refused_where_nothing_would_be_lost(built_once, tmp_path):
    with pytest.raises(BundleError, match="needs no --lossy"):
        write_views(built_once["3D"], ["monai"], tmp_path / "out", lossy=True)


def test_without_a_common_concept_the_view_is_left_out_with_its_reason(tmp_path):
    for source, concept, value in [("first", "anterior", 1), ("second", "posterior", 2)]:
        label = np.full((8, 9, 5), value, np.uint8)
        names = {"annotated": [f"hippocampus-{concept}"], "present": {}}
        make_case(tmp_path, source, 1, "train", "3D", label=label, **names)
    write_bundle(make_plan(mode="union"), tmp_path, tmp_path / "out")

    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert "no concept" in manifest["views"]["nnunet"]["omitted"]
    assert not (tmp_path / "out" / "views" / "nnunet").exists()
    assert "nnunet: no view: no concept" in (tmp_path / "out" / "README.md").read_text()
    with pytest.raises(BundleError, match="no concept"):
        write_views(tmp_path / "out", ["nnunet"], tmp_path / "view")


def grey_and_colour(folder: Path) -> Path:
    make_case(folder, "first", 1, "train", "2D", channels=1)
    make_case(folder, "second", 2, "val", "2D", channels=3)
    write_bundle(make_plan("2D"), folder, folder / "out")
    return folder / "out"


def test_grey_and_colour_pictures_get_one_channel_count(tmp_path):
    view = view_of(bundle := grey_and_colour(tmp_path), tmp_path / "view")

    pictures = [decode(p.name, p.read_bytes()).array for p in (view / "imagesTr").iterdir()]
    assert [picture.shape[2] for picture in pictures] == [3, 3]
    assert verify_bundle(bundle).ok


def two_sequences_each(folder: Path) -> Path:
    for number, split in enumerate(("train", "val"), start=1):
        two_sequences(folder, number, split)
    plan = make_plan("3D", channels=["flair", "t1"])
    write_bundle(plan | {"sources": plan["sources"][:1]}, folder, folder / "out")
    return folder / "out"


@pytest.mark.slow
def test_several_sequences_of_a_case_are_channels_everywhere(tmp_path):
    bundle = two_sequences_each(tmp_path)
    assert verify_bundle(bundle).ok

    out = view_of(bundle, tmp_path / "views", "nnunet", "monai", "bids")
    view = next((out / "nnunet").iterdir())
    names = json.loads((view / "dataset.json").read_text())["channel_names"]
    assert names == {"0": "flair", "1": "t1"}
    rows = load_decathlon_datalist(out / "monai" / "datalist.json")
    assert [len(row["image"]) for row in rows] == [2]
    assert check_missing_files(rows, ["image", "label"]) == []
    assert len(list(out.rglob("*_FLAIR.nii.gz"))) == len(list(out.rglob("*_T1w.nii.gz"))) == 2
    assert bids_errors(out / "bids") == []
    with Bundle(bundle) as opened:
        case = next(opened.cases("train"))
        assert opened.channels == ["flair", "t1"]
        assert opened.torch("train")[0]["image"].shape == (2, *case["shape"])


def two_sequences(folder: Path, number: int, split: str) -> None:
    case = make_case(folder, "first", number, split, "3D")
    place = folder / "cases" / case["id"]
    first = case["files"][0] | {"role": "image"}
    (place / "t1.nii.gz").write_bytes(data := volume_bytes(np.ones(case["shape"], np.int16)))
    row = {"role": "image_1", "path": "t1.nii.gz", "sha256": sha(data), "bytes": len(data)}
    case["files"] = [first, row, case["files"][1]]
    (place / "case.json").write_text(json.dumps(case))


@pytest.mark.parametrize("kind", ["3D", "2D", "loso"])
def test_monai_finds_every_file_of_the_data_list(built_once, tmp_path, kind):
    out = view_of(built_once[kind], tmp_path / "view", "monai")
    data = json.loads((out / "datalist.json").read_text())
    sections = [key for key in ("training", "validation", "test") if key in data]

    assert sections == (["training"] if kind == "loso" else ["training", "validation", "test"])
    for section in sections:
        rows = load_decathlon_datalist(out / "datalist.json", data_list_key=section)
        assert check_missing_files(rows, ["image", "label"]) == []
    if kind == "loso":
        assert {(row["source"], row["fold"]) for row in rows} == {("first", 0), ("second", 1)}


def test_a_data_list_says_what_was_annotated(tmp_path):
    out = view_of(partly_annotated(tmp_path), tmp_path / "view", "monai")
    data = json.loads((out / "datalist.json").read_text())

    assert data["training"][0]["annotated_mask"] == [1, 1]
    assert data["validation"][0]["annotated_mask"] == [0, 1]
    assert data["validation"][0]["annotated"] == ["hippocampus-posterior"]


def bids_errors(folder: Path) -> list[str]:
    tool = Path(sys.executable).with_name("bids-validator-deno")
    done = run([tool, "--json", folder], folder)
    issues = json.loads(done.stdout)["issues"]["issues"]
    return [f"{i['code']} {i.get('location')}" for i in issues if i["severity"] == "error"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["3D", "loso"])
def test_the_bids_validator_finds_no_error(built_once, tmp_path, kind):
    out = view_of(built_once[kind], tmp_path / "view", "bids")

    assert bids_errors(out) == []
    data = json.loads((out / "dataset_description.json").read_text())
    assert data["GeneratedBy"]
    assert [one["URL"] for one in data["SourceDatasets"]] == [
        "https://doi.org/10.1234/abcd",
        "https://example.org/data/second",
    ]
    assert len(list(out.glob("sub-*"))) == 8


def test_the_bids_view_says_what_was_not_annotated(tmp_path):
    out = view_of(partly_annotated(tmp_path, "3D"), tmp_path / "view", "bids")
    sidecars = [json.loads(path.read_text()) for path in out.rglob("*_dseg.json")]

    assert sorted(one["NotAnnotated"] for one in sidecars) == [[], ["hippocampus-anterior"]]


def test_photographs_have_no_bids_view(built_once):
    manifest = json.loads((built_once["2D"] / "manifest.json").read_text())

    assert "photographs" in manifest["views"]["bids"]["omitted"]


HUGGINGFACE = """
import json, sys
from datasets import load_dataset
for folder in sys.argv[2:]:
    data = load_dataset(folder, cache_dir=sys.argv[1])
    rows = [row for split in data.values() for row in split]
    print(json.dumps({
        "splits": {name: len(split) for name, split in data.items()},
        "columns": sorted(rows[0]),
        "masks": sorted(row["json"]["annotated_mask"] for row in rows),
    }))
"""


def unlike_cases(folder: Path) -> Path:
    """One case has no label, one a native label map, and two are to be scaled otherwise."""
    make_case(folder, "first", 1, "train", "3D", label=None)
    make_case(folder, "first", 2, "train", "3D", norm={"method": "divide", "params": {"by": 255}})
    case = make_case(
        folder, "first", 3, "train", "3D", norm={"method": "z_score", "params": {"mean": 1.5}}
    )
    place = folder / "cases" / case["id"]
    (place / "native.nii.gz").write_bytes(data := volume_bytes(np.ones((3, 4, 5), np.uint8)))
    row = {"role": "label_native", "path": "native.nii.gz", "sha256": sha(data), "bytes": len(data)}
    (place / "case.json").write_text(json.dumps(case | {"files": [*case["files"], row]}))
    plan = make_plan("3D")
    write_bundle(plan | {"sources": plan["sources"][:1]}, folder, folder / "out")
    return folder / "out"


def test_unlike_cases_lie_in_shards_of_their_own(tmp_path):
    bundle = unlike_cases(tmp_path)

    names = sorted(path.name for path in (bundle / "shards").iterdir())
    assert names == ["native-000000.tar", "train-000000.tar", "train-partial-000000.tar"]
    assert verify_bundle(bundle).ok, verify_bundle(bundle)


@pytest.mark.slow
def test_hugging_face_loads_a_bundle_s_own_folder(built_once, tmp_path):
    bundles = [*built_once.values(), partly_annotated(tmp_path), unlike_cases(tmp_path / "unlike")]
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-c", HUGGINGFACE, tmp_path / "cache", *bundles]
    done = run(command, tmp_path, **offline)

    assert done.returncode == 0, done.stderr
    volumes, pictures, loso, partial, unlike = map(json.loads, done.stdout.splitlines()[-5:])
    assert volumes["splits"] == pictures["splits"] == {"train": 4, "validation": 2, "test": 2}
    assert loso["splits"] == {"cases": 8}
    assert {"image.nii.gz", "label.nii.gz", "json"} <= set(volumes["columns"])
    assert {"image.png", "label.png", "json"} <= set(pictures["columns"])
    assert partial["masks"] == [[0, 1], [1, 1]]
    assert unlike["splits"] == {"train": 3}
    assert "label.nii.gz" in unlike["columns"]
    assert "label_native.nii.gz" not in unlike["columns"]


def test_the_card_parses_and_the_table_has_a_row_per_case(built_once):
    folder = built_once["3D"]
    card = DatasetCard.load(folder / "README.md")
    table = pq.read_table(folder / "views" / "huggingface" / "cases.parquet")

    assert card.data.license == "other"
    assert card.data.task_categories == ["image-segmentation"]
    assert card.data.source_datasets == ["first", "second"]
    assert table.num_rows == 8
    assert table.column("annotated")[0].as_py() == list(
        json.loads((folder / "manifest.json").read_text())["plan"]["concepts"]
    )


def test_the_hugging_face_view_is_the_bundle_itself(built_once, tmp_path):
    out = view_of(built_once["3D"], tmp_path / "repo", "huggingface")

    assert (out / "SHA256SUMS").read_bytes() == (built_once["3D"] / "SHA256SUMS").read_bytes()
    assert verify_bundle(built_once["3D"]).ok


@pytest.mark.parametrize("kind", ["3D", "2D", "loso"])
def test_mlcroissant_validates_the_description(built_once, kind):
    tool = Path(sys.executable).with_name("mlcroissant")
    done = run([tool, "validate", "--jsonld", "croissant.json"], built_once[kind])

    assert done.returncode == 0, done.stderr
    assert "Done" in done.stderr
    assert "WARNING" not in done.stderr.upper().replace("W0000", ""), done.stderr


def test_mlcroissant_loads_the_cases_with_their_split(built_once):
    script = (
        "import mlcroissant, json\n"
        "rows = list(mlcroissant.Dataset('croissant.json').records('cases'))\n"
        "print(json.dumps([{k: v.decode() for k, v in row.items()} for row in rows]))"
    )
    done = run([sys.executable, "-c", script], built_once["2D"])

    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert len(rows) == 8
    assert {row["cases/split"] for row in rows} == {"train", "val", "test"}


def test_mlcroissant_refuses_records_of_a_changed_file(bundle):
    path = bundle / "manifest.json"
    path.write_text(path.read_text().replace("case000", "case999"))
    script = "import mlcroissant\nlist(mlcroissant.Dataset('croissant.json').records('cases'))"
    done = run([sys.executable, "-c", script], bundle)

    assert done.returncode != 0
    assert "is not identical" in done.stderr


@pytest.mark.parametrize("field", [*REQUIRED, *REQUIRED_RAI])
def test_each_required_field_is_missed(built_once, field):
    data = json.loads((built_once["3D"] / "croissant.json").read_text())
    assert missing_fields(data) == []

    del data[field]
    assert field in missing_fields(data)


def test_the_published_date_comes_from_the_sources_not_from_the_clock(built_once):
    data = json.loads((built_once["3D"] / "croissant.json").read_text())

    assert data["datePublished"] == "2018-01-01"
    assert [one["@id"] for one in data["prov:wasDerivedFrom"]] == [
        "https://doi.org/10.1234/abcd",
        "https://example.org/data/second",
    ]


def test_citations_parse(built_once):
    cff = yaml.safe_load((built_once["3D"] / "CITATION.cff").read_text())
    bib = (built_once["3D"] / "references.bib").read_text()

    assert {"cff-version", "message", "title", "authors"} <= set(cff)
    assert [row["title"] for row in cff["references"]] == [
        "The first set & more",
        "The second set & more",
    ]
    assert bib.count("@misc{") == 2
    assert "100\\% real" in bib
