"""What changed: the catalog's versions, the harvests behind them, and changes that wait."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from catalog.changes import NEW, cell_text, terms_text
from catalog.claims import sources
from catalog.models import CatalogChange, CatalogRevision, Harvest, HarvestChange
from catalog.records_io import RecordError
from catalog.refresh import decide as decide_changes
from portal.access import SignInError, is_curator, user_of
from portal.corrections import check_curator
from portal.web.dataset import FIELD_TITLES
from portal.web.paging import paginate
from portal.web.words import texts
from workers.refresh import UPSTREAMS, next_at, update_index

MOST_AT_ONCE = 200


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    """The changelog, the newest version first."""
    rows, pages = paginate(request, CatalogRevision.objects.all())
    return render(request, "versions/list.html", {"rows": rows, "pages": pages})


@require_safe
def detail(request: HttpRequest, number: int) -> HttpResponse:
    """What one version changed, dataset by dataset."""
    version = get_object_or_404(CatalogRevision, number=number)
    rows, pages = paginate(request, version.changes.all())
    context = {
        "version": version,
        "rows": [{"row": row, "fields": _fields(row)} for row in rows],
        "pages": pages,
        "harvest": Harvest.objects.filter(revision=version).first(),
    }
    return render(request, "versions/detail.html", context)


def _fields(change: CatalogChange) -> list[dict[str, Any]]:
    return [
        {
            "title": _title(field),
            "before": _texts(field, before),
            "after": _texts(field, after),
        }
        for field, (before, after) in change.fields.items()
    ]


def _title(field: str) -> str:
    return FIELD_TITLES.get(field, field.replace("_", " ").capitalize())


def _texts(field: str, value: Any) -> list[str]:
    """Relations and sources are no facts that a correction may name: their targets are shown."""
    if field in {"relations", "sources"}:
        return [str(row.get("to") or f"{row.get('id')} {row.get('ref')}") for row in value or ()]
    return texts(field, value)


@require_safe
def harvests(request: HttpRequest) -> HttpResponse:
    """Every harvest, the newest first, and when each source is harvested next."""
    rows, pages = paginate(request, Harvest.objects.select_related("revision"))
    context = {
        "rows": rows,
        "pages": pages,
        "schedule": [{"source": sources()[one], "at": next_at(one)} for one in UPSTREAMS],
        "waiting": waiting_count(),
    }
    return render(request, "versions/harvests.html", context)


def waiting_count() -> int:
    """How many changes of sources wait for a curator."""
    return HarvestChange.objects.filter(state=HarvestChange.State.WAITING).count()


@never_cache
@require_safe
def harvest(request: HttpRequest, harvest_id: int) -> HttpResponse:
    """The diff report of one harvest."""
    one = get_object_or_404(Harvest.objects.select_related("revision"), pk=harvest_id)
    return _report(request, one.changes.all(), {"harvest": one})


@never_cache
@require_safe
def queue(request: HttpRequest) -> HttpResponse:
    """Changes of all sources that wait for a curator."""
    rows = HarvestChange.objects.filter(state=HarvestChange.State.WAITING)
    return _report(request, rows, {})


def _report(
    request: HttpRequest, rows: Any, context: Mapping[str, Any], status: int = HTTPStatus.OK
) -> HttpResponse:
    states = HarvestChange.State.values
    state = request.GET.get("state", "")
    if state in states:
        rows = rows.filter(state=state)
    found, pages = paginate(request, rows)
    page = {
        **context,
        "rows": [_shown(row) for row in found],
        "pages": pages,
        "states": [{"name": one, "current": one == state} for one in states],
        "state": state,
        "is_curator": is_curator(user_of(request)),
    }
    return render(request, "versions/harvest.html", page, status=status)


def _shown(row: HarvestChange) -> dict[str, Any]:
    before, after = ([cell_text(cells, row.field)] for cells in (row.before, row.after))
    return {
        "row": row,
        "title": _title(row.field) if row.field else "",
        "terms": terms_text(row.after) if row.kind == NEW else [],
        "before": [text for text in before if text],
        "after": [text for text in after if text],
    }


@require_POST
def decide(request: HttpRequest) -> HttpResponse:
    """Accept or reject the ticked changes; what was decided meanwhile stays as it is."""
    try:
        curator = check_curator(request)
    except SignInError:
        return redirect_to_login(reverse("harvest-queue"))
    ticked = request.POST.getlist("change")[:MOST_AT_ONCE]
    ids = [int(one) for one in ticked if one.isdecimal() and len(one) < 12]  # noqa: PLR2004
    accept = request.POST.get("decision") == "accept"
    reason = request.POST.get("reason", "").strip()[:500]
    try:
        _, report = decide_changes(ids, accept=accept, by=curator.get_username(), reason=reason)
    except RecordError as error:
        rows = HarvestChange.objects.filter(pk__in=ids)
        return _report(request, rows, {"error": error}, HTTPStatus.CONFLICT)
    if report:
        update_index()
    return redirect("harvest-queue")
