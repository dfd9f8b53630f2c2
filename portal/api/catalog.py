"""The catalog as a whole: exports, statistics, and what is doubtful in it."""

from __future__ import annotations

import dataclasses
from typing import Any

from django.http import Http404, HttpResponse
from django.urls import reverse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from catalog import concepts
from catalog.audit import CODES, audit, totals
from catalog.export import FORMATS
from catalog.models import CatalogRevision, Dataset
from catalog.search import Query, search
from catalog.search.gaps import gaps
from catalog.search.query import MAX_DEPTH, PARAMETERS
from catalog.statistics import coverage, every, figures, matrices
from fusion.alignment import proposals
from portal.api import params
from portal.api.errors import ParameterError, ProblemOut
from portal.figures import to_csv, to_svg

MOST_NEAR = 10
FIGURE_FORMATS = {"csv": ("text/csv", to_csv), "svg": ("image/svg+xml", to_svg)}


def _facts(slugs: list[str] | None = None) -> list[dict[str, Any]]:
    """Those of the named datasets, or of all for None."""
    rows = Dataset.objects.all() if slugs is None else Dataset.objects.filter(slug__in=slugs)
    return list(rows.facts())


SEARCHED = tuple(name for name in PARAMETERS if name not in {"sort", "page", "limit"})


def plain(media: str) -> str:
    """A media type without its parameters."""
    return media.partition(";")[0]


class CatalogConcepts(APIView):
    @extend_schema(
        operation_id="catalog_concepts",
        parameters=[OpenApiParameter("q", str, description="a name; the nearest come first")],
        responses={200: OpenApiTypes.OBJECT, 400: ProblemOut},
    )
    def get(self, request: Request) -> Response:
        """What a label may mean: every concept, or those whose names look like `q`."""
        params.check_known(request.query_params, ("q",))
        if text := request.query_params.get("q", "").strip():
            exact = concepts.resolve(text)
            near = {exact.id: 100.0} if exact else {}
            near |= {key: score for key, score in proposals(text, MOST_NEAR) if key not in near}
            rows = [{**concepts.concept(key).as_dict(), "score": near[key]} for key in near]
        else:
            rows = [one.as_dict() for one in concepts.concepts().values()]
        return Response({"total": len(rows), "results": rows})


class CatalogExport(APIView):
    @extend_schema(
        operation_id="catalog_export",
        parameters=[
            OpenApiParameter("format", str, enum=list(FORMATS)),
            OpenApiParameter("slug", str, many=True, description="these datasets alone"),
            *(
                OpenApiParameter(name, str, description="as in a search: what it finds strictly")
                for name in SEARCHED
            ),
        ],
        responses={
            **{(200, plain(media)): OpenApiTypes.BINARY for media, _, _ in FORMATS.values()},
            400: ProblemOut,
            503: ProblemOut,
        },
    )
    def get(self, request: Request) -> HttpResponse:
        """The whole catalog, the datasets named by `slug`, or what a search finds, as a file.

        At most 10,000 of a search, the best ones; always by slug.
        """
        params.check_known(request.query_params, ("format", "slug", *SEARCHED))
        chosen = params.choice(request.query_params, "format", FORMATS) or "jsonl"
        slugs = request.query_params.getlist("slug")
        asked = {name: request.query_params.getlist(name) for name in SEARCHED}
        if any(asked.values()):
            found = search(dataclasses.replace(Query.from_params(asked), limit=MAX_DEPTH))
            hits = {hit.slug for hit in found.hits}
            slugs = sorted(hits & set(slugs) if slugs else hits)
            facts = _facts(slugs)
        else:
            facts = _facts(slugs or None)
        if missing := sorted(set(slugs) - {one["slug"] for one in facts}):
            expected = "slugs of the catalog"
            message = f"slug: found {missing[0]!r}, expected {expected}"
            raise ParameterError(
                [{"path": "slug", "found": missing[0], "expected": expected, "message": message}]
            )
        media, name, write = FORMATS[chosen]
        return HttpResponse(
            write(facts),
            content_type=media,
            headers={"Content-Disposition": f'attachment; filename="{name}"'},
        )


class CatalogStatistics(APIView):
    @extend_schema(
        operation_id="catalog_statistics",
        responses={200: OpenApiTypes.OBJECT, 503: ProblemOut},
    )
    def get(self, request: Request) -> Response:
        """Figures and matrices, each with the rule by which it counts."""
        params.check_known(request.query_params, ())
        facts = _facts()
        revision = CatalogRevision.objects.current()
        return Response(
            {
                "catalog": revision.digest if revision else None,
                "version": revision.number if revision else None,
                "datasets": len(facts),
                "coverage": coverage(facts).as_dict(),
                "figures": [figure.as_dict() for figure in figures(facts)],
                "matrices": [matrix.as_dict() for matrix in matrices(facts)],
                "gaps": gaps(search).as_dict(),
            }
        )


class CatalogFigure(APIView):
    @extend_schema(
        operation_id="catalog_figure",
        parameters=[OpenApiParameter("format", str, enum=["json", *FIGURE_FORMATS])],
        responses={
            (200, "application/json"): OpenApiTypes.OBJECT,
            **{(200, media): OpenApiTypes.BINARY for media, _ in FIGURE_FORMATS.values()},
            400: ProblemOut,
            404: ProblemOut,
        },
    )
    def get(self, request: Request, figure: str) -> HttpResponse:
        """One figure: all of it as JSON or CSV, or drawn as its page shows it."""
        params.check_known(request.query_params, ("format",))
        chosen = params.choice(request.query_params, "format", ("json", *FIGURE_FORMATS))
        known = every(_facts())
        if figure not in known:
            expected = f"one of {', '.join(known)}"
            raise Http404(f"figure: found {figure!r}, expected {expected}")
        if chosen not in FIGURE_FORMATS:
            return Response(known[figure].as_dict())
        media, write = FIGURE_FORMATS[chosen]
        search = request.build_absolute_uri(reverse("datasets"))
        return HttpResponse(
            write(known[figure], search),
            content_type=f"{media}; charset=utf-8",
            headers={"Content-Disposition": f'attachment; filename="{figure}.{chosen}"'},
        )


class CatalogFindings(APIView):
    @extend_schema(
        operation_id="catalog_findings",
        parameters=[OpenApiParameter("code", str, enum=list(CODES))],
        responses={200: OpenApiTypes.OBJECT, 400: ProblemOut},
    )
    def get(self, request: Request) -> Response:
        """What is doubtful or missing: totals by code, and the findings of one code."""
        params.check_known(request.query_params, ("code",))
        code = params.choice(request.query_params, "code", CODES)
        findings = audit(_facts())
        number = totals(findings)
        codes = [
            {"code": name, "severity": CODES[name][0], "meaning": CODES[name][1], "count": count}
            for name, count in number.items()
        ]
        rows = [
            {"code": f.code, "severity": f.severity, "slug": f.slug, "field": f.field}
            | {"found": f.found, "expected": f.expected}
            for f in findings
            if f.code == code
        ]
        return Response({"codes": codes, "findings": rows})
