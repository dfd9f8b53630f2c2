"""Atom feeds: of a saved search, those that changed last first, and of the catalog's versions."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from itertools import islice

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.urls import reverse
from django.utils.cache import get_conditional_response
from django.utils.feedgenerator import Atom1Feed
from django.utils.html import escape
from django.utils.http import quote_etag
from django.views.decorators.http import require_safe

from catalog.describe import describe
from catalog.models import CatalogRevision, Dataset
from catalog.oai import plain
from catalog.search import Query, QueryError
from catalog.search.index import current_key
from catalog.search.query import MAX_DEPTH, MAX_LIMIT
from portal.searches import in_words, search_params
from portal.web.finding import find
from portal.web.paging import question

AUTHOR = "Imaging-X Portal"
SINCE = 2026  # the year in which entry ids were minted; it never changes


@require_safe
def index(request: HttpRequest) -> HttpResponseBase:
    """Takes what a search takes; `limit` counts entries, `sort` and `page` mean nothing here."""
    try:
        query = Query.from_params(request.GET)
    except QueryError as error:
        return HttpResponse(f"{error}\n", status=400, content_type="text/plain; charset=utf-8")
    limit = query.limit if "limit" in request.GET else MAX_LIMIT
    params = search_params(query)
    address = request.build_absolute_uri(reverse("dataset-feed") + question(params))
    etag = _etag(current_key(), address, str(limit))
    if (unchanged := get_conditional_response(request, etag=etag)) is not None:
        return unchanged
    body = _write(request, query, address, limit)
    return HttpResponse(body, content_type=Atom1Feed.content_type, headers={"ETag": etag})


@require_safe
def versions(request: HttpRequest) -> HttpResponseBase:
    """The catalog's versions, the newest first: one entry each."""
    rows = list(CatalogRevision.objects.all()[:MAX_LIMIT])
    address = request.build_absolute_uri(reverse("versions-feed"))
    etag = _etag(address, rows[0].digest if rows else "", str(rows[0].number if rows else 0))
    if (same := get_conditional_response(request, etag=etag)) is not None:
        return same
    feed = Atom1Feed(
        title="Versions of the Imaging-X Portal catalog",
        link=request.build_absolute_uri(reverse("versions")),
        description="",
        language="en-gb",
        author_name=AUTHOR,
        feed_url=address,
        feed_guid=address,
    )
    for row in rows:
        counts = f"{row.new_count} new, {row.changed_count} changed, {row.gone_count} gone"
        feed.add_item(
            title=f"Version {row.number}: {counts}",
            link=request.build_absolute_uri(reverse("version", args=[row.number])),
            description=escape(plain(f"{row.dataset_count} datasets. Cause: {row.cause}")),
            unique_id=f"tag:{_host(request)},{SINCE}:version/{row.number}/{row.digest[:16]}",
            updateddate=row.loaded_at,
        )
    body = feed.writeString("utf-8")
    return HttpResponse(body, content_type=Atom1Feed.content_type, headers={"ETag": etag})


def _etag(*parts: str) -> str:
    return quote_etag(hashlib.sha256(repr(parts).encode()).hexdigest()[:32])


def _write(request: HttpRequest, query: Query, address: str, limit: int) -> str:
    total, slugs = _matching(query)
    last = _changed_last(slugs, limit)
    page = request.build_absolute_uri(reverse("datasets") + question(search_params(query)))
    feed = Atom1Feed(
        title=plain(f"Datasets: {in_words(query)}"),
        subtitle=f"{len(last)} of {total} matching datasets, those that changed last",
        link=page,
        description="",
        language="en-gb",
        author_name=AUTHOR,
        feed_url=address,
        feed_guid=address,
    )
    for dataset in last:
        feed.add_item(
            title=plain(dataset.name),
            link=request.build_absolute_uri(reverse("dataset", args=[dataset.slug])),
            description=escape(plain(describe(dataset.record))),  # readers take it as HTML
            unique_id=f"tag:{_host(request)},{SINCE}:dataset/{dataset.slug}",
            updateddate=dataset.updated_at,
            categories=[*dataset.modalities, *dataset.anatomies, *dataset.tasks],
        )
    return feed.writeString("utf-8")


def _host(request: HttpRequest) -> str:
    """The name without its port: a tag's authority has none."""
    return re.sub(r":\d+$", "", request.get_host())


def _matching(query: Query) -> tuple[int, set[str]]:
    """How many satisfy everything that was asked, and which (the best `MAX_DEPTH` at most)."""
    results, _ = find(query.replace(sort="relevance", limit=MAX_DEPTH))
    return results.total, {hit.slug for hit in results.hits}


def _changed_last(slugs: Iterable[str], limit: int) -> list[Dataset]:
    """Datasets of `slugs`, newest change first; those of one moment by slug. Two queries."""
    order = Dataset.objects.order_by("-updated_at", "slug").values_list("slug", flat=True)
    kept = set(slugs)
    wanted = list(islice((slug for slug in order.iterator() if slug in kept), limit))
    rows = Dataset.objects.in_bulk(wanted, field_name="slug")
    return [rows[slug] for slug in wanted if slug in rows]
