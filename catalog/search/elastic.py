"""Search on an Elasticsearch 8 server, the only module that talks to it.

Asks for nothing beyond the server's core: no analyzer plug-ins, no scripts, no fuzzy highlighting.
An index is filled under a name of its own; one call then moves the alias and drops the old index.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from elastic_transport import TransportError
from elasticsearch import ApiError, Elasticsearch, NotFoundError, OrjsonSerializer
from elasticsearch.dsl import A, Q, Search
from elasticsearch.helpers import BulkIndexError, scan, streaming_bulk

from catalog.facet_values import FACT_OF
from catalog.record import UNITS
from catalog.search.documents import SENTENCE_END, SORT_FIELDS, TEXT_FIELDS, Document, read
from catalog.search.engine import Answer
from catalog.search.errors import SearchUnavailableError
from catalog.search.facets import FACETS, FILTERS
from catalog.search.index import Change, Remembered, same_vocabulary
from catalog.search.interpret import WordMatch
from catalog.search.plan import (
    PART_SCORES,
    STATED_SCORE,
    Concept,
    Constraint,
    Node,
    Numbers,
    Phrase,
    Plan,
    Some,
    Term,
    Years,
)

KEYWORD_FIELDS = ("slug", "exact", *FILTERS)
TIMEOUT_SECONDS = 10
COPY_SECONDS = 600
ABANDONED_SECONDS = 3600
DOCUMENTS_KEPT = 8192  # in memory
TRIES = 3
MOST_VALUES = 1000  # of a facet
_JSON = {"accept": "application/json", "content-type": "application/json"}
_LN2 = 0.6931471805599453
Clause = dict[str, Any]  # a part of a request
Page = tuple[tuple[float, Document], ...]
_EVERY: Clause = {"match_all": {}}
#: What a hit brings: its slug and the digest, which says which state of it was found, in one field.
#: No stored field is read: unpacking those costs a fifth of a request.
_FOUND: Clause = {"_source": False, "stored_fields": "_none_", "docvalue_fields": ["found"]}
#: What a concept adds to the score by the places where a document has it: what the document carries
#: alone it carries itself, and what its name says its words say.
_CARRIED = ((), ("stated",), ("stated", "direct"), ("stated", "direct", "only"))
_WORDED = ((), ("worded",), ("worded", "named"))
_SCORES = {"stated": STATED_SCORE, **PART_SCORES}
#: A document has each concept as one term that says what it adds: a query then reads one posting of
#: a concept in a document, not one a place.
GRADES = sorted(
    {
        sum(map(_SCORES.__getitem__, (*carried, *worded)))
        for carried in _CARRIED
        for worded in _WORDED
        if carried or worded
    }
)
_VALUES = {facet: A("terms", field=facet, size=MOST_VALUES).to_dict() for facet in FACETS}
#: All facets' values are counted in one field: a document's columns are then opened once, not nine
#: times, which is a fifth of a request.
_ALL_VALUES = {"all": A("terms", field="facets", size=MOST_VALUES * len(FACETS)).to_dict()}
_QUALITY: Clause = {
    "field_value_factor": {"field": "quality", "modifier": "ln2p", "missing": 0},
    "weight": 1 / _LN2,
}

log = logging.getLogger(__name__)


def mappings() -> dict[str, Any]:
    """Words split at blanks (they come folded), values whole; the document itself is only kept."""
    text = {"type": "text", "analyzer": "whitespace", "index_options": "freqs"}
    keyword = {"type": "keyword"}
    return {
        "dynamic": "strict",
        "_source": {"includes": ["digest", "stored"]},  # what is never read is not kept
        "properties": {
            **dict.fromkeys(TEXT_FIELDS, text),
            **dict.fromkeys((*KEYWORD_FIELDS, *SORT_FIELDS.values()), keyword),
            "mentions": {"type": "keyword", "doc_values": False},
            "facets": {"type": "keyword", "index": False},
            "concepts": {"type": "keyword", "doc_values": False, "similarity": "boolean"},
            "said": {"type": "text", "analyzer": "whitespace"},
            "year_number": {"type": "integer"},
            **{f"count_{unit}": {"type": "long"} for unit in UNITS},
            "quality": {"type": "float"},
            "found": {"type": "keyword", "index": False},
            "digest": {"type": "keyword", "index": False, "doc_values": False},
            "stored": {"type": "keyword", "index": False, "doc_values": False},
        },
    }


def row(item: Document) -> dict[str, Any]:
    """A document as the server indexes it."""
    return {
        **{name: " ".join(item.words(name)) for name in TEXT_FIELDS},
        **{name: list(item.words(name)) for name in KEYWORD_FIELDS if name != "slug"},
        **{name: getattr(item, name) for name in SORT_FIELDS.values()},
        "slug": item.slug,
        "mentions": list(item.mentions),
        "digest": item.digest,
        "found": f"{item.slug} {item.digest}",
        "facets": [f"{facet}:{value}" for facet in FACETS for value in item.values[facet]],
        "concepts": list(_graded(item)),
        "said": SENTENCE_END.join(item.said),
        **{f"count_{unit}": number for unit, number in item.counts.items()},
        "year_number": item.year,
        "quality": item.quality,
        "stored": item.to_json(),
    }


def _graded(item: Document) -> Iterator[str]:
    """Each concept of a document with what it adds to the score: "anatomy:Brain 5.0"."""
    grades: dict[str, float] = {}
    for place, score in _SCORES.items():
        for facet in FACT_OF:
            for term in item.words(facet if place == "stated" else f"{place}_{facet}"):
                concept = f"{facet}:{term}"
                grades[concept] = grades.get(concept, 0.0) + score
    return (f"{concept} {grade}" for concept, grade in grades.items())


@contextmanager
def server() -> Iterator[None]:
    """Turn every failure of the server into one error of ours."""
    try:
        yield
    except (TransportError, ApiError, BulkIndexError) as error:
        raise SearchUnavailableError(f"Elasticsearch: {error}") from error


@dataclass
class ElasticEngine:
    """Answers from the alias `alias` of the server at `url`.

    With `digests`, an index of the same vocabulary is mended: `documents` then takes slugs. The
    server keeps its answers, which hold as long as the index; benchmarks tell it not to.
    """

    url: str
    alias: str
    key: Callable[[], str]
    documents: Callable[..., Iterable[Document]]
    digests: Callable[[], Mapping[str, str]] | None = None
    keep_answers: bool = True

    def __post_init__(self) -> None:
        self.client = Elasticsearch(
            self.url,
            request_timeout=TIMEOUT_SECONDS,
            max_retries=0,
            serializer=OrjsonSerializer(),
        )
        # Left to itself the server keeps answers without hits only.
        keep = str(self.keep_answers).lower()
        self._search_path = f"/{self.alias}/_search?request_cache={keep}"
        self._lock = threading.Lock()
        self._key = ""
        self._forget()

    def _forget(self) -> None:
        """What was read of another index than the present one."""
        self._matches = Remembered()
        self._read: dict[tuple[str, str], Document] = {}

    def refresh(self) -> None:
        """Have the alias point at an index of the catalog's present state."""
        key = self.key()
        if self._key == key:
            return
        with self._lock, server():
            while self._key != key:
                made = any(name.startswith(f"{self.alias}-{key}-") for name in self._indices())
                if made or self._build(key, mend=True) is not None:
                    self._forget()
                    self._key = key
                key = self.key()

    def is_current(self) -> bool:
        """The alias points at an index of the catalog's present state."""
        start = f"{self.alias}-{self.key()}-"
        with server():
            return any(name.startswith(start) for name in self._indices())

    def rebuild(self) -> int:
        """Build the index anew even when it is current; returns the number of documents."""
        key = self.key()
        with self._lock, server():
            while (number := self._build(key)) is None:
                key = self.key()
            self._forget()
            self._key = key
        return number

    def drop(self) -> None:
        """Delete the index behind the alias: for tests and benchmarks."""
        with server():
            for name in self._indices():
                self.client.indices.delete(index=name)
            self._key = ""

    def _indices(self) -> list[str]:
        """Indices behind the alias."""
        try:
            return sorted(self.client.indices.get_alias(name=self.alias))
        except NotFoundError:
            return []

    def _build(self, key: str, *, mend: bool = False) -> int | None:
        """Fill a new index and swap it in; None when the catalog changed while it was read."""
        name = f"{self.alias}-{key}-{secrets.token_hex(4)}"
        settings = {
            "number_of_shards": 1,
            "number_of_replicas": 0,
            "refresh_interval": "-1",
            "sort.field": "slug",  # those that score alike then come by slug, without a sort key
        }
        self.client.indices.create(index=name, mappings=mappings(), settings=settings)
        try:
            former = self._former(key) if mend else None
            number = self._mend(former, name) if former else None
            if number is None:
                number = self._fill(name, self.documents())
            if self.key() != key:
                self.client.indices.delete(index=name)
                return None
            moves: list[dict[str, Any]] = [{"add": {"index": name, "alias": self.alias}}]
            moves += [{"remove_index": {"index": old}} for old in self._indices()]
            self.client.indices.update_aliases(actions=moves)
        except BaseException:
            self.client.options(ignore_status=404).indices.delete(index=name)
            raise
        self._drop_abandoned()
        return number

    def _former(self, key: str) -> str | None:
        """The index behind the alias, when it differs in its datasets alone."""
        if self.digests is None:
            return None
        names = [name.removeprefix(f"{self.alias}-") for name in self._indices()]
        alike = [name for name in names if same_vocabulary(name.rpartition("-")[0], key)]
        return f"{self.alias}-{alike[0]}" if alike else None

    def _mend(self, former: str, name: str) -> int | None:
        """Clone the former index and replace what changed; None when that is much."""
        wanted = self.digests() if self.digests else {}
        found = scan(self.client, index=former, query={"_source": ["digest"]}, size=5000)
        change = Change.between({hit["_id"]: hit["_source"]["digest"] for hit in found}, wanted)
        if not change.is_small(len(wanted)):
            return None
        # A clone shares the files of the former index, which must not change meanwhile.
        self.client.indices.delete(index=name)
        self.client.indices.add_block(index=former, block="write")
        patient = self.client.options(request_timeout=COPY_SECONDS)
        patient.indices.clone(index=former, target=name, settings={"index.blocks.write": None})
        gone = ({"_op_type": "delete", "_index": name, "_id": slug} for slug in change.gone)
        for _ in streaming_bulk(patient, gone, chunk_size=1000):
            pass
        self._fill(name, self.documents(change.changed) if change.changed else ())
        return len(wanted)

    def _fill(self, name: str, documents: Iterable[Document]) -> int:
        actions = ({"_index": name, "_id": item.slug, "_source": row(item)} for item in documents)
        patient = self.client.options(request_timeout=COPY_SECONDS)
        number = sum(1 for _ in streaming_bulk(patient, actions, chunk_size=1000))
        # An index is read until the next takes its place: one segment answers a third sooner.
        patient.indices.forcemerge(index=name, max_num_segments=1)
        self.client.indices.refresh(index=name)
        self.client.indices.put_settings(index=name, settings={"refresh_interval": "1s"})
        return number

    def _drop_abandoned(self) -> None:
        """Indices that a killed builder left behind: old, and behind no alias."""
        limit_ms = (time.time() - ABANDONED_SECONDS) * 1000
        found = self.client.indices.get(index=f"{self.alias}-*", features=["aliases", "settings"])
        for name, about in found.items():
            made_ms = int(about["settings"]["index"]["creation_date"])
            if not about["aliases"] and made_ms < limit_ms:
                log.info("dropping abandoned search index %s", name)
                self.client.options(ignore_status=404).indices.delete(index=name)

    def _execute(self, body: Mapping[str, Any]) -> Any:
        with server():
            try:
                return self._send(body)
            except NotFoundError:
                # Someone deleted the index: derived data, so it is made again.
                with self._lock:
                    self._build(self.key())
                return self._send(body)

    def _send(self, body: Mapping[str, Any]) -> Any:
        """By the plain call of the client, whose `search` would take the body apart."""
        return self.client.perform_request("POST", self._search_path, headers=_JSON, body=body).body

    def look_up(self, words: Sequence[str]) -> dict[str, WordMatch]:
        """For each word whether it occurs in any document, else those spelled alike."""
        return self._matches.of(words, self._look_up)

    def _look_up(self, words: Sequence[str]) -> dict[str, WordMatch]:
        search: Search[Any] = Search().extra(size=0, track_total_hits=False)
        each = {f"w{place}": Q("term", text=word) for place, word in enumerate(words)}
        search.aggs.bucket("known", A("filters", filters=each))
        for place, word in enumerate(words):
            like = {"field": "text", "size": 20, "min_word_length": 3, "sort": "frequency"}
            search = search.suggest(f"w{place}", word, term={**like, "max_inspections": 50})
        answer = self._execute(search.to_dict())
        buckets = answer["aggregations"]["known"]["buckets"]
        return {
            word: _match(buckets[f"w{place}"]["doc_count"], answer["suggest"][f"w{place}"])
            for place, word in enumerate(words)
        }

    def run(self, plan: Plan) -> Answer:
        """One page of strict matches, their number, and the counts of every facet."""
        answer, page = self._answer(request(plan))
        counts = _counts(answer["aggregations"], plan.choices)
        return Answer(answer["hits"]["total"]["value"], page, counts)

    def near(self, plan: Plan, minimum: int, limit: int) -> tuple[tuple[float, Document], ...]:
        """Best documents that satisfy at least `minimum` constraints, but not all."""
        each = [_clause(item.node) for item in plan.constraints]
        enough = {"bool": {"should": each, "minimum_should_match": minimum}}
        query = {
            "must": [enough if minimum else _EVERY],
            "must_not": [{"bool": {"must": each}}, *map(_clause, plan.excluded)],
            "should": [
                *(_clause(term) for term in plan.related),
                *(_kept(one) for one in plan.constraints if one.kept_score),
            ],
        }
        asked = _by_quality({"bool": query})
        body = {"query": asked, "size": limit, **_FOUND}
        return self._answer(body)[1]

    def _answer(self, body: Mapping[str, Any]) -> tuple[Any, Page]:
        """The server's answer, and its hits with their documents."""
        for _ in range(TRIES):
            answer = self._execute(body)
            hits = answer["hits"]["hits"]
            places = [_place(hit["fields"]["found"][0]) for hit in hits]
            known = {place: self._read[place] for place in places if place in self._read}
            if new := [place[0] for place in places if place not in known]:
                known |= self._fetch(hits[0]["_index"], new)
            if all(place in known for place in places):
                scores = [float(hit["_score"] or 0.0) for hit in hits]
                return answer, tuple(zip(scores, map(known.__getitem__, places), strict=True))
        raise SearchUnavailableError(f"Elasticsearch: its index was replaced {TRIES} times")

    def _fetch(self, index: str, slugs: Sequence[str]) -> dict[tuple[str, str], Document]:
        """Documents that were not read before; none of an index that was just replaced."""
        with server():
            rows = self.client.mget(index=index, ids=slugs)["docs"]
        documents = [read(row["_source"]["stored"]) for row in rows if "_source" in row]
        found = {(item.slug, item.digest): item for item in documents}
        if len(self._read) >= DOCUMENTS_KEPT:
            self._read.clear()
        self._read.update(found)
        return found


