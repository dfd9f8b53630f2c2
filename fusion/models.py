"""Rows of built bundles, whose files are in the bundle storage, and of uploaded data."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from pathlib import Path

from django.conf import settings
from django.db import models

REPORT, COVER = "report/report.html", "report/cases.png"  # in every bundle's folder
BASELINE_PAGE = "baseline/baseline.html"  # where a baseline was run


class BundleQuerySet(models.QuerySet["Bundle"]):
    def kept(self) -> BundleQuerySet:
        """Bundles whose files were not removed."""
        return self.filter(removed_at=None)


class Bundle(models.Model):
    """A built and verified bundle."""

    bundle_id = models.CharField(max_length=64, primary_key=True)  # SHA-256 of the plan
    title = models.CharField(max_length=300)
    build = models.CharField(max_length=20)  # private or shareable
    recipe = models.JSONField()
    summary = models.JSONField()  # what fusion.bundle.summary makes of it
    baseline = models.JSONField(null=True)  # baseline.json
    files = (
        models.JSONField()
    )  # [{path, bytes, sha256}] in the order of SHA256SUMS, then the baseline's
    size_bytes = models.PositiveBigIntegerField()
    created_at = models.DateTimeField(auto_now_add=True)
    public = models.BooleanField(default=True)  # else seen by the owners of its runs alone
    pinned = models.BooleanField(default=False)  # no retention rule may remove it
    removed_at = models.DateTimeField(null=True, blank=True)  # its files are gone, the row stays
    removed_why = models.CharField(max_length=300, blank=True)
    read_until = models.DateTimeField(null=True, blank=True)  # a download says that it reads it

    objects = BundleQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.title} ({self.bundle_id[:12]})"

    def has(self, path: str) -> bool:
        """Whether the bundle holds a file of that path."""
        return any(file["path"] == path for file in self.files)


class UploadQuerySet(models.QuerySet["Upload"]):
    def kept(self) -> UploadQuerySet:
        """Data that may be fused."""
        return self.filter(state=Upload.State.KEPT)

    def undecided(self) -> UploadQuerySet:
        """Data that nobody has decided to keep."""
        return self.exclude(state=Upload.State.KEPT)


class Upload(models.Model):
    """Data of a person on its way to, or in, their own area. Nobody else sees it.

    What lies in the folder is in quarantine until its owner has seen what was found and keeps it.
    """

    class State(models.TextChoices):
        """Where it stands."""

        RECEIVING = "receiving"
        WAITING = "waiting", "waiting for the checks"
        CHECKING = "checking"
        CHECKED = "checked", "yours to decide"
        KEPT = "kept"
        REFUSED = "refused"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="uploads"
    )
    name = models.CharField(max_length=40)
    files = models.JSONField()  # as sent: [{path, bytes, sha256}], sha256 "" if not declared
    size_bytes = models.PositiveBigIntegerField()  # as sent, then as unpacked
    state = models.CharField(max_length=20, choices=State, default=State.RECEIVING, db_index=True)
    done = models.PositiveIntegerField(default=0)  # files that were checked, of `total`
    total = models.PositiveIntegerField(default=0)
    report = models.JSONField(null=True)  # fusion.privacy.report()
    sha256 = models.CharField(max_length=64, blank=True)  # of all paths and files
    description = models.TextField(blank=True)  # a source description as YAML, drafted, edited
    error_code = models.CharField(max_length=60, blank=True)
    error = models.TextField(blank=True)
    lease_until = models.DateTimeField(null=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    created_at = models.DateTimeField(auto_now_add=True)
    touched_at = models.DateTimeField(auto_now=True)

    objects = UploadQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(fields=["owner", "name"], name="one_upload_per_name")
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.state})"

    @property
    def folder(self) -> Path:
        """Quarantine: what was received, and what it was unpacked to."""
        return Path(settings.UPLOAD_DIR) / str(self.pk)

    @property
    def expires_at(self) -> datetime | None:
        """When it goes if nobody sends more or decides; None: kept."""
        if self.state == self.State.KEPT:
            return None
        return self.touched_at + timedelta(days=settings.KEEP_UPLOAD_DAYS)
