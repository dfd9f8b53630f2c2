"""Runs: start one, list them, follow one, steer it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.shortcuts import get_object_or_404
from django.urls import reverse
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_field
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from portal.access import check_may_start, check_may_steer, own_notices, user_of, visible_runs
from portal.api import params
from portal.api.errors import ProblemOut
from portal.api.idempotency import once
from portal.api.recipes import RecipeIn
from portal.progress import by_source, waits_for
from workers.models import Run, RunNotice, RunStage
from workers.notices import ask_for, secret_of
from workers.submit import (
    cancel_run,
    pause_run,
    resume_run,
    retry_run,
    set_priority,
    submit_run,
)

PRIORITIES = [name.lower() for name in Run.Priority.names]


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
    priority = serializers.SerializerMethodField()
    owner = serializers.CharField(source="owner.username", allow_null=True, default=None)

    class Meta:
        model = Run
        fields = [
            "id",
            "title",
            "state",
            "stage",
            "attempts",
            "priority",
            "owner",
            "public",
            "cancel_requested",
            "pause_requested",
            "error_code",
            "error",
            "bundle_id",
            "created_at",
            "started_at",
            "finished_at",
            "url",
            "page",
        ]

    @extend_schema_field(serializers.ChoiceField(PRIORITIES))
    def get_priority(self, run: Run) -> str:
        return Run.Priority(run.priority).name.lower()

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

    waits_for = serializers.SerializerMethodField(help_text="empty while it is worked on")

    class Meta(RunOut.Meta):
        fields = [*RunOut.Meta.fields, "waits_for", "stages", "sources", "quality"]

    def get_waits_for(self, run: Run) -> str:
        return waits_for(run)

    @extend_schema(responses=SourceProgressOut(many=True))
    def get_sources(self, run: Run) -> list[dict[str, Any]]:
        return list(SourceProgressOut(by_source(run), many=True).data)


class RunListOut(serializers.Serializer[Any]):
    total = serializers.IntegerField()
    next = serializers.URLField(allow_null=True)
    results = RunOut(many=True)


IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    str,
    OpenApiParameter.HEADER,
    description="the same key gives the same run, whatever came of it; for another body it is 422",
)
STEERED = {202: RunDetailOut, 403: ProblemOut, 404: ProblemOut, 409: ProblemOut}


class RunIn(RecipeIn):
    """A recipe, and which of the waiting runs goes first."""

    priority = serializers.ChoiceField(PRIORITIES, default="normal")


class PriorityIn(serializers.Serializer[Any]):
    priority = serializers.ChoiceField(PRIORITIES)


class RunList(APIView):
    @extend_schema(
        operation_id="runs_list",
        parameters=[
            OpenApiParameter("state", str, enum=Run.State.values),
            OpenApiParameter("page", int),
            OpenApiParameter("page_size", int),
            params.FIELDS,
        ],
        responses={200: RunListOut, 400: ProblemOut},
    )
    def get(self, request: Request) -> Response:
        """Runs that one may see, the newest first."""
        params.check_known(request.query_params, {"state", "page", "page_size", "fields"})
        fields = params.chosen_fields(request.query_params, RunOut.Meta.fields)
        rows = visible_runs(request).select_related("owner")
        if state := params.choice(request.query_params, "state", Run.State.values):
            rows = rows.filter(state=state)
        found, envelope = params.paginate(request, rows, params.read_page(request.query_params))
        results = [params.pick(row, fields) for row in RunOut(found, many=True).data]
        return Response({**envelope, "results": results})

    @extend_schema(
        operation_id="runs_create",
        request=RunIn,
        parameters=[IDEMPOTENCY_KEY],
        responses={
            202: RunDetailOut,
            400: ProblemOut,
            401: ProblemOut,
            409: ProblemOut,
            422: ProblemOut,
            507: ProblemOut,
        },
    )
    def post(self, request: Request) -> Response:
        """Start a fusion; asking again for a recipe that is on its way returns the same run."""
        params.check_known(request.query_params, ())
        check_may_start(request)
        body = RunIn(data=request.data)
        body.is_valid(raise_exception=True)
        priority = Run.Priority[body.validated_data["priority"].upper()]
        recipe = body.checked(request).as_dict()

        def start() -> Run:
            return submit_run(recipe, owner=user_of(request), priority=priority)

        run = once(request, start, {"recipe": recipe, "priority": priority})
        data = RunDetailOut(run).data
        return Response(data, status.HTTP_202_ACCEPTED, headers={"Location": data["url"]})


class RunDetail(APIView):
    @extend_schema(
        operation_id="runs_read",
        parameters=[params.FIELDS],
        responses={200: RunDetailOut, 404: ProblemOut},
    )
    def get(self, request: Request, run_id: UUID) -> Response:
        """One run: its stages and, per source, the cases used and excluded."""
        params.check_known(request.query_params, ("fields",))
        fields = params.chosen_fields(request.query_params, RunDetailOut.Meta.fields)
        return Response(params.pick(RunDetailOut(_find(request, run_id)).data, fields))


class RunCancel(APIView):
    @extend_schema(operation_id="runs_cancel", request=None, responses=STEERED)
    def post(self, request: Request, run_id: UUID) -> Response:
        """Ask a run to stop; one that has ended stays as it is."""
        return _steer(request, run_id, cancel_run)


class RunPause(APIView):
    @extend_schema(operation_id="runs_pause", request=None, responses=STEERED)
    def post(self, request: Request, run_id: UUID) -> Response:
        """Ask a run to rest; what is finished is kept, and within seconds nobody works on it."""
        return _steer(request, run_id, pause_run)


class RunResume(APIView):
    @extend_schema(operation_id="runs_resume", request=None, responses=STEERED)
    def post(self, request: Request, run_id: UUID) -> Response:
        """Let a paused run go on from its finished work."""
        return _steer(request, run_id, resume_run)


class RunRetry(APIView):
    @extend_schema(operation_id="runs_retry", request=None, responses=STEERED)
    def post(self, request: Request, run_id: UUID) -> Response:
        """Let a failed run try again from where it stopped."""
        return _steer(request, run_id, retry_run)


class RunPriority(APIView):
    @extend_schema(
        operation_id="runs_priority", request=PriorityIn, responses={**STEERED, 400: ProblemOut}
    )
    def post(self, request: Request, run_id: UUID) -> Response:
        """Let a run go before others, or after them, from its next stage on."""
        body = PriorityIn(data=request.data)
        body.is_valid(raise_exception=True)
        priority = Run.Priority[body.validated_data["priority"].upper()]
        return _steer(request, run_id, lambda run: set_priority(run, priority))


class NoticeOut(serializers.ModelSerializer[RunNotice]):
    secret = serializers.SerializerMethodField(help_text="signs a hook's requests; or null")

    class Meta:
        model = RunNotice
        fields = ["id", "kind", "target", "state", "attempts", "answer", "due_at", "created_at",
                  "delivered_at", "secret"]  # fmt: skip

    def get_secret(self, notice: RunNotice) -> str | None:
        return secret_of(notice) if notice.kind == RunNotice.Kind.HOOK else None


class NoticeListOut(serializers.Serializer[Any]):
    total = serializers.IntegerField()
    next = serializers.URLField(allow_null=True)
    results = NoticeOut(many=True)


class NoticeIn(serializers.Serializer[Any]):
    """`url` for a hook; mail goes to the address of one's account."""

    kind = serializers.ChoiceField(RunNotice.Kind.choices)
    url = serializers.CharField(max_length=500, required=False, allow_blank=True, default="")


