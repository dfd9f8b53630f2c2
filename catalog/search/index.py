"""Which index belongs to the catalog as it is now, and what goes into it."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Generic, TypeVar

from django.db.models import Count, Max

from catalog.models import CatalogRevision, Dataset
from catalog.search.documents import VERSION, Document, document
from catalog.search.interpret import WordMatch, vocabulary_state

BATCH = 500
LARGEST_CHANGE = 0.2
WORDS_KEPT = 10_000
Made = TypeVar("Made")


def current_key() -> str:
    """Name of the right index, `<catalog>-<vocabulary>`: with another name an index is stale.

    A catalog without a revision (rows made by hand) is told apart by number and time of its rows.
    """
    digest = CatalogRevision.objects.values_list("digest", flat=True).first()  # the newest
    if digest is None:
        rows = Dataset.objects.aggregate(number=Count("pk"), latest=Max("updated_at"))
        digest = hashlib.sha256(repr(sorted(rows.items())).encode()).hexdigest()
    return f"{digest[:16]}-{_vocabulary_digest()}"


class PerState(Generic[Made]):
    """What is made once for each state of the catalog: by one thread, while others wait for it."""

    def __init__(self, make: Callable[[str], Made]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._made: tuple[str, Made] | None = None

    def __call__(self, key: str = "") -> Made:
        """For the state that `key` names, the present one if it is empty."""
        key = key or current_key()
        made = self._made
        if made is None or made[0] != key:
            with self._lock:
                made = self._made
                if made is None or made[0] != key:
                    made = self._made = (key, self._make(key))
        return made[1]


@cache
def _vocabulary_digest() -> str:
    return hashlib.sha256(repr((VERSION, vocabulary_state())).encode()).hexdigest()[:8]


def current_documents(slugs: Iterable[str] | None = None) -> Iterator[Document]:
    """Every dataset as a document, or those named, by slug: equal scores keep this order."""
    rows = Dataset.objects.in_order()
    if slugs is None:
        yield from map(document, rows.iterator(chunk_size=BATCH))
        return
    wanted = sorted(slugs)
    for start in range(0, len(wanted), BATCH):
        yield from map(document, rows.filter(slug__in=wanted[start : start + BATCH]))


def current_digests() -> dict[str, str]:
    """The digest of every dataset: an index that holds others is brought up to date."""
    return dict(Dataset.objects.values_list("slug", "digest"))


@dataclass(frozen=True)
class Change:
    """What an index lacks: datasets that are new or changed, and those that are gone."""

    changed: frozenset[str]
    gone: frozenset[str]

    @classmethod
    def between(cls, indexed: Mapping[str, str], wanted: Mapping[str, str]) -> Change:
        changed = frozenset(s for s, digest in wanted.items() if indexed.get(s) != digest)
        return cls(changed, frozenset(indexed.keys() - wanted.keys()))

    def is_small(self, total: int) -> bool:
        """Whether mending the index is less work than building it anew."""
        return len(self.changed) + len(self.gone) <= total * LARGEST_CHANGE


def same_vocabulary(key: str, other: str) -> bool:
    """Whether two indexes were built from one vocabulary, so that their documents are alike."""
    return key.rpartition("-")[2] == other.rpartition("-")[2]


@dataclass(frozen=True)
class Remembered:
    """What one state of an index knows of words, asked once for each word."""

    matches: dict[str, WordMatch] = field(default_factory=dict)

    def of(
        self, words: Sequence[str], look_up: Callable[[Sequence[str]], Mapping[str, WordMatch]]
    ) -> dict[str, WordMatch]:
        found = {word: self.matches[word] for word in words if word in self.matches}
        if new := [word for word in words if word not in found]:
            if len(self.matches) >= WORDS_KEPT:
                self.matches.clear()
            found |= look_up(new)
            self.matches.update({word: found[word] for word in new})
        return found
