"""Runs: list them, watch one, steer it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import Window
from django.db.models.functions import RowNumber
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from portal.access import check_may_steer, may_steer, own_notices, user_of, visible_runs
from portal.progress import SourceProgress, by_source, events, seconds_left, waits_for
from portal.templatetags.portal_tags import stage_title
from portal.web.measured import measured
from portal.web.paging import paginate
from workers.models import Run, RunCase, RunNotice, RunStage
from workers.notices import NoticeError, ask_for, secret_of
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
EXAMPLES_SHOWN, FINDINGS_SHOWN = 5, 20


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


@require_POST
def notices(request: HttpRequest, run_id: UUID) -> HttpResponse:
    """Be told of the run's end, or (with `remove`) no more."""
    run = get_object_or_404(visible_runs(request), pk=run_id)
    mine = own_notices(request, run)
    if (number := request.POST.get("remove", "")).isdecimal() and len(number) < 12:  # noqa: PLR2004
        mine.filter(pk=int(number)).delete()
        return redirect(f"{reverse('run', args=[run_id])}#notices")
    kind = RunNotice.Kind.HOOK if request.POST.get("kind") == "hook" else RunNotice.Kind.MAIL
    url = request.POST.get("url", "").strip()[:500]
    page = request.build_absolute_uri(reverse("run", args=[run_id]))
    try:
        ask_for(run, request.user, kind, url, page)
    except NoticeError as error:
        context = _detail(request, run_id) | {"notice_refused": str(error), "hook_url": url}
        status = HTTPStatus.UNPROCESSABLE_ENTITY
        return render(request, "runs/detail.html", context, status=status)
    return redirect(f"{reverse('run', args=[run_id])}#notices")


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
    if user_of(request) is not None:
        mine = [
            (one, secret_of(one) if one.kind == RunNotice.Kind.HOOK else "")
            for one in own_notices(request, context["run"])
        ]
        context |= {"notices": mine, "sends_mail": bool(settings.EMAIL_HOST)}
    return {**context, "recipe_text": recipe_text}


def _progress(request: HttpRequest, run_id: UUID) -> dict[str, Any]:
    run = get_object_or_404(
        visible_runs(request).select_related("owner").prefetch_related("stages"), pk=run_id
    )
    stages = list(run.stages.all())
    findings = (run.quality or {}).get("findings", [])
    sources = by_source(run)
    return {
        "run": run,
        "stages": [{"stage": stage, "percent": _percent(stage)} for stage in stages],
        "done_stages": sum(stage.state == RunStage.State.DONE for stage in stages),
        "sources": sources,
        "excluded": _excluded(run, sources),
        "measured": measured(run.quality),
        "findings": findings[:FINDINGS_SHOWN],
        "hidden_findings": max(0, len(findings) - FINDINGS_SHOWN),
        "status": _status(run),
        "waits_for": waits_for(run),
        "may_steer": may_steer(request, run),
        "left": seconds_left(stages, run),
        "events": events(run, stages),
        "priorities": [(one.name.lower(), one.label, one) for one in Run.Priority],
    }


def _excluded(run: Run, sources: Sequence[SourceProgress]) -> list[dict[str, Any]]:
    """Excluded cases by code, the most frequent first, with a few examples. One query, or none."""
    counts: Counter[str] = Counter()
    for source in sources:
        counts.update(source.excluded)
    if not counts:
        return []
    rows = run.cases.filter(state=RunCase.State.EXCLUDED)
    ranked = rows.annotate(
        place=Window(RowNumber(), partition_by="code", order_by=["source", "name"])
    ).filter(place__lte=EXAMPLES_SHOWN)
    examples: dict[str, list[RunCase]] = {}
    for case in ranked:
        examples.setdefault(case.code, []).append(case)
    return [
        {
            "code": code,
            "count": n,
            "cases": (found := examples.get(code, [])),
            "hidden": n - len(found),
        }
        for code, n in counts.most_common()
    ]


def _percent(stage: RunStage) -> int:
    if stage.state == RunStage.State.DONE:
        return 100
    return min(100, 100 * stage.done // stage.total) if stage.total else 0


def _status(run: Run) -> str:
    if run.state == Run.State.RUNNING:
        return f"Run: {stage_title(run.stage)}"
    return f"Run {run.get_state_display().lower()}"
