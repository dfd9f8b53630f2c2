"""Who sees and steers which run and bundle, and who may look behind the scenes."""

from __future__ import annotations

import hmac
from typing import Any

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.db.models import Max, Q, QuerySet
from django.http import HttpRequest
from django.shortcuts import get_object_or_404

from fusion.models import Bundle, Upload
from portal.models import CURATORS
from portal.visitor import is_direct, is_in
from workers.models import Run, RunNotice

OWN_WISH = "you removed it"


class SignInError(PermissionDenied):
    """Nobody is signed in, and somebody has to be."""


def user_of(request: Any) -> Any:
    """The user who is signed in or whose token was sent, or None."""
    user = getattr(request, "user", None)
    return user if user is not None and user.is_authenticated else None


def visible_runs(request: Any) -> QuerySet[Run]:
    """Public runs and the user's own; all for staff."""
    user = user_of(request)
    if user is None:
        return Run.objects.filter(public=True)
    if user.is_staff:
        return Run.objects.all()
    return Run.objects.filter(Q(public=True) | Q(owner=user))


def visible_bundles(request: Any) -> QuerySet[Bundle]:
    """Public bundles and those that runs of the user made; all for staff."""
    user = user_of(request)
    if user is None:
        return Bundle.objects.filter(public=True)
    if user.is_staff:
        return Bundle.objects.all()
    return Bundle.objects.filter(Q(public=True) | Q(pk__in=_made_by(user)))


def kept_bundles(request: Any) -> QuerySet[Bundle]:
    """Those of them whose files were not removed and that the user has not given up."""
    found, user = visible_bundles(request).filter(removed_at=None), user_of(request)
    if user is None or user.is_staff:
        return found
    return found.filter(Q(public=True) | Q(pk__in=held_by(user)))


def see_bundle(request: Any, bundle_id: str) -> Bundle:
    """A bundle that one may see; to a user who has given it up it is a removed one.

    One query, and for a private bundle of a user one or two more.

    Raises:
        Http404: there is none, or not for this user.
    """
    bundle = get_object_or_404(visible_bundles(request), pk=bundle_id)
    user = user_of(request)
    if bundle.removed_at or bundle.public or user is None or user.is_staff:
        return bundle
    mine = Run.objects.filter(owner=user, bundle=bundle)
    if not mine.filter(given_up_at=None).exists():
        bundle.removed_at = mine.aggregate(last=Max("given_up_at"))["last"]
        bundle.removed_why = OWN_WISH
    return bundle


def own_uploads(request: Any) -> QuerySet[Upload]:
    """What a user has uploaded; it is shown to nobody else.

    Raises:
        SignInError: nobody is signed in.
    """
    user = user_of(request)
    if user is None:
        raise SignInError("Sign in, or send a token: data that is uploaded belongs to somebody")
    return Upload.objects.filter(owner=user)


def is_curator(user: Any) -> bool:
    """Staff and members of the group of curators."""
    return user is not None and (user.is_staff or user.groups.filter(name=CURATORS).exists())


def check_may_start(request: Any) -> None:
    """Visitors start and steer runs where no sign-in is asked for.

    Raises:
        SignInError: it is.
    """
    if settings.REQUIRE_SIGN_IN and user_of(request) is None:
        raise SignInError("Sign in, or send a token with the scope run")


def check_may_steer(request: Any, run: Run) -> None:
    """A run with an owner is steered by that owner or by staff; one without, by everybody.

    Raises:
        SignInError: a visitor may not.
        PermissionDenied: by nobody else.
    """
    check_may_start(request)
    user = user_of(request)
    if run.owner_id is None or (user and (user.is_staff or user.pk == run.owner_id)):
        return
    raise PermissionDenied(f"run {run.pk}: it belongs to another user")


def may_steer(request: Any, run: Run) -> bool:
    """The same as an answer, for pages that offer it."""
    try:
        check_may_steer(request, run)
    except PermissionDenied:
        return False
    return True


def own_notices(request: Any, run: Run) -> QuerySet[RunNotice]:
    """The notices of a run's end that the user asked for.

    Raises:
        SignInError: nobody is signed in.
    """
    user = user_of(request)
    if user is None:
        raise SignInError("Sign in, or send a token, to be told of the end of a run")
    return RunNotice.objects.filter(run=run, owner=user)


def may_publish(request: Any, bundle: Bundle, *, curators: bool = False) -> bool:
    """Holders of a bundle and staff publish, send and remove it; `curators`: withdraw it."""
    user = user_of(request)
    if user is None:
        return False
    return user.is_staff or (curators and is_curator(user)) or bundle.pk in set(held_by(user))


def check_may_publish(request: Any, bundle: Bundle, *, curators: bool = False) -> None:
    """The same for actions.

    Raises:
        SignInError: nobody is signed in.
        PermissionDenied: it is somebody else's.
    """
    if user_of(request) is None:
        raise SignInError("Sign in, or send a token")
    if not may_publish(request, bundle, curators=curators):
        raise PermissionDenied(f"bundle {bundle.pk[:12]}: it belongs to another user")


def held_by(user: Any) -> QuerySet[Run, str]:
    """Ids of the bundles that runs of a user made and that the user has not given up."""
    return _made_by(user).filter(given_up_at=None)


def _made_by(user: Any) -> QuerySet[Run, str]:
    rows = Run.objects.filter(owner=user).exclude(bundle=None).order_by()
    return rows.values_list("bundle_id", flat=True)


def is_operator(request: HttpRequest) -> bool:
    """Staff, who has the token, or a direct caller from one of the allowed networks.

    A request that a proxy forwards, whether it says so or not, needs the token.
    """
    user = user_of(request)
    if user is not None and user.is_staff:
        return True
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    token = settings.METRICS_TOKEN
    if token and scheme.lower() == "bearer":
        return hmac.compare_digest(given.strip().encode(), token.encode())
    peer = request.META.get("REMOTE_ADDR", "")
    return is_direct(request) and is_in(peer, settings.METRICS_NETWORKS)
