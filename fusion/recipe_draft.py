"""A recipe in the making: drafted from datasets, read while unfinished, checked by step. Pure.

A draft is a recipe as a person writes it: a shipped source description stands by its name, one that
was changed is written out, and a dataset that nobody has described yet lacks it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from itertools import combinations, product
from types import MappingProxyType
from typing import Any

from catalog.licences import Licence, licence
from catalog.overlaps import OverlapClass, OverlapGraph
from fusion.acquisition import Plan as Acquisition
from fusion.acquisition import plan_of
from fusion.blueprint import Blueprint
from fusion.errors import Problem, RecipeError
from fusion.gates import Gate, common_concepts, gates_of, ships, spoken_concepts
from fusion.recipe import KnownOverlap, Member, Recipe
from fusion.recipe_check import FactsOf, check_description, check_recipe
from fusion.recipe_files import (
    descriptions_of,
    example_recipes,
    load_description,
    parse,
    resolve,
    shipped_descriptions,
)
from fusion.source import SourceDescription

Facts = Mapping[str, Any]
IsHere = Callable[[Mapping[str, Any]], bool]
SCHEMA = "imaging-x/recipe/1"
STEPS = ("datasets", "labels", "target", "splits", "licences", "start")
TASKS = ("segmentation", "classification", "detection")
#: What masks are turned into for a task.
CONVERTED = MappingProxyType({"classification": "presence", "detection": "box"})
#: Kinds of locations whose files lie below the data root, put there by a person.
BELOW_ROOT = frozenset({"local", "manual"})
_STEP_OF_GATE = {
    "E01": "datasets", "E02": "datasets", "E03": "target", "E04": "labels", "E05": "labels",
    "E06": "target", "E07": "splits", "E08": "licences", "E09": "licences", "E10": "labels",
    "E11": "splits", "E12": "licences", "E13": "splits",
}  # fmt: skip
_STEP_OF_KEY = {
    "task": "labels", "mode": "labels", "concepts": "labels", "target": "target",
    "channels": "target", "views": "target", "splits": "splits", "seed": "splits",
    "overlap_plan": "splits", "accept": "splits", "build": "licences",
}  # fmt: skip
_STEP_OF_SOURCE = {"dataset": "datasets", "location": "licences"}
_BY_ITSELF = {"kind": "local", "path": "."}


@dataclass(frozen=True)
class DraftSource:
    """One source of a draft.

    `data` is its description as written, `description` the same checked; both None without one.
    """

    id: str
    dataset: str
    location: Mapping[str, Any]
    shipped: str
    data: Mapping[str, Any] | None
    description: SourceDescription | None
    convert: str | None

    @property
    def own(self) -> str:
        """The name of the uploaded data that it is; empty where it is none."""
        return str(self.location.get("name", "")) if self.location.get("kind") == "own" else ""

    def member(self, description: SourceDescription | None = None) -> Member:
        """The source as a recipe has it, wherever its files are.

        Raises:
            ValueError: it has no description, or an id that no source may have.
        """
        return Member.model_validate(
            {"id": self.id, "dataset": self.dataset, "location": _BY_ITSELF,
             "description": description or self.description, "convert": self.convert}
        )  # fmt: skip


@dataclass(frozen=True)
class Draft:
    """A recipe in the making: `data` is what is written down and shown."""

    data: Mapping[str, Any]
    sources: tuple[DraftSource, ...]

    @property
    def task(self) -> str:
        asked = self.data.get("task")
        return next((task for task in TASKS if task == asked), TASKS[0])

    @property
    def slugs(self) -> list[str]:
        """The datasets, without what its owner has uploaded."""
        return list(dict.fromkeys(one.dataset for one in self.sources if not one.own))

    @property
    def own(self) -> list[str]:
        """The names of what its owner has uploaded."""
        return list(dict.fromkeys(one.own for one in self.sources if one.own))

    @property
    def undescribed(self) -> list[str]:
        """Datasets whose files nobody has described here."""
        return [source.dataset for source in self.sources if source.description is None]

    def part(self, key: str) -> Mapping[str, Any]:
        """A mapping of the recipe; empty where it is missing or no mapping."""
        value = self.data.get(key)
        return value if isinstance(value, Mapping) else {}

    def names(self, key: str, inside: str = "") -> list[str]:
        """A list of words of the recipe, or of a part of it; empty where it is none."""
        value = (self.part(inside) if inside else self.data).get(key)
        return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


@dataclass(frozen=True)
class Checked:
    """What stands between a draft and its run; `recipe` is None while it is no recipe."""

    recipe: Recipe | None
    problems: tuple[Problem, ...]
    gates: tuple[Gate, ...]

    def of(self, step: str) -> list[Problem]:
        """The problems that are solved in a step."""
        return [problem for problem in self.problems if step_of(problem.path) == step]

    @property
    def first_step(self) -> str:
        """Where to go on: the first step with a problem, else the last one."""
        return next((step for step in STEPS if self.of(step)), STEPS[-1])


@dataclass(frozen=True)
class Outlook:
    """What becomes of one source's files: how they are got, and in which form they are passed on.

    `ships` is build -> part -> harmonised, original or recipe; `why` says what a shareable bundle
    may not hold, and by which licence.
    """

    id: str
    dataset: str
    licences: Mapping[str, str]
    stated_by: str
    ships: Mapping[str, Mapping[str, str]]
    why: tuple[str, ...]
    acquisition: Acquisition | None
    is_here: bool

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        plan = self.acquisition.as_dict() if self.acquisition else None
        return {**asdict(self), "acquisition": plan}


def step_of(path: str) -> str:
    """The step in which a problem at this place of a recipe, or of this rule, is solved."""
    if path in _STEP_OF_GATE:
        return _STEP_OF_GATE[path]
    if inside := re.match(r"sources\[\d+\]\.?(\w*)", path):
        return _STEP_OF_SOURCE.get(inside[1], "labels")
    return _STEP_OF_KEY.get(
        re.split(r"[.\[]", path)[0], "datasets" if path == "sources" else "start"
    )


def draft_recipe(
    blueprint: Blueprint,
    datasets: Sequence[Facts],
    described: Mapping[str, Mapping[str, Any]] = {},
    is_here: IsHere = lambda _: False,
    own: Collection[str] = (),
) -> dict[str, Any]:
    """The recipe of a blueprint, as far as it goes.

    Of several shipped descriptions of a dataset those are taken whose labels meet, first of all
    those whose files are here. A dataset without any has no `description`: a person supplies it.

    Args:
        blueprint: of these datasets and described folders.
        datasets: facts of those of the catalog.
        described: name -> source description of local folders and of uploaded data.
        own: names of the uploaded ones among them.
        is_here: whether the files of a location are on this server.
    """
    task = _task(blueprint)
    chosen = _descriptions([one["slug"] for one in datasets], task, is_here)
    sources = [_source(one, chosen.get(one["slug"], ""), task, is_here) for one in datasets]
    for name, data in described.items():
        is_own = name in own
        place = {"kind": "own", "name": name} if is_own else {"kind": "local", "path": name}
        slug = name if is_own else data.get("dataset") or name
        sources.append({"id": name[:40], "dataset": slug, "location": place, "description": data})
    target: dict[str, Any] = {"profile": blueprint.choice.profile}
    if blueprint.choice.profile == "grid" and len(blueprint.spacing_mm or ()) == 3:  # noqa: PLR2004
        target["spacing_mm"] = list(blueprint.spacing_mm or ())
    recipe: dict[str, Any] = {
        "schema": SCHEMA,
        "title": " and ".join(one.name for one in blueprint.sources)[:200],
        "task": task,
        "mode": blueprint.choice.mode,
        "build": "private",
        "target": target,
        "sources": sources,
        "splits": {"protocol": "holdout"},
        "baseline": {"tier": "smoke"},
    }
    if blueprint.choice.accept_confounding:
        recipe["accept"] = {"confounding": True}
    return recipe


def _task(blueprint: Blueprint) -> str:
    """The task that was asked for or is first in common, of those that a build can serve."""
    asked = [blueprint.choice.task, *blueprint.tasks]
    return next((one.lower() for one in asked if one.lower() in TASKS), TASKS[0])


def _source(one: Facts, name: str, task: str, is_here: IsHere) -> dict[str, Any]:
    source = {
        "id": one["slug"][:40],
        "dataset": one["slug"],
        "location": _location(one, name, is_here),
    }
    if name:
        source["description"] = name
        found = shipped_descriptions()[name]
        has = {"has_classes": bool(found.classes), "has_boxes": found.has_boxes}
        if convert := conversion(task, **has):
            source["convert"] = convert
    return source


def conversion(task: str, *, has_classes: bool, has_boxes: bool) -> str | None:
    """What a source of masks must declare to serve the task."""
    has = {"classification": has_classes, "detection": has_boxes}
    return None if has.get(task, True) else CONVERTED[task]


def _location(one: Facts, name: str, is_here: IsHere) -> dict[str, Any]:
    known = shipped_places().get(name)
    if known and is_here(known):
        return dict(known)
    plan = plan_of(one)
    return dict(plan.location or known or {"kind": "local", "path": one["slug"]})


def _descriptions(slugs: Sequence[str], task: str, is_here: IsHere) -> dict[str, str]:
    """For each dataset the name of the shipped description whose labels meet the others' best."""
    options = {slug: descriptions_of(slug) for slug in slugs}
    described = {slug: found for slug, found in options.items() if found}
    copies = shipped_places()

    def fit(chosen: Sequence[tuple[str, SourceDescription]]) -> tuple[int, ...]:
        spoken = [_spoken(one, task) for _, one in chosen]
        shared = len(common_concepts(spoken, "intersection"))
        # Written for a copy: good when that is here, else the publisher's own files come first.
        here = sum(1 if is_here(copies[name]) else -1 for name, _ in chosen if name in copies)
        return (sum(map(bool, spoken)), bool(shared), here, shared,
                sum(one.checked == "files" for _, one in chosen))  # fmt: skip

    best = max(product(*described.values()), key=fit, default=())
    return {slug: name for slug, (name, _) in zip(described, best, strict=True)}


