"""Search in this process: a tantivy index in a folder, built anew for each state of the catalog.

Several processes may share the folder. An index is built under a name of its own and renamed when
it is whole, so a reader never sees half of one; whoever is second throws its copy away.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import tantivy
from rapidfuzz.distance import OSA

from catalog.facet_values import FACT_OF
from catalog.record import UNITS
from catalog.search.documents import PARTS, SENTENCE_END, SORT_FIELDS, TEXT_FIELDS, Document, read
from catalog.search.engine import Answer
from catalog.search.facets import FACETS, FILTERS
from catalog.search.index import Change, Remembered, same_vocabulary
from catalog.search.interpret import WordMatch, allowed_slips
from catalog.search.plan import (
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

PART_FIELDS = tuple(f"{part}_{facet}" for part in PARTS for facet in FACT_OF)
MEMORY_BYTES = 64_000_000
DIGESTS = "digests.json"  # of the datasets in an index, beside it
DOCUMENTS_KEPT = 8192  # in memory
KEPT = 2  # indexes in the folder: another process may still read the one before
ABANDONED_SECONDS = 3600
_PARTIAL = "partial-"
_MUST, _SHOULD, _NOT = tantivy.Occur.Must, tantivy.Occur.Should, tantivy.Occur.MustNot
_Query = tantivy.Query


def schema() -> Any:
    """Words split at blanks (they come folded), values whole, sort keys and quality as columns."""
    builder = tantivy.SchemaBuilder()
    for name in TEXT_FIELDS:
        builder.add_text_field(name, tokenizer_name="whitespace", index_option="freq")
    for name in ("slug", "exact", "mentions", *PART_FIELDS):
        builder.add_text_field(name, tokenizer_name="raw", index_option="basic")
    for name in (*FILTERS, *SORT_FIELDS.values()):
        builder.add_text_field(name, tokenizer_name="raw", index_option="basic", fast=True)
    builder.add_text_field("said", tokenizer_name="whitespace", index_option="position")
    builder.add_unsigned_field("year_number", indexed=True, fast=True)
    for unit in UNITS:
        builder.add_unsigned_field(f"count_{unit}", indexed=True, fast=True)
    builder.add_float_field("quality", fast=True)
    builder.add_bytes_field("stored", stored=True, indexed=False)
    return builder.build()


SCHEMA = schema()


def build(folder: Path, documents: Iterable[Document]) -> int:
    """Write an index into an empty folder; returns the number of documents."""
    index = tantivy.Index(SCHEMA, path=str(folder))
    writer = index.writer(MEMORY_BYTES, 1)  # one thread: one segment, in the order given
    number = 0
    try:
        for item in documents:
            writer.add_document(_row(item))
            number += 1
        writer.commit()
    finally:
        writer.wait_merging_threads()  # its threads write files until then
    return number


def mend(folder: Path, change: Change, documents: Iterable[Document]) -> None:
    """Replace what changed in an index and drop what is gone."""
    index = tantivy.Index.open(str(folder))
    writer = index.writer(MEMORY_BYTES, 1)
    try:
        for slug in sorted(change.changed | change.gone):
            writer.delete_documents_by_term("slug", slug)
        for item in documents:
            writer.add_document(_row(item))
        writer.commit()
    finally:
        writer.wait_merging_threads()


def _row(item: Document) -> Any:
    row = tantivy.Document()
    row.add_text("slug", item.slug)
    for name in TEXT_FIELDS:
        row.add_text(name, " ".join(item.words(name)))
    for name in ("exact", "mentions", *PART_FIELDS, *FILTERS):
        for value in item.words(name):
            row.add_text(name, value)
    for name in SORT_FIELDS.values():
        row.add_text(name, getattr(item, name))
    row.add_text("said", SENTENCE_END.join(item.said))
    for unit, number in item.counts.items():
        row.add_unsigned(f"count_{unit}", number)
    if item.year:
        row.add_unsigned("year_number", item.year)
    row.add_float("quality", item.quality)
    row.add_bytes("stored", item.to_json().encode())
    return row


@dataclass(frozen=True)
class Opened:
    """An index that is open, and what was read of it: it is never changed.

    `read` are documents by segment and place in it, `matches` what is known of single words.
    """

    key: str
    searcher: Any
    read: dict[tuple[int, int], Document] = field(default_factory=dict)
    matches: Remembered = field(default_factory=Remembered)


@dataclass
class EmbeddedEngine:
    """Answers from `folder`; `key` names the right index and `documents` gives what goes in.

    With `digests`, an index of the same vocabulary is mended: `documents` then takes slugs.
    """

    folder: Path
    key: Callable[[], str]
    documents: Callable[..., Iterable[Document]]
    digests: Callable[[], Mapping[str, str]] | None = None

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._open = Opened("", None)

    def refresh(self) -> None:
        """Have the index of the catalog's present state open; build it when nobody has yet."""
        key = self.key()
        if self._open.key == key:
            return
        with self._lock:
            if self._open.key == key:
                return
            while not _is_whole(self.folder / key):
                self._build(self.folder / key, start=self._former(key))
                key = self.key()
            self._open = Opened(key, open_searcher(self.folder / key))
            self._clean(key)

    def is_current(self) -> bool:
        """The index of the catalog's present state is there."""
        return _is_whole(self.folder / self.key())

    def rebuild(self) -> int:
        """Build the index anew even when it is current; returns the number of documents."""
        with self._lock:
            key = self.key()
            number = self._build(self.folder / key, replace=True)
            while not _is_whole(self.folder / key) or key != self.key():
                key = self.key()
                number = self._build(self.folder / key, replace=True)
            self._open = Opened(key, open_searcher(self.folder / key))
            self._clean(key)
        return number

    def _former(self, key: str) -> Path | None:
        """The newest index that differs from the wanted one in its datasets alone."""
        if self.digests is None or not self.folder.is_dir():
            return None
        known = [
            path
            for path in self.folder.iterdir()
            if same_vocabulary(path.name, key) and _is_whole(path) and (path / DIGESTS).is_file()
        ]
        return max(known, key=lambda path: path.stat().st_mtime, default=None)

    def _fill(self, folder: Path, start: Path | None) -> int:
        """Mend a copy of the index `start` when little has changed, else build one."""
        wanted = self.digests() if self.digests else None
        if start is not None and wanted is not None:
            change = Change.between(json.loads((start / DIGESTS).read_text()), wanted)
            if change.is_small(len(wanted)):
                shutil.copytree(start, folder, dirs_exist_ok=True)
                mend(folder, change, self.documents(change.changed))
                (folder / DIGESTS).write_text(json.dumps(wanted))
                return len(wanted)
        number = build(folder, self.documents())
        if wanted is not None:
            (folder / DIGESTS).write_text(json.dumps(wanted))
        return number

    def _build(self, target: Path, *, replace: bool = False, start: Path | None = None) -> int:
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=_PARTIAL, dir=self.folder))
        old = partial.with_name(f"{partial.name}-old")
        try:
            number = self._fill(partial, start)
            if self.key() != target.name:
                return number  # the catalog changed while it was read: this is a mixture
            if replace and target.exists():
                target.rename(old)
            try:
                partial.rename(target)
            except OSError:
                # Another process was faster; its index has the same content.
                if not _is_whole(target):
                    raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)
        return number

    def _clean(self, key: str) -> None:
        """Drop indexes of former states, and what a killed builder left."""
        with suppress(OSError):  # another process cleans at the same time
            old = [path for path in self.folder.iterdir() if path.is_dir() and path.name != key]
            old.sort(key=lambda path: path.stat().st_mtime, reverse=True)
            whole = [path for path in old if not path.name.startswith(_PARTIAL)]
            limit = time.time() - ABANDONED_SECONDS
            stale = [
                path
                for path in old
                if path.name.startswith(_PARTIAL) and path.stat().st_mtime < limit
            ]
            for path in (*whole[KEPT - 1 :], *stale):
                shutil.rmtree(path, ignore_errors=True)

    def look_up(self, words: Sequence[str]) -> dict[str, WordMatch]:
        """For each word whether it occurs in any document, else those spelled alike."""
        opened = self._open
        return opened.matches.of(
            words, lambda new: {word: self._look_up(opened.searcher, word) for word in new}
        )

    def _look_up(self, searcher: Any, word: str) -> WordMatch:
        if searcher.doc_freq("text", word):
            return WordMatch(known=True)
        slips = allowed_slips(word)
        if not slips:
            return WordMatch()
        found = {
            other: count
            for other, count in searcher.terms_with_prefix("text", word[0])
            if OSA.distance(word, other, score_cutoff=slips) <= slips
        }
        return WordMatch(similar=found)

    def run(self, plan: Plan) -> Answer:
        """One page of strict matches, their number, and the counts of every facet."""
        opened = self._open
        searcher = opened.searcher
        query = _whole(plan)
        options: dict[str, Any] = {"weight_by_field": "quality"}
        if plan.sort in SORT_FIELDS:
            field = SORT_FIELDS[plan.sort]
            options = {"order_by_field": field, "order": tantivy.Order.Asc}
        found = searcher.search(query, plan.limit, offset=plan.offset, **options)
        free = [facet for facet in FACETS if facet not in plan.choices]
        counts = _count(searcher, _matching(plan), free)
        for facet in FACETS:
            if facet in plan.choices:
                counts |= _count(searcher, _matching(plan, but=facet), [facet])
        page = _read(opened, found)
        if plan.sort not in SORT_FIELDS:
            page = _by_score(page)
        return Answer(found.count, tuple(page), counts)

    def near(self, plan: Plan, minimum: int, limit: int) -> tuple[tuple[float, Document], ...]:
        """Best documents that satisfy at least `minimum` constraints, but not all."""
        each = [_translate(constraint.node) for constraint in plan.constraints]
        some = [(_SHOULD, node) for node in each]
        enough = _Query.boolean_query(some, minimum) if minimum else _Query.all_query()
        strict = _Query.boolean_query([(_MUST, node) for node in each])
        nearer = [(_SHOULD, _translate(term)) for term in plan.related]
        for item in plan.constraints:
            if item.kept_score:
                kept = _Query.const_score_query(_translate(item.core or item.node), item.kept_score)
                nearer.append((_SHOULD, kept))
        never = [(_NOT, _translate(node)) for node in plan.excluded]
        query = _Query.boolean_query([(_MUST, enough), (_NOT, strict), *never, *nearer])
        opened = self._open
        found = opened.searcher.search(query, limit, weight_by_field="quality")
        return tuple(_by_score(_read(opened, found)))


