"""What a question means: words that the vocabulary knows become concepts, the rest stays text.

Pure: what the index knows of a word comes in as `WordMatch`, found by the engine beforehand.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType
from typing import Any

from rapidfuzz import process
from rapidfuzz.distance import OSA

from catalog import vocab
from catalog.concepts import concepts as concept_table
from catalog.describe import plural
from catalog.search.syntax import BREAK, Said, parse
from catalog.search.words import fold, singular, spelled, words

# In this order a word that two facets know is taken for a concept of the first.
CONCEPT_FACETS = ("modality", "anatomy", "disease", "task", "dimension", "access")
TEXT = "text"  # the "facet" of a corrected word that stays free text
# Words that say nothing about which dataset is meant, and vocabulary words too common in other
# senses to be taken for the concept: "MR images" does not ask for 2D.
_NOISE = """
    a all an and any are as at available by clinical collection contains containing data database
    dataset datasets download downloadable examination examinations exam exams find for from have
    having human humans i image images imaging in is it me medical of on or organ organs patients
    people photo photograph photographs photos picture pictures please public publicly radiological
    radiology recording recordings release released scan scans set sets show showing some studies
    subjects that the their to volumes want where which with
"""
NOISE = frozenset(_NOISE.split())
_AMBIGUOUS = """
    account anterior body data dynamic free image images lab login other others pupil report request
    series template text translation various volume
