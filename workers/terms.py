"""Terms that a user accepts, on record, before a build fetches files under them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from catalog.services import facts_of
from fusion.acquisition import Plan, plan_of
from fusion.errors import Problem, RecipeError
from workers.models import AcceptedTerms

#: Kinds of locations whose files are here already: whoever put them here accepted the terms there.
HERE = frozenset({"local", "manual"})


class TermsError(RecipeError):
    """Sources have terms that the user has not accepted; `datasets` names them."""

    def __init__(self, datasets: Mapping[str, Plan], *, signed_in: bool) -> None:
        self.datasets = tuple(datasets)
        todo = "accept them on the dataset's page, or by API"
        todo = todo if signed_in else f"sign in, then {todo}"
        super().__init__(
            [
                Problem(
                    path=slug,
                    found="terms that are not accepted",
                    expected=todo,
                    message=f"{slug}: {', '.join(plan.accept)}: {todo}",
                )
                for slug, plan in datasets.items()
            ]
        )


class TermsChangedError(RuntimeError):
    """Other terms were shown than the ones that hold now."""


def check_terms(sources: Iterable[Mapping[str, Any]], owner: Any) -> None:
    """Refuse a run that would fetch files whose terms its owner has not accepted.

    Raises:
        TermsError: it would.
    """
    slugs = {one["dataset"] for one in sources if one["location"]["kind"] not in HERE}
    plans = {slug: plan_of(facts) for slug, facts in sorted(facts_of(slugs).items())}
    asked = {slug: plan for slug, plan in plans.items() if plan.accept}
    if not asked:
        return
    known = set(
        AcceptedTerms.objects.filter(owner=owner, dataset__in=asked).values_list(
            "digest", flat=True
        )
        if owner
        else ()
    )
    missing = {slug: plan for slug, plan in asked.items() if plan.accept_digest not in known}
    if missing:
        raise TermsError(missing, signed_in=owner is not None)


def accepted(plan: Plan, slug: str, owner: Any) -> AcceptedTerms | None:
    """The record of these terms' acceptance by a user, if there is one."""
    if owner is None or not plan.accept:
        return None
    rows = AcceptedTerms.objects.filter(owner=owner, dataset=slug, digest=plan.accept_digest)
    return rows.first()


def accept(plan: Plan, slug: str, owner: Any, digest: str) -> AcceptedTerms:
    """Note that a user accepts the terms of a dataset that were shown under `digest`.

    Raises:
        TermsChangedError: they are other ones now, or there are none.
    """
    if not plan.accept or digest != plan.accept_digest:
        now = f"expected {plan.accept_digest[:12]}" if plan.accept else "there are none to accept"
        raise TermsChangedError(f"{slug}: found terms {digest[:12]}, {now}")
    return AcceptedTerms.objects.get_or_create(
        owner=owner,
        dataset=slug,
        digest=plan.accept_digest,
        defaults={"terms": list(plan.accept)},
    )[0]
