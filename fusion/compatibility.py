"""How well datasets fit together, as far as the catalog knows. Pure; ranking only.

Each part of the score lies in 0-1 or is unknown. S is the weighted mean of the known parts, C the
weight that is known. The score never overrules an eligibility rule.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from itertools import combinations
from types import MappingProxyType
from typing import Any, Literal

from catalog import concepts, vocab
from fusion.alignment import concepts_of

Facts = Mapping[str, Any]
Band = Literal["recommended", "possible", "unlikely", "not enough metadata"]
WEIGHTS: Mapping[str, float] = MappingProxyType(
    {
        "modality": 0.20, "anatomy": 0.15, "labels": 0.25, "geometry": 0.10,
        "acquisition": 0.10, "population": 0.10, "annotation": 0.10,
    }
)  # fmt: skip
RECOMMENDED_S, RECOMMENDED_C, POSSIBLE_S, ENOUGH_C = 0.70, 0.60, 0.40, 0.40
ANNOTATION = MappingProxyType({"manual": 1.0, "corrected": 0.7, "text-mined": 0.4, "pseudo": 0.2})
NOT_RECORDED = "the catalog does not record it"
FARTHEST = 2  # steps between concepts that still count as alike


@dataclass(frozen=True)
class Part:
    """One component; `value` is None when it is unknown, `why` says what it was made from."""

    name: str
    weight: float
    value: float | None
    why: str


@dataclass(frozen=True)
class Score:
    """S and C of two datasets with every part."""

    a: str
    b: str
    parts: tuple[Part, ...]

    @property
    def known(self) -> float:
        """C: the weight of what is known, 0-1."""
        return round(sum(part.weight for part in self.parts if part.value is not None), 4)

    @property
    def value(self) -> float | None:
        """S, 0-1; None when nothing is known."""
        total = sum(part.weight for part in self.parts if part.value is not None)
        if total == 0:
            return None
        return round(sum(p.weight * p.value for p in self.parts if p.value is not None) / total, 4)

    @property
    def band(self) -> Band:
        return band(self.value, self.known)

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "S": self.value, "C": self.known, "band": self.band}


def band(value: float | None, known: float) -> Band:
    """What S and C come to in words."""
    if value is None or known < ENOUGH_C:
        return "not enough metadata"
    if value >= RECOMMENDED_S and known >= RECOMMENDED_C:
        return "recommended"
    return "possible" if value >= POSSIBLE_S else "unlikely"


def scores(datasets: Sequence[Facts], weights: Mapping[str, float] = WEIGHTS) -> tuple[Score, ...]:
    """Every pair."""
    return tuple(score(a, b, weights) for a, b in combinations(datasets, 2))


def score(a: Facts, b: Facts, weights: Mapping[str, float] = WEIGHTS) -> Score:
    """Two datasets of the catalog."""
    found = {
        "modality": _modality(a, b),
        "anatomy": _anatomy(a, b),
        "labels": _labels(a, b),
        "geometry": _geometry(a, b),
        "acquisition": (None, NOT_RECORDED),
        "population": _population(a, b),
        "annotation": _annotation(a, b),
    }
    parts = tuple(Part(name, weights[name], *found[name]) for name in weights)
    return Score(a["slug"], b["slug"], parts)


def _modality(a: Facts, b: Facts) -> tuple[float | None, str]:
    one, other = set(a["modalities"]), set(b["modalities"])
    if not one or not other:
        return None, "a modality is unknown"
    if not (shared := sorted(one & other)):
        return 0.0, f"{', '.join(sorted(one))} and {', '.join(sorted(other))}"
    details = set(a["modality_details"]) & set(b["modality_details"])
    if details:
        return 1.0, f"both {', '.join(sorted(details))}"
    return 0.5, f"both {', '.join(shared)}; sequence, phase or stain differ or are unknown"


def _anatomy(a: Facts, b: Facts) -> tuple[float | None, str]:
    one, other = regions(a["anatomies"]), regions(b["anatomies"])
    if not one or not other:
        return None, "an anatomy is unknown"
    shared = one & other
    why = f"both {', '.join(sorted(shared))}" if shared else "no region in common"
    return round(len(shared) / min(len(one), len(other)), 4), why


def regions(anatomies: Iterable[str]) -> frozenset[str]:
    """Anatomies with the regions that hold them."""
    return frozenset(up for name in anatomies for up in (name, *vocab.ancestors("anatomy", name)))


def _labels(a: Facts, b: Facts) -> tuple[float | None, str]:
    one, other = concepts_of(a["classes"]), concepts_of(b["classes"])
    if not one or not other:
        return None, "the classes of one are unknown or mean no known concept"
    value = likeness(one, other)
    shared = [concepts.concept(one).label for one in sorted(one & other)]
    return value, f"both {', '.join(shared)}" if shared else "no class means the same"


def likeness(one: Iterable[str], other: Iterable[str]) -> float:
    """Two sets of concepts: the mean over each of its best match in the other, 0-1."""
    first, second = sorted(one), sorted(other)
    there = sum(max(near(x, y) for y in second) for x in first) / len(first)
    back = sum(max(near(x, y) for y in first) for x in second) / len(second)
    return round((there + back) / 2, 4)


@cache
def near(one: str, other: str) -> float:
    """1 for one concept, half for each step up or down, 0 beyond two steps."""
    if one == other:
        return 1.0
    steps = [
        above[end]
        for above, end in ((concepts.ancestors(one), other), (concepts.ancestors(other), one))
        if end in above
    ]
    return 0.5 ** min(steps) if steps and min(steps) <= FARTHEST else 0.0


def _geometry(a: Facts, b: Facts) -> tuple[float | None, str]:
    one, other = ((facts["spacing"] or {}).get("median_mm") for facts in (a, b))
    if not one or not other or len(one) != len(other):
        return None, "a median voxel size is unknown"
    # Sources list the axes in different orders; sorted, they can be set beside each other.
    logs = [abs(math.log(x / y)) for x, y in zip(sorted(one), sorted(other), strict=True)]
    return round(math.exp(-sum(logs) / len(logs)), 4), f"{_mm(one)} and {_mm(other)}"


def _mm(spacing: Sequence[float]) -> str:
    return " x ".join(f"{size:g}" for size in spacing) + " mm"


def _population(a: Facts, b: Facts) -> tuple[float | None, str]:
    """How often each class occurs, where files were counted; age, sex and country are unknown."""
    one, other = (facts.get("prevalence") or {} for facts in (a, b))
    if not (shared := sorted(one.keys() & other.keys())):
        return None, NOT_RECORDED
    alike = [1 - math.sqrt(_divergence(one[c], other[c])) for c in shared]
    seen = ", ".join(f"{c} in {one[c]:.0%} and {other[c]:.0%}" for c in shared)
    return round(sum(alike) / len(alike), 4), f"share of cases: {seen}"


def _divergence(p: float, q: float) -> float:
    """Jensen-Shannon divergence of two coins in bits, 0-1."""

    def entropy(x: float) -> float:
        return -sum(y * math.log2(y) for y in (x, 1 - x) if y > 0)

    return max(0.0, entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2)


def _annotation(a: Facts, b: Facts) -> tuple[float | None, str]:
    made = [facts["annotation"] for facts in (a, b)]
    values = [ANNOTATION.get(how or "") for how in made]
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None, "how one was labelled is unknown"
    return min(known), f"labelled: {made[0]}, {made[1]}"
