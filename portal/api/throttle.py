"""How often one may ask: by address for visitors, by user for the others."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from rest_framework.request import Request
from rest_framework.throttling import SimpleRateThrottle

from portal.access import user_of
from portal.visitor import address_of


class RateLimit(SimpleRateThrottle):
    """A sliding window; what is left of it is noted on the request for the answer's headers.

    Counts are kept in the cache: with several web processes and no shared cache, each has its own.
    """

    def __init__(self) -> None:
        """The rate is known when it is known who asks."""

    def allow_request(self, request: Request, view: Any) -> bool:
        user = user_of(request)
        self.rate = settings.API_RATE_USER if user else settings.API_RATE
        if not self.rate:
            return True
        most, seconds = self.parse_rate(self.rate)
        self.num_requests, self.duration = most, seconds
        allowed = super().allow_request(request, view)
        oldest = self.history[-1] if self.history else self.now
        request._request.rate = {  # type: ignore[attr-defined]  # noqa: SLF001 - DRF has no other door
            "limit": most,
            "window": seconds,
            "left": max(0, (most or 0) - len(self.history)),
            "reset": max(0, round(oldest + (seconds or 0) - self.now)),
        }
        return allowed

    def get_cache_key(self, request: Request, view: Any) -> str:  # noqa: ARG002
        user = user_of(request)
        return f"rate:user:{user.pk}" if user else f"rate:address:{address_of(request)}"
