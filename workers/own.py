"""Recipes of a person may name the data that this person keeps here, and nobody else's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from catalog.faults import Fault, closest
from catalog.models import Dataset
from catalog.search import QueryError
from catalog.services import facts_of, overlap_graph
from fusion.errors import Problem, RecipeError, nearest
from fusion.models import Upload
from fusion.recipe import Recipe
from fusion.recipe_check import PROPOSED, check_recipe
from fusion.recipe_draft import Checked, Draft, check_draft, check_shape, read_draft
from fusion.recipe_files import parse, resolve


def own_data(owner: Any) -> dict[str, Upload]:
    """What a person keeps here, by name; nothing for a visitor."""
    if owner is None:
        return {}
    return {row.name: row for row in Upload.objects.kept().filter(owner=owner)}


def is_usable(upload: Upload) -> bool:
    """Whether its description is one in which at most concepts are undecided."""
    try:
        found = check_shape(parse(upload.description), upload.name)
    except RecipeError:
        return False
    return not any(one.startswith(PROPOSED) for one in (found.modality, found.family))


def chosen_data(names: Iterable[str], owner: Any) -> list[Upload]:
    """The own data of these names, for a blueprint.

    Raises:
        QueryError: a person keeps nothing of that name here, or its description is unfinished.
    """
    mine, wanted = own_data(owner), list(dict.fromkeys(names))
    faults = [
        Fault("own", name, "data that you keep here", closest(name, tuple(mine)))
        for name in wanted
        if name not in mine
    ]
    faults += [
        Fault("own", name, "data whose description is finished but for its concepts")
        for name in wanted
        if name in mine and not is_usable(mine[name])
    ]
    if faults:
        raise QueryError(faults)
    return [mine[name] for name in wanted]


def checked_recipe(data: Mapping[str, Any], owner: Any) -> Recipe:
    """A recipe of `owner` with all descriptions in place, checked against the catalog.

    Raises:
        RecipeError: with every problem found, or with the first that hides others.
    """
    mine = own_data(owner)
    return check_recipe(resolve(_with_own(data, mine)), _known(mine), overlap_graph(), facts_of)


def own_draft(data: Mapping[str, Any], owner: Any) -> Draft:
    """A draft of `owner`, in which own data have what is known of them; other names stay.

    Raises:
        RecipeError: as of read_draft.
    """
    draft = read_draft(data)
    mine = own_data(owner) if draft.own else {}
    rows = [
        _described(row, mine[one.own]) if one.own in mine else row
        for row, one in zip(draft.data["sources"], draft.sources, strict=True)
    ]
    return read_draft({**draft.data, "sources": rows})


def checked_draft(draft: Draft, owner: Any) -> Checked:
    """What stands between a draft and its run, by the loaded catalog and what `owner` keeps."""
    mine = own_data(owner)
    try:
        filled = read_draft(_with_own(draft.data, mine))
    except RecipeError as error:
        return Checked(None, error.problems, ())
    return check_draft(filled, _known(mine), overlap_graph(), facts_of)


def _known(mine: Iterable[str]) -> set[str]:
    return {*Dataset.objects.values_list("slug", flat=True), *mine}


def _with_own(data: Mapping[str, Any], mine: Mapping[str, Upload]) -> dict[str, Any]:
    """The recipe with what is known of own data: dataset, SHA-256, description."""
    sources = data.get("sources")
    if not isinstance(sources, list):
        return dict(data)
    filled, problems = [], list[Problem]()
    for number, one in enumerate(sources):
        try:
            filled.append(_filled(one, number, mine))
        except RecipeError as error:
            problems += error.problems
    if problems:
        raise RecipeError(problems)
    return {**data, "sources": filled}


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
    return _described({**source, "location": {**place, "sha256": row.sha256}}, row)


def _described(source: Mapping[str, Any], row: Upload) -> dict[str, Any]:
    """A source with the dataset's name and, unless it has one of its own, the description."""
    filled = {"dataset": row.name, **source}
    if source.get("description", row.name) == row.name:
        filled["description"] = parse(row.description) if row.description else {}
    return filled


def _refused(path: str, found: Any, expected: str, hint: str = "") -> RecipeError:
    message = f"{path}: found {found!r}, expected {expected}{hint}"
    return RecipeError([Problem(path, str(found), expected, message)])
