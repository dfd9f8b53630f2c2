"""From a blueprint to a run, step by step: the draft of the recipe is all that a step knows.

It is in the address, so that every step can be kept and sent; a draft that is too long for one
travels in the form instead.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import yaml
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.text import slugify
from django.views.decorators.http import require_http_methods, require_POST

from catalog.search import QueryError
from fusion.blueprint import FEWEST, MOST
from fusion.errors import BuildError, Problem, RecipeError
from fusion.recipe_draft import STEPS, Checked, Draft, read_draft
from fusion.recipe_files import parse, resolve
from fusion.services import choice, drafted
from portal.access import SignInError, check_may_start, user_of
from portal.web.paging import LONGEST_ADDRESS, question
from portal.web.recipes import example_path, text_of
from portal.web.wizard import labels, licences, splits, start, target
from workers.own import checked_draft, chosen_data, own_draft
from workers.submit import submit_run

TITLES = {
    "datasets": "Datasets and fit",
    "labels": "Labels",
    "target": "Target",
    "splits": "Splits",
    "licences": "Licences and files",
    "start": "Start",
}
PAGES = {"labels": labels, "target": target, "splits": splits, "licences": licences, "start": start}
FORMATS = {"yaml": "application/yaml", "json": "application/json"}


@require_http_methods(["GET", "HEAD", "POST"])
def index(request: HttpRequest, step: str) -> HttpResponse:
    """One step with what was drafted so far; a form that cannot be read is a 422."""
    asked = request.POST if request.method == "POST" else request.GET
    try:
        draft, is_new = _given(request, asked)
    except (QueryError, RecipeError) as error:
        return _nothing(request, error)
    if draft is None:
        return redirect("blueprint")
    if is_new:
        go = asked.get("go") or step
        return _download(draft, go) if go in FORMATS else _go(request, go, draft)
    return (
        _filled(request, step, draft) if request.method == "POST" else _page(request, step, draft)
    )


def _filled(request: HttpRequest, step: str, draft: Draft) -> HttpResponse:
    """The form of a step, read into the draft, and where its button leads."""
    data, wrong = PAGES[step].apply(draft, request)
    if wrong:
        return _page(request, step, draft, wrong)
    try:
        draft = own_draft(data, user_of(request))
    except RecipeError as error:
        return _page(request, step, draft, list(error.problems))
    go = request.POST.get("go") or step
    if go in FORMATS:
        return _download(draft, go)
    return _start(request, draft) if go == "run" else _go(request, go, draft)


@require_POST
def opened(request: HttpRequest) -> HttpResponse:
    """A recipe that somebody has goes on where something is missing, else at its start."""
    try:
        draft = own_draft(parse(text_of(request)), user_of(request))
    except RecipeError as error:
        return _nothing(request, error, request.POST.get("recipe", ""))
    return _go(request, checked_draft(draft, user_of(request)).first_step, draft)


def _given(request: HttpRequest, asked: QueryDict) -> tuple[Draft | None, bool]:
    """The draft in a form or an address, and whether it is made only now.

    Raises:
        QueryError, RecipeError: as of fusion.services.drafted and workers.own.chosen_data.
    """
    text, owner = asked.get("recipe", ""), user_of(request)
    if example := asked.get("example", ""):
        return read_draft(parse(example_path(example).read_text("utf-8"))), True
    described = parse(asked.get("described", "")) if asked.get("described") else {}
    slugs, own = asked.getlist("slug"), asked.getlist("own")
    if slugs or own or described:
        wanted = choice(
            *(asked.get(name, "") for name in ("mode", "profile", "task")),
            accept_confounding=bool(asked.get("accept_confounding")),
        )
        earlier = parse(text) if text else None
        return drafted(slugs, wanted, described, earlier, chosen_data(own, owner)), True
    return (own_draft(parse(text), owner) if text else None), False


def address(step: str, draft: Draft) -> str:
    """The address of a step with its draft."""
    if step == STEPS[0]:
        params = _datasets(draft)
        params += [(key, str(draft.data.get(key))) for key in ("mode",) if draft.data.get(key)]
        return reverse("blueprint") + question([*params, ("recipe", compact(draft))])
    return reverse(f"blueprint-{step}") + question([("recipe", compact(draft))])


def _datasets(draft: Draft) -> list[tuple[str, str]]:
    return [*(("slug", slug) for slug in draft.slugs), *(("own", name) for name in draft.own)]


def compact(draft: Draft) -> str:
    """The draft as short JSON."""
    return json.dumps(draft.data, separators=(",", ":"), ensure_ascii=False)


def _go(request: HttpRequest, step: str, draft: Draft) -> HttpResponse:
    target = address(step if step in STEPS else STEPS[1], draft)
    if len(target) <= LONGEST_ADDRESS:
        return redirect(target)
    if step == STEPS[0]:  # that page begins with the datasets alone
        return redirect(reverse("blueprint") + question(_datasets(draft)))
    return _page(request, step, draft, is_long=True)


def _page(
    request: HttpRequest,
    step: str,
    draft: Draft,
    wrong: list[Problem] | None = None,
    *,
    is_long: bool = False,
    **extra: Any,
) -> HttpResponse:
    found = checked_draft(draft, user_of(request))
    shown = wrong if wrong is not None else found.of(step)
    position = STEPS.index(step)
    context = {
        "step": step,
        "title": TITLES[step],
        "steps": _steps(step, found),
        "before": STEPS[position - 1],
        "after": STEPS[position + 1] if position + 1 < len(STEPS) else "",
        "after_title": TITLES.get(STEPS[position + 1], "") if step != STEPS[-1] else "",
        "draft": draft,
        "compact": compact(draft),
        "written": as_yaml(draft.data),
        "is_wrong": wrong is not None,
        "problems": [vars(problem) for problem in shown],
        "is_long": is_long,
        "checked": found,
        **PAGES[step].context(draft, found, request.POST if wrong else {}),
        **extra,
    }
    # htmx shows no answer that is an error.
    status = (
        HTTPStatus.UNPROCESSABLE_ENTITY if wrong and not request.headers.get("HX-Request") else 200
    )
    answer = render(request, f"wizard/{step}.html", context, status=status)
    if is_long or wrong:
        answer["HX-Push-Url"] = "false"
    return answer


def _steps(current: str, found: Checked) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "title": TITLES[name],
            "is_current": name == current,
            "problems": len(found.of(name)),
        }
        for name in STEPS
    ]


def _nothing(request: HttpRequest, error: QueryError | RecipeError, text: str = "") -> HttpResponse:
    """There is nothing to go on with: the first page says why."""
    is_recipe = isinstance(error, RecipeError)
    context = {
        **({"recipe_problems": error.errors} if is_recipe else {"errors": error.errors}),
        "text": text,
        "fewest": FEWEST,
        "most": MOST,
    }
    status = HTTPStatus.UNPROCESSABLE_ENTITY if is_recipe else HTTPStatus.BAD_REQUEST
    return render(request, "blueprint.html", context, status=status)


def _download(draft: Draft, kind: str) -> HttpResponse:
    text = as_yaml(draft.data) if kind == "yaml" else json.dumps(
        draft.data, indent=2, ensure_ascii=False
    ) + "\n"  # fmt: skip
    name = slugify(str(draft.data.get("title", "")))[:60] or "recipe"
    answer = HttpResponse(text, content_type=f"{FORMATS[kind]}; charset=utf-8")
    answer["Content-Disposition"] = f'attachment; filename="{name}.{kind}"'
    return answer


def as_yaml(data: Mapping[str, Any]) -> str:
    """A recipe as a person writes it: keys in their order, short lists on one line."""
    return str(yaml.safe_dump(dict(data), sort_keys=False, allow_unicode=True, width=100))


def _start(request: HttpRequest, draft: Draft) -> HttpResponse:
    """Queue the run of a draft; what stands in its way is shown."""
    try:
        check_may_start(request)
    except SignInError:
        target = address("start", draft)
        kept = target if len(target) <= LONGEST_ADDRESS else reverse("blueprint")
        return redirect_to_login(kept)
    found = checked_draft(draft, user_of(request))
    if found.problems:
        return _page(request, "start", draft, list(found.problems))
    try:
        run = submit_run(resolve(draft.data), owner=user_of(request))
    except RecipeError as error:
        return _page(request, "start", draft, list(error.problems))
    except BuildError as error:
        problem = Problem(error.code, "", "", f"There is no room: {error}")
        return _page(request, "start", draft, [problem])
    return HttpResponseRedirect(reverse("run", args=[run.pk]))
