"""Asking a place what getting a dataset takes, for whoever may start runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fusion.acquisition import Plan, asked
from fusion.sources.credentials import kind_of
from portal.access import check_may_start, user_of
from workers.credentials import rules_for

TRIES = 2  # somebody waits for the answer


def asked_plan(request: Any, plan: Plan, patterns: Sequence[str]) -> Plan:
    """The plan with what the place states, asked with the user's own credential.

    Raises:
        SignInError: visitors may not.
        BuildError: see fusion.acquisition.asked.
    """
    check_may_start(request)
    kind = kind_of(plan.connector)
    rules = rules_for(user_of(request), [kind.name] if kind else [])
    return asked(plan, replace(rules, attempts=TRIES), patterns)
