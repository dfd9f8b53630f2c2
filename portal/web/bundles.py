"""Bundles: what is in one, what was left out and why, and its download."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from functools import lru_cache
from http import HTTPStatus
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.files.storage import storages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from catalog.describe import plural
from catalog.licences import combine
from catalog.models import Dataset
from fusion.models import BASELINE_PAGE, COVER, REPORT, Bundle
from portal.access import (
    check_may_publish,
    kept_bundles,
    may_publish,
    see_bundle,
    user_of,
    visible_bundles,
)
from portal.publishing import (
    WHY_LENGTH,
    PublishError,
    RemovalError,
    discard_bundle,
    publish_bundle,
    removal_of,
    withdraw_bundle,
)
from portal.viewer import MANIFEST
from portal.web.measured import measured
from portal.web.paging import paginate
from portal.web.words import Line, combined_lines, licence_lines

FEW_CASES = 20
BAR_SHADES = 3
CROISSANT = "croissant.json"
UNKNOWN = ("unknown", "LicenseRef-unknown", "")
ROWS_SHOWN = 50
FILES_SHOWN = 500
SPLIT_ORDER = ("train", "val", "test")
REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; sandbox"
)
VIEW_LABELS = {"nnunet": "nnU-Net", "monai": "MONAI", "bids": "BIDS", "huggingface": "Hugging Face"}
MOODS = {"helps": "good", "harms": "bad", "mixed": "warn"}


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    """Bundles, the newest first. Two queries."""
    rows = kept_bundles(request).defer("recipe", "baseline", "files")
    bundles, pages = paginate(request, rows)
    return render(request, "bundles/list.html", {"bundles": bundles, "pages": pages})


@require_safe
def detail(request: HttpRequest, bundle_id: str) -> HttpResponse:
    """One bundle."""
    bundle = see_bundle(request, bundle_id)
    if bundle.removed_at is not None:
        return gone(request, bundle)
    summary = bundle.summary
    slugs = [source.get("dataset", "") for source in summary["sources"]]
    known = set(Dataset.objects.filter(slug__in=slugs).values_list("slug", flat=True))
    sources = [{**s, "is_known": s.get("dataset") in known} for s in summary["sources"]]
    splits = _split_names(summary["splits"])
    address = request.build_absolute_uri(reverse("api:bundle-download", args=[bundle.pk]))
    context = {
        "bundle": bundle,
        "summary": summary,
        "is_small": summary["cases"] < FEW_CASES,
        "figures": _figures(summary),
        "measured": measured(summary.get("measured")),
        "has_cases": bundle.has(MANIFEST),
        "has_report": bundle.has(REPORT),
        "has_cover": bundle.has(COVER),
        "splits": splits,
        **_contents(sources, summary, splits),
        "charts": _charts(bundle),
        "licences": _licences(sources),
        "together": _together(sources),
        "downloads": _downloads(request, bundle, address),
        "rebuilding": _rebuilding(bundle),
        "has_croissant": bundle.has(CROISSANT),
        "views": [
            (n, label) for n, label in VIEW_LABELS.items() if summary.get("views", {}).get(n) == ""
        ],
        "baseline": _baseline(bundle.baseline),
        "has_baseline_page": bundle.has(BASELINE_PAGE),
        "exclusions": _grouped(summary.get("exclusions", [])),
        "findings": _grouped(summary.get("findings", [])),
        **_publishing(request, bundle),
        "files": bundle.files[:FILES_SHOWN],
        "hidden_files": max(0, len(bundle.files) - FILES_SHOWN),
    }
    return render(request, "bundles/detail.html", context)


@require_POST
def publish(request: HttpRequest, bundle_id: str) -> HttpResponse:
    """Show a bundle to everybody; a private build is refused."""
    bundle = see_bundle(request, bundle_id)
    if bundle.removed_at is not None:
        return gone(request, bundle)
    check_may_publish(request, bundle)
    try:
        publish_bundle(bundle, request.user)
    except PublishError as error:
        return HttpResponse(str(error), status=HTTPStatus.CONFLICT, content_type="text/plain")
    return redirect("bundle", bundle_id=bundle_id)


@require_POST
def withdraw(request: HttpRequest, bundle_id: str) -> HttpResponse:
    """Show a bundle to its makers alone again."""
    bundle = see_bundle(request, bundle_id)
    check_may_publish(request, bundle, curators=True)
    withdraw_bundle(bundle)
    if visible_bundles(request).filter(pk=bundle_id).exists():
        return redirect("bundle", bundle_id=bundle_id)
    return redirect("bundles")


@login_required
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def remove(request: HttpRequest, bundle_id: str) -> HttpResponse:
    """What removing a bundle means, and the button that does it."""
    bundle = see_bundle(request, bundle_id)
    if bundle.removed_at is not None:
        return gone(request, bundle)
    check_may_publish(request, bundle)
    note, refused, status = request.POST.get("why", ""), "", HTTPStatus.OK
    if request.method == "POST":
        try:
            discard_bundle(bundle, user_of(request), note)
        except RemovalError as error:
            refused, status = str(error), HTTPStatus.CONFLICT
        else:
            messages.success(request, f"{bundle.title} was removed")
            return redirect("account")
    context = {
        "bundle": bundle,
        "removal": removal_of(bundle, user_of(request)),
        "refused": refused,
        "note": note,
        "longest": WHY_LENGTH,
    }
    return render(request, "bundles/remove.html", context, status=status)


def gone(request: HttpRequest, bundle: Bundle) -> HttpResponse:
    """Why a bundle is no longer here, and its recipe, by which it can be built again."""
    recipe_text = json.dumps(bundle.recipe, indent=2, ensure_ascii=False)
    context = {"bundle": bundle, "recipe_text": recipe_text}
    return render(request, "bundles/gone.html", context, status=HTTPStatus.GONE)


@require_safe
def report(request: HttpRequest, bundle_id: str) -> HttpResponse:
    """The bundle's quality report as it was built.

    It brings its own styles and pictures; nothing in it may run or be fetched.
    """
    return _page(request, bundle_id, REPORT)


@require_safe
def cover(request: HttpRequest, bundle_id: str) -> HttpResponse:
    """A few of the bundle's cases in one picture."""
    return _file(request, bundle_id, COVER, "image/png")


