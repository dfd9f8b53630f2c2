"""Writes that touch many datasets: each function is one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.db import transaction

from catalog.audit import assess
from catalog.collection import HARVESTED, read_catalog
from catalog.models import CatalogRevision, Dataset
from catalog.overlaps import OverlapGraph
from catalog.record import digest_of
from catalog.records_io import FOLDER

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


def load_catalog(folder: Path = FOLDER, tables: Path = HARVESTED) -> LoadReport:
    """Make the database say what record files and harvested tables say. Safe to run again.

    Raises:
        RecordError: a file is faulty; then nothing is changed.
    """
    return load_facts(read_catalog(folder, tables).values())


@transaction.atomic
def load_facts(facts: Iterable[Mapping[str, Any]]) -> LoadReport:
    """Create, refresh and delete rows so that they match `facts`; set the revision."""
    wanted = {one["slug"]: dataset_values(one) for one in facts}
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


def overlap_graph() -> OverlapGraph:
    """The relations of the loaded catalog. One query."""
    rows = Dataset.objects.values_list("slug", "record__relations")
    return OverlapGraph({slug: relations or [] for slug, relations in rows})


def facts_of(slugs: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The facts of the named datasets by slug; unknown ones lack."""
    rows = Dataset.objects.filter(slug__in=set(slugs)).values_list("slug", "record")
    return {slug: record for slug, record in rows if record}
