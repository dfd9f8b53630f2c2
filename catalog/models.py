"""What exists: datasets as the catalog knows them, its versions, and corrections to it."""

from __future__ import annotations

import uuid
from typing import Any, Self

from django.conf import settings
from django.db import models
from django.utils import timezone

from catalog.claims import line_of


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


class CatalogRevisionQuerySet(models.QuerySet["CatalogRevision"]):
    """Reads over versions."""

    def current(self) -> CatalogRevision | None:
        """The newest one; None before the first load."""
        return self.order_by("-number").first()


class CatalogRevision(models.Model):
    """One version of the catalog: a number that only grows, and the digest over all records.

    A search index is stale when it carries another digest than the newest version.
    """

    number = models.PositiveIntegerField(unique=True, default=1)
    digest = models.CharField(max_length=64)
    dataset_count = models.PositiveIntegerField()
    cause = models.CharField(max_length=300, blank=True)
    new_count = models.PositiveIntegerField(default=0)
    changed_count = models.PositiveIntegerField(default=0)
    gone_count = models.PositiveIntegerField(default=0)
    loaded_at = models.DateTimeField(auto_now_add=True)

    objects = CatalogRevisionQuerySet.as_manager()

    class Meta:
        ordering = ["-number"]

    def __str__(self) -> str:
        return f"{self.number} ({self.digest[:12]})"


class ChangeKind(models.TextChoices):
    """What became of a dataset, or of a source's entry of it."""

    NEW = "new"
    CHANGED = "changed"
    GONE = "gone"


class CatalogChange(models.Model):
    """What a version changed in one dataset; the first version, which holds all, has no such rows.

    `fields` is {field: [value before, value after]}; empty where only the evidence changed.
    """

    revision = models.ForeignKey(CatalogRevision, on_delete=models.CASCADE, related_name="changes")
    slug = models.SlugField(max_length=100, db_index=True)
    name = models.CharField(max_length=300)
    kind = models.CharField(max_length=10, choices=ChangeKind)
    fields = models.JSONField(default=dict)

    class Meta:
        ordering = ["slug"]
        constraints = [
            models.UniqueConstraint(fields=["revision", "slug"], name="one_change_per_version")
        ]

    def __str__(self) -> str:
        return f"{self.slug} {self.kind} in {self.revision_id}"


class HarvestedTable(models.Model):
    """What the catalog follows of one source since its last harvest.

    `table` is the text of a table as in catalog/harvested/, with changes that wait left out.
    """

    source = models.CharField(max_length=40, primary_key=True)
    table = models.TextField()
    version = models.CharField(max_length=100, blank=True)  # what was read last, by content
    harvested_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.source


class Harvest(models.Model):
    """One reading of a source. Counts are of its entries; `waiting_count` of changes."""

    class State(models.TextChoices):
        RUNNING = "running"
        DONE = "done"
        UNCHANGED = "unchanged"  # the source gave what it gave before
        FAILED = "failed"

    source = models.CharField(max_length=40)
    state = models.CharField(max_length=10, choices=State, default=State.RUNNING)
    started_at = models.DateTimeField()
    lease_until = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)
    version = models.CharField(max_length=100, blank=True)
    entry_count = models.PositiveIntegerField(default=0)
    new_count = models.PositiveIntegerField(default=0)
    changed_count = models.PositiveIntegerField(default=0)
    gone_count = models.PositiveIntegerField(default=0)
    failed_count = models.PositiveIntegerField(default=0)
    waiting_count = models.PositiveIntegerField(default=0)
    error = models.TextField(blank=True)  # why it failed, or which entries could not be read
    revision = models.ForeignKey(CatalogRevision, null=True, on_delete=models.SET_NULL)

    class Meta:
        ordering = ["-started_at", "-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["source"], condition=models.Q(state="running"), name="one_harvest_at_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.source} {self.started_at:%Y-%m-%d %H:%M} {self.state}"


class HarvestChange(models.Model):
    """One difference that a harvest found: of a field, or of a whole entry (`field` is empty).

    `before` and `after` hold the value and the source's own word as a table's cells.
    """

    class State(models.TextChoices):
        APPLIED = "applied"
        WAITING = "waiting"  # for a curator
        ACCEPTED = "accepted"
        REJECTED = "rejected"
        OUTDATED = "outdated"  # the source says something else by now

    harvest = models.ForeignKey(Harvest, on_delete=models.CASCADE, related_name="changes")
    source = models.CharField(max_length=40)
    ref = models.CharField(max_length=200)
    slug = models.SlugField(max_length=100, blank=True)  # the dataset that it is about
    name = models.CharField(max_length=300)
    kind = models.CharField(max_length=10, choices=ChangeKind)
    field = models.CharField(max_length=40, blank=True)
    before = models.JSONField(null=True)
    after = models.JSONField(null=True)
    state = models.CharField(max_length=10, choices=State, default=State.APPLIED, db_index=True)
    decided_by = models.CharField(max_length=150, blank=True)
    decided_at = models.DateTimeField(null=True)
    reason = models.CharField(max_length=500, blank=True)

    class Meta:
        ordering = ["pk"]

    def __str__(self) -> str:
        return f"{self.source} {self.ref} {self.field or self.kind}: {self.state}"


