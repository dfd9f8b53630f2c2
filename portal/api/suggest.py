"""What a search box offers while one types: concepts with counts, and datasets by name."""

from __future__ import annotations

from typing import Any

from django.urls import reverse
from drf_spectacular.utils import OpenApiParameter, PolymorphicProxySerializer, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from catalog.search.facets import TITLES
from catalog.search.suggest import (
    LIMIT,
    MAX_LIMIT,
    ConceptSuggestion,
    DatasetSuggestion,
    Suggestion,
    current,
)
from portal.api import params
from portal.api.errors import ProblemOut


class ConceptSuggestionOut(serializers.Serializer[ConceptSuggestion]):
    """A term of the vocabulary; taking it leaves `text` in the search box."""

    kind = serializers.ChoiceField(["concept"])
    facet = serializers.CharField()
    facet_title = serializers.CharField()
    term = serializers.CharField()
    count = serializers.IntegerField(help_text="datasets that carry it or a narrower term")
    matched = serializers.CharField(allow_null=True, help_text="the synonym that was typed")
    text = serializers.CharField()


class DatasetSuggestionOut(serializers.Serializer[DatasetSuggestion]):
    """A dataset; taking it opens `url`."""

    kind = serializers.ChoiceField(["dataset"])
    slug = serializers.CharField()
    name = serializers.CharField()
    matched = serializers.CharField(allow_null=True, help_text="the alias or slug that was typed")
    year = serializers.IntegerField(allow_null=True)
    url = serializers.CharField()


class SuggestionsOut(serializers.Serializer[Any]):
    q = serializers.CharField()
    results = PolymorphicProxySerializer(
        component_name="Suggestion",
        serializers={"concept": ConceptSuggestionOut, "dataset": DatasetSuggestionOut},
        resource_type_field_name="kind",
        many=True,
    )


class Suggest(APIView):
    @extend_schema(
        operation_id="suggest",
        parameters=[
            OpenApiParameter("q", str, description="what has been typed so far"),
            OpenApiParameter("limit", int, description=f"1 to {MAX_LIMIT}, else {LIMIT}"),
        ],
        responses={200: SuggestionsOut, 400: ProblemOut},
    )
    def get(self, request: Request) -> Response:
        """Concepts and datasets that what was typed may become, best first."""
        params.check_known(request.query_params, ("q", "limit"))
        limit = params.count(request.query_params, "limit", LIMIT, MAX_LIMIT)
        text = request.query_params.get("q", "")
        found = current().suggest(text, limit) if text.strip() else ()
        return Response({"q": text, "results": [_shown(item) for item in found]})


def _shown(item: Suggestion) -> dict[str, Any]:
    if isinstance(item, ConceptSuggestion):
        return {**item.as_dict(), "facet_title": TITLES[item.facet]}
    return {**item.as_dict(), "url": reverse("dataset", args=[item.slug])}
