"""Blueprints and partners of the loaded catalog."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from django.conf import settings

from catalog.faults import Fault
from catalog.models import Dataset
from catalog.search import QueryError
from catalog.search.facets import closest, resolve, unknown_value
from catalog.search.index import current_key
from catalog.selection import neighbours, select, wrong_number
from catalog.services import facts_of
from fusion.blueprint import FEWEST, MODES, MOST, PROFILES, Blueprint, Choice, draw
from fusion.described import described_facts
from fusion.partners import KEYS, Goal, Partners

_IN_RECORD = frozenset({"modality_details", "classes", "spacing", "annotation", "relations"})


def blueprint(
    slugs: Iterable[str], choice: Choice, described: Mapping[str, Mapping[str, Any]] = {}
) -> Blueprint:
    """The blueprint of the named datasets and of local folders that are only described.

    Args:
        slugs: datasets of the catalog.
        choice: what is to be built.
        described: name -> source description; a name may be the slug of what it is a copy of.

    Raises:
        QueryError: fewer than two in all or more than six, or a slug that no dataset has.
        RecipeError: a description is not valid.
    """
    chosen = select(slugs)
    known = facts_of(described)
    local = [described_facts(name, one, known.get(name, {})) for name, one in described.items()]
    together = [*chosen.facts, *local]
    if (
        len({one["slug"] for one in together}) < len(together)
        or not FEWEST <= len(together) <= MOST
    ):
        raise QueryError([wrong_number(len(together))])
    weights = settings.COMPATIBILITY_WEIGHTS
    return draw(together, chosen.neighbours.overlaps, choice, weights)


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


def partners(key: str = "") -> Partners:
    """Who fits whom, made once for each state of the catalog, `key` if known."""
    return _partners(key or current_key())


@lru_cache(maxsize=1)
def _partners(key: str) -> Partners:
    columns = [f"record__{key}" if key in _IN_RECORD else key for key in KEYS]
    rows = Dataset.objects.in_order().values_list(*columns)
    weights = settings.COMPATIBILITY_WEIGHTS
    return Partners(
        (dict(zip(KEYS, row, strict=True)) for row in rows), neighbours(key).overlaps, weights
    )
