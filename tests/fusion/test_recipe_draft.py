"""Drafts of recipes: a build can read what is drafted, and edited labels say what is lost."""

from __future__ import annotations

import pytest

from catalog.faults import FaultsError
from catalog.overlaps import OverlapGraph
from fusion.blueprint import Choice, draw
from fusion.errors import RecipeError
from fusion.label_choices import labels_of, meaning_text, read_meaning, with_meanings
from fusion.recipe_check import check_recipe
from fusion.recipe_draft import (
    check_draft,
    draft_recipe,
    outlook,
    overlaps_of,
    read_draft,
    step_of,
    with_datasets,
)
from fusion.recipe_files import example_recipes, load_description, parse, resolve
from tests.factories import make_facts

CT = {"modalities": ["CT"], "anatomies": ["Abdomen"], "tasks": ["Segmentation"],
      "dimensions": ["3D"]}  # fmt: skip
EYE = {"modalities": ["Fundus photography"], "anatomies": ["Retina"], "tasks": ["Segmentation"],
       "dimensions": ["2D"]}  # fmt: skip


def drafted(*facts, here=(), **choice):
    blueprint = draw(facts, OverlapGraph({}), Choice(**choice))
    return read_draft(
        draft_recipe(blueprint, facts, is_here=lambda place: place.get("path") in here)
    )


def abdomen(**fields):
    return make_facts("kits23", **{**CT, **fields}), make_facts("lits", **{**CT, **fields})


def checked(draft):
    return check_draft(draft, set(draft.slugs), OverlapGraph({}), lambda _: {})


def organ(name: str, dataset: str, values: dict, kind: str = "label_map") -> dict:
    """A source with one layer of labels, written out."""
    description = {
        "name": name, "dataset": dataset, "modality": "CT", "family": "CT", "dimension": "3D",
        "cases": {"image": "i/{name}.nii"},
        "layers": [{"path": "l/{name}.nii", "kind": kind, "values": values}],
    }  # fmt: skip
    place = {"kind": "local", "path": name}
    return {"id": name, "dataset": dataset, "location": place, "description": description}


def draft_of(*sources, **fields):
    data = {"schema": "imaging-x/recipe/1", "title": "A draft", "task": "segmentation"}
    return read_draft({**data, **fields, "sources": list(sources)})


def test_a_draft_of_described_datasets_is_a_recipe():
    draft = drafted(*abdomen(), mode="union")

    assert [source.shipped for source in draft.sources] == ["kits23", "lits"]
    assert check_recipe(resolve(draft.data), {"kits23", "lits"}).mode == "union"
    assert checked(draft).first_step == "start"


def test_a_copy_that_is_here_is_taken_before_the_publishers_files():
    facts = (make_facts("chase-db1", **EYE), make_facts("stare", **EYE))

    away = drafted(*facts)
    here = drafted(*facts, here={"retinal_vessels/stare"})

    assert [source.shipped for source in away.sources] == ["chase-db1-publisher", "stare-publisher"]
    assert [source.shipped for source in here.sources] == ["chase-db1-publisher", "stare"]
    assert here.sources[1].location["path"] == "retinal_vessels/stare"


def test_a_dataset_without_a_description_stays_in_the_draft_and_is_named():
    draft = drafted(make_facts("kits23", **CT), make_facts("nobody", classes=["kidney"], **CT))
    found = checked(draft)

    assert draft.undescribed == ["nobody"]
    assert "description" not in draft.data["sources"][1]
    assert found.recipe is None
    assert found.first_step == "labels"
    assert found.of("labels")[0].path == "sources[1].description"
    kept = labels_of(draft, {"nobody": {"classes": ["kidney"]}}).outcomes["intersection"]
    assert kept.concepts == ("kidney",)  # by the catalog's classes, until somebody describes it


def test_classes_are_made_of_masks_where_a_source_has_no_classes():
    draft = drafted(*abdomen(tasks=["Classification"]))

    assert draft.task == "classification"
    assert [source.convert for source in draft.sources] == ["presence", "presence"]


