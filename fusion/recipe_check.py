"""A recipe against the schema, the catalog and the concept table, with every problem named."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import combinations
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from catalog import concepts, vocab
from catalog.overlaps import OverlapGraph
from fusion.errors import Problem, RecipeError, nearest
from fusion.locations import LOCATIONS, LocalFolder
from fusion.recipe import CatalogFacts, KnownDifference, KnownOverlap, Member, Recipe
from fusion.source import SourceDescription

FactsOf = Callable[[Collection[str]], Mapping[str, Mapping[str, Any]]]
PROPOSED = "?"  # first character of what a draft proposes and nobody has confirmed


def check_recipe(
    data: Mapping[str, Any],
    known_datasets: Collection[str],
    overlaps: OverlapGraph | None = None,
    facts_of: FactsOf | None = None,
) -> Recipe:
    """Check a resolved recipe against the schema, the catalog and the concept table.

    With `overlaps` and `facts_of`, what the catalog knows of its datasets becomes part of the
    recipe: who shares images, and where a source description says something else.

    Raises:
        RecipeError: with every problem found; each names the place, the value and the nearest
            valid one.
    """
    try:
        recipe = Recipe.model_validate(data)
    except ValidationError as error:
        raise RecipeError([_problem(dict(one)) for one in error.errors()]) from error
    problems = [*_unknown_datasets(recipe, known_datasets), *_unknown_concepts(recipe)]
    if problems:
        raise RecipeError(problems)
    if overlaps is not None:
        recipe = _with_overlaps(recipe, overlaps)
    if facts_of is not None:
        recipe = _with_facts(recipe, facts_of)
    return recipe


def check_description(data: Mapping[str, Any], name: str) -> SourceDescription:
    """Check one source description by itself; `name` stands before the place of each problem.

    Raises:
        RecipeError: with every problem found.
    """
    inside = ("sources", 0, "description")
    try:
        description = SourceDescription.model_validate(data)
    except ValidationError as error:
        found = [_problem({**one, "loc": (*inside, *one["loc"])}) for one in error.errors()]
        raise RecipeError([_named(problem, name) for problem in found]) from error
    if unknown := _not_in_table(name, [*description.concepts(), *description.covers]):
        raise RecipeError(unknown)
    return description


def _named(problem: Problem, name: str) -> Problem:
    there = "sources[0].description"
    path, message = (t.replace(there, name, 1) for t in (problem.path, problem.message))
    return replace(problem, path=path, message=message)


def _with_facts(recipe: Recipe, facts_of: FactsOf) -> Recipe:
    """The recipe with the catalog's facts, and its differences beside those already stated."""
    stated = {(row.source, row.field) for row in recipe.known_differences}
    facts = facts_of([source.dataset for source in recipe.sources])
    found = [
        row
        for source in recipe.sources
        if source.dataset in facts
        for row in differences(source, facts[source.dataset])
        if (row.source, row.field) not in stated
    ]
    known = {
        source.id: CatalogFacts.model_validate(facts[source.dataset])
        for source in recipe.sources
        if source.dataset in facts
    }
    return recipe.model_copy(
        update={
            "known_differences": [*recipe.known_differences, *found],
            "known_facts": {**recipe.known_facts, **known},
        }
    )


def differences(member: Member, facts: Mapping[str, Any]) -> Iterator[KnownDifference]:
    """Fields that both state and state differently; what the catalog does not know is silent."""
    described = member.description
    terms = vocab.terms("modality")
    families = {terms[name].family for name in facts["modalities"]}
    own = vocab.resolve("modality", described.family)
    family = own.family if own and own.family in families else described.family
    licences = {"images": facts["licence"], "labels": facts["licence_labels"] or facts["licence"]}
    # Planes are a declared derivation from videos and volumes.
    dimensions = set() if described.cases.planes else set(facts["dimensions"])
    rows = [
        ("dimension", dimensions, described.dimension),
        ("modality family", {name for name in families if name}, family),
        ("labelled how", {facts["annotation"]} - {None}, described.annotation),
        *(
            (f"licence of {part}", {stated} - {None, ""}, getattr(described.licence, part) or "")
            for part, stated in licences.items()
        ),
    ]
    for field, known, said in rows:
        if known and said not in known and said != "unknown":
            catalog = ", ".join(sorted(known))
            yield KnownDifference(
                source=member.id, field=field, catalog=catalog, described=said or "unknown"
            )


