"""Runs: start one, list them, follow one, cancel it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.shortcuts import get_object_or_404
from django.urls import reverse
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from portal.api import params
from portal.api.errors import ProblemOut
from portal.api.recipes import RecipeIn
from portal.progress import by_source
from workers.models import Run, RunStage
from workers.submit import cancel_run, submit_run


class StageOut(serializers.ModelSerializer[RunStage]):
    class Meta:
        model = RunStage
        fields = ["name", "state", "done", "total", "seconds"]


class SourceProgressOut(serializers.Serializer[Any]):
    source = serializers.CharField()  # type: ignore[assignment] # DRF keeps fields elsewhere
    total = serializers.IntegerField(help_text="cases known so far")
    pending = serializers.IntegerField()
    used = serializers.IntegerField()
    excluded = serializers.DictField(
        child=serializers.IntegerField(), help_text="exclusion code -> number of cases"
    )


class RunOut(serializers.ModelSerializer[Run]):
    """A run; `url` follows it, `page` shows it to people."""

    bundle_id = serializers.CharField(allow_null=True, read_only=True)
    url = serializers.SerializerMethodField()
    page = serializers.SerializerMethodField()

    class Meta:
        model = Run
        fields = [
            "id",
            "title",
            "state",
            "stage",
            "attempts",
            "cancel_requested",
            "error_code",
            "error",
            "bundle_id",
            "created_at",
            "started_at",
            "finished_at",
            "url",
            "page",
        ]

    def get_url(self, run: Run) -> str:
        return reverse("api:run", args=[run.pk])

    def get_page(self, run: Run) -> str:
        return reverse("run", args=[run.pk])


class RunDetailOut(RunOut):
    """A run with its stages and what became of its cases."""

    stages = StageOut(many=True, read_only=True)
    sources = serializers.SerializerMethodField()
    quality = serializers.JSONField(
        read_only=True, allow_null=True, help_text="what the files hold, the fit, and findings"
    )

    class Meta(RunOut.Meta):
        fields = [*RunOut.Meta.fields, "stages", "sources", "quality"]

    @extend_schema(responses=SourceProgressOut(many=True))
    def get_sources(self, run: Run) -> list[dict[str, Any]]:
        return list(SourceProgressOut(by_source(run), many=True).data)


class RunListOut(serializers.Serializer[Any]):
    total = serializers.IntegerField()
    next = serializers.URLField(allow_null=True)
    results = RunOut(many=True)


class RunList(APIView):
    @extend_schema(
        operation_id="runs_list",
        parameters=[
            OpenApiParameter("state", str, enum=Run.State.values),
            OpenApiParameter("page", int),
            OpenApiParameter("page_size", int),
        ],
        responses={200: RunListOut, 400: ProblemOut},
    )
    def get(self, request: Request) -> Response:
        """Runs, the newest first."""
        params.check_known(request.query_params, {"state", "page", "page_size"})
        rows = Run.objects.all()
        if state := params.choice(request.query_params, "state", Run.State.values):
            rows = rows.filter(state=state)
        found, envelope = params.paginate(request, rows, params.read_page(request.query_params))
        return Response({**envelope, "results": RunOut(found, many=True).data})

    @extend_schema(
        operation_id="runs_create",
        request=RecipeIn,
        responses={202: RunDetailOut, 400: ProblemOut, 422: ProblemOut},
    )
    def post(self, request: Request) -> Response:
        """Start a fusion; asking again for a recipe that is on its way returns the same run."""
        params.check_known(request.query_params, ())
        body = RecipeIn(data=request.data)
        body.is_valid(raise_exception=True)
        run = submit_run(body.checked().as_dict())
        data = RunDetailOut(run).data
        return Response(data, status.HTTP_202_ACCEPTED, headers={"Location": data["url"]})


class RunDetail(APIView):
    @extend_schema(operation_id="runs_read", responses={200: RunDetailOut, 404: ProblemOut})
    def get(self, request: Request, run_id: UUID) -> Response:
        """One run: its stages and, per source, the cases used and excluded."""
        params.check_known(request.query_params, ())
        return Response(RunDetailOut(_find(run_id)).data)


class RunCancel(APIView):
    @extend_schema(
        operation_id="runs_cancel", request=None, responses={202: RunDetailOut, 404: ProblemOut}
    )
    def post(self, request: Request, run_id: UUID) -> Response:
        """Ask a run to stop; one that has ended stays as it is."""
        params.check_known(request.query_params, ())
        run = _find(run_id)
        cancel_run(run)
        return Response(RunDetailOut(_find(run_id)).data, status.HTTP_202_ACCEPTED)


def _find(run_id: UUID) -> Run:
    return get_object_or_404(Run.objects.prefetch_related("stages"), pk=run_id)
