"""Saved searches: the user's own, each with its addresses."""

from __future__ import annotations

from typing import Any

from django.shortcuts import get_object_or_404
from django.urls import reverse
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from portal.api import params
from portal.api.errors import ProblemOut
from portal.models import SavedSearch
from portal.searches import LONGEST_NAME, own_searches, rename, save

ERRORS = {400: ProblemOut, 401: ProblemOut}
ONE = {**ERRORS, 404: ProblemOut}


class SavedSearchOut(serializers.ModelSerializer[SavedSearch]):
    """A search, its page, its feed, and what the API finds with it."""

    page = serializers.SerializerMethodField()
    feed = serializers.SerializerMethodField()
    results = serializers.SerializerMethodField(help_text="address of the same search in the API")

    class Meta:
        model = SavedSearch
        fields = ["id", "name", "query", "page", "feed", "results", "created_at"]

    def get_page(self, search: SavedSearch) -> str:
        return _address("datasets", search)

    def get_feed(self, search: SavedSearch) -> str:
        return _address("dataset-feed", search)

    def get_results(self, search: SavedSearch) -> str:
        return _address("api:datasets", search)


class SavedSearchListOut(serializers.Serializer[Any]):
    total = serializers.IntegerField()
    next = serializers.URLField(allow_null=True)
    results = SavedSearchOut(many=True)


class SavedSearchIn(serializers.Serializer[Any]):
    query = serializers.CharField(
        allow_blank=True, max_length=4000, help_text="a query string: q=fundus&modality=OCT"
    )
    name = serializers.CharField(
        required=False, allow_blank=True, default="", max_length=LONGEST_NAME,
        help_text="what the query says, unless given",
    )  # fmt: skip


class SearchNameIn(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=LONGEST_NAME)


class SearchList(APIView):
    @extend_schema(
        operation_id="searches_list",
        parameters=[OpenApiParameter("page", int), OpenApiParameter("page_size", int)],
        responses={200: SavedSearchListOut, **ERRORS},
    )
    def get(self, request: Request) -> Response:
        """One's saved searches, the newest first."""
        params.check_known(request.query_params, {"page", "page_size"})
        page = params.read_page(request.query_params)
        found, envelope = params.paginate(request, own_searches(request), page)
        return Response({**envelope, "results": SavedSearchOut(found, many=True).data})

    @extend_schema(
        operation_id="searches_save",
        request=SavedSearchIn,
        responses={201: SavedSearchOut, **ERRORS},
    )
    def post(self, request: Request) -> Response:
        """Save a search; the same one again is the one that is kept already."""
        params.check_known(request.query_params, ())
        own_searches(request)
        body = SavedSearchIn(data=request.data)
        body.is_valid(raise_exception=True)
        found = save(request.user, body.validated_data["query"], body.validated_data["name"])
        return Response(SavedSearchOut(found).data, status.HTTP_201_CREATED)


class SearchDetail(APIView):
    @extend_schema(operation_id="searches_read", responses={200: SavedSearchOut, **ONE})
    def get(self, request: Request, search_id: int) -> Response:
        """One of them."""
        params.check_known(request.query_params, ())
        return Response(SavedSearchOut(_find(request, search_id)).data)

    @extend_schema(
        operation_id="searches_rename", request=SearchNameIn, responses={200: SavedSearchOut, **ONE}
    )
    def patch(self, request: Request, search_id: int) -> Response:
        """Give it another name."""
        params.check_known(request.query_params, ())
        search = _find(request, search_id)
        body = SearchNameIn(data=request.data)
        body.is_valid(raise_exception=True)
        rename(search, body.validated_data["name"])
        return Response(SavedSearchOut(search).data)

    @extend_schema(operation_id="searches_delete", responses={204: None, **ONE})
    def delete(self, request: Request, search_id: int) -> Response:
        """Forget it."""
        params.check_known(request.query_params, ())
        _find(request, search_id).delete()
        return Response(status=status.HTTP_204_NO_CONTENT)


def _find(request: Request, search_id: int) -> SavedSearch:
    return get_object_or_404(own_searches(request), pk=search_id)


def _address(name: str, search: SavedSearch) -> str:
    return reverse(name) + (f"?{search.query}" if search.query else "")
