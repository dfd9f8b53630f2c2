"""Runs: list them, watch one, steer it."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from portal.access import check_may_steer, visible_runs
from portal.progress import by_source, waits_for
from portal.templatetags.portal_tags import stage_title
from portal.web.measured import measured
from portal.web.paging import paginate
from workers.models import Run, RunCase, RunStage
from workers.submit import (
    RunConflictError,
    cancel_run,
    pause_run,
    resume_run,
    retry_run,
    set_priority,
)

ACTIONS = {
    "pause": pause_run,
    "resume": resume_run,
    "retry": retry_run,
    "cancel": cancel_run,
}
EXCLUDED_SHOWN, FINDINGS_SHOWN = 50, 20


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    """Runs, the newest first. Two queries."""
    runs, pages = paginate(request, visible_runs(request).defer("recipe", "quality"))
    return render(request, "runs/list.html", {"runs": runs, "pages": pages})


@require_safe
@never_cache
def detail(request: HttpRequest, run_id: UUID) -> HttpResponse:
    """A run with its stages and cases. Four queries."""
    return render(request, "runs/detail.html", _detail(request, run_id))


@require_safe
@never_cache
def progress(request: HttpRequest, run_id: UUID) -> HttpResponse:
    """The part of the run page that changes; it asks for itself until the run has ended.

    `seen` says what the page has announced to listeners, so that each change is told once.
    """
    context = _progress(request, run_id)
    run = context["run"]
    announce = request.GET.get("seen") != f"{run.state}-{run.stage}"
    return render(request, "runs/progress.html", {**context, "announce": announce})


@require_POST
def act(request: HttpRequest, run_id: UUID, action: str) -> HttpResponse:
    """Pause, resume, retry or cancel a run, or give it another priority.

    What came too late, because the run has moved on meanwhile, shows the run as it is now.
    """
    run = get_object_or_404(visible_runs(request), pk=run_id)
    check_may_steer(request, run)
    try:
        if action == "priority":
            set_priority(run, _priority(request.POST.get("priority", "")))
        else:
            ACTIONS[action](run)
    except (RunConflictError, ValueError) as error:
        context = _detail(request, run_id) | {"refused": str(error)}
        return render(request, "runs/detail.html", context, status=HTTPStatus.CONFLICT)
    return redirect("run", run_id=run_id)


def _priority(text: str) -> Run.Priority:
    """Raises ValueError for a word that is none."""
    try:
        return Run.Priority[text.upper()]
    except KeyError:
        expected = ", ".join(name.lower() for name in Run.Priority.names)
        raise ValueError(f"priority: found {text[:40]!r}, expected one of {expected}") from None


def _detail(request: HttpRequest, run_id: UUID) -> dict[str, Any]:
    context = _progress(request, run_id)
    recipe_text = json.dumps(context["run"].recipe, indent=2, ensure_ascii=False)
    return {**context, "recipe_text": recipe_text}


def _progress(request: HttpRequest, run_id: UUID) -> dict[str, Any]:
    run = get_object_or_404(
        visible_runs(request).select_related("owner").prefetch_related("stages"), pk=run_id
    )
    stages = list(run.stages.all())
    findings = (run.quality or {}).get("findings", [])
    excluded = run.cases.filter(state=RunCase.State.EXCLUDED)[:EXCLUDED_SHOWN]
    return {
        "run": run,
        "stages": [{"stage": stage, "percent": _percent(stage)} for stage in stages],
        "done_stages": sum(stage.state == RunStage.State.DONE for stage in stages),
        "sources": by_source(run),
        "excluded": list(excluded),
        "measured": measured(run.quality),
        "findings": findings[:FINDINGS_SHOWN],
        "hidden_findings": max(0, len(findings) - FINDINGS_SHOWN),
        "status": _status(run),
        "waits_for": waits_for(run),
        "priorities": [(one.name.lower(), one.label, one) for one in Run.Priority],
    }


def _percent(stage: RunStage) -> int:
    if stage.state == RunStage.State.DONE:
        return 100
    return min(100, 100 * stage.done // stage.total) if stage.total else 0


def _status(run: Run) -> str:
    if run.state == Run.State.RUNNING:
        return f"Run: {stage_title(run.stage)}"
    return f"Run {run.get_state_display().lower()}"
