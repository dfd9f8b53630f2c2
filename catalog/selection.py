"""Datasets that somebody chose, read from the loaded catalog: side by side, and their likes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from django.db.models import Q
from rapidfuzz import fuzz, process

from catalog.comparison import FEWEST, MOST, Comparison, compare
from catalog.faults import NEAR_ENOUGH, Fault, closest
from catalog.models import Dataset
from catalog.search import similar
from catalog.search.errors import QueryError
from catalog.search.index import PerState
from catalog.search.similar import Neighbours
from catalog.search.words import fold


@dataclass(frozen=True)
class Selection:
    """Datasets that somebody has chosen, and what is known of all others."""

    facts: tuple[Mapping[str, Any], ...]
    neighbours: Neighbours

    def compare(self) -> Comparison:
        """The chosen datasets side by side.

        Raises:
            QueryError: fewer than two are chosen.
        """
        return compare(self.together(), self.neighbours.overlaps)

    def together(self) -> tuple[Mapping[str, Any], ...]:
        """The chosen datasets, two at least.

        Raises:
            QueryError: fewer than two are chosen.
        """
        if len(self.facts) < FEWEST:
            raise QueryError([wrong_number(len(self.facts))])
        return self.facts


def select(slugs: Iterable[str]) -> Selection:
    """The facts of the named datasets in the order given, each once.

    Raises:
        QueryError: more than six, or a slug that no dataset has; it names the nearest.
    """
    wanted = list(dict.fromkeys(slugs))
    if len(wanted) > MOST:
        raise QueryError([wrong_number(len(wanted))])
    found = dict(Dataset.objects.filter(slug__in=wanted).values_list("slug", "record"))
    if missing := [slug for slug in wanted if slug not in found]:
        known = list(Dataset.objects.values_list("slug", flat=True))
        raise QueryError([_no_dataset(slug, known) for slug in missing])
    return Selection(tuple(found[slug] for slug in wanted), neighbours())


def wrong_number(number: int) -> Fault:
    """How many were chosen, and how many there may be."""
    noun = "dataset" if number == 1 else "datasets"
    return Fault("slug", f"{number} {noun}", f"{FEWEST} to {MOST} datasets")


def _no_dataset(slug: str, known: list[str]) -> Fault:
    return Fault("slug", slug, "a slug of the catalog", closest(slug, known))


def named(text: str) -> str:
    """The slug of the dataset whose slug, name or alias is `text`, whatever its case and marks.

    `text` may also be its DOI, the address of its home page or that of its page here.

    Raises:
        QueryError: no dataset is called that; it names the nearest name.
    """
    if (slug := _at_address(text.strip())) is not None:
        return slug
    wanted = _bare(text)
    called: dict[str, str] = {}
    for slug, name, aliases in Dataset.objects.in_order().values_list("slug", "name", "aliases"):
        if slug == text.strip() or _bare(name) == wanted:
            return slug
        called.update(dict.fromkeys((name, *aliases, slug), slug))
    for word, slug in called.items():
        if _bare(word) == wanted:
            return slug
    close = process.extractOne(
        text, list(called), scorer=fuzz.ratio, processor=fold, score_cutoff=NEAR_ENOUGH
    )
    expected = "the name, an alias or the slug of a dataset"
    raise QueryError([Fault("add", text, expected, close[0] if close else None)])


def _at_address(text: str) -> str | None:
    rows = Dataset.objects.in_order()
    if doi := re.search(r"10\.\d{4,9}/\S+$", text):
        return rows.filter(record__doi__iexact=doi[0]).values_list("slug", flat=True).first()
    if "://" not in text:
        return None
    last = urlsplit(text).path.strip("/").rpartition("/")[2]
    same = Q(slug=last) | Q(record__homepage__in=[text, text.rstrip("/"), f"{text}/"])
    return rows.filter(same).values_list("slug", flat=True).first()


def _bare(name: str) -> str:
    """Letters and digits alone: "KiTS 21" and "kits-21" are one name."""
    return fold(name).replace(" ", "")


def _neighbours(_key: str) -> Neighbours:
    """One query over the columns that are needed."""
    in_record = {key: f"record__{key}" for key in ("relations", "modality_details")}
    columns = [in_record.get(key, key) for key in similar.KEYS]
    rows = Dataset.objects.in_order().values_list(*columns)
    return Neighbours(dict(zip(similar.KEYS, row, strict=True)) for row in rows)


#: Which datasets are like which.
neighbours = PerState(_neighbours)
