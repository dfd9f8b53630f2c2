"""What the report tells of the cases: shifts of labels, outliers, mixed histograms. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from fusion.fingerprint import HIGH, LOW, MEDIAN, in_ras, shares, volumes

Row = Mapping[str, Any]
Floats = npt.NDArray[np.float64]
#: Largest distance of two cumulative distributions that is no shift.
SHIFT = 0.5
#: With fewer cases than this in a source, a shift must also be unlikely by chance.
ENOUGH, CHANCE = 5, 0.05
MOST_EXACT = 1_000_000
#: Robust z from which a case is an outlier, and the most that are shown.
FAR, MOST_OUTLIERS = 3.5, 20
FARTHEST = 999.0
#: Spread below which two cases of a source count as alike, in logarithms (shares of 1).
FLOORS = {"volume": 0.1, "contrast": 0.1, "brightness": 0.05, "spacing": 0.05, "extent": 0.1}
CODES = {
    "volume": "volume_outlier",
    "contrast": "intensity_outlier",
    "brightness": "intensity_outlier",
    "spacing": "geometry_outlier",
    "extent": "geometry_outlier",
}
BINS = 48


def chosen(cases: Sequence[Row], number: int) -> list[Row]:
    """The cases whose ids have the smallest hashes: a sample that nobody picked."""
    return sorted(cases, key=lambda case: sha256(str(case["id"]).encode()).hexdigest())[:number]


def sizes(cases: Iterable[Row], concept: str) -> list[float]:
    """What `fusion.fingerprint.shares` says of each case that shows the concept, sorted."""
    found = (shares(case).get(concept, 0.0) for case in cases)
    return sorted(size for size in found if size > 0)


def label_shifts(
    by_source: Mapping[str, Sequence[Row]], concepts: Iterable[str]
) -> list[dict[str, Any]]:
    """Per concept and pair of sources, how far the distributions of sizes lie apart (KS, 0-1)."""
    rows = []
    for concept in concepts:
        found = {source: sizes(cases, concept) for source, cases in by_source.items()}
        for a, b in combinations([source for source, values in found.items() if values], 2):
            statistic, p = _kolmogorov_smirnov(found[a], found[b])
            few = min(len(found[a]), len(found[b])) < ENOUGH
            rows.append(
                {
                    "concept": concept,
                    "a": a,
                    "b": b,
                    "n": [len(found[a]), len(found[b])],
                    "medians": [float(np.median(found[s])) for s in (a, b)],
                    "ks": round(statistic, 4),
                    "p": float(f"{p:.3g}"),
                    "shifted": statistic > SHIFT and (not few or p < CHANCE),
                }
            )
    return rows


def _kolmogorov_smirnov(one: Sequence[float], other: Sequence[float]) -> tuple[float, float]:
    from scipy.stats import ks_2samp

    exact = len(one) * len(other) < MOST_EXACT
    found = ks_2samp(one, other, method="exact" if exact else "asymp")
    return float(found.statistic), float(found.pvalue)


def outliers(by_source: Mapping[str, Sequence[Row]]) -> list[dict[str, Any]]:
    """Cases far from the others of their source, each once, the farthest of each kind first.

    Robust z = 0.6745 (x - median) / MAD of logarithms; sources of fewer than ENOUGH cases have
    none.
    """
    rows = []
    for cases in by_source.values():
        if len(cases) < ENOUGH:
            continue
        reasons: dict[str, list[tuple[float, str, str]]] = {}
        for kind, what, values in _features(cases):
            known = [value for value in values if value is not None]
            if len(known) < ENOUGH:
                continue
            middle = float(np.median(known))
            mad = max(float(np.median(np.abs(np.array(known) - middle))), FLOORS[kind])
            for case, value in zip(cases, values, strict=True):
                z = 0.6745 * (value - middle) / mad if value is not None else 0.0
                if abs(z) > FAR:
                    why = f"{what} {_times(kind, value, middle)}"
                    reasons.setdefault(case["id"], []).append((min(abs(z), FARTHEST), kind, why))
        rows += [_outlier(case, reasons[case["id"]]) for case in cases if case["id"] in reasons]
    return _in_turn(sorted(rows, key=lambda row: (-row["z"], row["id"])))[:MOST_OUTLIERS]


def _in_turn(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The farthest of each kind, then the second of each: no kind crowds the others out."""
    places: dict[str, int] = {}
    ranked = []
    for row in rows:
        places[row["code"]] = places.get(row["code"], 0) + 1
        ranked.append((places[row["code"]], row))
    return [row for _, row in sorted(ranked, key=lambda pair: pair[0])]


