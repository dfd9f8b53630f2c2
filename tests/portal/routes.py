"""Every route of the URL conf, so that a test of all of them misses none."""

from __future__ import annotations

from collections.abc import Iterator

from django.urls import URLPattern, URLResolver, get_resolver
from django.urls.resolvers import RoutePattern

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


def _all(resolver: URLResolver, before: str = "/") -> Iterator[str]:
    for one in resolver.url_patterns:
        assert isinstance(one.pattern, RoutePattern) or before.startswith("/admin/"), one.pattern
        route = before + str(one.pattern)
        if isinstance(one, URLPattern):
            yield route
        else:
            yield from _all(one, route)


def routes() -> list[str]:
    """As the URL conf writes them: `/runs/<uuid:run_id>/`; those of the admin aside."""
    return [route for route in _all(get_resolver()) if not route.startswith("/admin/")]


def admin_routes() -> list[str]:
    return [route for route in _all(get_resolver()) if route.startswith("/admin/")]
