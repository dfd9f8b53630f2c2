#!/usr/bin/env python
"""Time a search with seven facets: ours on each engine, bare tantivy, a plain Python scan.

    scripts/bench_search.py [--scale N] [--rounds R]

The shipped records, repeated until there are N. All candidates run one after the other on each
question. Elasticsearch takes part when IMAGINGX_TEST_SEARCH_URL is set.
"""

from __future__ import annotations

import argparse
import logging
import os
import secrets
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count, islice
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")

import django

django.setup()

import tantivy  # noqa: E402

from catalog.collection import read_catalog  # noqa: E402
from catalog.models import Dataset  # noqa: E402
from catalog.search.documents import Document, document  # noqa: E402
from catalog.search.elastic import ElasticEngine  # noqa: E402
from catalog.search.embedded import SCHEMA, EmbeddedEngine, open_searcher  # noqa: E402
from catalog.search.engine import search  # noqa: E402
from catalog.search.facets import FACETS  # noqa: E402
from catalog.search.query import Query  # noqa: E402
from catalog.search.words import words  # noqa: E402
from catalog.services import dataset_values  # noqa: E402

QUESTIONS = (
    "brain mri segmentation", "chest xray", "tuberculsis chst xray", "lung ct", "retinal vessels",
    "BraTS", "kaggle dermoscopy", "hippocamps", "prostate", "covid 19 ct", "liver tumor 3d",
    "isic", "cell microscopy", "ultrasound breast", "colon polyp endoscopy",
)  # fmt: skip
LIMIT = 20


def scaled(number: int) -> list[Document]:
    """The shipped records as documents, repeated under other slugs until there are `number`."""
    records = read_catalog().values()
    base = [document(Dataset(**dataset_values(record))) for record in records]
    copies: Iterator[Document] = (
        item if turn == 0 else replace(item, slug=f"{item.slug}-{turn}")
        for turn in count()
        for item in base
    )
    return list(islice(copies, number or len(base)))


def scan(documents: list[Document]) -> Callable[[str], int]:
    """All words as they are, anywhere in a document's text; facet counts by Counter."""
    rows = [(" ".join(item.text), item) for item in documents]

    def ask(text: str) -> int:
        wanted = words(text)
        found = [item for line, item in rows if all(word in line for word in wanted)]
        counts = {facet: Counter(v for d in found for v in d.values[facet]) for facet in FACETS}
        return len(found) + 0 * len(counts)

    return ask


def bare_tantivy(folder: Path) -> Callable[[str], int]:
    """The same index asked directly: all words, 20 hits, seven term counts; nothing understood."""
    searcher = open_searcher(folder)
    counts = {facet: {"terms": {"field": facet, "size": 1000}} for facet in FACETS}
    query = tantivy.Query

    def ask(text: str) -> int:
        terms = [query.term_query(SCHEMA, "text", word, "freq") for word in words(text)]
        asked = query.boolean_query([(tantivy.Occur.Must, term) for term in terms])
        found = searcher.search(asked, LIMIT, weight_by_field="quality")
        searcher.aggregate(asked, counts)
        for _, address in found.hits:
            searcher.doc(address)
        return int(found.count)

    return ask


def measure(candidates: dict[str, Callable[[str], int]], rounds: int) -> dict[str, list[float]]:
    """Milliseconds per question; the first round warms up."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for turn in range(rounds + 1):
        for text in QUESTIONS:
            for name, ask in candidates.items():
                start = time.perf_counter()
                ask(text)
                if turn:
                    times[name].append((time.perf_counter() - start) * 1000)
    return times


def ours(engine: Any) -> Callable[[str], int]:
    return lambda text: search(Query(text=text, limit=LIMIT), using=engine).total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--scale", type=int, default=0, metavar="N", help="documents (0: as is)")
    parser.add_argument("--rounds", type=int, default=20, metavar="R")
    options = parser.parse_args()
    logging.getLogger("elastic_transport").setLevel(logging.WARNING)
    documents = scaled(options.scale)
    with tempfile.TemporaryDirectory() as folder:
        embedded = EmbeddedEngine(Path(folder), lambda: "bench", lambda: documents)
        start = time.perf_counter()
        embedded.refresh()
        print(f"{len(documents)} documents, tantivy index in {time.perf_counter() - start:.2f} s")
        candidates = {
            "embedded": ours(embedded),
            "bare tantivy": bare_tantivy(Path(folder) / "bench"),
            "Python scan": scan(documents),
        }
        if url := os.environ.get("IMAGINGX_TEST_SEARCH_URL"):
            alias = f"imagingx-bench-{secrets.token_hex(4)}"
            elastic = ElasticEngine(url, alias, lambda: "bench", lambda: documents)
            elastic.refresh()
            candidates["elasticsearch"] = ours(elastic)
        try:
            report(measure(candidates, options.rounds))
        finally:
            if url:
                elastic.drop()


def report(times: dict[str, list[float]]) -> None:
    base = statistics.median(times["embedded"])
    print(f"{'candidate':<14} {'p50 ms':>8} {'p95 ms':>8} {'x embedded':>11}")
    for name, row in times.items():
        p50, p95 = statistics.median(row), statistics.quantiles(row, n=20)[18]
        print(f"{name:<14} {p50:>8.2f} {p95:>8.2f} {p50 / base:>11.2f}")


if __name__ == "__main__":
    main()
