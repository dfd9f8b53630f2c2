"""Datasets: search with the same query object as the page, and one dataset whole."""

from __future__ import annotations

from typing import Any

from django.shortcuts import get_object_or_404
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from catalog.export import KEYS
from catalog.models import Dataset
from catalog.search import Query, search
from catalog.search.query import PARAMETERS
from portal.api import params
from portal.api.errors import ProblemOut


class DatasetOut(serializers.ModelSerializer[Dataset]):
    class Meta:
        model = Dataset
        fields = [*KEYS, "record"]


class DatasetList(APIView):
    @extend_schema(
        operation_id="datasets_search",
        parameters=[OpenApiParameter(name, str) for name in PARAMETERS],
        responses={200: OpenApiTypes.OBJECT, 400: ProblemOut, 503: ProblemOut},
    )
    def get(self, request: Request) -> Response:
        """Search: understood, results (strict), near, total, facets."""
        query = Query.from_params(request.query_params)
        data: dict[str, Any] = search(query).as_dict()
        return Response(data)


class DatasetDetail(APIView):
    @extend_schema(operation_id="datasets_read", responses={200: DatasetOut, 404: ProblemOut})
    def get(self, request: Request, slug: str) -> Response:
        """One dataset with its record: raw values, claims and sources."""
        params.check_known(request.query_params, ())
        return Response(DatasetOut(get_object_or_404(Dataset, slug=slug)).data)
