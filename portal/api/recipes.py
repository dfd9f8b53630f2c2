"""Recipes: the shipped examples, drafts from datasets, their labels, and the check of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from catalog.faults import FaultsError
from fusion.errors import Problem, RecipeError, nearest
from fusion.gates import gates_of
from fusion.label_choices import read_meaning, with_meanings
from fusion.recipe import Recipe
from fusion.recipe_draft import Draft, read_draft, step_of
from fusion.recipe_files import example_recipes, load_recipe, shipped_recipes
from fusion.services import choice, drafted, labels, outlooks
from portal.access import user_of
from portal.api import params
from portal.api.blueprints import DescribedIn
from portal.api.errors import ProblemOut
from portal.models import Scope
from workers.own import checked_draft, checked_recipe, chosen_data, own_data, own_draft


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
        """The recipe as it was given.

        Raises:
            RecipeError: no such example.
        """
        if (name := self.validated_data.get("example")) is not None:
            shipped = example_recipes()
            if name not in shipped:
                expected = f"one of {', '.join(shipped)}"
                message = f"example: found {name!r}, expected {expected}{nearest(name, shipped)}"
                raise RecipeError([Problem("example", name, expected, message)])
            return load_recipe(shipped[name])
        recipe: dict[str, Any] = self.validated_data["recipe"]
        return recipe

    def checked(self, request: Request) -> Recipe:
        """The checked recipe; own data are those of who asks.

        Raises:
            RecipeError: with every problem found.
        """
        return checked_recipe(self.recipe_data(), user_of(request))


class RecipeOut(serializers.Serializer[Any]):
    name = serializers.CharField(allow_null=True, help_text="of a shipped recipe")
    title = serializers.CharField()
    about = serializers.CharField()
    task = serializers.CharField()
    datasets = serializers.ListField(child=serializers.CharField())
    recipe = serializers.JSONField(help_text="the resolved recipe")


class RecipeCheckedOut(RecipeOut):
    gates = serializers.ListField(
        child=serializers.DictField(),
        help_text="every eligibility rule: code, verdict (pass, warn, accepted, block), detail",
    )


class DraftIn(DescribedIn):
    """Datasets and choices as for a blueprint, and a draft that is to have other datasets."""

    recipe = serializers.JSONField(required=False, help_text="an earlier draft")

    def validate_recipe(self, value: Any) -> dict[str, Any]:
        return _mapping(value)


class LabelsIn(serializers.Serializer[Any]):
    """A draft, and labels that are to mean something else."""

    recipe = serializers.JSONField(help_text="a recipe, unfinished ones too")
    meanings = serializers.DictField(
        child=serializers.DictField(child=serializers.CharField()),
        default=dict,
        help_text="id of a source -> key of a label -> concepts joined by +, background or ignore",
    )

    def validate_recipe(self, value: Any) -> dict[str, Any]:
        return _mapping(value)


class RecipeListOut(serializers.Serializer[Any]):
    total = serializers.IntegerField()
    next = serializers.URLField(allow_null=True)
    results = RecipeOut(many=True)


class RecipeList(APIView):
    @extend_schema(operation_id="recipes_list", responses={200: RecipeListOut, 400: ProblemOut})
    def get(self, request: Request) -> Response:
        """The shipped example recipes."""
        params.check_known(request.query_params, ())
        found = [_described(recipe, name) for name, recipe in shipped_recipes().items()]
        return Response({"total": len(found), "next": None, "results": found})


class RecipeValidate(APIView):
    scope = Scope.READ

    @extend_schema(
        operation_id="recipes_validate",
        request=RecipeIn,
        responses={200: RecipeCheckedOut, 400: ProblemOut, 422: ProblemOut},
    )
    def post(self, request: Request) -> Response:
        """Check a recipe without running it; every problem is named with its place."""
        params.check_known(request.query_params, ())
        body = RecipeIn(data=request.data)
        body.is_valid(raise_exception=True)
        recipe = body.checked(request)
        data = _described(recipe.as_dict(), body.validated_data.get("example"))
        return Response({**data, "gates": [asdict(gate) for gate in gates_of(recipe)]})


class RecipeDraft(APIView):
    scope = Scope.READ

    @extend_schema(
        operation_id="recipes_draft",
        request=DraftIn,
        responses={200: OpenApiTypes.OBJECT, 400: ProblemOut, 422: ProblemOut},
    )
    def post(self, request: Request) -> Response:
        """The recipe of a blueprint as far as it goes, and what is still to do in which step."""
        params.check_known(request.query_params, ())
        body = DraftIn(data=request.data)
        body.is_valid(raise_exception=True)
        asked = body.validated_data
        chosen = choice(
            asked["mode"], asked["profile"], asked["task"],
            accept_confounding=asked["accept_confounding"],
        )  # fmt: skip
        mine = chosen_data(asked["own"], user_of(request))
        draft = drafted(asked["slug"], chosen, asked["described"], asked.get("recipe"), mine)
        return Response(_drafted(draft, user_of(request)))


class RecipeLabels(APIView):
    scope = Scope.READ

    @extend_schema(
        operation_id="recipes_labels",
        request=LabelsIn,
        responses={200: OpenApiTypes.OBJECT, 400: ProblemOut, 422: ProblemOut},
    )
    def post(self, request: Request) -> Response:
        """Each label's concept with proposals; what intersection and union take, lose and refuse.

        `recipe` in the answer has the given meanings.
        """
        params.check_known(request.query_params, ())
        body = LabelsIn(data=request.data)
        body.is_valid(raise_exception=True)
        draft = own_draft(body.validated_data["recipe"], user_of(request))
        if meanings := body.validated_data["meanings"]:
            draft = _with_meanings(draft, meanings)
        return Response({"recipe": draft.data, "labels": labels(draft).as_dict()})


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise serializers.ValidationError("expected an object of keys")
    return value


def _drafted(draft: Draft, owner: Any) -> dict[str, Any]:
    found = checked_draft(draft, owner)
    return {
        "recipe": draft.data,
        "undescribed": draft.undescribed,
        "next_step": found.first_step,
        "problems": [{**asdict(one), "step": step_of(one.path)} for one in found.problems],
        "gates": [asdict(gate) for gate in found.gates],
        "sources": [one.as_dict() for one in outlooks(draft, own_data(owner))],
    }


def _with_meanings(draft: Draft, meanings: Mapping[str, Mapping[str, str]]) -> Draft:
    """The draft with other meanings.

    Raises:
        RecipeError: no source or label is called that, or no concept.
    """
    problems, rows = [], [dict(row) for row in draft.data["sources"]]
    known = {one.id: one for one in labels(draft).sources}
    if unknown := [name for name in meanings if name not in known]:
        expected = f"one of {', '.join(known)}"
        problems += [_refused(f"meanings.{name}", name, expected) for name in unknown]
    for index, source in enumerate(draft.sources):
        chosen = {}
        for key, text in meanings.get(source.id, {}).items():
            place = f"meanings.{source.id}.{key}"
            if key not in (keys := [label.key for label in known[source.id].labels]):
                problems.append(_refused(place, key, f"one of {', '.join(keys[:20])}"))
                continue
            try:
                chosen[key] = read_meaning(text, place)
            except FaultsError as error:
                problems += [
                    Problem(one.path, one.found, one.expected, one.message) for one in error.faults
                ]
        if chosen and source.data is not None:
            rows[index]["description"] = with_meanings(source.data, chosen)
    if problems:
        raise RecipeError(problems)
    return read_draft({**draft.data, "sources": rows})


def _refused(path: str, found: str, expected: str) -> Problem:
    return Problem(path, found, expected, f"{path}: found {found!r}, expected {expected}")


def _described(recipe: dict[str, Any], name: str | None) -> dict[str, Any]:
    return {
        "name": name,
        "title": recipe["title"],
        "about": recipe.get("about", ""),
        "task": recipe["task"],
        "datasets": [source["dataset"] for source in recipe["sources"]],
        "recipe": recipe,
    }
