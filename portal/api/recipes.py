"""Recipes: the shipped examples, and the check that a run begins with."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from catalog.models import Dataset
from catalog.services import facts_of, overlap_graph
from fusion.errors import Problem, RecipeError
from fusion.recipe import Recipe, check_recipe, example_recipes, load_recipe, nearest, resolve
from portal.api import params
from portal.api.errors import ProblemOut
from portal.models import Scope


class RecipeIn(serializers.Serializer[Any]):
    """Either a recipe or the name of a shipped one."""

    recipe = serializers.JSONField(required=False, help_text="a recipe (docs/fusing-your-data.md)")
    example = serializers.CharField(required=False, help_text="name of a shipped recipe")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        unknown = sorted(set(self.initial_data) - set(self.fields))
        if unknown:
            hint = nearest(unknown[0], self.fields)
            message = f"unknown key {unknown[0]!r}, expected recipe or example{hint}"
            raise serializers.ValidationError({unknown[0]: message})
        if ("recipe" in attrs) == ("example" in attrs):
            raise serializers.ValidationError("give either recipe or example")
        if "recipe" in attrs and not isinstance(attrs["recipe"], dict):
            raise serializers.ValidationError({"recipe": "expected an object of keys"})
        return attrs

    def recipe_data(self) -> dict[str, Any]:
        """The recipe with its source descriptions in place.

        Raises:
            RecipeError: no such example, or a description that is not shipped.
        """
        if (name := self.validated_data.get("example")) is not None:
            shipped = example_recipes()
            if name not in shipped:
                expected = f"one of {', '.join(shipped)}"
                message = f"example: found {name!r}, expected {expected}{nearest(name, shipped)}"
                raise RecipeError([Problem("example", name, expected, message)])
            return load_recipe(shipped[name])
        return resolve(self.validated_data["recipe"])

    def checked(self) -> Recipe:
        """The checked recipe.

        Raises:
            RecipeError: with every problem found.
        """
        known = set(Dataset.objects.values_list("slug", flat=True))
        return check_recipe(self.recipe_data(), known, overlap_graph(), facts_of)


class RecipeOut(serializers.Serializer[Any]):
    name = serializers.CharField(allow_null=True, help_text="of a shipped recipe")
    title = serializers.CharField()
    about = serializers.CharField()
    task = serializers.CharField()
    datasets = serializers.ListField(child=serializers.CharField())
    recipe = serializers.JSONField(help_text="the resolved recipe")


class RecipeListOut(serializers.Serializer[Any]):
    total = serializers.IntegerField()
    next = serializers.URLField(allow_null=True)
    results = RecipeOut(many=True)


class RecipeList(APIView):
    @extend_schema(operation_id="recipes_list", responses={200: RecipeListOut, 400: ProblemOut})
    def get(self, request: Request) -> Response:
        """The shipped example recipes."""
        params.check_known(request.query_params, ())
        found = [_described(load_recipe(path), name) for name, path in example_recipes().items()]
        return Response({"total": len(found), "next": None, "results": found})


class RecipeValidate(APIView):
    scope = Scope.READ

    @extend_schema(
        operation_id="recipes_validate",
        request=RecipeIn,
        responses={200: RecipeOut, 400: ProblemOut, 422: ProblemOut},
    )
    def post(self, request: Request) -> Response:
        """Check a recipe without running it; every problem is named with its place."""
        params.check_known(request.query_params, ())
        body = RecipeIn(data=request.data)
        body.is_valid(raise_exception=True)
        return Response(_described(body.checked().as_dict(), body.validated_data.get("example")))


def _described(recipe: dict[str, Any], name: str | None) -> dict[str, Any]:
    return {
        "name": name,
        "title": recipe["title"],
        "about": recipe.get("about", ""),
        "task": recipe["task"],
        "datasets": [source["dataset"] for source in recipe["sources"]],
        "recipe": recipe,
    }
