"""A request that is sent twice under one Idempotency-Key is done once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from django.db import IntegrityError, transaction
from django.utils.timezone import now
from rest_framework.exceptions import APIException
from rest_framework.request import Request

from portal.access import user_of
from portal.api.errors import ParameterError
from portal.models import RepeatableRequest
from workers.models import Run
from workers.submit import digest

HEADER, LONGEST = "Idempotency-Key", 200
KEPT = timedelta(days=30)


class KeyReusedError(APIException):
    """The key was used for something else."""

    status_code = 422
    default_code = "idempotency_key_reused"


def once(request: Request, start: Callable[[], Run], body: Mapping[str, Any]) -> Run:
    """The run that was started under the request's key, or a new one.

    Keys are per user, and forgotten after `KEPT`.

    Raises:
        ParameterError: a key that is empty, too long or no plain text.
        KeyReusedError: the key was sent with another body.
    """
    key = request.headers.get(HEADER)
    if key is None:
        return start()
    if not key.isascii() or not key.isprintable() or not 1 <= len(key) <= LONGEST:
        expected = f"1 to {LONGEST} plain characters"
        message = f"{HEADER}: found {len(key)} characters, expected {expected}"
        found = {"path": HEADER, "found": key[:LONGEST], "expected": expected, "message": message}
        raise ParameterError([found])
    RepeatableRequest.objects.filter(created_at__lt=now() - KEPT).delete()
    mine = RepeatableRequest.objects.select_related("run").filter(owner=user_of(request), key=key)
    asked = digest(body)
    if (earlier := mine.first()) is None:
        run = start()
        try:
            with transaction.atomic():
                earlier = RepeatableRequest.objects.create(
                    owner=user_of(request), key=key, body=asked, run=run
                )
        except IntegrityError:  # the same request came twice at once
            earlier = mine.get()
    if earlier.body != asked:
        raise KeyReusedError(f"{HEADER}: {key!r} was sent with another body before")
    return earlier.run
