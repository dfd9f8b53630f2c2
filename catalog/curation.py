"""Corrections on their way: proposed by anybody, accepted or rejected by a curator."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils.timezone import now
from pydantic import TypeAdapter, ValidationError

from catalog.corrections import (
    CorrectionError,
    canonical,
    check_field,
    with_line,
    without_line,
)
from catalog.faults import Fault
from catalog.models import Correction, Dataset
from catalog.record import LISTS, DatasetRecord, Link, record_of, states_none
from catalog.records_io import FOLDER, dump_record, parse_record
from catalog.services import replace_record

LONGEST = 2000  # characters of a quote or a reason
OPEN, ACCEPTED, REJECTED = (
    Correction.State.OPEN,
    Correction.State.ACCEPTED,
    Correction.State.REJECTED,
)


class DecisionError(Exception):
    """A correction on which a curator has decided already, or whose dataset is gone."""


def current_value(facts: dict[str, Any], field: str) -> Any:
    """What the catalog says of a field, in the shape in which corrections give it."""
    check_field(field)
    return facts[field]


def propose(
    dataset: Dataset,
    field: str,
    value: Any,
    *,
    url: str,
    quote: str = "",
    reason: str = "",
    proposer: Any = None,
    origin: str = "",
) -> tuple[Correction, bool]:
    """Keep a proposed correction until a curator decides; false: it was proposed already.

    Raises:
        CorrectionError: everything that cannot be used.
    """
    faults = _evidence_faults(url, quote, reason)
    try:
        value = canonical(field, value)
    except CorrectionError as error:
        raise CorrectionError([*error.faults, *faults]) from error
    before = current_value(dataset.record, field)
    if _is_shown(dataset.record, field, value):
        faults.append(Fault("value", str(value), "another value than the one that is shown"))
    if faults:
        raise CorrectionError(faults)
    same = Correction.objects.filter(slug=dataset.slug, field=field, state=OPEN)
    if waiting := next((one for one in same if one.value == value), None):
        return waiting, False
    created = Correction.objects.create(
        slug=dataset.slug,
        field=field,
        value=value,
        before=before,
        url=url,
        quote=quote,
        reason=reason,
        proposer=proposer,
        origin=origin,
    )
    return created, True


def _evidence_faults(url: str, quote: str, reason: str) -> list[Fault]:
    faults = []
    if not _is_url(url):
        faults.append(Fault("url", url, "the http(s) address of a page that states the value"))
    if not quote and not reason:
        expected = "what the page says in its words, or why the value is right"
        faults.append(Fault("quote", "nothing", expected))
    faults += [
        Fault(name, f"{len(text)} characters", f"at most {LONGEST}")
        for name, text in (("quote", quote), ("reason", reason))
        if len(text) > LONGEST
    ]
    return faults


_ADDRESS = TypeAdapter(Link)


def _is_url(text: str) -> bool:
    try:
        _ADDRESS.validate_python({"url": text, "source": "curation"})
    except ValidationError:
        return False
    return True


def _is_shown(facts: dict[str, Any], field: str, value: Any) -> bool:
    """Whether the catalog says that already, without sources that disagree."""
    if field in facts["conflicts"]:
        return False
    shown = facts[field]
    if field in {"counts", "links"}:
        return any(all(row[key] == part for key, part in value.items()) for row in shown)
    if field in LISTS and not value:  # a stated "none" is no unknown
        return not shown and states_none(facts, field) == (value == [])
    return bool(shown == value) or (value is None and shown == "unknown")


@transaction.atomic
def accept(correction: Correction, curator: Any, reason: str = "") -> None:
    """Let the catalog follow it, as a claim of curation with its evidence and the curator's name.

    Raises:
        DecisionError: it was decided already, or the dataset is gone.
        CorrectionError: the records' rules have changed, and it is no valid value any more.
    """
    _decide(correction, (OPEN,), ACCEPTED, curator, reason)
    record = record_of(_dataset_of(correction).record)
    record = with_line(record, correction.field, correction.line())
    replace_record(correction.slug, record, f"correction accepted by {correction.curator}")


@transaction.atomic
def reject(correction: Correction, curator: Any, reason: str) -> None:
    """Do not follow it, with the reason; an accepted one is taken back out of the catalog.

    Raises:
        DecisionError: it was rejected already.
        CorrectionError: no reason is given.
    """
    if not reason:
        raise CorrectionError([Fault("reason", "nothing", "why it is not followed")])
    line = correction.line()
    was_followed = correction.state == ACCEPTED
    _decide(correction, (correction.state,) if was_followed else (OPEN,), REJECTED, curator, reason)
    row = Dataset.objects.filter(slug=correction.slug).first()
    if was_followed and row is not None:
        record = without_line(record_of(row.record), correction.field, line)
        replace_record(row.slug, record, f"correction taken back by {correction.curator}")


def _decide(
    correction: Correction, before: Iterable[str], state: str, curator: Any, reason: str
) -> None:
    if len(reason) > LONGEST:
        raise CorrectionError([Fault("reason", f"{len(reason)} characters", f"at most {LONGEST}")])
    by, at = curator.get_full_name() or curator.get_username(), now()
    history = [*correction.history, _entry(state, by, at, reason)]
    values = {"curator": by, "decided_at": at, "history": history}
    if not Correction.objects.decide(correction.pk, tuple(before), state, **values):
        correction.refresh_from_db()
        raise DecisionError(
            f"correction {correction.pk}: found it {correction.state}, expected it open"
        )
    correction.refresh_from_db()


def _entry(state: str, by: str, at: datetime, reason: str) -> dict[str, str]:
    return {"state": str(state), "by": by, "at": at.isoformat(timespec="seconds"), "reason": reason}


def _dataset_of(correction: Correction) -> Dataset:
    row = Dataset.objects.filter(slug=correction.slug).first()
    if row is None:
        raise DecisionError(f"correction {correction.pk}: the dataset {correction.slug} is gone")
    return row


def corrected_records() -> list[DatasetRecord]:
    """The record of every dataset that has an accepted correction, by slug."""
    slugs = Correction.objects.accepted().values_list("slug", flat=True)
    return [corrected_record(row) for row in Dataset.objects.in_order().filter(slug__in=set(slugs))]


def record_text(dataset: Dataset) -> str:
    """The dataset's record file with its accepted corrections, to be sent upstream."""
    return dump_record(corrected_record(dataset))


def corrected_record(dataset: Dataset) -> DatasetRecord:
    """The dataset's record with its accepted corrections.

    A harvested dataset gets a new record, which lists its row and holds the corrections alone.
    """
    path = FOLDER / f"{dataset.slug}.yaml"
    if path.exists():
        record = parse_record(path.read_text("utf-8"), path.name)
    elif dataset.tier == "harvested":
        keys = ("slug", "name", "aliases", "sources")
        record = DatasetRecord.model_validate({key: dataset.record[key] for key in keys})
    else:
        record = record_of(dataset.record)
    for one in Correction.objects.accepted().filter(slug=dataset.slug):
        record = with_line(record, one.field, one.line())
    return record
