"""What a search box offers while one types: concepts with counts, and datasets by name.

Everything is looked up in sorted lists of folded phrases that stay in memory: a keystroke needs no
engine. Pure but for `current`, which reads the catalog when it has changed.
"""

from __future__ import annotations

import re
import threading
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cache, lru_cache
from heapq import nsmallest
from typing import Any, ClassVar, NamedTuple

from catalog import vocab
from catalog.models import Dataset, Tier
from catalog.search.errors import QueryError
from catalog.search.index import current_key
from catalog.search.interpret import allowed_slips, interpret
from catalog.search.phrases import How, PhraseIndex, matching
from catalog.search.respell import Speller
from catalog.search.syntax import FIELDS
from catalog.search.words import fold

LIMIT, MAX_LIMIT = 8, 20
FEW = 3  # with fewer suggestions, one typing slip in the last word is forgiven
CARRIED: Mapping[str, str] = {
    "modality": "modalities",
    "anatomy": "anatomies",
    "disease": "diseases",
    "task": "tasks",
    "dimension": "dimensions",
}
COLUMNS = ("slug", "name", "aliases", "year", "tier", "sources", *CARRIED.values())
_LONGEST_TEXT = 300  # a longer one is pasted, not typed, and gets no suggestions
_LONGEST = 6  # words at the end of a text that are taken for the beginning of one phrase
# A word with what may stand right before it: a minus, a field, a quotation mark.
_CHUNK = re.compile(r"(?<!\S)(?P<mark>-?(?:(?P<field>[a-z]+):)?[\"(]?)(?=[^\W_])", re.IGNORECASE)

_OPEN_END = re.compile(r"(?:[^\W_]|[+&'\u2019])$")  # the last word may still go on


@dataclass(frozen=True)
class ConceptSuggestion:
    """A term of the vocabulary; `count` datasets carry it or a narrower one.

    `matched` is the synonym that was typed, None for the name itself. `text` is what the search box
    holds once the suggestion is taken: what stood before stays.
    """

    kind: ClassVar[str] = "concept"
    facet: str
    term: str
    count: int
    matched: str | None
    text: str

    def as_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, **asdict(self)}


@dataclass(frozen=True)
class DatasetSuggestion:
    """A dataset; `matched` is the alias or slug that was typed, None for its name."""

    kind: ClassVar[str] = "dataset"
    slug: str
    name: str
    matched: str | None
    year: int | None

    def as_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, **asdict(self)}


Suggestion = ConceptSuggestion | DatasetSuggestion


class _Span(NamedTuple):
    """The end of a text as the beginning of a phrase; `kept` stands before it as typed."""

    kept: str
    prefix: str
    mark: str
    facet: str | None
    words: int


class _Rank(NamedTuple):
    """Smaller is better; `number` counts concepts or datasets, best first."""

    slipped: bool
    shorter: int
    how: How
    number: int


class _Found(NamedTuple):
    rank: _Rank
    span: _Span


