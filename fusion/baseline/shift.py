"""How far sources lie apart, as a classifier sees it, and whether that goes with the labels.

The classifier guesses the source of a case from a small picture of it. What it can tell, a network
can use in place of the disease.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fusion.harmonise import THUMB_FILE
from fusion.imaging.hashes import read_thumb
from fusion.imaging.io import read_image
from fusion.imaging.resize import area_resized
from fusion.report.measure import normalised

Floats = npt.NDArray[np.float64]
Row = Mapping[str, Any]
Labels = Mapping[str, int]  # concept -> 1 or 0; concepts that nobody looked for are not in it
PERMUTATIONS, FOLDS, RIDGE = 999, 5, 0.3
FEWEST, MOST = 5, 100  # cases of a source: no index below, no more than
TILE, SHADES, SOLID, COLOURS = 16, 20, 3, 3
#: Above both, a network may learn the source in place of the label.
RISKY_SHIFT, RISKY_V = 0.5, 0.3


@dataclass(frozen=True)
class Seen:
    """One case for the classifier: its small pictures as plain vectors."""

    id: str
    source: str
    group: str
    labels: Labels
    before: Floats
    after: Floats


@dataclass(frozen=True)
class Index:
    """Shift index of one state; None with a reason.

    Attributes:
        accuracy: balanced over the sources, cross-validated by group.
        p: how often shuffled sources are told apart as well.
    """

    value: float | None
    accuracy: float | None = None
    p: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Shift:
    """Before and after harmonisation, on the same cases.

    Attributes:
        matched: each source shows each label as often; False where no label is in all of them.
        cases: of each source.
        association: bias-corrected Cramér's V of source and label, per concept and of all; None
            where all cases have the same label.
    """

    before: Index
    after: Index
    matched: bool
    cases: Mapping[str, int]
    association: Mapping[str, float | None]

    @property
    def strongest(self) -> tuple[float, str]:
        """The largest V, and of which concept; 0 without any."""
        known = ((v, name) for name, v in self.association.items() if v is not None)
        return max(known, key=lambda row: row[0], default=(0.0, ""))

    @property
    def risky(self) -> bool:
        """The rule for `shortcut_risk`."""
        return (self.after.value or 0.0) > RISKY_SHIFT and self.strongest[0] > RISKY_V

    def as_dict(self) -> dict[str, Any]:
        def row(index: Index) -> dict[str, Any]:
            numbers = {"value": index.value, "balanced_accuracy": index.accuracy, "p": index.p}
            return {k: v if v is None else round(v, 4) for k, v in numbers.items()} | {
                "reason": index.reason
            }

        return {
            "before": row(self.before),
            "after": row(self.after),
            "matched": self.matched,
            "n_cases": dict(self.cases),
            "cramers_v": {
                name: v if v is None else round(v, 4) for name, v in self.association.items()
            },
            "shortcut_risk": self.risky,
        }


def measure_shift(cases: Sequence[Seen], sources: Sequence[str], seed: int) -> Shift:
    """Index and association of the sources; with one source there is nothing to tell apart."""
    shared = _shared_concepts(cases, sources)
    kept = matched(cases, sources, shared, seed)
    is_matched = bool(kept)
    if not kept:
        kept = matched(cases, sources, [], seed)
    counts = {source: sum(case.source == source for case in kept) for source in sources}
    if len(sources) < 2:  # noqa: PLR2004
        none = Index(None, reason="one source only")
        return Shift(none, none, is_matched, counts, {})
    named = [case.source for case in kept]
    groups = [case.group for case in kept]
    found = []
    for state in ("before", "after"):
        features = np.array([getattr(case, state) for case in kept])
        found.append(shift_index(features, named, groups, seed))
    return Shift(found[0], found[1], is_matched, counts, _associations(cases, sources, shared))


def seen_cases(
    cases: Sequence[Row], folder: Path, thumbs: Path, task: str, concepts: Sequence[str]
) -> list[Seen]:
    """The cases as the classifier sees them.

    A grey image is its thumbnail, at the intensities of the original and at those that the
    manifest's normalisation gives to a trainer. Where a picture has colours all pictures are read
    again, the grey ones as three equal colours. What harmonising
    does to the grid does not show at this size: what it does to the intensities does.

    Args:
        cases: rows of the final case.json files.
        folder: holds a folder per case with the harmonised files.
        thumbs: holds a folder per case with the thumbnail of the original.
    """
    found = []
    colours = any(case["channels"] == COLOURS and len(case["shape"]) < SOLID for case in cases)
    for case in cases:
        pair = _vectors(case, folder / case["id"], thumbs / case["id"], colours=colours)
        if pair is not None:
            labels = _labels(case, task, concepts)
            found.append(Seen(case["id"], case["source"], case["group"], labels, *pair))
    return found


def _labels(case: Row, task: str, concepts: Sequence[str]) -> dict[str, int]:
    """Of classes, what is not said to be there counts as not there: E10 asks where it occurs."""
    if task == "classification":
        classes = case.get("classes") or {}
        return {concept: int(classes.get(concept) == 1) for concept in concepts}
    present = case.get("present") or {}
    return {c: int(present[c] > 0) for c in concepts if c in case["annotated"] and c in present}


def _vectors(
    case: Row, folder: Path, thumb: Path, *, colours: bool
) -> tuple[Floats, Floats] | None:
    """Before and after; None where a case keeps no intensities or thumbnail."""
    original, solid = (case.get("original") or case).get("intensity"), len(case["shape"]) == SOLID
    after = normalised(case) or case.get("intensity")
    if colours and not solid:
        file = next(folder / row["path"] for row in case["files"] if row["role"] == "image")
        array = np.atleast_3d(read_image(file).array)
        resized = area_resized(array, (TILE, TILE, array.shape[2])).astype(float)
        small = np.broadcast_to(resized, (TILE, TILE, COLOURS)).ravel()
        scale = after[-1] / case["intensity"][-1] if after and case.get("intensity") else 1.0
        return small, small * scale
    path = thumb / THUMB_FILE
    if not original or not after or not path.is_file():
        return None
    size = (TILE // 2, TILE // 2, TILE // 2) if solid else (TILE, TILE)
    small = area_resized(read_thumb(path, solid=solid), size).astype(float).ravel() / 255
    before, later = (_scaled(small, np.asarray(levels, float)) for levels in (original, after))
    return before, later


def _scaled(small: Floats, levels: Floats) -> Floats:
    """The thumbnail at these intensities, and the intensities themselves, as one vector.

    A thumbnail spans the 1st to the 99th percentile. Each part counts as much as the other.
    """
    low, high = levels[2], levels[-3]
    shades = levels[:: (len(levels) - 1) // SHADES]
    repeat = max(1, len(small) // len(shades))
    return np.concatenate([low + small * (high - low), np.repeat(shades, repeat)])


def _shared_concepts(cases: Sequence[Seen], sources: Sequence[str]) -> list[str]:
    """Concepts that every source says something about, in order of name."""
    known = [{c for case in cases if case.source == s for c in case.labels} for s in sources]
    return sorted(set.intersection(*known)) if known else []


def _signature(case: Seen, concepts: Sequence[str]) -> Hashable:
    return tuple(case.labels.get(concept, -1) for concept in concepts)


def matched(
    cases: Sequence[Seen], sources: Sequence[str], concepts: Sequence[str], seed: int
) -> list[Seen]:
    """As many cases of each source for each combination of labels, MOST of a source at most."""
    strata: dict[Hashable, dict[str, list[Seen]]] = defaultdict(lambda: defaultdict(list))
    for case in sorted(cases, key=lambda case: _draw(case.id, seed)):
        strata[_signature(case, concepts)][case.source].append(case)
    kept = []
    for found in strata.values():
        number = min(len(found.get(source, [])) for source in sources)
        kept += [(n, case) for source in sources for n, case in enumerate(found[source][:number])]
    # Rank by rank, so that a limit leaves the sources equal.
    ranks: dict[str, int] = Counter()
    limited = []
    for _, case in sorted(kept, key=lambda row: (row[0], _draw(row[1].id, seed))):
        ranks[case.source] += 1
        if ranks[case.source] <= MOST:
            limited.append(case)
    return sorted(limited, key=lambda case: case.id)


def _draw(text: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}\0{text}".encode()).hexdigest()


def _associations(
    cases: Sequence[Seen], sources: Sequence[str], concepts: Sequence[str]
) -> dict[str, float | None]:
    found = {c: _association(cases, sources, [c]) for c in concepts}
    if len(concepts) > 1:
        found["all together"] = _association(cases, sources, concepts)
    return found


def _association(
    cases: Sequence[Seen], sources: Sequence[str], concepts: Sequence[str]
) -> float | None:
    known = [case for case in cases if any(c in case.labels for c in concepts)]
    values = sorted({_signature(case, concepts) for case in known}, key=str)
    counts = Counter((case.source, _signature(case, concepts)) for case in known)
    return cramers_v(np.array([[counts[s, v] for v in values] for s in sources], float))


def cramers_v(table: Floats) -> float | None:
    """Cramér's V of a table of counts, corrected for its bias in small samples (Bergsma 2013).

    None for a single row or column: what never differs cannot go with anything.
    """
    table = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0]
    n, (r, c) = table.sum(), table.shape
    if min(r, c) < 2 or n < 2:  # noqa: PLR2004
        return None
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / n
    phi2 = float(((table - expected) ** 2 / expected).sum() / n)
    phi2 = max(0.0, phi2 - (r - 1) * (c - 1) / (n - 1))
    rows, columns = r - (r - 1) ** 2 / (n - 1), c - (c - 1) ** 2 / (n - 1)
    least = min(rows, columns) - 1
    return float(min(1.0, (phi2 / least) ** 0.5)) if least > 0 else None


def shift_index(
    features: Floats, sources: Sequence[str], groups: Sequence[str], seed: int
) -> Index:
    """max(0, (BA - 1/k) / (1 - 1/k)) of a kernel classifier of k sources, folds by group.

    Args:
        features: (N, P).
        sources: the truth.
        groups: never on both sides of a fold.
    """
    names, truth = np.unique(sources, return_inverse=True)
    if objection := _objection(sources, groups):
        return Index(None, reason=objection)
    folds = _folds(sources, groups, seed)
    guessers = _guessers(features, folds)
    accuracy = float(_accuracies(guessers, truth[:, None], len(names))[0])
    rng = np.random.default_rng(seed)
    shuffled = _shuffled(truth, groups, rng)
    as_good = _accuracies(guessers, shuffled, len(names)) >= accuracy - 1e-12
    chance = 1 / len(names)
    p = (1 + int(as_good.sum())) / (1 + PERMUTATIONS)
    return Index(max(0.0, (accuracy - chance) / (1 - chance)), accuracy, p)


def _objection(sources: Sequence[str], groups: Sequence[str]) -> str:
    counts = Counter(sources)
    if not counts or min(counts.values()) < FEWEST:
        few = ", ".join(f"{s} {n}" for s, n in sorted(counts.items())) or "none"
        return f"too few cases with labels that all sources show: {few}, at least {FEWEST} each"
    for source in sorted(counts):
        if len({g for s, g in zip(sources, groups, strict=True) if s == source}) == 1:
            return f"all cases of {source} are one group: they cannot be parted"
    return ""


def _folds(sources: Sequence[str], groups: Sequence[str], seed: int) -> npt.NDArray[np.intp]:
    """Fold of each case: the groups of each source are dealt in turn."""
    of: dict[str, int] = {}
    dealt: Counter[str] = Counter()
    for group, source in sorted(
        dict(zip(groups, sources, strict=True)).items(), key=lambda row: _draw(row[0], seed)
    ):
        of[group] = dealt[source] % FOLDS
        dealt[source] += 1
    return np.array([of[group] for group in groups])


Guesser = tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], Floats]


def _guessers(features: Floats, folds: npt.NDArray[np.intp]) -> list[Guesser]:
    """Per fold its test cases, its training cases, and what takes truths of these to those.

    Kernel ridge is linear in the truths, so that shuffling them costs one product.
    """
    kernel = _kernel(features)
    found = []
    for fold in np.unique(folds):
        test, train = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
        if len(train):
            inner = kernel[np.ix_(train, train)] + RIDGE * np.eye(len(train))
            weights = np.asarray(np.linalg.solve(inner, kernel[np.ix_(train, test)]).T, float)
            found.append((test, train, weights))
    return found


def _kernel(features: Floats) -> Floats:
    """Gaussian, as wide as the median distance, of features brought to one spread."""
    spread = features.std(axis=0)
    scaled = (features - features.mean(axis=0)) / np.where(spread > 0, spread, 1)
    square = (scaled**2).sum(axis=1)
    distance = np.maximum(square[:, None] + square[None] - 2 * scaled @ scaled.T, 0)
    middle = float(np.median(distance[np.triu_indices(len(distance), 1)])) or 1.0
    kernel: Floats = np.exp(-distance / middle)
    return kernel


def _accuracies(guessers: Sequence[Guesser], truths: npt.NDArray[np.intp], count: int) -> Floats:
    """Balanced accuracy of each column of (N, R) truths."""
    guessed = np.zeros_like(truths)
    for test, train, weights in guessers:
        scores = [weights @ (2.0 * (truths[train] == one) - 1) for one in range(count)]
        guessed[test] = np.argmax(scores, axis=0)
    hits = guessed == truths
    recalls = [
        np.divide((hits & (truths == one)).sum(axis=0), np.maximum((truths == one).sum(axis=0), 1))
        for one in range(count)
    ]
    return np.asarray(np.mean(recalls, axis=0))


def _shuffled(
    truth: npt.NDArray[np.intp], groups: Sequence[str], rng: np.random.Generator
) -> npt.NDArray[np.intp]:
    """(N, PERMUTATIONS): sources exchanged between whole groups."""
    names, place = np.unique(groups, return_inverse=True)
    of_group = np.zeros(len(names), np.intp)
    of_group[place] = truth
    columns = [rng.permutation(of_group)[place] for _ in range(PERMUTATIONS)]
    return np.stack(columns, axis=1)
