"""The report of a build: whole, safe, the same each time, and in the bundle."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from defusedxml import ElementTree

from fusion.build import STAGES, Build, run_stage
from fusion.bundle.verify import verify_bundle
from fusion.plan import make_plan
from fusion.recipe_check import check_recipe
from fusion.recipe_files import example_recipes, load_recipe
from fusion.report import measure
from fusion.report.write import FOLDER, REPORT_FILE, write_report
from tests.fusion.test_real_cases import Silent
from tests.fusion.test_recipe import KNOWN

HOSTILE = '<script>alert("1")</script> & "quoted" \'name\''
CATALOG = {
    "modalities": ["MR"], "modality_details": [], "anatomies": ["Hippocampus"],
    "dimensions": ["2D"], "classes": ["Hippocampus"], "annotation": "manual", "licence": None,
    "licence_labels": None, "spacing": {"min_mm": None, "median_mm": [1, 1, 1], "max_mm": None},
    "counts": [{"number": 100, "unit": "volume", "what": None, "split": None, "source": "x"}],
}  # fmt: skip


def make_source(root: Path, name: str, spacing: float, radius: int, number: int = 6) -> dict:
    """Heads with a ball for a hippocampus, and the entry of a recipe that reads them."""
    rng = np.random.default_rng(len(name))
    for kind in ("images", "labels"):
        (root / name / kind).mkdir(parents=True)
    affine = np.diag([-spacing, spacing, 2 * spacing, 1])
    for n in range(number):
        place = np.indices((30 + n, 28, 20)).T - np.array([12, 13, 9])
        label = (radius >= np.linalg.norm(place, axis=-1).T).astype(np.uint8)
        image = rng.normal(100, 20, label.shape).astype(np.float32) + 40 * label
        for kind, array in (("images", image), ("labels", label)):
            made = nib.Nifti1Image(array, affine)
            made.set_sform(affine, 1)
            nib.save(made, root / name / kind / f"s{n:02d}.nii.gz")
    description = {
        "name": f"Heads {name} {HOSTILE}", "modality": "MR", "family": "MR", "dimension": "3D",
        "annotation": "manual",
        "cases": {"image": "images/{name}.nii.gz", "subject": "{name}"},
        "layers": [{"path": "labels/{name}.nii.gz", "kind": "label_map",
                    "values": {"1": "hippocampus"}}],
    }  # fmt: skip
    dataset = {"fine": "msd-task04-hippocampus", "coarse": "colin27-aal"}[name]
    location = {"kind": "local", "path": name}
    return {"id": name, "dataset": dataset, "location": location, "description": description}


def recipe_of(root: Path, **changes) -> dict:
    sources = [make_source(root, "fine", 1.0, 5), make_source(root, "coarse", 2.0, 6)]
    recipe = load_recipe(example_recipes()["hippocampus"])
    return recipe | {
        "title": f"Heads {HOSTILE}", "about": HOSTILE, "sources": sources, "accept": {},
        "baseline": {"tier": "none"}, "target": {"profile": "grid", "spacing_mm": [2, 2, 2]},
    } | changes  # fmt: skip


def build(recipe: dict, root: Path, out: Path) -> Build:
    catalog = {"msd-task04-hippocampus": CATALOG}
    plan = make_plan(check_recipe(recipe, KNOWN, None, lambda _: catalog))
    made = Build(plan, root, out.with_name(f"{out.name}.work"), out)
    for stage in STAGES:
        run_stage(stage, made, Silent())
    return made


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Build:
    root = tmp_path_factory.mktemp("heads")
    return build(recipe_of(root), root, root / "bundle")


@pytest.fixture(scope="module")
def html(made) -> str:
    return (made.out / FOLDER / REPORT_FILE).read_text("utf-8")


def test_the_page_is_well_formed_and_fetches_nothing(html):
    root = ElementTree.fromstring(html.removeprefix("<!doctype html>"))

    assert root.tag == "html"
    assert root.get("lang") == "en"
    values = [value for one in root.iter() for name, value in one.items()
              if name in {"src", "href", "srcset", "data", "action"}]  # fmt: skip
    assert values
    assert [v for v in values if not v.startswith(("data:image/png;base64,", "#"))] == []
    assert not re.search(r"url\(|@import|https?://", html.split("</style>")[0])
    assert not [one for one in root.iter() if one.tag in {"script", "link", "iframe", "object"}]
    ids = [one.get("id") for one in root.iter() if one.get("id")]
    assert len(ids) == len(set(ids))
    links = {v[1:] for v in values if v.startswith("#")}
    assert links <= set(ids)


def test_names_cannot_bring_markup_into_the_page(html):
    assert "<script" not in html
    assert html.count("&lt;script&gt;") >= 4  # title, heading, about, sources


def test_every_picture_says_what_it_shows_and_every_table_has_a_caption_and_scopes(html):
    root = ElementTree.fromstring(html.removeprefix("<!doctype html>"))

    pictures = list(root.iter("img"))
    assert len(pictures) >= 12
    for picture in pictures:
        assert re.search(r"(fine|coarse), case s\d\d: axial, coronal, sagittal", picture.get("alt"))
    assert all(one.get("aria-label") for one in root.iter("svg") if one.get("role") == "img")
    for table in root.iter("table"):
        assert table.find("caption") is not None
        assert all(cell.get("scope") for cell in table.iter("th"))


def test_the_page_tells_differences_shifts_round_trips_and_both_geometries(html):
    for said in (
        "the catalog says 2D, the files are 3D",
        "the catalog counts 100 volumes, the files show 6",
        "1 x 1 x 1 mm, the files&#x27; 1 x 1 x 2 mm",
        "label_volume_shift",
        "2 \u00d7 2 \u00d7 4",  # voxels of `coarse` before, and below after
        "2 \u00d7 2 \u00d7 2",
        "LAS (6)",
        "RAS (6)",
        "Labels to the target grid and back",
    ):
        assert said in html, said


def test_the_bundle_holds_the_report_and_what_it_measured(made):
    report = json.loads((made.out / "report.json").read_text())
    prints = json.loads((made.out / FOLDER / "fingerprint.json").read_text())
    manifest = json.loads((made.out / "manifest.json").read_text())

    assert verify_bundle(made.out).ok
    assert f"{FOLDER}/{REPORT_FILE}" in (made.out / "SHA256SUMS").read_text()
    codes = {row["code"] for row in report["findings"]}
    assert {"catalog_differs", "label_volume_shift"} <= codes
    fit = manifest["compatibility"]
    assert fit["parts"]["geometry"]["value"] == 0.5
    assert 0 < fit["S"] < 1
    assert fit["C"] == pytest.approx(0.9)
    assert fit["gates"]
    sizes = {row["source"]: row["size"][2] for row in report["measured"]["volumes"]}
    assert sizes["coarse"] > 5 * sizes["fine"]
    original = {"fine": [1, 1, 2], "coarse": [2, 2, 4]}
    for row in prints["sources"]:
        assert row["before"]["spacing_mm"]["median"] == original[row["id"]]
        assert row["after"]["spacing_mm"]["median"] == [2, 2, 2]
        label = nib.load(made.data_root / row["id"] / "labels" / "s00.nii.gz")
        by_hand = np.count_nonzero(label.get_fdata()) * abs(np.linalg.det(label.affine[:3, :3]))
        found = row["labels"]["hippocampus"]["size"]["median"][0]
        assert found == pytest.approx(by_hand, rel=0.15)


def test_a_second_report_of_the_same_work_has_the_same_bytes(made, tmp_path):
    plan, cases = made.locked_plan().as_dict(), sorted(made.workdir.glob("cases/*/case.json"))
    rows = [json.loads(path.read_text()) for path in cases]

    for name in ("a", "b"):
        write_report(plan, made.workdir / "final", rows, [], [], tmp_path / name)

    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == ["cases.png", "fingerprint.json", "report.html"]
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_a_shareable_report_shows_no_picture_of_a_source_that_may_not_be_passed_on(made, tmp_path):
    plan = made.locked_plan().as_dict() | {"build": "shareable"}
    plan["sources"][1]["ships"]["labels"] = "recipe"
    assert plan["sources"][1]["id"] == "coarse"

    write_report(plan, made.workdir / "final", [], [], [], tmp_path)

    html = (tmp_path / REPORT_FILE).read_text()
    assert 'alt="fine, case' in html
    assert 'alt="coarse, case' not in html
    assert "the licence does not allow its pictures to be passed on" in html


def test_ten_thousand_cases_make_no_larger_page(made, tmp_path):
    """Each case again under many names: pictures stay a sample, tables stay short."""
    plan = made.locked_plan().as_dict()
    final = tmp_path / "final"
    first = next((made.workdir / "final" / "cases").iterdir())
    case = json.loads((first / "case.json").read_text())
    many = []
    for n in range(10_000):
        row = case | {"id": f"{case['source']}__{n:012x}", "name": f"c{n}", "subject": f"c{n}"}
        folder = final / "cases" / row["id"]
        folder.mkdir(parents=True)
        (folder / "case.json").write_text(json.dumps(row))
        many.append(row | {"original": case["original"], "official_split": None})
    for row in measure.chosen(many, 12):
        for file in row["files"]:
            (final / "cases" / row["id"] / file["path"]).hardlink_to(first / file["path"])
    lost = [
        {
            "source": "fine",
            "name": f"x{n}",
            "stage": "harmonise",
            "code": "unreadable",
            "detail": "-",
        }
        for n in range(2000)
    ]

    write_report(plan, final, many, lost, [], tmp_path / "out")

    page = (tmp_path / "out" / REPORT_FILE).read_text()
    assert len(page) < 3_000_000
    assert "12 of 10,000" in page
    assert "1960 more in report.json" in page
