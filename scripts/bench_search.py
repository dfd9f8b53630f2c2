#!/usr/bin/env python
"""Time a search with nine facets on each engine, beside the engines asked bare and a Python scan.

    scripts/bench_search.py [--scale N ...] [--rounds R] [--million]

The shipped records, repeated until there are N. Every second question has a facet chosen. All
candidates answer each question in turn, in an order drawn anew each time: one that follows another
with the same question finds it in the processor's caches. Elasticsearch takes part when
IMAGINGX_TEST_SEARCH_URL is set. What the bare ones do:

- tantivy, exact / fuzzy: all words as they are / within the edit distance, name above text, the
  same facets and hits of the same index. Nothing is understood, sorted out or explained.
- Elasticsearch, plain: the same fuzzy words on the server. Elasticsearch, bare: the very request
  that our search sends, ready made, sent with the client, which brings the documents along.

The server may give an answer again that it gave before (elasticsearch); it works anew each time for
"first time", bare and plain.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import random
import secrets
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
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
from catalog.search.elastic import ElasticEngine, request  # noqa: E402
from catalog.search.embedded import SCHEMA, EmbeddedEngine, open_searcher  # noqa: E402
from catalog.search.engine import Engine, search  # noqa: E402
from catalog.search.facets import FACETS  # noqa: E402
from catalog.search.interpret import interpret, words_to_look_up  # noqa: E402
from catalog.search.plan import make_plan  # noqa: E402
from catalog.search.query import Query  # noqa: E402
from catalog.search.words import words  # noqa: E402
from catalog.services import dataset_values  # noqa: E402

QUESTIONS = (
    "brain mri segmentation", "chest xray", "tuberculsis chst xray", "lung ct", "retinal vessels",
    "BraTS", "kaggle dermoscopy", "hippocamps", "prostate", "covid 19 ct", "liver tumor 3d",
    "isic", "cell microscopy", "ultrasound breast", "colon polyp endoscopy", "kidney tumour",
    "optic disc fundus", "cardiac mr", "histopathology nuclei", "pancreas", "dental x-ray",
    "spine mr segmentation", "pet lymphoma", "stroke lesion", "knee cartilage", "camelyon",
    "skin lesion classification", "fetal ultrasound", "surgical video", "mammography",
)  # fmt: skip
CHOSEN: dict[str, tuple[str, ...]] = {"access": ("open",)}  # in every second question
SCALES = (0, 100_000)
MILLION = 1_000_000
LIMIT = 20
EMBEDDED, ELASTIC, SCAN = "embedded", "elasticsearch", "Python scan"
FIRST = "elasticsearch, first time"
EXACT, FUZZY = "tantivy, exact", "tantivy, fuzzy"
BARE, PLAIN = "Elasticsearch, bare", "Elasticsearch, plain"
RATIOS = (
    (EMBEDDED, EXACT), (EMBEDDED, FUZZY), (EMBEDDED, SCAN), (FIRST, BARE), (FIRST, PLAIN),
    (FIRST, EMBEDDED), (ELASTIC, EMBEDDED),
)  # fmt: skip

Ask = Callable[[int], int]
Times = dict[str, list[float]]


def state() -> str:
    return "bench"


def scaled(number: int) -> list[Document]:
    """The shipped records as documents, repeated under other slugs until there are `number`."""
    records = read_catalog().values()
    base = [document(Dataset(**dataset_values(record))) for record in records]
    copies: Iterator[Document] = (
        item if turn == 0 else replace(item, slug=f"{turn}-{item.slug}")
        for turn in count()
        for item in base
    )
    return list(islice(copies, number or len(base)))


def asked(place: int) -> tuple[str, dict[str, tuple[str, ...]]]:
    return QUESTIONS[place], CHOSEN if place % 2 else {}


def ours(engine: Engine) -> Ask:
    def ask(place: int) -> int:
        text, chosen = asked(place)
        return search(Query(text=text, filters=chosen, limit=LIMIT), using=engine).total

    return ask


def scan(documents: list[Document]) -> Ask:
    """All words as they are, anywhere in a document's text; facet counts by Counter."""
    rows = [(" ".join(item.text), item) for item in documents]

    def ask(place: int) -> int:
        text, chosen = asked(place)
        wanted = words(text)
        found = [item for line, item in rows if all(word in line for word in wanted)]
        counts = {facet: Counter(v for d in found for v in d.values[facet]) for facet in FACETS}
        shown = [
            item
            for item in found
            if all(set(item.values[facet]) & set(values) for facet, values in chosen.items())
        ]
        return len(shown) + 0 * len(counts)

    return ask


def slips(word: str) -> int:
    """Elasticsearch's AUTO."""
    return 0 if len(word) < 3 else 1 if len(word) < 6 else 2  # noqa: PLR2004


def bare_tantivy(folder: Path, *, fuzzy: bool) -> Ask:
    searcher = open_searcher(folder)
    query, must, should = tantivy.Query, tantivy.Occur.Must, tantivy.Occur.Should
    terms = {facet: {"terms": {"field": facet, "size": 1000}} for facet in FACETS}

    def one(word: str) -> Any:
        name = query.boost_query(query.term_query(SCHEMA, "name_words", word, "freq"), 3.0)
        near = query.term_query(SCHEMA, "text", word, "freq")
        if fuzzy and slips(word):
            near = query.fuzzy_term_query(SCHEMA, "text", word, slips(word))
        return query.boolean_query([(should, name), (should, near)])

    def ask(place: int) -> int:
        text, chosen = asked(place)
        wide = [(must, one(word)) for word in words(text)]
        narrow = [
            (must, query.term_set_query(SCHEMA, facet, list(values)))
            for facet, values in chosen.items()
        ]
        asked_for = query.boolean_query([*wide, *narrow])
        found = searcher.search(asked_for, LIMIT, weight_by_field="quality")
        searcher.aggregate(asked_for, {f: terms[f] for f in FACETS if f not in chosen})
        if chosen:
            searcher.aggregate(query.boolean_query(wide), {facet: terms[facet] for facet in chosen})
        for _, address in found.hits:
            searcher.doc(address)
        return int(found.count)

    return ask


