#!/usr/bin/env python
"""Time suggestions while typing: ours, Elasticsearch's completion, a plain Python scan.

    scripts/bench_suggest.py [--scale N ...] [--rounds R] [--million]

Every beginning of some questions, one keystroke after the other, over the shipped records, repeated
until there are N. "ours" answers each keystroke anew; "remembered" is what the portal serves, which
keeps answers. Suggestions come from memory on either search engine; "completion" is what the server
would give for the same names and terms, with slips, when IMAGINGX_TEST_SEARCH_URL is set. It
completes whole names from their beginning and knows nothing of words before.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import secrets
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count, islice
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")

import django

django.setup()

from elasticsearch import Elasticsearch  # noqa: E402
from elasticsearch.helpers import bulk  # noqa: E402

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
SCALES = (0, 100_000)
MILLION = 1_000_000
Times = dict[str, list[float]]


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


@contextmanager
def completion(rows: list[dict[str, Any]], url: str) -> Iterator[Callable[[str], int]]:
    """An index of names and terms on the server, for as long as it is needed."""
    client = Elasticsearch(url, request_timeout=60)
    name = f"imagingx-bench-{secrets.token_hex(4)}"
    names = {n for row in rows for n in (row["name"], *row["aliases"])}
    terms = {w for facet in CARRIED for term in vocab.terms(facet).values() for w in term.words}
    field = {"type": "completion", "analyzer": "simple"}
    client.indices.create(index=name, mappings={"properties": {"phrase": field}})
    try:
        actions = ({"_index": name, "phrase": phrase} for phrase in sorted(names | terms))
        bulk(client, actions, chunk_size=5000, refresh=True)

        def ask(text: str) -> int:
            fuzzy = {"field": "phrase", "size": LIMIT, "fuzzy": {}, "skip_duplicates": True}
            asked = {"phrase": {"prefix": text, "completion": fuzzy}}
            answer = client.search(index=name, suggest=asked)
            return len(answer["suggest"]["phrase"][0]["options"])

        yield ask
    finally:
        client.indices.delete(index=name)


def measure(candidates: dict[str, Callable[[str], int]], rounds: int, slow: str) -> Times:
    """Microseconds per keystroke; the first round warms up. A slow one answers one round."""
    times: Times = {name: [] for name in candidates}
    names = list(candidates)
    for turn in range(rounds + 1):
        for place, text in enumerate(KEYSTROKES):
            start_with = (turn + place) % len(names)
            for name in names[start_with:] + names[:start_with]:
                if name == slow and turn != 1:
                    continue
                start = time.perf_counter()
                candidates[name](text)
                if turn:
                    times[name].append((time.perf_counter() - start) * 1e6)
    return times


def run(number: int, rounds: int) -> None:
    rows = scaled(number)
    start = time.perf_counter()
    suggester = Suggester(rows)
    print(f"\n{len(rows):,} datasets, suggestions ready in {time.perf_counter() - start:.1f} s")
    anew = suggester._suggest  # noqa: SLF001 - what is timed is the work, not the memory
    candidates = {
        "ours": lambda text: len(anew(text, LIMIT)),
        "remembered": lambda text: len(suggester.suggest(text)),
        "Python scan": scan(rows),
    }
    with ExitStack() as stack:
        if url := os.environ.get("IMAGINGX_TEST_SEARCH_URL"):
            candidates["completion"] = stack.enter_context(completion(rows, url))
        gc.collect()
        gc.freeze()  # the rows held for the scan are no part of a suggestion
        slow = "Python scan" if len(rows) >= SCALES[1] else ""
        times = measure(candidates, rounds, slow)
    base = statistics.median(times["ours"])
    print(f"{'candidate':<12} {'p50 us':>9} {'p95 us':>9} {'x ours':>8}")
    for name, row in times.items():
        p50, p95 = statistics.median(row), statistics.quantiles(row, n=20)[18]
        print(f"{name:<12} {p50:>9.1f} {p95:>9.1f} {p50 / base:>8.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--scale", type=int, nargs="+", default=SCALES, metavar="N",
                        help="datasets (0: the catalog as it is)")  # fmt: skip
    parser.add_argument("--rounds", type=int, default=3, metavar="R")
    parser.add_argument("--million", action="store_true", help=f"{MILLION:,} datasets too")
    options = parser.parse_args()
    logging.getLogger("elastic_transport").setLevel(logging.WARNING)
    for number in (*options.scale, *([MILLION] if options.million else [])):
        run(number, options.rounds)


if __name__ == "__main__":
    main()
