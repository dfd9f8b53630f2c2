"""What crawlers and other catalogs read: robots.txt, sitemap, OpenSearch description, DCAT."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from django.contrib.sitemaps import Sitemap
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.utils.cache import get_conditional_response, patch_vary_headers
from django.utils.http import quote_etag
from django.views.decorators.http import require_safe

from catalog.dcat import to_graph
from catalog.models import CatalogRevision, Dataset
from fusion.models import Bundle

PAGES = ("home", "datasets", "statistics", "rules", "versions", "recipes", "bundles")
# format -> (media type, rdflib's name)
DCAT_FORMATS: Mapping[str, tuple[str, str]] = {
    "turtle": ("text/turtle", "turtle"),
    "json-ld": ("application/ld+json", "json-ld"),
    "xml": ("application/rdf+xml", "xml"),
}


class DatasetPages(Sitemap):  # type: ignore[type-arg]
    """Every dataset, with the day of its last change."""

    limit = 2000

    def items(self) -> QuerySet[Dataset]:
        return Dataset.objects.in_order().only("slug", "updated_at")

    def location(self, item: Dataset) -> str:
        return reverse("dataset", args=[item.slug])

    def lastmod(self, item: Dataset) -> datetime:
        return item.updated_at


class BundlePages(Sitemap):  # type: ignore[type-arg]
    """Published bundles that are still there."""

    limit = 2000

    def items(self) -> QuerySet[Bundle]:
        return Bundle.objects.filter(public=True, removed_at=None).order_by("bundle_id").only("pk")

    def location(self, item: Bundle) -> str:
        return reverse("bundle", args=[item.pk])


class OtherPages(Sitemap):  # type: ignore[type-arg]
    """Pages that are always there."""

    def items(self) -> list[str]:
        return list(PAGES)

    def location(self, item: str) -> str:
        return reverse(item)


SITEMAPS = {"datasets": DatasetPages, "bundles": BundlePages, "pages": OtherPages}


@require_safe
def robots(request: HttpRequest) -> HttpResponse:
    """Datasets are to be found; accounts, runs and endless combinations of filters are not."""
    sitemap = request.build_absolute_uri(reverse("sitemap"))
    lines = [
        "User-agent: *",
        *(f"Disallow: {path}" for path in ("/account/", "/admin/", "/runs/", "/login/", "/api/")),
        "Disallow: /datasets/?*&",
        "Allow: /api/v1/catalog/export/",
        f"Sitemap: {sitemap}",
    ]
    return HttpResponse("\n".join([*lines, ""]), content_type="text/plain; charset=utf-8")


@require_safe
def opensearch(request: HttpRequest) -> HttpResponse:
    """How a browser searches here by itself."""
    context = {
        "search": request.build_absolute_uri(reverse("datasets")),
        "feed": request.build_absolute_uri(reverse("dataset-feed")),
        "icon": request.build_absolute_uri("/static/portal/img/logo.svg"),
    }
    media = "application/opensearchdescription+xml"
    return render(request, "opensearch.xml", context, content_type=f"{media}; charset=utf-8")


@require_safe
def dcat(request: HttpRequest) -> HttpResponseBase:
    """The whole catalog as DCAT with our addresses, in the format asked for by name or Accept."""
    name = request.GET.get("format") or _accepted(request)
    if name not in DCAT_FORMATS:
        said = f"format: found {name!r}, expected one of {', '.join(DCAT_FORMATS)}\n"
        return HttpResponse(said, status=400, content_type="text/plain; charset=utf-8")
    media, writer = DCAT_FORMATS[name]
    version = CatalogRevision.objects.current()
    etag = quote_etag(f"{version.digest[:32] if version else 'none'}-{name}-{request.get_host()}")
    answer = get_conditional_response(request, etag=etag)
    if answer is None:
        base = request.build_absolute_uri(reverse("datasets"))
        graph = to_graph(Dataset.objects.facts(), base)
        body = graph.serialize(format=writer, encoding="utf-8")
        answer = HttpResponse(body, content_type=f"{media}; charset=utf-8", headers={"ETag": etag})
    patch_vary_headers(answer, ["Accept"])
    return answer


def _accepted(request: HttpRequest) -> str:
    wanted = request.get_preferred_type([media for media, _ in DCAT_FORMATS.values()])
    return next((name for name, (media, _) in DCAT_FORMATS.items() if media == wanted), "turtle")
