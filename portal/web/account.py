"""One's account: sign in and out, personal tokens."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from math import ceil
from typing import Any

from django import forms
from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from fusion.models import Bundle
from portal.access import held_by, is_curator, user_of
from portal.attempts import wait
from portal.models import ApiToken, Scope
from workers.room import taken_by

MOST_TOKENS = BUNDLES_SHOWN = 50
#: What the sign-in page offers.
WAYS_IN = {"local_sign_in": settings.LOCAL_SIGN_IN, "oidc_name": settings.OIDC_NAME}
PASSWORD_METHODS = ("post", "put") if settings.LOCAL_SIGN_IN else ()


class TokenForm(forms.Form):
    name = forms.CharField(max_length=80, label="What it is for")
    scopes = forms.MultipleChoiceField(
        choices=Scope.choices, widget=forms.CheckboxSelectMultiple, initial=[Scope.READ]
    )


def locked_out(
    request: HttpRequest, _: HttpResponse, credentials: Mapping[str, Any] | None
) -> HttpResponse:
    """The sign-in page once a name or an address was tried too often: how long it waits."""
    given = credentials or {}
    seconds, is_whole = wait(request, given.get("username") or request.POST.get("username", ""))
    context = {"minutes": ceil(seconds / 60), "is_whole": is_whole, "next": "", **WAYS_IN}
    response = render(request, "login.html", context, status=HTTPStatus.TOO_MANY_REQUESTS)
    response["Retry-After"] = str(seconds)
    return response


@login_required
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def index(request: HttpRequest) -> HttpResponse:
    """The user's tokens, and a form for a new one, whose text is shown once."""
    form = TokenForm(request.POST or None)
    tokens = ApiToken.objects.filter(owner=user_of(request))
    text, status = "", HTTPStatus.OK
    if request.method == "POST":
        status = HTTPStatus.UNPROCESSABLE_ENTITY
        if tokens.count() >= MOST_TOKENS:
            form.add_error(None, f"There are {MOST_TOKENS} tokens; revoke one first")
        if form.is_valid():
            scopes = form.cleaned_data["scopes"]
            _, text = ApiToken.objects.issue(user_of(request), form.cleaned_data["name"], scopes)
            form, status = TokenForm(), HTTPStatus.CREATED
    chosen = set(form["scopes"].value() or ())
    context = {
        "form": form,
        "token_text": text,
        "tokens": tokens.all(),
        "scopes": [(scope.value, scope.label, scope.value in chosen) for scope in Scope],
        "is_curator": is_curator(request.user),
        "room": _room(user_of(request)),
        **_bundles(user_of(request)),
    }
    return render(request, "account/index.html", context, status=status)


def _bundles(user: Any) -> dict[str, Any]:
    """The user's bundles, the largest first, and how many more there are."""
    rows = Bundle.objects.kept().filter(pk__in=held_by(user))
    rows = rows.only("title", "size_bytes", "created_at", "public")
    found = list(rows.order_by("-size_bytes", "-created_at"))
    return {"bundles": found[:BUNDLES_SHOWN], "hidden": len(found[BUNDLES_SHOWN:])}


def _room(user: Any) -> dict[str, int]:
    """What the user's bundles take and may take, and how long private ones are kept."""
    taken, coming = taken_by(user)
    return {
        "taken": taken,
        "coming": coming,
        "allowed": settings.BUNDLE_BYTES_PER_USER,
        "runs": settings.RUNS_AT_ONCE_PER_USER,
        "newest": settings.KEEP_BUNDLES,
        "days": settings.KEEP_BUNDLE_DAYS,
    }


@login_required
@require_POST
def revoke(request: HttpRequest, token_id: int) -> HttpResponse:
    """End one of the user's tokens at once."""
    get_object_or_404(ApiToken, pk=token_id, owner=user_of(request)).delete()
    return redirect("account")