class Suggester:
    """Suggestions over one state of the catalog.

    Rows hold `COLUMNS`, as facts of a record and as rows of the database do. Concepts that no
    dataset carries and words that a search does not take for the concept are not offered.
    """

    def __init__(self, rows: Iterable[Mapping[str, Any]]) -> None:
        ordered = sorted(rows, key=_prominence)
        self._datasets = [(row["slug"], row["name"], row["year"]) for row in ordered]
        self._names = [_names(row) for row in ordered]
        self._dataset_index = PhraseIndex(enumerate(self._names))
        self._carriers = _carriers(ordered)
        terms = [
            (facet, name)
            for facet in CARRIED
            for name in vocab.terms(facet)
            if (facet, name) in self._carriers
        ]
        self._terms = sorted(terms, key=lambda key: (-len(self._carriers[key]), key))
        self._words = [_understood_words(*key) for key in self._terms]
        self._concept_index = PhraseIndex(enumerate(self._words))
        self.speller = Speller(
            (word for words in self._words for word in _single(words)),
            Counter(word for names in self._names for word in _single(names)),
        )
        # Each keystroke asks again for what stands before it, and people type the same words.
        self._having = lru_cache(maxsize=32)(self._datasets_with)
        self._remembered = lru_cache(maxsize=4096)(self._suggest)

    def suggest(self, text: str, limit: int = LIMIT) -> tuple[Suggestion, ...]:
        """At most `limit` suggestions for a text that is still being typed, best first.

        Longer endings of the text come before shorter ones, whole names before beginnings before
        words inside; then concepts with more datasets and datasets that more sources list. Each
        kind leaves half of the places to the other.
        """
        return self._remembered(text, limit) if len(text) <= _LONGEST_TEXT else ()

    def _suggest(self, text: str, limit: int) -> tuple[Suggestion, ...]:
        spans = _spans(text)
        concepts = self._find_concepts(spans, limit)
        datasets = self._find_datasets(spans, limit)
        if len(concepts) + len(datasets) < FEW and (slipped := self._respelled(spans)):
            concepts += self._find_concepts(slipped, limit, slipped=True, but=concepts)
            datasets += self._find_datasets(slipped, limit, slipped=True, but=datasets)
        places = max(limit - limit // 2, limit - len(datasets))
        offered: list[tuple[tuple[bool, int, How], int, Suggestion]]
        offered = [(found.rank[:3], 0, self._concept(found)) for found in concepts[:places]]
        rest = limit - len(offered)
        offered += [(found.rank[:3], 1, self._dataset(found)) for found in datasets[:rest]]
        return tuple(item for *_, item in sorted(offered, key=lambda row: row[:2]))

    def _find_concepts(
        self,
        spans: list[_Span],
        limit: int,
        *,
        slipped: bool = False,
        but: Iterable[_Found] = (),
    ) -> list[_Found]:
        def fits(span: _Span, numbers: set[int]) -> set[int]:
            if span.facet is None:
                return numbers
            return {number for number in numbers if self._terms[number][0] == span.facet}

        return _find(self._concept_index, spans, limit, fits, slipped=slipped, but=but)

    def _find_datasets(
        self,
        spans: list[_Span],
        limit: int,
        *,
        slipped: bool = False,
        but: Iterable[_Found] = (),
    ) -> list[_Found]:
        def fits(span: _Span, numbers: set[int]) -> set[int]:
            if span.mark or not numbers:
                return set()
            allowed = self._having(span.kept.strip())
            return numbers if allowed is None else numbers & allowed

        return _find(self._dataset_index, spans, limit, fits, slipped=slipped, but=but)

    def _datasets_with(self, kept: str) -> frozenset[int] | None:
        """Datasets that carry what the words say or have them in a name; None means all."""
        if not kept:
            return None
        try:
            reading = interpret(kept)
        except QueryError:
            return frozenset()
        if reading.said or reading.phrases or reading.excluded:
            return frozenset()
        each = [self._dataset_index.with_word(word) for word in reading.free]
        for said in reading.concepts:
            named = [self._dataset_index.with_word(word) for word in said.source.split()]
            carrying = self._carriers.get((said.facet, said.term), ())
            each.append(set.intersection(*named).union(carrying))
        return frozenset(set.intersection(*each)) if each else None

    def _respelled(self, spans: list[_Span]) -> list[_Span]:
        """The spans with one slip in their last word undone, in every way that leads somewhere."""
        if not spans:
            return []
        word = spans[-1].prefix.rpartition(" ")[2]
        if not allowed_slips(word):
            return []
        meant = self.speller.beginnings(word)
        return [
            span._replace(prefix=span.prefix.removesuffix(word) + other)
            for span in spans
            for other in meant
        ]

    def _concept(self, found: _Found) -> ConceptSuggestion:
        facet, term = key = self._terms[found.rank.number]
        said = matching(self._words[found.rank.number], found.span.prefix, found.rank.how)
        return ConceptSuggestion(
            facet,
            term,
            len(self._carriers[key]),
            None if said == term else said,
            _filled(found.span, term if found.rank.how is How.WHOLE else said),
        )

    def _dataset(self, found: _Found) -> DatasetSuggestion:
        slug, name, year = self._datasets[found.rank.number]
        said = matching(self._names[found.rank.number], found.span.prefix, found.rank.how)
        return DatasetSuggestion(slug, name, None if said == name else said, year)


def _prominence(row: Mapping[str, Any]) -> tuple[bool, int, int, str, str]:
    """Curated datasets first, then those that more sources list, then newer ones."""
    curated = row["tier"] == Tier.CURATED
    return not curated, -len(row["sources"]), -(row["year"] or 0), row["name"], row["slug"]


def _names(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Name, aliases, and the slug where it says something else: it may hold an accession number."""
    names = dict.fromkeys((row["name"], *row["aliases"]))
    folded = {fold(name) for name in names}
    return tuple(names) if fold(row["slug"]) in folded else (*names, row["slug"])


def _carriers(rows: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], array[int]]:
    """For each term the numbers of the datasets that carry it or a narrower one."""
    found: dict[tuple[str, str], array[int]] = {}
    above: dict[tuple[str, str], tuple[str, ...]] = {
        (facet, name): (name, *vocab.ancestors(facet, name))
        for facet in CARRIED
        for name in vocab.terms(facet)
    }
    for number, row in enumerate(rows):
        carried = {
            (facet, broader)
            for facet, field in CARRIED.items()
            for name in row[field]
            for broader in above.get((facet, name), ())
        }
        for key in carried:
            found.setdefault(key, array("I")).append(number)
    return found


@cache
def _understood_words(facet: str, name: str) -> tuple[str, ...]:
    """The name and synonyms of a term that a search takes for it and for nothing else."""
    return tuple(
        word
        for word in vocab.terms(facet)[name].words
        if [(said.facet, said.term) for said in interpret(word).concepts] == [(facet, name)]
    )


def _single(phrases: Iterable[str]) -> set[str]:
    return {word for phrase in phrases for word in fold(phrase).split()}


def _spans(text: str) -> list[_Span]:
    """Endings of a text that may begin a phrase, longest first.

    Inside a quotation or after a field, only what follows the mark is being typed.
    """
    found = []
    for chunk in [*_CHUNK.finditer(text)][-_LONGEST:]:
        typed = text[chunk.end() :]
        prefix = fold(typed)
        if prefix and not _OPEN_END.search(typed):
            prefix += " "
        field = chunk["field"]
        facet = None if field is None else FIELDS.get(field.casefold(), "")
        mark = chunk["mark"]
        found.append(_Span(text[: chunk.end()], prefix, mark, facet, len(prefix.split())))
    in_quotes = text.count('"') % 2 == 1
    last_mark = max((place for place, span in enumerate(found) if span.mark), default=0)
    if in_quotes:
        return found[last_mark : last_mark + 1]
    return [span for place, span in enumerate(found) if span.prefix and place >= last_mark]


def _find(
    index: PhraseIndex,
    spans: Iterable[_Span],
    limit: int,
    fits: Callable[[_Span, set[int]], set[int]],
    *,
    slipped: bool,
    but: Iterable[_Found],
) -> list[_Found]:
    """The best `limit` owners of matching phrases, each once, in order."""
    seen = {found.rank.number for found in but}
    best: list[_Found] = []
    for span in spans:
        # "brain tum" is a brain tumour: then the same word inside "breast tumour" is not meant.
        told = any(found.span.words > span.words for found in best)
        for how, numbers in index.matches(span.prefix):
            if how is How.INSIDE and told:
                continue
            new = fits(span, numbers - seen)
            chosen = nsmallest(limit, new)
            seen.update(chosen)
            best += (_Found(_Rank(slipped, -span.words, how, n), span) for n in chosen)
        if len(best) >= limit and not slipped:
            break
    return sorted(best, key=lambda found: found.rank)[:limit]


def _filled(span: _Span, words: str) -> str:
    """The text with a phrase in place of its beginning, quoted where a mark needs it."""
    if span.mark.endswith('"'):
        return f'{span.kept}{words}"'
    if span.mark.strip("(") and " " in words:
        return f'{span.kept}"{words}"'
    return span.kept + words


class Live:
    """The suggester of the catalog's present state: built when `key` names another state.

    While one thread builds, the others are answered from the state before.
    """

    def __init__(
        self, key: Callable[[], str], rows: Callable[[], Iterable[Mapping[str, Any]]]
    ) -> None:
        self._key, self._rows = key, rows
        self._lock = threading.Lock()
        self._built: tuple[str, Suggester | None] = ("", None)

    def __call__(self) -> Suggester:
        key = self._key()
        known, suggester = self._built
        if suggester is not None and known == key:
            return suggester
        if not self._lock.acquire(blocking=suggester is None) and suggester is not None:
            return suggester
        try:
            known, suggester = self._built
            if suggester is None or known != key:
                suggester = Suggester(self._rows())
                self._built = (key, suggester)
            return suggester
        finally:
            self._lock.release()


def _catalog_rows() -> Iterable[Mapping[str, Any]]:
    yield from Dataset.objects.values(*COLUMNS).iterator(chunk_size=2000)


current = Live(current_key, _catalog_rows)


def did_you_mean(
    text: str, total: int, count: Callable[[str], int], suggester: Suggester | None = None
) -> str | None:
    """The text with corrected words where that finds more; None when nothing better is known.

    `total` is what the text itself finds, and `count` says what another text finds: it is asked at
    most three times, and never when the text finds enough.
    """
    if total >= FEW or not text.strip():
        return None
    speller = (suggester or current()).speller
    return next((other for other in speller.corrections(text) if count(other) > total), None)