def _spoken(description: SourceDescription, task: str) -> set[str]:
    has_classes = bool(description.classes)
    convert = conversion(task, has_classes=has_classes, has_boxes=description.has_boxes)
    one = DraftSource("source", "", {}, "", None, description, convert)
    return spoken_concepts(one.member(), task)


@cache
def shipped_places() -> Mapping[str, Mapping[str, Any]]:
    """Where the shipped recipes have the files of shipped descriptions: name -> location."""
    recipes = [parse(path.read_text("utf-8")) for path in example_recipes().values()]
    sources = [one for data in recipes for one in data["sources"]]
    # A recipe may have a description of its own, which is nobody else's.
    return {s["description"]: s["location"] for s in sources if isinstance(s["description"], str)}


def with_datasets(data: Mapping[str, Any], fresh: Mapping[str, Any]) -> dict[str, Any]:
    """A draft that has the datasets of a `fresh` one, and what it says already of those it had."""
    wanted = [source["dataset"] for source in fresh["sources"]]
    kept = [source for source in data["sources"] if source.get("dataset") in wanted]
    known = {source["dataset"] for source in kept}
    added = [source for source in fresh["sources"] if source["dataset"] not in known]
    return {**data, "sources": [*kept, *added]}


def read_draft(data: Mapping[str, Any]) -> Draft:
    """A recipe as somebody wrote it, unfinished ones too.

    Raises:
        RecipeError: it has no list of sources, or one of them is no mapping of keys.
    """
    rows = data.get("sources")
    if not isinstance(rows, list) or not rows:
        raise RecipeError([_wrong("sources", rows, "a list of sources, one at least")])
    if wrong := [(i, row) for i, row in enumerate(rows) if not isinstance(row, Mapping)]:
        raise RecipeError(
            [_wrong(f"sources[{i}]", row, "keys: id, dataset, location") for i, row in wrong]
        )
    written = [_by_name(row) for row in rows]
    sources = tuple(_read_source(i, row) for i, row in enumerate(written))
    return Draft({**data, "sources": written}, sources)