class RunNotices(APIView):
    @extend_schema(
        operation_id="runs_notices",
        responses={200: NoticeListOut, 401: ProblemOut, 404: ProblemOut},
    )
    def get(self, request: Request, run_id: UUID) -> Response:
        """One's own notices of a run's end, and what came of them."""
        params.check_known(request.query_params, ())
        rows = own_notices(request, _find(request, run_id))
        results = NoticeOut(rows, many=True).data
        return Response({"total": len(results), "next": None, "results": results})

    @extend_schema(
        operation_id="runs_notices_create",
        request=NoticeIn,
        responses={201: NoticeOut, 400: ProblemOut, 401: ProblemOut, 404: ProblemOut,
                   422: ProblemOut},
    )  # fmt: skip
    def post(self, request: Request, run_id: UUID) -> Response:
        """Be told when the run ends: by mail, or by a signed POST to an address."""
        params.check_known(request.query_params, ())
        run = _find(request, run_id)
        own_notices(request, run)
        body = NoticeIn(data=request.data)
        body.is_valid(raise_exception=True)
        page = request.build_absolute_uri(reverse("run", args=[run.pk]))
        asked = body.validated_data
        notice = ask_for(run, request.user, asked["kind"], asked["url"], page)
        return Response(NoticeOut(notice).data, status.HTTP_201_CREATED)


class RunNoticeDetail(APIView):
    @extend_schema(
        operation_id="runs_notices_remove",
        responses={204: None, 401: ProblemOut, 404: ProblemOut},
    )
    def delete(self, request: Request, run_id: UUID, notice_id: int) -> Response:
        """Not to be told any more."""
        params.check_known(request.query_params, ())
        get_object_or_404(own_notices(request, _find(request, run_id)), pk=notice_id).delete()
        return Response(status=status.HTTP_204_NO_CONTENT)


def _steer(request: Request, run_id: UUID, action: Callable[[Run], object]) -> Response:
    params.check_known(request.query_params, ())
    run = _find(request, run_id)
    check_may_steer(request, run)
    action(run)
    return Response(RunDetailOut(_find(request, run_id)).data, status.HTTP_202_ACCEPTED)


def _find(request: Request, run_id: UUID) -> Run:
    """Raises Http404 for one that the user may not see, too."""
    rows = visible_runs(request).select_related("owner").prefetch_related("stages")
    return get_object_or_404(rows, pk=run_id)
