"""The user's own credentials for places: given, tested and removed, and never told."""

from __future__ import annotations

from typing import Any

from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from fusion.sources.credentials import Kind
from portal.access import SignInError, user_of
from portal.api import params
from portal.api.errors import ProblemOut
from portal.models import Scope
from workers.credentials import keep, overview, test_access
from workers.models import Credential

ERRORS = {400: ProblemOut, 401: ProblemOut, 404: ProblemOut}


class CredentialOut(serializers.Serializer[Any]):
    """A kind of credential, and whether the user has one; the value is shown nowhere."""

    name = serializers.CharField()
    place = serializers.CharField()
    shape = serializers.CharField(help_text="what a value looks like")
    page = serializers.URLField(help_text="where a person gets one")
    given = serializers.BooleanField()
    changed_at = serializers.DateTimeField(allow_null=True)
    tested_at = serializers.DateTimeField(allow_null=True)
    accepted = serializers.BooleanField(
        allow_null=True, help_text="at the last test; null: not tested, or the place does not tell"
    )
    said = serializers.CharField(help_text="whose it is, or why it was refused")


class CredentialListOut(serializers.Serializer[Any]):
    total = serializers.IntegerField()
    next = serializers.URLField(allow_null=True)
    results = CredentialOut(many=True)


class CredentialIn(serializers.Serializer[Any]):
    value = serializers.CharField(max_length=4000, write_only=True, trim_whitespace=True)


class CredentialList(APIView):
    scope = Scope.RUN

    @extend_schema(operation_id="credentials_list", responses={200: CredentialListOut, **ERRORS})
    def get(self, request: Request) -> Response:
        """Every kind of credential, with those that the user gave."""
        params.check_known(request.query_params, ())
        rows = [_data(kind, row) for kind, row in overview(_user(request))]
        return Response({"total": len(rows), "next": None, "results": rows})


class CredentialDetail(APIView):
    scope = Scope.RUN

    @extend_schema(
        operation_id="credentials_write",
        request=CredentialIn,
        responses={200: CredentialOut, **ERRORS},
    )
    def put(self, request: Request, name: str) -> Response:
        """Give a credential, in place of an earlier one; runs of the user alone use it."""
        params.check_known(request.query_params, ())
        user = _user(request)
        body = CredentialIn(data=request.data)
        body.is_valid(raise_exception=True)
        keep(user, name, body.validated_data["value"])
        return Response(_of(user, name))

    @extend_schema(operation_id="credentials_delete", responses={204: None, **ERRORS})
    def delete(self, request: Request, name: str) -> Response:
        """Remove a credential."""
        params.check_known(request.query_params, ())
        get_object_or_404(Credential, owner=_user(request), name=name).delete()
        return Response(status=status.HTTP_204_NO_CONTENT)


class CredentialTest(APIView):
    scope = Scope.RUN

    @extend_schema(
        operation_id="credentials_test", request=None, responses={200: CredentialOut, **ERRORS}
    )
    def post(self, request: Request, name: str) -> Response:
        """Ask the place whose the credential is."""
        params.check_known(request.query_params, ())
        user = _user(request)
        test_access(get_object_or_404(Credential, owner=user, name=name))
        return Response(_of(user, name))


def _user(request: Request) -> Any:
    user = user_of(request)
    if user is None:
        raise SignInError("Sign in, or send a token with the scope run")
    return user


def _of(user: Any, name: str) -> dict[str, Any]:
    return next(_data(kind, row) for kind, row in overview(user) if kind.name == name)


def _data(kind: Kind, row: Credential | None) -> dict[str, Any]:
    known = {name: getattr(kind, name) for name in ("name", "place", "shape", "page")}
    noted = {name: getattr(row, name, None) for name in ("changed_at", "tested_at", "accepted")}
    return dict(
        CredentialOut(
            {**known, **noted, "given": row is not None, "said": row.said if row else ""}
        ).data
    )
