"""A list of overlaps between datasets, brought into the records as relations.

The list speaks of datasets by names; `aliases.yaml` says which record a name means where the name
itself does not. What the records already say of two datasets stays as it is.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from catalog.importers.cells import read_csv
from catalog.importers.entry import ImportSourceError
from catalog.importers.link import name_key
from catalog.record import DatasetRecord, Relation

ALIASES = Path(__file__).resolve().parent / "aliases.yaml"
COLUMNS = ("parent", "child", "kind", "evidence")
KINDS = frozenset({"subset", "superset", "derived", "relabelled", "shared_patients"})
TRUST = frozenset({"read", "cited", "computed"})
LONGEST_EVIDENCE = 180

Row = Mapping[str, str]


@dataclass(frozen=True)
class Joined:
    """The records with the relations, how many rows were new and known, and the names without."""

    records: dict[str, DatasetRecord]
    added: int
    known: int
    unmatched: Counter[str]


def read_overlaps(folder: Path) -> Sequence[Row]:
    """The rows of `overlaps.csv`: parent, child, kind (what the child is), evidence.

    Raises:
        ImportSourceError: the list is missing, or a kind is none that the records know.
    """
    rows = read_csv(folder / "overlaps.csv", COLUMNS)
    for number, row in enumerate(rows, start=2):
        if row["kind"] not in KINDS:
            expected = ", ".join(sorted(KINDS))
            raise ImportSourceError(
                f"overlaps.csv:{number}: kind: found {row['kind']!r}, expected one of {expected}"
            )
    return rows


def read_aliases(records: Mapping[str, DatasetRecord]) -> dict[str, str | None]:
    """Slug by name; null for a name that no record bears.

    Raises:
        ImportSourceError: an alias leads to no record.
    """
    found: dict[str, str | None] = yaml.safe_load(ALIASES.read_text("utf-8"))
    wrong = [
        f"{ALIASES.name}: {name}: found {slug!r}, expected the slug of a record"
        for name, slug in found.items()
        if slug is not None and slug not in records
    ]
    if wrong:
        raise ImportSourceError("\n".join(wrong))
    return found


def join(
    records: Mapping[str, DatasetRecord],
    rows: Iterable[Row],
    aliases: Mapping[str, str | None],
) -> Joined:
    """Each relation is written once, into the record of the child. Pure."""
    found = dict(records)
    slugs = _by_name(records)
    unmatched: Counter[str] = Counter()
    added = known = 0
    for row in rows:
        parent, child = (_slug(row[side], aliases, slugs) for side in ("parent", "child"))
        unmatched.update(
            row[side] for side, slug in (("parent", parent), ("child", child)) if slug is None
        )
        if parent is None or child is None or parent == child:
            continue
        if _related(found[child], parent) or _related(found[parent], child):
            known += 1
            continue
        trust, evidence = split_evidence(row["evidence"])
        fields: dict[str, Any] = {"to": parent, "kind": row["kind"], "trust": trust}
        relation = Relation(**fields, evidence=evidence)
        one = found[child]
        found[child] = one.model_copy(update={"relations": [*one.relations, relation]})
        added += 1
    return Joined(found, added, known, unmatched)


def split_evidence(text: str) -> tuple[str, str]:
    """How far a note is trusted, and what it rests on without what it says.

    `[cited] Bilic et al. arXiv:1901.04056: IRCAD gave its cases` rests on the paper, cited.
    """
    match = re.match(r"\[(\w+)\]\s*(.*)$", text, re.DOTALL)
    word, rest = (match[1], match[2]) if match else ("read", text)
    place = re.split(r"(?<!doi):\s", rest)[0][:LONGEST_EVIDENCE].strip()
    return (word if word in TRUST else "read"), place


def _by_name(records: Mapping[str, DatasetRecord]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for slug, record in records.items():
        for name in (slug, record.name, *record.aliases):
            found.setdefault(name_key(name), set()).add(slug)
    return found


def _slug(
    name: str, aliases: Mapping[str, str | None], slugs: Mapping[str, set[str]]
) -> str | None:
    if name in aliases:
        return aliases[name]
    named = slugs.get(name_key(name), set())
    return next(iter(named)) if len(named) == 1 else None


def _related(record: DatasetRecord, slug: str) -> bool:
    return any(row.to == slug for row in record.relations)