def _wrong(path: str, found: object, expected: str) -> Problem:
    seen = "nothing" if found is None or found == [] else repr(found)[:120]
    return Problem(path, seen, expected, f"{path}: found {seen}, expected {expected}")


def _by_name(row: Mapping[str, Any]) -> dict[str, Any]:
    """A source whose description stands by its name where it is a shipped one, word for word."""
    written = row.get("description")
    if not isinstance(written, Mapping):
        return dict(row)
    names = [name for name, _ in descriptions_of(str(written.get("dataset", "")))]
    same = next((name for name in names if load_description(name) == written), None)
    return {**row, "description": same or dict(written)}


def _read_source(index: int, row: Mapping[str, Any]) -> DraftSource:
    written, checked = row.get("description"), None
    shipped = written if isinstance(written, str) and written in shipped_descriptions() else ""
    data = load_description(shipped) if shipped else written
    if isinstance(data, Mapping):
        try:
            checked = check_shape(data)
        except RecipeError:
            checked = None
    place = row.get("location")
    if not isinstance(place, Mapping) or not isinstance(place.get("kind"), str):
        place = {}
    return DraftSource(
        id=str(row.get("id") or f"source{index + 1}"),
        dataset=str(row.get("dataset") or ""),
        location=place,
        shipped=shipped,
        data=data if isinstance(data, Mapping) else None,
        description=checked,
        convert=found if (found := row.get("convert")) in CONVERTED.values() else None,
    )


