"""A dataset as the engines index it: the same words and values on each. Pure but for model rows.

Synonyms and parents of a dataset's concepts are written into the document, and text is folded
here, so that no engine needs an analyzer plug-in.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from catalog import vocab
from catalog.facet_values import FACT_OF, UNKNOWN, terms_of, with_parents
from catalog.licences import licence
from catalog.models import Access, Dataset, Tier
from catalog.record import NONE, states_none
from catalog.search.facets import FIRST_YEAR
from catalog.search.interpret import spellings
from catalog.search.mentions import mentions
from catalog.search.words import fold, index_words

VERSION = 13  # raised when documents change their shape: every index is then rebuilt
PARTS = ("direct", "only", "worded", "named")  # of the terms of a facet, see `Document`
#: Fields of words, and those that a result is sorted by; the same on each engine.
TEXT_FIELDS = ("name_words", "text")
SORT_FIELDS = {"name": "by_name", "newest": "by_newest", "oldest": "by_oldest"}
SENTENCE_END = " \u00b6 "  # between texts, so that no phrase reaches across
# Fields whose sources' own words are searched too.
_IN_WORDS = frozenset(FACT_OF.values())


@dataclass(frozen=True)
class Document:
    """What is indexed of one dataset; `digest` tells a changed dataset from the same one.

    `name_words` name it; `text` adds its concepts with their synonyms and parents. `values` holds a
    facet's terms with their parents ("none" or "unknown" without), `direct` the terms alone, `only`
    the term of a facet that has one alone. `worded` are terms of which a spelling stands in names,
    classes or terms, whether the facet has them or not; `named` those that stand in the name.
    `mentions` are ids of concepts that are named anywhere in `said`: names and sources' words in
    order, for phrases. `counts` is the largest number of each unit. `quality` (0-0.4) only breaks
    ties. `by_*` are sort keys, ascending.
    """

    slug: str
    digest: str
    name: str
    aliases: tuple[str, ...]
    exact: tuple[str, ...]
    name_words: tuple[str, ...]
    text: tuple[str, ...]
    values: dict[str, tuple[str, ...]]
    direct: dict[str, tuple[str, ...]]
    only: dict[str, tuple[str, ...]]
    worded: dict[str, tuple[str, ...]]
    named: dict[str, tuple[str, ...]]
    mentions: tuple[str, ...]
    said: tuple[str, ...]
    counts: dict[str, int]
    year: int | None
    quality: float
    by_name: str
    by_newest: str
    by_oldest: str

    @property
    def family(self) -> str:
        """The family's name; empty for a dataset by itself."""
        name = self.values["family"][0]
        return "" if name == UNKNOWN else name

    def words(self, field: str) -> tuple[str, ...]:
        """The values of one indexed field by its name in the engines."""
        if field in self.values:
            return self.values[field]
        part, _, facet = field.partition("_")
        if part in PARTS:
            found_in: dict[str, tuple[str, ...]] = getattr(self, part)
            return found_in.get(facet, ())
        found: tuple[str, ...] = getattr(self, field)
        return found

    def to_json(self) -> str:
        return json.dumps(self.__dict__, ensure_ascii=False, separators=(",", ":"))


def read(text: str) -> Document:
    """The document that `to_json` wrote."""
    row: dict[str, Any] = json.loads(text)
    for name in ("aliases", "exact", "name_words", "text", "mentions", "said"):
        row[name] = tuple(row[name])
    for name in ("values", *PARTS):
        row[name] = {facet: tuple(found) for facet, found in row[name].items()}
    return Document(**row)


def document(dataset: Dataset) -> Document:
    """The document of one dataset."""
    names = [dataset.name, *dataset.aliases]
    own = {facet: tuple(getattr(dataset, field)) for facet, field in FACT_OF.items()}
    classes = dataset.record.get("classes", ())  # a labelled organ is a concept too
    direct = {facet: terms_of(facet, terms, classes) for facet, terms in own.items()}
    above = {facet: with_parents(facet, terms) for facet, terms in direct.items()}
    stated = [*names, *classes, *(term for terms in direct.values() for term in terms)]
    year = dataset.year
    said = tuple(fold(text) for text in [*names, *_own_words(dataset)] if text)
    name_words = index_words(names)
    stated_words = index_words(stated)
    return Document(
        slug=dataset.slug,
        digest=dataset.digest,
        name=dataset.name,
        aliases=tuple(dataset.aliases),
        exact=tuple(sorted({fold(word) for word in (dataset.slug, *names)})),
        name_words=tuple(name_words),
        text=tuple(index_words([*stated, *_further_words(dataset, above)])),
        values={
            **{facet: terms or _without(dataset, facet) for facet, terms in above.items()},
            "access": (dataset.access or UNKNOWN,),
            "licence": (dataset.licence or UNKNOWN,),
            "allows": allowed(dataset.licence),
            "platform": (dataset.platform or UNKNOWN,),
            "labelled": (_LABELLED[dataset.labelled],),
            "tier": (dataset.tier,),
            "family": (dataset.family,) if dataset.family else (UNKNOWN,),
            "year": (str(year) if year else UNKNOWN,),
        },
        direct=direct,
        only={facet: terms for facet, terms in own.items() if len(terms) == 1},
        worded=_spelled(frozenset(stated_words)),
        named=_spelled(frozenset(name_words), first_alone=True),
        mentions=mentions(said),
        said=said,
        counts=_counts(dataset),
        year=year,
        quality=_quality(dataset),
        by_name=f"{fold(dataset.name)} {dataset.slug}",
        by_newest=f"{9999 - (year or 0):04d} {dataset.slug}",
        by_oldest=f"{year or 9999:04d} {dataset.slug}",
    )


