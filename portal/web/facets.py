"""Facets as links with bars. A page has over a hundred options: their HTML is written in one go."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote_plus

from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

from catalog.search import Facet, Option, Query
from portal.web.paging import question

OPTIONS_SHOWN = 7
# The bar of an option is a class, b0 to b10 of datasets.css: tenths of the largest count.
OPEN_FACETS = frozenset({"modality", "anatomy", "task"})
CHOSEN = '<span class="visually-hidden"> (chosen; remove)</span>'


@dataclass(frozen=True)
class FacetLinks:
    """A facet with its options as list items; `more` are the rarer values, `chosen` counts."""

    name: str
    title: str
    first: SafeString
    more: SafeString
    more_count: int
    chosen: int

    @property
    def is_open(self) -> bool:
        return self.name in OPEN_FACETS or self.chosen > 0


def facet_links(
    facets: Iterable[Facet], query: Query, params: list[tuple[str, str]], to: Callable[[Query], str]
) -> list[FacetLinks]:
    """Each facet that has options; `params` and `to` give addresses like that of `query`."""
    start = question([pair for pair in params if pair[0] != "page"])
    start = escape(f"{start}&" if start else "?")  # what all that add an option share

    def item(name: str, option: Option, largest: int) -> str:
        part, label = _spelled(name, option.value, option.label)
        link = f'"{start}{part}"'
        if option.selected:
            link = f'"{escape(to(query.toggle(name, option.value)))}" aria-current="true"'
            label += CHOSEN
        noun = "dataset" if option.count == 1 else "datasets"
        return (
            f'<li><a class="b{round(10 * option.count / largest)}" href={link}><span>{label}</span>'
            f'<span class="count">{option.count:,}'
            f'<span class="visually-hidden"> {noun}</span></span></a></li>'
        )

    return [_links(facet, item) for facet in facets if facet.options]


def _links(facet: Facet, item: Callable[[str, Option, int], str]) -> FacetLinks:
    shown = [option for option in facet.options if option.count or option.selected]
    first, more = shown[:OPTIONS_SHOWN], shown[OPTIONS_SHOWN:]
    first += [option for option in more if option.selected]
    more = [option for option in more if not option.selected]

    largest = max((option.count for option in shown), default=0) or 1

    def items(options: list[Option]) -> SafeString:
        return mark_safe("".join([item(facet.name, one, largest) for one in options]))  # noqa: S308 - escaped

    chosen = sum(option.selected for option in shown)
    return FacetLinks(facet.name, facet.title, items(first), items(more), len(more), chosen)


@lru_cache(maxsize=10_000)
def _spelled(name: str, value: str, label: str) -> tuple[str, str]:
    """A value as part of an address and its label, both escaped."""
    return escape(f"{name}={quote_plus(value)}"), escape(label)
