"""Bundles: what there is, what is in it, and its bytes with ranges and entity tags."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import timedelta
from http import HTTPStatus
from typing import IO, Any, cast

from django.core.files.storage import storages
from django.http import Http404, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils.http import content_disposition_header
from django.utils.timezone import now
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from fusion.bundle.download import BundleTar, view_tar
from fusion.bundle.errors import BundleError
from fusion.bundle.manifest import manifest_of
from fusion.bundle.views import VIEWS
from fusion.models import BASELINE_PAGE, REPORT, Bundle
from portal.access import check_may_publish, kept_bundles, may_publish, see_bundle
from portal.api import errors, params
from portal.api.auth import check_scope
from portal.api.errors import GoneError, GoneOut, ProblemOut
from portal.api.ranges import Span, decide
from portal.models import Scope
from portal.publishing import discard_bundle, publish_bundle, withdraw_bundle
from workers.publish import OUTSIDE_SUMS, outside_sums

CHUNK_BYTES = 1 << 20
READ_SECONDS = 60  # for so long a download says that it reads the bundle, again and again

RANGE_HEADERS = [
    OpenApiParameter("Range", str, OpenApiParameter.HEADER, description="bytes=first-last"),
    OpenApiParameter("If-Range", str, OpenApiParameter.HEADER),
    OpenApiParameter("If-None-Match", str, OpenApiParameter.HEADER),
]


class FileOut(serializers.Serializer[Any]):
    path = serializers.CharField()
    bytes = serializers.IntegerField()
    sha256 = serializers.CharField()
    url = serializers.CharField()


class BundleOut(serializers.ModelSerializer[Bundle]):
    url = serializers.SerializerMethodField()
    page = serializers.SerializerMethodField()
    download = serializers.SerializerMethodField()
    report = serializers.SerializerMethodField(help_text="the quality report as a page; or null")
    baseline_page = serializers.SerializerMethodField(help_text="the baseline as a page; or null")
    file_count = serializers.SerializerMethodField()

    class Meta:
        model = Bundle
        fields = [
            "bundle_id",
            "title",
            "build",
            "public",
            "size_bytes",
            "file_count",
            "created_at",
            "url",
            "page",
            "download",
            "report",
            "baseline_page",
        ]

    def get_url(self, bundle: Bundle) -> str:
        return reverse("api:bundle", args=[bundle.pk])

    def get_page(self, bundle: Bundle) -> str:
        return reverse("bundle", args=[bundle.pk])

    def get_download(self, bundle: Bundle) -> str:
        return reverse("api:bundle-download", args=[bundle.pk])

    def get_report(self, bundle: Bundle) -> str | None:
        return reverse("bundle-report", args=[bundle.pk]) if bundle.has(REPORT) else None

    def get_baseline_page(self, bundle: Bundle) -> str | None:
        return reverse("bundle-baseline", args=[bundle.pk]) if bundle.has(BASELINE_PAGE) else None

    def get_file_count(self, bundle: Bundle) -> int:
        return len(bundle.files)


class BundleDetailOut(BundleOut):
    summary = serializers.JSONField(help_text="sources, cases, splits, exclusions, findings")
    baseline = serializers.JSONField(allow_null=True, help_text="baseline.json, or null")
    recipe = serializers.JSONField()

    class Meta(BundleOut.Meta):
        fields = [*BundleOut.Meta.fields, "summary", "baseline", "recipe"]


class BundleListOut(serializers.Serializer[Any]):
    total = serializers.IntegerField()
    next = serializers.URLField(allow_null=True)
    results = BundleOut(many=True)


class FileListOut(serializers.Serializer[Any]):
    total = serializers.IntegerField()
    next = serializers.URLField(allow_null=True)
    results = FileOut(many=True)


SHOWN = {
    200: BundleDetailOut,
    401: ProblemOut,
    403: ProblemOut,
    404: ProblemOut,
    409: ProblemOut,
    410: GoneOut,
}


class BundleList(APIView):
    @extend_schema(
        operation_id="bundles_list",
        parameters=[
            OpenApiParameter("page", int),
            OpenApiParameter("page_size", int),
            params.FIELDS,
        ],
        responses={200: BundleListOut, 400: ProblemOut},
    )
    def get(self, request: Request) -> Response:
        """Bundles that one may see, the newest first."""
        params.check_known(request.query_params, {"page", "page_size", "fields"})
        fields = params.chosen_fields(request.query_params, BundleOut.Meta.fields)
        page = params.read_page(request.query_params)
        found, envelope = params.paginate(request, kept_bundles(request), page)
        results = [params.pick(row, fields) for row in BundleOut(found, many=True).data]
        return Response({**envelope, "results": results})


class BundleDetail(APIView):
    scope = Scope.RUN

    @extend_schema(
        operation_id="bundles_read",
        parameters=[params.FIELDS],
        responses={200: BundleDetailOut, 404: ProblemOut, 410: GoneOut},
    )
    def get(self, request: Request, bundle_id: str) -> Response:
        """One bundle: its recipe, summary and baseline."""
        params.check_known(request.query_params, ("fields",))
        fields = params.chosen_fields(request.query_params, BundleDetailOut.Meta.fields)
        return Response(params.pick(BundleDetailOut(find_bundle(request, bundle_id)).data, fields))

    @extend_schema(
        operation_id="bundles_remove",
        parameters=[
            OpenApiParameter(
                "why",
                str,
                description="a note that the removed bundle shows; asked for where it is published "
                "or was sent elsewhere, and of staff",
            )
        ],
        responses={
            204: None, 400: ProblemOut, 401: ProblemOut, 403: ProblemOut, 404: ProblemOut,
            409: ProblemOut, 410: GoneOut,
        },
    )  # fmt: skip
    def delete(self, request: Request, bundle_id: str) -> Response:
        """Remove a bundle of one's own; its files go when nobody else holds it."""
        params.check_known(request.query_params, ("why",))
        bundle = find_bundle(request, bundle_id)
        check_may_publish(request, bundle)
        discard_bundle(bundle, request.user, request.query_params.get("why", ""))
        return Response(status=HTTPStatus.NO_CONTENT)


