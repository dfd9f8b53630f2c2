#!/usr/bin/env python
"""Time suggestions while typing: ours against a plain Python scan over the same names.

    scripts/bench_suggest.py [--scale N] [--rounds R]

Every beginning of some questions, one keystroke after the other. "ours" answers each keystroke
anew; "remembered" is what the portal serves, which keeps answers. The shipped records, repeated
until there are N.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")

import django

django.setup()

from catalog import vocab  # noqa: E402
from catalog.collection import read_catalog  # noqa: E402
from catalog.search.suggest import CARRIED, LIMIT, Suggester  # noqa: E402
from catalog.search.words import fold  # noqa: E402

QUESTIONS = (
    "brain MR segmentation", "lung nodule CT", "retinal vessels", "tuberculosis chest x-ray",
    "kits19", "brats 2021", "lidc-idri", "cardiac ultrasound video", "liver CT", "tuberculsis",
    "prostate MR", "skin lesion dermoscopy", "covid-19 ct",
)  # fmt: skip
KEYSTROKES = tuple(text[:end] for text in QUESTIONS for end in range(1, len(text) + 1))


def scaled(number: int) -> list[dict[str, Any]]:
    """The shipped records, repeated under other slugs and names until there are `number`."""
    base = list(read_catalog().values())
    copies: Iterator[dict[str, Any]] = (
        facts
        if turn == 0
        else {**facts, "slug": f"{facts['slug']}-{turn}", "name": f"{facts['name']} {turn}"}
        for turn in count()
        for facts in base
    )
    return list(islice(copies, number or len(base)))


def scan(rows: list[dict[str, Any]]) -> Callable[[str], int]:
    """All names, aliases and terms that hold what was typed at the beginning of a word.

    It knows no slips, keeps no words before, and has its counts ready.
    """
    phrases = [(f" {fold(n)}", row["slug"]) for row in rows for n in (row["name"], *row["aliases"])]
    words = [
        (f" {fold(word)}", term.name)
        for facet in CARRIED
        for term in vocab.terms(facet).values()
        for word in term.words
    ]

    def ask(text: str) -> int:
        typed = f" {fold(text)}"
        found = [
            (phrase.find(typed) > 0, len(phrase), owner)
            for phrase, owner in (*words, *phrases)
            if typed in phrase
        ]
        return len(sorted(found)[:LIMIT])

    return ask


def measure(candidates: dict[str, Callable[[str], int]], rounds: int) -> dict[str, list[float]]:
    """Microseconds per keystroke; the first round warms up."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for turn in range(rounds + 1):
        for text in KEYSTROKES:
            for name, ask in candidates.items():
                start = time.perf_counter()
                ask(text)
                if turn:
                    times[name].append((time.perf_counter() - start) * 1e6)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--scale", type=int, default=0, metavar="N", help="datasets (0: as is)")
    parser.add_argument("--rounds", type=int, default=3, metavar="R")
    options = parser.parse_args()
    rows = scaled(options.scale)
    start = time.perf_counter()
    suggester = Suggester(rows)
    print(f"{len(rows)} datasets, suggestions ready in {time.perf_counter() - start:.2f} s")
    anew = suggester._suggest  # noqa: SLF001 - what is timed is the work, not the memory
    times = measure(
        {
            "ours": lambda text: len(anew(text, LIMIT)),
            "remembered": lambda text: len(suggester.suggest(text)),
            "Python scan": scan(rows),
        },
        options.rounds,
    )
    base = statistics.median(times["ours"])
    print(f"{'candidate':<12} {'p50 us':>9} {'p95 us':>9} {'x ours':>8}")
    for name, row in times.items():
        p50, p95 = statistics.median(row), statistics.quantiles(row, n=20)[18]
        print(f"{name:<12} {p50:>9.1f} {p95:>9.1f} {p50 / base:>8.2f}")


if __name__ == "__main__":
    main()