def test_other_datasets_keep_what_was_said_of_those_that_stay():
    first = drafted(*abdomen())
    said = {**first.data["sources"][0], "id": "mine"}
    earlier = {**first.data, "sources": [said, first.data["sources"][1]]}
    fresh = drafted(make_facts("kits23", **CT), make_facts("amos22", **CT)).data

    again = with_datasets(earlier, fresh)

    assert [source["id"] for source in again["sources"]] == ["mine", "amos22"]


def test_a_changed_description_is_written_out_and_the_shipped_one_stands_by_its_name():
    row = {"id": "a", "dataset": "lits", "location": {"kind": "local", "path": "lits"}}
    whole = load_description("lits")

    same = draft_of({**row, "description": whole})
    other = draft_of({**row, "description": with_meanings(whole, {"layers.0.values.2": "liver"})})

    assert same.data["sources"][0]["description"] == "lits"
    assert other.data["sources"][0]["description"]["layers"][0]["values"]["2"] == "liver"
    assert whole["layers"][0]["values"]["2"] == "liver_tumour"


def test_every_shipped_recipe_can_be_continued():
    for path in example_recipes().values():
        draft = read_draft(parse(path.read_text()))
        assert checked(draft).first_step == "start", path.stem
        assert all(source.shipped or source.description for source in draft.sources)
        assert all(one.labels for one in labels_of(draft, {}).sources), path.stem


@pytest.mark.parametrize(
    ("data", "path"),
    [
        ({}, "sources"),
        ({"sources": {}}, "sources"),
        ({"sources": []}, "sources"),
        ({"sources": [{}, "lits"]}, "sources[1]"),
    ],
)
def test_what_has_no_sources_is_no_draft(data, path):
    with pytest.raises(RecipeError) as error:
        read_draft(data)

    assert error.value.errors[0]["path"] == path


@pytest.mark.parametrize(
    ("path", "step"),
    [
        ("E07", "splits"),
        ("sources", "datasets"),
        ("sources[1].dataset", "datasets"),
        ("sources[1].description.layers[0].path", "labels"),
        ("sources[0].location.revision", "licences"),
        ("target.spacing_mm", "target"),
        ("accept.unknown_subjects", "splits"),
        ("title", "start"),
        ("taks", "start"),
    ],
)
def test_each_problem_has_a_step(path, step):
    assert step_of(path) == step


# Labels


def test_intersection_and_union_say_what_they_lose():
    draft = draft_of(
        organ("a", "lits", {"1": "liver", "2": "spleen"}),
        organ("b", "kits23", {"1": "liver", "2": "kidney"}),
    )

    known = labels_of(draft, {})

    both = known.outcomes["intersection"]
    assert both.concepts == ("liver",)
    assert {key: kept.lost for key, kept in both.sources.items()} == {"a": ("2",), "b": ("2",)}
    every = known.outcomes["union"]
    assert every.concepts == ("kidney", "liver", "spleen")
    assert every.sources["a"].unlabelled == ("kidney",)
    assert every.sources["b"].takes == {"kidney": ("2",), "liver": ("1",)}


def test_parts_meet_their_whole_only_when_somebody_says_that_they_are_all_of_it():
    parts = organ("a", "lits", {"1": "kidney_left", "2": "kidney_right"})
    whole = organ("b", "kits23", {"1": "kidney"})

    apart = labels_of(draft_of(parts, whole), {})
    assert apart.sources[0].can_cover == ("kidney",)
    assert apart.outcomes["intersection"].concepts == ()
    assert apart.outcomes["intersection"].conflicts[0].verdict == "block"

    parts["description"]["covers"] = ["kidney"]
    together = labels_of(draft_of(parts, whole), {})
    assert together.outcomes["intersection"].concepts == ("kidney",)
    assert together.outcomes["intersection"].sources["a"].takes == {"kidney": ("1", "2")}


