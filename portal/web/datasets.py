"""Dataset search and dataset pages; what a search page shows is in its address."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe
from django.views.decorators.http import require_safe

from catalog.faults import Fault, closest
from catalog.search import Query, QueryError, Results
from catalog.search.facets import TITLES
from catalog.search.plan import size_words
from catalog.search.query import SORTS
from catalog.search.results import Hit, NearHit
from catalog.search.suggest import did_you_mean
from portal.searches import search_params
from portal.web.copying import as_curl, as_python
from portal.web.facets import facet_links
from portal.web.finding import find
from portal.web.paging import Pages, path_of, question
from portal.web.pieces import pieces

EXPORTS = {"csv": "CSV", "jsonl": "JSON lines", "parquet": "Parquet", "bibtex": "BibTeX"}


@dataclass(frozen=True)
class Chip:
    """One thing that was understood; the address asks for the same without it."""

    label: str
    url: str = ""


VIEWS = ("list", "table", "cards")


@dataclass(frozen=True)
class Links:
    """Addresses of searches that show their results as this one does."""

    view: str

    def __call__(self, query: Query) -> str:
        return question(self.params(query)) or path_of("datasets")

    def params(self, query: Query) -> list[tuple[str, str]]:
        return query.to_params() + ([("view", self.view)] if self.view != VIEWS[0] else [])


def _asked(request: HttpRequest) -> tuple[Query, str]:
    """The query and the view that an address asks for.

    Raises:
        QueryError: names every unknown parameter or value with the nearest valid one.
    """
    given = request.GET.copy()
    view = (given.pop("view", None) or [VIEWS[0]])[-1] or VIEWS[0]
    if view not in VIEWS:
        raise QueryError([Fault("view", view, f"one of {', '.join(VIEWS)}", closest(view, VIEWS))])
    return Query.from_params(given), view


@require_safe
def search_page(request: HttpRequest) -> HttpResponse:
    """Strict results, then near ones with what they lack; a slip in a value is a 400."""
    paths = {"here": path_of("datasets"), "suggest": path_of("api:suggest")}
    try:
        query, view = _asked(request)
    except QueryError as error:
        wrong = {**paths, "errors": error.errors, "q": request.GET.get("q", "")}
        return render(request, "datasets/list.html", wrong, status=400)
    to = Links(view)
    results, away = find(query)
    folds = view != "table" and query.sort == "relevance" and "family" not in query.filters
    shown_before = _families_before(query) if folds else frozenset()
    again = [hit for hit in results.hits if hit.family in shown_before]
    hits = [hit for hit in results.hits if hit.family not in shown_before]
    kinds = ("name", "facts") if view == "table" else ("card", "member")
    written = pieces((hit.slug for hit in (*results.hits, *results.near)), *kinds)
    params, hidden = query.to_params(), to.params(query)
    chosen = _filter_chips(query, to)
    address = request.build_absolute_uri(path_of("api:datasets"))
    alone = search_params(query)
    export = path_of("api:catalog-export")
    context: dict[str, Any] = {
        **paths,
        "q": query.text,
        "query": query,
        "results": results,
        "away": away,
        "hits": _folded(hits, written, query, to, fold=folds),
        "again": [written[hit.slug][1] for hit in again if hit.slug in written],
        "near": _folded(results.near, written, query, to, fold=folds),
        "facets": facet_links(results.facets, query, hidden, to),
        "chips": [*_word_chips(query, results, to), *chosen],
        "filter_count": len(chosen),
        "meant": _meant(query, results.total, to),
        "sorts": [
            {"name": name, "url": to(query.replace(sort=name)), "current": name == query.sort}
            for name in SORTS
        ],
        "pages": _pages(query, results.total, to),
        "view": view,
        "views": [
            {
                "name": name,
                "url": Links(name)(query.replace(page=query.page)),
                "current": name == view,
            }
            for name in VIEWS
        ],
        "start": to(Query()),
        "exports": [
            (title, export + question([*alone, ("format", name)]))
            for name, title in EXPORTS.items()
        ],
        "hidden": _hidden(hidden, "q"),
        "hidden_for_years": _hidden(hidden, "year_from", "year_to"),
        "hidden_for_sizes": _hidden(hidden, "size_from", "size_to", "unit"),
        "feed": path_of("dataset-feed") + question(alone),
        "kept_query": urlencode(alone),
        "api_call": as_curl(address, params),
        "python_call": as_python(address, params, "results"),
    }
    return render(request, "datasets/list.html", context)


def _hidden(params: Sequence[tuple[str, str]], *own: str) -> list[tuple[str, str]]:
    """What a form of its own fields carries along."""
    return [(name, value) for name, value in params if name not in {"page", *own}]


class Shown(NamedTuple):
    """A result, and the further ones of its family on this page, which are folded under it.

    `pieces` are a card and a line, or the head of a table's row and the rest of it; `members` are
    lines, each with what it differs in. `notes` is what stands below the card.
    """

    pieces: tuple[SafeString, ...]
    why: str
    differs: str
    family: str
    members: list[tuple[SafeString, str]]
    notes: SafeString = SafeString("")


def _families_before(query: Query) -> frozenset[str]:
    """The families whose first member stands on an earlier page."""
    if query.page == 1:
        return frozenset()
    earlier, _ = find(query.replace(page=1, limit=query.offset))
    return frozenset(hit.family for hit in earlier.hits if hit.family)


def _folded(
    hits: Sequence[Hit],
    written: Mapping[str, tuple[SafeString, ...]],
    query: Query,
    to: Links,
    *,
    fold: bool,
) -> list[Shown]:
    """Results in their order; a family is shown once, at the place of its first member."""
    heads: dict[str, Shown] = {}
    shown: list[Shown] = []
    for hit in hits:
        if hit.slug not in written:
            continue
        differs = "; ".join(hit.differs) if isinstance(hit, NearHit) else ""
        if fold and hit.family in heads:
            heads[hit.family].members.append((written[hit.slug][1], differs))
            continue
        one = Shown(written[hit.slug], "; ".join(hit.why), differs, hit.family, [])
        shown.append(one)
        if hit.family:
            heads[hit.family] = one
    return [one._replace(notes=_notes(one, query, to)) for one in shown]


def _notes(shown: Shown, query: Query, to: Links) -> SafeString:
    """What stands below a card, as HTML: a template would need half of the page's time for it."""
    found = []
    if shown.differs:
        found.append(f'<p class="why"><b>Differs:</b> {escape(shown.differs)}</p>')
    if shown.why:
        found.append(f'<p class="why">Matches {escape(shown.why)}</p>')
    if shown.members:
        url = escape(to(query.replace(filters={**query.filters, "family": (shown.family,)})))
        title = f"{len(shown.members)} more of the {escape(shown.family)} family on this page"
        lines = "".join(
            f'<li>{line} <span class="meta">&ndash; {escape(differs)}</span></li>'
            if differs
            else f"<li>{line}</li>"
            for line, differs in shown.members
        )
        found.append(
            f'<details class="family"><summary>{title}</summary><ul class="plain-list">{lines}</ul>'
            f'<p class="meta"><a href="{url}">All results of this family</a></p></details>'
        )
    return mark_safe("\n  ".join(found))  # noqa: S308 - escaped


