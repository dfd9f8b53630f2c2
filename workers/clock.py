"""One clock for all worker hosts: the database's."""

from __future__ import annotations

from typing import Any

from django.db import connection
from django.db.models.functions import Now
from django.utils import timezone


def now() -> Any:
    """The moment at which the database runs the statement.

    Leases, waits and messages are written by one host and judged by another, whose clock may be
    hours off or jump. SQLite has no clock but its host's, and writes times with fewer digits than
    it finds them again by: there it is the host's.
    """
    return timezone.now() if connection.vendor == "sqlite" else Now()
