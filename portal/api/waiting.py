"""What waits for curators."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from portal.api import params
from portal.api.errors import ProblemOut
from portal.waiting import waiting


class WaitingOut(serializers.Serializer[Any]):
    """A queue of the curators."""

    name = serializers.CharField()
    about = serializers.CharField()
    page = serializers.CharField(help_text="address of its page")
    api = serializers.CharField(help_text="address of its list")
    count = serializers.IntegerField()
    since = serializers.DateTimeField(allow_null=True, help_text="of the oldest in it")


class WaitingListOut(serializers.Serializer[Any]):
    total = serializers.IntegerField(help_text="in all queues together")
    results = WaitingOut(many=True)


class WaitingList(APIView):
    @extend_schema(operation_id="catalog_waiting", responses={200: WaitingListOut, 400: ProblemOut})
    def get(self, request: Request) -> Response:
        """What waits for curators: corrections, changes of sources, broken addresses, harvests."""
        params.check_known(request.query_params, ())
        rows = waiting()
        results = WaitingOut([asdict(one) for one in rows], many=True).data
        return Response({"total": sum(one.count for one in rows), "results": results})
