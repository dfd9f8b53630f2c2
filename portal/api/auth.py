"""Who asks the API: a token (`Authorization: Bearer ...`) or the session of the pages."""

from __future__ import annotations

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed, PermissionDenied
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from portal.models import ApiToken, Scope


class TokenAuthentication(BaseAuthentication):
    """A token that is sent must be valid, even where none is needed."""

    def authenticate(self, request: Request) -> tuple[Any, ApiToken] | None:
        scheme, _, text = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        token = ApiToken.objects.of(text.strip())
        if token is None:
            raise AuthenticationFailed("The token is not known: it was revoked, or mistyped")
        token.note_use()
        return token.owner, token

    def authenticate_header(self, request: Request) -> str:  # noqa: ARG002
        return 'Bearer realm="api"'


class HasScope(BasePermission):
    """What a token may do; a session may do all that its user may.

    A view's `scope` is what its unsafe methods ask for; the safe ones ask for `read`.
    """

    def has_permission(self, request: Request, view: Any) -> bool:
        if isinstance(request.auth, ApiToken):
            is_read = request.method in SAFE_METHODS
            check_scope(request, Scope.READ if is_read else getattr(view, "scope", Scope.RUN))
        return True


def check_scope(request: Request, scope: Scope) -> None:
    """Raises PermissionDenied for a token without it."""
    if isinstance(request.auth, ApiToken) and scope not in request.auth.scopes:
        has = ", ".join(request.auth.scopes) or "none"
        raise PermissionDenied(f"The token has the scopes {has}; this needs {scope.value}")


class TokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """How the schema describes it."""

    target_class = TokenAuthentication
    name = "token"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:  # noqa: ARG002
        return {"type": "http", "scheme": "bearer", "description": "A personal token"}
