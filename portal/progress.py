"""How far a run has come and what it waits for: one reading for the pages and the API."""

from __future__ import annotations

from dataclasses import dataclass, field

from django.db.models import Count
from django.utils.timezone import now

from workers.models import Run, RunCase, no_place


@dataclass
class SourceProgress:
    """Cases of one source of a run."""

    source: str
    pending: int = 0
    used: int = 0
    excluded: dict[str, int] = field(default_factory=dict)  # exclusion code -> cases

    @property
    def excluded_total(self) -> int:
        return sum(self.excluded.values())

    @property
    def total(self) -> int:
        return self.pending + self.used + self.excluded_total


def by_source(run: Run) -> list[SourceProgress]:
    """Counts of a run's cases, in the order of its recipe. One query."""
    found = {str(s.get("id")): SourceProgress(str(s.get("id"))) for s in run.recipe["sources"]}
    rows = run.cases.order_by().values_list("source", "state", "code").annotate(n=Count("pk"))
    for source, state, code, count in rows:
        counts = found.setdefault(source, SourceProgress(source))
        if state == RunCase.State.EXCLUDED:
            counts.excluded[code] = counts.excluded.get(code, 0) + count
        elif state == RunCase.State.USED:
            counts.used += count
        else:
            counts.pending += count
    for counts in found.values():
        counts.excluded = dict(sorted(counts.excluded.items()))
    return list(found.values())


def waits_for(run: Run) -> str:
    """What a run that nobody works on waits for; "" for one that is worked on or has ended."""
    if run.has_ended or (run.lease_until is not None and run.lease_until >= now()):
        return ""
    if run.state == Run.State.PAUSED:
        return "somebody to resume it"
    if run.retry_at is not None and run.retry_at > now():
        return f"a fault to pass: {run.error}"
    if run.state == Run.State.QUEUED and (reason := no_place(run)):
        return f"a place: {reason}"
    return "a worker"
