"""One page that leads to everything that waits for curators."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from portal.waiting import waiting


@never_cache
@require_safe
def index(request: HttpRequest) -> HttpResponse:
    """Every queue with its number and the age of its oldest."""
    return render(request, "waiting.html", {"queues": waiting()})