class CorrectionQuerySet(models.QuerySet["Correction"]):
    """Reads over corrections."""

    def accepted(self) -> Self:
        """Those that the catalog follows, the first accepted first."""
        return self.filter(state=Correction.State.ACCEPTED).order_by("decided_at", "pk")

    def decide(self, pk: uuid.UUID, before: tuple[str, ...], state: str, **values: Any) -> bool:
        """One UPDATE decides the race between two curators; false when it was decided already."""
        return bool(self.filter(pk=pk, state__in=before).update(state=state, **values))


class Correction(models.Model):
    """A value that somebody proposes for one field of a dataset, with its evidence.

    It names the dataset by slug, so that it outlives the row when the catalog is loaded anew.
    """

    class State(models.TextChoices):
        OPEN = "open"
        ACCEPTED = "accepted"
        REJECTED = "rejected"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    slug = models.SlugField(max_length=100)
    field = models.CharField(max_length=40)
    value = models.JSONField(null=True)  # canonical; null is unknown
    before = models.JSONField(null=True)  # what the catalog said when it was proposed
    url = models.URLField(max_length=1000)
    quote = models.TextField(blank=True)
    reason = models.TextField(blank=True)
    proposer = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )
    origin = models.CharField(max_length=64, blank=True)  # keyed hash of a visitor's address
    created_at = models.DateTimeField(default=timezone.now)
    state = models.CharField(max_length=10, choices=State, default=State.OPEN)
    curator = models.CharField(max_length=200, blank=True)  # who decided last
    decided_at = models.DateTimeField(null=True)
    history = models.JSONField(default=list)  # [{state, by, at, reason}], oldest first

    objects = CorrectionQuerySet.as_manager()

    class Meta:
        ordering = ["created_at", "pk"]
        indexes = [
            models.Index(fields=["state", "created_at"], name="corrections_in_queue"),
            models.Index(fields=["slug"], name="corrections_of_dataset"),
        ]

    def __str__(self) -> str:
        return f"{self.slug}: {self.field}"

    def line(self) -> dict[str, Any]:
        """The line of the record file that an accepted one stands for."""
        return line_of(
            self.field,
            self.value,
            url=self.url,
            quote=self.quote,
            reason=self.reason,
            curator=self.curator,
            on=self.decided_at.date() if self.decided_at else None,
        )


class LinkHost(models.Model):
    """A host of links: whoever holds its lease asks it, nobody else meanwhile."""

    name = models.CharField(max_length=255, primary_key=True)
    lease_until = models.DateTimeField(null=True)
    quiet_until = models.DateTimeField(null=True)  # it asked for rest, or did not answer

    def __str__(self) -> str:
        return self.name


class CatalogLink(models.Model):
    """An address that some dataset has, and what its last check found."""

    class State(models.TextChoices):
        UNCHECKED = "unchecked"
        OK = "ok"
        MOVED = "moved"  # redirected for good to `final_url`, which answers
        SIGN_IN = "sign-in"  # what answers is a page to sign in on
        DENIED = "denied"  # the server refuses checks, which says nothing of the page
        FAILING = "failing"  # not yet often enough to be called broken
        BROKEN = "broken"

    url = models.CharField(max_length=1000, unique=True)
    host = models.ForeignKey(LinkHost, on_delete=models.CASCADE, related_name="links")
    state = models.CharField(max_length=10, choices=State, default=State.UNCHECKED, db_index=True)
    status = models.PositiveSmallIntegerField(null=True)
    final_url = models.CharField(max_length=2000, blank=True)  # where redirects led
    detail = models.CharField(max_length=300, blank=True)
    successor = models.CharField(max_length=1000, blank=True)  # by rule, for a closed site
    failures = models.PositiveSmallIntegerField(default=0)  # in a row
    since = models.DateTimeField(null=True)  # of the present state
    checked_at = models.DateTimeField(null=True)
    next_at = models.DateTimeField(db_index=True)

    class Meta:
        ordering = ["url"]

    def __str__(self) -> str:
        return self.url


class LinkCheck(models.Model):
    """One check of a link; the last few are kept."""

    link = models.ForeignKey(CatalogLink, on_delete=models.CASCADE, related_name="checks")
    checked_at = models.DateTimeField()
    state = models.CharField(max_length=10)
    status = models.PositiveSmallIntegerField(null=True)
    hops = models.JSONField(default=list)  # [[status, address it led to]]
    detail = models.CharField(max_length=300, blank=True)

    class Meta:
        ordering = ["-checked_at", "-pk"]

    def __str__(self) -> str:
        return f"{self.link_id} {self.checked_at:%Y-%m-%d} {self.state}"
