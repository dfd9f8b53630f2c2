"""Pages of a list, with their addresses."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import urlencode

from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import get_script_prefix, reverse

PAGE_SIZE = 30
LONGEST_ADDRESS = 3500  # a longer one is not followed by every server


def question(params: Iterable[tuple[str, str]]) -> str:
    """The query string of an address; empty without parameters."""
    pairs = list(params)
    return f"?{urlencode(pairs)}" if pairs else ""


def path_of(name: str) -> str:
    """The path of a page that has no arguments; Django takes its time to look one up."""
    return _path_of(name, get_script_prefix())


@lru_cache(maxsize=1000)
def _path_of(name: str, prefix: str) -> str:  # noqa: ARG001 - paths begin with the prefix
    return reverse(name)


@dataclass(frozen=True)
class Pages:
    """Where one is in a list; an address is empty where there is no such page."""

    number: int
    last: int
    previous: str
    next: str


def paginate(request: HttpRequest, rows: QuerySet[Any]) -> tuple[list[Any], Pages]:
    """The rows of the page that `page` names (a wrong one: the nearest), in two queries."""
    paginator = Paginator(rows, PAGE_SIZE)
    page = paginator.get_page(request.GET.get("page"))

    def address(number: int) -> str:
        params = request.GET.copy()
        params["page"] = str(number)
        return f"?{params.urlencode()}"

    before = address(page.number - 1) if page.has_previous() else ""
    after = address(page.number + 1) if page.has_next() else ""
    return list(page.object_list), Pages(page.number, paginator.num_pages, before, after)
