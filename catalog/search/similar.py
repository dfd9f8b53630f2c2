"""More like this: the datasets that share most with one, rare concepts first. Pure.

A dataset is a vector over its concepts and their parents, the words of its name and its imaging
details; a term weighs log(1 + N / n), where n of N datasets carry it or a narrower one. Likeness is
the cosine of two vectors, so that a collection of everything is like nothing. Members of one family
are left out: they are versions, not alternatives.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from catalog import vocab
from catalog.overlaps import Overlap, OverlapGraph
from catalog.search.words import singular, words

Facts = Mapping[str, Any]
LIMIT = 6
# facet -> (key of the facts, weight)
CONCEPTS = {
    "modality": ("modalities", 1.5),
    "anatomy": ("anatomies", 1.2),
    "disease": ("diseases", 0.8),
    "task": ("tasks", 0.8),
}
# What tells apart datasets with the same concepts; never a reason of its own.
MINOR = {"dimension": ("dimensions", 0.3), "detail": ("modality_details", 0.3)}
NAME_WEIGHT = 0.25
PARENT = 0.5  # what a broader term weighs against the term below it
SHORTEST_WORD = 4
KEYS = (
    "slug",
    "name",
    "year",
    "family",
    "relations",
    *(key for key, _ in (*CONCEPTS.values(), *MINOR.values())),
)
UNKNOWN_GAP = 99  # years between two datasets when one has no year
Feature = tuple[str, str]
Postings = tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]


@dataclass(frozen=True)
class Shared:
    """A concept that both have, and how many datasets carry it or a narrower one."""

    facet: str
    term: str
    datasets: int


@dataclass(frozen=True)
class Similar:
    """One dataset that is like another; `score` is 0 to 1, `shared` has the rarest first."""

    slug: str
    name: str
    year: int | None
    score: float
    shared: tuple[Shared, ...]
    overlap: Overlap | None

    @property
    def why(self) -> str:
        """The reason in words."""
        return ", ".join(f"{one.facet} {one.term}" for one in self.shared)

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "why": self.why}


@dataclass(frozen=True)
class _Row:
    slug: str
    name: str
    year: int | None
    family: str
    terms: Mapping[str, tuple[str, ...]]
    vector: Mapping[Feature, float]


class Neighbours:
    """All datasets of a catalog, ready to be asked for the likes of one."""

    def __init__(self, datasets: Iterable[Facts]) -> None:
        facts = sorted(datasets, key=lambda one: one["slug"])
        raw = [dict(_features(one)) for one in facts]
        self._number = Counter(feature for features in raw for feature in features)
        self._rows = [
            _row(one, self._unit(raw[place], len(facts))) for place, one in enumerate(facts)
        ]
        self._place = {one["slug"]: place for place, one in enumerate(facts)}
        self._with = _postings(row.vector for row in self._rows)
        self._families: dict[str, list[int]] = defaultdict(list)
        for place, row in enumerate(self._rows):
            self._families[row.family].append(place)
        self.overlaps = OverlapGraph({one["slug"]: one["relations"] for one in facts})

    def __contains__(self, slug: str) -> bool:
        return slug in self._place

    def family(self, slug: str) -> tuple[str, ...]:
        """The other members of its family, nearest in years first, then by slug."""
        if slug not in self:
            return ()
        own = self._rows[self._place[slug]]
        members = self._families[own.family] if own.family else ()
        ordered = sorted(members, key=lambda place: (self._gap(own, place), place))
        return tuple(row.slug for row in map(self._rows.__getitem__, ordered) if row is not own)

    def name(self, slug: str) -> str:
        return self._rows[self._place[slug]].name

    def of(self, slug: str, limit: int = LIMIT) -> tuple[Similar, ...]:
        """The most similar datasets, best first; equal ones by nearness in years, then by slug.

        None for a slug that came into the catalog later.
        """
        if slug not in self:
            return ()
        own = self._rows[self._place[slug]]
        scores = self._scores(own.vector)
        scores[[self._place[other] for other in (slug, *self.family(slug))]] = 0.0
        best = np.flatnonzero(scores)
        if len(best) > limit:
            least = np.partition(scores[best], -limit)[-limit]
            best = best[scores[best] >= least]
        places: list[int] = best.tolist()
        places.sort(key=lambda place: (-scores[place], self._gap(own, place), place))
        return tuple(self._similar(own, place, float(scores[place])) for place in places[:limit])

    def _unit(self, features: Mapping[Feature, float], total: int) -> dict[Feature, float]:
        """The vector of length one. A word that one name alone has tells nothing."""
        found = {
            feature: weight * math.log1p(total / self._number[feature])
            for feature, weight in features.items()
            if feature[0] != "name" or self._number[feature] > 1
        }
        length = math.sqrt(sum(value * value for value in found.values())) or 1.0
        return {feature: value / length for feature, value in found.items()}

    def _scores(self, vector: Mapping[Feature, float]) -> npt.NDArray[np.float64]:
        """The likeness of every dataset; 0 for those that share no concept."""
        concepts = np.zeros(len(self._rows))
        minor = np.zeros(len(self._rows))
        for feature, weight in vector.items():
            places, weights = self._with[feature]
            (concepts if feature[0] in CONCEPTS else minor)[places] += weight * weights
        scores: npt.NDArray[np.float64] = np.round((concepts + minor) * (concepts > 0), 6)
        return scores

    def _gap(self, own: _Row, place: int) -> int:
        year = self._rows[place].year
        return abs(own.year - year) if own.year and year else UNKNOWN_GAP

    def _similar(self, own: _Row, place: int, score: float) -> Similar:
        row = self._rows[place]
        overlap = self.overlaps.between(own.slug, row.slug)
        return Similar(row.slug, row.name, row.year, score, self._shared(own, row), overlap)

    def _shared(self, own: _Row, other: _Row) -> tuple[Shared, ...]:
        found = [
            Shared(facet, term, self._number[facet, term])
            for facet in CONCEPTS
            for term in vocab.in_common(facet, (own.terms[facet], other.terms[facet]))
        ]
        return tuple(sorted(found, key=lambda one: (one.datasets, one.facet, one.term)))


def _features(one: Facts) -> Iterator[tuple[Feature, float]]:
    """Each feature with its weight before rarity; a term and its child give the larger one."""
    best: dict[Feature, float] = {}
    for facet, (key, weight) in CONCEPTS.items():
        for term in one[key]:
            for distance, up in enumerate(vocab.upwards(facet, term)):
                here = weight * PARENT**distance
                best[facet, up] = max(best.get((facet, up), 0.0), here)
    yield from best.items()
    for facet, (key, weight) in MINOR.items():
        for term in dict.fromkeys(one[key]):
            yield (facet, term), weight
    for word in dict.fromkeys(map(singular, words(one["name"]))):
        if len(word) >= SHORTEST_WORD and word.isalpha():
            yield ("name", word), NAME_WEIGHT


def _row(one: Facts, vector: Mapping[Feature, float]) -> _Row:
    terms = {facet: tuple(one[key]) for facet, (key, _) in CONCEPTS.items()}
    return _Row(one["slug"], one["name"], one["year"], one["family"] or "", terms, vector)


def _postings(vectors: Iterable[Mapping[Feature, float]]) -> Mapping[Feature, Postings]:
    """For each feature the datasets that have it, and how much it weighs there."""
    found: dict[Feature, tuple[list[int], list[float]]] = defaultdict(lambda: ([], []))
    for place, vector in enumerate(vectors):
        for feature, weight in vector.items():
            found[feature][0].append(place)
            found[feature][1].append(weight)
    return {feature: (np.array(a), np.array(b)) for feature, (a, b) in found.items()}
