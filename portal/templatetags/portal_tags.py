"""How values are written for people."""

from __future__ import annotations

from django import template
from django.utils.timezone import now

from fusion.codes import MEANINGS
from workers.models import Run

register = template.Library()

STAGE_TITLES = {
    "acquire": "Acquire",
    "ingest": "Ingest",
    "harmonise": "Harmonise",
    "deduplicate": "Find duplicates",
    "split": "Split",
    "package": "Package",
    "baseline": "Baseline",
    "verify": "Verify",
}
MINUTE, HOUR = 60, 3600


@register.filter
def meaning(code: str) -> str:
    """What a finding or exclusion code says in words; empty for one without."""
    return MEANINGS.get(code, "")


@register.filter
def units(unit: str, number: int) -> str:
    """A unit of a count in its plural where the number asks for it."""
    if number == 1 or unit.endswith("series"):
        return unit
    return unit[:-1] + "ies" if unit.endswith("y") else unit + "s"


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
