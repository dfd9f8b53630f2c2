"""Runs: watch one, cancel it."""

from __future__ import annotations

from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST

from fusion.codes import MEANINGS
from portal.progress import by_source
from workers.models import Run, RunCase
from workers.submit import cancel_run


def index(request: HttpRequest) -> HttpResponse:
    """The newest runs."""
    return render(request, "runs/list.html", {"runs": Run.objects.all()[:50]})


def detail(request: HttpRequest, run_id: UUID) -> HttpResponse:
    """Stages and cases; htmx asks for the inner part each second until the run has ended."""
    run = get_object_or_404(Run.objects.prefetch_related("stages"), pk=run_id)
    excluded = run.cases.filter(state=RunCase.State.EXCLUDED)[:50]
    context = {
        "run": run,
        "stages": [(s, round(100 * s.done / s.total) if s.total else 0) for s in run.stages.all()],
        "sources": by_source(run),
        "excluded": [(case, MEANINGS.get(case.code, "")) for case in excluded],
    }
    inner = getattr(request, "htmx", False)
    response = render(request, "runs/progress.html" if inner else "runs/detail.html", context)
    response["Cache-Control"] = "no-store"
    return response


@require_POST
def cancel(_: HttpRequest, run_id: UUID) -> HttpResponse:
    """Ask a run to stop."""
    cancel_run(get_object_or_404(Run, pk=run_id))
    return redirect("run", run_id=run_id)
