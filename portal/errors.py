"""Errors outside a view: pages get a page, the API gets its error shape."""

from __future__ import annotations

from http import HTTPStatus

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views import defaults

from portal.api.errors import CONTENT_TYPE, body

API = "/api/"


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:  # noqa: ARG001
    """No such address."""
    if request.path.startswith(API):
        detail = f"{request.path}: no such endpoint; the schema lists them: /api/v1/schema/"
        return _as_problem(HTTPStatus.NOT_FOUND, detail)
    return render(request, "404.html", status=HTTPStatus.NOT_FOUND)


def server_error(request: HttpRequest) -> HttpResponse:
    """Something broke; the log says what."""
    if request.path.startswith(API):
        return _as_problem(HTTPStatus.INTERNAL_SERVER_ERROR, "It was noted in the server's log")
    return defaults.server_error(request)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """A request that no view was asked about: a wrong host, too many fields."""
    if request.path.startswith(API):
        return _as_problem(HTTPStatus.BAD_REQUEST, "The request cannot be read")
    return defaults.bad_request(request, exception)


def too_large(request: HttpRequest, found: int, most: int) -> HttpResponse:
    """A body that is not read."""
    status, detail = HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"found {found} bytes, limit {most}"
    if request.path.startswith(API):
        return _as_problem(status, detail)
    return render(request, "413.html", {"found": found, "most": most}, status=status)


def _as_problem(status: HTTPStatus, detail: str) -> HttpResponse:
    return JsonResponse(body(status, detail), status=status, content_type=CONTENT_TYPE)
