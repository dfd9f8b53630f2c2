"""The one query object: page, API, command line and rules all ask with it. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Self

from catalog.faults import Fault, closest
from catalog.record import UNITS
from catalog.search.errors import QueryError
from catalog.search.facets import (
    FILTERS,
    FIRST_YEAR,
    LAST_YEAR,
    resolve,
    unknown_value,
)
from catalog.search.syntax import parse

SORTS = ("relevance", "name", "newest", "oldest")
MAX_LIMIT = 100
MAX_DEPTH = 10_000  # the last hit that any engine will page to
EXCLUDED = tuple(f"not_{name}" for name in FILTERS)
MOST = 10**12  # of a count
RANGES = ("year_from", "year_to", "size_from", "size_to", "unit")
PARAMETERS = ("q", *FILTERS, *EXCLUDED, *RANGES, "sort", "page", "limit")


@dataclass(frozen=True)
class Query:
    """What is asked. `filters` holds canonical values per facet; values of one facet are or-ed.

    `without` holds values that no result may have, `not_<facet>` in a query string.

    Years and sizes are inclusive; a dataset without one lies in no range. A size is a count of
    `unit`, or of any unit when none is given; a unit alone asks for any count of it. Pages count
    from 1.
    """

    text: str = ""
    filters: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    without: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    year_from: int | None = None
    year_to: int | None = None
    size_from: int | None = None
    size_to: int | None = None
    unit: str = ""
    sort: str = "relevance"
    page: int = 1
    limit: int = 20

    def __post_init__(self) -> None:
        for part in ("filters", "without"):
            given: Mapping[str, tuple[str, ...]] = getattr(self, part)
            kept = {name: tuple(given[name]) for name in FILTERS if given.get(name)}
            object.__setattr__(self, part, MappingProxyType(kept))

    def __hash__(self) -> int:
        return hash(tuple(self.to_params()))

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Self:
        """Read a query string (a QueryDict or a dict of text or lists of text).

        Raises:
            QueryError: names every unknown parameter or value with the nearest valid one.
        """
        faults: list[Fault] = []
        given = {name: _values(params, name) for name in params}
        for name in given:
            if name not in PARAMETERS:
                expected = f"one of {', '.join(PARAMETERS)}"
                faults.append(Fault(name, name, expected, closest(name, PARAMETERS)))
        filters = {name: _canonical(name, given.get(name, ()), faults) for name in FILTERS}
        without = {name: _canonical(name, given.get(f"not_{name}", ()), faults) for name in FILTERS}
        read = _Reader(given, faults)
        text = " ".join(" ".join(given.get("q", ())).split())
        try:
            parse(text)
        except QueryError as error:
            faults.extend(error.faults)
        query = cls(
            text=text,
            filters=filters,
            without=without,
            year_from=read.number("year_from", None, FIRST_YEAR, LAST_YEAR),
            year_to=read.number("year_to", None, FIRST_YEAR, LAST_YEAR),
            size_from=read.number("size_from", None, 1, MOST),
            size_to=read.number("size_to", None, 1, MOST),
            unit=read.choice("unit", "", UNITS),
            sort=read.choice("sort", "relevance", SORTS),
            page=read.number("page", 1, 1, MAX_DEPTH) or 1,
            limit=read.number("limit", 20, 1, MAX_LIMIT) or 20,
        )
        faults.extend(query.contradictions())
        if faults:
            raise QueryError(faults)
        return query

    def contradictions(self) -> list[Fault]:
        """Parameters that are valid alone and not together."""
        faults = []
        if self.year_from and self.year_to and self.year_from > self.year_to:
            expected = f"a year up to year_to ({self.year_to})"
            faults.append(Fault("year_from", str(self.year_from), expected))
        least, most = self.size_from, self.size_to
        if least is not None and most is not None and least > most:
            faults.append(Fault("size_from", str(least), f"a size up to size_to ({most})"))
        if self.page * self.limit > MAX_DEPTH:
            expected = f"page x limit up to {MAX_DEPTH}"
            faults.append(Fault("page", str(self.page), expected))
        return faults

    @property
    def offset(self) -> int:
        return (self.page - 1) * self.limit

    def to_params(self) -> list[tuple[str, str]]:
        """The query string as pairs, without defaults: `from_params` of it is this query."""
        pairs = [("q", self.text)] if self.text else []
        pairs += [(name, value) for name, values in self.filters.items() for value in values]
        pairs += [
            (f"not_{name}", value) for name, values in self.without.items() for value in values
        ]
        for item in (*RANGES, "sort", "page", "limit"):
            value = getattr(self, item)
            if value is not None and value != getattr(type(self), item):
                pairs.append((item, str(value)))
        return pairs

    def replace(self, **changes: Any) -> Self:
        """A copy with `changes`, back on its first page unless a page is given."""
        return dataclasses.replace(self, **{"page": 1, **changes})

    def toggle(self, facet: str, value: str) -> Self:
        """A copy with one option chosen, or no longer chosen."""
        chosen = self.filters.get(facet, ())
        kept = tuple(other for other in chosen if other != value)
        return self.replace(
            filters={**self.filters, facet: kept if value in chosen else (*chosen, value)}
        )


def _canonical(facet: str, texts: Iterable[str], faults: list[Fault]) -> tuple[str, ...]:
    found: dict[str, None] = {}  # a set that keeps its order
    for text in texts:
        if not text.strip():
            continue  # an empty choice of a form
        value = resolve(facet, text)
        if value is None:
            faults.append(unknown_value(facet, text))
        else:
            found[value] = None
    return tuple(found)


def _values(params: Mapping[str, Any], name: str) -> tuple[str, ...]:
    getlist: Callable[[str], list[str]] | None = getattr(params, "getlist", None)
    value = getlist(name) if getlist else params[name]
    if value is None:
        return ()
    if isinstance(value, list | tuple | set):
        return tuple(str(item) for item in value)
    return (str(value),)


@dataclass(frozen=True)
class _Reader:
    """Reads parameters that take one value; what cannot be used is added to `faults`."""

    given: Mapping[str, tuple[str, ...]]
    faults: list[Fault]

    def _text(self, name: str) -> str:
        values = [value.strip() for value in self.given.get(name, ()) if value.strip()]
        if len(set(values)) > 1:
            self.faults.append(Fault(name, ", ".join(values), "one value"))
        return values[0] if values else ""

    def number(self, name: str, default: int | None, least: int, most: int) -> int | None:
        text = self._text(name)
        if not text:
            return default
        if not (text.isdecimal() and least <= int(text) <= most):
            self.faults.append(Fault(name, text, f"a whole number from {least} to {most}"))
            return default
        return int(text)

    def choice(self, name: str, default: str, allowed: tuple[str, ...]) -> str:
        text = self._text(name).casefold()
        if text and text not in allowed:
            expected = f"one of {', '.join(allowed)}"
            self.faults.append(Fault(name, text, expected, closest(text, allowed)))
            return default
        return text or default
