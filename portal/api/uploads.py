"""Own data: send files (resumable, as tus 1.0 does), see what the checks found, keep or delete."""

from __future__ import annotations

import base64
import binascii
from typing import Any
from uuid import UUID

from django.http import Http404
from django.shortcuts import get_object_or_404
from django.urls import reverse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_field
from rest_framework import serializers, status
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from fusion.models import Upload
from portal.access import own_uploads
from portal.api import params
from portal.api.errors import ProblemOut
from workers import uploads

OFFSET_TYPE = "application/offset+octet-stream"
TUS = {"Tus-Resumable": "1.0.0", "Cache-Control": "no-store"}
REFUSED = {400: ProblemOut, 401: ProblemOut, 404: ProblemOut}


class FileIn(serializers.Serializer[Any]):
    path = serializers.CharField(max_length=1000, help_text="relative, with / between folders")
    bytes = serializers.IntegerField(min_value=0, max_value=2**53)
    sha256 = serializers.RegexField(
        r"^[0-9a-f]{64}$", required=False, help_text="checked when all is here"
    )


class UploadIn(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=40, help_text="by which recipes call the data")
    files = serializers.ListField(
        child=FileIn(), allow_empty=False, max_length=uploads.MOST_FILES,
        help_text="or one archive",
    )  # fmt: skip


class UploadedFileOut(serializers.Serializer[Any]):
    path = serializers.CharField()
    bytes = serializers.IntegerField()
    sha256 = serializers.CharField(help_text="empty until it is known")
    offset = serializers.IntegerField(help_text="bytes that are here")
    url = serializers.CharField(help_text="PATCH sends on from offset")


class UploadOut(serializers.ModelSerializer[Upload]):
    url = serializers.SerializerMethodField()
    page = serializers.SerializerMethodField()
    expires_at = serializers.DateTimeField(
        read_only=True, allow_null=True, help_text="when it goes unless more comes; null: kept"
    )

    class Meta:
        model = Upload
        fields = [
            "id", "name", "state", "size_bytes", "done", "total", "sha256", "error_code", "error",
            "created_at", "expires_at", "url", "page",
        ]  # fmt: skip

    def get_url(self, upload: Upload) -> str:
        return reverse("api:upload", args=[upload.pk])

    def get_page(self, upload: Upload) -> str:
        return reverse("upload", args=[upload.pk])


class ProblemRowOut(serializers.Serializer[Any]):
    path = serializers.CharField()
    found = serializers.CharField()
    expected = serializers.CharField()
    message = serializers.CharField()


class UploadDetailOut(UploadOut):
    """An upload with its files, what the checks found and its description."""

    files = serializers.SerializerMethodField()
    report = serializers.JSONField(
        read_only=True,
        allow_null=True,
        help_text="what may tell who people are, and what is broken",
    )
    description_problems = serializers.SerializerMethodField(
        help_text="what keeps recipes from using the description"
    )

    class Meta(UploadOut.Meta):
        fields = [*UploadOut.Meta.fields, "files", "report", "description", "description_problems"]

    @extend_schema_field(UploadedFileOut(many=True))
    def get_files(self, upload: Upload) -> list[dict[str, Any]]:
        return [
            {**row, "offset": offset, "url": reverse("api:upload-file", args=[upload.pk, number])}
            for number, (row, offset) in enumerate(
                zip(upload.files, uploads.offsets(upload), strict=True)
            )
        ]

    @extend_schema_field(ProblemRowOut(many=True))
    def get_description_problems(self, upload: Upload) -> list[dict[str, str]]:
        return uploads.description_problems(upload)


class UploadListOut(serializers.Serializer[Any]):
    total = serializers.IntegerField()
    next = serializers.URLField(allow_null=True)
    results = UploadOut(many=True)


class KeepIn(serializers.Serializer[Any]):
    accept = serializers.BooleanField(
        default=False, help_text="you have seen the findings and may keep these data here"
    )


class DescriptionIn(serializers.Serializer[Any]):
    description = serializers.CharField(
        allow_blank=True, trim_whitespace=False, help_text="a source description as YAML"
    )


class Stream(BaseParser):
    """The body is left unread for the view."""

    media_type = OFFSET_TYPE

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> Any:  # noqa: ARG002
        return stream


class UploadList(APIView):
    @extend_schema(
        operation_id="uploads_list",
        parameters=[OpenApiParameter("page", int), OpenApiParameter("page_size", int)],
        responses={200: UploadListOut, 400: ProblemOut, 401: ProblemOut},
    )
    def get(self, request: Request) -> Response:
        """One's own data, the newest first."""
        params.check_known(request.query_params, {"page", "page_size"})
        page = params.read_page(request.query_params)
        found, envelope = params.paginate(request, own_uploads(request), page)
        return Response({**envelope, "results": UploadOut(found, many=True).data})

    @extend_schema(
        operation_id="uploads_create",
        request=UploadIn,
        responses={
            201: UploadDetailOut,
            400: ProblemOut,
            401: ProblemOut,
            422: ProblemOut,
            507: ProblemOut,
        },
    )
    def post(self, request: Request) -> Response:
        """Announce files; then send the bytes of each to its `url`."""
        params.check_known(request.query_params, ())
        own_uploads(request)
        body = UploadIn(data=request.data)
        body.is_valid(raise_exception=True)
        upload = uploads.begin(request.user, **body.validated_data)
        data = UploadDetailOut(upload).data
        return Response(data, status.HTTP_201_CREATED, headers={"Location": data["url"]})


