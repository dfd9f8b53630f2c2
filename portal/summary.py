"""A bundle's summary as lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

SMALL_CASES = 20


def summary_lines(title: str, build: str, summary: Mapping[str, Any]) -> Iterator[str]:
    """Sources, cases in, used and excluded with reasons, splits, Dice per source."""
    yield f"{title}: {summary['cases']} cases, {', '.join(summary['concepts'])} ({build} build)"
    if summary["cases"] < SMALL_CASES:
        yield "a small sample: it shows the path, not a result"
    baseline = summary.get("baseline") or {}
    yield f"{'source':<12}{'in':>6}{'used':>6}  {'excluded':<28}Dice"
    for source in summary["sources"]:
        excluded = ", ".join(f"{code} {n}" for code, n in source["excluded"].items()) or "none"
        dice = ", ".join(_dice((baseline.get("per_source") or {}).get(source["id"])))
        yield (
            f"{source['id']:<12}{source['cases_in']:>6}{source['used']:>6}  {excluded:<28}"
            f"{dice or 'no test case'}"
        )
    for split, counts in summary["splits"].items():
        yield f"{split:<12}" + ", ".join(f"{source} {n}" for source, n in counts.items())
    yield f"baseline verdict: {baseline.get('verdict', 'not run')}"


def _dice(scores: object) -> Iterator[str]:
    for concept, row in scores.items() if isinstance(scores, Mapping) else ():
        if isinstance(row, Mapping) and row.get("dice_mean") is not None:
            yield f"{concept} {row['dice_mean']:.2f}"
