"""A bundle's summary as a few lines of text for a terminal. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

FEW_CASES = 20


def summary_lines(title: str, build: str, summary: Mapping[str, Any]) -> Iterator[str]:
    """Sources, splits and the baseline's Dice of a built bundle.

    Args:
        title: the bundle's title.
        build: private or shareable.
        summary: what fusion.build.summarise returns.
    """
    yield ""
    yield f"{title}: {summary['cases']} cases, {', '.join(summary['concepts'])}"
    yield from table(
        ("source", "cases in", "used", "excluded", "licence of images", "of labels"),
        [_source_row(source) for source in summary["sources"]],
    )
    yield ""
    yield from table(
        ("split", "cases", "by source"),
        [_split_row(name, counts) for name, counts in sorted(summary["splits"].items())],
    )
    yield ""
    yield from _baseline_lines(summary["baseline"])
    if build == "private":
        yield "Private build: its files may not be passed on."
    if summary["cases"] < FEW_CASES:
        yield f"The sample is small ({summary['cases']} cases): it shows the way, not a result."


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Columns as wide as their widest cell."""
    lines = [head, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        yield "  ".join(cells).rstrip()


def _source_row(source: Mapping[str, Any]) -> tuple[str, ...]:
    excluded = ", ".join(f"{n} {code}" for code, n in sorted(source["excluded"].items()))
    licence = source["licence"]
    numbers = (str(source["cases_in"]), str(source["used"]))
    return (source["id"], *numbers, excluded or "none", licence["images"], licence["labels"])


def _split_row(name: str, counts: Mapping[str, int]) -> tuple[str, str, str]:
    parts = ", ".join(f"{source} {count}" for source, count in sorted(counts.items()))
    return name, str(sum(counts.values())), parts


def _baseline_lines(baseline: Mapping[str, Any] | None) -> Iterator[str]:
    if baseline is None:
        yield "baseline: none"
        return
    yield f"baseline ({baseline['tier']} tier): verdict {baseline['verdict']}"
    rows = [
        (source, concept, _figures(values), str(values.get("n_cases", "")))
        for source, by_concept in sorted(baseline.get("per_source", {}).items())
        for concept, values in sorted(by_concept.items())
        if isinstance(values, Mapping)
    ]
    if rows:
        yield from table(("tested on", "concept", "result", "cases"), rows)
    elif reason := baseline.get("reason"):
        yield f"  {reason}"


def _figures(values: Mapping[str, Any]) -> str:
    """Dice of masks, or whatever a classifier was measured by."""
    dice = values.get("dice_mean")
    if dice is not None:
        return f"Dice {dice:.3f}"
    numbers = [f"{name} {value:.3f}" for name, value in values.items() if isinstance(value, float)]
    return ", ".join(numbers) or "not measurable"
