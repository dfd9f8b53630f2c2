"""How values are written for people."""

from __future__ import annotations

import json
from functools import cache, lru_cache
from typing import Any

from django import template
from django.conf import settings
from django.template.loader import render_to_string
from django.urls import get_script_prefix
from django.utils.html import format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.timezone import now

from catalog.describe import plural
from catalog.facet_values import UNKNOWN
from catalog.overlaps import Overlap
from catalog.record import UNITS
from fusion.codes import MEANINGS
from workers.models import Run
from workers.room import size

register = template.Library()
register.filter("size", size)

STAGE_TITLES = {
    "acquire": "Acquire",
    "ingest": "Ingest",
    "harmonise": "Harmonise",
    "deduplicate": "Find duplicates",
    "split": "Split",
    "report": "Report",
    "package": "Package",
    "baseline": "Baseline",
    "verify": "Verify",
}
MINUTE, HOUR = 60, 3600
SELECTED = mark_safe(" selected")


@register.filter
def meaning(code: str) -> str:
    """What a finding or exclusion code says in words; empty for one without."""
    return MEANINGS.get(code, "")


@register.simple_tag
def once(template: str, word: str | None = "") -> SafeString:
    """A template that depends on one `word` of a few, or on nothing: rendered once for each.

    What is kept is told apart by the prefix that the portal's addresses have.
    """
    if settings.DEBUG:  # it may have been edited
        return render_to_string(template, {"word": word})
    return _rendered(template, word, get_script_prefix())


@lru_cache(maxsize=1000)
def _rendered(template: str, word: str | None, prefix: str) -> SafeString:  # noqa: ARG001
    return render_to_string(template, {"word": word})


@register.simple_tag
@cache
def unit_options(chosen: str) -> SafeString:
    """The units of counts as options of a form."""
    return format_html_join(
        "",
        '<option value="{}"{}>{}</option>',
        ((unit, SELECTED if unit == chosen else "", plural(unit, 2)) for unit in UNITS),
    )


@register.filter
def units(unit: str, number: int) -> str:
    """A unit of a count in its plural where the number asks for it."""
    return plural(unit, number)


UNSTATED = mark_safe('<span class="unknown">unknown</span>')


@register.filter
def known(value: Any) -> Any:
    """A value that somebody states, else the word for what nobody does."""
    return value if value and value != UNKNOWN else UNSTATED


@register.filter
def share(part: float) -> str:
    """A part of 1 in percent."""
    return f"{100 * part:.0f}%"


@register.filter
def stage_title(name: str) -> str:
    """A stage's name for people."""
    return STAGE_TITLES.get(name, name)


@register.filter
def duration(seconds: float) -> str:
    """Seconds as 0.4 s, 12 s, 3 min 5 s or 2 h 10 min."""
    if seconds < 10:  # noqa: PLR2004
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < MINUTE:
        return f"{whole} s"
    if whole < HOUR:
        return f"{whole // MINUTE} min {whole % MINUTE} s"
    return f"{whole // HOUR} h {whole % HOUR // MINUTE} min"


@register.filter
def elapsed(run: Run) -> str:
    """How long a run has been worked on; empty before its start."""
    if run.started_at is None:
        return ""
    return duration(((run.finished_at or now()) - run.started_at).total_seconds())


OVERLAPS = {
    "subset": "one is a part of the other",
    "superset": "one contains the other",
    "derived": "one is made from the other",
    "relabelled": "one has other labels for images of the other",
    "shared_patients": "both hold images of the same people",
    "common ancestor": "both may hold images of a third dataset",
}


@register.filter
def overlap_words(overlap: Overlap) -> str:
    """How sure it is that two datasets share images, and why."""
    return f"{overlap.certainty} overlap: {OVERLAPS.get(overlap.kind, overlap.kind)}"


_JSON_ESCAPES = {ord(">"): "\\u003E", ord("<"): "\\u003C", ord("&"): "\\u0026"}


@register.filter
def json_ld(data: dict[str, Any]) -> SafeString:
    """A JSON-LD data block for search engines; no text in it can end the element."""
    text = json.dumps(data, ensure_ascii=False).translate(_JSON_ESCAPES)
    return mark_safe(f'<script type="application/ld+json">{text}</script>')  # noqa: S308