def request(plan: Plan) -> dict[str, Any]:
    """The body of the one request that answers a plan."""
    choices = {facet: _clause(item.node) for facet, item in plan.choices.items()}
    asked = {
        "must": [_EVERY, *(_clause(item.node) for item in plan.musts)],
        "should": [_clause(term) for term in plan.bonus],
        "must_not": [_clause(node) for node in plan.excluded],
    }
    body = {
        "query": _by_quality({"bool": asked}),
        "aggs": _facet_counts(choices),
        "from": plan.offset,
        "size": plan.limit,
        "track_total_hits": True,
        **_FOUND,
    }
    if plan.sort in SORT_FIELDS:
        body["sort"] = SORT_FIELDS[plan.sort]
    if choices:
        body["post_filter"] = _all_of(choices.values())
    return body


def _all_of(clauses: Iterable[Clause]) -> Clause:
    return {"bool": {"filter": list(clauses)}}


def _facet_counts(choices: Mapping[str, Clause]) -> dict[str, Clause]:
    """One count of all facets under every choice; a choice never narrows its own counts."""
    if not choices:
        return _ALL_VALUES
    found: dict[str, Clause] = {"all": {"filter": _all_of(choices.values()), "aggs": _ALL_VALUES}}
    for facet in choices.keys() & FACETS:
        others = [clause for name, clause in choices.items() if name != facet]
        inside = {facet: _VALUES[facet]}
        found |= {facet: {"filter": _all_of(others), "aggs": inside}} if others else inside
    return found


