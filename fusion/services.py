"""Blueprints, drafts of recipes and partners of the loaded catalog."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from django.conf import settings

from catalog.faults import Fault, closest
from catalog.models import Dataset
from catalog.rule_selection import select as select_by_rules
from catalog.rules import Rules
from catalog.search import QueryError
from catalog.search.facets import resolve, unknown_value
from catalog.search.index import PerState
from catalog.selection import neighbours, select, wrong_number
from catalog.services import facts_of
from fusion.blueprint import FEWEST, MODES, MOST, PROFILES, Blueprint, Choice, draw
from fusion.described import described_facts
from fusion.label_choices import Labels, labels_of
from fusion.models import Upload
from fusion.partners import KEYS, Goal, GoalFound, Partners
from fusion.recipe_draft import (
    BELOW_ROOT,
    Draft,
    Outlook,
    draft_recipe,
    outlook,
    read_draft,
    with_datasets,
)
from fusion.recipe_files import parse
from fusion.sources.archive import is_archive

_IN_RECORD = frozenset({"modality_details", "classes", "spacing", "annotation", "relations"})


def blueprint(
    slugs: Iterable[str],
    choice: Choice,
    described: Mapping[str, Mapping[str, Any]] = {},
    own: Sequence[Upload] = (),
) -> Blueprint:
    """The blueprint of named datasets, of folders that are only described, and of uploaded data.

    Args:
        slugs: datasets of the catalog.
        choice: what is to be built.
        described: name -> source description; a name may be the slug of what it is a copy of.
        own: data of who asks, with usable descriptions.

    Raises:
        QueryError: fewer than two in all or more than six, or a slug that no dataset has.
        RecipeError: a description is not valid.
    """
    chosen = select(slugs)
    known = facts_of(described)
    local = [described_facts(name, one, known.get(name, {})) for name, one in described.items()]
    stated = {row.name: {"size_bytes": row.size_bytes, "access": "own"} for row in own}
    mine = [described_facts(row.name, parse(row.description), stated[row.name]) for row in own]
    together = [*chosen.facts, *local, *mine]
    if (
        len({one["slug"] for one in together}) < len(together)
        or not FEWEST <= len(together) <= MOST
    ):
        raise QueryError([wrong_number(len(together))])
    weights = settings.COMPATIBILITY_WEIGHTS
    return draw(together, chosen.neighbours.overlaps, choice, weights)


def drafted(
    slugs: Iterable[str],
    choice: Choice,
    described: Mapping[str, Mapping[str, Any]] = {},
    earlier: Mapping[str, Any] | None = None,
    own: Sequence[Upload] = (),
) -> Draft:
    """The draft of a recipe for these datasets.

    Args:
        slugs, choice, described, own: as for `blueprint`.
        earlier: a draft; what it says of datasets that it has already is kept.

    Raises:
        QueryError: as for `blueprint`.
        RecipeError: a description or the earlier draft is not valid.
    """
    wanted = list(dict.fromkeys(slugs))
    together = {**described, **{row.name: parse(row.description) for row in own}}
    drawn = blueprint(wanted, choice, described, own)
    names = [row.name for row in own]
    fresh = draft_recipe(drawn, select(wanted).facts, together, is_here, names)
    return read_draft(with_datasets(read_draft(earlier).data, fresh) if earlier else fresh)


def labels(draft: Draft) -> Labels:
    """The labels of a draft and what becomes of them."""
    return labels_of(draft, facts_of(draft.slugs))


def outlooks(draft: Draft, own: Iterable[str] = ()) -> list[Outlook]:
    """How each source of a draft is got and passed on.

    Args:
        own: names of the data that who asks has uploaded.
    """
    kept = set(own)
    facts = facts_of(draft.slugs)
    profile = str(draft.part("target").get("profile") or "canonical")

    def here(place: Mapping[str, Any]) -> bool:
        return place.get("name") in kept if place.get("kind") == "own" else is_here(place)

    return [outlook(one, facts.get(one.dataset), profile, here) for one in draft.sources]


def is_here(location: Mapping[str, Any]) -> bool:
    """Whether a folder or an archive of a recipe lies below the data root."""
    if location.get("kind") not in BELOW_ROOT or not location.get("path"):
        return False
    root = Path(settings.DATA_ROOT).resolve()
    place = (root / str(location["path"])).resolve()
    return place.is_relative_to(root) and (
        place.is_dir() or (place.is_file() and is_archive(place))
    )


def goal(modality: str, anatomy: str, task: str) -> Goal:
    """A goal in canonical terms.

    Raises:
        QueryError: a term that the vocabulary does not have, with the nearest one.
    """
    asked = {"modality": modality, "anatomy": anatomy, "task": task}
    found = {facet: resolve(facet, text) for facet, text in asked.items()}
    if wrong := [facet for facet, term in found.items() if term is None]:
        raise QueryError([unknown_value(facet, asked[facet]) for facet in wrong])
    return Goal(**{facet: term or "" for facet, term in found.items()})


def set_of_rules(rules: Rules) -> GoalFound:
    """The best set among the datasets that a rule file keeps."""
    kept = select_by_rules(Dataset.objects.facts(), rules).kept
    return partners().among(row.facts["slug"] for row in kept)


def choice(mode: str, profile: str, task: str, *, accept_confounding: bool) -> Choice:
    """What somebody asked for in words; empty ones have their default.

    Raises:
        QueryError: every word that means nothing, with the nearest one.
    """
    faults = [
        Fault(name, value, f"one of {', '.join(valid)}", closest(value, valid))
        for name, value, valid in (("mode", mode, MODES), ("profile", profile, PROFILES))
        if value and value not in valid
    ]
    canonical = resolve("task", task) if task else ""
    if canonical is None:
        faults.append(unknown_value("task", task))
    if faults:
        raise QueryError(faults)
    return Choice(
        mode=next((one for one in MODES if one == mode), MODES[0]),
        profile=next((one for one in PROFILES if one == profile), "canonical"),
        task=canonical or "",
        accept_confounding=accept_confounding,
    )


def _partners(key: str) -> Partners:
    columns = [f"record__{key}" if key in _IN_RECORD else key for key in KEYS]
    rows = Dataset.objects.in_order().values_list(*columns)
    weights = settings.COMPATIBILITY_WEIGHTS
    return Partners(
        (dict(zip(KEYS, row, strict=True)) for row in rows), neighbours(key).overlaps, weights
    )


#: Who fits whom.
partners = PerState(_partners)
