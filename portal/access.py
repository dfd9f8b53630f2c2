"""Who may steer a run, and who may look behind the scenes."""

from __future__ import annotations

import hmac
from ipaddress import ip_address, ip_network
from typing import Any

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest

from workers.models import Run

FORWARDED = ("HTTP_X_FORWARDED_FOR", "HTTP_FORWARDED", "HTTP_X_REAL_IP")


def user_of(request: Any) -> Any:
    """The user who is signed in, or None."""
    user = getattr(request, "user", None)
    return user if user is not None and user.is_authenticated else None


def check_may_steer(request: Any, run: Run) -> None:
    """A run with an owner is steered by that owner or by staff; one without, by everybody.

    Raises:
        PermissionDenied: by nobody else.
    """
    user = user_of(request)
    if run.owner_id is None or (user and (user.is_staff or user.pk == run.owner_id)):
        return
    raise PermissionDenied(f"run {run.pk}: it belongs to another user")


def is_operator(request: HttpRequest) -> bool:
    """Staff, who has the token, or a direct caller from one of the allowed networks.

    A request that a proxy forwards has the proxy's address: it needs the token.
    """
    user = user_of(request)
    if user is not None and user.is_staff:
        return True
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    token = settings.METRICS_TOKEN
    if token and scheme.lower() == "bearer":
        return hmac.compare_digest(given.strip().encode(), token.encode())
    if any(name in request.META for name in FORWARDED):
        return False
    try:
        address = ip_address(request.META.get("REMOTE_ADDR", ""))
    except ValueError:
        return False
    return any(address in ip_network(network) for network in settings.METRICS_NETWORKS)