def _counts(answer: Mapping[str, Any], choices: Collection[str]) -> dict[str, dict[str, int]]:
    """What `_facet_counts` asked for, by facet and value."""
    found: dict[str, dict[str, int]] = {facet: {} for facet in FACETS}
    for row in (answer["all"] if choices else answer)["all"]["buckets"]:
        facet, _, value = row["key"].partition(":")
        found[facet][value] = row["doc_count"]
    for facet in found.keys() & choices:
        inside = answer[facet] if len(choices) == 1 else answer[facet][facet]
        found[facet] = {row["key"]: row["doc_count"] for row in inside["buckets"]}
    return found


def _by_quality(query: Clause) -> Clause:
    """Score x log2(2 + quality), as the embedded engine weighs."""
    return {"function_score": {"query": query, "functions": [_QUALITY], "boost_mode": "multiply"}}


def _kept(constraint: Constraint) -> Clause:
    """What a near match gains by meeting a constraint."""
    met = _clause(constraint.core or constraint.node)
    return {"constant_score": {"filter": met, "boost": constraint.kept_score}}


def _place(found: str) -> tuple[str, str]:
    """Slug and digest."""
    slug, _, digest = found.partition(" ")
    return slug, digest


def _match(count: int, suggestions: Any) -> WordMatch:
    if count:
        return WordMatch(known=True)
    options = suggestions[0]["options"] if suggestions else []
    return WordMatch(similar={option["text"]: option["freq"] for option in options})


