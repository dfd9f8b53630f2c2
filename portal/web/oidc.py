"""Signing in by OpenID Connect: out to the provider, and back."""

from __future__ import annotations

import secrets

from allauth.socialaccount.adapter import get_adapter
from allauth.socialaccount.providers.base.constants import AuthProcess
from allauth.socialaccount.providers.openid_connect import views
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import IntegrityError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST
from requests import RequestException

from portal.oidc import refused, unreachable

# What allauth lets through of a provider that is away, or answers with something else.
NO_ANSWER = (RequestException, KeyError, TypeError, ValueError, AttributeError)


@never_cache
@require_POST
def begin(request: HttpRequest) -> HttpResponse:
    """A page that leads on to the provider at once.

    A redirect would not do: browsers hold all redirects of a form against form-action, and the
    provider may send on to others.
    """
    provider = get_adapter().get_provider(request, settings.OIDC_ISSUER)
    onward = request.POST.get("next", "")
    ours = url_has_allowed_host_and_scheme(
        onward, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    nonce = secrets.token_urlsafe()  # kept with the state; the ID token must say the same
    try:
        answer = provider.redirect(
            request,
            AuthProcess.LOGIN,
            next_url=onward if ours else None,
            auth_params={**provider.get_auth_params(), "nonce": nonce},
            nonce=nonce,
        )
    except NO_ANSWER as error:
        return unreachable(request, error)
    if not isinstance(answer, HttpResponseRedirect):
        return answer  # type: ignore[no-any-return]
    context = {"address": answer.url, "oidc_name": settings.OIDC_NAME}
    return render(request, "oidc_onward.html", context)


@never_cache
@require_GET
def callback(request: HttpRequest, provider_id: str) -> HttpResponse:
    """Where the provider sends people back to."""
    try:
        return views.callback(request, provider_id)  # type: ignore[no-any-return]
    except IntegrityError:
        return refused(request, "Two sign-ins made your account at once. Sign in again.")
    except (*NO_ANSWER, ImproperlyConfigured) as error:
        return unreachable(request, error)