@require_safe
def chart(request: HttpRequest, bundle_id: str, number: int) -> HttpResponse:
    """One chart of the quality report as a picture of its own."""
    bundle = see_bundle(request, bundle_id)
    if bundle.removed_at is not None:
        return gone(request, bundle)
    found = _charts_of(bundle.pk, _sha256(bundle, REPORT)) if bundle.has(REPORT) else []
    if number >= len(found):
        raise Http404(f"chart {number}: the report of bundle {bundle_id[:12]} has {len(found)}")
    response = HttpResponse(found[number][1], content_type="image/svg+xml")
    response["Content-Security-Policy"] = REPORT_POLICY
    response["Cache-Control"] = "no-cache"
    return response


@require_safe
def baseline(request: HttpRequest, bundle_id: str) -> HttpResponse:
    """The baseline's page as it was built."""
    return _page(request, bundle_id, BASELINE_PAGE)


def _publishing(request: HttpRequest, bundle: Bundle) -> dict[str, bool]:
    """What the user may do about who sees it."""
    if user_of(request) is None:
        return {}
    holds = may_publish(request, bundle)
    return {
        "may_publish": bundle.build == "shareable" and holds,
        "may_withdraw": may_publish(request, bundle, curators=True),
        "may_remove": holds,
    }


def _page(request: HttpRequest, bundle_id: str, path: str) -> HttpResponse:
    response = _file(request, bundle_id, path, "text/html; charset=utf-8")
    if response.status_code == HTTPStatus.OK:
        response["Content-Security-Policy"] = REPORT_POLICY
    return response


def _file(request: HttpRequest, bundle_id: str, path: str, content_type: str) -> HttpResponse:
    bundle = see_bundle(request, bundle_id)
    if bundle.removed_at is not None:
        return gone(request, bundle)
    if not bundle.has(path):
        raise Http404(f"{path}: no file of bundle {bundle_id[:12]}")
    with storages["bundles"].open(f"{bundle.pk}/{path}") as opened:
        response = HttpResponse(opened.read(), content_type=content_type)
    response["Cache-Control"] = "no-cache"
    return response


