"""Recipes of a person may name the data that this person keeps here, and nobody else's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from catalog.models import Dataset
from catalog.services import facts_of, overlap_graph
from fusion.errors import Problem, RecipeError
from fusion.models import Upload
from fusion.recipe import Recipe, check_recipe, nearest, parse, resolve


def own_data(owner: Any) -> dict[str, Upload]:
    """What a person keeps here, by name; nothing for a visitor."""
    if owner is None:
        return {}
    return {row.name: row for row in Upload.objects.kept().filter(owner=owner)}


def checked_recipe(data: Mapping[str, Any], owner: Any) -> Recipe:
    """A recipe of `owner` with all descriptions in place, checked against the catalog.

    Raises:
        RecipeError: with every problem found, or with the first that hides others.
    """
    mine = own_data(owner)
    known = {*Dataset.objects.values_list("slug", flat=True), *mine}
    return check_recipe(resolve(_with_own(data, mine)), known, overlap_graph(), facts_of)


def _with_own(data: Mapping[str, Any], mine: Mapping[str, Upload]) -> dict[str, Any]:
    """The recipe with what is known of own data: dataset, SHA-256, description."""
    sources = data.get("sources")
    if not isinstance(sources, list):
        return dict(data)
    return {**data, "sources": [_filled(one, number, mine) for number, one in enumerate(sources)]}


def _filled(source: Any, number: int, mine: Mapping[str, Upload]) -> Any:
    place = source.get("location") if isinstance(source, dict) else None
    if not isinstance(place, dict) or place.get("kind") != "own":
        return source
    where, name = f"sources[{number}].location", str(place.get("name", ""))
    row = mine.get(name)
    if row is None:
        raise _refused(f"{where}.name", name, "data that you keep here", nearest(name, mine))
    if place.get("sha256") not in {None, "", row.sha256}:
        raise _refused(f"{where}.sha256", place["sha256"], f"{row.sha256}, what {name!r} holds")
    filled = {"dataset": name, **source, "location": {**place, "sha256": row.sha256}}
    if source.get("description", name) == name:
        filled["description"] = parse(row.description) if row.description else {}
    return filled


def _refused(path: str, found: Any, expected: str, hint: str = "") -> RecipeError:
    message = f"{path}: found {found!r}, expected {expected}{hint}"
    return RecipeError([Problem(path, str(found), expected, message)])
