"""The search: one function for page, API and command line, on whichever engine is configured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

from django.conf import settings

from catalog.facet_values import UNKNOWN
from catalog.record import NONE
from catalog.search.documents import Document
from catalog.search.facets import FACETS, TITLES, known_values
from catalog.search.index import current_digests, current_documents, current_key
from catalog.search.interpret import (
    Interpretation,
    WordMatch,
    interpret,
    words_to_look_up,
)
from catalog.search.plan import Plan, explainer, make_plan
from catalog.search.query import Query
from catalog.search.results import Facet, Hit, NearHit, Option, Results

NEAR_BELOW = 10  # with fewer strict results, near ones are shown beside them
NEAR_LIMIT = 10
_WORDS = {value: value.capitalize() for value in (NONE, UNKNOWN)}  # values that are no names
_ACCESS_WORDS = {value: value.capitalize() for value in known_values("access")}


@dataclass(frozen=True)
class Answer:
    """What an engine found: total, one page of (score, document), counts per facet and value."""

    total: int
    page: tuple[tuple[float, Document], ...]
    counts: Mapping[str, Mapping[str, int]]


class Engine(Protocol):
    """What both engines do; everything else is shared."""

    def refresh(self) -> None: ...
    def is_current(self) -> bool: ...
    def rebuild(self) -> int: ...
    def look_up(self, words: Sequence[str]) -> dict[str, WordMatch]: ...
    def run(self, plan: Plan) -> Answer: ...
    def near(self, plan: Plan, minimum: int, limit: int) -> tuple[tuple[float, Document], ...]: ...


def engine() -> Engine:
    """The engine that the settings ask for; one per process and setting."""
    return _engine(settings.SEARCH_URL, settings.SEARCH_INDEX, Path(settings.SEARCH_DIR))


@cache
def _engine(url: str, index: str, folder: Path) -> Engine:
    if url:
        from catalog.search.elastic import ElasticEngine

        return ElasticEngine(url, index, current_key, current_documents, current_digests)
    from catalog.search.embedded import EmbeddedEngine

    return EmbeddedEngine(folder, current_key, current_documents, current_digests)


def search(query: Query, using: Engine | None = None) -> Results:
    """Answer a query; the index is brought up to date first when the catalog has changed.

    Raises:
        SearchUnavailableError: Elasticsearch is configured and does not answer.
    """
    chosen = using or engine()
    chosen.refresh()
    reading = interpret(query.text, chosen.look_up(words_to_look_up(query.text)))
    plan = make_plan(query, reading)
    answer = chosen.run(plan)
    near: tuple[NearHit, ...] = ()
    if answer.total < NEAR_BELOW and query.page == 1:
        near = _near(chosen, plan, reading)
    why = explainer(plan, reading)
    return Results(
        understood=reading.understood,
        hits=tuple(
            Hit(
                item.slug,
                item.name,
                item.aliases,
                round(score, 4),
                why(item),
                item.family,
            )
            for score, item in answer.page
        ),
        near=near,
        total=answer.total,
        facets=tuple(_facet(name, answer.counts.get(name, {}), query) for name in FACETS),
    )


def reindex() -> int:
    """Build the index anew; returns the number of datasets in it."""
    return engine().rebuild()


def _near(chosen: Engine, plan: Plan, reading: Interpretation) -> tuple[NearHit, ...]:
    """Datasets that miss as few constraints as possible, with what they miss."""
    asked = len(plan.constraints)
    # Words that occur nowhere say nothing: alone they bring no arbitrary datasets forward.
    least = 0 if any(item.facet != "text" or item.related for item in plan.constraints) else 1
    for minimum in range(asked - 1, least - 1, -1):
        if found := chosen.near(plan, minimum, NEAR_LIMIT):
            why = explainer(plan, reading)
            return tuple(_near_hit(score, item, plan, why(item)) for score, item in found)
    return ()


def _near_hit(score: float, item: Document, plan: Plan, why: tuple[str, ...]) -> NearHit:
    gaps = (constraint.gap(item) for constraint in plan.constraints)
    return NearHit(
        item.slug,
        item.name,
        item.aliases,
        round(score, 4),
        why,
        item.family,
        tuple(gap for gap in gaps if gap),
    )


def _facet(name: str, counts: Mapping[str, int], query: Query) -> Facet:
    """Most frequent first, years by number; unknown last."""
    chosen = query.filters.get(name, ())
    values = {**dict.fromkeys(chosen, 0), **counts}
    last = [(UNKNOWN, values.pop(UNKNOWN))] if UNKNOWN in values else []
    if name == "year":
        ordered = sorted(values.items(), key=lambda item: -int(item[0]))
    else:
        ordered = sorted(values.items(), key=lambda item: (-item[1], item[0]))
    words = _ACCESS_WORDS if name == "access" else _WORDS
    options = [
        Option(words.get(value, value), value, count, value in chosen)
        for value, count in ordered + last
    ]
    return Facet(name, TITLES[name], tuple(options))
