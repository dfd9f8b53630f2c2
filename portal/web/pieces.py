"""What lists of results show of a dataset, whatever was asked: HTML, written once for each state.

A state is a row's digest and the time of its last change, so what is shown is never older than
the row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import NamedTuple

from django.template.loader import render_to_string
from django.urls import get_script_prefix
from django.utils.safestring import SafeString

from catalog.models import Dataset

KEPT = 20_000  # a kB or two each
KINDS = ("card", "member", "name", "facts")


class _Key(NamedTuple):
    """One piece of one state of a dataset; links begin with the prefix of the whole portal."""

    kind: str
    slug: str
    digest: str
    updated_at: datetime
    prefix: str


_written: dict[_Key, SafeString] = {}


def pieces(slugs: Iterable[str], *kinds: str) -> Mapping[str, tuple[SafeString, ...]]:
    """For each dataset that exists its pieces of `kinds`, in that order.

    One query, and a second one where something has not been written yet.
    """
    prefix = get_script_prefix()
    states = Dataset.objects.filter(slug__in=list(slugs)).order_by()
    found, new = {}, []
    for slug, digest, updated_at in states.values_list("slug", "digest", "updated_at"):
        keys = [_Key(kind, slug, digest, updated_at, prefix) for kind in kinds]
        known = tuple(_written[key] for key in keys if key in _written)
        if len(known) == len(kinds):
            found[slug] = known
        else:
            new.append(slug)
    if new:
        for row in Dataset.objects.filter(slug__in=new).order_by().defer("record"):
            found[row.slug] = tuple(_write(kind, row, prefix) for kind in kinds)
    return found


def _write(kind: str, row: Dataset, prefix: str) -> SafeString:
    html = render_to_string(f"datasets/pieces/{kind}.html", {"dataset": row})
    if len(_written) >= KEPT:
        _written.clear()
    _written[_Key(kind, row.slug, row.digest, row.updated_at, prefix)] = html
    return html
