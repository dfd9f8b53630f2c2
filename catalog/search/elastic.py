"""Search on an Elasticsearch 8 server, the only module that talks to it.

Asks for nothing beyond the server's core: no analyzer plug-ins, no scripts, no fuzzy highlighting.
An index is filled under a name of its own; one call then moves the alias and drops the old index.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from elastic_transport import TransportError
from elasticsearch import ApiError, Elasticsearch, NotFoundError
from elasticsearch.dsl import A, Q, Search
from elasticsearch.helpers import BulkIndexError, scan, streaming_bulk

from catalog.search.documents import SENTENCE_END, UNITS, Document, read
from catalog.search.engine import Answer
from catalog.search.errors import SearchUnavailableError
from catalog.search.facets import CONCEPTS, FACETS, FILTERS
from catalog.search.index import Change, same_vocabulary
from catalog.search.interpret import WordMatch
from catalog.search.plan import Every, Node, Numbers, Phrase, Plan, Some, Term, Years

TEXT_FIELDS = ("name_words", "stated", "text")
KEYWORD_FIELDS = (
    "slug",
    "exact",
    *FILTERS,
    *(f"{part}_{name}" for part in ("direct", "only") for name in CONCEPTS),
)
SORT_FIELDS = {"name": "by_name", "newest": "by_newest", "oldest": "by_oldest"}
TIMEOUT_SECONDS = 10
COPY_SECONDS = 600
ABANDONED_SECONDS = 3600
_LN2 = 0.6931471805599453

log = logging.getLogger(__name__)


def mappings() -> dict[str, Any]:
    """Words split at blanks (they come folded), values whole; the document itself is only kept."""
    text = {"type": "text", "analyzer": "whitespace", "index_options": "freqs"}
    keyword = {"type": "keyword"}
    return {
        "dynamic": "strict",
        "properties": {
            **dict.fromkeys(TEXT_FIELDS, text),
            **dict.fromkeys((*KEYWORD_FIELDS, *SORT_FIELDS.values()), keyword),
            "said": {"type": "text", "analyzer": "whitespace"},
            "year_number": {"type": "integer"},
            **{f"count_{unit}": {"type": "long"} for unit in UNITS},
            "quality": {"type": "float"},
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
        "digest": item.digest,
        "said": SENTENCE_END.join(item.said),
        **{f"count_{unit}": number for unit, number in item.counts.items()},
        "year_number": item.year,
        "quality": item.quality,
        "stored": item.to_json(),
    }


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

    With `digests`, an index of the same vocabulary is mended: `documents` then takes slugs.
    """

    url: str
    alias: str
    key: Callable[[], str]
    documents: Callable[..., Iterable[Document]]
    digests: Callable[[], Mapping[str, str]] | None = None

    def __post_init__(self) -> None:
        self.client = Elasticsearch(self.url, request_timeout=TIMEOUT_SECONDS, max_retries=0)
        self._lock = threading.Lock()
        self._key = ""

    def refresh(self) -> None:
        """Have the alias point at an index of the catalog's present state."""
        key = self.key()
        if self._key == key:
            return
        with self._lock, server():
            while self._key != key:
                made = any(name.startswith(f"{self.alias}-{key}-") for name in self._indices())
                if made or self._build(key, mend=True) is not None:
                    self._key = key
                key = self.key()

    def rebuild(self) -> int:
        """Build the index anew even when it is current; returns the number of documents."""
        key = self.key()
        with self._lock, server():
            while (number := self._build(key)) is None:
                key = self.key()
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
        settings = {"number_of_shards": 1, "number_of_replicas": 0, "refresh_interval": "-1"}
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
        self.client.options(request_timeout=COPY_SECONDS).indices.clone(
            index=former, target=name, settings={"index.blocks.write": None}
        )
        gone = ({"_op_type": "delete", "_index": name, "_id": slug} for slug in change.gone)
        for _ in streaming_bulk(self.client, gone, chunk_size=1000):
            pass
        self._fill(name, self.documents(change.changed) if change.changed else ())
        return len(wanted)

    def _fill(self, name: str, documents: Iterable[Document]) -> int:
        actions = ({"_index": name, "_id": item.slug, "_source": row(item)} for item in documents)
        number = sum(1 for _ in streaming_bulk(self.client, actions, chunk_size=1000))
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

    def _execute(self, search: Search[Any]) -> Any:
        with server():
            try:
                return self._send(search)
            except NotFoundError:
                # Someone deleted the index: derived data, so it is made again.
                with self._lock:
                    self._build(self.key())
                return self._send(search)

    def _send(self, search: Search[Any]) -> Any:
        return self.client.search(index=self.alias, **search.to_dict()).body

    def look_up(self, words: Sequence[str]) -> dict[str, WordMatch]:
        """For each word whether it occurs in any document, else those spelled alike."""
        if not words:
            return {}
        search: Search[Any] = Search().extra(size=0, track_total_hits=False)
        each = {f"w{place}": Q("term", text=word) for place, word in enumerate(words)}
        search.aggs.bucket("known", A("filters", filters=each))
        for place, word in enumerate(words):
            like = {"field": "text", "size": 20, "min_word_length": 3, "sort": "frequency"}
            search = search.suggest(f"w{place}", word, term={**like, "max_inspections": 50})
        answer = self._execute(search)
        buckets = answer["aggregations"]["known"]["buckets"]
        return {
            word: _match(buckets[f"w{place}"]["doc_count"], answer["suggest"][f"w{place}"])
            for place, word in enumerate(words)
        }

    def run(self, plan: Plan) -> Answer:
        """One page of strict matches, their number, and the counts of every facet."""
        bonus = [_translate(term) for term in plan.bonus]
        musts = [Q("match_all"), *(_translate(item.node) for item in plan.musts)]
        never = [_translate(node) for node in plan.excluded]
        asked = Q("bool", must=musts, should=bonus, must_not=never)
        search: Search[Any] = Search().query(_by_quality(asked))
        choices = {facet: _translate(item.node) for facet, item in plan.choices.items()}
        if choices:
            search = search.post_filter(Q("bool", filter=list(choices.values())))
        for facet in FACETS:
            others = [node for name, node in choices.items() if name != facet]
            narrowed = A("filter", Q("bool", filter=others) if others else Q("match_all"))
            narrowed.bucket("values", "terms", field=facet, size=1000)
            search.aggs.bucket(facet, narrowed)
        order = (SORT_FIELDS[plan.sort],) if plan.sort in SORT_FIELDS else ("_score", "slug")
        search = search.sort(*order).source(["stored"])
        search = search.extra(track_total_hits=True)[plan.offset : plan.offset + plan.limit]
        answer = self._execute(search)
        counts = {
            facet: {
                bucket["key"]: bucket["doc_count"]
                for bucket in answer["aggregations"][facet]["values"]["buckets"]
            }
            for facet in FACETS
        }
        return Answer(answer["hits"]["total"]["value"], tuple(_hits(answer)), counts)

    def near(self, plan: Plan, minimum: int, limit: int) -> tuple[tuple[float, Document], ...]:
        """Best documents that satisfy at least `minimum` constraints, but not all."""
        each = [_translate(item.node) for item in plan.constraints]
        enough = Q("bool", should=each, minimum_should_match=minimum)
        query = Q(
            "bool",
            must=[enough if minimum else Q("match_all")],
            must_not=[Q("bool", must=each), *map(_translate, plan.excluded)],
            should=[_translate(term) for term in plan.related],
        )
        search: Search[Any] = Search().query(_by_quality(query)).sort("_score", "slug")
        return tuple(_hits(self._execute(search.source(["stored"])[:limit])))


def _by_quality(query: Any) -> Any:
    """Score x log2(2 + quality), as the embedded engine weighs."""
    weigh = {"field": "quality", "modifier": "ln2p", "missing": 0}
    return Q(
        "function_score",
        query=query,
        functions=[{"field_value_factor": weigh, "weight": 1 / _LN2}],
        boost_mode="multiply",
    )


def _hits(answer: Any) -> Iterator[tuple[float, Document]]:
    for hit in answer["hits"]["hits"]:
        yield float(hit["_score"] or 0.0), read(hit["_source"]["stored"])


def _match(count: int, suggestions: Any) -> WordMatch:
    if count:
        return WordMatch(known=True)
    options = suggestions[0]["options"] if suggestions else []
    return WordMatch(similar={option["text"]: option["freq"] for option in options})


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
        case Every(nodes=nodes):
            return Q("bool", must=[_translate(inner) for inner in nodes])


def _term(term: Term) -> Any:
    kind = "prefix" if term.prefix else "term"
    if term.constant is not None:
        return Q("constant_score", filter=Q(kind, **{term.field: term.value}), boost=term.constant)
    return Q(kind, **{term.field: {"value": term.value, "boost": term.boost}})