def _figures(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    sources = summary["sources"]
    excluded = sum(sum(source["excluded"].values()) for source in sources)
    concepts = len(summary.get("concepts", []))
    counts = {"case": summary["cases"], "source": len(sources), "concept": concepts}
    return [
        *({"label": plural(unit, count), "count": count} for unit, count in counts.items()),
        {"label": "excluded", "count": excluded},
    ]


def _split_names(splits: Mapping[str, Any]) -> list[str]:
    known = [name for name in SPLIT_ORDER if name in splits]
    return [*known, *sorted(set(splits) - set(known))]


def _contents(
    sources: Sequence[Mapping[str, Any]], summary: Mapping[str, Any], splits: Sequence[str]
) -> dict[str, Any]:
    """A row per source with its cases by split, a bar of them, and the sums."""
    rows = []
    longest = max((source["used"] for source in sources), default=0) or 1
    for source in sources:
        numbers = [summary["splits"][split].get(source["id"], 0) for split in splits]
        widths = [round(100 * number / longest, 2) for number in numbers]
        # Folds hold each case several times: their bars would be longer than the page.
        bars = [
            {"x": round(sum(widths[:n]), 2), "width": width, "shade": n % BAR_SHADES}
            for n, width in enumerate(widths)
            if sum(numbers) == source["used"] and width
        ]
        rows.append({**source, "numbers": numbers, "bars": bars})
    return {
        "sources": rows,
        "sums": {
            "cases_in": sum(source["cases_in"] for source in sources),
            "used": sum(source["used"] for source in sources),
            "numbers": [sum(row["numbers"][n] for row in rows) for n in range(len(splits))],
        },
        "has_bars": any(row["bars"] for row in rows),
    }


def _baseline(data: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What the page says of baseline.json."""
    if not data:
        return None
    from fusion.baseline.page import gain_rows, heat_tables  # loads readers of images

    tables = heat_tables(data)
    return {
        **data,
        "verdict": data["verdict"] or "no verdict",
        "mood": MOODS.get(str(data["verdict"]), "warn"),
        "tables": tables[:1],
        "more_tables": max(0, len(tables) - 1),
        "gain_rows": gain_rows(data),
        "shift_rows": [
            {"state": words, **data["shift"][key]}
            for key, words in (("before", "original"), ("after", "harmonised"))
        ]
        if data["shift"]
        else [],
    }


def _charts(bundle: Bundle) -> list[dict[str, Any]]:
    """Intensities before and after, as the report drew them."""
    if not bundle.has(REPORT):
        return []
    return [
        {"number": number, "title": title}
        for number, (title, _) in enumerate(_charts_of(bundle.pk, _sha256(bundle, REPORT)))
        if title.startswith("Intensities")
    ]


@lru_cache(maxsize=8)
def _charts_of(bundle_id: str, sha256: str) -> list[tuple[str, str]]:  # noqa: ARG001 - of the key
    from fusion.report.charts import charts_in  # loads readers of images

    with storages["bundles"].open(f"{bundle_id}/{REPORT}") as opened:
        return charts_in(opened.read().decode())


def _sha256(bundle: Bundle, path: str) -> str:
    return next((str(file["sha256"]) for file in bundle.files if file["path"] == path), "")


def _licences(sources: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each licence once: whose it is, and what it allows."""
    whose: dict[str, list[str]] = {}
    for source in sources:
        for part, name in source["licence"].items():
            whose.setdefault("" if name in UNKNOWN else name, []).append(f"{source['id']} {part}")
    return [
        {"name": name, "whose": parts, "lines": licence_lines(name)}
        for name, parts in whose.items()
    ]


def _together(sources: Sequence[Mapping[str, Any]]) -> list[Line]:
    """What the licences allow together."""
    stated = [tuple(source["licence"].values()) for source in sources]
    unknown = sum(any(name in UNKNOWN for name in names) for names in stated)
    return combined_lines(combine(name for names in stated for name in names), unknown)


def _downloads(request: HttpRequest, bundle: Bundle, address: str) -> list[dict[str, str]]:
    """Commands that fetch the bundle; an interrupted one goes on when it is given again."""
    header = "" if bundle.public else ' -H "Authorization: Bearer $IMAGINGX_TOKEN"'
    root = request.build_absolute_uri("/").rstrip("/")
    name = f"{bundle.pk[:12]}.tar"
    portal = "" if root == "http://127.0.0.1:8000" else f"IMAGINGX_URL={shlex.quote(root)} "
    return [
        {
            "id": "with-client",
            "title": "Checked file by file, with the client",
            "text": f"{portal}imagingx download {bundle.pk}",
        },
        {
            "id": "with-curl",
            "title": "As one tar",
            "text": f"curl -fL -C - -o {name}{header} {shlex.quote(address)}\n"
            f"tar xf {name} && cd {bundle.pk[:12]} && sha256sum -c SHA256SUMS",
        },
        {
            "id": "one-file",
            "title": "One file, such as the manifest",
            "text": f"curl -fL -C - -O{header} "
            + shlex.quote(address.replace("/download/", "/files/manifest.json")),
        },
    ]


def _rebuilding(bundle: Bundle) -> str:
    """How the same bundle is made from one's own copies of the sources."""
    folder = bundle.pk[:12]
    return (
        f"python manage.py rebuild_bundle {folder} --data-root /my/images --out {folder}-again\n"
        f"python manage.py verify_bundle {folder}-again"
    )


def _grouped(rows: object) -> list[dict[str, Any]]:
    """Rows by code, the most frequent first; given as a list, or already by code."""
    groups: dict[str, list[Any]] = {}
    if isinstance(rows, Mapping):
        groups = {str(code): list(found) for code, found in rows.items()}
    elif isinstance(rows, Sequence):
        for row in rows:
            groups.setdefault(row["code"], []).append(row)
    return [
        {
            "code": code,
            "rows": found,
            "shown": found[:ROWS_SHOWN],
            "hidden": max(0, len(found) - ROWS_SHOWN),
        }
        for code, found in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
        if found
    ]
