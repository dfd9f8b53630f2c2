"""The searches that a person keeps: save, rename, delete, follow."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from catalog.search import QueryError
from portal.access import user_of
from portal.models import SavedSearch
from portal.searches import LONGEST_NAME, own_searches, rename, save


@login_required
@never_cache
@require_safe
def index(request: HttpRequest) -> HttpResponse:
    """Every search of the user's, the newest first. One query."""
    return _page(request)


@login_required
@require_POST
def keep(request: HttpRequest) -> HttpResponse:
    """Save the search that the form carries; what cannot be saved is a 400."""
    try:
        save(user_of(request), request.POST.get("query", ""), request.POST.get("name", ""))
    except QueryError as error:
        return _page(request, status=400, problems=error.errors)
    return redirect("searches")


@login_required
@require_POST
def act(request: HttpRequest, search_id: int, action: str) -> HttpResponse:
    """Rename or delete one."""
    search = get_object_or_404(own_searches(request), pk=search_id)
    if action == "delete":
        search.delete()
    else:
        rename(search, request.POST.get("name", ""))
    return redirect("searches")


def _page(request: HttpRequest, status: int = 200, **extra: Any) -> HttpResponse:
    rows = [_row(one) for one in own_searches(request)]
    context = {"searches": rows, "longest": LONGEST_NAME, **extra}
    return render(request, "account/searches.html", context, status=status)


def _row(search: SavedSearch) -> dict[str, Any]:
    asked = f"?{search.query}" if search.query else ""
    return {
        "search": search,
        "url": reverse("datasets") + asked,
        "feed": reverse("dataset-feed") + asked,
    }
