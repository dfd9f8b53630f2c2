"""Query parameters of list views: each is known, or a 400 names the nearest known one."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import QueryDict
from drf_spectacular.utils import OpenApiParameter
from rest_framework.request import Request

from catalog.faults import closest
from portal.api.errors import ParameterError

FIELDS = OpenApiParameter("fields", str, description="comma list of the keys to answer with")
PAGE_SIZE = 20
MAX_PAGE_SIZE = 200


@dataclass(frozen=True)
class Page:
    """Which part of a list is asked for; both count from 1."""

    page: int
    page_size: int


def check_known(params: QueryDict, known: Collection[str]) -> None:
    """Refuse parameters that the view does not know."""
    if errors := [_unknown(name, known) for name in params if name not in known]:
        raise ParameterError(errors)


def choice(params: QueryDict, name: str, allowed: Collection[str]) -> str | None:
    """One value out of a closed list, or None when it is not given."""
    value = params.get(name)
    if value is None or value in allowed:
        return value
    expected = f"one of {', '.join(sorted(allowed))}"
    message = f"{name}: found {value!r}, expected {expected}{_hint(value, allowed)}"
    raise ParameterError([_error(name, value, expected, message)])


def chosen_fields(params: QueryDict, known: Collection[str]) -> list[str] | None:
    """The keys that `fields`, a comma list, leaves in an answer; None: all."""
    value = params.get("fields")
    if value is None:
        return None
    names = [name.strip() for name in value.split(",") if name.strip()]
    expected = f"some of {', '.join(known)}"
    errors = [
        _error("fields", name, expected, f"fields: found {name!r}, expected {expected}")
        for name in names or [""]
        if name not in known
    ]
    if errors:
        raise ParameterError(errors)
    return names


def pick(row: Mapping[str, Any], names: Collection[str] | None) -> dict[str, Any]:
    """These keys of a row; all of them for None."""
    return {name: value for name, value in row.items() if names is None or name in names}


def read_page(params: QueryDict) -> Page:
    """`page` and `page_size`, or their defaults."""
    return Page(
        count(params, "page", 1, 1_000_000),
        count(params, "page_size", PAGE_SIZE, MAX_PAGE_SIZE),
    )


def paginate(
    request: Request, rows: QuerySet[Any] | Sequence[Any], page: Page
) -> tuple[list[Any], dict[str, Any]]:
    """The rows of one page, and `total` and `next` of the answer. Two queries."""
    pages = Paginator(rows, page.page_size)
    found = list(pages.page(page.page).object_list) if page.page <= pages.num_pages else []
    following = None
    if page.page < pages.num_pages:
        params = request.query_params.copy()
        params["page"] = str(page.page + 1)
        following = request.build_absolute_uri(f"?{params.urlencode()}")
    return found, {"total": pages.count, "next": following}


def count(params: QueryDict, name: str, default: int, most: int) -> int:
    """A whole number from 1 to `most`, or the default when it is not given."""
    value = params.get(name)
    if value is None:
        return default
    if value.isascii() and value.isdigit() and len(value) < 10 and 1 <= int(value) <= most:  # noqa: PLR2004
        return int(value)
    expected = f"a whole number from 1 to {most}"
    raise ParameterError(
        [_error(name, value, expected, f"{name}: found {value!r}, expected {expected}")]
    )


def refused(name: str, found: str, expected: str, message: str) -> ParameterError:
    """A value that is well written and yet cannot be."""
    return ParameterError([_error(name, found, expected, message)])


def _unknown(name: str, known: Collection[str]) -> Mapping[str, str]:
    expected = f"one of {', '.join(sorted(known))}" if known else "no parameters"
    message = f"{name}: unknown parameter, expected {expected}{_hint(name, known)}"
    return _error(name, name, expected, message)


def _hint(word: str, valid: Collection[str]) -> str:
    close = closest(word.lower(), valid)
    return f"; did you mean {close!r}?" if close else ""


def _error(path: str, found: str, expected: str, message: str) -> dict[str, str]:
    return {"path": path, "found": found, "expected": expected, "message": message}
