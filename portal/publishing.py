"""Show a bundle to everybody, or to its makers alone again."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from fusion.models import Bundle
from workers.models import Run


class PublishError(Exception):
    """A bundle that may not be published."""


@transaction.atomic
def publish_bundle(bundle: Bundle, user: Any) -> None:
    """Show a bundle, and the runs of `user` that made it, to everybody.

    Raises:
        PublishError: a source of it does not allow that.
    """
    if bundle.build != "shareable":
        found = f"bundle {bundle.pk[:12]}: found a {bundle.build} build, expected a shareable one"
        raise PublishError(f"{found}; its recipe may be passed on")
    Bundle.objects.filter(pk=bundle.pk).update(public=True)
    Run.objects.filter(bundle=bundle, owner=user).update(public=True)


@transaction.atomic
def withdraw_bundle(bundle: Bundle) -> None:
    """Show a bundle to nobody but the owners of its runs, and those runs likewise."""
    Bundle.objects.filter(pk=bundle.pk).update(public=False)
    Run.objects.filter(bundle=bundle).exclude(owner=None).update(public=False)