class BundleBaseline(APIView):
    @extend_schema(
        operation_id="bundles_baseline",
        responses={200: OpenApiTypes.OBJECT, 404: ProblemOut},
    )
    def get(self, request: Request, bundle_id: str) -> Response:
        """The bundle's baseline.json: matrix, gains, verdict with reasons, shift, calibration."""
        params.check_known(request.query_params, ())
        bundle = see_bundle(request, bundle_id)
        if bundle.baseline is None:
            raise Http404(f"no baseline was run for bundle {bundle_id[:12]}")
        return Response(bundle.baseline)


class BundleFiles(APIView):
    @extend_schema(
        operation_id="bundles_files", responses={200: FileListOut, 404: ProblemOut, 410: GoneOut}
    )
    def get(self, request: Request, bundle_id: str) -> Response:
        """Every file of a bundle with its size and SHA-256."""
        params.check_known(request.query_params, ())
        bundle = find_bundle(request, bundle_id)
        found = [
            {**file, "url": reverse("api:bundle-file", args=[bundle.pk, file["path"]])}
            for file in [*bundle.files, *outside_sums(bundle)]
        ]
        data = FileOut(found, many=True).data
        return Response({"total": len(found), "next": None, "results": data})


class BundlePublish(APIView):
    scope = Scope.RUN

    @extend_schema(operation_id="bundles_publish", request=None, responses=SHOWN)
    def post(self, request: Request, bundle_id: str) -> Response:
        """Show a bundle to everybody; licences decide whether it may be."""
        params.check_known(request.query_params, ())
        bundle = find_bundle(request, bundle_id)
        check_may_publish(request, bundle)
        publish_bundle(bundle, request.user)
        return Response(BundleDetailOut(find_bundle(request, bundle_id)).data)


class BundleWithdraw(APIView):
    scope = Scope.RUN

    @extend_schema(operation_id="bundles_withdraw", request=None, responses=SHOWN)
    def post(self, request: Request, bundle_id: str) -> Response:
        """Show a bundle to its makers alone again; curators do that with any."""
        params.check_known(request.query_params, ())
        bundle = find_bundle(request, bundle_id)
        check_may_publish(request, bundle, curators=True)
        if not may_publish(request, bundle):
            check_scope(request, Scope.CURATE)
        withdraw_bundle(bundle)
        bundle.refresh_from_db()
        return Response(BundleDetailOut(bundle).data)


class AnyAccept(BaseContentNegotiation):
    """Downloads are what they are, whatever the client says it accepts."""

    def select_parser(self, request: Request, parsers: Any) -> Any:  # noqa: ARG002
        return parsers[0]

    def select_renderer(self, request: Request, renderers: Any, format_suffix: Any = None) -> Any:  # noqa: ARG002
        return renderers[0], renderers[0].media_type


class Download(APIView):
    """What the two downloads share: conditions, ranges and headers."""

    content_negotiation_class = AnyAccept

    def answer(
        self, request: Request, etag: str, size: int, name: str, content_type: str
    ) -> tuple[HttpResponseBase, Span | None]:
        """A response without content, and the bytes to put in (None: nothing to send)."""
        found = decide(request.headers, etag, size)
        if found.status in {412, 416}:
            detail = "The tag does not match" if found.status == 412 else f"There are {size} bytes"  # noqa: PLR2004
            data = errors.body(found.status, detail)
            refused = Response(data, found.status, content_type=errors.CONTENT_TYPE)
            refused["ETag"] = etag
            if found.status == 416:  # noqa: PLR2004
                refused["Content-Range"] = f"bytes */{size}"
            return refused, None
        sends = found.span is not None and request.method == "GET"
        kind = StreamingHttpResponse if sends else HttpResponse
        response: HttpResponseBase = kind(status=found.status, content_type=content_type)
        response["ETag"] = etag
        response["Accept-Ranges"] = "bytes"
        response["Cache-Control"] = "no-cache"  # keep, but ask whether the tag still holds
        if found.status == 304:  # noqa: PLR2004
            response["Content-Length"] = str(size)  # that of the 200, or none at all
        if found.span is not None:
            response["Content-Length"] = str(found.span.length)
            response["Content-Disposition"] = str(content_disposition_header(True, name))
        if found.status == 206 and found.span is not None:  # noqa: PLR2004
            response["Content-Range"] = found.span.content_range
        return response, found.span if sends else None