"""
NOT_CONCEPTS = frozenset(_AMBIGUOUS.split())
_NOT_ASKED_FOR = frozenset({"Other", "Derived object"})
_NO_SLIPS = frozenset({"none", "unknown"})  # English words that look like a slip of a concept
_LONGEST_SPAN = 6


@dataclass(frozen=True)
class Understood:
    """One thing that was read from `source`, the words as they were typed."""

    facet: str
    term: str
    source: str
    excluded: bool = False

    def as_dict(self) -> dict[str, Any]:
        shown = {"facet": self.facet, "term": self.term, "from": self.source}
        return {**shown, "excluded": True} if self.excluded else shown


@dataclass(frozen=True)
class WordMatch:
    """What an index knows of one word: whether it occurs, and words spelled alike with counts."""

    known: bool = False
    similar: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Interpretation:
    """Concepts, and `free`: the words that must occur as they are.

    `excluded` concepts and words (facet "text") must not occur. `said` are conditions on facets,
    years and counts, `phrases` words that follow each other. `corrections` are typing slips in free
    words (facet "text"); `unknown` words occur nowhere and are searched for as beginnings.
    """

    concepts: tuple[Understood, ...] = ()
    free: tuple[str, ...] = ()
    excluded: tuple[Understood, ...] = ()
    said: tuple[Said, ...] = ()
    phrases: tuple[Said, ...] = ()
    corrections: tuple[Understood, ...] = ()
    unknown: frozenset[str] = frozenset()

    @property
    def understood(self) -> tuple[Understood, ...]:
        said = (
            Understood(one.facet, wording(one), one.source, one.excluded)
            for one in (*self.said, *self.phrases)
        )
        return (*self.concepts, *said, *self.excluded, *self.corrections)


def wording(said: Said) -> str:
    """A condition in words: `CT or MR`, `from 2020`, `at least 50 subjects`."""
    if said.facet == "year" and not said.values:
        return _range(said.first, said.last, "from", "up to")
    if said.facet == "count":
        unit = f" {plural(said.units[0], 2)}" if len(said.units) == 1 else ""
        return _range(said.first, said.last, "at least", "at most") + unit
    if said.facet == "licence" and len(said.values) > 1:
        return said.source  # "CC BY": the versions that exist are not what was said
    return " or ".join(said.values)


def _range(first: int | None, last: int | None, least: str, most: str) -> str:
    if first == last:
        return str(first)
    if first and last:
        return f"{first} to {last}"
    return f"{least} {first}" if first else f"{most} {last}"


def words_to_look_up(text: str) -> tuple[str, ...]:
    """Words that the vocabulary does not know: an engine says whether its index does."""
    known = _vocabulary_words()
    asked = dict.fromkeys(words(parse(text).rest))
    return tuple(word for word in asked if word not in known and word not in NOISE)


def interpret(text: str, matches: Mapping[str, WordMatch] | None = None) -> Interpretation:
    """Read `text`; `matches` says what the index knows of `words_to_look_up(text)`.

    Raises:
        QueryError: a field in the text is asked for a value that it does not have.
    """
    parsed = parse(text)
    concepts: list[Understood] = []
    free: dict[str, str] = {}
    noise: dict[str, str] = {}
    for piece in parsed.rest.split(BREAK):
        _read(piece, matches or {}, concepts, free, noise)
    negated, left = _exclusions(parsed.negated)
    for piece in left:
        _read(piece, matches or {}, concepts, free, noise)
    if not (concepts or free or negated or parsed.said or parsed.phrases):
        free = noise  # a question of noise alone is meant literally
    corrected = [Understood(TEXT, word, said) for word, said in free.items() if word != said]
    lost = {word for word, said in free.items() if word == said and _is_lost(word, matches)}
    return Interpretation(
        concepts=tuple(dict.fromkeys(concepts)),
        free=tuple(free),
        excluded=tuple(dict.fromkeys(negated)),
        said=parsed.said,
        phrases=parsed.phrases,
        corrections=tuple(corrected),
        unknown=frozenset(lost),
    )


def _read(
    text: str,
    matches: Mapping[str, WordMatch],
    concepts: list[Understood],
    free: dict[str, str],
    noise: dict[str, str],
) -> None:
    """Sort the words of a stretch of text into concepts, free words and noise."""
    typed = words(text)
    repaired = tuple(_repair(word, matches.get(word)) for word in typed)
    for start, stop, concept in _spans(repaired):
        source = " ".join(typed[start:stop])
        if concept is not None:
            concepts.append(Understood(*concept, source))
        else:
            (noise if repaired[start] in NOISE else free)[repaired[start]] = source


def _exclusions(negated: Iterable[str]) -> tuple[list[Understood], list[str]]:
    """What must not occur, and what follows it: "not brain tumour CT" excludes one concept."""
    found: list[Understood] = []
    left: list[str] = []
    for said in negated:
        is_minus = said.startswith("-")
        mark = "-" if is_minus else re.match(_NEGATION, said, re.IGNORECASE)[0]  # type: ignore[index]
        typed = words(said[len(mark) :])
        spans = list(_spans(typed))
        if not spans:
            continue
        _, stop, concept = spans[0]
        source = f"{mark}{' '.join(typed[:stop])}"
        facet, term = concept or (TEXT, typed[0])
        found.append(Understood(facet, term, source, excluded=True))
        if rest := " ".join(typed[stop:]):
            left.append(rest)
    return found, left


_NEGATION = r"(?:but\s+)?(?:not|without|excluding|except|no)\s+(?:any\s+)?"


def _is_lost(word: str, matches: Mapping[str, WordMatch] | None) -> bool:
    match = (matches or {}).get(word)
    return match is not None and not match.known


def allowed_slips(word: str) -> int:
    """Typing slips forgiven in a word: none in short ones or with digits, else one or two."""
    if len(word) < 4 or any(char.isdigit() for char in word):  # noqa: PLR2004
        return 0
    return 1 if len(word) < 6 else 2  # noqa: PLR2004


def _repair(word: str, match: WordMatch | None) -> str:
    """The word that was meant: itself when anything knows it, else the closest known one.

    A word of English is hardly a slip: one letter of it may be, where that gives a concept
    ("prostrate cancer"), but "wound" is not "sound", nor "ejection" "detection".
    """
    if match is None or match.known or word in _NO_SLIPS or not (slips := allowed_slips(word)):
        return word
    similar, names = match.similar, _vocabulary_list()
    if word in _english():
        slips, similar, names = 1, {}, tuple(_concepts())
    # Fewest slips first, then vocabulary before other words, then the more frequent.
    candidates = [(OSA.distance(word, other), 1, -count, other) for other, count in similar.items()]
    candidates += [
        (int(distance), 0, -len(other), other)
        for other, distance, _ in process.extract(
            word, names, scorer=OSA.distance, score_cutoff=slips, limit=10
        )
    ]
    close = [row for row in candidates if row[0] <= slips]
    return min(close)[3] if close else word


def _spans(typed: tuple[str, ...]) -> Iterator[tuple[int, int, tuple[str, str] | None]]:
    """Longest runs of words that are a concept, and single words that are none."""
    table = _concepts()
    start = 0
    while start < len(typed):
        for stop in range(min(len(typed), start + _LONGEST_SPAN), start, -1):
            span = typed[start:stop]
            concept = next((table[name] for name in spelled(span) if name in table), None)
            if concept is not None:
                yield start, stop, concept
                start = stop
                break
        else:
            yield start, start + 1, None
            start += 1


@cache
def _english() -> frozenset[str]:
    """Words that people write on purpose; read, with their library, for the first unknown word."""
    from spellchecker import SpellChecker

    return frozenset(SpellChecker(language="en").word_frequency.keys())


@cache
def _concepts() -> Mapping[str, tuple[str, str]]:
    """Folded words, also written together ("xray"), to (facet, term)."""
    spaced: dict[str, tuple[str, str]] = {}
    joined: dict[str, tuple[str, str]] = {}
    for facet in CONCEPT_FACETS:
        for term in vocab.terms(facet).values():
            if term.name in _NOT_ASKED_FOR or term.name == "unknown":
                continue
            for word in map(fold, term.words):
                if word and word not in NOT_CONCEPTS:
                    spaced.setdefault(word, (facet, term.name))
                    joined.setdefault(word.replace(" ", ""), (facet, term.name))
    return MappingProxyType({**joined, **spaced})


@cache
def spellings(facet: str, name: str) -> tuple[tuple[str, ...], ...]:
    """A concept's name and synonyms as words, without those that mean other things in a name."""
    folded = dict.fromkeys(map(fold, vocab.terms(facet)[name].words))
    return tuple(tuple(word.split()) for word in folded if word and word not in NOT_CONCEPTS)


@cache
def _vocabulary_words() -> frozenset[str]:
    """Every single word of a concept's names: those are never taken for slips."""
    single = {word for name in _concepts() for word in name.split()}
    return frozenset(single | {singular(word) for word in single})


@cache
def _vocabulary_list() -> tuple[str, ...]:
    return tuple(sorted(_vocabulary_words() - NOISE))


def vocabulary_state() -> Any:
    """What `interpret` and documents take from the vocabulary: an index built on another is old."""
    terms = [
        (facet, term.name, term.synonyms, term.parent)
        for facet in CONCEPT_FACETS
        for term in vocab.terms(facet).values()
    ]
    return terms, [row.as_dict() for row in concept_table().values()]