@lru_cache(maxsize=4096)
def _clause(node: Node) -> Clause:
    """A node as the server reads it. Shared between requests: never changed."""
    found: Clause = _translate(node).to_dict()
    return found


def _translate(node: Node) -> Any:
    match node:
        case Term():
            return _term(node)
        case Years(first=first, last=last):
            ends = {"gte": first, "lte": last}
            inside = {end: year for end, year in ends.items() if year is not None}
            return Q("constant_score", filter=Q("range", year_number=inside), boost=0)
        case Numbers(units=units, first=first, last=last):
            ends = {"gte": first, "lte": last}
            inside = {end: number for end, number in ends.items() if number is not None}
            ranges = [Q("range", **{f"count_{unit}": inside}) for unit in units or UNITS]
            some = Q("bool", should=ranges, minimum_should_match=1)
            return Q("constant_score", filter=some, boost=0)
        case Phrase(words=words):
            return Q("match_phrase", said=" ".join(words))
        case Some(nodes=nodes):
            return Q("bool", should=[_translate(inner) for inner in nodes], minimum_should_match=1)
        case Concept(facet=facet, term=term):
            # The field's similarity makes a boost the whole score.
            grades = [
                _term(Term("concepts", f"{facet}:{term} {grade}", boost=grade)) for grade in GRADES
            ]
            return Q("bool", should=grades, minimum_should_match=1)


def _term(term: Term) -> Any:
    kind = "prefix" if term.prefix else "term"
    if term.constant is not None:
        return Q("constant_score", filter=Q(kind, **{term.field: term.value}), boost=term.constant)
    return Q(kind, **{term.field: {"value": term.value, "boost": term.boost}})
