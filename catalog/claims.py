"""Claims: what sources say of one field, and which of them is followed. Pure; no Django.

`sources.yaml` ranks the sources. The claim of lowest rank sets the value; a curator's claim may set
it to unknown. Values are never mixed or averaged; claims that disagree stay, and are a conflict.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict

FILE = Path(__file__).resolve().parent / "sources.yaml"
CURATION = "curation"
# Where a wrong value allows what is forbidden: equals that disagree leave the field unknown.
MUST_AGREE = frozenset({"licence", "licence_labels", "access"})

T = TypeVar("T")
Basis = Literal["read", "known", "list", "file"]


class Strict(BaseModel):
    """A frozen model that takes no unknown key."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


class Claim(Strict, Generic[T]):
    """What one source says of one field; a null value says "not known" or "does not apply".

    `raw` holds the source's own word or number. For curation, `basis` is how the curator knows:
    a page was `read` (at `url`), it is `known` from the publication and was not read again, it
    follows a `list`, or a `file` of the dataset was opened; `reason` says why, and `curator` who
    accepted it where it was proposed on the portal.
    """

    value: T | None = None
    source: str
    raw: str | None = None
    basis: Basis | None = None
    url: str | None = None
    date: dt.date | None = None
    reason: str | None = None
    curator: str | None = None


@dataclass(frozen=True)
class Source:
    """A source of metadata.

    `never` names the fields in which it is not followed, `ranks` those in which its rank differs.
    Entries of a source `of_others` are no datasets: they belong to those that have their address.
    """

    id: str
    title: str
    url: str | None
    version: str | None
    retrieved: dt.date
    licence: str | None
    rank: int
    never: tuple[str, ...] = ()
    ranks: Mapping[str, int] = field(default_factory=dict)
    of_others: bool = False


@cache
def sources() -> Mapping[str, Source]:
    """Every source by id, in order of rank."""
    rows: list[dict[str, Any]] = yaml.safe_load(FILE.read_text("utf-8"))
    found = [Source(**{**row, "never": tuple(row.get("never", ()))}) for row in rows]
    return MappingProxyType({row.id: row for row in sorted(found, key=lambda row: row.rank)})


def rank(source: str, of: str) -> int | None:
    """Lower is followed first; None for a source that is not followed in the field `of`."""
    row = sources()[source]
    return None if of in row.never else row.ranks.get(of, row.rank)


def ordered(claims: Sequence[Claim[Any]], field: str) -> list[Claim[Any]]:
    """Claims in the order in which they are followed; those never followed come last."""
    last = 1_000_000

    def key(claim: Claim[Any]) -> int:
        place = rank(claim.source, field)
        return last if place is None else place

    return sorted(claims, key=key)


def chosen(claims: Sequence[Claim[Any]], field: str) -> Claim[Any] | None:
    """The claim that sets the field; None when none does and the value is unknown."""
    ranked = [claim for claim in ordered(claims, field) if rank(claim.source, field) is not None]
    if ranked and ranked[0].source == CURATION:
        return ranked[0]
    stated = [claim for claim in ranked if claim.value is not None]
    if not stated:
        return None
    equals = [c for c in stated if rank(c.source, field) == rank(stated[0].source, field)]
    if field in MUST_AGREE and any(claim.value != stated[0].value for claim in equals):
        return None
    return stated[0]


def conflicting(claims: Sequence[Claim[Any]]) -> bool:
    """Whether two claims exclude each other; of two lists, one may say more than the other."""
    values = [claim.value for claim in claims if claim.value is not None]
    return any(
        _differ(first, second) for i, first in enumerate(values) for second in values[i + 1 :]
    )


def _differ(first: Any, second: Any) -> bool:
    if isinstance(first, list) and isinstance(second, list):
        one, other = set(map(str, first)), set(map(str, second))
        return not (one <= other or other <= one)
    return bool(first != second)


def line_of(
    field: str,
    value: Any,
    *,
    url: str = "",
    quote: str = "",
    reason: str = "",
    curator: str = "",
    on: dt.date | None = None,
) -> dict[str, Any]:
    """The line of a record file that states `value` for curation, with its evidence."""
    if field == "links":
        return {**value, "source": CURATION}
    evidence = {"source": CURATION, "basis": "read", "raw": quote, "url": url, "reason": reason}
    evidence |= {"curator": curator}
    line = {key: text for key, text in evidence.items() if text}
    if field == "counts":
        return {**value, **line}
    return {"value": value, **line, **({"date": on.isoformat()} if on else {})}
