"""Writes that touch many datasets: each function is one transaction."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.db import transaction

from catalog.audit import assess
from catalog.changes import CHANGED, GONE, NEW, differences
from catalog.claims import sources
from catalog.collection import (
    HARVESTED,
    Rows,
    as_record,
    join,
    read_catalog,
    read_tables,
    slug_of_row,
)
from catalog.corrections import CorrectionError, with_line
from catalog.harvest import parse_table
from catalog.models import CatalogChange, CatalogRevision, Correction, Dataset, HarvestedTable
from catalog.overlaps import OverlapGraph
from catalog.places import places_of
from catalog.record import DatasetRecord, Tier, digest_of, record_of, resolve
from catalog.records_io import FOLDER, Problem, RecordError, parse_record

logger = logging.getLogger(__name__)
FIELDS = (
    "name",
    "aliases",
    "tier",
    "family",
    "year",
    "modalities",
    "anatomies",
    "tasks",
    "diseases",
    "dimensions",
    "counts",
    "labelled",
    "licence",
    "licence_labels",
    "access",
    "publisher",
    "doi",
    "homepage",
    "platform",
    "sources",
    "quality",
    "record",
    "digest",
    "updated_at",
)
BATCH = 300


@dataclass(frozen=True)
class LoadReport:
    """What loading changed, and the catalog's digest and version afterwards."""

    created: int
    updated: int
    unchanged: int
    deleted: int
    digest: str
    version: int

    @property
    def total(self) -> int:
        """Datasets in the catalog."""
        return self.created + self.updated + self.unchanged


