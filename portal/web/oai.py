"""OAI-PMH 2.0: other catalogs harvest ours, whole or what changed since they last came.

The libraries for it that we know leave out records that are gone, so the protocol is spoken here.
A resumption token holds the whole request and the place in the list: the server keeps nothing.
"""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from xml.etree.ElementTree import Element, SubElement, register_namespace, tostring

from django.conf import settings
from django.db.models import Max, Min, Q
from django.http import HttpRequest, HttpResponse, QueryDict
from django.urls import reverse
from django.utils.timezone import now
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from catalog.models import CatalogChange, CatalogRevision, ChangeKind, Dataset
from catalog.oai import FORMATS, XSI, plain

OAI = "http://www.openarchives.org/OAI/2.0/"
SCHEMA = "http://www.openarchives.org/OAI/2.0/OAI-PMH.xsd"
PAGE = 100
SECOND = timedelta(seconds=1)
SETS = {"curated": "Datasets whose values curators weighed", "harvested": "Taken from one source"}
ARGUMENTS: Mapping[str, tuple[frozenset[str], frozenset[str]]] = {  # verb -> required, allowed
    "Identify": (frozenset(), frozenset()),
    "ListMetadataFormats": (frozenset(), frozenset({"identifier"})),
    "ListSets": (frozenset(), frozenset({"resumptionToken"})),
    "GetRecord": (frozenset({"identifier", "metadataPrefix"}), frozenset()),
    **dict.fromkeys(
        ("ListIdentifiers", "ListRecords"),
        (frozenset({"metadataPrefix"}), frozenset({"from", "until", "set"})),
    ),
}
register_namespace("", OAI)


class OaiError(Exception):
    """An error of the protocol, by its code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Row:
    """A record's header; `facts` is None of one that is gone."""

    slug: str
    stamp: datetime
    tier: str
    facts: Mapping[str, Any] | None


@csrf_exempt
@require_http_methods(["GET", "HEAD", "POST"])
def index(request: HttpRequest) -> HttpResponse:
    """The one address of the protocol; errors are answers too."""
    given = request.POST if request.method == "POST" else request.GET
    root = Element(f"{{{OAI}}}OAI-PMH")
    root.set(f"{{{XSI}}}schemaLocation", f"{OAI} {SCHEMA}")
    _add(root, "responseDate", _stamp(now()))
    asked = _add(root, "request", _address(request))
    try:
        args = _arguments(given)
        for name, value in args.items():
            asked.set(name, plain(value))
        root.append(VERBS[args["verb"]](request, args))
    except OaiError as error:
        if error.code in {"badVerb", "badArgument"}:
            asked.attrib.clear()
        _add(root, "error", str(error)).set("code", error.code)
    text = tostring(root, encoding="utf-8", xml_declaration=True)
    return HttpResponse(text, content_type="text/xml; charset=utf-8")


def _arguments(given: QueryDict) -> dict[str, str]:
    """The arguments of a request, each once and allowed for its verb."""
    verb = given.get("verb", "")
    if verb not in ARGUMENTS or len(given.getlist("verb")) > 1:
        raise OaiError("badVerb", f"verb: found {verb!r}, expected one of {', '.join(ARGUMENTS)}")
    required, more = ARGUMENTS[verb]
    args = {name: str(given[name]) for name in given if name != "verb"}
    resumed = "resumptionToken" in args and verb in {"ListIdentifiers", "ListRecords"}
    allowed = {"resumptionToken"} if resumed else required | more
    if wrong := sorted(args.keys() - allowed):
        raise OaiError("badArgument", f"{wrong[0]}: is not allowed here")
    if twice := [name for name in args if len(given.getlist(name)) > 1]:
        raise OaiError("badArgument", f"{twice[0]}: stands twice")
    if not resumed and (missing := sorted(required - args.keys())):
        raise OaiError("badArgument", f"{missing[0]}: is required")
    return {"verb": verb, **args}


def _identify(request: HttpRequest, _: Mapping[str, str]) -> Element:
    made = Element(f"{{{OAI}}}Identify")
    _add(made, "repositoryName", "Imaging-X Portal")
    _add(made, "baseURL", _address(request))
    _add(made, "protocolVersion", "2.0")
    _add(made, "adminEmail", settings.CONTACT or f"webmaster@{_host(request)}")
    _add(made, "earliestDatestamp", _stamp(_earliest()))
    _add(made, "deletedRecord", "transient")
    _add(made, "granularity", "YYYY-MM-DDThh:mm:ssZ")
    return made


