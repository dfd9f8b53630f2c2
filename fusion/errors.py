"""Errors of recipes and builds. They know nothing of HTTP."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass

from catalog.faults import closest


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in a recipe: where, what was found, what is expected."""

    path: str
    found: str
    expected: str
    message: str


class RecipeError(ValueError):
    """A recipe that cannot be run; `errors` lists every problem, not only the first."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem.message) for problem in problems))

    @property
    def errors(self) -> list[dict[str, str]]:
        """The problems as plain data, for the API and the pages."""
        return [asdict(problem) for problem in self.problems]


class BuildError(RuntimeError):
    """A build that cannot go on; `code` is one of fusion.codes."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class CancelledError(Exception):
    """The user asked for the run to stop."""


def nearest(word: str, valid: Collection[str]) -> str:
    """The valid value that looks most like `word`, as a hint; empty when none does."""
    hit = closest(word, sorted(valid), 60)
    return f"; did you mean {hit!r}?" if hit else ""
