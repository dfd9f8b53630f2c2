"""The catalog's addresses and what their checks found, the broken ones first."""

from __future__ import annotations

from django.db.models import Count
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from catalog.links import shown
from catalog.models import CatalogLink
from portal.web.paging import paginate

STATES = CatalogLink.State.values


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    """Links in one state, by default broken, with their datasets and what replaced them."""
    state = request.GET.get("state", "")
    state = state if state in STATES else CatalogLink.State.BROKEN
    counts = dict(CatalogLink.objects.values_list("state").annotate(Count("pk")).order_by())
    rows = CatalogLink.objects.filter(state=state).order_by("-since", "url")
    found, pages = paginate(request, rows)
    context = {
        "rows": shown(found),
        "pages": pages,
        "state": state,
        "states": [(one, counts.get(one, 0), one == state) for one in STATES],
    }
    return render(request, "links.html", context)
