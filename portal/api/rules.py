"""Rules (MDFP phases 1-4): which datasets a rule file keeps, and why each other is dropped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import IO, Any, cast

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from catalog.models import CatalogRevision, Dataset
from catalog.rule_selection import PHASES, Selection, compare
from catalog.rules import DEFAULT, KEYS, LARGEST_BYTES, PROFILES, Rules, parse_rules
from portal.api import params
from portal.api.errors import ProblemOut
from portal.models import Scope


class RulesParser(BaseParser):
    """A rule file as it is; unlike plain JSON a key given twice is refused, with its name."""

    media_type = "application/json"

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,  # noqa: ARG002
        parser_context: Mapping[str, Any] | None = None,  # noqa: ARG002
    ) -> dict[str, Rules]:
        return {"rules": parse_rules(stream.read(LARGEST_BYTES + 1))}


class KeyOut(serializers.Serializer[Any]):
    name = serializers.CharField(help_text="with its path")
    expects = serializers.CharField()
    item = serializers.CharField(help_text="what each entry of a list is; empty for no list")
    meaning = serializers.CharField()
    published = serializers.CharField(help_text="what the published code did, where it differs")


class RulesOut(serializers.Serializer[Any]):
    defaults = serializers.JSONField(help_text="the published rule file: valid as it is")
    effective = serializers.JSONField(help_text="the same with canonical terms and every key")
    keys = KeyOut(many=True)
    profiles = serializers.DictField(child=serializers.CharField())
    phases = serializers.ListField(child=serializers.DictField())


class RulesView(APIView):
    scope = Scope.READ

    parser_classes = (RulesParser,)

    @extend_schema(operation_id="rules_read", responses={200: RulesOut, 400: ProblemOut})
    def get(self, request: Request) -> Response:
        """The default rules, and what every key takes and does."""
        params.check_known(request.query_params, ())
        phases = enumerate(PHASES, 1)
        return Response(
            {
                "defaults": dict(DEFAULT),
                "effective": Rules().as_dict(),
                "keys": [asdict(key) for key in KEYS],
                "profiles": dict(PROFILES),
                "phases": [{"number": n, "title": t, "about": about} for n, (t, about) in phases],
            }
        )

    @extend_schema(
        operation_id="rules_apply",
        request=OpenApiTypes.OBJECT,
        examples=[OpenApiExample("the published rules", dict(DEFAULT), request_only=True)],
        parameters=[OpenApiParameter("profile", str, enum=list(PROFILES))],
        responses={200: OpenApiTypes.OBJECT, 400: ProblemOut},
    )
    def post(self, request: Request) -> Response:
        """Apply a rule file: phases, kept and dropped datasets; both profiles side by side."""
        params.check_known(request.query_params, ("profile",))
        profile = params.choice(request.query_params, "profile", PROFILES) or "stated"
        given = cast("dict[str, Rules]", request.data)  # empty where there is no body to parse
        rules = given.get("rules") or parse_rules("")
        compared = compare(Dataset.objects.facts(), rules)
        selection: Selection = getattr(compared, profile)
        revision = CatalogRevision.objects.current()
        return Response(
            {
                "catalog": revision.digest if revision else None,
                **selection.as_dict(),
                "comparison": compared.as_dict(),
            }
        )
