"""Blueprints and partners of the loaded catalog."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from django.conf import settings

from catalog.faults import Fault
from catalog.models import Dataset
from catalog.search import QueryError
from catalog.search.facets import closest, resolve, unknown_value
from catalog.search.index import current_key
from catalog.selection import neighbours, select
from fusion.blueprint import MODES, PROFILES, Blueprint, Choice, draw
from fusion.partners import KEYS, Goal, Partners

_IN_RECORD = frozenset({"modality_details", "classes", "spacing", "annotation", "relations"})


def blueprint(slugs: Iterable[str], choice: Choice) -> Blueprint:
    """The blueprint of the named datasets.

    Raises:
        QueryError: fewer than two datasets or more than six, or a slug that no dataset has.
    """
    chosen = select(slugs)
    weights = settings.COMPATIBILITY_WEIGHTS
    return draw(chosen.together(), chosen.neighbours.overlaps, choice, weights)


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
