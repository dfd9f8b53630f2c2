"""The blueprint of a fusion as a page; which datasets and which choices is in the address."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_safe

from catalog.faults import Fault
from catalog.search import QueryError
from catalog.search.facets import closest
from catalog.selection import named
from fusion.blueprint import FEWEST, MODES, MOST, PROFILES, Blueprint, Choice
from fusion.compatibility import Score
from fusion.services import blueprint, choice, goal, partners
from portal.web.copying import as_curl, as_python
from portal.web.paging import question
from portal.web.words import combined_lines

GOAL = ("modality", "anatomy", "task")
PARAMETERS = ("slug", "add", "mode", "profile", "task", "accept_confounding", "modality", "anatomy")
VERDICTS = {
    "pass": ("yes", "passes"),
    "warn": ("must", "to be watched"),
    "recipe only": ("must", "recipe only"),
    "unknown": ("must", "not known"),
    "block": ("no", "blocks"),
}


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    """With a goal it proposes datasets; with datasets it draws; a slip in the address is a 400."""
    slugs = list(dict.fromkeys(slug for slug in request.GET.getlist("slug") if slug))
    context: dict[str, Any] = {
        "fewest": FEWEST, "most": MOST, "modes": MODES, "profiles": PROFILES, "slugs": slugs,
        "goal": {name: request.GET.get(name, "") for name in GOAL},
    }  # fmt: skip
    try:
        _check(request)
        if wanted := request.GET.get("add", "").strip():
            slugs = list(dict.fromkeys([*slugs, named(wanted)]))
            context["slugs"] = slugs
        chosen = _choice(request)
        if not slugs and all(context["goal"].values()):
            context |= _for_goal(context["goal"])
            slugs = context["slugs"]
        if len(slugs) >= FEWEST:
            context |= _drawn(request, blueprint(slugs, chosen), slugs, chosen)
    except QueryError as error:
        return render(request, "blueprint.html", context | {"errors": error.errors}, status=400)
    return render(request, "blueprint.html", context)


def _check(request: HttpRequest) -> None:
    faults = [
        Fault(name, name, f"one of {', '.join(PARAMETERS)}", closest(name, PARAMETERS))
        for name in request.GET
        if name not in PARAMETERS
    ]
    if faults:
        raise QueryError(faults)


def _choice(request: HttpRequest) -> Choice:
    return choice(
        *(request.GET.get(name, "") for name in ("mode", "profile", "task")),
        accept_confounding=bool(request.GET.get("accept_confounding")),
    )


def _for_goal(wanted: dict[str, str]) -> dict[str, Any]:
    found = partners().for_goal(goal(**wanted))
    return {"slugs": list(found.slugs), "pool": found.pool, "asked_goal": True}


def _drawn(
    request: HttpRequest, drawn: Blueprint, slugs: list[str], chosen: Choice
) -> dict[str, Any]:
    names = {one.slug: one.name for one in drawn.sources}
    params = [("slug", slug) for slug in slugs]
    params += [("mode", chosen.mode), ("profile", chosen.profile)]
    params += [("task", chosen.task)] if chosen.task else []
    params += [("accept_confounding", "true")] if chosen.accept_confounding else []
    address = request.build_absolute_uri(reverse("api:blueprint"))
    meetings = drawn.alignment.common if chosen.mode == "intersection" else drawn.alignment.every
    return {
        "drawn": drawn,
        "choice": chosen,
        "rules": [
            {"rule": rule, "mood": VERDICTS[rule.verdict][0], "verdict": VERDICTS[rule.verdict][1],
             "seen": [(names.get(key, key), value) for key, value in rule.seen.items()]}
            for rule in drawn.rules
        ],
        "pairs": [_pair(one, names) for one in drawn.scores],
        "meetings": [
            (one.label, [", ".join(one.classes.get(slug, ())) for slug in slugs])
            for one in meetings
        ],
        "left_out": [
            (names[slug], rows if chosen.mode == "intersection" else
             [one.value for one in drawn.alignment.unmapped(slug)])
            for slug, rows in drawn.alignment.lost.items()
        ],
        "proposals": [
            (names[slug], one) for slug in slugs for one in drawn.alignment.unmapped(slug)
            if one.how == "proposed"
        ],
        "licence": combined_lines(
            drawn.licence, sum(not one.licence for one in drawn.sources)
        ),
        "overlaps": [(names[one.a], names[one.b], one) for one in drawn.overlaps],
        "compare": reverse("compare") + question([("slug", slug) for slug in slugs]),
        "api_call": as_curl(address, params),
        "python_call": as_python(address, params, "rules"),
    }  # fmt: skip


def _pair(one: Score, names: dict[str, str]) -> dict[str, Any]:
    return {"a": names[one.a], "b": names[one.b], "score": one}