def _earliest() -> datetime:
    first = Dataset.objects.aggregate(at=Min("updated_at"))["at"]
    begun = CatalogRevision.objects.aggregate(at=Min("loaded_at"))["at"]
    return min((at for at in (first, begun) if at), default=now())


def _list_formats(request: HttpRequest, args: Mapping[str, str]) -> Element:
    if "identifier" in args:
        _find(request, args["identifier"])
    made = Element(f"{{{OAI}}}ListMetadataFormats")
    for prefix, one in FORMATS.items():
        row = _add(made, "metadataFormat")
        _add(row, "metadataPrefix", prefix)
        _add(row, "schema", one.schema)
        _add(row, "metadataNamespace", one.namespace)
    return made


def _list_sets(_: HttpRequest, args: Mapping[str, str]) -> Element:
    if "resumptionToken" in args:
        raise OaiError("badResumptionToken", "the sets are one page")
    made = Element(f"{{{OAI}}}ListSets")
    for spec, name in SETS.items():
        row = _add(made, "set")
        _add(row, "setSpec", spec)
        _add(row, "setName", name)
    return made


def _get_record(request: HttpRequest, args: Mapping[str, str]) -> Element:
    row = _find(request, args["identifier"])
    _check_prefix(args["metadataPrefix"])
    made = Element(f"{{{OAI}}}GetRecord")
    made.append(_record(request, row, args["metadataPrefix"]))
    return made


def _list(request: HttpRequest, args: Mapping[str, str]) -> Element:
    verb = args["verb"]
    start = 0
    wanted = dict(args)
    if "resumptionToken" in args:
        wanted, start = _resumed(args["resumptionToken"])
    prefix = wanted["metadataPrefix"]
    _check_prefix(prefix)
    rows = _rows(wanted)
    if not rows:
        raise OaiError("noRecordsMatch", "no record was made, changed or dropped then")
    page = rows[start : start + PAGE]
    if not page:
        raise OaiError("badResumptionToken", "the list has become shorter: begin anew")
    made = Element(f"{{{OAI}}}{verb}")
    if verb == "ListIdentifiers":
        for slug, stamp, tier, is_gone in page:
            made.append(_header(request, Row(slug, stamp, tier, None if is_gone else {})))
    else:
        known = {one.slug: one.record for one in Dataset.objects.filter(slug__in=_slugs(page))}
        for slug, stamp, tier, _ in page:
            made.append(_record(request, Row(slug, stamp, tier, known.get(slug)), prefix))
    end = start + len(page)
    if start or end < len(rows):
        token = _add(made, "resumptionToken", _token(wanted, end) if end < len(rows) else "")
        token.set("completeListSize", str(len(rows)))
        token.set("cursor", str(start))
    return made


Head = tuple[str, datetime, str, bool]  # slug, when, tier, whether it is gone


def _slugs(page: list[Head]) -> list[str]:
    return [slug for slug, _, _, _ in page]


def _rows(wanted: Mapping[str, str]) -> list[Head]:
    """Heads of all records that match, those that changed first first. Two queries.

    A resumed list has the end that it began with: what changes meanwhile is found next time.
    """
    since, until = _bounds(wanted)
    when = Q(updated_at__lt=until)
    dropped = Q(at__lt=until)
    if since:
        when &= Q(updated_at__gte=since)
        dropped &= Q(at__gte=since)
    there = Dataset.objects.filter(when).values_list("slug", "updated_at", "tier")
    if name := wanted.get("set"):
        there = there.filter(tier=name)
    found: list[Head] = [(slug, at, tier, False) for slug, at, tier in there]
    if not name:  # the set of a record that is gone is not kept
        gone = CatalogChange.objects.filter(kind=ChangeKind.GONE)
        gone = gone.exclude(slug__in=Dataset.objects.values("slug")).order_by()
        rows = gone.values("slug").annotate(at=Max("revision__loaded_at")).filter(dropped)
        found += [(row["slug"], row["at"], "", True) for row in rows]
    return sorted(found, key=lambda row: (row[1], row[0]))