def _word_chips(query: Query, results: Results, to: Links) -> list[Chip]:
    chips = []
    for item in results.understood:
        if item.facet == "text" and not item.excluded:
            chips.append(Chip(f"“{item.source}” read as “{item.term}”"))
            continue
        text = without(query.text, item.source)
        title = TITLES.get(item.facet, item.facet.capitalize())
        label = f"Not {title.lower()}: {item.term}" if item.excluded else f"{title}: {item.term}"
        chips.append(Chip(label, to(query.replace(text=text))))
    return chips


def _meant(query: Query, total: int, to: Links) -> Chip | None:
    """The same search with corrected words, where that finds more."""
    other = did_you_mean(
        query.text, total, lambda text: find(query.replace(text=text, limit=1))[0].total
    )
    return Chip(other, to(query.replace(text=other))) if other else None


def _filter_chips(query: Query, to: Links) -> list[Chip]:
    chips = [
        Chip(f"{TITLES[name]}: {value}", to(query.toggle(name, value)))
        for name, values in query.filters.items()
        for value in values
    ]
    for name, values in query.without.items():
        for value in values:
            kept = tuple(other for other in values if other != value)
            url = to(query.replace(without={**query.without, name: kept}))
            chips.append(Chip(f"Not {TITLES[name].lower()}: {value}", url))
    if query.year_from is not None:
        chips.append(Chip(f"From {query.year_from}", to(query.replace(year_from=None))))
    if query.year_to is not None:
        chips.append(Chip(f"Up to {query.year_to}", to(query.replace(year_to=None))))
    if query.unit or query.size_from is not None or query.size_to is not None:
        words = size_words(query.size_from, query.size_to, query.unit)
        url = to(query.replace(size_from=None, size_to=None, unit=""))
        chips.append(Chip(f"Size: {words}", url))
    return chips


def without(text: str, words: str) -> str:
    """`text` without the first place where `words` stand in it, whatever their case."""
    pattern = r"[\W_]+".join(map(re.escape, words.split()))
    found = re.search(rf"(?<!\w){pattern}(?!\w)", text, re.IGNORECASE)
    if not pattern or found is None:
        return text
    return " ".join((text[: found.start()] + " " + text[found.end() :]).split())


def _pages(query: Query, total: int, to: Links) -> Pages:
    last = max(1, -(-total // query.limit))
    before = to(query.replace(page=query.page - 1)) if query.page > 1 else ""
    after = to(query.replace(page=query.page + 1)) if query.page < last else ""
    return Pages(query.page, last, before, after)
