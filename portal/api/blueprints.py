"""What a fusion of catalogued datasets would be, and who fits whom: before any file is read."""

from __future__ import annotations

from typing import Any, cast

from django.http import Http404
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from catalog.rules import Rules, parse_rules
from fusion.blueprint import FEWEST, MODES, MOST, PROFILES
from fusion.partners import LIMIT
from fusion.services import blueprint, choice, goal, partners, set_of_rules
from portal.access import user_of
from portal.api import params
from portal.api.errors import ProblemOut
from portal.api.rules import RulesParser
from portal.models import Scope
from workers.own import chosen_data

FLAGS = ("true", "false")
GOAL = ("modality", "anatomy", "task")
MOST_PARTNERS = 100
CHOICES = ("mode", "profile", "task", "accept_confounding")


class DescribedIn(serializers.Serializer[Any]):
    """Datasets of the catalog, described folders and one's own data, two to six in all."""

    slug = serializers.ListField(child=serializers.CharField(), default=list)
    described = serializers.DictField(
        child=serializers.DictField(),
        default=dict,
        help_text="name -> source description; the slug, where it is a copy of a dataset",
    )
    own = serializers.ListField(
        child=serializers.CharField(),
        default=list,
        help_text="names of data that one has uploaded and keeps here",
    )
    mode = serializers.CharField(default="", allow_blank=True)
    profile = serializers.CharField(default="", allow_blank=True)
    task = serializers.CharField(default="", allow_blank=True)
    accept_confounding = serializers.BooleanField(default=False)


class BlueprintView(APIView):
    scope = Scope.READ

    @extend_schema(
        operation_id="blueprint",
        parameters=[
            OpenApiParameter("slug", str, many=True, required=True,
                             description=f"{FEWEST} to {MOST} datasets"),
            OpenApiParameter("mode", str, enum=MODES),
            OpenApiParameter("profile", str, enum=PROFILES),
            OpenApiParameter("task", str, description="a task; the first in common unless given"),
            OpenApiParameter("accept_confounding", bool),
        ],
        responses={200: OpenApiTypes.OBJECT, 400: ProblemOut},
    )  # fmt: skip
    def get(self, request: Request) -> Response:
        """Every eligibility rule with what it saw, scores, overlaps, licence, labels, splits."""
        query = request.query_params
        params.check_known(query, ("slug", *CHOICES))
        chosen = choice(
            *(query.get(name, "") for name in ("mode", "profile", "task")),
            accept_confounding=params.choice(query, "accept_confounding", FLAGS) == "true",
        )
        return Response(blueprint(query.getlist("slug"), chosen).as_dict())

    @extend_schema(
        operation_id="blueprint_described",
        request=DescribedIn,
        responses={200: OpenApiTypes.OBJECT, 400: ProblemOut, 422: ProblemOut},
    )
    def post(self, request: Request) -> Response:
        """The same with local folders, each by its source description, and with one's own data.

        Nothing is stored.
        """
        data = DescribedIn(data=request.data)
        data.is_valid(raise_exception=True)
        asked = data.validated_data
        chosen = choice(
            asked["mode"], asked["profile"], asked["task"],
            accept_confounding=asked["accept_confounding"],
        )  # fmt: skip
        mine = chosen_data(asked["own"], user_of(request))
        return Response(blueprint(asked["slug"], chosen, asked["described"], mine).as_dict())


class DatasetPartners(APIView):
    @extend_schema(
        operation_id="datasets_partners",
        parameters=[OpenApiParameter("limit", int, description=f"{LIMIT} unless given")],
        responses={200: OpenApiTypes.OBJECT, 400: ProblemOut, 404: ProblemOut},
    )
    def get(self, request: Request, slug: str) -> Response:
        """The datasets that fit this one best, and how many each rule turns away."""
        params.check_known(request.query_params, ("limit",))
        limit = params.count(request.query_params, "limit", LIMIT, MOST_PARTNERS)
        known = partners()
        if slug not in known:
            raise Http404(f"dataset: found {slug!r}, expected a slug of the catalog")
        found = known.of(slug, limit)
        return Response(
            {
                "dataset": slug,
                "total": found.total,
                "blocked": found.blocked,
                "results": [one.as_dict() for one in found.partners],
            }
        )


class BlueprintGoal(APIView):
    @extend_schema(
        operation_id="blueprint_goal",
        parameters=[OpenApiParameter(name, str, required=True) for name in GOAL],
        responses={200: OpenApiTypes.OBJECT, 400: ProblemOut},
    )
    def get(self, request: Request) -> Response:
        """The set of datasets that fits a modality, an anatomy and a task best."""
        query = request.query_params
        params.check_known(query, GOAL)
        wanted = goal(*(query.get(name, "") for name in GOAL))
        return Response(partners().for_goal(wanted).as_dict())


class BlueprintRules(APIView):
    scope = Scope.READ
    parser_classes = (RulesParser,)

    @extend_schema(
        operation_id="blueprint_rules",
        request=OpenApiTypes.OBJECT,
        responses={200: OpenApiTypes.OBJECT, 400: ProblemOut},
    )
    def post(self, request: Request) -> Response:
        """The set of datasets that fits best among those that a rule file keeps."""
        params.check_known(request.query_params, ())
        given = cast("dict[str, Rules]", request.data)  # empty where there is no body to parse
        rules = given.get("rules") or parse_rules("")
        return Response(set_of_rules(rules).as_dict())
