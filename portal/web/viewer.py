"""Look through a bundle: its cases, and one of them slice by slice."""

from __future__ import annotations

import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_safe

from fusion.bundle.cases import CaseIndex, CaseRow
from fusion.bundle.content import IGNORE
from fusion.models import Bundle
from fusion.report.pictures import hex_of
from fusion.report.slices import OVERLAYS, TILTED_DEGREES, shade_of
from portal.access import see_bundle
from portal.viewer import (
    CUSTOM,
    PAGE_PARAMS,
    SIDES,
    LookError,
    NotShownError,
    View,
    case_index,
    find_case,
    open_view,
    picture,
    version_of,
)
from portal.web.bundles import gone
from portal.web.measured import product

PAGE_SIZE = 24
SIDE_MAIN, SIDE_OTHER, SIDE_THUMB = 640, 320, 192
#: A list draws a picture of every case that is quickly decoded.
THUMB_VOXELS = 12_000_000
FILTERS = ("source", "split", "concept")
SIDES_SEEN = {
    "axial": "from below: the patient's right is on your left, the front is on top",
    "coronal": "from the front: the patient's right is on your left, the head is on top",
    "sagittal": "from the patient's left: the front is on your left, the head is on top",
}


@require_safe
def index(request: HttpRequest, bundle_id: str) -> HttpResponse:
    """The cases of a bundle, narrowed by source, split and concept."""
    bundle = see_bundle(request, bundle_id)
    if bundle.removed_at is not None:
        return gone(request, bundle)
    cases = case_index(bundle)
    chosen = _filters(request.GET)
    page = Paginator(cases.find(**chosen), PAGE_SIZE).get_page(request.GET.get("page"))
    context = {
        "bundle": bundle,
        "cases": cases,
        "chosen": chosen,
        "total": page.paginator.count,
        "rows": [_card(bundle, case, chosen) for case in page.object_list],
        "pages": {
            "number": page.number,
            "last": page.paginator.num_pages,
            "previous": _page(chosen, page.number - 1) if page.has_previous() else "",
            "next": _page(chosen, page.number + 1) if page.has_next() else "",
        },
    }
    return render(request, "bundles/cases.html", context)


@require_safe
def detail(request: HttpRequest, bundle_id: str, case_id: str) -> HttpResponse:
    """One case.

    What cannot be looked at so is said above the view that the case is opened with.
    """
    bundle = see_bundle(request, bundle_id)
    if bundle.removed_at is not None:
        return gone(request, bundle)
    cases = case_index(bundle)
    case = find_case(cases, case_id)
    chosen = _filters(request.GET)
    asked = {name: value for name, value in request.GET.dict().items() if name not in FILTERS}
    context = {
        "bundle": bundle,
        "case": case,
        "chosen": chosen,
        "splits": ", ".join(case.splits),
        "facts": _facts(case),
        "concepts": _concepts(cases, case),
        **_neighbours(bundle, cases.find(**chosen), case, chosen),
    }
    status = HTTPStatus.OK
    try:
        try:
            view = open_view(bundle, case_id, asked, PAGE_PARAMS)
        except LookError as error:
            context |= {"refused": error.errors}
            status = HTTPStatus.BAD_REQUEST
            view = open_view(bundle, case_id, {}, PAGE_PARAMS)
    except NotShownError as error:
        context |= {"not_shown": str(error)}
    else:
        context |= _viewer(bundle, cases, view, chosen)
    return render(request, "bundles/case.html", context, status=status)


@require_safe
def slice_png(request: HttpRequest, bundle_id: str, case_id: str) -> HttpResponseBase:
    """One slice as a picture."""
    bundle = see_bundle(request, bundle_id)
    if bundle.removed_at is not None:
        return gone(request, bundle)
    try:
        return picture(request, bundle, case_id, request.GET.dict())
    except LookError as error:
        return _said(error, HTTPStatus.BAD_REQUEST)
    except NotShownError as error:
        return _said(error, HTTPStatus.UNPROCESSABLE_ENTITY)


def _said(error: Exception, status: HTTPStatus) -> HttpResponse:
    return HttpResponse(str(error), status=status, content_type="text/plain; charset=utf-8")


def _filters(params: Mapping[str, str]) -> dict[str, str]:
    return {name: params.get(name, "") for name in FILTERS}


def _kept(chosen: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in chosen.items() if value}


def _page(chosen: Mapping[str, str], number: int) -> str:
    return "?" + urlencode({**_kept(chosen), "page": number})


def _address(bundle: Bundle, case_id: str, params: Mapping[str, str]) -> str:
    address = reverse("bundle-case", args=[bundle.pk, case_id])
    return f"{address}?{urlencode(params)}" if params else address


def _picture(bundle: Bundle, case_id: str, params: Mapping[str, Any]) -> str:
    return f"{reverse('bundle-slice', args=[bundle.pk, case_id])}?{urlencode(params)}"


def _card(bundle: Bundle, case: CaseRow, chosen: Mapping[str, str]) -> dict[str, Any]:
    is_quick = bool(case.images) and case.voxels <= THUMB_VOXELS
    drawn = {"size": SIDE_THUMB, "v": version_of(bundle)}
    return {
        "case": case,
        "url": _address(bundle, case.id, _kept(chosen)),
        "thumb": _picture(bundle, case.id, drawn) if is_quick else "",
        "splits": ", ".join(case.splits),
        "size": product(case.shape),
    }


