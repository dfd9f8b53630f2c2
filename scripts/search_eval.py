#!/usr/bin/env python
"""Score the search on the judged queries of tests/search/judged.yaml, beside plain BM25.

    scripts/search_eval.py [--json FILE] [--failures N] [--kind KIND]

nDCG@10 (gain is the grade), recall@20 (of at most 20 datasets of grade 2 or 3) and MRR as a user
sees the first page: strict results, then near ones. `negative` is the share of negative queries
without a wrong strict result. The peers are BM25 over what the records state, as tantivy's default
tokenizer splits it, without and with the vocabulary's synonyms added to the question; all that
they find counts as strict. Elasticsearch takes part when IMAGINGX_TEST_SEARCH_URL is set.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import secrets
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")

import django

django.setup()

import tantivy  # noqa: E402

from catalog import vocab  # noqa: E402
from catalog.collection import read_catalog  # noqa: E402
from catalog.models import Dataset  # noqa: E402
from catalog.search.documents import Document, document  # noqa: E402
from catalog.search.elastic import ElasticEngine  # noqa: E402
from catalog.search.embedded import EmbeddedEngine  # noqa: E402
from catalog.services import dataset_values  # noqa: E402
from tests.search.judging import (  # noqa: E402
    DEEP,
    FIGURES,
    KINDS,
    Facts,
    Found,
    Judged,
    Ranking,
    Score,
    means,
    ranking,
    read_judged,
    score,
)

TITLES = {
    "ndcg": "nDCG@10",
    "recall": "recall@20",
    "reciprocal_rank": "MRR",
    "negative": "negative",
}
PEER_FIELDS = ("name", "aliases", "values")
LISTS = ("modalities", "anatomies", "tasks", "diseases", "dimensions", "modality_details")
LONGEST_SYNONYM = 4  # words
Scores = Mapping[str, list[Score]]


def bm25(catalog: Mapping[str, Facts], *, synonyms: bool = False) -> Ranking:
    """Any word in the name, the aliases or the stated values; the scores of the fields add up."""
    builder = tantivy.SchemaBuilder()
    for name in PEER_FIELDS:
        builder.add_text_field(name)
    builder.add_text_field("slug", stored=True, tokenizer_name="raw")
    schema = builder.build()
    index = tantivy.Index(schema)
    writer = index.writer(64_000_000, 1)
    for facts in catalog.values():
        row = tantivy.Document()
        row.add_text("slug", facts["slug"])
        row.add_text("name", facts["name"])
        row.add_text("aliases", " ".join(facts["aliases"]))
        row.add_text("values", " ".join(stated(facts)))
        writer.add_document(row)
    writer.commit()
    writer.wait_merging_threads()
    index.reload()
    searcher = index.searcher()
    query = tantivy.Query

    def ask(text: str) -> Found:
        asked = [*tokens(text), *(alternatives(text) if synonyms else ())]
        terms = [
            (tantivy.Occur.Should, query.term_query(schema, name, token))
            for token in dict.fromkeys(asked)
            for name in PEER_FIELDS
        ]
        hits = searcher.search(query.boolean_query(terms), DEEP).hits
        return Found(tuple(searcher.doc(address)["slug"][0] for _, address in hits))

    return ask


def stated(facts: Facts) -> Iterator[str]:
    """The values of a record, and the sources' own words for them."""
    for name in LISTS:
        yield from facts[name]
    for name in ("licence", "access", "publisher", "year"):
        yield str(facts[name] or "")
    for claim in facts["claims"]:
        if claim["used"] and claim["raw"] and claim["field"] in LISTS:
            yield claim["raw"]


def tokens(text: str) -> list[str]:
    """Words as tantivy's default tokenizer makes them."""
    return re.findall(r"[^\W_]+", text.lower())


def alternatives(text: str) -> Iterator[str]:
    """The name, and the synonyms of one word, of every vocabulary term that the question has."""
    asked = tokens(text)
    for start in range(len(asked)):
        for stop in range(start + 1, min(len(asked), start + LONGEST_SYNONYM) + 1):
            for facet in vocab.FACETS:
                if term := vocab.resolve(facet, " ".join(asked[start:stop])):
                    yield from tokens(term.name)
                    yield from (word.lower() for word in term.synonyms if word.isalnum())


