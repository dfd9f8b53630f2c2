"""What a dataset names that is narrower than a term of a facet: the optic disc within the retina.

A concept of the table stands for all its names, so that who types "optic nerve head" finds "optic
disc", and a part of it counts as well. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache

from catalog import concepts, vocab
from catalog.search.words import fold, spelled

_LONGEST = 5  # words
_SHORTEST = 4  # letters of a single word: "RV" and "OD" mean too much
_FACETS = ("anatomy", "disease")


def mentions(texts: Iterable[str]) -> tuple[str, ...]:
    """Ids of the concepts that stand anywhere in `texts` (folded), and of all that is broader."""
    found: dict[str, None] = {}
    for text in texts:
        for phrase in _phrases(text.split()):
            if phrase in _named():
                found[_named()[phrase]] = None
    broader = [up for one in found for up in concepts.ancestors(one)]
    return tuple(sorted({*found, *broader}))


def named(typed: str) -> str | None:
    """The id of the concept whose name is `typed`."""
    return next((_named()[one] for one in spelled(fold(typed).split()) if one in _named()), None)


def narrower(facet: str, term: str, typed: str) -> str | None:
    """The id of the concept that `typed` names, where it is another than the term of the facet."""
    if facet not in _FACETS or (found := named(typed)) is None:
        return None
    return found if found != _named().get(fold(term)) else None


def body_parts(concept_id: str) -> tuple[str, ...]:
    """Terms of anatomy that the concept lies in, the nearest first."""
    above = concepts.ancestors(concept_id)
    labels = (concepts.concept(one).label for one in sorted(above, key=lambda one: above[one]))
    terms = (vocab.resolve("anatomy", label) for label in labels)
    return tuple(term.name for term in terms if term is not None)


def _phrases(typed: list[str]) -> Iterator[str]:
    for start in range(len(typed)):
        for stop in range(start + 1, min(len(typed), start + _LONGEST) + 1):
            yield from spelled(typed[start:stop])


@cache
def _named() -> Mapping[str, str]:
    """Folded names of concepts, without sides and short forms, to ids."""
    found: dict[str, str] = {}
    for row in concepts.concepts().values():
        for name in map(fold, (row.label, row.id.replace("_", " "), *row.synonyms)):
            if row.laterality is None and (" " in name or len(name) >= _SHORTEST):
                found.setdefault(name, row.id)
    return found