def _bounds(wanted: Mapping[str, str]) -> tuple[datetime | None, datetime]:
    """From, and the first moment after; a date means its whole day."""
    given = [wanted.get("from", ""), wanted.get("until", "")]
    if all(given) and len(given[0]) != len(given[1]):
        raise OaiError("badArgument", "from and until: expected both as days or both as seconds")
    since = _moment("from", given[0])[0] if given[0] else None
    until = _moment("until", given[1])[1] if given[1] else now() + SECOND
    if since and since >= until:
        raise OaiError("badArgument", "from: is later than until")
    return since, until


def _moment(name: str, text: str) -> tuple[datetime, datetime]:
    """Where a day or second begins, and where the next one does."""
    if re.fullmatch(r"\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\dZ)?", text, re.ASCII):
        is_day = len(text) == len("2026-01-01")
        try:
            begins = datetime.strptime(text, "%Y-%m-%d" if is_day else "%Y-%m-%dT%H:%M:%SZ")  # noqa: DTZ007
            begins = begins.replace(tzinfo=UTC)
            return begins, begins + (timedelta(days=1) if is_day else SECOND)
        except (ValueError, OverflowError):
            pass
    raise OaiError("badArgument", f"{name}: found {text!r}, expected 2026-01-31[T23:59:59Z]")


def _token(wanted: Mapping[str, str], start: int) -> str:
    kept = {name: text for name, text in wanted.items() if name != "verb"}
    kept.setdefault("until", _stamp(now()))
    if "from" in kept and len(kept["from"]) != len(kept["until"]):
        kept["from"] = _stamp(_moment("from", kept["from"])[0])
    return urlsafe_b64encode(json.dumps([kept, start]).encode()).decode()


def _resumed(token: str) -> tuple[dict[str, str], int]:
    try:
        kept, start = json.loads(urlsafe_b64decode(token.encode()))
        texts = all(isinstance(one, str) for pair in kept.items() for one in pair)
        if texts and "metadataPrefix" in kept and type(start) is int and start > 0:
            return kept, start
    except (ValueError, TypeError, AttributeError):
        pass
    raise OaiError("badResumptionToken", "the token is none that was given out here")


def _check_prefix(prefix: str) -> None:
    if prefix not in FORMATS:
        expected = ", ".join(FORMATS)
        raise OaiError(
            "cannotDisseminateFormat",
            f"metadataPrefix: found {prefix!r}, expected one of {expected}",
        )


def _find(request: HttpRequest, identifier: str) -> Row:
    slug = identifier.removeprefix(f"oai:{_host(request)}:")
    one = Dataset.objects.filter(slug=slug).first() if slug != identifier else None
    if one is not None:
        return Row(one.slug, one.updated_at, one.tier, one.record)
    dropped = CatalogChange.objects.filter(slug=slug, kind=ChangeKind.GONE)
    at = dropped.aggregate(at=Max("revision__loaded_at"))["at"] if slug != identifier else None
    if at is None:
        raise OaiError("idDoesNotExist", f"identifier: found {identifier!r}, which is no record")
    return Row(slug, at, "", None)


def _record(request: HttpRequest, row: Row, prefix: str) -> Element:
    made = Element(f"{{{OAI}}}record")
    made.append(_header(request, row))
    if row.facts is not None:
        page = request.build_absolute_uri(reverse("dataset", args=[row.slug]))
        _add(made, "metadata").append(FORMATS[prefix].write(row.facts, page))
    return made


def _header(request: HttpRequest, row: Row) -> Element:
    made = Element(f"{{{OAI}}}header")
    if row.facts is None:
        made.set("status", "deleted")
    _add(made, "identifier", f"oai:{_host(request)}:{row.slug}")
    _add(made, "datestamp", _stamp(row.stamp))
    if row.tier:
        _add(made, "setSpec", row.tier)
    return made


def _add(parent: Element, name: str, text: str | None = None) -> Element:
    made = SubElement(parent, f"{{{OAI}}}{name}")
    made.text = None if text is None else plain(text)
    return made


def _stamp(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _address(request: HttpRequest) -> str:
    return request.build_absolute_uri(reverse("oai"))


def _host(request: HttpRequest) -> str:
    """The name without its port, which an identifier has no place for."""
    return re.sub(r":\d+$", "", request.get_host())


VERBS: Mapping[str, Callable[[HttpRequest, Mapping[str, str]], Element]] = {
    "Identify": _identify,
    "ListMetadataFormats": _list_formats,
    "ListSets": _list_sets,
    "GetRecord": _get_record,
    "ListIdentifiers": _list,
    "ListRecords": _list,
}
