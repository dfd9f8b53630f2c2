"""How far a run has come and what it waits for: one reading for the pages and the API."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db.models import Count
from django.utils.timezone import now

from workers.models import Run, RunCase, RunStage, no_place

FEWEST_DONE, SHORTEST_SECONDS = 3, 10


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


def seconds_left(stages: Sequence[RunStage], run: Run) -> tuple[str, float] | None:
    """The stage under way and how long it has left, by how fast it went since it began.

    None without a basis: too little done, too short a time, or nobody at work. What the stages
    after it will take is not known.
    """
    if run.state != Run.State.RUNNING or run.retry_at is not None:
        return None
    for stage in stages:
        if stage.state == RunStage.State.RUNNING and stage.started_at is not None:
            spent = (now() - stage.started_at).total_seconds()
            done = stage.done - stage.done_before
            if done < FEWEST_DONE or spent < SHORTEST_SECONDS or stage.total <= stage.done:
                return None
            return stage.name, spent * (stage.total - stage.done) / done
    return None


def events(run: Run, stages: Sequence[RunStage]) -> list[tuple[datetime, str, str]]:
    """When what happened to a run: time, a word for the kind, the stage; the first first.

    A stage is done before the next one begins, though its seconds are rounded.
    """
    found = [(run.created_at, "asked for", "")]
    if run.started_at is not None:
        found.append((run.started_at, "started", ""))
    begun = [(stage, stage.started_at) for stage in stages if stage.started_at is not None]
    for number, (stage, started_at) in enumerate(begun):
        found.append((started_at, "stage began", stage.name))
        if stage.seconds is not None:
            ended = started_at + timedelta(seconds=stage.seconds)
            following = [at for _, at in begun[number + 1 :] if at >= started_at]
            found.append((min([ended, *following]), "stage done", stage.name))
    if run.finished_at is not None:
        found.append((run.finished_at, run.get_state_display().lower(), ""))
    # A stage that waited for workers has worked for less time than passed: none ends in the future.
    last = run.finished_at or now()
    told = [(min(at, last), what, stage) for at, what, stage in found]
    return sorted(told, key=lambda event: event[0])


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