class UploadDetail(APIView):
    @extend_schema(operation_id="uploads_read", responses={200: UploadDetailOut, **REFUSED})
    def get(self, request: Request, upload_id: UUID) -> Response:
        """One upload: how far each file is, and what the checks found."""
        params.check_known(request.query_params, ())
        upload = _find(request, upload_id)
        uploads.settle(upload)
        return Response(UploadDetailOut(upload).data)

    @extend_schema(
        operation_id="uploads_describe",
        request=DescriptionIn,
        responses={200: UploadDetailOut, 422: ProblemOut, **REFUSED},
    )
    def patch(self, request: Request, upload_id: UUID) -> Response:
        """Keep an edited source description; `description_problems` says what it still lacks."""
        params.check_known(request.query_params, ())
        upload = _find(request, upload_id)
        body = DescriptionIn(data=request.data)
        body.is_valid(raise_exception=True)
        uploads.describe(upload, body.validated_data["description"])
        return Response(UploadDetailOut(upload).data)

    @extend_schema(operation_id="uploads_delete", responses={204: None, 409: ProblemOut, **REFUSED})
    def delete(self, request: Request, upload_id: UUID) -> Response:
        """Remove an upload with all its files."""
        params.check_known(request.query_params, ())
        uploads.delete(_find(request, upload_id))
        return Response(status=status.HTTP_204_NO_CONTENT)


class UploadFile(APIView):
    parser_classes = [Stream]

    @extend_schema(operation_id="uploads_file", responses={200: UploadedFileOut, **REFUSED})
    def get(self, request: Request, upload_id: UUID, number: int) -> Response:
        """How much of a file is here; HEAD tells it in `Upload-Offset` and `Upload-Length`."""
        params.check_known(request.query_params, ())
        upload = _find(request, upload_id)
        row = UploadDetailOut(upload).data["files"][_known(upload, number)]
        headers = {"Upload-Offset": str(row["offset"]), "Upload-Length": str(row["bytes"])}
        return Response(row, headers=TUS | headers)

    @extend_schema(
        operation_id="uploads_send",
        parameters=[
            OpenApiParameter("Upload-Offset", int, OpenApiParameter.HEADER, required=True),
            OpenApiParameter(
                "Upload-Checksum", str, OpenApiParameter.HEADER,
                description="sha256 and the base64 digest of this body",
            ),
        ],
        request={OFFSET_TYPE: OpenApiTypes.BINARY},
        responses={
            204: None,
            409: ProblemOut,
            411: ProblemOut,
            415: ProblemOut,
            422: ProblemOut,
            **REFUSED,
        },
    )  # fmt: skip
    def patch(self, request: Request, upload_id: UUID, number: int) -> Response:
        """Send on from `Upload-Offset`: the core of tus 1.0, with its checksums by SHA-256."""
        params.check_known(request.query_params, ())
        upload = _find(request, upload_id)
        _known(upload, number)
        begins, length = _whole(request, "Upload-Offset"), _whole(request, "Content-Length")
        content: Any = request.data if length else request._request  # noqa: SLF001 - no other door
        here = uploads.append(upload, number, begins, content, length, _checksum(request))
        headers = TUS | {"Upload-Offset": str(here)}
        return Response(status=status.HTTP_204_NO_CONTENT, headers=headers)


class UploadKeep(APIView):
    @extend_schema(
        operation_id="uploads_keep",
        request=KeepIn,
        responses={200: UploadDetailOut, 409: ProblemOut, **REFUSED},
    )
    def post(self, request: Request, upload_id: UUID) -> Response:
        """Keep checked data; what may tell who people are has to be accepted."""
        params.check_known(request.query_params, ())
        upload = _find(request, upload_id)
        body = KeepIn(data=request.data)
        body.is_valid(raise_exception=True)
        return Response(UploadDetailOut(uploads.keep(upload, **body.validated_data)).data)


def _find(request: Request, upload_id: UUID) -> Upload:
    return get_object_or_404(own_uploads(request), pk=upload_id)


def _known(upload: Upload, number: int) -> int:
    """Raises Http404 for a number that no file has."""
    if number >= len(upload.files):
        raise Http404(f"{upload.name}: no file {number}, there are {len(upload.files)}")
    return number


def _whole(request: Request, name: str) -> int:
    text = request.headers.get(name, "")
    if not text.isascii() or not text.isdigit() or len(text) > 16:  # noqa: PLR2004
        raise params.refused(
            name, text, "a number of bytes", f"{name}: found {text[:40]!r}, expected bytes"
        )
    return int(text)


def _checksum(request: Request) -> str:
    """The SHA-256 that the body should have, as hex; empty if none is sent."""
    given = request.headers.get("Upload-Checksum", "")
    if not given:
        return ""
    kind, _, text = given.partition(" ")
    try:
        digest = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        digest = b""
    if kind != "sha256" or len(digest) != 32:  # noqa: PLR2004 - bytes of SHA-256
        expected = "sha256 and 32 bytes in base64"
        message = f"Upload-Checksum: found {given[:80]!r}, expected {expected}"
        raise params.refused("Upload-Checksum", given[:80], expected, message)
    return digest.hex()
