"""What lists of results show of a dataset, whatever was asked: HTML, written once for each state.

A state is a row's digest and the time of its last change, so what is shown is never older than
the row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import NamedTuple

from django.db import connection
from django.template.loader import render_to_string
from django.urls import get_script_prefix
from django.utils.safestring import SafeString

from catalog.models import Dataset

KEPT = 20_000  # a kB or two each


class _Key(NamedTuple):
    """One piece of one state of a dataset; links begin with the prefix of the whole portal."""

    kind: str
    slug: str
    digest: str
    updated_at: object  # as the database's driver gives it
    prefix: str


_written: dict[_Key, SafeString] = {}


def pieces(slugs: Iterable[str], *kinds: str) -> Mapping[str, tuple[SafeString, ...]]:
    """For each dataset that exists its pieces of `kinds`, in that order.

    One query, and a second one where something has not been written yet.
    """
    prefix = get_script_prefix()
    found, new = {}, {}
    for state in _states([*dict.fromkeys(slugs)]):
        keys = [_Key(kind, *state, prefix) for kind in kinds]
        known = tuple(_written[key] for key in keys if key in _written)
        if len(known) == len(kinds):
            found[state[0]] = known
        else:
            new[state[0]] = keys
    if new:
        for row in Dataset.objects.filter(slug__in=new).order_by().defer("record"):
            found[row.slug] = tuple(_write(key, row) for key in new[row.slug])
    return found


def _states(slugs: Sequence[str]) -> list[tuple[str, str, object]]:
    """Slug, digest and time of the last change of each that exists."""
    if not slugs:
        return []
    with connection.cursor() as cursor:
        cursor.execute(_question(len(slugs)), slugs)
        return list(cursor.fetchall())


@cache
def _question(number: int) -> str:
    """The query for so many: Django takes longer to write it than a database to answer it."""
    some = Dataset.objects.filter(slug__in=map(str, range(number))).order_by()
    sql, _ = some.values_list("slug", "digest", "updated_at").query.sql_with_params()
    return sql


def _write(key: _Key, row: Dataset) -> SafeString:
    if len(_written) >= KEPT:
        _written.clear()
    html = render_to_string(f"datasets/pieces/{key.kind}.html", {"dataset": row})
    return _written.setdefault(key, html)
