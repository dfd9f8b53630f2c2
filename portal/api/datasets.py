"""Datasets: search with the same query object as the page, and one dataset whole."""

from __future__ import annotations

import dataclasses
from typing import Any

from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from catalog.citation import citation, text_of, to_bibtex, to_csl
from catalog.croissant import dataset_jsonld
from catalog.export import KEYS
from catalog.models import Dataset
from catalog.search import Query, search
from catalog.search.query import PARAMETERS
from catalog.search.results import NearHit
from catalog.search.suggest import did_you_mean
from fusion.acquisition import Plan, narrowed, plan_of, timed
from fusion.errors import BuildError
from fusion.recipe_files import descriptions_of
from portal.access import SignInError, user_of
from portal.acquisition import asked_plan
from portal.api import params
from portal.api.errors import ProblemOut
from portal.models import Scope
from workers.terms import accept, accepted

IN_RECORD = {"annotation", "conflicts"}
HIT_KEYS = tuple(field.name for field in dataclasses.fields(NearHit))
CITATIONS = ("text", "bibtex", "csl")
PARTS = ("subjects", "modality", "body_part")
YES = ("true", "false")


class SourceDescriptionOut(serializers.Serializer[Any]):
    """A shipped source description: what `description` in a recipe may name."""

    name = serializers.CharField()
    title = serializers.CharField()
    version = serializers.CharField()
    checked = serializers.CharField()
    documented = serializers.CharField()
    concepts = serializers.ListField(child=serializers.CharField())


class DatasetOut(serializers.ModelSerializer[Dataset]):
    source_descriptions = serializers.SerializerMethodField()

    class Meta:
        model = Dataset
        fields = [
            *(key for key in KEYS if key not in IN_RECORD),
            "quality",
            "record",
            "source_descriptions",
        ]

    @extend_schema_field(SourceDescriptionOut(many=True))
    def get_source_descriptions(self, dataset: Dataset) -> list[dict[str, Any]]:
        return [
            {
                "name": name,
                "title": one.name,
                "version": one.version,
                "checked": one.checked,
                "documented": one.documented,
                "concepts": one.concepts(),
            }
            for name, one in descriptions_of(dataset.slug)
        ]


class DatasetList(APIView):
    @extend_schema(
        operation_id="datasets_search",
        parameters=[*(OpenApiParameter(name, str) for name in PARAMETERS), params.FIELDS],
        responses={200: OpenApiTypes.OBJECT, 400: ProblemOut, 503: ProblemOut},
    )
    def get(self, request: Request) -> Response:
        """Search: understood, results (strict), near, total, facets, did_you_mean."""
        asked = request.query_params.copy()
        fields = params.chosen_fields(asked, HIT_KEYS)
        asked.pop("fields", None)
        query = Query.from_params(asked)
        data: dict[str, Any] = search(query).as_dict()
        data["did_you_mean"] = did_you_mean(
            query.text, data["total"], lambda text: search(query.replace(text=text, limit=1)).total
        )
        for part in ("results", "near"):
            data[part] = [params.pick(hit, fields) for hit in data[part]]
        return Response(data)


class DatasetDetail(APIView):
    @extend_schema(
        operation_id="datasets_read",
        parameters=[params.FIELDS],
        responses={200: DatasetOut, 404: ProblemOut},
    )
    def get(self, request: Request, slug: str) -> Response:
        """One dataset with its record: raw values, claims and sources."""
        params.check_known(request.query_params, ("fields",))
        fields = params.chosen_fields(request.query_params, DatasetOut.Meta.fields)
        return Response(params.pick(DatasetOut(get_object_or_404(Dataset, slug=slug)).data, fields))


class DatasetCroissant(APIView):
    @extend_schema(
        operation_id="datasets_croissant",
        responses={(200, "application/ld+json"): OpenApiTypes.OBJECT, 404: ProblemOut},
    )
    def get(self, request: Request, slug: str) -> Response:
        """One dataset as JSON-LD: Croissant 1.1, which is schema.org/Dataset too."""
        params.check_known(request.query_params, ())
        facts = get_object_or_404(Dataset, slug=slug).record
        page = request.build_absolute_uri(reverse("dataset", args=[slug]))
        return Response(dataset_jsonld(facts, page), content_type="application/ld+json")


class PlanOut(serializers.Serializer[Any]):
    """How one gets a dataset; see docs/sources.md."""

    connector = serializers.CharField()
    is_automatic = serializers.BooleanField()
    address = serializers.CharField()
    location = serializers.DictField(allow_null=True)
    to_pin = serializers.ListField(child=serializers.CharField())
    files = serializers.IntegerField(allow_null=True)
    bytes = serializers.IntegerField(allow_null=True)
    disk_bytes = serializers.IntegerField(allow_null=True)
    licence = serializers.CharField()
    terms = serializers.ListField(child=serializers.CharField())
    needs = serializers.ChoiceField(["none", "account", "application", "unknown"])
    variable = serializers.CharField(help_text="the credential that is used")
    accept = serializers.ListField(
        child=serializers.CharField(), help_text="terms to accept before a build fetches anything"
    )
    accept_digest = serializers.CharField(help_text="names these terms")
    accepted_at = serializers.DateTimeField(allow_null=True, help_text="by the user who asks")
    expects = serializers.ListField(
        child=serializers.CharField(), help_text="files that a shipped description reads"
    )
    seconds = serializers.IntegerField(allow_null=True, help_text="that fetching takes, about")
    speed = serializers.ChoiceField(
        ["", "measured", "stated", "limit"], help_text="where the time is known from"
    )
    selected = serializers.BooleanField()
    subjects = serializers.IntegerField(allow_null=True)
    series = serializers.IntegerField(allow_null=True)
    steps = serializers.ListField(child=serializers.CharField())