def _is_whole(folder: Path) -> bool:
    return (folder / "meta.json").exists()


def open_searcher(folder: Path) -> Any:
    index = tantivy.Index.open(str(folder))
    index.reload()
    return index.searcher()


def _read(opened: Opened, found: Any) -> list[tuple[float, Document]]:
    """Scored documents."""
    page = []
    for score, address in found.hits:
        place = (address.segment_ord, address.doc)
        item = opened.read.get(place)
        if item is None:
            if len(opened.read) >= DOCUMENTS_KEPT:
                opened.read.clear()
            stored = opened.searcher.doc(address)["stored"][0]
            item = opened.read[place] = read(bytes(stored).decode())
        page.append((float(score) if isinstance(score, int | float) else 0.0, item))
    return page


def _by_score(page: Iterable[tuple[float, Document]]) -> list[tuple[float, Document]]:
    """Those that score alike come by slug."""
    return sorted(page, key=lambda pair: (-pair[0], pair[1].slug))


def _count(searcher: Any, query: Any, facets: Sequence[str]) -> dict[str, dict[str, int]]:
    if not facets:
        return {}
    asked = {facet: {"terms": {"field": facet, "size": 1000}} for facet in facets}
    answer = searcher.aggregate(query, asked)
    return {
        facet: {row["key"]: int(row["doc_count"]) for row in answer[facet]["buckets"]}
        for facet in facets
    }


