"""How often signing in may fail: a name at an address, and an address over all names."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from math import ceil
from typing import Any

from axes.handlers.database import AxesDatabaseHandler
from axes.models import AccessAttempt
from django.conf import settings
from django.utils.timezone import now

from portal.visitor import address_or_none

Row = tuple[str, datetime, int]  # name, last failure, failures


class Attempts(AxesDatabaseHandler):  # type: ignore[misc]
    """axes counts a name at an address; it has one limit for all that it counts."""

    def get_failures(self, request: Any, credentials: dict[str, Any] | None = None) -> int:
        found: int = super().get_failures(request, credentials)
        is_full = _full_until(_rows(request), _most_of_address(request)) is not None
        return max(found, settings.AXES_FAILURE_LIMIT) if is_full else found


def wait(request: Any, name: str) -> tuple[int, bool]:
    """Seconds until `name` may be tried again, and whether its address waits with every name."""
    rows = _rows(request)
    whole = _full_until(rows, _most_of_address(request))
    own = _full_until((row for row in rows if row[0] == name), settings.AXES_FAILURE_LIMIT)
    until = max((end for end in (whole, own) if end), default=now() + settings.AXES_COOLOFF_TIME)
    return max(1, ceil((until - now()).total_seconds())), until == whole


def _rows(request: Any) -> list[Row]:
    """Failures at the visitor's address that still count, the newest first."""
    counted = AccessAttempt.objects.filter(
        ip_address=address_or_none(request), attempt_time__gt=now() - settings.AXES_COOLOFF_TIME
    )
    fields = ("username", "attempt_time", "failures_since_start")
    return list(counted.order_by("-attempt_time").values_list(*fields))


def _most_of_address(request: Any) -> int:
    """0: no limit; visitors whose address no proxy tells are not one visitor."""
    most: int = settings.SIGN_IN_ATTEMPTS_PER_ADDRESS
    return most if address_or_none(request) else 0


def _full_until(rows: Iterable[Row], most: int) -> datetime | None:
    """When fewer than `most` failures of these count again; None: there are fewer, or no limit."""
    total = 0
    for _, at, failures in rows:
        total += failures
        if most and total >= most:
            return at + settings.AXES_COOLOFF_TIME
    return None
