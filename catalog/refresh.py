"""What a harvest changes: at once where a slip does no harm, after a curator's decision elsewhere.

A harvest is compared with what the catalog follows of its source. New entries and plain changes
take effect; a change of licence or access, a smaller count and an entry that is gone wait
(`HarvestChange.State.WAITING`). Curated claims live in record files and are never touched.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from django.db import IntegrityError, transaction
from django.utils.timezone import now

from catalog.changes import CHANGED, GONE, FieldChange, field_changes, with_changes
from catalog.claims import sources
from catalog.collection import slug_of_row
from catalog.harvest import format_table, parse_table
from catalog.importers.entry import Entry
from catalog.models import CatalogRevision, Harvest, HarvestChange, HarvestedTable
from catalog.services import LoadReport, current_rows, load_entries, rows_by_dataset

logger = logging.getLogger(__name__)
LEASE = timedelta(hours=1)  # of a harvest; after it another may begin
MOST_GONE = 0.2  # of a source's entries; more is a fault of the source or of our reading
ERRORS_KEPT = 20
State = HarvestChange.State


class HarvestError(ValueError):
    """A harvest that must not be believed; says why."""


@dataclass(frozen=True)
class Reading:
    """What a source gave: its entries, and (ref, why) of those that could not be read.

    `version` names the content: equal versions have equal entries.
    """

    entries: Sequence[Entry]
    version: str
    failed: Sequence[tuple[str, str]] = field(default=())


def begin(source: str) -> Harvest | None:
    """A row for a harvest that begins; None while another one of the source is under way."""
    moment = now()
    lost = Harvest.objects.filter(
        source=source, state=Harvest.State.RUNNING, lease_until__lt=moment
    )
    lost.update(state=Harvest.State.FAILED, finished_at=moment, error="its process was lost")
    try:
        with transaction.atomic():
            return Harvest.objects.create(
                source=source, started_at=moment, lease_until=moment + LEASE
            )
    except IntegrityError:
        return None


def fail(harvest: Harvest, error: str) -> None:
    """End a harvest that gave nothing; the catalog stays as it is."""
    _end(harvest, Harvest.State.FAILED, error=error[:5000])


def is_known(source: str, version: str) -> bool:
    """Whether the catalog already follows this content of the source."""
    known = HarvestedTable.objects.filter(source=source, version=version)
    # A release may have brought another table since.
    return known.filter(harvested_at__date__gte=sources()[source].retrieved).exists()


def unchanged(harvest: Harvest, version: str) -> None:
    """End a harvest whose source gave what it gave before."""
    HarvestedTable.objects.filter(source=harvest.source).update(harvested_at=now())
    _end(harvest, Harvest.State.UNCHANGED, version=version)


def take(harvest: Harvest, reading: Reading) -> LoadReport | None:
    """Compare, apply what may be applied, keep the rest for a curator, and end the harvest.

    Returns:
        What it changed in the catalog; None where nothing took effect.

    Raises:
        HarvestError: the reading is empty or lacks too much of what was there.
        RecordError: the catalog would contradict itself; nothing is changed then.
    """
    with transaction.atomic():
        table = _table(harvest.source)
        before = parse_table(table.table, f"{harvest.source}.csv")
        unread = {ref for ref, _ in reading.failed}
        kept = [entry for entry in before if entry.ref in unread]
        changes = field_changes(before, [*reading.entries, *kept])
        _check(reading, before, changes)
        applied, waiting = _sorted(harvest, changes)
        _write(table, with_changes(before, applied, harvest.source), reading.version)
        counts = _entries_by_kind(changes)
        harvest.entry_count = len(reading.entries)
        harvest.new_count, harvest.changed_count = counts["new"], counts[CHANGED]
        harvest.gone_count, harvest.failed_count = counts[GONE], len(reading.failed)
        harvest.waiting_count = waiting
        report = _load(applied, harvest.source, f"harvest of {harvest.source}")
        if report:
            harvest.revision = CatalogRevision.objects.get(number=report.version)
        said = "\n".join(f"{ref}: {why}" for ref, why in reading.failed[:ERRORS_KEPT])
        _end(harvest, Harvest.State.DONE, version=reading.version, error=said)
    return report


def _check(reading: Reading, before: Sequence[Entry], changes: Iterable[FieldChange]) -> None:
    gone = sum(change.kind == GONE for change in changes)
    if not reading.entries or gone > MOST_GONE * len(before):
        raise HarvestError(
            f"found {len(reading.entries)} entries, {gone} of {len(before)} known ones gone, "
            f"expected at most {MOST_GONE:.0%} gone: nothing was changed"
        )


def _table(source: str) -> HarvestedTable:
    """The row of a source, locked; made from the shipped table at its first harvest or release."""
    rows = [entry for (owner, _), entry in current_rows().items() if owner == source]
    shipped = format_table(sorted(rows, key=lambda entry: entry.ref), source) if rows else ""
    text = shipped or "ref,name\n"
    HarvestedTable.objects.get_or_create(
        source=source, defaults={"table": text, "harvested_at": now()}
    )
    table = HarvestedTable.objects.select_for_update().get(source=source)
    table.table = text  # a release may have brought a newer one than the last harvest
    return table


def _write(table: HarvestedTable, entries: list[Entry], version: str) -> None:
    table.table = format_table(entries, table.source)
    table.version, table.harvested_at = version, now()
    table.save()


def _sorted(harvest: Harvest, changes: Sequence[FieldChange]) -> tuple[list[FieldChange], int]:
    """Note every change; those that take effect now, and how many wait for a curator.

    A change that a curator rejected is not brought up again while the source says the same. What
    waits from an earlier harvest goes on waiting, unless the source says something else by now.
    """
    earlier = HarvestChange.objects.filter(source=harvest.source)
    rejected = {_key(row) for row in earlier.filter(state=State.REJECTED)}
    waiting = {_key(row): row for row in earlier.filter(state=State.WAITING)}
    slugs = _slugs_of(harvest.source)
    applied: list[FieldChange] = []
    rows: list[HarvestChange] = []
    still = set()
    for change in changes:
        key = (change.ref, change.field, repr(change.after))
        if change.sensitive and key in rejected:
            continue
        if key in waiting:
            still.add(key)
            continue
        if not change.sensitive:
            applied.append(change)
        rows.append(_row(harvest, change, slugs))
    outdated = [row.pk for key, row in waiting.items() if key not in still]
    earlier.filter(pk__in=outdated).update(state=State.OUTDATED, decided_at=now())
    HarvestChange.objects.bulk_create(rows, batch_size=500)
    return applied, len(still) + sum(row.state == State.WAITING for row in rows)


def _key(row: HarvestChange) -> tuple[str, str, str]:
    return row.ref, row.field, repr(row.after)


def _row(harvest: Harvest, change: FieldChange, slugs: Mapping[str, str]) -> HarvestChange:
    return HarvestChange(
        harvest=harvest,
        source=harvest.source,
        ref=change.ref,
        slug=slugs.get(change.ref, slug_of_row(harvest.source, change.ref)),
        name=change.name[:300],
        kind=change.kind,
        field=change.field,
        before=change.before,
        after=change.after,
        state=State.WAITING if change.sensitive else State.APPLIED,
    )


def _slugs_of(source: str) -> dict[str, str]:
    """Ref -> the dataset that it belongs to."""
    found = rows_by_dataset()
    return {ref: slug for slug, rows in found.items() for owner, ref in rows if owner == source}


def _entries_by_kind(changes: Iterable[FieldChange]) -> Counter[str]:
    return Counter(kind for _, kind in {(change.ref, change.kind) for change in changes})


def _load(changes: Iterable[FieldChange], source: str, cause: str) -> LoadReport | None:
    keys = {(source, change.ref) for change in changes}
    return load_entries(keys, cause) if keys else None


def _end(harvest: Harvest, state: str, **fields: str) -> None:
    harvest.state, harvest.finished_at = state, now()
    for name, value in fields.items():
        setattr(harvest, name, value)
    harvest.save()


def decide(
    ids: Iterable[int], *, accept: bool, by: str, reason: str = ""
) -> tuple[list[HarvestChange], LoadReport | None]:
    """Accept or reject waiting changes; those that are decided already are left as they are.

    Returns:
        What was decided now, and what it changed in the catalog.

    Raises:
        RecordError: the catalog would contradict itself; nothing is decided then.
    """
    report = None
    with transaction.atomic():
        rows = list(
            HarvestChange.objects.select_for_update().filter(pk__in=list(ids), state=State.WAITING)
        )
        HarvestChange.objects.filter(pk__in=[row.pk for row in rows]).update(
            state=State.ACCEPTED if accept else State.REJECTED,
            decided_by=by,
            decided_at=now(),
            reason=reason,
        )
        for source in sorted({row.source for row in rows} if accept else ()):
            changes = [_change(row) for row in rows if row.source == source]
            table = _table(source)
            entries = parse_table(table.table, f"{source}.csv")
            _write(table, with_changes(entries, changes, source), table.version)
            report = _load(changes, source, f"{by} accepted changes of {source}")
    return rows, report


def _change(row: HarvestChange) -> FieldChange:
    return FieldChange(
        row.ref, row.name, row.kind, row.field, row.before, row.after, sensitive=True
    )
