"""A bundle's cases, and slices of them as pictures."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from django.http.response import HttpResponseBase
from django.urls import reverse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from fusion.bundle.cases import CaseRow
from fusion.models import Bundle
from fusion.report.pictures import hex_of
from fusion.report.slices import OVERLAYS, PICTURE, PLANES, shade_of
from portal.api import errors, params
from portal.api.bundles import AnyAccept, find_bundle
from portal.api.errors import GoneOut, ParameterError, ProblemOut
from portal.viewer import (
    LookError,
    NotShownError,
    case_index,
    find_case,
    open_view,
    picture,
    version_of,
)

FILTERS = ("source", "split", "concept")


class CaseOut(serializers.Serializer[Any]):
    id = serializers.CharField()
    source = serializers.CharField()  # type: ignore[assignment] # DRF has an argument of that name
    name = serializers.CharField(help_text="at its source")
    group = serializers.CharField(help_text="cases of one group are in one split")
    splits = serializers.ListField(child=serializers.CharField())
    shape = serializers.ListField(child=serializers.IntegerField())
    spacing_mm = serializers.ListField(child=serializers.FloatField(), allow_null=True)
    axcodes = serializers.CharField(allow_null=True)
    dtype = serializers.CharField()
    unit = serializers.CharField()
    flags = serializers.ListField(child=serializers.CharField())
    annotated = serializers.ListField(
        child=serializers.CharField(), help_text="concepts that somebody looked for"
    )
    present = serializers.DictField(
        child=serializers.IntegerField(), help_text="voxels by concept, of the label map"
    )
    classes = serializers.DictField(
        child=serializers.IntegerField(), allow_null=True, help_text="1, 0 or -1 by concept"
    )
    channels = serializers.IntegerField(help_text="files of the image in the bundle; 0: none")
    has_label = serializers.BooleanField()
    url = serializers.CharField()
    page = serializers.CharField()
    slice = serializers.CharField(
        allow_null=True, help_text="a picture of the middle slice; null without an image"
    )


class CaseListOut(serializers.Serializer[Any]):
    total = serializers.IntegerField()
    next = serializers.URLField(allow_null=True)
    results = CaseOut(many=True)


class PlaneOut(serializers.Serializer[Any]):
    name = serializers.CharField()
    slices = serializers.IntegerField()
    middle = serializers.IntegerField(help_text="through the centre of the labels")


class WindowOut(serializers.Serializer[Any]):
    name = serializers.CharField()
    low = serializers.FloatField()
    high = serializers.FloatField()


class LegendOut(serializers.Serializer[Any]):
    value = serializers.IntegerField()
    concept = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment] # as above
    colour = serializers.CharField()


class CaseDetailOut(CaseOut):
    """`not_shown` says why there are no planes and windows; "" where there are."""

    planes = PlaneOut(many=True)
    windows = WindowOut(many=True)
    legend = LegendOut(many=True)
    not_shown = serializers.CharField()


class BundleCases(APIView):
    @extend_schema(
        operation_id="bundles_cases",
        parameters=[
            *(OpenApiParameter(name, str) for name in FILTERS),
            OpenApiParameter("page", int),
            OpenApiParameter("page_size", int),
        ],
        responses={200: CaseListOut, 400: ProblemOut, 404: ProblemOut, 410: GoneOut},
    )
    def get(self, request: Request, bundle_id: str) -> Response:
        """The cases of a bundle: source, split, group, labels; narrowed by the same."""
        params.check_known(request.query_params, (*FILTERS, "page", "page_size"))
        bundle = find_bundle(request, bundle_id)
        index = case_index(bundle)
        allowed = (index.sources, index.splits, [name for name, _ in index.concepts])
        chosen = {
            name: params.choice(request.query_params, name, values) or ""
            for name, values in zip(FILTERS, allowed, strict=True)
        }
        page = params.read_page(request.query_params)
        found, envelope = params.paginate(request, index.find(**chosen), page)
        return Response({**envelope, "results": [_case(bundle, case) for case in found]})


class BundleCase(APIView):
    @extend_schema(
        operation_id="bundles_case",
        responses={200: CaseDetailOut, 404: ProblemOut, 410: GoneOut},
    )
    def get(self, request: Request, bundle_id: str, case_id: str) -> Response:
        """One case: how many slices its planes have, its windows and the colours of its labels."""
        params.check_known(request.query_params, ())
        bundle = find_bundle(request, bundle_id)
        index = case_index(bundle)
        data = _case(bundle, find_case(index, case_id)) | {
            "legend": [
                {
                    "value": value,
                    "concept": name,
                    "label": label,
                    "colour": hex_of(shade_of(value)),
                }
                for value, (name, label) in enumerate(index.concepts, start=1)
            ],
            "planes": [],
            "windows": [],
            "not_shown": "",
        }
        try:
            scene = open_view(bundle, case_id, {}, ()).scene
        except NotShownError as error:
            return Response(data | {"not_shown": str(error)})
        data["planes"] = [
            {"name": name, "slices": scene.slices(name), "middle": scene.middle[name]}
            for name in scene.planes
        ]
        data["windows"] = [
            {"name": name, "low": low, "high": high} for name, (low, high) in scene.windows.items()
        ]
        return Response(data)


class BundleSlice(APIView):
    content_negotiation_class = AnyAccept

    @extend_schema(
        operation_id="bundles_slice",
        parameters=[
            OpenApiParameter("plane", str, enum=[*PLANES, PICTURE]),
            OpenApiParameter("index", int, description="from left, back and feet; 0 is the first"),
            OpenApiParameter("channel", int),
            OpenApiParameter("window", str, description="one of the case's windows"),
            OpenApiParameter("level", float, description="with width: a window of one's own"),
            OpenApiParameter("width", float),
            OpenApiParameter("overlay", str, enum=list(OVERLAYS)),
            OpenApiParameter("opacity", int, description="of the masks, per cent"),
            OpenApiParameter("hide", str, description="comma list of label values not to draw"),
            OpenApiParameter("size", int, description="pixels of the longer side"),
            OpenApiParameter(
                "v", str, description="as in the case's `slice`: the answer never changes"
            ),
        ],
        responses={
            (200, "image/png"): OpenApiTypes.BINARY,
            400: ProblemOut,
            404: ProblemOut,
            410: GoneOut,
            422: ProblemOut,
        },
    )
    def get(self, request: Request, bundle_id: str, case_id: str) -> HttpResponseBase:
        """A slice as a picture in its true proportions, radiological, with its masks."""
        bundle = find_bundle(request, bundle_id)
        try:
            return picture(request, bundle, case_id, request.query_params.dict())
        except LookError as error:
            raise ParameterError(error.errors) from error
        except NotShownError as error:
            status = HTTPStatus.UNPROCESSABLE_ENTITY
            data = errors.body(status, str(error), "The image cannot be shown", code="not_shown")
            return Response(data, status, content_type=errors.CONTENT_TYPE)


def _case(bundle: Bundle, case: CaseRow) -> dict[str, Any]:
    args = [bundle.pk, case.id]
    picture = f"{reverse('api:bundle-slice', args=args)}?v={version_of(bundle)}"
    return {
        "id": case.id,
        "source": case.source,
        "name": case.name,
        "group": case.group,
        "splits": list(case.splits),
        "shape": list(case.shape),
        "spacing_mm": case.spacing_mm and list(case.spacing_mm),
        "axcodes": case.axcodes,
        "dtype": case.dtype,
        "unit": case.unit,
        "flags": list(case.flags),
        "annotated": list(case.annotated),
        "present": dict(case.present),
        "classes": case.classes,
        "channels": len(case.images),
        "has_label": case.label is not None,
        "url": reverse("api:bundle-case", args=args),
        "page": reverse("bundle-case", args=args),
        "slice": picture if case.images else None,
    }
