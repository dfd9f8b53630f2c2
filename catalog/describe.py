"""A dataset in one or two sentences of our own, made from its facts alone. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Facts = Mapping[str, Any]
_PLURALS = {"study": "studies", "series": "series"}
_ACCESS = {
    "open": "Anyone may download it.",
    "registration": "Access needs an account or a sign-up.",
    "application": "Access needs an application that a person decides on.",
    "unknown": "How to get it is unknown.",
}


def plural(unit: str, number: int) -> str:
    """The unit after a number."""
    return unit if number == 1 else _PLURALS.get(unit, f"{unit}{'es' if unit[-1] == 'h' else 's'}")


def count_text(count: Mapping[str, Any]) -> str:
    """`300 volumes (training)`."""
    text = f"{count['number']:,} {plural(count['unit'], count['number'])}"
    notes = [note for note in (count.get("split"), count.get("what")) if note]
    return f"{text} ({', '.join(notes)})" if notes else text


def describe(facts: Facts) -> str:
    """What it holds, how much, under which terms; what is unknown is said to be."""
    images = " and ".join(facts["modalities"]) or "Images of unknown modality"
    shape = f" ({', '.join(facts['dimensions'])})" if facts["dimensions"] else ""
    parts = f" of {_joined(facts['anatomies'])}" if facts["anatomies"] else ""
    tasks = f", for {_joined(facts['tasks'])}" if facts["tasks"] else ""
    diseases = f"; {_joined(facts['diseases'])}" if facts["diseases"] else ""
    sizes = [count_text(count) for count in facts["counts"][:2]]
    size = f"Size: {'; '.join(sizes)}." if sizes else "Its size is unknown."
    licence = f"Licence: {facts['licence']}." if facts["licence"] else "Its licence is unknown."
    return (
        f"{facts['name']}: {images}{shape}{_lower(parts)}{_lower(tasks)}{diseases}. "
        f"{size} {licence} {_ACCESS[facts['access']]}"
    )


def _joined(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]


def _lower(text: str) -> str:
    """Words in lower case, but for abbreviations."""
    return " ".join(word if word.isupper() else word.lower() for word in text.split(" "))


def number(value: float) -> str:
    """For people: never with an exponent where it can be read without."""
    if 1000 <= abs(value) < 1e9:  # noqa: PLR2004
        return f"{value:,.0f}"
    return f"{value:.3g}"
