"""Who owns a phrase that begins with what was typed: names, aliases, synonyms. Pure."""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from enum import IntEnum
from functools import lru_cache

from catalog.search.words import fold

_JOINED_WORDS = 3  # names of up to so many words are also found written as one word
_SHORTEST_INSIDE = 2
_LAST = "\U0010ffff"
_LETTERS_OR_DIGITS = re.compile(r"\d+|[^\W\d]+")
_folded = lru_cache(maxsize=20_000)(fold)


class How(IntEnum):
    """How a phrase matches, best first."""

    WHOLE = 0
    NAME = 1  # the owner's name begins so
    OTHER = 2  # a synonym or an alias begins so
    INSIDE = 3  # a later word begins so


class _Sorted:
    """Phrases in order, each with the number of its owner."""

    def __init__(self, pairs: Iterable[tuple[str, int]]) -> None:
        rows = sorted(set(pairs))
        self.phrases = [phrase for phrase, _ in rows]
        self.owners = array("I", (number for _, number in rows))

    def equal(self, phrase: str) -> set[int]:
        low = bisect_left(self.phrases, phrase)
        return set(self.owners[low : bisect_right(self.phrases, phrase, lo=low)])

    def beginning(self, prefix: str) -> set[int]:
        low = bisect_left(self.phrases, prefix)
        return set(self.owners[low : bisect_left(self.phrases, prefix + _LAST, lo=low)])

    def first_word(self, word: str) -> set[int]:
        return self.equal(word) | self.beginning(f"{word} ")


class PhraseIndex:
    """Who owns a phrase that begins with some text; an owner's first phrase is its name."""

    def __init__(self, owned: Iterable[tuple[int, tuple[str, ...]]]) -> None:
        names: list[tuple[str, int]] = []
        others: list[tuple[str, int]] = []
        inside: list[tuple[str, int]] = []
        for number, phrases in owned:
            for place, folded in enumerate(map(fold, phrases)):
                starts = others if place else names
                starts += ((spelling, number) for spelling in _spellings(folded))
                inside += ((tail, number) for tail in _tails(folded))
        self._names, self._others, self._inside = map(_Sorted, (names, others, inside))

    def matches(self, prefix: str) -> Iterator[tuple[How, set[int]]]:
        """How, and which owners; an owner may come again under a lesser way."""
        yield How.WHOLE, self._names.equal(prefix) | self._others.equal(prefix)
        yield How.NAME, self._names.beginning(prefix)
        yield How.OTHER, self._others.beginning(prefix)
        if len(prefix) >= _SHORTEST_INSIDE:
            yield How.INSIDE, self._inside.beginning(prefix)

    def with_word(self, word: str) -> set[int]:
        parts = (self._names, self._others, self._inside)
        return set[int]().union(*(part.first_word(word) for part in parts))


def matching(phrases: tuple[str, ...], prefix: str, how: How) -> str:
    """The first of an owner's phrases that matches in this way."""
    for phrase in phrases:
        folded = _folded(phrase)
        if how is How.INSIDE:
            matches = f" {prefix}" in f" {folded}"
        elif how is How.WHOLE:
            matches = prefix in _spellings(folded)
        else:
            matches = any(spelling.startswith(prefix) for spelling in _spellings(folded))
        if matches:
            return phrase
    return phrases[0]


def _spellings(folded: str) -> Iterator[str]:
    """A phrase also as one word and with its digits apart: "chasedb1", "kits 19"."""
    yield folded
    if folded.count(" ") < _JOINED_WORDS:
        yield folded.replace(" ", "")
    yield " ".join(part for word in folded.split() for part in _LETTERS_OR_DIGITS.findall(word))


def _tails(folded: str) -> Iterator[str]:
    """The phrase from its second word on, from its third, and so on."""
    place = folded.find(" ")
    while place >= 0:
        yield folded[place + 1 :]
        place = folded.find(" ", place + 1)
