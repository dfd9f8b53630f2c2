"""How text becomes words, on both sides of a search: documents and questions. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

_BREAK = re.compile(r"[^\w+&]+|_")
_LETTERS_OR_DIGITS = re.compile(r"\d+|[^\W\d_]+")
_SHORTEST_PLURAL = 4


def fold(text: str) -> str:
    """Lower case without accents; punctuation becomes one space. Same as the vocabulary's way."""
    plain = unicodedata.normalize("NFKD", text.replace("'", "").replace("\u2019", ""))
    plain = "".join(char for char in plain if not unicodedata.combining(char))
    return _BREAK.sub(" ", plain.casefold()).strip()


def words(text: str) -> tuple[str, ...]:
    """The words of a text in order."""
    return tuple(fold(text).split())


def singular(word: str) -> str:
    """A plural without its s: "lungs" is found as "lung", "pus" and "glass" stay."""
    if len(word) < _SHORTEST_PLURAL or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    return word[:-1]


def spelled(span: Sequence[str]) -> tuple[str, ...]:
    """Some words as one phrase, as they are and with the last one in the singular."""
    return tuple(" ".join((*span[:-1], last)) for last in variants(span[-1])) if span else ()


def variants(word: str) -> tuple[str, ...]:
    """The word as asked and its singular."""
    other = singular(word)
    return (word,) if other == word else (word, other)


def index_words(texts: Iterable[str]) -> list[str]:
    """Every word under which `texts` can be found, in order, once each.

    "CHASE_DB1" gives chase, db1, chasedb1, db and 1, so that no spelling of a name is lost.
    """
    found: dict[str, None] = {}
    for text in texts:
        for chunk in text.split():
            parts = words(chunk)
            found.update(dict.fromkeys(parts))
            if len(parts) > 1:
                found["".join(parts)] = None
            for part in parts:
                found.update(dict.fromkeys(_LETTERS_OR_DIGITS.findall(part)))
    for word in tuple(found):
        found[singular(word)] = None
    return list(found)
