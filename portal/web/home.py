"""The start page: what this is, one search box, live counts and ways in."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from catalog.describe import plural
from catalog.facet_values import UNKNOWN
from catalog.models import Dataset
from catalog.record import NONE
from catalog.search import Facet, Query
from catalog.search.gaps import gaps
from catalog.search.index import current_key
from portal.access import kept_bundles, visible_runs
from portal.web.bodymap import regions
from portal.web.finding import find
from portal.web.statistics import grid

WAYS = {"modality": "By modality", "task": "By task"}
TERMS_SHOWN = 12
REGIONS_SHOWN = 18
BUNDLES_SHOWN = 3
EXAMPLES = ("retinal vessel segmentation", "brain MR", "chest X-ray classification", "liver CT")


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    """Counts are those that the search gives, so that each link shows as many as it says."""
    results, _ = find(Query(limit=1))
    bundles = kept_bundles(request)
    facets = {facet.name: facet for facet in results.facets}
    context = {
        "ways": [{"facet": n, "title": t, "options": _most(facets[n])} for n, t in WAYS.items()],
        "regions": regions({one.value: one.count for one in facets["anatomy"].options}),
        "places": _known(facets["anatomy"])[:REGIONS_SHOWN],
        "gaps": _gaps(current_key()),
        "totals": _totals(request, results.total, len(_known(facets["modality"]))),
        "bundles": list(bundles.defer("recipe", "baseline", "files")[:BUNDLES_SHOWN]),
        "examples": EXAMPLES,
    }
    return render(request, "home.html", context)


def _known(facet: Facet) -> list[Any]:
    return [
        option for option in facet.options if option.value not in {UNKNOWN, NONE} and option.count
    ]


def _most(facet: Facet) -> list[Any]:
    return _known(facet)[:TERMS_SHOWN]


@lru_cache(maxsize=1)
def _gaps(key: str) -> dict[str, Any]:  # noqa: ARG001 - another catalog has another key
    return grid(gaps(lambda query: find(query)[0]), tone=math.log1p)


def _totals(request: HttpRequest, datasets: int, modalities: int) -> list[dict[str, Any]]:
    bundles, runs = kept_bundles(request).count(), visible_runs(request).count()
    return [
        {"label": "datasets", "count": datasets},
        {"label": "with a known licence", "count": Dataset.objects.exclude(licence="").count()},
        {"label": "modalities", "count": modalities},
        {"label": f"{plural('bundle', bundles)} built here", "count": bundles},
        {"label": f"fusion {plural('run', runs)}", "count": runs},
    ]
