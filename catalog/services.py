"""Writes that touch many datasets: each function is one transaction."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.db import transaction

from catalog.models import CatalogRevision, Dataset
from catalog.record import DatasetRecord, digest_of
from catalog.records_io import FOLDER, read_folder

FIELDS = (
    "name",
    "aliases",
    "year",
    "modalities",
    "anatomies",
    "tasks",
    "diseases",
    "dimensions",
    "counts",
    "labelled",
    "licence",
    "access",
    "homepage",
    "sources",
    "record",
    "digest",
    "updated_at",
)
BATCH = 300


@dataclass(frozen=True)
class LoadReport:
    """What loading the records changed, and the catalog's digest afterwards."""

    created: int
    updated: int
    unchanged: int
    deleted: int
    digest: str

    @property
    def total(self) -> int:
        """Datasets in the catalog."""
        return self.created + self.updated + self.unchanged


def dataset_values(record: DatasetRecord) -> dict[str, Any]:
    """The columns of a dataset row; unknown text is "" there."""
    data = record.as_dict()
    plain = ("slug", "name", "aliases", "year", "modalities", "anatomies", "tasks", "diseases")
    more = ("dimensions", "counts", "labelled", "access")
    return {
        **{key: data[key] for key in (*plain, *more)},
        "licence": record.licence or "",
        "homepage": record.homepage or "",
        "sources": [ref.id for ref in record.sources],
        "record": data,
        "digest": digest_of(data),
    }


def load_catalog(folder: Path = FOLDER) -> LoadReport:
    """Make the database say what the record files say. Safe to run again.

    Raises:
        RecordError: a file is faulty; then nothing is changed.
    """
    return load_records(read_folder(folder).values())


@transaction.atomic
def load_records(records: Iterable[DatasetRecord]) -> LoadReport:
    """Create, refresh and delete rows so that they match `records`; set the revision."""
    wanted = {record.slug: dataset_values(record) for record in records}
    stored = {row.slug: row for row in Dataset.objects.only("pk", "slug", "digest")}
    new = [Dataset(**values) for slug, values in wanted.items() if slug not in stored]
    changed = [
        Dataset(pk=row.pk, **wanted[slug])
        for slug, row in stored.items()
        if slug in wanted and row.digest != wanted[slug]["digest"]
    ]
    gone = [row.pk for slug, row in stored.items() if slug not in wanted]
    for row in changed:
        Dataset._meta.get_field("updated_at").pre_save(row, add=False)  # noqa: SLF001
    Dataset.objects.bulk_create(new, batch_size=BATCH)
    Dataset.objects.bulk_update(changed, FIELDS, batch_size=BATCH)
    Dataset.objects.filter(pk__in=gone).delete()
    digest = digest_of(sorted((slug, values["digest"]) for slug, values in wanted.items()))
    _set_revision(digest, len(wanted))
    unchanged = len(wanted) - len(new) - len(changed)
    return LoadReport(len(new), len(changed), unchanged, len(gone), digest)


def _set_revision(digest: str, dataset_count: int) -> None:
    """One row; written only when something changed, so that `loaded_at` stays true."""
    row = CatalogRevision.objects.order_by("pk").first()
    if row is not None and (row.digest, row.dataset_count) == (digest, dataset_count):
        return
    row = row or CatalogRevision()
    row.digest, row.dataset_count = digest, dataset_count
    row.save()