def check_shape(data: Mapping[str, Any], name: str = "description") -> SourceDescription:
    """A source description in which concepts may still be undecided ("?").

    Raises:
        RecipeError: with every problem but those.
    """
    try:
        return check_description(data, name)
    except RecipeError as error:
        if all(problem.found.startswith("?") for problem in error.problems):
            return SourceDescription.model_validate(data)
        raise


def check_draft(
    draft: Draft, known_datasets: Collection[str], overlaps: OverlapGraph, facts_of: FactsOf
) -> Checked:
    """Everything that a run would refuse, and every eligibility rule once it is a recipe."""
    try:
        recipe = check_recipe(resolve(draft.data), known_datasets, overlaps, facts_of)
    except RecipeError as error:
        return Checked(None, error.problems, ())
    gates = gates_of(recipe)
    blocked = (gate for gate in gates if gate.verdict == "block")
    problems = [Problem(g.code, g.detail, "", f"{g.code}: {g.detail}") for g in blocked]
    return Checked(recipe, tuple(problems), tuple(gates))


def overlaps_of(draft: Draft, graph: OverlapGraph) -> Iterator[KnownOverlap]:
    """Sources that share people or images, as their descriptions or the catalog say."""
    for a, b in combinations(draft.sources, 2):
        pair = (a.dataset, b.dataset)
        stated = [
            row
            for one, other in ((a, b), (b, a))
            for row in (one.description.overlaps if one.description else ())
            if row.dataset == other.dataset
        ]
        known = graph.between(*pair) if a.dataset != b.dataset else None
        if a.dataset == b.dataset:
            yield _overlap(pair, "certain", "parts of one dataset", a.dataset)
        elif stated:
            yield _overlap(pair, "certain", stated[0].kind, stated[0].evidence)
        elif known:
            yield _overlap(pair, known.certainty, known.kind, known.evidence)


def _overlap(
    pair: tuple[str, str], certainty: OverlapClass, kind: str, evidence: str
) -> KnownOverlap:
    return KnownOverlap(
        datasets=pair, certainty=certainty, kind=kind, path=list(pair), evidence=evidence
    )


def outlook(source: DraftSource, facts: Facts | None, profile: str, is_here: IsHere) -> Outlook:
    """How a source is got and passed on; its own description comes before the catalog.

    Args:
        facts: of its dataset, None where the catalog has none.
        profile: of the target.
    """
    stated = {"images": "", "labels": ""}
    if facts:
        stated["images"] = facts["licence"] or ""
        stated["labels"] = facts["licence_labels"] or stated["images"]
    described = source.description.licence if source.description else None
    own = {part: getattr(described, part) or "" for part in stated} if described else {}
    licences = own or stated
    terms = {part: licence(text or None) for part, text in licences.items()}
    return Outlook(
        id=source.id,
        dataset=source.dataset,
        licences=licences,
        stated_by="source description" if own else "catalog",
        ships={build: ships(build, profile, *terms.values()) for build in ("private", "shareable")},
        why=tuple(
            f"{part}: {_why(licences[part], one, profile)}"
            for part, one in terms.items()
            if not one.redistribute or not (one.adapt or profile == "native")
        ),
        acquisition=plan_of(facts) if facts else None,
        is_here=is_here(source.location),
    )


def _why(stated: str, terms: Licence, profile: str) -> str:
    if not stated:
        return "no licence is stated, so nothing may be passed on"
    if not terms.redistribute:
        return f"{stated} does not let files be passed on"
    return f"{stated} lets them be passed on unchanged only, and profile {profile} changes them"
