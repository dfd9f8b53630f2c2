"""Rows of built bundles; the files are in the bundle storage, below `bundle_id`."""

from __future__ import annotations

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
    summary = models.JSONField()  # fusion.build.summarise(): sources, cases, splits, exclusions
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

    objects = BundleQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.title} ({self.bundle_id[:12]})"

    def has(self, path: str) -> bool:
        """Whether the bundle holds a file of that path."""
        return any(file["path"] == path for file in self.files)
