"""What changed: the catalog's versions, harvests of its sources, and changes that wait."""

from __future__ import annotations

from typing import Any

from django.shortcuts import get_object_or_404
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from catalog.models import CatalogChange, CatalogRevision, Harvest, HarvestChange
from catalog.refresh import decide
from portal.api import params
from portal.api.errors import ProblemOut
from portal.corrections import check_curator
from portal.models import Scope
from workers.refresh import UPSTREAMS, update_index

PAGED = [OpenApiParameter(name, int) for name in ("page", "page_size")]
LARGEST_ID = 2**63 - 1  # that a database holds
STATES = tuple(HarvestChange.State.values)


class VersionOut(serializers.ModelSerializer[CatalogRevision]):
    class Meta:
        model = CatalogRevision
        fields = (
            "number", "digest", "dataset_count", "cause", "new_count", "changed_count",
            "gone_count", "loaded_at",
        )  # fmt: skip


class CatalogChangeOut(serializers.ModelSerializer[CatalogChange]):
    fields = serializers.DictField(help_text="field: [value before, value after]")  # type: ignore[assignment]

    class Meta:
        model = CatalogChange
        fields = ("slug", "name", "kind", "fields")


class HarvestOut(serializers.ModelSerializer[Harvest]):
    revision = serializers.IntegerField(
        source="revision.number", allow_null=True, default=None, help_text="the version it made"
    )

    class Meta:
        model = Harvest
        fields = (
            "id", "source", "state", "started_at", "finished_at", "entry_count", "new_count",
            "changed_count", "gone_count", "failed_count", "waiting_count", "error", "revision",
        )  # fmt: skip


class HarvestChangeOut(serializers.ModelSerializer[HarvestChange]):
    before = serializers.DictField(allow_null=True)
    after = serializers.DictField(allow_null=True)

    class Meta:
        model = HarvestChange
        fields = (
            "id", "harvest", "source", "ref", "slug", "name", "kind", "field", "before", "after",
            "state", "decided_by", "decided_at", "reason",
        )  # fmt: skip


class VersionPage(serializers.Serializer[Any]):
    results = VersionOut(many=True)
    total = serializers.IntegerField()
    next = serializers.CharField(allow_null=True)


class HarvestPage(serializers.Serializer[Any]):
    results = HarvestOut(many=True)
    total = serializers.IntegerField()
    next = serializers.CharField(allow_null=True)


class VersionDetail(VersionOut):
    changes = CatalogChangeOut(many=True)
    total = serializers.IntegerField()
    next = serializers.CharField(allow_null=True)

    class Meta(VersionOut.Meta):
        fields = (*VersionOut.Meta.fields, "changes", "total", "next")  # type: ignore[assignment]


class HarvestChangePage(serializers.Serializer[Any]):
    results = HarvestChangeOut(many=True)
    total = serializers.IntegerField()
    next = serializers.CharField(allow_null=True)


class DecideIn(serializers.Serializer[Any]):
    ids = serializers.ListField(
        child=serializers.IntegerField(min_value=1, max_value=LARGEST_ID), max_length=200
    )
    decision = serializers.ChoiceField(choices=("accept", "reject"))
    reason = serializers.CharField(max_length=500, default="", allow_blank=True)


class DecidedOut(serializers.Serializer[Any]):
    decided = HarvestChangeOut(many=True, help_text="those that nobody had decided before")
    version = serializers.IntegerField(allow_null=True, help_text="of the catalog that it made")


class VersionList(APIView):
    @extend_schema(
        operation_id="catalog_versions",
        parameters=PAGED,
        responses={200: VersionPage, 400: ProblemOut},
    )
    def get(self, request: Request) -> Response:
        """The catalog's versions, the newest first."""
        params.check_known(request.query_params, ("page", "page_size"))
        page = params.read_page(request.query_params)
        found, more = params.paginate(request, CatalogRevision.objects.all(), page)
        return Response({"results": VersionOut(found, many=True).data, **more})


