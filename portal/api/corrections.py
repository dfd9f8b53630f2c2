"""Corrections to the catalog: proposed by anybody, decided by curators."""

from __future__ import annotations

import uuid
from typing import Any

from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from catalog import curation
from catalog.corrections import FIELDS
from catalog.models import Correction, Dataset
from portal.api import params
from portal.api.errors import ProblemOut
from portal.corrections import check_curator, propose, visible_corrections
from portal.models import Scope

STATES = tuple(Correction.State.values)


class CorrectionIn(serializers.Serializer[Any]):
    """A value for one field, with its evidence."""

    field = serializers.ChoiceField(choices=FIELDS)
    value = serializers.JSONField(
        allow_null=True, help_text="as a record file holds it; null: unknown; see docs/catalog.md"
    )
    url = serializers.CharField(max_length=1000, help_text="of a page that states it")
    quote = serializers.CharField(
        max_length=curation.LONGEST, default="", allow_blank=True, help_text="in the page's words"
    )
    reason = serializers.CharField(max_length=curation.LONGEST, default="", allow_blank=True)


class DecisionIn(serializers.Serializer[Any]):
    reason = serializers.CharField(max_length=curation.LONGEST, default="", allow_blank=True)


class CorrectionOut(serializers.ModelSerializer[Correction]):
    value = serializers.JSONField(allow_null=True)
    before = serializers.JSONField(allow_null=True)
    history = serializers.ListField(child=serializers.DictField())

    class Meta:
        model = Correction
        fields = (
            "id", "slug", "field", "value", "before", "url", "quote", "reason", "state",
            "created_at", "curator", "decided_at", "history",
        )  # fmt: skip


class CorrectionPage(serializers.Serializer[Any]):
    results = CorrectionOut(many=True)
    total = serializers.IntegerField()
    next = serializers.CharField(allow_null=True)


LISTED = [
    OpenApiParameter("state", str, enum=list(STATES)),
    *(OpenApiParameter(name, int) for name in ("page", "page_size")),
]


def _page(request: Request, rows: Any) -> Response:
    params.check_known(request.query_params, ("state", "page", "page_size"))
    if state := params.choice(request.query_params, "state", STATES):
        rows = rows.filter(state=state)
    found, more = params.paginate(request, rows, params.read_page(request.query_params))
    return Response({"results": CorrectionOut(found, many=True).data, **more})


class CorrectionList(APIView):
    @extend_schema(
        operation_id="corrections_list",
        parameters=LISTED,
        responses={200: CorrectionPage, 400: ProblemOut},
    )
    def get(self, request: Request) -> Response:
        """Corrections, the first proposed first: accepted ones and your own; all for curators."""
        return _page(request, visible_corrections(request))


class DatasetCorrections(APIView):
    scope = Scope.READ

    @extend_schema(
        operation_id="datasets_corrections",
        parameters=LISTED,
        responses={200: CorrectionPage, 400: ProblemOut, 404: ProblemOut},
    )
    def get(self, request: Request, slug: str) -> Response:
        """The corrections of one dataset: what was changed here, by whom and why."""
        get_object_or_404(Dataset.objects.only("pk"), slug=slug)
        return _page(request, visible_corrections(request).filter(slug=slug))

    @extend_schema(
        operation_id="datasets_correct",
        request=CorrectionIn,
        responses={
            200: CorrectionOut,
            201: CorrectionOut,
            400: ProblemOut,
            404: ProblemOut,
            422: ProblemOut,
            429: ProblemOut,
        },
    )
    def post(self, request: Request, slug: str) -> Response:
        """Propose a correction; a curator decides. 200: the same is waiting already."""
        params.check_known(request.query_params, ())
        dataset = get_object_or_404(Dataset, slug=slug)
        body = CorrectionIn(data=request.data)
        body.is_valid(raise_exception=True)
        correction, created = propose(request, dataset, body.validated_data)
        return Response(
            CorrectionOut(correction).data,
            status.HTTP_201_CREATED if created else status.HTTP_200_OK,
            headers={"Location": reverse("api:correction", args=[correction.pk])},
        )


class CorrectionDetail(APIView):
    @extend_schema(operation_id="corrections_read", responses={200: CorrectionOut, 404: ProblemOut})
    def get(self, request: Request, correction_id: uuid.UUID) -> Response:
        """One correction and what became of it, for whoever knows its id."""
        params.check_known(request.query_params, ())
        return Response(CorrectionOut(get_object_or_404(Correction, pk=correction_id)).data)


class Decision(APIView):
    """What both decisions answer."""

    scope = Scope.CURATE

    def decide(self, request: Request, correction_id: uuid.UUID, decide: Any) -> Response:
        params.check_known(request.query_params, ())
        curator = check_curator(request)
        correction = get_object_or_404(Correction, pk=correction_id)
        body = DecisionIn(data=request.data)
        body.is_valid(raise_exception=True)
        decide(correction, curator, body.validated_data["reason"])
        return Response(CorrectionOut(correction).data)


DECIDED: dict[int, Any] = {
    200: CorrectionOut,
    **dict.fromkeys((400, 401, 403, 404, 409, 422), ProblemOut),
}


class CorrectionAccept(Decision):
    @extend_schema(operation_id="corrections_accept", request=DecisionIn, responses=DECIDED)
    def post(self, request: Request, correction_id: uuid.UUID) -> Response:
        """Let the catalog follow it from now on."""
        return self.decide(request, correction_id, curation.accept)


class CorrectionReject(Decision):
    @extend_schema(operation_id="corrections_reject", request=DecisionIn, responses=DECIDED)
    def post(self, request: Request, correction_id: uuid.UUID) -> Response:
        """Do not follow it, with a `reason`; an accepted one is taken back out of the catalog."""
        return self.decide(request, correction_id, curation.reject)


class DatasetRecordFile(APIView):
    @extend_schema(
        operation_id="datasets_record",
        responses={(200, "application/yaml"): OpenApiTypes.OBJECT, 404: ProblemOut},
    )
    def get(self, request: Request, slug: str) -> HttpResponse:
        """The record file with all accepted corrections, ready to be sent upstream."""
        params.check_known(request.query_params, ())
        text = curation.record_text(get_object_or_404(Dataset, slug=slug))
        disposition = f'attachment; filename="{slug}.yaml"'
        return HttpResponse(
            text, content_type="application/yaml", headers={"Content-Disposition": disposition}
        )
