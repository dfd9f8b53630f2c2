"""Response headers that hold for every page."""

from __future__ import annotations

import re
import sys
import uuid
from collections.abc import Callable
from http import HTTPStatus
from typing import cast

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils.cache import (
    get_conditional_response,
    patch_cache_control,
    patch_vary_headers,
    set_response_etag,
)

from portal.access import user_of
from portal.errors import too_large
from workers.logs import bound

LARGEST_BODY = 4 << 20  # of forms and JSON
UPLOAD_PART = "application/offset+octet-stream"
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


class BodyLimit:
    """Bodies end at a size that their address has use for; nothing of a larger one is read.

    Parts of uploads are read by their view alone, once it knows whose they are.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        length = request.META.get("CONTENT_LENGTH") or "0"
        found = int(length) if length.isascii() and length.isdigit() else 0
        if found > LARGEST_BODY and found > (most := self._most(request)):
            return too_large(request, found, most)
        return self.get_response(request)

    @staticmethod
    def _most(request: HttpRequest) -> int:
        if request.content_type == UPLOAD_PART:
            return sys.maxsize
        if request.path.startswith("/uploads/") and user_of(request):
            return max(LARGEST_BODY, settings.UPLOAD_BYTES + LARGEST_BODY)
        return LARGEST_BODY


class ApiManners:
    """What holds for every answer of the API: tags, caching, what is left of the rate.

    A read without a tag of its own gets one, and 304 when the client has it already.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if not request.path.startswith("/api/"):
            return response
        if rate := getattr(request, "rate", None):
            policy = "user" if user_of(request) else "visitor"
            response["RateLimit-Policy"] = f'"{policy}";q={rate["limit"]};w={rate["window"]}'
            response["RateLimit"] = f'"{policy}";r={rate["left"]};t={rate["reset"]}'
        patch_vary_headers(response, ("Authorization", "Cookie"))
        if not response.has_header("Cache-Control"):
            response["Cache-Control"] = "no-cache"  # keep, but ask whether the tag still holds
        if user_of(request):
            patch_cache_control(response, private=True)
        is_read = request.method in {"GET", "HEAD"} and response.status_code == HTTPStatus.OK
        if not is_read or response.streaming or response.has_header("ETag"):
            return response
        set_response_etag(response)
        if not response.has_header("ETag"):  # an empty body gets none
            return response
        tagged = get_conditional_response(request, etag=response["ETag"], response=response)
        return cast("HttpResponse", tagged)


class RequestId:
    """Each request has an id, which its log lines and its answer carry.

    A proxy may give it; what is no plain id is replaced by one of our own.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        given = request.headers.get("X-Request-ID", "")
        request_id = given if PLAIN_ID.fullmatch(given) else uuid.uuid4().hex
        request.id = request_id  # type: ignore[attr-defined] # for lines written after its end
        with bound(request=request_id):
            response = self.get_response(request)
        response.headers["X-Request-ID"] = request_id
        return response