def _with_overlaps(recipe: Recipe, graph: OverlapGraph) -> Recipe:
    """The recipe with the catalog's overlaps beside those that it already states."""
    stated = {frozenset(row.datasets) for row in recipe.known_overlaps}
    slugs = list(dict.fromkeys(source.dataset for source in recipe.sources))
    pairs = (graph.between(a, b) for a, b in combinations(slugs, 2))
    found = [
        KnownOverlap(
            datasets=(row.a, row.b),
            certainty=row.certainty,
            kind=row.kind,
            path=list(row.path),
            evidence=row.evidence,
        )
        for row in pairs
        if row is not None and frozenset((row.a, row.b)) not in stated
    ]
    return recipe.model_copy(update={"known_overlaps": [*recipe.known_overlaps, *found]})


def _unknown_datasets(recipe: Recipe, known: Collection[str]) -> list[Problem]:
    return [
        Problem(
            path=f"sources[{i}].dataset",
            found=source.dataset,
            expected="a dataset of the catalog",
            message=f"sources[{i}].dataset: found {source.dataset!r}, expected the slug of a "
            f"dataset in the catalog{nearest(source.dataset, known)}",
        )
        for i, source in enumerate(recipe.sources)
        if source.dataset not in known
    ]


def _unknown_concepts(recipe: Recipe) -> list[Problem]:
    problems = _not_in_table("concepts", recipe.concepts)
    for i, source in enumerate(recipe.sources):
        for key in ("modality", "family"):
            if (value := getattr(source.description, key)).startswith(PROPOSED):
                problems.append(_unconfirmed(f"sources[{i}].description.{key}", value))
        used = [*source.description.concepts(), *source.description.covers]
        problems += _not_in_table(f"sources[{i}].description", used)
    return problems


def _unconfirmed(where: str, value: str) -> Problem:
    message = f"{where}: found {value!r}, which is proposed, not confirmed: write what it is"
    return Problem(where, value, "a value that a person confirmed", message)


def _not_in_table(where: str, used: Iterable[str]) -> list[Problem]:
    known = concepts.concepts()
    return [
        _unconfirmed(where, concept)
        if concept.startswith(PROPOSED)
        else Problem(
            path=where,
            found=concept,
            expected="a concept of the concept table",
            message=f"{where}: found concept {concept!r}{nearest(concept, known)}",
        )
        for concept in used
        if concept not in known
    ]


def _problem(error: Mapping[str, Any]) -> Problem:
    """Turn one pydantic error into a problem with the nearest valid value."""
    # A discriminated union puts its tag into the location; it is no key of the data.
    steps = [s for s in error["loc"] if s not in LOCATIONS]
    path = "".join(f"[{s}]" if isinstance(s, int) else f".{s}" for s in steps).lstrip(".")
    kind, value = error["type"], error.get("input")
    found = "nothing" if kind == "missing" else json.dumps(value, default=str)[:120]
    if kind == "extra_forbidden":
        valid = _keys_at(steps[:-1], error["loc"])
        hint = nearest(str(steps[-1]), valid)
        expected = f"one of {', '.join(sorted(valid))}"
        return Problem(
            path, str(steps[-1]), expected, f"{path}: unknown key{hint or '; ' + expected}"
        )
    expected = str(error.get("ctx", {}).get("expected", "")) or str(error["msg"])
    hint = ""
    if kind == "literal_error" and isinstance(value, str):
        hint = nearest(value, re.findall(r"'([^']+)'", expected))
    what = "is missing" if kind == "missing" else f"found {found}, {error['msg']}"
    return Problem(path or "recipe", found, expected, f"{path or 'recipe'}: {what}{hint}")


def _keys_at(steps: list[Any], loc: tuple[Any, ...]) -> set[str]:
    """Valid keys of the model at a place in a recipe."""
    model: Any = Recipe
    for step in steps:
        if isinstance(step, int):
            continue
        field = next((f for n, f in model.model_fields.items() if (f.alias or n) == step), None)
        if field is None:
            return set()
        model = _model_of(field.annotation, loc)
        if model is None:
            return set()
    return {f.alias or name for name, f in model.model_fields.items()}


def _model_of(annotation: Any, loc: tuple[Any, ...]) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    models = [m for arg in get_args(annotation) if (m := _model_of(arg, loc))]
    if get_origin(annotation) in {Union, UnionType, Annotated} and len(models) > 1:
        return next((LOCATIONS[tag] for tag in loc if tag in LOCATIONS), LocalFolder)
    return models[0] if models else None