@contextmanager
def engines(catalog: Mapping[str, Facts]) -> Iterator[dict[str, Ranking]]:
    """Everything that can be asked here, by name."""
    documents = sorted(made(catalog), key=lambda item: item.slug)
    with tempfile.TemporaryDirectory() as folder:
        embedded = EmbeddedEngine(Path(folder), lambda: "judged", lambda: documents)
        found = {"embedded": ranking(embedded)}
        elastic = None
        if url := os.environ.get("IMAGINGX_TEST_SEARCH_URL"):
            alias = f"imagingx-judged-{secrets.token_hex(4)}"
            elastic = ElasticEngine(url, alias, lambda: "judged", lambda: documents)
            found["elasticsearch"] = ranking(elastic)
        found["BM25"] = bm25(catalog)
        found["BM25 + synonyms"] = bm25(catalog, synonyms=True)
        try:
            yield found
        finally:
            if elastic is not None:
                elastic.drop()


def made(catalog: Mapping[str, Facts]) -> Iterable[Document]:
    return (document(Dataset(**dataset_values(facts))) for facts in catalog.values())


def by_kind(judged: list[Judged], scores: list[Score]) -> dict[str, dict[str, Any]]:
    """The figures of each kind and of all queries together."""
    rows = {
        kind: [one for query, one in zip(judged, scores, strict=True) if query.kind == kind]
        for kind in KINDS
    }
    rows = {kind: found for kind, found in rows.items() if found}
    return {
        kind: {"queries": len(found), **means(found)}
        for kind, found in {**rows, "overall": scores}.items()
    }


def table(name: str, figures: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    yield f"{name:<16}{'queries':>8}" + "".join(f"{TITLES[key]:>11}" for key in FIGURES)
    for kind, row in figures.items():
        cells = ("-" if row[key] is None else f"{row[key]:.3f}" for key in FIGURES)
        yield f"  {kind:<14}{row['queries']:>8}" + "".join(f"{cell:>11}" for cell in cells)


def failures(
    judged: list[Judged], found: list[Found], scores: list[Score], number: int
) -> Iterator[str]:
    """The worst queries: what was found with its grade, and the best that is missing."""
    rows = sorted(zip(judged, found, scores, strict=True), key=lambda row: worth(row[2]))
    for query, answer, figures in rows[:number]:
        numbers = ", ".join(
            f"{TITLES[key]} {value:.3f}"
            for key, value in asdict(figures).items()
            if value is not None
        )
        yield f"{query.query!r} ({query.kind}): {numbers}"
        graded = (graded_slug(query, answer, slug) for slug in answer.shown[:10])
        yield f"    found    {' '.join(graded) or 'nothing'}"
        missing = sorted(query.relevant - set(answer.shown), key=lambda slug: -query.grades[slug])
        if missing:
            yield f"    missing  {' '.join(f'{slug}={query.grades[slug]}' for slug in missing[:8])}"
        if wrong := query.excluded.intersection(answer.strict):
            yield f"    excluded {' '.join(sorted(wrong)[:8])}"


def graded_slug(query: Judged, answer: Found, slug: str) -> str:
    return f"{'' if slug in answer.strict else '~'}{slug}={query.grades.get(slug, 0)}"


def worth(figures: Score) -> float:
    """For the order of failures: the worse of nDCG and the negative figure."""
    return min(value for value in (figures.ndcg, figures.negative, 1.0) if value is not None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there")
    parser.add_argument("--failures", type=int, default=0, metavar="N", help="our worst queries")
    parser.add_argument("--kind", choices=KINDS, help="only queries of this kind")
    options = parser.parse_args()
    logging.getLogger("elastic_transport").setLevel(logging.WARNING)
    catalog = read_catalog()
    judged = [row for row in read_judged(catalog) if options.kind in {None, row.kind}]
    print(f"{len(judged)} judged queries over {len(catalog)} datasets\n")
    record: dict[str, Any] = {}
    with engines(catalog) as candidates:
        for name, ask in candidates.items():
            found = [ask(row.query) for row in judged]
            scores = [score(row, answer) for row, answer in zip(judged, found, strict=True)]
            figures = by_kind(judged, scores)
            print("\n".join(table(name, figures)), end="\n\n")
            if options.failures and not name.startswith("BM25"):
                print("\n".join(failures(judged, found, scores, options.failures)), end="\n\n")
            record[name] = {
                "kinds": figures,
                "queries": [
                    {"query": row.query, "kind": row.kind, **asdict(one)}
                    for row, one in zip(judged, scores, strict=True)
                ],
            }
    if options.json:
        options.json.write_text(json.dumps(record, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
