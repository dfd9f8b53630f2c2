"""Who may propose corrections to the catalog, how many, who sees them and who decides."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.utils.crypto import salted_hmac
from django.utils.timezone import now

from catalog import curation
from catalog.models import Correction, Dataset
from portal.access import SignInError, is_curator, user_of
from portal.visitor import address_of

DAY = timedelta(days=1)


class TooManyCorrectionsError(Exception):
    """Somebody has proposed as many corrections as are taken from one address or user a day."""


def propose(request: Any, dataset: Dataset, given: dict[str, Any]) -> tuple[Correction, bool]:
    """`given`: field, value, url, quote and reason; see `catalog.curation.propose`.

    Raises:
        CorrectionError: everything that cannot be used.
        TooManyCorrectionsError: enough for today.
    """
    user, origin = user_of(request), ""
    if user is None:  # the address itself is not kept
        origin = salted_hmac("corrections", address_of(request)).hexdigest()
    since = now() - DAY
    own = Correction.objects.filter(proposer=user, origin=origin, created_at__gt=since).count()
    most = settings.CORRECTIONS_A_DAY
    if own >= most:
        raise TooManyCorrectionsError(f"{most} corrections a day are taken from one sender")
    return curation.propose(dataset, **given, proposer=user, origin=origin)


def visible_corrections(request: Any) -> QuerySet[Correction]:
    """Accepted ones and the user's own; all for curators."""
    user = user_of(request)
    if is_curator(user):
        return Correction.objects.all()
    seen = Q(state=Correction.State.ACCEPTED)
    return Correction.objects.filter(seen | Q(proposer=user) if user else seen)


def check_curator(request: Any) -> Any:
    """The curator who asks.

    Raises:
        SignInError: nobody is signed in.
        PermissionDenied: somebody else is.
    """
    user = user_of(request)
    if user is None:
        raise SignInError("Sign in as a curator, or send a token with the scope curate")
    if not is_curator(user):
        raise PermissionDenied("Corrections are decided by curators")
    return user
