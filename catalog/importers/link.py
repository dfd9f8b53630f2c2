"""Record linkage: which record a source's entry denotes. Pure.

A link is sure when name and place agree, queued for a person when only one does. Numbers in names
are never bridged: "BraTS 2018" and "BraTS 2019", "Task 1" and "Task 2" are different datasets.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from rapidfuzz import fuzz, process

from catalog.importers.entry import Entry
from catalog.record import DatasetRecord, SourceRef

Decision = Literal["same", "part", "new", "reject", "open"]
SURE, UNCERTAIN = 0.8, 0.4
SAME_NAME, LIKE_NAME, SAME_PLACE, SAME_DOI, AGREES = 0.6, 0.3, 0.45, 0.6, 0.2
LIKENESS = 88  # per cent of rapidfuzz.fuzz.ratio
CROWDED = 3  # an address that more records share says nothing


@dataclass(frozen=True)
class Link:
    """What becomes of one entry: `slug` names the record for same and part."""

    source: str
    ref: str
    name: str
    decision: Decision
    slug: str | None = None
    score: float = 0.0
    reason: str = ""


def name_key(name: str) -> str:
    """What makes two spellings of a name the same."""
    return re.sub(r"[^\w+]|_", "", name.casefold())


def slug_of(name: str) -> str:
    """ASCII letters, digits and single hyphens."""
    spelled = re.sub(r"\+\+|\+(?=\s|$)", " plus ", name.replace("'", ""))
    plain = unicodedata.normalize("NFKD", spelled)
    plain = plain.replace("&", " and ").encode("ascii", "ignore").decode().casefold()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:100].rstrip("-")


def numbers(name: str) -> frozenset[str]:
    """The numbers in a name, a two-digit year written in full: they tell versions apart."""
    found = re.findall(r"\d+", name)
    return frozenset(f"20{n}" if re.fullmatch(r"[012]\d", n) else n.lstrip("0") for n in found)


def place(url: str) -> str | None:
    """An address without scheme, www and landing-page endings; None for a bare host."""
    parts = urlsplit(url.casefold())
    path = re.sub(r"/(home|dataset|data|overview|download|index\.html?)?/?$", "", parts.path)
    query = f"?{parts.query}" if parts.query else ""
    host = parts.netloc.removeprefix("www.")
    bare = not path and not query and not host.endswith("grand-challenge.org")
    return None if bare else f"{host}{path}{query}"


class Index:
    """Records by everything that may identify them."""

    def __init__(self, records: Mapping[str, DatasetRecord]) -> None:
        self.records = records
        self.listed = {
            (ref.id, ref.ref): (slug, ref.whole)
            for slug, record in records.items()
            for ref in record.sources
        }
        self.names: dict[str, set[str]] = defaultdict(set)
        self.places: dict[str, set[str]] = defaultdict(set)
        self.dois: dict[str, set[str]] = defaultdict(set)
        for slug, record in records.items():
            for name in (record.name, *record.aliases):
                self.names[name_key(name)].add(slug)
            for link in record.links:
                if (where := place(link.url)) is not None:
                    self.places[where].add(slug)
            for claim in record.doi:
                self.dois[str(claim.value).casefold()].add(slug)

    def candidates(self, entry: Entry) -> list[tuple[float, str, str]]:
        """Score, slug and reason of each record that the entry may denote, best first."""
        scores: dict[str, float] = defaultdict(float)
        reasons: dict[str, list[str]] = defaultdict(list)

        def add(slugs: Iterable[str], score: float, reason: str) -> None:
            for slug in slugs:
                scores[slug] += score
                reasons[slug].append(reason)

        names = [entry.name, *entry.aliases]
        equal = {slug for name in names for slug in self.names.get(name_key(name), ())}
        add(equal, SAME_NAME, "same name")
        add(self._alike(names) - equal, LIKE_NAME, "similar name")
        places = filter(None, (place(link.url) for link in entry.links))
        found = {slug for where in places for slug in self.places.get(where, ())}
        if len(found) <= CROWDED:
            add(found, SAME_PLACE, "same address")
        doi = entry.facts.get("doi")
        if doi is not None:
            add(self.dois.get(str(doi.value).casefold(), ()), SAME_DOI, "same DOI")
        for slug in list(scores):
            score, reason = self._agreement(entry, self.records[slug])
            add([slug], score, reason)
        ranked = sorted(scores, key=lambda slug: (-scores[slug], slug))
        return [(round(scores[s], 2), s, ", ".join(filter(None, reasons[s]))) for s in ranked]

    def _alike(self, names: Iterable[str]) -> set[str]:
        keys = [key for name in names if len(key := name_key(name)) > CROWDED]
        close = {
            match
            for key in keys
            for match, _, _ in process.extract(
                key, self.names.keys(), scorer=fuzz.ratio, limit=3, score_cutoff=LIKENESS
            )
        }
        return {slug for match in close for slug in self.names[match]}

    def _agreement(self, entry: Entry, record: DatasetRecord) -> tuple[float, str]:
        """Modalities that meet speak for a link, other numbers in the names and years against."""
        own = [numbers(name) for name in (record.name, *record.aliases)]
        if not any(numbers(name) in own for name in (entry.name, *entry.aliases)):
            return -1.0, "other numbers in the name"
        mine = entry.facts.get("modalities")
        theirs = {term for claim in record.modalities for term in claim.value or ()}
        if mine is None or not mine.value or not theirs:
            return 0.0, ""
        if theirs.intersection(mine.value):
            return AGREES, "a modality in common"
        return -AGREES, "no modality in common"


def link(
    entries: Iterable[Entry],
    records: Mapping[str, DatasetRecord],
    decided: Mapping[tuple[str, str], Link],
) -> list[Link]:
    """What becomes of every entry: decided by a person, listed by a record, sure, or open."""
    index = Index(records)
    found = []
    for entry in entries:
        key = (entry.source, entry.ref)
        if key in index.listed:
            slug, whole = index.listed[key]
            what: Decision = "same" if whole else "part"
            found.append(Link(*key, entry.name, what, slug, 1.0, "listed by the record"))
        elif key in decided and decided[key].decision != "open":
            found.append(decided[key])
        else:
            found.append(_judge(entry, index))
    return found


def _judge(entry: Entry, index: Index) -> Link:
    best = next(iter(index.candidates(entry)), None)
    head = (entry.source, entry.ref, entry.name)
    if best is None or best[0] < UNCERTAIN:
        return Link(*head, "open", None, best[0] if best else 0.0, "resembles no record")
    score, slug, reason = best
    return Link(*head, "same" if score >= SURE else "open", slug, score, reason)


def with_source(record: DatasetRecord, source: str, ref: str, *, whole: bool) -> DatasetRecord:
    """The record with one more source, if it is not listed yet."""
    if any((row.id, row.ref) == (source, ref) for row in record.sources):
        return record
    row = SourceRef(id=source, ref=ref, whole=whole)
    return record.model_copy(update={"sources": [*record.sources, row]})