class Version(APIView):
    @extend_schema(
        operation_id="catalog_version",
        parameters=PAGED,
        responses={200: VersionDetail, 400: ProblemOut, 404: ProblemOut},
    )
    def get(self, request: Request, number: int) -> Response:
        """What one version changed, by dataset with old and new values."""
        params.check_known(request.query_params, ("page", "page_size"))
        version = get_object_or_404(CatalogRevision, number=number)
        page = params.read_page(request.query_params)
        found, more = params.paginate(request, version.changes.all(), page)
        changes = CatalogChangeOut(found, many=True).data
        return Response({**VersionOut(version).data, "changes": changes, **more})


class HarvestList(APIView):
    @extend_schema(
        operation_id="catalog_harvests",
        parameters=[OpenApiParameter("source", str, enum=list(UPSTREAMS)), *PAGED],
        responses={200: HarvestPage, 400: ProblemOut},
    )
    def get(self, request: Request) -> Response:
        """Harvests of sources, the newest first."""
        params.check_known(request.query_params, ("source", "page", "page_size"))
        rows = Harvest.objects.select_related("revision")
        if source := params.choice(request.query_params, "source", UPSTREAMS):
            rows = rows.filter(source=source)
        found, more = params.paginate(request, rows, params.read_page(request.query_params))
        return Response({"results": HarvestOut(found, many=True).data, **more})


class HarvestDetail(APIView):
    @extend_schema(
        operation_id="catalog_harvest",
        responses={200: HarvestOut, 400: ProblemOut, 404: ProblemOut},
    )
    def get(self, request: Request, harvest_id: int) -> Response:
        """One harvest; what it found is listed by `catalog/changes/?harvest=`."""
        params.check_known(request.query_params, ())
        rows = Harvest.objects.select_related("revision")
        return Response(HarvestOut(get_object_or_404(rows, pk=harvest_id)).data)


class HarvestChanges(APIView):
    @extend_schema(
        operation_id="catalog_harvest_changes",
        parameters=[
            OpenApiParameter("state", str, enum=list(STATES)),
            OpenApiParameter("harvest", int),
            *PAGED,
        ],
        responses={200: HarvestChangePage, 400: ProblemOut},
    )
    def get(self, request: Request) -> Response:
        """The diff report: differences that harvests found, with old and new value."""
        params.check_known(request.query_params, ("state", "harvest", "page", "page_size"))
        rows = HarvestChange.objects.all()
        if state := params.choice(request.query_params, "state", STATES):
            rows = rows.filter(state=state)
        if "harvest" in request.query_params:
            number = params.count(request.query_params, "harvest", 1, 10**9 - 1)
            rows = rows.filter(harvest=number)
        found, more = params.paginate(request, rows, params.read_page(request.query_params))
        return Response({"results": HarvestChangeOut(found, many=True).data, **more})


class HarvestDecide(APIView):
    scope = Scope.CURATE

    @extend_schema(
        operation_id="catalog_harvest_decide",
        request=DecideIn,
        responses={
            200: DecidedOut,
            **dict.fromkeys((400, 401, 403, 409), ProblemOut),
        },
    )
    def post(self, request: Request) -> Response:
        """Accept or reject changes that wait; those decided already stay as they are."""
        params.check_known(request.query_params, ())
        curator = check_curator(request)
        body = DecideIn(data=request.data)
        body.is_valid(raise_exception=True)
        given = body.validated_data
        rows, report = decide(
            given["ids"],
            accept=given["decision"] == "accept",
            by=curator.get_username(),
            reason=given["reason"],
        )
        if report:
            update_index()
        rows = list(HarvestChange.objects.filter(pk__in=[row.pk for row in rows]))
        version = report.version if report else None
        return Response({"decided": HarvestChangeOut(rows, many=True).data, "version": version})