def plain_elastic(engine: ElasticEngine) -> Ask:
    def ask(place: int) -> int:
        text, chosen = asked(place)
        fuzzy = {"fields": ["name_words^3", "text"], "fuzziness": "AUTO"}
        each = [{"multi_match": {"query": word, **fuzzy}} for word in words(text)]
        narrow = [{"terms": {facet: list(values)}} for facet, values in chosen.items()]
        filtered = {"bool": {"filter": narrow}}
        terms = {facet: {"terms": {"field": facet, "size": 1000}} for facet in FACETS}
        answer = engine.client.search(
            index=engine.alias,
            query={"bool": {"must": each}},
            post_filter=filtered,
            aggs={
                facet: one if facet in chosen else {"filter": filtered, "aggs": {facet: one}}
                for facet, one in terms.items()
            },
            size=LIMIT,
            track_total_hits=True,
        )
        return int(answer["hits"]["total"]["value"])

    return ask


def bare_elastic(engine: ElasticEngine) -> Ask:
    bodies = []
    for place in range(len(QUESTIONS)):
        text, chosen = asked(place)
        reading = interpret(text, engine.look_up(words_to_look_up(text)))
        query = Query(text=text, filters=chosen, limit=LIMIT)
        body = request(make_plan(query, reading))
        del body["stored_fields"]
        bodies.append(body | {"_source": True})

    def ask(place: int) -> int:
        answer = engine.client.search(index=engine.alias, body=bodies[place])
        return int(answer["hits"]["total"]["value"])

    return ask


def measure(candidates: dict[str, Ask], rounds: int, slow: Collection[str]) -> Times:
    """Milliseconds per question; the first two rounds warm up. A slow one answers one round."""
    times: Times = {name: [] for name in candidates}
    draw = random.Random(0)  # noqa: S311 - no secret
    for turn in range(rounds + 2):
        for place in range(len(QUESTIONS)):
            for name in draw.sample(list(candidates), len(candidates)):
                if name in slow and turn != 2:  # noqa: PLR2004
                    continue
                start = time.perf_counter()
                candidates[name](place)
                if turn > 1:
                    times[name].append((time.perf_counter() - start) * 1000)
    return times


def report(times: Times) -> None:
    middle = {name: statistics.median(row) for name, row in times.items()}
    print(f"{'candidate':<26} {'p50 ms':>8} {'p95 ms':>8}")
    for name, row in times.items():
        print(f"{name:<26} {middle[name]:>8.2f} {statistics.quantiles(row, n=20)[18]:>8.2f}")
    for ours_is, peer in RATIOS:
        if ours_is in middle and peer in middle:
            print(f"{ours_is} / {peer}: {middle[ours_is] / middle[peer]:.2f}")


def run(number: int, rounds: int) -> None:
    documents = scaled(number)
    url = os.environ.get("IMAGINGX_TEST_SEARCH_URL", "")
    alias = f"imagingx-bench-{secrets.token_hex(4)}"
    elastic = ElasticEngine(url, alias, state, lambda: documents) if url else None
    with tempfile.TemporaryDirectory() as folder:
        embedded = EmbeddedEngine(Path(folder), state, lambda: documents)
        start = time.perf_counter()
        embedded.refresh()
        print(f"\n{len(documents):,} documents; tantivy index {time.perf_counter() - start:.1f} s")
        index = Path(folder) / state()
        candidates = {
            EMBEDDED: ours(embedded),
            EXACT: bare_tantivy(index, fuzzy=False),
            FUZZY: bare_tantivy(index, fuzzy=True),
            SCAN: scan(documents),
        }
        try:
            if elastic:
                start = time.perf_counter()
                elastic.refresh()
                print(f"Elasticsearch index {time.perf_counter() - start:.1f} s")
                candidates[ELASTIC] = ours(elastic)
                candidates[FIRST] = ours(replace(elastic, keep_answers=False))
                candidates[BARE] = bare_elastic(elastic)
                candidates[PLAIN] = plain_elastic(elastic)
            gc.collect()
            gc.freeze()  # the documents held for the scan are no part of a search
            slow = {SCAN} if len(documents) >= SCALES[1] else set()
            report(measure(candidates, rounds, slow))
        finally:
            if elastic:
                elastic.drop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--scale", type=int, nargs="+", default=SCALES, metavar="N",
                        help="documents (0: the catalog as it is)")  # fmt: skip
    parser.add_argument("--rounds", type=int, default=5, metavar="R")
    parser.add_argument("--million", action="store_true", help=f"{MILLION:,} documents too")
    options = parser.parse_args()
    logging.getLogger("elastic_transport").setLevel(logging.WARNING)
    for number in (*options.scale, *([MILLION] if options.million else [])):
        run(number, options.rounds)


if __name__ == "__main__":
    main()
