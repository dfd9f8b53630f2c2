"""A bundle's summary as lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fusion.baseline.document import PRIMARY_NAMES, figures_of, verdict_words, why_no_figure

SMALL_CASES = 20


def summary_lines(title: str, build: str, summary: Mapping[str, Any]) -> Iterator[str]:
    """Sources, cases in, used and excluded with reasons, splits, the fused figure per source."""
    yield f"{title}: {summary['cases']} cases, {', '.join(summary['concepts'])} ({build} build)"
    if summary["cases"] < SMALL_CASES:
        yield "a small sample: it shows the path, not a result"
    baseline = summary.get("baseline") or {}
    figure = PRIMARY_NAMES[baseline.get("metric", "dice")]
    yield f"{'source':<12}{'in':>6}{'used':>6}  {'excluded':<28}{figure}"
    for source in summary["sources"]:
        excluded = ", ".join(f"{code} {n}" for code, n in source["excluded"].items()) or "none"
        found = ", ".join(f"{c} {value:.2f}" for c, value in figures_of(baseline, source["id"]))
        yield (
            f"{source['id']:<12}{source['cases_in']:>6}{source['used']:>6}  {excluded:<28}"
            f"{found or why_no_figure(baseline, source['id'])}"
        )
    for split, counts in summary["splits"].items():
        yield f"{split:<12}" + ", ".join(f"{source} {n}" for source, n in counts.items())
    yield f"baseline verdict: {verdict_words(baseline)}"
