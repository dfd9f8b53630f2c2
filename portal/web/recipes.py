"""Recipes: the shipped ones, and one's own as text or file."""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from catalog.models import Dataset
from fusion.errors import BuildError, Problem, RecipeError
from fusion.recipe_files import RECIPES, example_recipes, load_recipe, parse, shipped_recipes
from portal.access import SignInError, check_may_start, user_of
from workers.own import checked_recipe
from workers.submit import submit_run

LARGEST_BYTES = 256 * 1024


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    """Every shipped recipe with a button, and a field for one's own."""
    return _page(request)


@require_POST
def start(request: HttpRequest) -> HttpResponse:
    """Queue a run and show it; a recipe that cannot run comes back with its problems."""
    text = ""
    try:
        check_may_start(request)
    except SignInError:
        return redirect_to_login(reverse("recipes"))
    try:
        if "example" in request.POST:
            data = load_recipe(example_path(request.POST["example"]))
        else:
            text = text_of(request)
            data = parse(text)
        if request.POST.get("action") == "check":
            recipe = checked_recipe(data, user_of(request))
            return _page(request, text=text, valid=recipe.as_dict())
        run = submit_run(data, owner=user_of(request))
    except RecipeError as error:
        return _page(request, status=422, problems=error.errors, text=text)
    except BuildError as error:
        no_room = {"code": error.code, "message": str(error)}
        return _page(request, status=HTTPStatus.INSUFFICIENT_STORAGE, no_room=no_room, text=text)
    return redirect("run", run_id=run.pk)


def _page(request: HttpRequest, status: int = 200, **extra: Any) -> HttpResponse:
    known = _known_datasets()
    context = {
        "shipped": [_card(name, recipe, known) for name, recipe in shipped_recipes().items()],
        "descriptions": sorted(path.stem for path in (RECIPES / "sources").glob("*.yaml")),
        "text": "",
        **extra,
    }
    return render(request, "recipes/list.html", context, status=status)


def _card(name: str, recipe: dict[str, Any], known: set[str]) -> dict[str, Any]:
    sources = [
        {
            "name": source["description"]["name"],
            "dataset": source["dataset"],
            "is_known": source["dataset"] in known,
        }
        for source in recipe["sources"]
    ]
    places = [source["location"] for source in recipe["sources"]]
    missing = [
        place["path"]
        for place in places
        if place["kind"] in {"local", "manual"}
        and not (Path(settings.DATA_ROOT) / place["path"]).is_dir()
    ]
    text = example_path(name).read_text(encoding="utf-8")
    return {"name": name, "recipe": recipe, "sources": sources, "missing": missing, "text": text}


def _known_datasets() -> set[str]:
    return set(Dataset.objects.values_list("slug", flat=True))


def example_path(name: str) -> Path:
    """The file of a shipped recipe.

    Raises:
        RecipeError: there is none of this name.
    """
    shipped = example_recipes()
    if name not in shipped:
        expected = f"one of {', '.join(shipped)}"
        raise _refused("example", name, expected, f"example: found {name!r}, expected {expected}")
    return shipped[name]


def text_of(request: HttpRequest) -> str:
    """The uploaded file, else the text field.

    Raises:
        RecipeError: too large, not text, or nothing at all.
    """
    if upload := request.FILES.get("file"):
        return read_text(upload, "file")
    text = request.POST.get("recipe", "")
    if not text.strip():
        message = "recipe: found nothing, expected YAML or JSON in the field or in a file"
        raise _refused("recipe", "nothing", "YAML or JSON", message)
    if len(text) > LARGEST_BYTES:
        expected = f"at most {LARGEST_BYTES} characters"
        message = f"recipe: found {len(text)} characters, expected {expected}"
        raise _refused("recipe", f"{len(text)} characters", expected, message)
    return text


def read_text(upload: Any, place: str) -> str:
    """The text of an uploaded file.

    Raises:
        RecipeError: it is empty, too large or no text; `place` is named.
    """
    size = upload.size or 0
    if not 0 < size <= LARGEST_BYTES:
        expected = f"1 to {LARGEST_BYTES} bytes"
        message = f"{place}: found {size} bytes, expected {expected}"
        raise _refused(place, f"{size} bytes", expected, message)
    try:
        text: str = upload.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        message = f"{place}: no UTF-8 text at byte {error.start}"
        raise _refused(place, f"byte {error.start}", "UTF-8 text", message) from error
    return text


def _refused(path: str, found: str, expected: str, message: str) -> RecipeError:
    return RecipeError([Problem(path, found, expected, message)])
