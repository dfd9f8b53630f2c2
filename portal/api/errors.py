"""The one error shape of the API (RFC 9457): `title, status, code, detail, errors`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404
from rest_framework import exceptions, serializers
from rest_framework.response import Response

from catalog.corrections import CorrectionError
from catalog.curation import DecisionError
from catalog.records_io import RecordError
from catalog.rules import RulesError
from catalog.search import QueryError, SearchUnavailableError
from fusion.errors import BuildError, RecipeError
from fusion.models import Bundle
from portal.access import SignInError
from portal.corrections import TooManyCorrectionsError
from portal.publishing import PublishError, RemovalError
from workers.credentials import CredentialError
from workers.deposits import DepositError
from workers.notices import NoticeError
from workers.submit import RunConflictError
from workers.terms import TermsChangedError, TermsError
from workers.uploads import UploadConflictError, UploadError

CONTENT_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 10

STATUS_OF: dict[type[Exception], HTTPStatus] = {
    TermsError: HTTPStatus.CONFLICT,  # before RecipeError, of which it is one
    RecipeError: HTTPStatus.UNPROCESSABLE_ENTITY,
    BuildError: HTTPStatus.INSUFFICIENT_STORAGE,  # the only one before a run is queued
    RunConflictError: HTTPStatus.CONFLICT,
    UploadError: HTTPStatus.UNPROCESSABLE_ENTITY,
    UploadConflictError: HTTPStatus.CONFLICT,
    QueryError: HTTPStatus.BAD_REQUEST,
    RulesError: HTTPStatus.BAD_REQUEST,
    SearchUnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
    RecursionError: HTTPStatus.BAD_REQUEST,
    PublishError: HTTPStatus.CONFLICT,
    RemovalError: HTTPStatus.CONFLICT,
    TermsChangedError: HTTPStatus.CONFLICT,
    CredentialError: HTTPStatus.BAD_REQUEST,
    DepositError: HTTPStatus.CONFLICT,
    NoticeError: HTTPStatus.UNPROCESSABLE_ENTITY,
    CorrectionError: HTTPStatus.UNPROCESSABLE_ENTITY,
    DecisionError: HTTPStatus.CONFLICT,
    RecordError: HTTPStatus.CONFLICT,  # the catalog would contradict itself
    TooManyCorrectionsError: HTTPStatus.TOO_MANY_REQUESTS,
    SignInError: HTTPStatus.UNAUTHORIZED,  # before PermissionDenied, of which it is one
    Http404: HTTPStatus.NOT_FOUND,
    PermissionDenied: HTTPStatus.FORBIDDEN,
}
CODE_OF: dict[type[Exception], str] = {
    TermsError: "terms_open",
    RecipeError: "recipe_invalid",
    RunConflictError: "run_conflict",
    UploadError: "upload_invalid",
    UploadConflictError: "upload_conflict",
    PublishError: "publish_refused",
    RemovalError: "removal_refused",
    TermsChangedError: "terms_changed",
    CredentialError: "credential_invalid",
    DepositError: "deposit_refused",
    NoticeError: "notice_refused",
    CorrectionError: "correction_invalid",
    DecisionError: "decided_already",
    RecordError: "catalog_contradiction",
    TooManyCorrectionsError: "too_many_corrections",
    QueryError: "query_invalid",
    RulesError: "rules_invalid",
    SearchUnavailableError: "search_unavailable",
    RecursionError: "nested_too_deeply",
    SignInError: "sign_in_required",
    Http404: "not_found",
    PermissionDenied: "permission_denied",
}
TITLE_OF: dict[type[Exception], str] = {
    TermsError: "There are terms to accept",
    RecipeError: "The recipe is not valid",
    BuildError: "There is no room",
    RunConflictError: "The run cannot do that now",
    UploadError: "The upload is not valid",
    UploadConflictError: "The upload cannot do that now",
    PublishError: "The bundle may not be published",
    RemovalError: "The bundle may not be removed now",
    TermsChangedError: "The terms are other ones",
    CredentialError: "That is no such credential",
    DepositError: "The bundle may not be sent there",
    NoticeError: "Nobody can be told so",
    CorrectionError: "The correction is not valid",
    DecisionError: "The correction cannot be decided",
    RecordError: "The catalog would contradict itself",
    TooManyCorrectionsError: "Enough corrections for a day",
    QueryError: "The query is not valid",
    RulesError: "The rules are not valid",
    SearchUnavailableError: "Search is away",
    RecursionError: "The body is nested too deeply",
}


class FieldErrorOut(serializers.Serializer[Any]):
    """One thing that is wrong with a request."""

    path = serializers.CharField(help_text="where: a parameter or a place in the body")
    found = serializers.CharField(help_text="the value found")
    expected = serializers.CharField(help_text="what would be valid")
    message = serializers.CharField(help_text="both in one sentence, with the nearest valid value")


class ProblemOut(serializers.Serializer[Any]):
    """Every error of the API."""

    title = serializers.CharField()
    status = serializers.IntegerField()
    code = serializers.CharField(help_text="a word that stays the same; the others may change")
    detail = serializers.CharField()
    errors = FieldErrorOut(many=True)  # type: ignore[assignment] # DRF keeps fields elsewhere


class ParameterError(exceptions.APIException):
    """Query parameters that cannot be used."""

    status_code = HTTPStatus.BAD_REQUEST
    default_detail = "The query is not valid"
    default_code = "parameter_invalid"

    def __init__(self, errors: Sequence[Mapping[str, str]]) -> None:
        super().__init__("; ".join(error["message"] for error in errors))
        self.errors = [dict(error) for error in errors]


class GoneOut(ProblemOut):
    """A bundle that was removed: why, and the recipe that builds it again."""

    removed_at = serializers.DateTimeField()
    recipe = serializers.JSONField()


class GoneError(exceptions.APIException):
    """A bundle whose files were removed by a rule or by hand."""

    status_code = HTTPStatus.GONE
    default_code = "gone"

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(f"bundle {bundle.pk[:12]} was removed: {bundle.removed_why}")
        self.extra = {"removed_at": bundle.removed_at, "recipe": bundle.recipe}


def body(
    status: int,
    detail: str,
    title: str = "",
    errors: Sequence[Mapping[str, Any]] = (),
    code: str = "",
) -> dict[str, Any]:
    """An error as data; without a code of its own, that of its status."""
    known = HTTPStatus(status)
    return {
        "title": title or known.phrase,
        "status": int(status),
        "code": code or known.name.lower(),
        "detail": detail,
        "errors": list(errors),
    }


def handle(exc: Exception, context: dict[str, Any]) -> Response | None:  # noqa: ARG001
    """Turn an exception of a view into the error shape; None leaves it to the server's 500."""
    kind = next((kind for kind in STATUS_OF if isinstance(exc, kind)), None)
    if kind is not None:
        errors = [_field_error(error) for error in getattr(exc, "errors", ())]
        detail = str(exc) or "No such thing here"
        if isinstance(exc, BuildError):
            detail = f"{exc.code}: {exc}"
        if kind is RecursionError:
            detail = "Nesting is limited; send a flatter document"
        code = exc.code if isinstance(exc, BuildError) else CODE_OF.get(kind, "")
        data = body(STATUS_OF[kind], detail, TITLE_OF.get(kind, ""), errors, code)
        headers = {}
        if kind is SearchUnavailableError:
            headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
        if kind is SignInError:
            headers["WWW-Authenticate"] = 'Bearer realm="api"'
        return Response(data, STATUS_OF[kind], headers=headers, content_type=CONTENT_TYPE)
    if isinstance(exc, exceptions.APIException):
        return _of_framework(exc)
    return None