def documents(datasets: Iterable[Dataset]) -> Iterable[Document]:
    return map(document, datasets)


def _without(dataset: Dataset, facet: str) -> tuple[str, ...]:
    return (NONE if states_none(dataset.record, FACT_OF[facet]) else UNKNOWN,)


def _spelled(inside: frozenset[str], *, first_alone: bool = False) -> dict[str, tuple[str, ...]]:
    """By facet, the terms of which every word of a spelling (of the first one alone) is inside."""
    found: dict[str, dict[str, None]] = {}
    for word in inside & _spellings_by_word().keys():
        for all_words, facet, term, is_first in _spellings_by_word()[word]:
            if (is_first or not first_alone) and all_words <= inside:
                found.setdefault(facet, {})[term] = None
    return {facet: tuple(sorted(terms)) for facet, terms in sorted(found.items())}


@cache
def _spellings_by_word() -> Mapping[str, list[tuple[frozenset[str], str, str, bool]]]:
    """Every spelling of every concept under its longest word, which is most often its rarest."""
    found: dict[str, list[tuple[frozenset[str], str, str, bool]]] = {}
    for facet in FACT_OF:
        for term in vocab.terms(facet):
            for place, spelling in enumerate(spellings(facet, term)):
                row = (frozenset(spelling), facet, term, place == 0)
                found.setdefault(max(spelling, key=len), []).append(row)
    return found


_LABELLED = {True: "yes", False: "no", None: UNKNOWN}


def allowed(licence_id: str) -> tuple[str, ...]:
    """What a licence allows, in the values of the facet; unknown where there is none."""
    if not licence_id:
        return (UNKNOWN,)
    terms = licence(licence_id)
    free = terms.commercial and terms.adapt and terms.redistribute and not terms.share_alike
    found = {
        "permissive": free,
        "commercial": terms.commercial,
        "redistribution": terms.redistribute,
        "adaptation": terms.adapt,
    }
    return tuple(name for name, holds in found.items() if holds)


def _counts(dataset: Dataset) -> dict[str, int]:
    """The largest number that is stated of each unit, for the whole or a part of it."""
    found: dict[str, int] = {}
    for count in dataset.counts:
        unit = count["unit"]
        if unit:
            found[unit] = max(found.get(unit, 0), count["number"])
    return found


def _own_words(dataset: Dataset) -> Iterable[str]:
    """What sources say in their own words, class names and details."""
    yield from dataset.record.get("classes", ())
    yield from dataset.record.get("modality_details", ())
    yield (dataset.record.get("citation") or {}).get("title") or ""
    yield dataset.publisher
    yield dataset.family
    for claim in dataset.record.get("claims", ()):
        if claim["used"] and claim["raw"] and claim["field"] in _IN_WORDS:
            yield claim["raw"]
    for count in dataset.counts:
        yield count.get("what") or ""


def _further_words(dataset: Dataset, above: dict[str, tuple[str, ...]]) -> Iterable[str]:
    for facet, terms in above.items():
        known = vocab.terms(facet)
        for term in terms:
            yield term
            yield from known[term].synonyms if term in known else ()
    yield from (str(dataset.year or ""), dataset.licence, dataset.access)
    yield urlsplit(dataset.homepage).hostname or ""
    yield dataset.platform
    yield from _own_words(dataset)


def _quality(dataset: Dataset) -> float:
    """Curated, labelled, open, large, recent and complete, 0-0.4: it decides between equals."""
    largest = max((count.get("number") or 0 for count in dataset.counts), default=0)
    parts = (
        1.0 if dataset.tier == Tier.CURATED else 0.0,
        1.0 if dataset.labelled else 0.0,
        1.0 if dataset.access == Access.OPEN else 0.0,
        min(math.log10(largest + 1) / 6, 1.0),
        min(max((dataset.year or FIRST_YEAR) - 2000, 0) / 30, 1.0),
        dataset.quality / 100,
    )
    weights = (0.1, 0.1, 0.06, 0.05, 0.04, 0.05)
    return round(sum(part * weight for part, weight in zip(parts, weights, strict=True)), 4)
