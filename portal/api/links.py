"""The catalog's addresses and what their checks found."""

from __future__ import annotations

from typing import Any

from django.shortcuts import get_object_or_404
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from catalog.links import links_of, shown
from catalog.models import CatalogLink, Dataset, LinkCheck
from portal.api import params
from portal.api.errors import ProblemOut

STATES = tuple(CatalogLink.State.values)


class LinkCheckOut(serializers.ModelSerializer[LinkCheck]):
    hops = serializers.ListField(help_text="[status, address led to] of each redirect")

    class Meta:
        model = LinkCheck
        fields = ("checked_at", "state", "status", "hops", "detail")


class LinkOut(serializers.ModelSerializer[CatalogLink]):
    class Meta:
        model = CatalogLink
        fields = (
            "url", "state", "status", "final_url", "detail", "successor", "failures", "since",
            "checked_at", "next_at",
        )  # fmt: skip


class ListedLink(LinkOut):
    datasets = serializers.ListField(child=serializers.CharField())
    successor_state = serializers.CharField(allow_blank=True)

    class Meta(LinkOut.Meta):
        fields = (*LinkOut.Meta.fields, "datasets", "successor_state")  # type: ignore[assignment]


class CheckedLink(LinkOut):
    checks = LinkCheckOut(many=True, help_text="the last few, the newest first")

    class Meta(LinkOut.Meta):
        fields = (*LinkOut.Meta.fields, "checks")  # type: ignore[assignment]


class LinkPage(serializers.Serializer[Any]):
    results = ListedLink(many=True)
    total = serializers.IntegerField()
    next = serializers.CharField(allow_null=True)


class DatasetLinksOut(serializers.Serializer[Any]):
    results = CheckedLink(many=True)


class LinkList(APIView):
    @extend_schema(
        operation_id="catalog_links",
        parameters=[
            OpenApiParameter("state", str, enum=list(STATES)),
            *(OpenApiParameter(name, int) for name in ("page", "page_size")),
        ],
        responses={200: LinkPage, 400: ProblemOut},
    )
    def get(self, request: Request) -> Response:
        """Addresses with their datasets; `state=broken` for those that no longer answer."""
        params.check_known(request.query_params, ("state", "page", "page_size"))
        rows = CatalogLink.objects.all()
        if state := params.choice(request.query_params, "state", STATES):
            rows = rows.filter(state=state)
        found, more = params.paginate(request, rows, params.read_page(request.query_params))
        results = [
            {
                **LinkOut(one.link).data,
                "datasets": [slug for slug, _ in one.datasets],
                "successor_state": one.successor_state,
            }
            for one in shown(found)
        ]
        return Response({"results": results, **more})


class DatasetLinks(APIView):
    @extend_schema(
        operation_id="datasets_links",
        responses={200: DatasetLinksOut, 400: ProblemOut, 404: ProblemOut},
    )
    def get(self, request: Request, slug: str) -> Response:
        """The addresses of a dataset with their last checks."""
        params.check_known(request.query_params, ())
        dataset = get_object_or_404(Dataset, slug=slug)
        return Response({"results": CheckedLink(links_of(dataset.record), many=True).data})
