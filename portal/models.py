"""Personal tokens of the API, saved searches, and the keys of requests that are repeated."""

from __future__ import annotations

import hashlib
import secrets
from typing import Any

from django.conf import settings
from django.db import models
from django.utils import timezone

PREFIX = "ixp_"
CURATORS = "curators"  # the group


class Scope(models.TextChoices):
    """What a token may be used for."""

    READ = "read", "read what its owner may see"
    RUN = "run", "start and steer runs, publish bundles, upload data"
    CURATE = "curate", "what curators do"


class TokenQuerySet(models.QuerySet["ApiToken"]):
    def issue(self, owner: Any, name: str, scopes: list[str]) -> tuple[ApiToken, str]:
        """A new token, and its text, which is stored nowhere."""
        text = PREFIX + secrets.token_urlsafe(32)
        row = self.create(owner=owner, name=name, scopes=scopes, digest=digest(text), hint=text[:8])
        return row, text

    def of(self, text: str) -> ApiToken | None:
        """The token with that text, unless it or its owner is no longer valid."""
        rows = self.select_related("owner").filter(owner__is_active=True)
        return rows.filter(digest=digest(text)).first()


class ApiToken(models.Model):
    """A password for programs: of the text, only its SHA-256 is kept."""

    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="api_tokens"
    )
    name = models.CharField(max_length=80)
    digest = models.CharField(max_length=64, unique=True)
    hint = models.CharField(max_length=12)  # how its text begins
    scopes = models.JSONField()
    created_at = models.DateTimeField(default=timezone.now)
    used_on = models.DateField(null=True)

    objects = TokenQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.name} ({self.hint}…)"

    def note_use(self) -> None:
        """Remember the day; one write a day."""
        today = timezone.now().date()
        if self.used_on != today:
            ApiToken.objects.filter(pk=self.pk).update(used_on=today)


class SavedSearch(models.Model):
    """A search that a person keeps."""

    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="saved_searches"
    )
    name = models.CharField(max_length=80)
    query = models.CharField(max_length=2000, blank=True)  # of its address, without order or pages
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-created_at", "-pk"]
        constraints = [
            models.UniqueConstraint(fields=["owner", "query"], name="one_search_per_query")
        ]

    def __str__(self) -> str:
        return self.name


class RepeatableRequest(models.Model):
    """A run that was started under an Idempotency-Key."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.CASCADE)
    key = models.CharField(max_length=200)
    body = models.CharField(max_length=64)  # SHA-256 of what was asked
    run = models.ForeignKey("workers.Run", on_delete=models.CASCADE, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["owner", "key"], nulls_distinct=False, name="one_request_per_key"
            )
        ]

    def __str__(self) -> str:
        return self.key


def digest(text: str) -> str:
    """SHA-256; a token is random enough to need no salt."""
    return hashlib.sha256(text.encode()).hexdigest()
