"""What is wrong with something that a user gave: place, value found, expected, nearest. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from rapidfuzz import fuzz, process

NEAR_ENOUGH = 50.0  # rapidfuzz ratio, 0-100


@dataclass(frozen=True)
class Fault:
    """One thing that cannot be used; `nearest` is the valid one spelled most alike."""

    path: str
    found: str
    expected: str
    nearest: str | None = None

    @property
    def message(self) -> str:
        hint = f"; nearest: {self.nearest!r}" if self.nearest else ""
        return f"{self.path}: found {self.found!r}, expected {self.expected}{hint}"

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "message": self.message}


class FaultsError(ValueError):
    """Everything that is wrong at once."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(fault.message for fault in self.faults))

    @property
    def errors(self) -> list[dict[str, Any]]:
        """One object per fault, as an API shows it."""
        return [fault.as_dict() for fault in self.faults]


def closest(text: str, words: Iterable[str], enough: float = NEAR_ENOUGH) -> str | None:
    """The word spelled most like `text`; None when none is `enough` alike (0-100)."""
    hit = process.extractOne(text, list(words), scorer=fuzz.ratio, score_cutoff=enough)
    return hit[0] if hit else None
