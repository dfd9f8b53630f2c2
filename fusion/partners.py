"""Which datasets of the whole catalog fit a dataset, or a goal, best. Pure.

Pairs that an eligibility rule blocks are no partners; how many each rule turns away is counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from catalog import vocab
from catalog.licences import licence
from catalog.overlaps import OverlapGraph
from fusion.blueprint import MOST, reachable
from fusion.compatibility import WEIGHTS, Band, Facts, Score, regions, score

LIMIT = 10
POOL = 60  # datasets of a goal that are set beside each other
_BANDS: Sequence[Band] = ("recommended", "possible", "unlikely", "not enough metadata")
FITTING: frozenset[Band] = frozenset({"recommended", "possible"})
KEYS = (
    "slug", "name", "family", "modalities", "modality_details", "anatomies", "tasks", "dimensions",
    "classes", "spacing", "annotation", "licence", "licence_labels", "relations", "labelled",
    "quality",
)  # fmt: skip


@dataclass(frozen=True)
class Partner:
    """A dataset that may be fused with another, with the score of the two."""

    slug: str
    name: str
    score: Score
    tasks: tuple[str, ...]  # that both have, without a conversion
    quality: int
    note: str = ""

    @property
    def why(self) -> str:
        """The known parts that speak for it, strongest first."""
        good = [part for part in self.score.parts if part.value]
        good.sort(key=lambda part: -(part.value or 0) * part.weight)
        return "; ".join(part.why for part in good)

    def as_dict(self) -> dict[str, Any]:
        return {
            "slug": self.slug,
            "name": self.name,
            "why": self.why,
            "note": self.note,
            "tasks": self.tasks,
            **self.score.as_dict(),
        }


@dataclass(frozen=True)
class Found:
    """The best partners first; `blocked` counts by rule the datasets that are none."""

    partners: tuple[Partner, ...]
    total: int
    blocked: Mapping[str, int]


@dataclass(frozen=True)
class Goal:
    """What somebody wants to train: canonical terms, each with what is narrower."""

    modality: str
    anatomy: str
    task: str


@dataclass(frozen=True)
class GoalFound:
    """The best set for a goal, and the pool of datasets that serve it."""

    slugs: tuple[str, ...]
    value: float | None
    pool: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        return {"S": self.value, "slugs": self.slugs, "pool": self.pool}


@dataclass(frozen=True)
class _Row:
    facts: Facts
    dimensions: frozenset[str]
    families: frozenset[str]
    tasks: frozenset[str]
    stands_alone: bool  # its licence forbids combination


class Partners:
    """The catalog, prepared for the question who fits whom."""

    def __init__(
        self,
        datasets: Iterable[Facts],
        overlaps: OverlapGraph,
        weights: Mapping[str, float] = WEIGHTS,
    ) -> None:
        self._rows = {one["slug"]: _row(one) for one in datasets}
        self._weights = weights
        self._overlaps = overlaps

    def __contains__(self, slug: str) -> bool:
        return slug in self._rows

    def of(self, slug: str, limit: int = LIMIT) -> Found:
        """The best partners of one dataset; its own family comes last in a band."""
        own = self._rows[slug]
        blocked: Counter[str] = Counter()
        found = []
        for other, row in self._rows.items():
            if other == slug:
                continue
            code, note = self._blocks(own, row)
            if code:
                blocked[code] += 1
                continue
            pair = score(own.facts, row.facts, self._weights)
            if own.facts["family"] and own.facts["family"] == row.facts["family"]:
                note = "of the same family: compare people and images"
            tasks = tuple(sorted(set(own.facts["tasks"]) & set(row.facts["tasks"])))
            quality = row.facts["quality"] or 0
            found.append(Partner(other, row.facts["name"], pair, tasks, quality, note))
        found.sort(key=_rank)
        return Found(tuple(found[:limit]), len(found), dict(sorted(blocked.items())))

    def pairs(self) -> Iterator[Score]:
        """Every pair of the catalog that no rule blocks."""
        for a, b in combinations(self._rows.values(), 2):
            if a.dimensions & b.dimensions and not self._blocks(a, b)[0]:
                yield score(a.facts, b.facts, self._weights)

    def for_goal(self, goal: Goal, most: int = MOST) -> GoalFound:
        """A set of datasets that all fit each other, grown from the best pair; empty without one.

        The pool are labelled datasets of the goal, the most complete records first.
        """
        return self._grown([row for row in self._rows.values() if _serves(row, goal)], most)

    def among(self, slugs: Iterable[str], most: int = MOST) -> GoalFound:
        """The same out of named datasets: those that somebody's rules keep."""
        return self._grown([self._rows[slug] for slug in slugs if slug in self._rows], most)

    def _grown(self, serving: list[_Row], most: int) -> GoalFound:
        serving.sort(key=lambda row: (-(row.facts["quality"] or 0), row.facts["slug"]))
        pool = tuple(row.facts["slug"] for row in serving)
        pairs: dict[frozenset[str], Score] = {}
        for a, b in combinations(serving[:POOL], 2):
            if not self._blocks(a, b)[0] and a.facts["family"] != (b.facts["family"] or "-"):
                pair = score(a.facts, b.facts, self._weights)
                if pair.band in FITTING:
                    pairs[frozenset((pair.a, pair.b))] = pair
        if not pairs:
            return GoalFound((), None, pool)
        best = min(pairs.values(), key=lambda one: (_order(one), one.a, one.b))
        chosen = [best.a, best.b]
        lowest = best.value or 0.0
        while len(chosen) < most:
            fits = [
                (min(pairs[frozenset((slug, one))].value or 0.0 for one in chosen), slug)
                for slug in pool[:POOL]
                if slug not in chosen and all(frozenset((slug, one)) in pairs for one in chosen)
            ]
            if not fits:
                break
            value, slug = min(fits, key=lambda fit: (-fit[0], fit[1]))
            chosen.append(slug)
            lowest = min(lowest, value)
        return GoalFound(tuple(chosen), round(lowest, 4), pool)

    def _blocks(self, a: _Row, b: _Row) -> tuple[str, str]:
        """The first rule that blocks the two, and what is to be watched if none does."""
        for code, one, other in (
            ("E02", a.dimensions, b.dimensions),
            ("E03", a.families, b.families),
            ("E04", a.tasks, b.tasks),
        ):
            if not one & other:
                return code, ""
        if a.stands_alone or b.stands_alone:
            return "E08", ""
        overlap = self._overlaps.between(a.facts["slug"], b.facts["slug"])
        if overlap is not None and overlap.certainty != "possible":
            return "E07", ""
        return "", "a common origin: compare people and images" if overlap else ""


def _row(one: Facts) -> _Row:
    terms = vocab.terms("modality")
    families = frozenset(f for name in one["modalities"] if (f := terms[name].family))
    parts = (one["licence"], one["licence_labels"])
    alone = any(part and licence(part).no_combination for part in parts)
    dimensions = frozenset(one["dimensions"])
    return _Row(one, dimensions, families, reachable(one["tasks"]), alone)


def _serves(row: _Row, goal: Goal) -> bool:
    facts = row.facts
    modalities = {
        up for name in facts["modalities"] for up in (name, *vocab.ancestors("modality", name))
    }
    return (
        facts["labelled"] is not False
        and goal.task in row.tasks
        and goal.modality in modalities
        and goal.anatomy in regions(facts["anatomies"])
    )


def _order(one: Score) -> tuple[int, float, float]:
    return (_BANDS.index(one.band), -(one.value or 0.0), -one.known)


def _rank(one: Partner) -> tuple[Any, ...]:
    """By band; other families first; the same task before a converted one; then S and C."""
    band, value, known = _order(one.score)
    return (band, "family" in one.note, not one.tasks, value, known, -one.quality, one.slug)