class BundleDownload(Download):
    @extend_schema(
        operation_id="bundles_download",
        parameters=[
            *RANGE_HEADERS,
            OpenApiParameter("view", str, enum=list(VIEWS), description="as another tool reads it"),
        ],
        responses={
            (200, "application/x-tar"): OpenApiTypes.BINARY,
            (206, "application/x-tar"): OpenApiTypes.BINARY,
            400: ProblemOut,
            404: ProblemOut,
            410: GoneOut,
            409: ProblemOut,
            416: ProblemOut,
        },
    )
    def get(self, request: Request, bundle_id: str) -> HttpResponseBase:
        """The whole bundle, or a view of it, as one tar; it can be resumed, byte for byte."""
        params.check_known(request.query_params, ("view",))
        view = params.choice(request.query_params, "view", tuple(VIEWS))
        bundle = find_bundle(request, bundle_id)
        storage, folder = storages["bundles"], bundle.bundle_id
        files = [*bundle.files, *outside_sums(bundle)]

        def opened(path: str) -> IO[bytes]:
            return cast("IO[bytes]", storage.open(f"{folder}/{path}"))

        if view:
            if not bundle.has("manifest.json"):
                raise Http404(f"manifest.json: no file of bundle {bundle_id[:12]}")
            with opened("manifest.json") as file:
                manifest = manifest_of(json.load(file))
            root = f"{folder[:12]}-{view}"
            try:
                tar = view_tar(manifest, view, files, opened, root)
            except BundleError as error:
                return _refused(error)
        else:
            tar, root = BundleTar(files, opened, folder[:12]), folder[:12]
        name = f"{root}.tar"
        response, span = self.answer(request, tar.etag, tar.size, name, "application/x-tar")
        if span is not None and isinstance(response, StreamingHttpResponse):
            response.streaming_content = _held(bundle, tar.iter_range(span.start, span.stop))
        return response


class BundleFile(Download):
    @extend_schema(
        operation_id="bundles_file",
        parameters=RANGE_HEADERS,
        responses={
            (200, "application/octet-stream"): OpenApiTypes.BINARY,
            (206, "application/octet-stream"): OpenApiTypes.BINARY,
            404: ProblemOut,
            410: GoneOut,
            416: ProblemOut,
        },
    )
    def get(self, request: Request, bundle_id: str, path: str) -> HttpResponseBase:
        """One file of a bundle; its entity tag is its SHA-256."""
        params.check_known(request.query_params, ())
        bundle = find_bundle(request, bundle_id)
        files = outside_sums(bundle) if path in OUTSIDE_SUMS else bundle.files
        file = next((file for file in files if file["path"] == path), None)
        if file is None:
            raise Http404(f"{path}: no file of bundle {bundle_id[:12]}")
        etag, name = f'"{file["sha256"]}"', path.rsplit("/", 1)[-1]
        # Never a type that a browser would run: bundles hold other people's files.
        response, span = self.answer(request, etag, file["bytes"], name, "application/octet-stream")
        if span is not None and isinstance(response, StreamingHttpResponse):
            opened = storages["bundles"].open(f"{bundle.bundle_id}/{path}")
            response.streaming_content = _read(opened, span)
        return response


def find_bundle(request: Request, bundle_id: str) -> Bundle:
    """Raises GoneError for a removed one, Http404 for one that never was or may not be seen."""
    bundle = see_bundle(request, bundle_id)
    if bundle.removed_at is not None:
        raise GoneError(bundle)
    return bundle


def _refused(error: BundleError) -> Response:
    """A view that this bundle cannot have."""
    data = errors.body(HTTPStatus.CONFLICT, str(error))
    return Response(data, HTTPStatus.CONFLICT, content_type=errors.CONTENT_TYPE)


def _held(bundle: Bundle, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The chunks of a tar, whose files are opened one after the other: none may go meanwhile."""
    due = 0.0
    for chunk in chunks:
        if time.monotonic() >= due:
            until = now() + timedelta(seconds=READ_SECONDS)
            Bundle.objects.filter(pk=bundle.pk).update(read_until=until)
            due = time.monotonic() + READ_SECONDS / 2
        yield chunk


def _read(opened: IO[bytes], span: Span) -> Iterator[bytes]:
    with opened:
        opened.seek(span.start)
        left = span.length
        while left > 0 and (chunk := opened.read(min(left, CHUNK_BYTES))):
            left -= len(chunk)
            yield chunk