def _whole(plan: Plan) -> Any:
    """Everything asked, with scores."""
    # Every document scores 1 to begin with: where nothing else scores, quality decides.
    clauses = [(_MUST, _base()), *((_MUST, _translate(item.node)) for item in plan.constraints)]
    clauses += [(_NOT, _translate(node)) for node in plan.excluded]
    return _Query.boolean_query([*clauses, *((_SHOULD, _translate(term)) for term in plan.bonus)])


def _matching(plan: Plan, *, but: str = "") -> Any:
    """Everything asked but the choice of one facet, without scores: for counting."""
    nodes: list[Constraint] = list(plan.musts)
    nodes += [item for facet, item in plan.choices.items() if facet != but]
    clauses = [(_MUST, _translate(item.core or item.node)) for item in nodes]
    clauses += [(_NOT, _translate(node)) for node in plan.excluded]
    if not nodes:
        clauses.append((_MUST, _base()))
    return clauses[0][1] if len(clauses) == 1 else _Query.boolean_query(clauses)


@cache
def _base() -> Any:
    return _Query.const_score_query(_Query.all_query(), 1.0)


@lru_cache(maxsize=4096)
def _translate(node: Node) -> Any:
    match node:
        case Term():
            return _term(node)
        case Years(first=first, last=last):
            inside = _Query.range_query(
                SCHEMA, "year_number", tantivy.FieldType.Unsigned, first, last
            )
            return _Query.const_score_query(inside, 0.0)
        case Numbers():
            return _numbers(node)
        case Phrase(words=words):
            return _phrase(words)
        case Some(nodes=nodes) | Concept(places=nodes):
            return _Query.boolean_query([(_SHOULD, _translate(inner)) for inner in nodes])


def _numbers(node: Numbers) -> Any:
    some = _Query.boolean_query(
        [
            (_SHOULD, _Query.range_query(
                SCHEMA, f"count_{unit}", tantivy.FieldType.Unsigned, node.first, node.last
            ))
            for unit in node.units or UNITS
        ]
    )  # fmt: skip
    return _Query.const_score_query(some, 0.0)


def _phrase(words: Sequence[str]) -> Any:
    if len(words) == 1:
        return _Query.term_query(SCHEMA, "said", words[0], "position")
    return _Query.phrase_query(SCHEMA, "said", list(words))


def _term(term: Term) -> Any:
    if term.prefix:
        # Folded words hold letters, digits, + and &: only + means something in a pattern.
        pattern = term.value.replace("+", "\\+") + ".*"
        query = _Query.regex_query(SCHEMA, term.field, pattern)
    else:
        option = "freq" if term.field in TEXT_FIELDS else "basic"
        query = _Query.term_query(SCHEMA, term.field, term.value, option)
    if term.constant is not None:
        return _Query.const_score_query(query, term.constant)
    return query if term.boost == 1.0 else _Query.boost_query(query, term.boost)
