"""Which classes of several datasets meet in which concept, and what is lost. Pure.

A class name is mapped when it is a concept's name or synonym, in either number and spelling. What
only looks like one is proposed with its score and counts for nothing until a person confirms it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Literal

from rapidfuzz import fuzz, process

from catalog import concepts
from catalog.vocab import normalise

How = Literal["exact", "synonym", "proposed", "unmapped"]
NEAR_ENOUGH = 82.0  # rapidfuzz ratio, 0-100, from which a concept is proposed
_SHORTEST = 5  # letters: "mild" looks like "ILD" and is nothing of it
_DENIES = frozenset({"no", "non", "not", "without", "negative", "abnormal"})
BACKGROUND = frozenset({"background", "bg", "other", "others", "unlabelled", "unlabeled", "void"})


@dataclass(frozen=True)
class MappedClass:
    """A class as its dataset calls it; `concept` is an id or None; `score` 0-100 of a proposal."""

    value: str
    concept: str | None
    how: How
    score: float = 100.0

    @property
    def is_sure(self) -> bool:
        return self.how in {"exact", "synonym"}


@dataclass(frozen=True)
class Meeting:
    """One concept and the classes of each dataset that mean it or something narrower."""

    concept: str
    label: str
    classes: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Alignment:
    """The classes of several datasets by slug; `silent` ones list none.

    `common` concepts are in every dataset, `every` in any; `proposed` would be common, too, if the
    classes that it names were confirmed. `lost` are the classes of each dataset that no common
    concept takes up: those that the intersection drops.
    """

    classes: Mapping[str, tuple[MappedClass, ...]]
    silent: tuple[str, ...]
    common: tuple[Meeting, ...]
    every: tuple[Meeting, ...]
    proposed: tuple[Meeting, ...]
    lost: Mapping[str, tuple[str, ...]]

    def unmapped(self, slug: str) -> tuple[MappedClass, ...]:
        return tuple(one for one in self.classes[slug] if not one.is_sure)

    def to_confirm(self) -> tuple[str, ...]:
        """What a person would have to confirm for each proposed meeting, in words."""
        unsure = {slug: {one.value for one in self.unmapped(slug)} for slug in self.classes}
        return tuple(
            f"{meeting.label} ("
            + "; ".join(
                f"{slug}: {', '.join(asked)}"
                for slug, values in meeting.classes.items()
                if (asked := [value for value in values if value in unsure[slug]])
            )
            + ")"
            for meeting in self.proposed
        )

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@cache
def map_class(value: str) -> MappedClass:
    """The concept that a class name means."""
    word = normalise(value.replace("_", " "))
    found = concepts.resolve(value)
    if found is not None:
        own = {normalise(found.label), normalise(found.id.replace("_", " "))}
        return MappedClass(value, found.id, "exact" if word in own else "synonym")
    for near, score, _ in process.extract(
        word, _words(), scorer=fuzz.ratio, score_cutoff=NEAR_ENOUGH, limit=4
    ):
        proposed = concepts.resolve(near)
        if proposed is not None and not _deny(word, near):
            return MappedClass(value, proposed.id, "proposed", round(score, 1))
    return MappedClass(value, None, "unmapped", 0.0)


def _deny(one: str, other: str) -> bool:
    """One says that there is nothing of the other: "no pneumothorax" proposes none."""
    return bool(_DENIES & (set(one.split()) ^ set(other.split())))


def proposals(word: str, limit: int = 3) -> list[tuple[str, float]]:
    """Concepts whose names look most like a word, the best first, each with its likeness 0-100."""
    text = normalise(word.replace("_", " "))
    found: dict[str, float] = {}
    for near, score, _ in process.extract(
        text, _words(), scorer=fuzz.ratio, score_cutoff=NEAR_ENOUGH / 1.5, limit=4 * limit
    ):
        if (row := concepts.resolve(near)) is not None:
            found.setdefault(row.id, round(score, 1))
    return list(found.items())[:limit]


@cache
def _words() -> tuple[str, ...]:
    rows = concepts.concepts().values()
    each = dict.fromkeys(normalise(word) for row in rows for word in (row.label, *row.synonyms))
    return tuple(word for word in each if len(word) >= _SHORTEST)


def concepts_of(classes: Iterable[str]) -> frozenset[str]:
    """The concepts that class names surely mean."""
    mapped = map(map_class, classes)
    return frozenset(one.concept for one in mapped if one.concept and one.is_sure)


def align(classes: Mapping[str, Sequence[str]]) -> Alignment:
    """Class names by slug of the dataset, brought together. Background is no class."""
    mapped = {
        slug: tuple(map_class(value) for value in values if normalise(value) not in BACKGROUND)
        for slug, values in classes.items()
    }
    spoken = {slug: [one for one in rows if one.is_sure] for slug, rows in mapped.items()}
    known = {slug: [one for one in rows if one.concept] for slug, rows in mapped.items()}
    common = _shared(spoken)
    own = {one.concept for rows in spoken.values() for one in rows if one.concept}
    lost = {
        slug: tuple(
            one.value for one in rows if not one.is_sure or not _with_kinds(one.concept) & common
        )
        for slug, rows in mapped.items()
    }
    return Alignment(
        classes=mapped,
        silent=tuple(slug for slug, rows in mapped.items() if not rows),
        common=_meetings(common, spoken),
        every=_meetings(own, spoken),
        proposed=_meetings(_shared(known) - common, known),
        lost=lost,
    )


def _shared(classes: Mapping[str, Sequence[MappedClass]]) -> frozenset[str]:
    """The narrowest concepts that some class of every dataset means or is a kind of."""
    above = [{up for one in rows for up in _with_kinds(one.concept)} for rows in classes.values()]
    shared = set.intersection(*above) if above else set()
    return frozenset(shared.difference(*map(_kinds, shared)))


def _meetings(
    wanted: Iterable[str], spoken: Mapping[str, Sequence[MappedClass]]
) -> tuple[Meeting, ...]:
    return tuple(
        Meeting(
            one,
            concepts.concept(one).label,
            {
                slug: values
                for slug, rows in spoken.items()
                if (values := tuple(r.value for r in rows if one in _with_kinds(r.concept)))
            },
        )
        for one in sorted(wanted)
    )


def _with_kinds(concept_id: str | None) -> frozenset[str]:
    return _kinds(concept_id) | {concept_id} if concept_id else frozenset()


@cache
def _kinds(concept_id: str) -> frozenset[str]:
    """What a concept is a kind of, at any distance. A part is no kind: no lesion is an organ."""
    above = concepts.concept(concept_id).is_a
    return frozenset(above).union(*(_kinds(one) for one in above))
