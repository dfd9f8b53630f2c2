"""Spelling over the words of concepts and names: slips in a word, and in a whole question. Pure."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping

from rapidfuzz import process
from rapidfuzz.distance import OSA

from catalog.search.errors import QueryError
from catalog.search.interpret import NOISE, allowed_slips, interpret
from catalog.search.words import fold

MOST_CORRECTIONS = 3
_SHORTEST_PART = 2
_LAST = "\U0010ffff"


class Speller:
    """Knows the words of concepts, and those of names with their number of datasets."""

    def __init__(self, concept_words: Iterable[str], name_words: Mapping[str, int]) -> None:
        self._concepts = frozenset(concept_words)
        self._number = {**dict.fromkeys(self._concepts, 0), **name_words}
        self._sorted = sorted(self._number)

    def beginnings(self, typed: str) -> list[str]:
        """Beginnings of known words that differ from `typed` by one slip after its first letter.

        A slip is a letter too many, too few, another one, or two that changed places. Where the
        last letter would go or change, only whole words count: any other beginning fits then.
        """
        found: dict[str, None] = {}
        for place in range(1, len(typed)):
            before, rest = typed[:place], typed[place:]
            if not self._begins(before):
                break
            others = [letter for letter in self._following(before) if letter != rest[0]]
            longer = (before + letter + rest for letter in others)
            alike = (before + letter + rest[1:] for letter in others)
            swapped = before + rest[1:2] + rest[0] + rest[2:]
            known = self._begins if len(rest) > 1 else self._number.__contains__
            found.update((one, None) for one in (swapped, *longer) if self._begins(one))
            found.update((one, None) for one in (before + rest[1:], *alike) if known(one))
        found.pop(typed, None)
        return list(found)

    def _begins(self, prefix: str) -> bool:
        place = bisect_left(self._sorted, prefix)
        return place < len(self._sorted) and self._sorted[place].startswith(prefix)

    def _following(self, prefix: str) -> Iterator[str]:
        """Letters that follow `prefix` in known words."""
        place = bisect_left(self._sorted, prefix)
        while place < len(self._sorted) and self._sorted[place].startswith(prefix):
            letter = self._sorted[place][len(prefix) : len(prefix) + 1]
            if letter:
                yield letter
            place = bisect_left(self._sorted, prefix + letter + _LAST, lo=place + 1)

    def corrections(self, text: str) -> tuple[str, ...]:
        """The text with its doubtful words respelled: all of them first, then one at a time."""
        try:
            doubtful = interpret(text).free
        except QueryError:
            return ()
        meant = {word: other for word in doubtful if (other := self._meant(word))}
        each = [_replaced(text, {word: other}) for word, other in meant.items()]
        texts = dict.fromkeys([_replaced(text, meant), *each])
        texts.pop(text, None)
        return tuple(texts)[:MOST_CORRECTIONS]

    def _meant(self, word: str) -> str | None:
        """A word of a concept spelled alike, two that were written together, or one of a name."""
        if word in self._concepts or word in NOISE:
            return None
        number = self._number.get(word, 0)
        close = process.extract(
            word, self._sorted, scorer=OSA.distance, score_cutoff=allowed_slips(word), limit=50
        )
        ranked = sorted((slips, -self._number[other], other) for other, slips, _ in close)
        concepts = (other for *_, other in ranked if other in self._concepts)
        names = (other for _, count, other in ranked if other != word and -count > number)
        return next(concepts, None) or _apart(word) or next(names, None)


def _apart(word: str) -> str | None:
    """The word as two that are understood: "brainmri" is "brain mri"."""
    if not word.isalpha():
        return None
    for place in range(_SHORTEST_PART, len(word) - _SHORTEST_PART + 1):
        text = f"{word[:place]} {word[place:]}"
        reading = interpret(text)
        if len(reading.concepts) > 1 and not reading.free:
            return text
    return None


def _replaced(text: str, meant: Mapping[str, str]) -> str:
    """`text` with other words, wherever they stand as words of their own."""

    def other(match: re.Match[str]) -> str:
        return meant.get(fold(match[0]), match[0])

    return re.sub(r"(?<![\w:])[\w'&+]+(?![\w:])", other, text)
