"""Credentials of users for the places that sources come from and bundles go to.

Sealed by Fernet (AES-128-CBC with HMAC-SHA256) under the first of settings.CREDENTIAL_KEYS; any of
them opens. What is sealed names its owner and kind, so that a row put elsewhere opens nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.db import transaction

from fusion.errors import BuildError
from fusion.sources import configured_rules, connector
from fusion.sources.credentials import KINDS, Kind, kind_of
from fusion.sources.safety import FetchRules
from workers.clock import now
from workers.logs import hide
from workers.models import Credential


class CredentialError(ValueError):
    """A value that cannot be the credential; the message does not repeat it."""


def keep(owner: Any, name: str, value: str) -> Credential:
    """Keep a user's credential in place of an earlier one.

    Raises:
        CredentialError: an unknown name, or a value that it cannot have.
    """
    if name not in KINDS:
        raise CredentialError(f"found {name[:40]!r}, expected one of {', '.join(KINDS)}")
    value = value.strip()
    if problem := KINDS[name].problem(value):
        raise CredentialError(f"{name}: {problem}")
    fields = {
        "sealed": _seal(owner.pk, name, value), "tested_at": None, "accepted": None, "said": "",
    }  # fmt: skip
    return Credential.objects.update_or_create(owner=owner, name=name, defaults=fields)[0]


def overview(owner: Any) -> list[tuple[Kind, Credential | None]]:
    """Each kind of credential, and the user's own of it. One query."""
    rows = {row.name: row for row in Credential.objects.filter(owner=owner)}
    return [(kind, rows.get(name)) for name, kind in KINDS.items()]


def rules_for(owner: Any, names: Iterable[str] = tuple(KINDS)) -> FetchRules:
    """The operator's rules with a user's own credentials of these names.

    Raises:
        BuildError: access_denied, where one was sealed with a key that is no longer there.
    """
    if owner is None:
        return configured_rules()
    rows = Credential.objects.filter(owner=owner, name__in=list(names))
    return configured_rules(str(owner.pk), {row.name: _opened(row) for row in rows})


def rules_of_run(run: Any) -> FetchRules:
    """The same with those alone that the sources of the run ask for."""
    kinds = (kind_of(source["location"]["kind"]) for source in run.recipe["sources"])
    return rules_for(run.owner, [kind.name for kind in kinds if kind])


def test_access(row: Credential) -> Credential:
    """Ask the place whose the credential is, and note what it says."""
    rules = replace(rules_for(row.owner, [row.name]), attempts=1)
    try:
        row.said = connector(KINDS[row.name].connector).whoami(rules)[:300]
        row.accepted = True if row.said else None
    except BuildError as error:
        row.said, row.accepted = str(error)[:300], False if error.code == "access_denied" else None
    row.tested_at = now()
    row.save(update_fields=["said", "accepted", "tested_at"])
    return row


@transaction.atomic
def reseal() -> int:
    """Seal all credentials under the first key, so that the others may go; returns their number."""
    rows = Credential.objects.select_for_update()
    for row in rows:
        Credential.objects.filter(pk=row.pk).update(
            sealed=_seal(row.owner_id, row.name, _opened(row))
        )
    return len(rows)


def _fernet() -> MultiFernet:
    return MultiFernet([Fernet(key) for key in settings.CREDENTIAL_KEYS])


def _seal(owner: int, name: str, value: str) -> str:
    text = json.dumps({"owner": owner, "name": name, "value": value})
    return _fernet().encrypt(text.encode()).decode()


def _opened(row: Credential) -> str:
    """The value; no log line of this process shows it from now on."""
    try:
        found: Mapping[str, Any] = json.loads(_fernet().decrypt(row.sealed.encode()))
    except InvalidToken as error:
        raise BuildError(
            "access_denied", f"{row.name} was sealed with a key that is gone: give it again"
        ) from error
    if (found["owner"], found["name"]) != (row.owner_id, row.name):
        raise BuildError("access_denied", f"{row.name} was sealed for another account")
    value = str(found["value"])
    hide([value, *value.split(":", 1)[1:]])
    return value
