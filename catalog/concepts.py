"""Concepts: what a label value may mean, with codes, sides and relations.

Codes come from the dictionaries that pydicom ships; a concept they lack has none. Two concepts
never share a code and a side.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType
from typing import Any

import yaml

from catalog.vocab import FOLDER, VocabularyError, normalise

CATEGORIES = ("anatomy", "tissue", "substance", "finding", "cell")
LATERALITIES = ("left", "right")
#: Spellings that mean the same, as patterns of normalised text: American first, then British.
_SPELLINGS = tuple(
    (re.compile(american), british)
    for american, british in {
        r"tumor": "tumour",
        r"(?<!o)edema": "oedema",
        r"(?<!o)esophag": "oesophag",
        r"(?<!a)hem(?=orrhag|atom|angiom)": "haem",
        r"ischemi": "ischaemi",
        r"leukocyt": "leucocyt",
        r"\bnev(?=us\b|i\b)": "naev",
        r"seborrheic": "seborrhoeic",
        r"ization\b": "isation",
        r"\bgray\b": "grey",
        r"\bdisk(?=s?\b)": "disc",
        r"\b(\d+)(?:st|nd|rd|th)\b": r"\1",
    }.items()
)
#: Endings of plurals and what the singular ends in; only a singular that is a name counts.
_PLURALS = (
    ("ies", "y"), ("ices", "ex"), ("ices", "ix"), ("es", "is"), ("es", ""), ("s", ""),
    ("ae", "a"), ("i", "us"), ("mata", "ma"), ("ina", "en"), ("a", "um"),
)  # fmt: skip
_SHORTEST_PLURAL = 4
_SIDE_LAST = re.compile(r"(.+) (l|left|r|right)")
_IN_BRACKETS = re.compile(r"([^()]+)\(([^()]+)\)\s*")
_LONGEST_SHORT_FORM = 5


@dataclass(frozen=True)
class Code:
    """A coded entry: scheme designator, value and meaning."""

    scheme: str
    value: str
    meaning: str


@dataclass(frozen=True)
class Concept:
    """One row of the concept table; `part_of` and `is_a` hold ids of other rows."""

    id: str
    label: str
    category: str
    code: Code | None = None
    laterality: str | None = None
    part_of: tuple[str, ...] = ()
    is_a: tuple[str, ...] = ()
    synonyms: tuple[str, ...] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        """Plain data with every key, as manifests carry it."""
        code = self.code
        return {
            "id": self.id,
            "label": self.label,
            "category": self.category,
            "code": code and {"scheme": code.scheme, "value": code.value, "meaning": code.meaning},
            "laterality": self.laterality,
            "part_of": list(self.part_of),
            "is_a": list(self.is_a),
            "synonyms": list(self.synonyms),
        }


@cache
def concepts() -> Mapping[str, Concept]:
    """The concept table by id.

    Raises:
        VocabularyError: the table contradicts itself.
    """
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    rows = yaml.load((FOLDER / "concepts.yaml").read_text("utf-8"), Loader=loader)  # noqa: S506
    table = check(_concept(row) for row in rows)
    return MappingProxyType(table)


def _concept(row: dict[str, Any]) -> Concept:
    code = row.get("code")
    lists = {key: tuple(row.get(key, ())) for key in ("part_of", "is_a", "synonyms")}
    return Concept(**{**row, **lists, "code": Code(**code) if code else None})


def check(rows: Iterable[Concept]) -> dict[str, Concept]:
    """The rows by id, once they hold together.

    Raises:
        VocabularyError: an id twice, two rows with one code and side, an unknown parent, category
            or side, or a cycle.
    """
    table: dict[str, Concept] = {}
    coded: dict[tuple[str, str, str | None], str] = {}
    for row in rows:
        if row.id in table:
            raise VocabularyError(f"concept {row.id!r} is listed twice")
        _check_row(row)
        if row.code is not None:
            key = (row.code.scheme, row.code.value, row.laterality)
            if (other := coded.setdefault(key, row.id)) != row.id:
                raise VocabularyError(f"concepts {other!r} and {row.id!r} share {key}")
        table[row.id] = row
    _check_parents(table)
    return table


def _check_row(row: Concept) -> None:
    if row.category not in CATEGORIES:
        expected = ", ".join(CATEGORIES)
        raise VocabularyError(
            f"concept {row.id!r}: category: found {row.category!r}, expected one of {expected}"
        )
    if row.laterality not in (None, *LATERALITIES):
        raise VocabularyError(
            f"concept {row.id!r}: laterality: found {row.laterality!r}, "
            "expected left, right or null"
        )


def _check_parents(table: Mapping[str, Concept]) -> None:
    for row in table.values():
        for parent in (*row.part_of, *row.is_a):
            if parent not in table:
                raise VocabularyError(f"concept {row.id!r}: parent {parent!r} is no concept")
    for concept_id in table:
        if concept_id in _above(table, concept_id):
            raise VocabularyError(f"concept {concept_id!r} is its own ancestor")


def _above(table: Mapping[str, Concept], concept_id: str) -> dict[str, int]:
    """Ancestors by either relation with their distance in steps; finite on cycles too."""
    found: dict[str, int] = {}
    level, steps = [concept_id], 0
    while level:
        steps += 1
        parents = [p for cid in level for p in (*table[cid].part_of, *table[cid].is_a)]
        level = [p for p in dict.fromkeys(parents) if p not in found]
        found.update(dict.fromkeys(level, steps))
    return found


def concept(concept_id: str) -> Concept:
    """One concept by id.

    Raises:
        VocabularyError: no such concept; the message names the nearest id.
    """
    if concept_id in concepts():
        return concepts()[concept_id]
    close = difflib.get_close_matches(concept_id, list(concepts()), n=1, cutoff=0.4)
    hint = f"; nearest: {close[0]}" if close else ""
    raise VocabularyError(f"concept: found {concept_id!r}, expected an id of concepts.yaml{hint}")


@cache
def _lookup() -> Mapping[str, Concept]:
    table: dict[str, Concept] = {}
    for row in concepts().values():
        for word in _names(row):
            table.setdefault(_key(word), row)
    for row in concepts().values():
        for word in _sided(row):
            table.setdefault(_key(word), row)
    return table


def _names(row: Concept) -> tuple[str, ...]:
    return (*row.synonyms, row.label, row.id)


def _sided(row: Concept) -> Iterator[str]:
    """Every name of what has two sides with this row's: "left hip"."""
    kinds = [concepts()[one] for one in row.is_a]
    if row.laterality and not any(one.laterality for one in kinds):
        yield from (f"{row.laterality} {name}" for one in kinds for name in _names(one))


