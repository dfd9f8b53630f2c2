"""Show a bundle to everybody, or to its makers alone again; remove one's own."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.utils.timezone import now

from fusion.models import Bundle
from workers.models import Deposit, Run
from workers.submit import key_of
from workers.tidy import holders, remove_bundle

logger = logging.getLogger(__name__)
WHY_OWNER, WHY_STAFF = "removed by its owner", "removed by the staff of this portal"
WHY_LENGTH = 250
UNDER_WAY = (Deposit.State.QUEUED, Deposit.State.RUNNING)


class PublishError(Exception):
    """A bundle that may not be published."""


class RemovalError(Exception):
    """A bundle that may not be removed, or not now."""


@dataclass(frozen=True)
class Removal:
    """What comes of it when a user removes a bundle."""

    is_own: bool  # the user's own claim on it; else that of everybody, by staff
    stays: bool  # the files, which others hold; users are not told of each other
    refused: str  # why it cannot be now; "" when it can
    needs_note: bool  # others were told of it: they read why it went
    copies: tuple[str, ...]  # where it was sent, and stays


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


def removal_of(bundle: Bundle, user: Any) -> Removal:
    """What removing a bundle would be for a user who may; nothing is changed."""
    is_own = Run.objects.filter(bundle=bundle, owner=user, given_up_at=None).exists()
    others = holders(bundle).exclude(owner=user)
    stays = is_own and (bundle.pinned or others.exists())
    deposits = Deposit.objects.filter(bundle=bundle)
    if is_own:
        deposits = deposits.filter(owner=user)
    sent = deposits.filter(state=Deposit.State.SUCCEEDED)
    return Removal(
        is_own,
        stays,
        _making(bundle, user) or ("" if stays else _in_use(bundle)),
        needs_note=bundle.public or not is_own or sent.exists(),
        copies=tuple(one.url or f"{one.place}: {one.target}" for one in sent),
    )


def discard_bundle(bundle: Bundle, user: Any, note: str = "") -> bool:
    """Give up a user's own claim on a bundle, or by staff without one that of everybody.

    The files go with the last claim: those of other users, of visitors' runs, of runs that are
    making it again, and an operator's pin keep them.

    Returns:
        whether the files went.

    Raises:
        RemovalError: not now, or not without a note for those who were told of it.
    """
    note = " ".join(note.split())
    with transaction.atomic():
        bundle = Bundle.objects.select_for_update().get(pk=bundle.pk)  # one after the other
        found = removal_of(bundle, user)
        refused = found.refused
        least = 1 if found.needs_note else 0
        if not refused and not least <= len(note) <= WHY_LENGTH:
            expected = f"expected {least} to {WHY_LENGTH} that say why it goes"
            refused = f"found a note of {len(note)} characters, {expected}"
        if refused:
            raise RemovalError(f"bundle {bundle.pk[:12]}: {refused}")
        Run.objects.filter(bundle=bundle, owner=user).update(given_up_at=now())
    if not found.stays:
        why = WHY_OWNER if found.is_own else WHY_STAFF
        remove_bundle(bundle, f"{why}: {note}" if note else why)
    files = (
        "others hold it, its files stay" if found.stays else f"{bundle.size_bytes} bytes removed"
    )
    logger.info("bundle %s: given up by user %s: %s: %s", bundle.pk, user.pk, files, note or "-")
    return not found.stays


def _making(bundle: Bundle, user: Any) -> str:
    """A run of the user that will bring the bundle back."""
    runs = Run.objects.unfinished().filter(owner=user).order_by("created_at")
    run = runs.filter(idempotency_key__startswith=key_of(bundle.recipe)).first()
    return f"run {run.pk} is making it again; wait for its end, or cancel it" if run else ""


def _in_use(bundle: Bundle) -> str:
    """Why its files have to stay just now."""
    if one := Deposit.objects.filter(bundle=bundle, state__in=UNDER_WAY).first():
        return f"it is being sent to {one.place}; wait for the end of that"
    if bundle.read_until and bundle.read_until > now():
        return "it is being downloaded; try again in a minute"
    if bundle.pinned:
        return "an operator has pinned it; manage.py keep_bundle unpin lets it go"
    return ""