class DatasetAcquisition(APIView):
    @extend_schema(
        operation_id="datasets_acquisition",
        parameters=[
            *(OpenApiParameter(name, str) for name in PARTS),
            OpenApiParameter("mbit", int, description="megabits a second, for the time it takes"),
            OpenApiParameter(
                "ask", str, enum=list(YES), description="true: ask the place for files and bytes"
            ),
            OpenApiParameter(
                "pattern", str, many=True, description="of paths that are wanted; asks the place"
            ),
        ],
        responses={200: PlanOut, 400: ProblemOut, 401: ProblemOut, 404: ProblemOut},
    )
    def get(self, request: Request, slug: str) -> Response:
        """How to get it: connector, location, bytes, time, terms and steps.

        For Imaging Data Commons `subjects` (the first so many), `modality` and `body_part` choose
        a part, with exact files and bytes. With `ask` or `pattern` the place is asked, with the
        user's own credential: the newest version is named, files and bytes are of the part.
        """
        params.check_known(request.query_params, (*PARTS, "mbit", "ask", "pattern"))
        patterns = request.query_params.getlist("pattern")
        is_asked = params.choice(request.query_params, "ask", YES) == "true" or bool(patterns)
        mbit = params.count(request.query_params, "mbit", 0, 1_000_000)
        subjects = params.count(request.query_params, "subjects", 0, 1_000_000)
        modality, body_part = (request.query_params.get(name, "") for name in PARTS[1:])
        plan = plan_of(get_object_or_404(Dataset, slug=slug).record)
        if subjects or modality or body_part:
            try:
                plan = narrowed(
                    plan, subjects=subjects or None, modality=modality, body_part=body_part
                )
            except BuildError as error:
                name = "modality" if modality else "body_part" if body_part else "subjects"
                found = request.query_params[name]
                raise params.refused(name, found, "a part of the dataset", str(error)) from error
        if is_asked:
            try:
                plan = asked_plan(request, plan, patterns)
            except BuildError as error:
                expected = "a place that tells it"
                raise params.refused("ask", plan.connector, expected, str(error)) from error
        return Response(_plan_data(request, slug, timed(plan, mbit or None)))


class TermsIn(serializers.Serializer[Any]):
    """The terms that are accepted: `accept_digest` of the acquisition plan."""

    digest = serializers.RegexField("^[0-9a-f]{64}$")


class DatasetTerms(APIView):
    scope = Scope.RUN

    @extend_schema(
        operation_id="datasets_accept_terms",
        request=TermsIn,
        responses={
            200: PlanOut, 400: ProblemOut, 401: ProblemOut, 404: ProblemOut, 409: ProblemOut,
        },
    )  # fmt: skip
    def post(self, request: Request, slug: str) -> Response:
        """Accept a dataset's terms, on record; a run that fetches it asks for that.

        Other terms than the ones that are named are a 409.
        """
        params.check_known(request.query_params, ())
        user = user_of(request)
        if user is None:
            raise SignInError("Sign in, or send a token with the scope run")
        body = TermsIn(data=request.data)
        body.is_valid(raise_exception=True)
        plan = plan_of(get_object_or_404(Dataset, slug=slug).record)
        accept(plan, slug, user, body.validated_data["digest"])
        return Response(_plan_data(request, slug, plan))


def _plan_data(request: Request, slug: str, plan: Plan) -> dict[str, Any]:
    row = accepted(plan, slug, user_of(request))
    return dict(PlanOut({**plan.as_dict(), "accepted_at": row and row.accepted_at}).data)


class DatasetCitation(APIView):
    @extend_schema(
        operation_id="datasets_citation",
        parameters=[OpenApiParameter("style", str, enum=CITATIONS)],
        responses={
            (200, "text/plain"): OpenApiTypes.STR,
            (200, "application/x-bibtex"): OpenApiTypes.STR,
            (200, "application/json"): OpenApiTypes.ANY,
            400: ProblemOut,
            404: ProblemOut,
        },
    )
    def get(self, request: Request, slug: str) -> HttpResponse:
        """How to cite it: one line of text, BibTeX or CSL-JSON."""
        params.check_known(request.query_params, ("style",))
        style = params.choice(request.query_params, "style", CITATIONS) or "text"
        facts = get_object_or_404(Dataset, slug=slug).record
        if style == "csl":
            return Response(to_csl([facts]))
        text = to_bibtex([facts]) if style == "bibtex" else text_of(citation(facts)) + "\n"
        media = "application/x-bibtex" if style == "bibtex" else "text/plain"
        return HttpResponse(text, content_type=f"{media}; charset=utf-8")
