"""What can go wrong in a search. No HTTP here: the portal gives each error its status."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Fault:
    """One parameter that cannot be used; `nearest` is the valid one spelled most alike."""

    parameter: str
    found: str
    expected: str
    nearest: str | None = None

    @property
    def message(self) -> str:
        hint = f"; nearest: {self.nearest!r}" if self.nearest else ""
        return f"{self.parameter}: found {self.found!r}, expected {self.expected}{hint}"

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "message": self.message}


class QueryError(ValueError):
    """A query has a parameter or a value that does not exist: never the same as no results."""

    def __init__(self, faults: list[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(fault.message for fault in faults))

    @property
    def errors(self) -> list[dict[str, Any]]:
        """One object per fault, as an API shows it."""
        return [fault.as_dict() for fault in self.faults]


class SearchUnavailableError(Exception):
    """The search server does not answer."""
