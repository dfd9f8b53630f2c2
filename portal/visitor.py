"""From which address a visitor comes, where proxies stand between."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

from django.conf import settings

FORWARDED = ("HTTP_X_FORWARDED_FOR", "HTTP_FORWARDED", "HTTP_X_REAL_IP")


def address_of(request: Any) -> str:
    """The visitor's address; empty where a proxy does not tell it.

    Each of settings.PROXIES adds the address that it was asked from to the end of X-Forwarded-For:
    what stands before those is the visitor's own invention.
    """
    peer = str(request.META.get("REMOTE_ADDR", ""))
    if not is_proxied(request):
        return peer
    told = [one.strip() for one in request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")]
    found = told[-min(settings.PROXIES, len(told))]
    return found if _parsed(found) else ""


def address_or_none(request: Any) -> str | None:
    """The same as databases keep it."""
    return address_of(request) or None


def is_proxied(request: Any) -> bool:
    """Whether a proxy asks, by the settings."""
    if not settings.PROXIES:
        return False
    peer = request.META.get("REMOTE_ADDR", "")
    return not settings.PROXY_NETWORKS or is_in(peer, settings.PROXY_NETWORKS)


def is_direct(request: Any) -> bool:
    """Whether nobody stands between, as far as one can tell."""
    return not is_proxied(request) and not any(name in request.META for name in FORWARDED)


def is_in(address: str, networks: list[str]) -> bool:
    """Whether an address is in one of the networks."""
    found = _parsed(address)
    return found is not None and any(found in ip_network(network) for network in networks)


def _parsed(address: str) -> Any:
    try:
        return ip_address(address)
    except ValueError:
        return None
