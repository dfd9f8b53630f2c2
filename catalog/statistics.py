"""Figures over the catalog, each with the rule by which it counts. Pure.

A dataset with two modalities counts once in each and in what is broader, as a search finds it, so
that shares add up to more than one; the number of datasets behind a figure is given beside it.
Images are added only where a source states a count of images or volumes, never made from subjects,
studies or series.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

from catalog.facet_values import FACT_OF, UNKNOWN, found_under
from catalog.record import NONE, states_none

Facts = Mapping[str, Any]
IMAGE_UNITS = ("image", "volume", "slide", "frame", "patch")
MATRICES = (("modality", "anatomy"), ("modality", "task"))
_FACET_OF = {field: facet for facet, field in FACT_OF.items()}
EACH_ONCE = (
    "Each dataset counts once for every value that it has and for what is broader; as 'none' where "
    "a source states that there is none, and as 'unknown' where no source states any."
)


@dataclass(frozen=True)
class Figure:
    """Numbers by value, largest first or in order of time; `of` is how many datasets it covers."""

    name: str
    title: str
    rule: str
    of: int
    rows: tuple[tuple[str, int], ...]

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "rows": [{"value": v, "number": n} for v, n in self.rows]}


@dataclass(frozen=True)
class Matrix:
    """Datasets by two facets; `cells[i][j]` belongs to `down[i]` and `across[j]`."""

    name: str
    title: str
    rule: str
    of: int
    down: tuple[str, ...]
    across: tuple[str, ...]
    cells: tuple[tuple[int, ...], ...]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def every(datasets: Iterable[Facts]) -> dict[str, Figure | Matrix]:
    """All figures by name."""
    rows = list(datasets)
    found: list[Figure | Matrix] = [coverage(rows), *figures(rows), *matrices(rows)]
    return {figure.name: figure for figure in found}


def figures(datasets: Iterable[Facts]) -> list[Figure]:
    """Every one-way figure."""
    rows = list(datasets)
    return [
        *(_facet(rows, name) for name in FACT_OF),
        _single(rows, "access", "How one gets the files", "access"),
        _single(rows, "licence", "Licences", "licence"),
        _single(rows, "tier", "Curated and harvested records", "tier"),
        _years(rows),
        _images(rows),
    ]


def matrices(datasets: Iterable[Facts]) -> list[Matrix]:
    """Every two-way figure."""
    rows = list(datasets)
    return [_matrix(rows, down, across) for down, across in MATRICES]


def coverage(datasets: Iterable[Facts]) -> Figure:
    """For how many datasets each fact is known."""
    rows = list(datasets)
    fields = ("year", "modalities", "anatomies", "tasks", "diseases", "dimensions", "counts")
    more = ("labelled", "licence", "doi", "publisher", "homepage")
    known = [(field, sum(_is_known(row, field) for row in rows)) for field in fields + more]
    known.append(("access", sum(row["access"] != UNKNOWN for row in rows)))
    rule = "Datasets of which a source states the fact, or states that there is none."
    return Figure("coverage", "What is known", rule, len(rows), tuple(known))


def _is_known(row: Facts, field: str) -> bool:
    if field in _FACET_OF:
        return UNKNOWN not in found_under(row, _FACET_OF[field])
    return row[field] not in (None, []) or states_none(row, field)


def _facet(rows: Sequence[Facts], name: str) -> Figure:
    counted = Counter(value for row in rows for value in found_under(row, name))
    ranked = tuple(sorted(counted.items(), key=lambda pair: (-pair[1], pair[0])))
    return Figure(name, f"Datasets by {name}", EACH_ONCE, len(rows), ranked)


def _single(rows: Sequence[Facts], name: str, title: str, key: str) -> Figure:
    counted = Counter(row[key] or UNKNOWN for row in rows)
    ranked = tuple(sorted(counted.items(), key=lambda pair: (-pair[1], pair[0])))
    return Figure(name, title, "Each dataset counts once.", len(rows), ranked)


def _years(rows: Sequence[Facts]) -> Figure:
    known = [row["year"] for row in rows if row["year"]]
    counted = Counter(known)
    span = range(min(known), max(known) + 1) if known else range(0)
    rule = "Each dataset counts once, in the year of its first release; those without are left out."
    ordered = tuple((str(year), counted[year]) for year in span)
    return Figure("year", "Releases per year", rule, len(known), ordered)


def _images(rows: Sequence[Facts]) -> Figure:
    total: Counter[str] = Counter()
    covered = 0
    for row in rows:
        number = images_of(row)
        if number is None or len(row["modalities"]) != 1:
            continue
        covered += 1
        total[row["modalities"][0]] += number
    rule = (
        "The largest count of images, volumes, slides, frames or patches that a source states for "
        "the whole dataset; only datasets of one modality; overlapping datasets are not taken out."
    )
    ranked = tuple(sorted(total.items(), key=lambda pair: (-pair[1], pair[0])))
    return Figure("images", "Images by modality", rule, covered, ranked)


def images_of(facts: Facts) -> int | None:
    """The largest stated whole count in a unit of images; None where there is none."""
    numbers = [
        count["number"]
        for count in facts["counts"]
        if count["unit"] in IMAGE_UNITS and not count["split"]
    ]
    return max(numbers, default=None)


def _matrix(rows: Sequence[Facts], down: str, across: str) -> Matrix:
    cells: Counter[tuple[str, str]] = Counter()
    covered = 0
    for row in rows:
        pairs = set(product(_terms(row, down), _terms(row, across)))
        covered += bool(pairs)
        cells.update(pairs)
    ones = _by_size(cells, 0)
    others = _by_size(cells, 1)
    table = tuple(tuple(cells[one, other] for other in others) for one in ones)
    title = f"Datasets by {down} and {across}"
    rule = "Each dataset counts once in every cell of which it has both values or narrower ones."
    return Matrix(f"{down}-{across}", title, rule, covered, ones, others, table)


def _terms(row: Facts, facet: str) -> list[str]:
    return [value for value in found_under(row, facet) if value not in {NONE, UNKNOWN}]


def _by_size(cells: Mapping[tuple[str, str], int], side: int) -> tuple[str, ...]:
    totals: Counter[str] = Counter()
    for pair, number in cells.items():
        totals[pair[side]] += number
    return tuple(sorted(totals, key=lambda value: (-totals[value], value)))
