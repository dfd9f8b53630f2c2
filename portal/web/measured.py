"""What the report stage measured, in words for a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def measured(found: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """`found` as `fusion.report` gives its overview; None while nothing was measured."""
    if not found:
        return None
    return {
        "sources": [
            {
                "id": row["id"],
                "cases": row["cases"],
                "subjects": row["subjects"],
                "types": _counted(row["dtype"]),
                "orientation": _counted(row["orientation"]),
                "spacing": _change(row["spacing_mm_before"], row["spacing_mm_after"], " mm"),
                "size": _change(row["size_before"], row["size_after"]),
            }
            for row in found["sources"]
        ],
        "is_3d": any(row["spacing_mm_before"] for row in found["sources"]),
        "fit": found["fit"],
    }


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{word} ({number:,})" for word, number in counts.items())


def _change(before: Sequence[float] | None, after: Sequence[float] | None, unit: str = "") -> str:
    """The median, and what became of it where it changed."""
    first, second = (product(one, unit) for one in (before, after))
    return first if first == second or not second else f"{first} → {second}"


def product(values: Sequence[float] | None, unit: str = "") -> str:
    """Sizes along the axes; empty where they are not known."""
    return " \u00d7 ".join(f"{value:.4g}" for value in values) + unit if values else ""
