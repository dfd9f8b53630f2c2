"""The blueprint of a fusion as a page; which datasets and which choices is in the address.

Local folders join by their source descriptions, which are sent with the question and never kept.
"""

from __future__ import annotations

import json
from pathlib import PurePath
from typing import Any

from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import render
from django.urls import reverse
from django.utils.text import slugify
from django.views.decorators.http import require_http_methods

from catalog.faults import Fault, closest
from catalog.rules import RulesError, parse_rules
from catalog.search import QueryError
from catalog.selection import named
from fusion.blueprint import FEWEST, MODES, MOST, PROFILES, Blueprint, Choice
from fusion.compatibility import Score
from fusion.errors import RecipeError
from fusion.recipe_check import check_description
from fusion.recipe_draft import STEPS
from fusion.recipe_files import parse
from fusion.services import blueprint, choice, goal, partners, set_of_rules
from portal.access import user_of
from portal.web.copying import as_curl, as_python
from portal.web.paging import question
from portal.web.recipes import read_text
from portal.web.wizard.views import TITLES
from portal.web.words import combined_lines
from workers.own import chosen_data, is_usable, own_data, own_draft

GOAL = ("modality", "anatomy", "task")
PARAMETERS = (
    "slug",
    "own",
    "add",
    "mode",
    "profile",
    "task",
    "accept_confounding",
    "modality",
    "anatomy",
    "rules",
    "recipe",
)
POSTED = (*PARAMETERS, "csrfmiddlewaretoken", "described")
VERDICTS = {
    "pass": ("yes", "passes"),
    "warn": ("must", "to be watched"),
    "recipe only": ("must", "recipe only"),
    "unknown": ("must", "not known"),
    "block": ("no", "blocks"),
}


@require_http_methods(["GET", "HEAD", "POST"])
def index(request: HttpRequest) -> HttpResponse:
    """With a goal it proposes datasets; with datasets it draws; a slip in the address is a 400."""
    asked = request.POST if request.method == "POST" else request.GET
    slugs = list(dict.fromkeys(slug for slug in asked.getlist("slug") if slug))
    own, owner = list(dict.fromkeys(asked.getlist("own"))), user_of(request)
    if own and owner is None:
        return redirect_to_login(request.get_full_path())
    context: dict[str, Any] = {
        "fewest": FEWEST, "most": MOST, "modes": MODES, "profiles": PROFILES, "slugs": slugs,
        "goal": {name: asked.get(name, "") for name in GOAL}, "rules_text": asked.get("rules", ""),
        "own_rows": _own_rows(owner),
        "steps": [{"name": step, "title": TITLES[step], "is_current": step == STEPS[0]}
                  for step in STEPS],
    }  # fmt: skip
    try:
        _check(asked, POSTED if request.method == "POST" else PARAMETERS)
        local = _local(request)
        context |= {"local": local, "described": json.dumps(local) if local else ""}
        if text := asked.get("recipe", ""):
            draft = own_draft(parse(text), owner)
            context["recipe"] = text
            if not slugs and not own:
                slugs, own = draft.slugs, draft.own
            context["slugs"] = slugs
        if wanted := asked.get("add", "").strip():
            slugs = list(dict.fromkeys([*slugs, named(wanted)]))
            context["slugs"] = slugs
        chosen, mine = _choice(asked), chosen_data(own, owner)
        context["own"] = own
        begins = not slugs and not local and not own
        if begins and all(context["goal"].values()):
            context |= _for_goal(context["goal"])
            slugs = context["slugs"]
        elif begins and context["rules_text"].strip():
            found = set_of_rules(parse_rules(context["rules_text"]))
            slugs = list(found.slugs)
            context |= {"slugs": slugs, "pool": found.pool, "asked_rules": True}
        if len(slugs) + len(local) + len(own) >= FEWEST:
            context |= _drawn(request, blueprint(slugs, chosen, local, mine), slugs, chosen)
    except (QueryError, RulesError) as error:
        return render(request, "blueprint.html", context | {"errors": error.errors}, status=400)
    except RecipeError as error:
        context |= {"problems": error.errors}
        return render(request, "blueprint.html", context, status=422)
    return render(request, "blueprint.html", context)


def _own_rows(owner: Any) -> list[dict[str, Any]]:
    rows = own_data(owner).values()
    return [{"upload": row, "is_usable": is_usable(row)} for row in rows]


def _local(request: HttpRequest) -> dict[str, dict[str, Any]]:
    """Name -> source description: those that the page already had, and the files that came.

    Raises:
        RecipeError: a file is too large or no description.
    """
    if request.method != "POST":
        return {}
    found: dict[str, dict[str, Any]] = {}
    if text := request.POST.get("described", ""):
        held = parse(text)
        found = {str(name): one for name, one in held.items() if isinstance(one, dict)}
    for upload in request.FILES.getlist("description"):
        label = upload.name or "description"
        name = slugify(PurePath(label).stem) or "local"
        data = parse(read_text(upload, label))
        check_description(data, label)
        taken = {*found, *request.POST.getlist("slug")}
        found[name if name not in taken else f"{name}-{len(found) + 1}"] = data
    return found


def _check(asked: QueryDict, known: tuple[str, ...]) -> None:
    faults = [
        Fault(name, name, f"one of {', '.join(PARAMETERS)}", closest(name, PARAMETERS))
        for name in asked
        if name not in known
    ]
    if faults:
        raise QueryError(faults)


def _choice(asked: QueryDict) -> Choice:
    return choice(
        *(asked.get(name, "") for name in ("mode", "profile", "task")),
        accept_confounding=bool(asked.get("accept_confounding")),
    )


def _for_goal(wanted: dict[str, str]) -> dict[str, Any]:
    found = partners().for_goal(goal(**wanted))
    return {"slugs": list(found.slugs), "pool": found.pool, "asked_goal": True}


def _drawn(
    request: HttpRequest, drawn: Blueprint, slugs: list[str], chosen: Choice
) -> dict[str, Any]:
    names = {one.slug: one.name for one in drawn.sources}
    keys = list(names)
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
            (one.label, [", ".join(one.classes.get(key, ())) for key in keys])
            for one in meetings
        ],
        "to_confirm": drawn.alignment.to_confirm(),
        "left_out": [
            (names[slug], rows if chosen.mode == "intersection" else
             [one.value for one in drawn.alignment.unmapped(slug)])
            for slug, rows in drawn.alignment.lost.items()
        ],
        "proposals": [
            (names[key], one) for key in keys for one in drawn.alignment.unmapped(key)
            if one.how == "proposed"
        ],
        "licence": combined_lines(
            drawn.licence, sum(not one.licence for one in drawn.sources)
        ),
        "overlaps": [(names[one.a], names[one.b], one) for one in drawn.overlaps],
        "compare": reverse("compare") + question([("slug", slug) for slug in slugs])
        if len(slugs) >= FEWEST else "",
        "api_call": as_curl(address, params),
        "python_call": as_python(address, params, "rules"),
    }  # fmt: skip


def _pair(one: Score, names: dict[str, str]) -> dict[str, Any]:
    return {"a": names[one.a], "b": names[one.b], "score": one}
