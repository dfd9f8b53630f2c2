"""Bootstrap over groups: which groups stand in which resample, and what follows for a figure."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
RESAMPLES = 10_000
FEWEST_GROUPS = 20
LEVEL = 95.0
Interval = tuple[float, float]


@dataclass(frozen=True)
class Figure:
    """A number with its resamples, or why there is none.

    Attributes:
        value: of the sample itself; None with a reason.
        draws: (B,) of the same resamples as every other figure of this test source; those that
            leave it undefined are not a number.
        groups: how many groups were resampled; of a mean over sources the fewest.
    """

    value: float | None
    draws: Floats | None = None
    groups: int = 0
    reason: str = ""

    @property
    def interval(self) -> Interval | None:
        """95 % percentile interval; None where it would be unreliable or there is no figure."""
        if self.value is None or self.draws is None or self.groups < FEWEST_GROUPS:
            return None
        known = self.draws[~np.isnan(self.draws)]
        if not len(known):
            return None
        low, high = np.percentile(known, [(100 - LEVEL) / 2, (100 + LEVEL) / 2])
        return float(low), float(high)


def group_counts(
    groups: Sequence[str], seed: int, key: Iterable[str], resamples: int = RESAMPLES
) -> tuple[list[str], Floats]:
    """Names of the groups, and how often each was drawn: (B, G), the same for one seed and key."""
    names = sorted(set(groups))
    digest = hashlib.sha256("\0".join([str(seed), *sorted(key)]).encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
    share = np.full(len(names), 1 / len(names))
    return names, rng.multinomial(len(names), share, size=resamples).astype(float)


def difference(one: Figure, other: Figure) -> Figure:
    """Paired: `one` minus `other`, resample by resample."""
    if one.value is None or other.value is None or one.draws is None or other.draws is None:
        return Figure(None, reason=one.reason or other.reason)
    groups = min(one.groups, other.groups)
    return Figure(one.value - other.value, one.draws - other.draws, groups)


def largest(figures: Sequence[Figure]) -> Figure:
    """The best of several, resample by resample."""
    known = [f for f in figures if f.value is not None and f.draws is not None]
    if not known:
        return Figure(None, reason=next((f.reason for f in figures if f.reason), "no arm"))
    draws = np.stack([f.draws for f in known if f.draws is not None])
    missing = np.isnan(draws).all(axis=0)
    best = np.where(missing, np.nan, np.max(np.nan_to_num(draws, nan=-math.inf), axis=0))
    values = [f.value for f in known if f.value is not None]
    return Figure(max(values), best, min(f.groups for f in known))


def average(figures: Sequence[Figure]) -> Figure:
    """Mean of the figures that are there; without resamples where one of them has none."""
    known = [f for f in figures if f.value is not None]
    if not known:
        return Figure(None, reason=next((f.reason for f in figures if f.reason), "no figure"))
    value = float(np.mean([f.value for f in known if f.value is not None]))
    groups = min(f.groups for f in known)
    if any(f.draws is None for f in known):
        return Figure(value, groups=groups)
    draws = np.stack([f.draws for f in known if f.draws is not None])
    count = (~np.isnan(draws)).sum(axis=0)
    total = np.nansum(draws, axis=0)
    mean = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return Figure(value, mean, groups)