def _outlier(case: Row, reasons: Iterable[tuple[float, str, str]]) -> dict[str, Any]:
    ranked = sorted(reasons, key=lambda row: (-row[0], row[2]))
    z, kind, _ = ranked[0]
    return {
        "id": case["id"],
        "source": case["source"],
        "name": case["name"],
        "z": round(z, 1),
        "code": CODES[kind],
        "why": [text for _, _, text in ranked],
    }


def _times(kind: str, value: float | None, middle: float) -> str:
    if kind == "brightness":
        return f"{value or 0.0:.0%}, the source's median {middle:.0%}"
    return f"{math.exp((value or 0.0) - middle):.3g} times the source's median"


def _features(cases: Sequence[Row]) -> list[tuple[str, str, list[float | None]]]:
    """(kind, in words, one logarithm per case or None)."""
    per_case = [shares(case) for case in cases]
    found: list[tuple[str, str, list[float | None]]] = [
        ("volume", f"size of {concept}", [_log(row.get(concept)) for row in per_case])
        for concept in dict.fromkeys(c for row in per_case for c in row)
    ]
    levels = [_levels(case) for case in cases]
    widths = [row[HIGH] - row[LOW] if row else None for row in levels]
    found.append(("contrast", "span of intensities", [_log(width) for width in widths]))
    middles = [
        (row[MEDIAN] - row[LOW]) / width if row and width else None
        for row, width in zip(levels, widths, strict=True)
    ]
    found.append(("brightness", "median intensity within its span", middles))
    first = [case.get("original") or case for case in cases]
    for axis, name in enumerate(("right-left", "front-back", "up-down")):
        spacing = [
            in_ras(r["spacing_mm"], r["axcodes"]) if r["spacing_mm"] else None for r in first
        ]
        found.append(
            ("spacing", f"voxel size {name}", [_log(s[axis]) if s else None for s in spacing])
        )
        extent = [
            s[axis] * in_ras(r["shape"], r["axcodes"])[axis] if s else None
            for s, r in zip(spacing, first, strict=True)
        ]
        found.append(("extent", f"field of view {name}", [_log(e) for e in extent]))
    for axis, name in enumerate(("height", "width")):
        flat = [None if r["spacing_mm"] else r["shape"][axis] for r in first]
        found.append(("extent", name, [_log(n) for n in flat]))
    return found


def _levels(case: Row) -> Sequence[float] | None:
    found: Sequence[float] | None = (case.get("original") or case).get("intensity")
    return found


def _log(value: float | None) -> float | None:
    return math.log(value) if value and value > 0 else None


def mixed(levels: Sequence[Sequence[float]], edges: Floats) -> Floats:
    """Share of all voxels per bin, each case counting alike: (len(edges) - 1,), sum 1.

    Args:
        levels: per case its quantiles, evenly spaced from 0 to 1.
        edges: rising; what lies outside counts to the end bins.
    """
    total = np.zeros(len(edges) - 1)
    for row in levels:
        below = np.interp(edges, row, np.linspace(0, 1, len(row)))
        below[0], below[-1] = 0.0, 1.0
        total += np.diff(below)
    return total / max(len(levels), 1)


