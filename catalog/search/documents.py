"""A dataset as the engines index it: the same words and values on each. Pure but for model rows.

Synonyms and parents of a dataset's concepts are written into the document, and text is folded
here, so that no engine needs an analyzer plug-in.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from catalog import vocab
from catalog.models import Access, Dataset
from catalog.search.query import FIRST_YEAR, UNKNOWN
from catalog.search.words import fold, index_words

VERSION = 2  # raised when documents change their shape: every index is then rebuilt
_LISTS = {
    "modality": "modalities",
    "anatomy": "anatomies",
    "task": "tasks",
    "dimension": "dimensions",
    "disease": "diseases",
}
# Fields whose sources' own words are searched too.
_IN_WORDS = frozenset(_LISTS.values())


@dataclass(frozen=True)
class Document:
    """`name_words` name it; `stated` adds its concepts' names; `text` adds synonyms and parents.

    `values` holds a facet's terms with their parents ("unknown" where none is known), `direct` the
    terms alone. `quality` (0-0.3) only breaks ties. `by_*` are sort keys, ascending.
    """

    slug: str
    name: str
    aliases: tuple[str, ...]
    exact: tuple[str, ...]
    name_words: tuple[str, ...]
    stated: tuple[str, ...]
    text: tuple[str, ...]
    values: dict[str, tuple[str, ...]]
    direct: dict[str, tuple[str, ...]]
    year: int | None
    quality: float
    by_name: str
    by_newest: str
    by_oldest: str

    def words(self, field: str) -> tuple[str, ...]:
        """The values of one indexed field by its name in the engines."""
        if field.startswith("direct_"):
            return self.direct.get(field.removeprefix("direct_"), ())
        if field in self.values:
            return self.values[field]
        found: tuple[str, ...] = getattr(self, field)
        return found

    def to_json(self) -> str:
        return json.dumps(self.__dict__, ensure_ascii=False, separators=(",", ":"))


@lru_cache(maxsize=2048)
def read(text: str) -> Document:
    """The document that `to_json` wrote; the same text gives the same object."""
    row: dict[str, Any] = json.loads(text)
    for name in ("aliases", "exact", "name_words", "stated", "text"):
        row[name] = tuple(row[name])
    for name in ("values", "direct"):
        row[name] = {facet: tuple(found) for facet, found in row[name].items()}
    return Document(**row)


def document(dataset: Dataset) -> Document:
    """The document of one dataset."""
    names = [dataset.name, *dataset.aliases]
    direct = {facet: tuple(getattr(dataset, field)) for facet, field in _LISTS.items()}
    above = {facet: _with_parents(facet, terms) for facet, terms in direct.items()}
    stated = [*names, *(term for terms in direct.values() for term in terms)]
    year = dataset.year
    return Document(
        slug=dataset.slug,
        name=dataset.name,
        aliases=tuple(dataset.aliases),
        exact=tuple(sorted({fold(word) for word in (dataset.slug, *names)})),
        name_words=tuple(index_words(names)),
        stated=tuple(index_words(stated)),
        text=tuple(index_words([*stated, *_further_words(dataset, above)])),
        values={
            **{facet: terms or (UNKNOWN,) for facet, terms in above.items()},
            "access": (dataset.access or UNKNOWN,),
            "licence": (dataset.licence or UNKNOWN,),
            "year": (str(year) if year else UNKNOWN,),
        },
        direct=direct,
        year=year,
        quality=_quality(dataset),
        by_name=f"{fold(dataset.name)} {dataset.slug}",
        by_newest=f"{9999 - (year or 0):04d} {dataset.slug}",
        by_oldest=f"{year or 9999:04d} {dataset.slug}",
    )


def documents(datasets: Iterable[Dataset]) -> Iterable[Document]:
    return map(document, datasets)


def _with_parents(facet: str, terms: Iterable[str]) -> tuple[str, ...]:
    known = vocab.terms(facet)
    found: dict[str, None] = {}
    for term in terms:
        found[term] = None
        if term in known:
            found.update(dict.fromkeys(vocab.ancestors(facet, term)))
    return tuple(found)


def _further_words(dataset: Dataset, above: dict[str, tuple[str, ...]]) -> Iterable[str]:
    for facet, terms in above.items():
        known = vocab.terms(facet)
        for term in terms:
            yield term
            yield from known[term].synonyms if term in known else ()
    yield from (str(dataset.year or ""), dataset.licence, dataset.access)
    yield urlsplit(dataset.homepage).hostname or ""
    yield from dataset.record.get("classes", ())
    yield from dataset.record.get("modality_details", ())
    for claim in dataset.record.get("claims", ()):
        if claim["used"] and claim["raw"] and claim["field"] in _IN_WORDS:
            yield claim["raw"]


def _quality(dataset: Dataset) -> float:
    """Labelled, open, large and recent, 0-0.3: it decides between equals, nothing more."""
    largest = max((count.get("number") or 0 for count in dataset.counts), default=0)
    parts = (
        1.0 if dataset.labelled else 0.0,
        1.0 if dataset.access == Access.OPEN else 0.0,
        min(math.log10(largest + 1) / 6, 1.0),
        min(max((dataset.year or FIRST_YEAR) - 2000, 0) / 30, 1.0),
    )
    weights = (0.12, 0.08, 0.06, 0.04)
    return round(sum(part * weight for part, weight in zip(parts, weights, strict=True)), 4)
