"""Datasets beside each other: two to six compared, and the most similar ones of one."""

from __future__ import annotations

from typing import Any

from django.http import Http404
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from catalog.comparison import FEWEST, MOST
from catalog.selection import neighbours, select
from portal.api import params
from portal.api.errors import ProblemOut


class DatasetCompare(APIView):
    @extend_schema(
        operation_id="datasets_compare",
        parameters=[
            OpenApiParameter(
                "slug", str, many=True, required=True, description=f"{FEWEST} to {MOST} datasets"
            )
        ],
        responses={200: OpenApiTypes.OBJECT, 400: ProblemOut},
    )
    def get(self, request: Request) -> Response:
        """Side by side: fields (values in the order asked), shared, licence, overlaps, families."""
        params.check_known(request.query_params, ("slug",))
        data: dict[str, Any] = select(request.query_params.getlist("slug")).compare().as_dict()
        return Response(data)


class DatasetSimilar(APIView):
    @extend_schema(
        operation_id="datasets_similar",
        responses={200: OpenApiTypes.OBJECT, 404: ProblemOut},
    )
    def get(self, request: Request, slug: str) -> Response:
        """More like this: what each shares, rarest first. Its own family is listed apart."""
        params.check_known(request.query_params, ())
        known = neighbours()
        if slug not in known:
            raise Http404(f"dataset: found {slug!r}, expected a slug of the catalog")
        return Response(
            {
                "dataset": slug,
                "results": [one.as_dict() for one in known.of(slug)],
                "family": known.family(slug),
            }
        )
