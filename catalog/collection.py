"""The whole catalog: curated record files and harvested tables, joined and resolved to facts.

A curated record that lists a row of a harvested table among its sources takes the row's claims; one
that has an address in a repository takes the terms that are stated there. Other rows are datasets
of their own, of tier "harvested".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from catalog import harvest
from catalog.claims import sources
from catalog.importers.entry import Entry
from catalog.importers.merge import merge
from catalog.places import places_of
from catalog.record import DatasetRecord, SourceRef, resolve
from catalog.records_io import FOLDER, Problem, RecordError, read_folder

HARVESTED = Path(__file__).resolve().parent / "harvested"
SYMMETRIC = "shared_patients"


Rows = Mapping[tuple[str, str], Entry]  # by source and ref


def read_catalog(
    folder: Path = FOLDER, tables: Path = HARVESTED, rows: Rows | None = None
) -> dict[str, dict[str, Any]]:
    """The facts of every dataset by slug, in slug order.

    Args:
        rows: harvested rows, in place of those of `tables`.

    Raises:
        RecordError: a file or table is faulty, a slug or a harvested row is taken twice, a relation
            leads nowhere or in a circle.
    """
    records = read_folder(folder)
    rows = read_tables(tables) if rows is None else rows
    facts = {slug: resolve(join(record, rows)) for slug, record in records.items()}
    problems = _taken_twice(records)
    listed = {(ref.id, ref.ref) for record in records.values() for ref in record.sources}
    for (source, ref), entry in rows.items():
        if (source, ref) in listed or sources()[source].of_others:
            continue
        record = as_record(entry)
        if record.slug in facts:
            problems.append(_problem(record.slug, "slug", f"is taken twice, by {source} {ref} too"))
        facts[record.slug] = resolve(record, "harvested")
    problems += relation_problems({slug: one["relations"] for slug, one in facts.items()})
    if problems:
        raise RecordError(problems)
    _add_inverse_relations(facts)
    return dict(sorted(facts.items()))


def read_tables(folder: Path = HARVESTED) -> dict[tuple[str, str], Entry]:
    """Every row of every harvested table by source and ref.

    Raises:
        RecordError: a table is faulty.
    """
    found: dict[tuple[str, str], Entry] = {}
    for path in sorted(folder.glob("*.csv")):
        found.update({(entry.source, entry.ref): entry for entry in harvest.read_table(path)})
    return found


def join(record: DatasetRecord, rows: Rows) -> DatasetRecord:
    """The record with the claims of the harvested rows that it lists or has the address of."""
    links = [link.model_dump() for link in record.links]
    listed = {(ref.id, ref.ref) for ref in record.sources}
    own = [key for key in places_of(links) if key in rows and key not in listed]
    refs = [SourceRef(id=source, ref=ref, whole=False) for source, ref in own]
    record = record.model_copy(update={"sources": [*record.sources, *refs]})
    for source in sorted({ref.id for ref in record.sources}):
        keys = [((source, ref.ref or ""), ref.whole) for ref in record.sources if ref.id == source]
        found = [(rows[key], whole) for key, whole in keys if key in rows]
        if found:
            record = merge(record, found)
    return record


def slug_of_row(source: str, ref: str) -> str:
    """`openneuro-ds000001`: names of harvested rows are not unique."""
    return re.sub(r"[^a-z0-9]+", "-", f"{source} {ref}".lower()).strip("-")


def as_record(entry: Entry) -> DatasetRecord:
    """A harvested row as a record of its own."""
    ref = SourceRef(id=entry.source, ref=entry.ref)
    slug = slug_of_row(entry.source, entry.ref)
    empty = DatasetRecord(slug=slug, name=entry.name, aliases=list(entry.aliases), sources=[ref])
    return merge(empty, [(entry, True)])


def _problem(slug: str, field: str, message: str) -> Problem:
    return Problem(f"{slug}.yaml", 0, field, message)


def _taken_twice(records: Mapping[str, DatasetRecord]) -> list[Problem]:
    """Ids of a source that two records claim as the whole of themselves."""
    owners: dict[tuple[str, str], str] = {}
    problems = []
    for slug, record in records.items():
        for ref in record.sources:
            if ref.ref is None or not ref.whole:
                continue
            owner = owners.setdefault((ref.id, ref.ref), slug)
            if owner != slug:
                message = f"found {ref.id} {ref.ref!r}, which {owner} lists too"
                problems.append(_problem(slug, "sources", message))
    return problems


def relation_problems(relations: Mapping[str, Iterable[Mapping[str, Any]]]) -> list[Problem]:
    """Relations by slug that lead nowhere, are stored twice or form a circle."""
    edges = [(slug, row["to"], row["kind"]) for slug, rows in relations.items() for row in rows]
    problems = [
        _problem(slug, "relations", f"found {to!r}, which is no dataset")
        for slug, to, _ in edges
        if to not in relations
    ]
    stored = set(edges)
    problems += [
        _problem(slug, "relations", f"found {to!r}, which states the same relation: keep one")
        for slug, to, kind in sorted(stored)
        if (to, slug, kind) in stored and slug < to
    ]
    graph: dict[str, list[str]] = {}
    for slug, to, kind in edges:
        if kind != SYMMETRIC:
            graph.setdefault(slug, []).append(to)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle: list[str] = error.args[1][::-1]
        text = f"form a circle: {' > '.join(circle)}"
        problems.append(_problem(circle[0], "relations", text))
    return problems


def _add_inverse_relations(facts: Mapping[str, dict[str, Any]]) -> None:
    """Each relation is stored once and shown on both pages."""
    for slug, one in facts.items():
        for row in [row for row in one["relations"] if not row.get("inverse")]:
            facts[row["to"]]["relations"].append({**row, "to": slug, "inverse": True})