def normalised(case: Row) -> list[float] | None:
    """The case's quantiles after the normalisation that the manifest gives; None without one.

    Of several folds and channels the first one's numbers.
    """
    norm, row = case.get("norm") or {}, case.get("intensity")
    params = norm.get("params")
    if isinstance(params, list):  # the quantiles are those of the first channel
        params = params[0]["params"]
    if not row or not params:
        return None
    if "by" in params:
        return [value / params["by"] for value in row]
    numbers = params if "mean" in params else next((p for p in params.values() if p), None)
    if not isinstance(numbers, Mapping):
        return None
    clipped = np.clip(row, numbers["low"], numbers["high"])
    return [float(value) for value in (clipped - numbers["mean"]) / numbers["std"]]


def axis_of(levels: Sequence[Sequence[float]]) -> tuple[Floats, bool]:
    """Edges of BINS bins over the middle 99 % of all cases, and whether they are logarithmic.

    Logarithmic (by asinh, so that 0 and negative values have a place) where the span is more than
    20 times the middle half.
    """
    pooled = np.sort(np.concatenate([np.asarray(row, float) for row in levels]))
    low, first, third, high = np.quantile(pooled, [0.005, 0.25, 0.75, 0.995])
    if high <= low:
        low, high = float(pooled[0]), max(float(pooled[-1]), float(pooled[0]) + 1)
    scale = third - first
    if scale > 0 and high - low > 20 * scale:
        edges = np.sinh(np.linspace(np.arcsinh(low / scale), np.arcsinh(high / scale), BINS + 1))
        return edges * scale, True
    return np.linspace(low, high, BINS + 1), False


def boxes(values: Sequence[float]) -> list[float]:
    """Smallest, quartiles, largest."""
    return [float(v) for v in np.quantile(values, [0, 0.25, 0.5, 0.75, 1])]


def roundtrips(
    by_source: Mapping[str, Sequence[Row]], concepts: Sequence[str]
) -> list[dict[str, Any]]:
    """Dice of labels taken to the target grid and back, per concept and source."""
    rows = []
    for concept in concepts:
        for source, cases in by_source.items():
            found = [
                r["dice"] for case in cases if (r := (case.get("roundtrip") or {}).get(concept))
            ]
            if found:
                low = sum("low_roundtrip" in case["flags"] for case in cases)
                spread = {"min": min(found), "median": float(np.median(found)), "max": max(found)}
                rows.append(
                    {
                        "concept": concept,
                        "source": source,
                        "n": len(found),
                        "dice": spread,
                        "flagged": low,
                    }
                )
    return rows


def ignored_table(by_source: Mapping[str, Sequence[Row]]) -> list[dict[str, Any]]:
    """Per source how many label maps leave voxels out as not annotated, and which share of them."""
    rows = []
    for source, cases in by_source.items():
        shares_left = [c["ignored"] / math.prod(c["shape"]) for c in cases if "ignored" in c]
        some = [share for share in shares_left if share]
        if some:
            spread = [round(share, 6) for share in boxes(some)]
            row = {"source": source, "cases": len(shares_left), "some": len(some)}
            rows.append(row | {"share": spread})
    return rows


def volume_table(
    by_source: Mapping[str, Sequence[Row]], concepts: Sequence[str]
) -> list[dict[str, Any]]:
    """Absolute sizes per concept and source, mm3 or pixels, of the cases that show it."""
    rows = []
    for concept in concepts:
        for source, cases in by_source.items():
            looked = [case for case in cases if concept in case["annotated"] and case["present"]]
            found = [size for case in looked if (size := volumes(case).get(concept, 0.0)) > 0]
            if looked:
                rows.append(
                    {
                        "concept": concept,
                        "source": source,
                        "looked": len(looked),
                        "shown": len(found),
                        "unit": "mm3" if looked[0]["spacing_mm"] else "px",
                        "size": boxes(found) if found else None,
                    }
                )
    return rows
