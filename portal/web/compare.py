"""Two to six datasets side by side; which ones, and which rows, is in the address."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_safe

from catalog.comparison import FEWEST, MOST, Comparison, Row
from catalog.faults import Fault, closest
from catalog.search import QueryError
from catalog.search.facets import TITLES
from catalog.search.similar import LIMIT, Neighbours
from catalog.selection import Selection, named, select
from portal.web.copying import as_curl, as_python
from portal.web.dataset import FACTS
from portal.web.paging import question
from portal.web.words import combined_lines, value_text

PARAMETERS = ("slug", "rows", "add")
ROWS = ("all", "differing")
FIELD_TITLES = {
    **{field: title for field, title, _ in FACTS},
    "tier": "Record",
    "platform": "Platform",
}
MARKS = {"same": "=", "differs": "≠", "partly unknown": "?", "unknown": "?"}
FOLDED_FROM = 12  # values of one cell


@dataclass(frozen=True)
class Column:
    """A compared dataset and the address of the same page without it."""

    slug: str
    name: str
    without: str


@dataclass(frozen=True)
class Value:
    """One value; `only_here` when other values are in every known list and this one is not."""

    text: str
    only_here: bool


@dataclass(frozen=True)
class Cell:
    values: list[Value]
    conflict: bool
    slug: str

    @property
    def is_long(self) -> bool:
        return len(self.values) > FOLDED_FROM


@dataclass(frozen=True)
class Line:
    """One field over all datasets, and how the values stand to each other."""

    title: str
    state: str
    mark: str
    cells: list[Cell]


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    """With fewer than two datasets it asks for more; a slip in the address is a 400."""
    slugs = list(dict.fromkeys(slug for slug in request.GET.getlist("slug") if slug))
    rows = request.GET.get("rows") or ROWS[0]
    try:
        _check(request, rows)
        chosen = select(slugs)
        if wanted := request.GET.get("add", "").strip():
            return redirect(_address([*slugs, named(wanted)], rows))
    except QueryError as error:
        wrong = {
            "errors": error.errors,
            "again": _address(_known(slugs, error), ROWS[0]),
        }
        return render(request, "compare.html", wrong, status=400)
    context = {
        "columns": _columns(chosen, rows),
        "can_add": len(slugs) < MOST,
        "fewest": FEWEST,
        "most": MOST,
        "suggestions": _suggestions(slugs, chosen.neighbours, rows) if len(slugs) < MOST else [],
    }
    if len(slugs) >= FEWEST:
        context |= _compared(request, chosen.compare(), slugs, rows)
    return render(request, "compare.html", context)


def _check(request: HttpRequest, rows: str) -> None:
    faults = [
        Fault(name, name, f"one of {', '.join(PARAMETERS)}", closest(name, PARAMETERS))
        for name in request.GET
        if name not in PARAMETERS
    ]
    if rows not in ROWS:
        faults.append(Fault("rows", rows, f"one of {', '.join(ROWS)}", closest(rows, ROWS)))
    if faults:
        raise QueryError(faults)


def _known(slugs: Sequence[str], error: QueryError) -> list[str]:
    """The chosen datasets, with the nearest one in the place of a slug that is none."""
    nearest = {fault.found: fault.nearest for fault in error.faults if fault.path == "slug"}
    return [slug for one in slugs[:MOST] if (slug := nearest.get(one, one))]


def _address(slugs: Sequence[str], rows: str) -> str:
    params = [("slug", slug) for slug in slugs]
    if rows != ROWS[0]:
        params.append(("rows", rows))
    return reverse("compare") + question(params)


def _columns(chosen: Selection, rows: str) -> list[Column]:
    slugs = [one["slug"] for one in chosen.facts]
    return [
        Column(
            one["slug"],
            one["name"],
            _address([other for other in slugs if other != one["slug"]], rows),
        )
        for one in chosen.facts
    ]


def _suggestions(slugs: Sequence[str], known: Neighbours, rows: str) -> list[dict[str, Any]]:
    """What may be compared with the dataset chosen last: its family, and what is like it."""
    if not slugs:
        return []
    last = slugs[-1]
    lists = {
        "Of the same family": [(slug, "") for slug in known.family(last)],
        "Similar": [(one.slug, one.why) for one in known.of(last, LIMIT + MOST)],
    }
    return [
        {
            "title": f"{title} as {known.name(last)}" if title != "Similar" else title,
            "links": [
                {"name": known.name(slug), "why": why, "url": _address([*slugs, slug], rows)}
                for slug, why in found
                if slug not in slugs
            ][:LIMIT],
        }
        for title, found in lists.items()
    ]


def _compared(
    request: HttpRequest, found: Comparison, slugs: Sequence[str], rows: str
) -> dict[str, Any]:
    address = request.build_absolute_uri(reverse("api:dataset-compare"))
    params = [("slug", slug) for slug in slugs]
    lines = [_line(row, slugs) for row in found.rows if row.state != "unknown"]
    differing = [line for line in lines if line.state != "same"]
    names = {one["slug"]: one["name"] for one in found.datasets}
    return {
        "lines": lines if rows == ROWS[0] else differing,
        "differing": len(differing),
        "views": [
            {"title": title, "url": _address(slugs, name), "current": name == rows}
            for name, title in (("all", "All fields"), ("differing", "Only what differs"))
        ],
        "nobody_states": [FIELD_TITLES[row.field] for row in found.rows if row.state == "unknown"],
        "concepts": _concepts(found.concepts),
        "families_of_modality": found.families_of_modality,
        "licence": combined_lines(found.licence, len(found.licence_unknown)),
        "overlaps": [(names[one.a], names[one.b], one) for one in found.overlaps],
        "families": [(one.name, [names[slug] for slug in one.slugs]) for one in found.families],
        "question": question(params),
        "api_call": as_curl(address, params),
        "python_call": as_python(address, params, "datasets"),
    }


def _line(row: Row, slugs: Sequence[str]) -> Line:
    shared = {value_text(row.field, value) for value in row.shared}
    cells = []
    for slug, value, unknown, conflict in zip(
        slugs, row.values, row.unknown, row.conflicts, strict=True
    ):
        parts = [] if unknown else value if value and isinstance(value, list) else [value]
        texts = [value_text(row.field, part) for part in parts]
        marked = isinstance(value, list) and row.state == "differs" and bool(shared)
        values = [Value(text, marked and text not in shared) for text in texts]
        cells.append(Cell(values, conflict, slug))
    return Line(FIELD_TITLES[row.field], row.state, MARKS[row.state], cells)


def _concepts(shared: Mapping[str, Sequence[str]]) -> list[tuple[str, str, str]]:
    """Each shared concept with its facet's title and the search for all that have it."""
    return [
        (TITLES[facet], term, reverse("datasets") + question([(facet, term)]))
        for facet, terms in shared.items()
        for term in terms
    ]
