"""Controlled vocabularies: one place for every term, its synonyms, its code and its parent.

Indexing, querying, facets, record checks and fusion all read the terms from here. A value that no
term covers is unknown; there are no terms such as "multi" or "unspecified".
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

FOLDER = Path(__file__).resolve().parent / "vocabulary"
FILES: Mapping[str, str] = MappingProxyType(
    {
        "modality": "modalities.yaml",
        "anatomy": "anatomies.yaml",
        "task": "tasks.yaml",
        "dimension": "dimensions.yaml",
        "access": "access.yaml",
        "disease": "diseases.yaml",
    }
)
FACETS = tuple(FILES)

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class VocabularyError(ValueError):
    """A vocabulary file contradicts itself, or a facet is not known."""


@dataclass(frozen=True)
class Term:
    """One canonical term of a facet.

    `code` is a DICOM defined term of (0008,0060) for modalities and null elsewhere; `family` says
    which modalities look alike; `parent` names a broader term of the same facet.
    """

    facet: str
    name: str
    synonyms: tuple[str, ...] = ()
    code: str | None = None
    family: str | None = None
    parent: str | None = None

    @property
    def words(self) -> tuple[str, ...]:
        """The name and every synonym."""
        return (self.name, *self.synonyms)


def normalise(text: str) -> str:
    """Case, accents, punctuation and runs of spaces do not tell terms apart."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().casefold()
    plain = plain.replace("'", "")
    return re.sub(r"[^a-z0-9+&]+", " ", plain).strip()


@cache
def terms(facet: str) -> Mapping[str, Term]:
    """Every term of a facet by its name, in the file's order."""
    if facet not in FILES:
        raise VocabularyError(f"facet: found {facet!r}, expected one of {', '.join(FACETS)}")
    return MappingProxyType(_read(facet, FOLDER / FILES[facet]))


def _read(facet: str, path: Path) -> dict[str, Term]:
    rows: list[dict[str, Any]] = yaml.load(path.read_text("utf-8"), Loader=_LOADER)  # noqa: S506
    found = [Term(facet, **{**row, "synonyms": tuple(row.get("synonyms", ()))}) for row in rows]
    known = {term.name: term for term in found}
    if len(known) != len(found):
        raise VocabularyError(f"{path.name}: a term is listed twice")
    for term in found:
        if term.parent is not None and term.parent not in known:
            raise VocabularyError(f"{path.name}: {term.name}: parent {term.parent!r} is no term")
    return known


@cache
def _lookup(facet: str) -> Mapping[str, Term]:
    """Every normalised word of a facet; names win over synonyms."""
    table: dict[str, Term] = {normalise(term.name): term for term in terms(facet).values()}
    owners: dict[str, Term] = {}
    for term in terms(facet).values():
        for word in map(normalise, term.synonyms):
            other = owners.setdefault(word, table.get(word, term))
            if other != term:
                raise VocabularyError(f"{facet}: {word!r} means {other.name} and {term.name}")
    return MappingProxyType({**owners, **table})


def resolve(facet: str, text: str) -> Term | None:
    """The term that `text` names or is a synonym of; None when no term does."""
    word = normalise(text)
    table = _lookup(facet)
    return table.get(word) or (table.get(word[:-1]) if word.endswith("s") else None)


def nearest(facet: str, text: str) -> Term | None:
    """The term whose name or synonym is spelled most like `text`; None when nothing is close."""
    exact = resolve(facet, text)
    if exact is not None:
        return exact
    close = difflib.get_close_matches(normalise(text), list(_lookup(facet)), n=1, cutoff=0.5)
    return _lookup(facet)[close[0]] if close else None


def ancestors(facet: str, name: str) -> tuple[str, ...]:
    """Broader terms of `name`, nearest first.

    Raises:
        VocabularyError: `name` is no term of the facet, or its parents form a cycle.
    """
    table = terms(facet)
    if name not in table:
        raise VocabularyError(f"{facet}: {name!r} is no term")
    chain: list[str] = []
    parent = table[name].parent
    while parent is not None:
        if parent == name or parent in chain:
            raise VocabularyError(f"{facet}: the parents of {name!r} form a cycle")
        chain.append(parent)
        parent = table[parent].parent
    return tuple(chain)


def descendants(facet: str, name: str) -> tuple[str, ...]:
    """Narrower terms of `name`, in the file's order."""
    return tuple(other for other in terms(facet) if name in ancestors(facet, other))


def upwards(facet: str, text: str) -> tuple[str, ...]:
    """`text` and, where it is a term, every broader one, nearest first."""
    return (text, *ancestors(facet, text)) if text in terms(facet) else (text,)


def in_common(facet: str, lists: Iterable[Iterable[str]]) -> tuple[str, ...]:
    """The narrowest terms that every list has itself or by a narrower one, by name."""
    each = [{up for name in names for up in upwards(facet, name)} for names in lists]
    common = set.intersection(*each) if each else set()
    broader = {up for name in common for up in upwards(facet, name) if up != name}
    return tuple(sorted(common - broader))


def synonyms(facet: str, name: str) -> tuple[str, ...]:
    """Other words for the term `name`."""
    return terms(facet)[name].synonyms
