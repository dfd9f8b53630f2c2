"""For operators: does it live, is it ready, what does it do, and what went wrong."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import asdict
from http import HTTPStatus
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.db.models import Count, Max
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils.timezone import now
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from catalog.models import CatalogRevision
from fusion.models import Bundle
from portal.access import is_operator
from portal.health import Part, look
from portal.metrics import registry
from portal.progress import waits_for
from workers import broker, heartbeat
from workers.models import Run, WorkerProcess
from workers.process import QUEUES
from workers.room import existing, size

RUNS_SHOWN, FAILURES_SHOWN, CODES_SHOWN = 30, 10, 15


@require_safe
@never_cache
def healthz(_: HttpRequest) -> HttpResponse:
    """The process lives. It asks nothing of others: a restart would not mend them."""
    return JsonResponse({"status": "ok"})


@require_safe
@never_cache
def readyz(request: HttpRequest) -> HttpResponse:
    """What is needed is there, or 503; why not is told to operators alone."""
    parts = look()
    ready = all(part.ok for part in parts)
    shown = asdict if is_operator(request) else _short
    body = {"status": "ok" if ready else "away", "parts": [shown(part) for part in parts]}
    return JsonResponse(body, status=HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE)


@require_safe
@never_cache
def metrics(request: HttpRequest) -> HttpResponse:
    """Every figure in the text format of Prometheus."""
    _check_operator(request)
    return HttpResponse(generate_latest(registry()), content_type=CONTENT_TYPE_LATEST)


@require_safe
@never_cache
def status(request: HttpRequest) -> HttpResponse:
    """Workers, queues, runs, disks and failures on one page."""
    _check_operator(request)
    parts = look()
    workers = list(WorkerProcess.objects.all())
    context = {
        "parts": parts,
        "workers": _workers(workers),
        "queues": _queues(parts),
        "broker": broker.kind(),
        "runs": _open_runs(),
        "states": _states(),
        "disks": _disks(),
        "bundles": _bundles(),
        "index": next(part for part in parts if part.name == "search"),
        "catalog_at": CatalogRevision.objects.aggregate(at=Max("loaded_at"))["at"],
        "codes": _codes(),
        "failures": _failures(),
        "now": now(),
    }
    return render(request, "status.html", context)


def _check_operator(request: HttpRequest) -> None:
    if not is_operator(request):
        raise PermissionDenied(
            "for operators: from an allowed network, with the token, or as staff"
        )


def _short(part: Part) -> dict[str, Any]:
    return {"name": part.name, "ok": part.ok}


def _workers(workers: list[WorkerProcess]) -> list[dict[str, Any]]:
    living = set(heartbeat.alive().values_list("name", flat=True))
    work = heartbeat.work_of(workers)
    return [{"worker": one, "alive": one.name in living, "work": work[one.name]} for one in workers]


def _queues(parts: Iterable[Part]) -> list[dict[str, Any]]:
    """Waiting messages; none when the broker did not answer just now."""
    if not next(part.ok for part in parts if part.name == "broker"):
        return []
    return _bars(broker.depths(QUEUES).items())


def _bars(rows: Iterable[tuple[str, float]], whole: float = 0) -> list[dict[str, Any]]:
    """Rows with the length of each bar in per cent of `whole`, or of the longest."""
    found = list(rows)
    most = whole or max((number for _, number in found), default=0) or 1
    return [
        {"value": value, "number": number, "width": round(100 * number / most, 1)}
        for value, number in found
    ]


def _open_runs() -> list[dict[str, Any]]:
    rows = Run.objects.unfinished().select_related("owner").defer("recipe", "quality")
    rows = rows.order_by("-priority", "created_at")[:RUNS_SHOWN]
    return [{"run": run, "waits_for": waits_for(run)} for run in rows]


def _states() -> list[dict[str, Any]]:
    counts = dict(Run.objects.order_by().values_list("state").annotate(n=Count("pk")))
    return _bars((state.label, counts.get(state.value, 0)) for state in Run.State)


def _disks() -> list[dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}
    for name, folder in (("state", settings.STATE_DIR), ("work", settings.WORK_DIR)):
        place = existing(Path(folder))
        usage = shutil.disk_usage(place)
        row = found.setdefault(place.stat().st_dev, {"names": [], "free": size(usage.free)})
        row["names"].append(name)
        row |= {"total": size(usage.total), "width": round(100 - 100 * usage.free / usage.total, 1)}
        row["is_short"] = usage.free < settings.DISK_RESERVE_BYTES
    return list(found.values())


def _bundles() -> dict[str, Any]:
    kept = list(Bundle.objects.kept().values_list("size_bytes", flat=True))
    removed = Bundle.objects.exclude(removed_at=None).count()
    return {"kept": len(kept), "removed": removed, "size": size(sum(kept))}


def _codes() -> list[dict[str, Any]]:
    failed = Run.objects.filter(state=Run.State.FAILED).order_by()
    rows = failed.values_list("error_code").annotate(n=Count("pk")).order_by("-n", "error_code")
    return _bars(rows[:CODES_SHOWN])


def _failures() -> list[Run]:
    failed = Run.objects.filter(state=Run.State.FAILED).order_by("-finished_at")
    return list(failed.defer("recipe", "quality")[:FAILURES_SHOWN])