def dataset_values(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a dataset row; unknown text is "" there."""
    texts = ("family", "licence", "licence_labels", "publisher", "doi", "homepage", "platform")
    same = [key for key in FIELDS if key in facts and key not in {*texts, "sources"}]
    assessed = assess(facts)
    record = {**facts, "quality": assessed.as_dict()}
    return {
        "slug": facts["slug"],
        **{key: facts[key] for key in same},
        **{key: facts[key] or "" for key in texts},
        "sources": list(dict.fromkeys(ref["id"] for ref in facts["sources"])),
        "quality": assessed.score,
        "record": record,
        "digest": digest_of(record),
    }


def load_catalog(
    folder: Path = FOLDER, tables: Path = HARVESTED, cause: str = "record files"
) -> LoadReport:
    """Make the database say what record files and harvested tables say. Safe to run again.

    Args:
        cause: what a new version is because of, for the changelog.

    Raises:
        RecordError: a file is faulty; then nothing is changed.
    """
    return load_facts(read_catalog(folder, tables, current_rows(tables)).values(), cause)


def current_rows(tables: Path = HARVESTED) -> Rows:
    """The rows of the tables; of a source that was harvested later, those of that harvest."""
    rows = read_tables(tables)
    for later in HarvestedTable.objects.all():
        known = sources().get(later.source)
        if known is None or known.retrieved > later.harvested_at.date():
            continue
        rows = {key: entry for key, entry in rows.items() if key[0] != later.source}
        entries = parse_table(later.table, f"{later.source}.csv")
        rows |= {(entry.source, entry.ref): entry for entry in entries}
    return rows


def load_facts(facts: Iterable[Mapping[str, Any]], cause: str = "") -> LoadReport:
    """Create, refresh and delete rows so that they match `facts`; number the new version."""
    wanted = {one["slug"]: one for one in facts}
    with transaction.atomic():
        gone = set(Dataset.objects.values_list("slug", flat=True)) - wanted.keys()
        return _store(wanted, gone, cause)


def load_entries(keys: Iterable[tuple[str, str]], cause: str) -> LoadReport:
    """Bring the datasets of some harvested rows, by source and ref, up to date; others stay.

    Raises:
        RecordError: a row that is gone is related to by a record, or a record file is faulty.
    """
    wanted, gone = _facts_of_entries(set(keys))
    with transaction.atomic():
        return _store(wanted, gone, cause)


def rows_by_dataset() -> dict[str, set[tuple[str, str]]]:
    """Source and ref of each row that belongs to a curated dataset, by its slug. One query."""
    rows = Dataset.objects.filter(tier="curated").values_list(
        "slug", "record__sources", "record__links"
    )
    return {
        slug: {(ref["id"], ref["ref"]) for ref in refs or ()} | set(places_of(links or []))
        for slug, refs, links in rows
    }


def _facts_of_entries(keys: set[tuple[str, str]]) -> tuple[dict[str, dict[str, Any]], set[str]]:
    """The facts of the datasets that the rows belong to, and slugs that no row stands behind."""
    rows = current_rows()
    listed = set()
    records: dict[str, tuple[DatasetRecord, Tier]] = {}
    for slug, own in rows_by_dataset().items():
        if mine := keys & own:
            listed |= mine
            text = (FOLDER / f"{slug}.yaml").read_text("utf-8")
            records[slug] = join(parse_record(text, f"{slug}.yaml"), rows), "curated"
    alone = {key for key in keys - listed if not sources()[key[0]].of_others}
    for key in alone & rows.keys():
        record = as_record(rows[key])
        records[record.slug] = record, "harvested"
    gone = {slug_of_row(*key) for key in alone - rows.keys()}
    before = facts_of([*records, *gone])
    inverse = {
        slug: [row for row in facts["relations"] if row.get("inverse")]
        for slug, facts in before.items()
    }
    if problems := [
        Problem(f"{row['to']}.yaml", 0, "relations", f"found {slug!r}, which its source dropped")
        for slug in sorted(gone)
        for row in inverse.get(slug, ())
    ]:
        raise RecordError(problems)
    wanted = {slug: resolve(record, tier) for slug, (record, tier) in records.items()}
    for slug, facts in wanted.items():
        facts["relations"] += inverse.get(slug, [])
    return wanted, gone


def _store(facts: Mapping[str, Mapping[str, Any]], gone: set[str], cause: str) -> LoadReport:
    """Write these datasets, delete those named, and number the version that comes of it.

    Accepted corrections are put into the facts first: no new reading of a source undoes them.
    """
    list(CatalogRevision.objects.select_for_update()[:1])  # one writer after the other
    accepted = _accepted(facts)
    wanted = {
        slug: dataset_values(_corrected(one, accepted.get(slug, ()))) for slug, one in facts.items()
    }
    stored = {row.slug: row for row in Dataset.objects.only("pk", "slug", "name", "digest")}
    new = [Dataset(**values) for slug, values in wanted.items() if slug not in stored]
    changed = [
        Dataset(pk=row.pk, **wanted[slug])
        for slug, row in stored.items()
        if slug in wanted and row.digest != wanted[slug]["digest"]
    ]
    before = facts_of(row.slug for row in changed)
    for row in changed:
        Dataset._meta.get_field("updated_at").pre_save(row, add=False)  # noqa: SLF001
    Dataset.objects.bulk_create(new, batch_size=BATCH)
    Dataset.objects.bulk_update(changed, FIELDS, batch_size=BATCH)
    dropped = [row for slug, row in stored.items() if slug in gone]
    Dataset.objects.filter(pk__in=[row.pk for row in dropped]).delete()
    digest = digest_of(sorted(Dataset.objects.values_list("slug", "digest")))
    rows = [
        *(CatalogChange(slug=row.slug, name=row.name, kind=NEW) for row in new),
        *(_changed(row, before.get(row.slug, {})) for row in changed),
        *(CatalogChange(slug=row.slug, name=row.name, kind=GONE) for row in dropped),
    ]
    total = len(stored) + len(new) - len(dropped)
    number = _number_version(digest, total, cause, rows)
    unchanged = len(wanted) - len(new) - len(changed)
    return LoadReport(len(new), len(changed), unchanged, len(dropped), digest, number)


def replace_record(slug: str, record: DatasetRecord, cause: str) -> LoadReport:
    """Make one dataset say what `record` says; relations that other records hold stay."""
    facts = resolved_like(facts_of([slug])[slug], record)
    with transaction.atomic():
        return _store({slug: facts}, set(), cause)


def resolved_like(before: Mapping[str, Any], record: DatasetRecord) -> dict[str, Any]:
    """The facts of a changed record, with tier and relations from others as they were."""
    facts = resolve(record, before["tier"])
    inverse = [row for row in before["relations"] if row.get("inverse")]
    return {**facts, "relations": [*facts["relations"], *inverse]}


def _accepted(slugs: Iterable[str]) -> dict[str, list[Correction]]:
    found: dict[str, list[Correction]] = {}
    for one in Correction.objects.accepted():
        found.setdefault(one.slug, []).append(one)
    return {slug: found[slug] for slug in slugs if slug in found}


def _corrected(facts: Mapping[str, Any], corrections: Iterable[Correction]) -> Mapping[str, Any]:
    """The facts with accepted corrections; one that a record may no longer hold is logged."""
    record = None
    for one in corrections:
        try:
            record = with_line(record or record_of(facts), one.field, one.line())
        except CorrectionError as error:
            logger.warning("correction %s of %s is not followed: %s", one.pk, one.slug, error)
    return resolved_like(facts, record) if record else facts


def _changed(row: Dataset, before: Mapping[str, Any]) -> CatalogChange:
    fields = differences(before, row.record)
    return CatalogChange(slug=row.slug, name=row.name, kind=CHANGED, fields=fields)


def _number_version(
    digest: str, dataset_count: int, cause: str, changes: Sequence[CatalogChange]
) -> int:
    """The present version's number; a new one when something changed.

    The first version lists no changes: everything is new in it.
    """
    last = CatalogRevision.objects.current()
    if last is not None and (last.digest, last.dataset_count) == (digest, dataset_count):
        return last.number
    kinds = Counter(row.kind for row in changes)
    revision = CatalogRevision.objects.create(
        number=last.number + 1 if last else 1,
        digest=digest,
        dataset_count=dataset_count,
        cause=cause[:300],
        new_count=kinds[NEW],
        changed_count=kinds[CHANGED],
        gone_count=kinds[GONE],
    )
    if last is not None:
        for row in changes:
            row.revision = revision
        CatalogChange.objects.bulk_create(changes, batch_size=BATCH)
    return revision.number


def overlap_graph() -> OverlapGraph:
    """The relations of the loaded catalog. One query."""
    rows = Dataset.objects.values_list("slug", "record__relations")
    return OverlapGraph({slug: relations or [] for slug, relations in rows})


def facts_of(slugs: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The facts of the named datasets by slug; unknown ones lack."""
    rows = Dataset.objects.filter(slug__in=set(slugs)).values_list("slug", "record")
    return {slug: record for slug, record in rows if record}
