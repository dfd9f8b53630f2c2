"""Every shipped source description reads a tiny copy of its publisher's layout, file by file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from catalog import vocab
from catalog.concepts import ancestors, concepts
from catalog.record import resolve
from catalog.records_io import FOLDER, parse_record
from fusion.build import STAGES, Build, run_stage
from fusion.plan import make_plan
from fusion.recipe import Member
from fusion.recipe_check import check_recipe, differences
from fusion.recipe_files import shipped_descriptions
from tests.fusion.made_layouts import make_layout
from tests.fusion.test_real_cases import Silent

SHIPPED = shipped_descriptions()
LAYOUTS = yaml.safe_load(Path(__file__).with_name("layouts.yaml").read_text("utf-8"))
# Copies by other hosts, for which the publisher's licence is not confirmed; labels with terms of
# their own beside a template; example files under their repository's licence, labelled by a model;
# outlines that people drew in clinical practice; grades of another group than the publisher.
DISAGREE = {
    ("echonet-dynamic", "labelled how"): ("clinical", "manual"),
    ("messidor-2", "licence of labels"): ("LicenseRef-research-only", "unknown"),
    ("chase-db1", "licence of images"): ("CC-BY-4.0", "unknown"),
    ("chase-db1", "licence of labels"): ("CC-BY-4.0", "unknown"),
    ("fives", "licence of images"): ("CC-BY-4.0", "unknown"),
    ("fives", "licence of labels"): ("CC-BY-4.0", "unknown"),
    ("mni152-neuromorphometrics", "licence of labels"): ("LicenseRef-FSL", "CC-BY-NC-4.0"),
    **{
        (f"totalsegmentator-example-{one}", field): said
        for one in ("ct", "ct-small", "dicom")
        for field, said in {
            "labelled how": ("corrected", "pseudo"),
            "licence of images": ("CC-BY-4.0", "Apache-2.0"),
            "licence of labels": ("CC-BY-4.0", "Apache-2.0"),
        }.items()
    },
    ("totalsegmentator-example-mr", "labelled how"): ("corrected", "pseudo"),
    ("totalsegmentator-example-mr", "licence of images"): ("CC-BY-NC-SA-2.0", "Apache-2.0"),
    ("totalsegmentator-example-mr", "licence of labels"): ("CC-BY-NC-SA-2.0", "Apache-2.0"),
    ("wbc-tecom", "licence of images"): ("CC-BY-4.0", "GPL-3.0-only"),
    ("wbc-tecom", "licence of labels"): ("CC-BY-4.0", "GPL-3.0-only"),
    ("wbc-cellavision", "licence of images"): ("CC-BY-4.0", "GPL-3.0-only"),
    ("wbc-cellavision", "licence of labels"): ("CC-BY-4.0", "GPL-3.0-only"),
    ("mni152-tissue", "licence of labels"): ("LicenseRef-FSL", "CC-BY-NC-4.0"),
}
SLUGS = {path.stem for path in FOLDER.glob("*.yaml")}


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_a_description_names_a_dataset_of_the_catalog_and_known_words(name):
    described = SHIPPED[name]

    assert described.dataset in SLUGS
    assert [c for c in [*described.concepts(), *described.covers] if c not in concepts()] == []
    assert vocab.resolve("modality", described.family), described.family
    assert described.checked
    assert described.documented.startswith("https://") or described.checked == "files"
    assert described.citation
    assert described.homepage.startswith("http")
    assert described.known_limits


def test_every_shipped_description_has_a_layout_or_real_files_to_be_tested_on():
    assert set(LAYOUTS) <= set(SHIPPED)
    untested = [n for n, one in SHIPPED.items() if n not in LAYOUTS and one.checked != "files"]
    assert untested == []


def broadest(names: list[str]) -> list[str]:
    """Without concepts that lie below another one: none is asked for twice."""
    return [c for c in names if not set(names) & ancestors(c).keys()]


def built(
    name: str,
    task: str,
    wanted: list[str],
    tmp_path: Path,
    spoilt: str = "",
    convert: str | None = None,
) -> tuple[Build, Silent]:
    """The first three stages on the made layout, with this source alone."""
    described = SHIPPED[name]
    make_layout(described, LAYOUTS[name], tmp_path / "data")
    if spoilt:
        (tmp_path / "data" / spoilt).write_bytes(b"no image")
    source = {
        "id": "made",
        "dataset": described.dataset,
        "location": {"kind": "local", "path": "data"},
        "description": described.model_dump(mode="json", by_alias=True),
        "convert": convert,
    }
    recipe = {
        "schema": "imaging-x/recipe/1",
        "title": f"one source: {name}",
        "task": task,
        "concepts": wanted,
        "baseline": {"tier": "none"},
        "sources": [source],
    }
    plan = make_plan(check_recipe(recipe, SLUGS))
    made, progress = Build(plan, tmp_path, tmp_path / "work", tmp_path / "out"), Silent()
    for stage in STAGES[:3]:
        run_stage(stage, made, progress)
    return made, progress


def rows_of(made: Build) -> dict[str, dict]:
    paths = (made.workdir / "cases").glob("*/case.json")
    return {row["name"]: row for path in paths if (row := json.loads(path.read_text("utf-8")))}


BOXED = sorted(name for name in LAYOUTS if "boxed" in LAYOUTS[name])


@pytest.mark.parametrize("name", sorted(n for n in LAYOUTS if SHIPPED[n].layers and n not in BOXED))
def test_images_and_masks_of_the_publishers_layout_become_cases(name, tmp_path):
    layout, described = LAYOUTS[name], SHIPPED[name]
    wanted = broadest(described.concepts("segmentation"))

    made, progress = built(name, "segmentation", wanted, tmp_path)

    rows = rows_of(made)
    found = {n: [row["subject"], row["official_split"]] for n, row in rows.items()}
    assert found == layout["cases"]
    assert progress.codes == layout.get("excluded", {})
    empty = {n: layout.get("absent", {}).get(n, []) for n in rows}
    lack = {n: [c for c, count in row["present"].items() if not count] for n, row in rows.items()}
    assert lack == empty


@pytest.mark.parametrize("name", sorted(n for n in LAYOUTS if SHIPPED[n].classes))
def test_classes_of_the_publishers_layout_are_read(name, tmp_path):
    layout, described = LAYOUTS[name], SHIPPED[name]
    wanted = broadest(described.concepts("classification"))

    made, _ = built(name, "classification", wanted, tmp_path)

    rows = rows_of(made)
    found = {n: present(row, 1) for n, row in rows.items()}
    splits = {n: [row["subject"], row["official_split"]] for n, row in rows.items()}
    if "in_order" in layout:  # rows of arrays, which have no names
        by_split: dict[str, list] = {}
        for n in sorted(rows):
            by_split.setdefault(splits[n][1], []).append(found[n])
        listed = {
            s: [[c] if isinstance(c, str) else sorted(c) for c in v]
            for s, v in layout["in_order"].items()
        }
        assert by_split == listed
    else:
        assert found == {n: sorted(listed) for n, listed in layout["classes"].items()}
        assert splits == layout["cases"]
    unsure = layout.get("uncertain", {})
    assert {n: present(row, -1) for n, row in rows.items()} == {
        n: sorted(unsure.get(n, [])) for n in rows
    }
    assert {c for row in rows.values() for c in row["classes"]} <= {*wanted}


@pytest.mark.parametrize("name", BOXED)
def test_boxes_of_the_publishers_layout_say_what_is_there(name, tmp_path):
    wanted = broadest(SHIPPED[name].concepts("segmentation"))

    made, _ = built(name, "classification", wanted, tmp_path, convert="presence")

    rows = rows_of(made)
    assert {n: present(row, 1) for n, row in rows.items()} == LAYOUTS[name]["boxed"]


@pytest.mark.parametrize("name", BOXED)
def test_boxes_of_the_publishers_layout_are_read_as_boxes(name, tmp_path):
    wanted = broadest(SHIPPED[name].concepts("segmentation"))

    made, _ = built(name, "detection", wanted, tmp_path)

    rows = rows_of(made)
    assert {n: sorted({box["concept"] for box in row["boxes"]}) for n, row in rows.items()} == (
        LAYOUTS[name]["boxed"]
    )
    assert {n: [box["corners"] for box in row["boxes"]] for n, row in rows.items()} == (
        LAYOUTS[name]["corners"]
    )
    assert all(row["annotated"] for row in rows.values())
    derived = {box["derived"] for row in rows.values() for box in row["boxes"]}
    assert derived == {LAYOUTS[name].get("derived", False)}


def present(row: dict, state: int) -> list[str]:
    """The classes of a case that are in this state."""
    return sorted(c for c, one in row["classes"].items() if one == state)


def test_where_a_description_and_the_catalog_disagree_is_known():
    found = {}
    for name, described in SHIPPED.items():
        path = FOLDER / f"{described.dataset}.yaml"
        record = parse_record(path.read_text("utf-8"), path.name)
        member = Member(
            id="one",
            dataset=described.dataset,
            location={"kind": "local", "path": "x"},
            description=described,
        )
        rows = differences(member, resolve(record))
        found |= {(name, row.field): (row.catalog, row.described) for row in rows}
    assert found == DISAGREE


def test_of_117_masks_only_those_that_were_asked_for_are_read(tmp_path):
    spoilt = "s0011/segmentations/sternum.nii.gz"

    made, progress = built("totalsegmentator", "segmentation", ["spleen"], tmp_path, spoilt)

    assert progress.codes == {}
    assert rows_of(made)["s0011"]["present"]["spleen"] > 0


def test_left_right_and_lesions_of_five_publishers_meet_in_one_kidney():
    names = ("kits23", "btcv-abdomen", "flare22", "amos22-ct", "totalsegmentator")
    sources = [
        {
            "id": name,
            "dataset": SHIPPED[name].dataset,
            "location": {"kind": "local", "path": name},
            "description": SHIPPED[name].model_dump(mode="json", by_alias=True),
        }
        for name in names
    ]
    recipe = {
        "schema": "imaging-x/recipe/1",
        "title": "kidneys of five publishers",
        "task": "segmentation",
        "concepts": ["kidney"],
        "sources": sources,
    }

    plan = make_plan(check_recipe(recipe, SLUGS))

    assert all(source["annotated"] == ["kidney"] for source in plan.sources)
    to_kidney = {s["id"]: {c for c, t in s["mapping"].items() if t} for s in plan.sources}
    assert to_kidney["kits23"] == {"kidney_parenchyma", "kidney_tumour", "kidney_cyst"}
    assert to_kidney["btcv-abdomen"] == {"kidney_left", "kidney_right"}
