"""Bundles sent to the Hugging Face Hub, Zenodo and S3."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from fusion.deposits import PLACES
from portal.access import check_may_publish, user_of
from portal.api import params
from portal.api.bundles import find_bundle
from portal.api.errors import ProblemOut
from portal.models import Scope
from workers.deposits import dry_run, submit_deposit
from workers.models import Deposit


class DepositOut(serializers.ModelSerializer[Deposit]):
    """A bundle on its way to a place that others get it from."""

    class Meta:
        model = Deposit
        fields = [
            "id", "place", "target", "private", "state", "sent_bytes", "total_bytes", "url", "doi",
            "error_code", "error", "created_at", "finished_at",
        ]  # fmt: skip


class DepositListOut(serializers.Serializer[Any]):
    total = serializers.IntegerField()
    next = serializers.URLField(allow_null=True)
    results = DepositOut(many=True)


class DepositIn(serializers.Serializer[Any]):
    """Where to; a dry run says what would be sent."""

    place = serializers.ChoiceField(list(PLACES))
    target = serializers.CharField(
        max_length=300, allow_blank=True, default="", help_text="account/name or bucket/prefix"
    )
    private = serializers.BooleanField(default=True, help_text="at first, on the Hugging Face Hub")
    dry_run = serializers.BooleanField(default=True)


class DryRunOut(serializers.Serializer[Any]):
    """What would be sent; nobody was asked."""

    place = serializers.CharField()
    target = serializers.CharField()
    files = serializers.IntegerField()
    bytes = serializers.IntegerField()
    first_files = serializers.ListField(child=serializers.CharField())
    licences = serializers.DictField(
        child=serializers.IntegerField(), help_text="licence -> parts of sources under it"
    )
    credential = serializers.CharField(help_text="that the place asks for")
    has_credential = serializers.BooleanField()


class BundleDeposits(APIView):
    scope = Scope.RUN

    @extend_schema(
        operation_id="bundles_deposits",
        responses={200: DepositListOut, 401: ProblemOut, 403: ProblemOut, 404: ProblemOut},
    )
    def get(self, request: Request, bundle_id: str) -> Response:
        """The user's deposits of a bundle."""
        params.check_known(request.query_params, ())
        bundle = find_bundle(request, bundle_id)
        check_may_publish(request, bundle)
        rows = Deposit.objects.filter(bundle=bundle, owner=user_of(request))
        data = DepositOut(rows, many=True).data
        return Response({"total": len(data), "next": None, "results": data})

    @extend_schema(
        operation_id="bundles_deposit",
        request=DepositIn,
        responses={
            200: DryRunOut, 202: DepositOut, 400: ProblemOut, 401: ProblemOut, 403: ProblemOut,
            404: ProblemOut, 409: ProblemOut,
        },
    )  # fmt: skip
    def post(self, request: Request, bundle_id: str) -> Response:
        """Send a bundle to the Hugging Face Hub, Zenodo or S3, in the user's name.

        First as a dry run, which is the default. Asking again sends what is not there yet.
        """
        params.check_known(request.query_params, ())
        bundle = find_bundle(request, bundle_id)
        check_may_publish(request, bundle)
        body = DepositIn(data=request.data)
        body.is_valid(raise_exception=True)
        asked = body.validated_data
        where = (bundle, user_of(request), asked["place"], asked["target"])
        if asked["dry_run"]:
            return Response(DryRunOut(dry_run(*where)).data)
        row = submit_deposit(*where, private=asked["private"])
        return Response(DepositOut(row).data, HTTPStatus.ACCEPTED)
