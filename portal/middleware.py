"""Response headers that hold for every page."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from workers.logs import bound

PLAIN_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
POLICY = "; ".join(  # noqa: FLY002 - one directive a line
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)


class ContentSecurityPolicy:
    """Scripts and styles come from our own static files alone; nothing inline runs."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        response.headers.setdefault("Content-Security-Policy", POLICY)
        return response


class RequestId:
    """Each request has an id, which its log lines and its answer carry.

    A proxy may give it; what is no plain id is replaced by one of our own.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        given = request.headers.get("X-Request-ID", "")
        request_id = given if PLAIN_ID.fullmatch(given) else uuid.uuid4().hex
        with bound(request=request_id):
            response = self.get_response(request)
        response.headers["X-Request-ID"] = request_id
        return response
