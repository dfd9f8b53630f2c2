"""Bundles: what is in one, what was left out and why, and its download."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render

from fusion.codes import MEANINGS
from fusion.models import Bundle

SMALL = 20


def index(request: HttpRequest) -> HttpResponse:
    """The newest bundles."""
    return render(request, "bundles/list.html", {"bundles": Bundle.objects.all()[:50]})


def detail(request: HttpRequest, bundle_id: str) -> HttpResponse:
    """One bundle."""
    bundle = get_object_or_404(Bundle, pk=bundle_id)
    summary, baseline = bundle.summary, bundle.baseline or {}
    scores = [
        (source["id"], concept, row)
        for source in summary["sources"]
        for concept, row in ((baseline.get("per_source") or {}).get(source["id"]) or {}).items()
        if isinstance(row, dict)
    ]
    context = {
        "bundle": bundle,
        "summary": summary,
        "baseline": baseline,
        "scores": scores,
        "small": summary["cases"] < SMALL,
        "exclusions": [(row, MEANINGS.get(row["code"], "")) for row in summary["exclusions"][:50]]
        if isinstance(summary["exclusions"], list)
        else [],
        "findings": summary["findings"][:50] if isinstance(summary["findings"], list) else [],
    }
    return render(request, "bundles/detail.html", context)
