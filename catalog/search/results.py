"""What a search returns: the same frozen objects from both engines."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from catalog.search.interpret import Understood


@dataclass(frozen=True, slots=True)
class Option:
    """One value of a facet with the number of datasets that choosing it would show."""

    label: str
    value: str
    count: int
    selected: bool = False


@dataclass(frozen=True)
class Facet:
    """One way to narrow the results; `title` and `label` are for people."""

    name: str
    title: str
    options: tuple[Option, ...]

    def as_dict(self) -> dict[str, Any]:
        options = [
            {"label": one.label, "value": one.value, "count": one.count, "selected": one.selected}
            for one in self.options
        ]
        return {"name": self.name, "title": self.title, "options": options}


@dataclass(frozen=True)
class Hit:
    """A dataset that satisfies everything that was asked; `why` names what was recognised."""

    slug: str
    name: str
    aliases: tuple[str, ...]
    score: float
    why: tuple[str, ...] = ()
    family: str = ""  # datasets of one family may be shown as one


@dataclass(frozen=True)
class NearHit(Hit):
    """A dataset that lacks something; `differs` says what."""

    differs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Results:
    """`hits` (one page of `total`) are strict matches, `near` are not and are never among them."""

    understood: tuple[Understood, ...]
    hits: tuple[Hit, ...]
    near: tuple[NearHit, ...]
    total: int
    facets: tuple[Facet, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON, as command line and API give it."""
        return {
            "understood": [item.as_dict() for item in self.understood],
            "results": [asdict(hit) for hit in self.hits],
            "near": [asdict(hit) for hit in self.near],
            "total": self.total,
            "facets": [facet.as_dict() for facet in self.facets],
        }
