"""Two to six datasets side by side: where they differ, what nobody states, what all share. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, Literal

from catalog import vocab
from catalog.facet_values import FACT_OF
from catalog.licences import CombinedLicence, combine
from catalog.overlaps import Overlap, OverlapGraph
from catalog.record import states_none

Facts = Mapping[str, Any]
State = Literal["same", "differs", "partly unknown", "unknown"]
FEWEST, MOST = 2, 6
FIELDS = (
    "tier",
    "year",
    "modalities",
    "modality_details",
    "anatomies",
    "diseases",
    "tasks",
    "dimensions",
    "counts",
    "labelled",
    "annotation",
    "classes",
    "spacing",
    "file_formats",
    "size_bytes",
    "licence",
    "licence_labels",
    "access",
    "platform",
    "publisher",
    "doi",
)
UNKNOWN: tuple[Any, ...] = (None, [], "", "unknown")


@dataclass(frozen=True)
class Row:
    """One field; `values`, `unknown` and `conflicts` follow the order of the datasets.

    A list that is empty and not `unknown` is stated: there is none.

    `differs`: two known values are not equal (lists compare without order). `partly unknown`: the
    known ones agree. `shared`: what every list that is known holds. `conflicts`: the sources of
    that dataset disagree.
    """

    field: str
    state: State
    values: tuple[Any, ...]
    unknown: tuple[bool, ...]
    conflicts: tuple[bool, ...]
    shared: tuple[Any, ...]


@dataclass(frozen=True)
class Family:
    """Compared datasets that are versions or parts of one work."""

    name: str
    slugs: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """`families_of_modality` and `concepts` hold for every dataset; a list is empty if none does.

    `licence` is what holds for all together; a licence that nobody states allows nothing.
    """

    datasets: tuple[Facts, ...]
    rows: tuple[Row, ...]
    concepts: Mapping[str, tuple[str, ...]]
    families_of_modality: tuple[str, ...]
    licence: CombinedLicence
    licence_unknown: tuple[str, ...]
    overlaps: tuple[Overlap, ...]
    families: tuple[Family, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        licence = asdict(self.licence)
        licence["ids"] = [name for name in self.licence.ids if name]
        licence |= {"combinable": self.licence.combinable, "one_file": self.licence.one_file}
        return {
            "datasets": [{key: one[key] for key in ("slug", "name")} for one in self.datasets],
            "fields": [asdict(row) for row in self.rows],
            "shared": {
                "concepts": self.concepts,
                "modality_families": self.families_of_modality,
            },
            "licence": {**licence, "unknown": self.licence_unknown},
            "overlaps": [asdict(overlap) for overlap in self.overlaps],
            "families": [asdict(family) for family in self.families],
        }


def compare(datasets: Sequence[Facts], overlaps: OverlapGraph) -> Comparison:
    """The facts of several datasets side by side, in the order given."""
    parts = [one["licence"] for one in datasets]
    parts += [one["licence_labels"] for one in datasets if one["licence_labels"]]
    pairs = combinations([one["slug"] for one in datasets], 2)
    return Comparison(
        datasets=tuple(datasets),
        rows=tuple(_row(field, datasets) for field in FIELDS),
        concepts={
            facet: vocab.in_common(facet, [one[key] for one in datasets])
            for facet, key in FACT_OF.items()
        },
        families_of_modality=families_of_modality(datasets),
        licence=combine(parts),
        licence_unknown=tuple(one["slug"] for one in datasets if not one["licence"]),
        overlaps=tuple(found for a, b in pairs if (found := overlaps.between(a, b))),
        families=_families(datasets),
    )


def _row(field: str, datasets: Sequence[Facts]) -> Row:
    values = tuple(one[field] for one in datasets)
    unknown = tuple(one[field] in UNKNOWN and not states_none(one, field) for one in datasets)
    known = [value for value, is_unknown in zip(values, unknown, strict=True) if not is_unknown]
    lists = [value for value in known if isinstance(value, list)]
    inside = [set(map(_item, value)) for value in lists]
    first = lists[0] if lists else []
    shared = tuple(item for item in first if all(_item(item) in one for one in inside))
    return Row(
        field=field,
        state=_state(known, len(values)),
        values=values,
        unknown=unknown,
        conflicts=tuple(field in one["conflicts"] for one in datasets),
        shared=shared,
    )


def _state(known: Sequence[Any], number: int) -> State:
    if not known:
        return "unknown"
    if len({_whole(value) for value in known}) > 1:
        return "differs"
    return "same" if len(known) == number else "partly unknown"


def _whole(value: Any) -> Any:
    """What two values are compared by: the order of a list does not count."""
    return frozenset(map(_item, value)) if isinstance(value, list) else _item(value)


def _item(value: Any) -> str:
    """A value without who said it and in which words."""
    if isinstance(value, dict):
        value = {key: part for key, part in value.items() if key not in {"source", "raw"}}
    return json.dumps(value, sort_keys=True)


def families_of_modality(datasets: Sequence[Facts]) -> tuple[str, ...]:
    """Families (`vocab.Term.family`) of which every dataset has a modality: those can be fused."""
    terms = vocab.terms("modality")
    each = [{terms[name].family for name in one["modalities"] if name in terms} for one in datasets]
    return tuple(sorted(name for name in set.intersection(*each) if name))


def _families(datasets: Sequence[Facts]) -> tuple[Family, ...]:
    members: dict[str, list[str]] = {}
    for one in datasets:
        if one["family"]:
            members.setdefault(one["family"], []).append(one["slug"])
    return tuple(
        Family(name, tuple(slugs)) for name, slugs in members.items() if len(slugs) >= FEWEST
    )