def _field_error(error: Mapping[str, Any]) -> dict[str, str]:
    """The four keys that every error of the API has."""
    return {name: str(error[name]) for name in ("path", "found", "expected", "message")}


def _of_framework(exc: exceptions.APIException) -> Response:
    errors: list[dict[str, str]] = list(getattr(exc, "errors", ()))
    detail = str(exc.detail) if isinstance(exc.detail, str) else "The request is not valid"
    if isinstance(exc, exceptions.ValidationError):
        errors = _flatten(exc.detail)
        detail = "; ".join(error["message"] for error in errors)
    headers = {}
    if challenge := getattr(exc, "auth_header", None):
        headers["WWW-Authenticate"] = challenge
    if wait := getattr(exc, "wait", None):
        headers["Retry-After"] = str(int(wait))
    codes = exc.get_codes()
    code = codes if isinstance(codes, str) else "invalid"
    data = body(exc.status_code, detail, errors=errors, code=code) | getattr(exc, "extra", {})
    return Response(data, exc.status_code, headers=headers, content_type=CONTENT_TYPE)


def _flatten(detail: Any, path: str = "") -> list[dict[str, str]]:
    if isinstance(detail, Mapping):
        return [
            error
            for key, value in detail.items()
            for error in _flatten(value, f"{path}.{key}".lstrip("."))
        ]
    if isinstance(detail, list):
        return [error for value in detail for error in _flatten(value, path)]
    message = f"{path}: {detail}" if path else str(detail)
    return [{"path": path, "found": "", "expected": "", "message": message}]
