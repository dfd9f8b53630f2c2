"""Accounts that come by OpenID Connect: what allauth is told, and what it is not left to decide.

Loaded only where the settings name an issuer.
"""

from __future__ import annotations

import logging
import re
from http import HTTPStatus
from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.core.exceptions import ImmediateHttpResponse
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from allauth.socialaccount.models import SocialApp, SocialLogin
from allauth.socialaccount.providers.base.constants import AuthError
from django.conf import settings
from django.contrib.auth import login
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import Group, User
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.crypto import constant_time_compare
from jwt import PyJWTError
from requests import RequestException

from portal.models import CURATORS

logger = logging.getLogger(__name__)
KIND = "openid_connect"
_ERROR_CODE = re.compile(r"[a-z_]{1,40}")


def refused(
    request: HttpRequest, reason: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST
) -> HttpResponse:
    """The page of a sign-in that came to nothing."""
    return render(request, "oidc_refused.html", {"reason": reason}, status=status)


def unreachable(request: HttpRequest, error: Exception) -> HttpResponse:
    """The same where the provider gave no answer, or none that can be read; the log says why."""
    logger.warning("sign-in by %s: no usable answer", settings.OIDC_NAME, exc_info=error)
    reason = f"{settings.OIDC_NAME} gave no usable answer. Try again later."
    return refused(request, reason, HTTPStatus.BAD_GATEWAY)


class OidcBackend(ModelBackend):
    """Behind sessions that the provider vouched for; it knows no passwords."""

    def authenticate(self, *_: Any, **__: Any) -> None:
        return None


class Accounts(DefaultAccountAdapter):  # type: ignore[misc]
    """Sessions say that they came by the provider."""

    def login(self, request: HttpRequest, user: User) -> None:
        login(request, user, backend=f"{__name__}.{OidcBackend.__name__}")

    def add_message(self, *_: Any, **__: Any) -> None:
        """No page shows what allauth would say."""


class Provider(DefaultSocialAccountAdapter):  # type: ignore[misc]
    """The one provider of the settings; rows of the database count for nothing."""

    def list_apps(
        self, request: Any, provider: str | None = None, client_id: str | None = None
    ) -> list[SocialApp]:
        del request
        app = SocialApp(
            provider=KIND,
            # Accounts are kept under it: a `sub` means nothing without its issuer.
            provider_id=settings.OIDC_ISSUER,
            name=settings.OIDC_NAME,
            client_id=settings.OIDC_CLIENT_ID,
            secret=settings.OIDC_CLIENT_SECRET,
            settings={
                "server_url": settings.OIDC_ISSUER.rstrip("/"),
                "oauth_pkce_enabled": True,
                # ID tokens of another issuer do not count, whatever its own description says.
                "openid_configuration_overrides": {"issuer": settings.OIDC_ISSUER},
            },
        )
        meant = provider in {None, app.provider, app.provider_id}
        return [app] if meant and client_id in {None, app.client_id} else []

    def on_authentication_error(
        self,
        request: HttpRequest,
        provider: Any,
        error: Any = None,
        exception: Exception | None = None,
        extra_context: dict[str, Any] | None = None,
    ) -> None:
        del provider
        known = (extra_context or {}).get("state") is not None
        raise ImmediateHttpResponse(_explained(request, error, exception, known=known))

    def pre_social_login(self, request: HttpRequest, sociallogin: SocialLogin) -> None:
        # Nobody is found by a mail address, and none is kept beside the account's own.
        sociallogin.email_addresses = []
        told = sociallogin.account.extra_data
        inner, outer = told.get("id_token"), told.get("userinfo")
        wrong = ""
        if not inner:
            wrong = "holds no ID token"
        elif not _is_answer_to(sociallogin.state, inner):
            wrong = "belongs to another sign-in"
        elif outer and inner.get("sub") != outer.get("sub"):
            wrong = "speaks of two people"
        if wrong:
            raise ImmediateHttpResponse(
                refused(request, f"The answer of {settings.OIDC_NAME} {wrong}.")
            )
        if not sociallogin.is_existing:
            return
        user = sociallogin.user
        if not user.is_active:
            reason = "Your account on this portal is switched off."
            raise ImmediateHttpResponse(refused(request, reason, HTTPStatus.FORBIDDEN))
        with transaction.atomic():
            claims = _taken(sociallogin)
            sociallogin.account.save(update_fields=["extra_data"])
            address = _verified_address(claims)
            if address and address != user.email:
                user.email = address
                user.save(update_fields=["email"])
            _give_role(user, claims)

    @transaction.atomic
    def save_user(self, request: HttpRequest, sociallogin: SocialLogin, form: Any = None) -> User:
        claims = _taken(sociallogin)
        user: User = sociallogin.user
        names = [claims.get("preferred_username"), claims.get("email"), "user"]
        user.username = Accounts(request).generate_unique_username(names)
        user.email = ""  # of what stands here, allauth makes rows of its own
        super().save_user(request, sociallogin, form)
        user.email = _verified_address(claims)
        user.save(update_fields=["email"])
        _give_role(user, claims)
        return user


def _explained(
    request: HttpRequest, error: Any, exception: Exception | None, *, known: bool
) -> HttpResponse:
    """Which page says why; what a stranger may have written is not shown."""
    name = settings.OIDC_NAME
    if isinstance(exception, RequestException):
        return unreachable(request, exception)
    if not known:
        reason = (
            "This sign-in was not begun in this browser, it was used already, or it was begun"
            " more than ten minutes ago."
        )
        return refused(request, reason)
    if exception is None:
        code = request.GET.get("error", "")
        if not code:
            return refused(request, f"The answer of {name} holds no code.")
        why = "you, or it, did not agree" if error == AuthError.CANCELLED else "it says"
        shown = code if _ERROR_CODE.fullmatch(code) else "an error"
        reason = f"{name} did not let you in: {why} ({shown})."
        return refused(request, reason, HTTPStatus.FORBIDDEN)
    logger.warning("sign-in by %s: %s", name, exception)
    if isinstance(exception.__cause__, PyJWTError):
        return refused(request, f"The ID token of {name} is not valid: {exception.__cause__}.")
    return refused(request, f"{name} gave no token for this sign-in.", HTTPStatus.FORBIDDEN)


def _is_answer_to(state: dict[str, Any], id_token: dict[str, Any]) -> bool:
    """Whether the ID token says the nonce that this sign-in was begun with."""
    asked, told = state.get("nonce"), id_token.get("nonce")
    return bool(asked) and constant_time_compare(str(asked), str(told))


def _taken(sociallogin: SocialLogin) -> dict[str, Any]:
    """The claims of ID token and userinfo as one; the account keeps none of them."""
    told = sociallogin.account.extra_data
    sociallogin.account.extra_data = {}
    return {**told["id_token"], **(told.get("userinfo") or {})}


def _verified_address(claims: dict[str, Any]) -> str:
    """The mail address, if the provider has verified it."""
    found, verified = claims.get("email"), claims.get("email_verified")
    return str(found) if found and verified in (True, "true") else ""


def _give_role(user: User, claims: dict[str, Any]) -> None:
    """A curator for as long as the provider says so."""
    if not settings.OIDC_CURATOR_GROUP:
        return
    told = claims.get(settings.OIDC_GROUPS_CLAIM)
    groups = told if isinstance(told, list) else [told]
    curators, _ = Group.objects.get_or_create(name=CURATORS)
    if settings.OIDC_CURATOR_GROUP in groups:
        user.groups.add(curators)
    else:
        user.groups.remove(curators)
