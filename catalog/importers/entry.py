"""One dataset as one source lists it: what every parser yields and the merge takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from catalog.claims import Claim
from catalog.record import Count, Link


@dataclass(frozen=True)
class Entry:
    """A source's view of one dataset.

    `ref` is the source's own id, stable over its versions. `facts` holds at most one claim a field
    of `catalog.record.CLAIMED`, its value canonical, its `raw` the source's own word.
    """

    source: str
    ref: str
    name: str
    aliases: tuple[str, ...] = ()
    links: tuple[Link, ...] = ()
    facts: Mapping[str, Claim[Any]] = field(default_factory=dict)
    counts: tuple[Count, ...] = ()


class ImportSourceError(ValueError):
    """A file of a source is missing or not as expected; says which, and what was found."""
