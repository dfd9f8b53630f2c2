"""How values are written for people."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from django import template
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe
from django.utils.timezone import now

from catalog.describe import plural
from catalog.overlaps import Overlap
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
CHOSEN = '<span class="visually-hidden"> (chosen; remove)</span>'
OPTION = (
    '<li><a href="{url}"{current}><span>{label}{chosen}</span><span class="count">{count}'
    '<span class="visually-hidden">{noun}</span></span></a></li>'
)


@register.filter
def meaning(code: str) -> str:
    """What a finding or exclusion code says in words; empty for one without."""
    return MEANINGS.get(code, "")


@register.simple_tag
def option_links(options: Iterable[Any]) -> SafeString:
    """Values of a facet (`portal.web.datasets.OptionLink`) as list items.

    A page has over a hundred: in a template they took longer than all the rest.
    """
    rows = (
        OPTION.format(
            url=escape(one.url),
            current=' aria-current="true"' if one.selected else "",
            label=escape(one.label),
            chosen=CHOSEN if one.selected else "",
            count=f"{one.count:,}",
            noun=" dataset" if one.count == 1 else " datasets",
        )
        for one in options
    )
    return mark_safe("".join(rows))  # noqa: S308 - url and label are escaped above


@register.filter
def units(unit: str, number: int) -> str:
    """A unit of a count in its plural where the number asks for it."""
    return plural(unit, number)


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
