"""What exists: datasets as the catalog knows them, and the catalog's revision."""

from __future__ import annotations

from typing import Any, Self

from django.db import models


class Access(models.TextChoices):
    """How one gets the files; unknown stays unknown."""

    OPEN = "open"
    REGISTRATION = "registration"
    APPLICATION = "application"
    UNKNOWN = "unknown"


class Tier(models.TextChoices):
    """Whether a person vouches for the record or it is a harvested source's row."""

    CURATED = "curated"
    HARVESTED = "harvested"


class DatasetQuerySet(models.QuerySet["Dataset"]):
    """Reads over datasets."""

    def in_order(self) -> Self:
        """By slug: the order of every export."""
        return self.order_by("slug")

    def facts(self) -> models.QuerySet[Dataset, dict[str, Any]]:
        """All facts of each with the claims behind them, by slug."""
        return self.in_order().values_list("record", flat=True)


class Dataset(models.Model):
    """One distinct dataset: the facts that its claims give (`catalog.record.resolve`).

    Lists hold canonical vocabulary terms; `record` is all facts with the claims behind them.
    """

    slug = models.SlugField(max_length=100, unique=True)
    name = models.CharField(max_length=300)
    aliases = models.JSONField(default=list)
    tier = models.CharField(max_length=20, choices=Tier, default=Tier.CURATED)
    family = models.CharField(max_length=100, blank=True)
    year = models.PositiveSmallIntegerField(null=True)
    modalities = models.JSONField(default=list)
    anatomies = models.JSONField(default=list)
    tasks = models.JSONField(default=list)
    diseases = models.JSONField(default=list)
    dimensions = models.JSONField(default=list)
    counts = models.JSONField(default=list)  # [{number, unit, what, split, source, raw}]
    labelled = models.BooleanField(null=True)
    licence = models.CharField(max_length=120, blank=True)  # SPDX or LicenseRef-; "" is unknown
    licence_labels = models.CharField(max_length=120, blank=True)
    access = models.CharField(max_length=20, choices=Access, default=Access.UNKNOWN)
    publisher = models.CharField(max_length=300, blank=True)
    doi = models.CharField(max_length=200, blank=True)
    homepage = models.URLField(max_length=1000, blank=True)
    sources = models.JSONField(default=list)  # ids of the metadata sources that vouch for it
    platform = models.CharField(max_length=100, blank=True)
    quality = models.PositiveSmallIntegerField(default=0)  # 0-100, see catalog.audit
    record = models.JSONField(default=dict)
    digest = models.CharField(max_length=64)  # SHA-256 of the canonical record
    updated_at = models.DateTimeField(auto_now=True)

    objects = DatasetQuerySet.as_manager()

    class Meta:
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.name


class CatalogRevision(models.Model):
    """One row: the digest over all records. A search index is stale when it carries another."""

    digest = models.CharField(max_length=64)
    dataset_count = models.PositiveIntegerField()
    loaded_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return self.digest[:12]
