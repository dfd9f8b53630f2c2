"""A bundle's cases as somebody looks through them: few facts each, and where the bytes lie."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fusion.bundle.boxes import BOXES_ROLE
from fusion.bundle.content import split_names
from fusion.bundle.names import IMAGE_ROLE


@dataclass(frozen=True, slots=True)
class Part:
    """One file of a case: `size_bytes` at `offset` of the shard at `path`."""

    path: str
    member: str
    offset: int
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class CaseRow:
    """One case. `shape` (and `spacing_mm`, where known) as its array is stored.

    `splits` is the split, or `fold/split` of each fold. Without `images` its bytes are not in the
    bundle: a rebuild from the sources gives them.
    """

    id: str
    source: str
    name: str
    group: str
    splits: tuple[str, ...]
    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...] | None
    axcodes: str | None
    dtype: str
    unit: str
    channels: int
    flags: tuple[str, ...]
    annotated: tuple[str, ...]
    present: Mapping[str, int]  # concept -> voxels
    classes: Mapping[str, int] | None  # concept -> 1, 0 or -1
    images: tuple[Part, ...]
    label: Part | None
    boxes: Part | None  # the table of its boxes
    ignored: int | None  # voxels that nobody annotated; None where no label map can say so

    @property
    def voxels(self) -> int:
        return math.prod(self.shape)

    @property
    def concepts(self) -> list[str]:
        """Concepts found in it."""
        found = [concept for concept, number in self.present.items() if number]
        return found or [concept for concept, value in (self.classes or {}).items() if value == 1]


@dataclass(frozen=True)
class CaseIndex:
    """The cases of one bundle in its order; `concepts` are (id, label), value v is number v - 1."""

    is_3d: bool
    channels: tuple[str, ...]
    concepts: tuple[tuple[str, str], ...]
    sources: tuple[str, ...]
    splits: tuple[str, ...]
    cases: Mapping[str, CaseRow]

    def find(self, source: str = "", split: str = "", concept: str = "") -> list[CaseRow]:
        """Cases of a source, in a split, with a concept in them; "" is any."""
        return [
            case
            for case in self.cases.values()
            if (not source or case.source == source)
            and (not split or split in case.splits)
            and (not concept or concept in case.concepts)
        ]


def read_cases(manifest_json: bytes) -> CaseIndex:
    """The index of a manifest.json."""
    manifest = json.loads(manifest_json)
    plan = manifest["plan"]
    cases = {str(row["id"]): _case(row) for row in manifest["cases"]}
    return CaseIndex(
        is_3d=plan["dimension"] == "3D",
        channels=tuple(plan.get("channels") or ()),
        concepts=tuple((str(c["id"]), str(c["label"])) for c in manifest["concepts"]),
        sources=tuple(str(source["id"]) for source in manifest["sources"]),
        splits=tuple(dict.fromkeys(split for case in cases.values() for split in case.splits)),
        cases=cases,
    )


def _case(row: Mapping[str, Any]) -> CaseRow:
    names = split_names(row)
    parts = {str(file["role"]): _part(file) for file in row["files"]}
    return CaseRow(
        id=str(row["id"]),
        source=str(row["source"]),
        name=str(row["name"]),
        group=str(row["group"]),
        splits=tuple(s if fold == "holdout" else f"{fold}/{s}" for fold, s in names.items()),
        shape=tuple(row["shape"]),
        spacing_mm=_numbers(row["spacing"]),
        axcodes=row["axcodes"],
        dtype=str(row["dtype"]),
        unit=str(row["unit"]),
        channels=int(row["channels"]),
        flags=tuple(row["flags"]),
        annotated=tuple(row["annotated"]),
        present=dict(row["present"]),
        classes=row["classes"],
        images=tuple(part for role, part in parts.items() if IMAGE_ROLE.fullmatch(role)),
        label=parts.get("label"),
        boxes=parts.get(BOXES_ROLE),
        ignored=row.get("ignored"),
    )


def _part(file: Mapping[str, Any]) -> Part:
    place = int(file["offset"]), int(file["bytes"])
    return Part(str(file["path"]), str(file["member"]), *place, str(file["sha256"]))


def _numbers(values: Iterable[float] | None) -> tuple[float, ...] | None:
    return None if values is None else tuple(float(value) for value in values)