def _key(text: str) -> str:
    """What spellings of one name have in common; a side stands first: "Hip_L" is "left hip"."""
    word = normalise(text.replace("_", " "))
    for pattern, british in _SPELLINGS:
        word = pattern.sub(british, word)
    if (last := _SIDE_LAST.fullmatch(word)) is not None:
        name, side = last.groups()
        return f"{'left' if side[0] == 'l' else 'right'} {name}"
    return word


def _spelled(text: str) -> Concept | None:
    """The concept of a name: as it is, its words written together, in the plural."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text)
    for key in dict.fromkeys((_key(text), _key(apart))):
        for name in (key, *_singulars(key)):
            if name in _lookup():
                return _lookup()[name]
    return None


def _singulars(key: str) -> Iterator[str]:
    """What the last word may be the plural of."""
    if len(key.rpartition(" ")[2]) >= _SHORTEST_PLURAL:
        yield from (key.removesuffix(many) + one for many, one in _PLURALS if key.endswith(many))


def resolve(text: str) -> Concept | None:
    """The concept whose id, label or synonym is `text`.

    Plurals, British and American spelling and where the side stands ("Hip, left", "Hip_L") do not
    tell names apart. What stands in brackets must mean the same or be the short form:
    "LV (left ventricle)".
    """
    found = _spelled(text)
    if found is not None or (parts := _IN_BRACKETS.fullmatch(text)) is None:
        return found
    one, other = parts.groups()
    meant = [row for row in (_spelled(one), _spelled(other)) if row is not None]
    if len(meant) > 1:
        return meant[0] if meant[0] == meant[1] else None
    return meant[0] if meant and _same_words(one, other) else None


def _same_words(one: str, other: str) -> bool:
    """One is the short form of the other ("MEL", "Myo"), or its words in another order."""
    if sorted(_key(one).split()) == sorted(_key(other).split()):
        return True
    short, long = sorted((one.strip(), other.strip()), key=len)
    if not (short.isalpha() and 1 < len(short) <= _LONGEST_SHORT_FORM):
        return False
    if not short.isupper():
        return long.lower().startswith(short.lower())
    letters = iter(long.upper())
    return long[0].upper() == short[0] and all(letter in letters for letter in short)


def nearest(text: str) -> Concept | None:
    """The concept spelled most like `text`; None when nothing is close."""
    close = difflib.get_close_matches(_key(text), list(_lookup()), n=1, cutoff=0.5)
    return _lookup()[close[0]] if close else None


def ancestors(concept_id: str) -> Mapping[str, int]:
    """Every broader concept (part_of and is_a) with its distance in steps."""
    concept(concept_id)
    return MappingProxyType(_above(concepts(), concept_id))