def test_an_undecided_label_has_proposals_and_keeps_the_recipe_from_running():
    draft = draft_of(organ("a", "lits", {"livr": "?", "2": "?spleen", "3": "liver"}, "segments"))
    first, second, third = labels_of(draft, {}).sources[0].labels

    assert first.proposals[0][0] == "liver"
    assert 80 < first.proposals[0][1] < 100
    assert second.proposals[0] == ("spleen", 100.0)
    assert third.is_decided
    assert labels_of(draft, {}).outcomes["union"].concepts == ("liver",)
    assert {problem.found for problem in checked(draft).of("labels")} == {"?", "?spleen"}


def test_conflicts_are_those_of_the_plan():
    one, other = (organ(name, name, {"1": "liver"}) for name in ("lits", "kits23"))
    one["description"]["layers"][0]["protocol"] = {"includes_lesion": True}
    other["description"]["layers"][0]["protocol"] = {"includes_lesion": False}

    (gate,) = labels_of(draft_of(one, other), {}).outcomes["intersection"].conflicts

    assert gate.verdict == "block"
    assert "includes_lesion" in gate.detail
    why = {"protocol": {"liver": "small lesions"}}
    (gate,) = labels_of(draft_of(one, other, accept=why), {}).outcomes["union"].conflicts
    assert gate.verdict == "accepted"


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("Left kidney", "kidney_left"),
        ("optic disk + optic cup", "optic_disc+optic_cup"),
        ("Background", "background"),
        (" ", "?"),
    ],
)
def test_a_meaning_is_read_as_it_is_written(text, meaning):
    assert read_meaning(text, "here") == meaning
    if meaning != "?":
        assert read_meaning(meaning_text(meaning), "here") == meaning


def test_a_meaning_that_is_no_concept_names_the_nearest():
    with pytest.raises(FaultsError, match=r"here: found 'livr'.*nearest: 'Liver'"):
        read_meaning("Spleen + livr", "here")


def test_keys_of_labels_may_be_numbers_and_hold_dots():
    data = {"layers": [{"values": {1: "liver"}}], "classes": {"columns": {"a.b": "liver"}}}

    changed = with_meanings(data, {"layers.0.values.1": "spleen", "classes.columns.a.b": "spleen"})

    assert changed["layers"][0]["values"] == {1: "spleen"}
    assert changed["classes"]["columns"] == {"a.b": "spleen"}
    assert with_meanings(data, {"layers.9.values.1": "x", "layers.0.values.7": "x"}) == data


# Licences, files and overlaps


def test_what_a_shareable_bundle_may_not_hold_names_the_licence():
    facts = make_facts("nobody", licence="CC-BY-ND-4.0", **CT)
    draft = draft_of({"id": "nobody", "dataset": "nobody"})

    found = outlook(draft.sources[0], facts, "canonical", lambda _: False)
    native = outlook(draft.sources[0], facts, "native", lambda _: False)
    unknown = outlook(draft.sources[0], None, "canonical", lambda _: True)

    assert found.stated_by == "catalog"
    assert found.ships["shareable"] == {"images": "original", "labels": "original"}
    assert found.why[0].startswith("images: CC-BY-ND-4.0 lets them be passed on unchanged only")
    assert native.ships["shareable"] == {"images": "harmonised", "labels": "original"}
    assert unknown.ships["shareable"] == {"images": "recipe", "labels": "recipe"}
    assert (unknown.acquisition, unknown.is_here) == (None, True)


def test_sources_that_share_people_are_told_before_there_is_a_recipe():
    one, other = organ("a", "lits", {"1": "liver"}), organ("b", "kits23", {"1": "liver"})
    one["description"]["overlaps"] = [
        {"dataset": "kits23", "kind": "shared_patients", "evidence": "a paper"}
    ]

    found = list(overlaps_of(draft_of(one, other, {**other, "id": "c"}), OverlapGraph({})))

    assert [(row.datasets, row.kind) for row in found] == [
        (("lits", "kits23"), "shared_patients"),
        (("lits", "kits23"), "shared_patients"),
        (("kits23", "kits23"), "parts of one dataset"),
    ]
