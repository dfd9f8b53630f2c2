"""A recipe that is wrong is refused with the place, the value and the nearest valid one."""

from __future__ import annotations

import copy

import pytest

from fusion.errors import RecipeError
from fusion.plan import make_plan
from fusion.recipe_check import check_recipe
from fusion.recipe_files import example_recipes, load_recipe, parse, resolve

KNOWN = {
    "stare",
    "chase-db1",
    "fives",
    "icbm152-2009a",
    "mni152-neuromorphometrics",
    "msd-task04-hippocampus",
    "colin27-aal",
    "msd-task09-spleen",
    "totalsegmentator",
    "sct-testing-data",
    "brats-2015",
    "pneumoniamnist",
    "figure-1-covid-19-chest-x-ray-dataset-initiative",
    "busi",
    "bus-uc",
    "white-blood-cell-segmentation-zheng-2018",
}


@pytest.fixture
def vessels() -> dict:
    return load_recipe(example_recipes()["retinal-vessels"])


def refused(data: dict, **kwargs: object) -> str:
    with pytest.raises(RecipeError) as caught:
        make_plan(check_recipe(data, KNOWN, **kwargs))
    return str(caught.value)


@pytest.mark.parametrize("name", sorted(example_recipes()))
def test_every_shipped_recipe_has_a_plan_that_does_not_change(name):
    first, again = (
        make_plan(check_recipe(load_recipe(example_recipes()[name]), KNOWN)) for _ in range(2)
    )

    assert first.bundle_id == again.bundle_id
    assert first.bundle_id != first.with_lock("x").bundle_id


def test_an_unknown_key_names_the_nearest_one(vessels):
    vessels["concept"] = ["retinal_vessel"]

    assert "did you mean 'concepts'" in refused(vessels)


def test_an_unknown_dataset_names_the_nearest_slug(vessels):
    vessels["sources"][0]["dataset"] = "stara"

    assert "did you mean 'stare'" in refused(vessels)


def test_an_unknown_concept_names_the_nearest_one(vessels):
    vessels["concepts"] = ["retinal_vesel"]

    assert "did you mean 'retinal_vessel'" in refused(vessels)


@pytest.mark.parametrize("path", ["/etc", "../other", "a/../../b"])
def test_a_local_path_stays_below_the_data_root(vessels, path):
    vessels["sources"][0]["location"]["path"] = path

    assert "data root" in refused(vessels)


def test_a_hub_source_needs_a_whole_commit(vessels):
    vessels["sources"][0]["location"] = {
        "kind": "huggingface",
        "repo_id": "a/b",
        "revision": "main",
    }

    assert "sources[0].location.revision" in refused(vessels)


@pytest.mark.parametrize(
    ("location", "where"),
    [
        ({"kind": "http", "files": [{"url": "file:///etc/passwd"}]}, "files[0].url"),
        ({"kind": "http", "files": [{"url": "https://me:secret@example.org/a"}]}, "files[0].url"),
        ({"kind": "http", "files": [{"url": "https://example.org/"}]}, "files[0]"),
        ({"kind": "http", "files": [{"url": "https://e.org/a", "path": "../a"}]}, "files[0].path"),
        ({"kind": "http", "files": [{"url": "https://e.org/a", "sha256": "0"}]}, "files[0].sha256"),
        ({"kind": "http", "files": [{"url": "https://e.org/a"}, {"url": "https://f.org/A"}]}, ""),
        ({"kind": "zenodo", "record": "latest"}, "record"),
        ({"kind": "figshare", "article": 7}, "version"),
    ],
)
def test_a_place_elsewhere_is_checked_before_anybody_goes_there(vessels, location, where):
    vessels["sources"][0]["location"] = location

    assert f"sources[0].location{'.' if where else ''}{where}" in refused(vessels)


def test_a_recipe_from_the_network_may_not_name_files_of_the_server(vessels):
    vessels["sources"][0]["description"] = "../../secret.yaml"

    with pytest.raises(RecipeError, match="shipped name"):
        resolve(vessels)


def test_broken_text_names_line_and_column():
    with pytest.raises(RecipeError, match="line 2"):
        parse("title: a\n  sources: [")


@pytest.mark.parametrize("text", ["[" * 5000, "a: " + "[" * 900 + "]" * 900, "{a: " * 60])
def test_deep_nesting_is_refused_before_it_is_built(text):
    with pytest.raises(RecipeError, match="nested too deeply"):
        parse(text)


def test_aliases_are_refused():
    with pytest.raises(RecipeError, match="YAML alias"):
        parse("a: &x [1]\nb: *x")


def test_sources_that_share_people_need_an_accepted_reason():
    data = load_recipe(example_recipes()["brain-tissue"])
    data["accept"] = {}

    assert "E07" in refused(data)


def test_what_the_catalog_says_otherwise_is_part_of_the_recipe_and_printed(vessels):
    stated = {
        "dimensions": ["3D"], "modalities": ["Fundus photography"], "annotation": None,
        "licence": "CC-BY-NC-4.0", "licence_labels": None,
    }  # fmt: skip
    first = vessels["sources"][0]
    recipe = check_recipe(vessels, KNOWN, None, lambda _: {first["dataset"]: stated})

    assert {(row.source, row.field) for row in recipe.known_differences} == {
        (first["id"], "dimension"),
        (first["id"], "licence of images"),
        (first["id"], "licence of labels"),
    }
    again = check_recipe(recipe.as_dict(), KNOWN, None, lambda _: {})
    assert again.known_differences == recipe.known_differences
    gates = [gate for gate in make_plan(recipe).gates if gate["code"] == "catalog_differs"]
    assert "the catalog says 3D, the source description 2D" in gates[0]["detail"]
    assert gates[0]["detail"] in " ".join(make_plan(recipe).known_limits)


def test_sources_without_a_common_concept_are_refused(vessels):
    other = copy.deepcopy(vessels)
    other["concepts"] = []
    other["sources"][1]["description"]["layers"][0]["concept"] = "optic_disc"

    assert "E05" in refused(other)


def test_an_unknown_licence_leaves_a_recipe_entry_in_a_shareable_build(vessels):
    vessels["build"] = "shareable"

    plan = make_plan(check_recipe(vessels, KNOWN))
    stare = next(source for source in plan.sources if source["id"] == "stare")
    assert stare["ships"] == {"images": "recipe", "labels": "recipe"}
    assert any("recipe_only: stare images: unknown" in limit for limit in plan.known_limits)


def test_labels_made_by_a_model_cannot_be_the_test_set():
    data = load_recipe(example_recipes()["brain-tissue"])
    data["sources"][0]["description"]["annotation"] = "pseudo"

    assert "E13" in refused(data)


def test_a_class_of_one_source_only_needs_to_be_accepted_and_is_then_printed(vessels):
    vessels["task"], vessels["mode"], vessels["concepts"] = "classification", "union", []
    for i, source in enumerate(vessels["sources"]):
        classes = {"0": "no_finding"} | ({"1": "pneumonia"} if i == 0 else {})
        source["description"]["layers"] = []
        source["description"]["classes"] = {"field": "name", "values": classes}

    assert "class_confounded: pneumonia occurs in stare only" in refused(vessels)
    vessels["accept"]["confounding"] = True
    limits = make_plan(check_recipe(vessels, KNOWN)).known_limits
    assert any("class_confounded" in limit for limit in limits)


def test_a_part_is_not_the_whole_unless_the_source_says_so():
    data = load_recipe(example_recipes()["hippocampus"])
    data["sources"][1]["description"]["covers"] = []

    assert "colin27 has no hippocampus" in refused(data)