def _neighbours(
    bundle: Bundle, cases: list[CaseRow], case: CaseRow, chosen: Mapping[str, str]
) -> dict[str, Any]:
    """The cases before and after, among those of the list that one came from."""
    ids = [one.id for one in cases]
    if case.id not in ids:
        return {}
    place = ids.index(case.id)
    kept = _kept(chosen)
    return {
        "place": place + 1,
        "of": len(ids),
        "case_before": _address(bundle, ids[place - 1], kept) if place else "",
        "case_after": _address(bundle, ids[place + 1], kept) if place + 1 < len(ids) else "",
    }


def _facts(case: CaseRow) -> list[tuple[str, str]]:
    return [
        ("Source", case.source),
        ("Name at its source", case.name),
        ("Group", case.group),
        ("Size", product(case.shape)),
        ("Voxel size", product(case.spacing_mm, " mm")),
        ("Orientation", case.axcodes or ""),
        ("Unit", "HU" if case.unit == "hu" else case.unit),
        ("Type of values", case.dtype),
    ]


def _concepts(cases: CaseIndex, case: CaseRow) -> list[dict[str, Any]]:
    """Every value of the label map, with that of voxels which nobody annotated last."""
    found = [_concept(cases, case, value) for value in range(1, len(cases.concepts) + 1)]
    if case.ignored is not None and case.label is not None:
        value = len(cases.concepts) + 1
        found.append(
            {
                "value": value,
                "id": IGNORE,
                "label": "Nobody annotated",
                "amount": _amount(case, case.ignored) if case.ignored else "nowhere",
                "colour": hex_of(shade_of(value)),
                "is_drawn": case.ignored > 0,
            }
        )
    return found


def _amount(case: CaseRow, voxels: int) -> str:
    if case.spacing_mm:
        return f"{voxels * math.prod(case.spacing_mm) / 1000:,.4g} ml"
    return f"{voxels:,} pixels"


def _concept(cases: CaseIndex, case: CaseRow, value: int) -> dict[str, Any]:
    """What is known of one concept in a case; a label map's value v is concept v."""
    concept, label = cases.concepts[value - 1]
    voxels = case.present.get(concept, 0)
    amount = ""
    if concept not in case.annotated:
        amount = "not looked for: unknown"
    elif case.classes is not None and case.label is None:
        words = {1: "present", 0: "absent", -1: "uncertain"}
        amount = words.get(case.classes.get(concept, -1), "uncertain")
    elif not voxels:
        amount = "absent"
    else:
        amount = _amount(case, voxels)
    return {
        "value": value,
        "id": concept,
        "label": label,
        "amount": amount,
        "colour": hex_of(shade_of(value)),
        "is_drawn": case.label is not None and voxels > 0,
    }


def _viewer(
    bundle: Bundle, cases: CaseIndex, view: View, chosen: Mapping[str, str]
) -> dict[str, Any]:
    """What the viewer's controls lead to. Each address holds the whole state."""
    kept, version, case_id = _kept(chosen), version_of(bundle), view.case.id

    def link(**changes: Any) -> str:
        return _address(bundle, case_id, view.params(**changes) | kept)

    def plane(name: str, side: int) -> dict[str, Any]:
        count = view.scene.slices(name)
        return {
            "name": name,
            "place": view.places[name],
            "last": count - 1,
            "count": count,
            "url": link(plane=name),
            "png": _picture(bundle, case_id, view.slice_params(name, side, version)),
            "seen": SIDES_SEEN.get(name, ""),
        }

    main = plane(view.plane, SIDE_MAIN)
    place, last = main["place"], main["last"]
    hidden = view.look.hidden
    level, width = view.level_width
    own = {"opacity", view.plane}
    state = {name: value for name, value in (view.params() | kept).items() if name not in own}
    return {
        "main": main,
        "planes": [plane(name, SIDE_OTHER) for name in view.scene.planes],
        "others": [plane(n, SIDE_OTHER) for n in view.scene.planes if n != view.plane],
        "large": _picture(bundle, case_id, view.slice_params(view.plane, SIDES[1], version)),
        "steps": [
            {"size": f"{step:+d}", "url": link(**{view.plane: min(max(place + step, 0), last)})}
            for step in (-10, -1, 1, 10)
        ]
        if last
        else [],
        "windows": [
            {
                "name": name,
                "low": low,
                "high": high,
                "url": link(window=name, level=None, width=None),
                "chosen": name == view.window,
            }
            for name, (low, high) in view.scene.windows.items()
        ],
        "is_custom": view.window == CUSTOM,
        "level": f"{level:.6g}",
        "width": f"{width:.6g}",
        "low": view.look.low,
        "high": view.look.high,
        "overlays": [
            {
                "name": name,
                "url": link(overlay=name, opacity=None),
                "chosen": name == view.look.overlay,
            }
            for name in OVERLAYS
        ]
        if view.scene.marks is not None
        else [],
        "opacity": round(100 * view.look.opacity),
        "has_masks": view.scene.marks is not None,
        "concepts": [
            {
                **one,
                "is_hidden": one["value"] in hidden,
                "url": link(hide=",".join(map(str, sorted(hidden ^ {one["value"]}))) or None),
            }
            for one in _concepts(cases, view.case)
        ],
        "channels": [
            {
                "name": cases.channels[n] if n < len(cases.channels) else f"channel {n}",
                "url": link(channel=n or None, window=None, level=None, width=None),
                "chosen": n == view.channel,
            }
            for n in range(len(view.case.images))
        ]
        if len(view.case.images) > 1
        else [],
        "tilt": round(view.scene.tilt_degrees) if view.scene.tilt_degrees > TILTED_DEGREES else 0,
        "state": state,
        "window_state": {
            name: value
            for name, value in (view.params() | kept).items()
            if name not in {"level", "width", "window"}
        },
        "api": reverse("api:bundle-case", args=[bundle.pk, case_id]),
    }
