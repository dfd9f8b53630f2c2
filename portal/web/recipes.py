"""Recipes: the shipped ones, and one's own as text."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST

from fusion.errors import RecipeError
from fusion.recipe import example_recipes, load_recipe, parse, resolve
from workers.submit import submit_run


def _page(request: HttpRequest, status: int = 200, **extra: object) -> HttpResponse:
    shipped = [(name, load_recipe(path)) for name, path in example_recipes().items()]
    return render(request, "recipes/list.html", {"shipped": shipped, **extra}, status=status)


def index(request: HttpRequest) -> HttpResponse:
    """Every shipped recipe with a button, and a field for one's own."""
    return _page(request)


@require_POST
def start(request: HttpRequest) -> HttpResponse:
    """Queue a run and show it; a recipe that cannot run comes back with its problems."""
    name, text = request.POST.get("example", ""), request.POST.get("recipe", "")
    shipped = example_recipes()
    try:
        data = load_recipe(shipped[name]) if name in shipped else resolve(parse(text))
        run = submit_run(data)
    except RecipeError as error:
        return _page(request, 422, errors=error.errors, text=text)
    return redirect("run", run_id=run.pk)
