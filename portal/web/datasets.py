"""Start page, dataset search and dataset pages."""

from __future__ import annotations

from collections import Counter
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse

from catalog.licences import licence
from catalog.models import Dataset
from catalog.search import Query, QueryError, SearchUnavailableError, search
from catalog.search.query import SORTS
from fusion.models import Bundle
from fusion.recipe import example_recipes, load_recipe
from workers.models import Run

WAYS = (("modality", "modalities"), ("anatomy", "anatomies"), ("task", "tasks"))
SHOWN_OPTIONS = 12


def home(request: HttpRequest) -> HttpResponse:
    """What this is, live counts, and ways in."""
    rows = list(Dataset.objects.values("modalities", "anatomies", "tasks", "licence"))
    ways = [
        (facet, Counter(term for row in rows for term in row[field]).most_common(SHOWN_OPTIONS))
        for facet, field in WAYS
    ]
    totals = {
        "datasets": len(rows),
        "with a known licence": sum(bool(row["licence"]) for row in rows),
        "bundles": Bundle.objects.count(),
        "runs": Run.objects.count(),
    }
    context = {"ways": ways, "totals": totals, "bundles": Bundle.objects.all()[:3]}
    return render(request, "home.html", context)


def search_page(request: HttpRequest) -> HttpResponse:
    """Search with facets; every state is in the URL."""
    try:
        query = Query.from_params(request.GET)
        results = search(query)
    except QueryError as error:
        context = {"errors": error.errors, "q": request.GET.get("q", "")}
        return render(request, "datasets/list.html", context, status=400)
    except SearchUnavailableError as error:
        context = {"away": str(error), "q": request.GET.get("q", "")}
        return render(request, "datasets/list.html", context, status=503)
    slugs = [hit.slug for hit in (*results.hits, *results.near)]
    rows = Dataset.objects.in_bulk(slugs, field_name="slug")
    params = query.to_params()
    pages = -(-results.total // query.limit)
    return render(
        request,
        "datasets/list.html",
        {
            "q": query.text,
            "query": query,
            "results": results,
            "hits": [(hit, rows[hit.slug]) for hit in results.hits if hit.slug in rows],
            "near": [(hit, rows[hit.slug]) for hit in results.near if hit.slug in rows],
            "facets": [
                (f, [(o, _url(query.toggle(f.name, o.value))) for o in f.options])
                for f in results.facets
            ],
            "chosen": [
                (name, value, _url(query.toggle(name, value)))
                for name, values in query.filters.items()
                for value in values
            ],
            "sorts": [(name, _url(query.replace(sort=name)), name == query.sort) for name in SORTS],
            "previous": _url(query.replace(page=query.page - 1)) if query.page > 1 else "",
            "next": _url(query.replace(page=query.page + 1)) if query.page < pages else "",
            "pages": pages,
            "hidden": [(k, v) for k, v in params if k not in {"q", "page"}],
            "api_call": request.build_absolute_uri(
                reverse("api:datasets") + (f"?{urlencode(params)}" if params else "")
            ),
        },
    )


def _url(query: Query) -> str:
    return "?" + urlencode(query.to_params())


def detail(request: HttpRequest, slug: str) -> HttpResponse:
    """Facts of one dataset; what is unknown is shown as unknown."""
    dataset = get_object_or_404(Dataset, slug=slug)
    recipes = {name: load_recipe(path) for name, path in example_recipes().items()}
    used_in = [
        (name, data["title"])
        for name, data in recipes.items()
        if any(source["dataset"] == slug for source in data["sources"])
    ]
    facts = [
        ("Modality", "modality", dataset.modalities),
        ("Anatomy", "anatomy", dataset.anatomies),
        ("Task", "task", dataset.tasks),
        ("Dimension", "dimension", dataset.dimensions),
        ("Disease", "disease", dataset.diseases),
    ]
    context = {
        "dataset": dataset,
        "facts": facts,
        "terms": licence(dataset.licence or None),
        "used_in": used_in,
        "claims": dataset.record.get("claims", []),
        "raw": dataset.record.get("raw", []),
    }
    return render(request, "datasets/detail.html", context)
