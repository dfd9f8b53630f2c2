"""What differs between two states of a dataset, or of a source's table. Pure.

A source's entry is compared cell by cell as its table holds it (`catalog.harvest`), so that what
is shown to a curator is what will be applied.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from catalog.claims import sources
from catalog.harvest import RAW, SAME, cells_of, compare, entry_of
from catalog.importers.entry import Entry

Cells = dict[str, str]
#: Where a wrong value does harm: such a change waits for a curator.
SENSITIVE = frozenset({"licence", "licence_labels", "access"})
NEW, CHANGED, GONE = "new", "changed", "gone"
#: Derived from the rest, or the evidence behind it.
NOT_SHOWN = frozenset({"claims", "quality", "conflicts"})


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Field -> [before, after] of two states of a dataset's facts; the evidence is left out."""
    keys = dict.fromkeys((*before, *after))
    pairs = {key: [before.get(key), after.get(key)] for key in keys if key not in NOT_SHOWN}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


@dataclass(frozen=True)
class FieldChange:
    """One difference between two readings of a source.

    `field` is empty where the whole entry is new or gone; `before` and `after` are the cells that
    change (`{"licence": "CC-BY-4.0", "licence_raw": "="}`), None where there is no entry.
    """

    ref: str
    name: str
    kind: str
    field: str
    before: Cells | None
    after: Cells | None
    sensitive: bool


def field_changes(before: Sequence[Entry], after: Sequence[Entry]) -> list[FieldChange]:
    """Every difference: entries that are new or gone, and each changed field of the others."""
    old = {entry.ref: entry for entry in before}
    new = {entry.ref: entry for entry in after}
    sorted_refs = compare(before, after)
    found = [
        FieldChange(
            ref, new[ref].name, NEW, "", None, cells_of(new[ref]), sensitive=_alters(new[ref])
        )
        for ref in sorted_refs.new
    ]
    for ref in sorted_refs.changed:
        found += _of_entry(old[ref], new[ref])
    found += [
        FieldChange(ref, old[ref].name, GONE, "", cells_of(old[ref]), None, sensitive=True)
        for ref in sorted_refs.gone
    ]
    return found


def _alters(new: Entry) -> bool:
    """Whether a new entry states terms of a dataset that others list already."""
    return sources()[new.source].of_others and not SENSITIVE.isdisjoint(new.facts)


def _of_entry(before: Entry, after: Entry) -> list[FieldChange]:
    old, new = cells_of(before), cells_of(after)
    fields = dict.fromkeys(column.removesuffix(RAW) for column in (*old, *new))
    rows = []
    for field in fields:
        one, other = _cells(old, field), _cells(new, field)
        if one != other:
            sensitive = field in SENSITIVE or (field == "counts" and _shrinks(before, after))
            rows.append(FieldChange(before.ref, after.name, CHANGED, field, one, other, sensitive))
    return rows


def _cells(row: Cells, field: str) -> Cells:
    return {column: text for column in (field, field + RAW) if (text := row.get(column, ""))}


def _shrinks(before: Entry, after: Entry) -> bool:
    """Whether a count is smaller than it was, or no longer stated."""
    now = {(count.unit, count.what, count.split): count.number for count in after.counts}
    return any(
        now.get((count.unit, count.what, count.split), 0) < count.number for count in before.counts
    )


def with_changes(
    entries: Iterable[Entry], changes: Iterable[FieldChange], source: str
) -> list[Entry]:
    """A source's entries after the changes, by ref. Of an entry that is not there none changes."""
    found = {entry.ref: entry for entry in entries}
    for change in changes:
        if change.kind == GONE:
            found.pop(change.ref, None)
        elif change.kind == NEW and change.after is not None:
            found[change.ref] = entry_of(change.after, source)
        elif change.ref in found:
            row = cells_of(found[change.ref])
            for column in (change.field, change.field + RAW):
                row[column] = (change.after or {}).get(column, "")
            found[change.ref] = entry_of(row, source)
    return [found[ref] for ref in sorted(found)]


def terms_text(cells: Mapping[str, str] | None) -> list[str]:
    """The terms that an entry states, for people."""
    found = {field: cell_text(cells, field) for field in sorted(SENSITIVE)}
    return [f"{field.replace('_', ' of ')}: {text}" for field, text in found.items() if text]


def cell_text(cells: Mapping[str, str] | None, field: str) -> str:
    """A changed cell for people: the value, and the source's own word where it is another."""
    if not cells:
        return ""
    value, raw = cells.get(field, ""), cells.get(field + RAW, "")
    return f"{value} ({raw.removeprefix(SAME)})" if raw and raw != SAME else value
