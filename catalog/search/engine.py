"""The search: one function for page, API and command line, on whichever engine is configured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Protocol

from django.conf import settings

from catalog.record import NONE
from catalog.search.documents import Document
from catalog.search.facets import FACETS, TITLES, UNKNOWN
from catalog.search.index import current_digests, current_documents, current_key
from catalog.search.interpret import (
    Interpretation,
    WordMatch,
    interpret,
    words_to_look_up,
)
from catalog.search.plan import Plan, make_plan, reasons
from catalog.search.query import Query
from catalog.search.results import Facet, Hit, NearHit, Option, Results

NEAR_BELOW = 5  # with fewer strict results, near ones are shown beside them
NEAR_LIMIT = 10


@dataclass(frozen=True)
class Answer:
    """What an engine found: total, one page of (score, document), counts per facet and value."""

    total: int
    page: tuple[tuple[float, Document], ...]
    counts: Mapping[str, Mapping[str, int]]


class Engine(Protocol):
    """What both engines do; everything else is shared."""

    def refresh(self) -> None: ...
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
    return Results(
        understood=reading.understood,
        hits=tuple(
            Hit(
                item.slug,
                item.name,
                item.aliases,
                round(score, 4),
                reasons(plan, reading, item),
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
    least = 0 if any(item.facet != "text" for item in plan.constraints) else 1
    for minimum in range(asked - 1, least - 1, -1):
        if found := chosen.near(plan, minimum, NEAR_LIMIT):
            return tuple(_near_hit(score, item, plan, reading) for score, item in found)
    return ()


def _near_hit(score: float, item: Document, plan: Plan, reading: Interpretation) -> NearHit:
    gaps = (constraint.gap(item) for constraint in plan.constraints)
    return NearHit(
        item.slug,
        item.name,
        item.aliases,
        round(score, 4),
        reasons(plan, reading, item),
        item.family,
        tuple(gap for gap in gaps if gap),
    )


def _facet(name: str, counts: Mapping[str, int], query: Query) -> Facet:
    chosen = query.filters.get(name, ())
    values = {**dict.fromkeys(chosen, 0), **counts}
    options = [
        Option(_label(name, value), value, count, value in chosen)
        for value, count in values.items()
    ]
    return Facet(name, TITLES[name], tuple(sorted(options, key=partial(_place, name))))


def _label(name: str, value: str) -> str:
    return value.capitalize() if name == "access" or value in {NONE, UNKNOWN} else value


def _place(name: str, option: Option) -> tuple[bool, int, str]:
    """Most frequent first, years by number; unknown last."""
    rank = option.count if name != "year" or option.value == UNKNOWN else int(option.value)
    return (option.value == UNKNOWN, -rank, option.label)
