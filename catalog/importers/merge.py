"""Put a source's entries into a record: its claims are replaced, all other claims stay. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from catalog.claims import ordered, rank
from catalog.importers.entry import Entry
from catalog.record import CLAIMED, DatasetRecord

# What holds for a part when the source's entry describes the whole that it belongs to.
OF_THE_WHOLE = frozenset(
    {"year", "licence", "licence_labels", "access", "publisher", "doi", "citation", "file_formats"}
)


def merge(record: DatasetRecord, entries: Sequence[tuple[Entry, bool]]) -> DatasetRecord:
    """The record with the claims of `entries`, all of one source, in place of its former ones.

    The flag beside an entry is false when it describes more than this record.
    """
    if not entries:
        return record
    source = entries[0][0].source
    fields: dict[str, Any] = {}
    for field in CLAIMED:
        kept = [claim for claim in getattr(record, field) if claim.source != source]
        new = [
            entry.facts[field]
            for entry, whole in entries
            if field in entry.facts and (whole or field in OF_THE_WHOLE)
        ]
        fields[field] = ordered([*kept, *_each_once(new)], field)
    counts = [count for count in record.counts if count.source != source]
    counts += _each_once([count for entry, whole in entries if whole for count in entry.counts])
    links = {link.url: link for link in record.links if link.source != source}
    for entry, _ in entries:
        for link in entry.links:
            links.setdefault(link.url, link)
    by_source = [
        sorted(rows, key=lambda row: rank(row.source, field) or 0)  # stable: curators' order stays
        for field, rows in (("counts", counts), ("links", list(links.values())))
    ]
    return record.model_copy(update={**fields, "counts": by_source[0], "links": by_source[1]})


def _each_once(items: Sequence[Any]) -> list[Any]:
    return [item for place, item in enumerate(items) if item not in items[:place]]
