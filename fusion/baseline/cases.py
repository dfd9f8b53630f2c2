"""Cases of a build, and which of them an arm trains on, chooses by and is tested on."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Case:
    """One case of the build's work folder, as its case.json describes it.

    Attributes:
        split: train, val or test; with leave-one-source-out, fold name to one of these.
        annotated: concepts that somebody looked for; absent from it means unknown.
        classes: concept to 1, 0 or -1 (uncertain).
        images: one file per channel, in order; one file where a picture holds three colours.
        size: extent of one plane in pixels or voxels.
        pixel_mm: spacing of one plane, None for pictures.
    """

    id: str
    source: str
    group: str
    split: str | Mapping[str, str]
    annotated: frozenset[str]
    classes: Mapping[str, int]
    size: tuple[int, int]
    pixel_mm: tuple[float, float] | None
    channels: int
    unit: str
    images: tuple[Path, ...]
    label: Path | None

    def role(self, fold: str | None) -> str:
        """train, val, test, or "" when the case has no part in this fold."""
        if isinstance(self.split, str):
            return self.split if fold is None else ""
        return self.split.get(fold, "") if fold is not None else ""


@dataclass(frozen=True)
class Arm:
    """One network to train: cases that it learns from, is chosen by and is tested on."""

    name: str
    fold: str | None
    train: tuple[Case, ...]
    val: tuple[Case, ...]
    test: tuple[Case, ...]

    def objection(self) -> str:
        """Why this arm cannot run, or "" when it can."""
        if not self.train:
            return "no training case"
        learnt = {case.group for case in (*self.train, *self.val)}
        if shared := sorted(learnt & {case.group for case in self.test}):
            return f"group {shared[0]} is in training and in test"
        return ""


def read_cases(workdir: Path) -> list[Case]:
    """All cases below `workdir`/cases, in order of id."""
    return [_case(path) for path in sorted(workdir.glob("cases/*/case.json"))]


def _case(path: Path) -> Case:
    row: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    files = {entry["role"]: path.parent / entry["path"] for entry in row["files"]}
    spacing = row["spacing_mm"]
    return Case(
        id=row["id"],
        source=row["source"],
        group=row["group"],
        split=row["split"],
        annotated=frozenset(row["annotated"]),
        classes=row["classes"] or {},
        size=(int(row["shape"][0]), int(row["shape"][1])),
        pixel_mm=(float(spacing[0]), float(spacing[1])) if spacing else None,
        channels=int(row["channels"]),
        unit=row["unit"],
        images=tuple(path for role, path in files.items() if role.startswith("image")),
        label=files.get("label"),
    )


def limited(cases: Sequence[Case], most: int, seed: int) -> list[Case]:
    """At most `most` cases: the same share of each source and split, the same for one seed."""
    strata: dict[str, list[Case]] = defaultdict(list)
    for case in sorted(cases, key=lambda case: _draw(case.id, seed)):
        strata[json.dumps([case.source, case.split], sort_keys=True)].append(case)
    ranked = [
        (rank / len(stratum), _draw(case.id, seed), case)
        for stratum in strata.values()
        for rank, case in enumerate(stratum)
    ]
    kept = sorted(ranked, key=lambda entry: entry[:2])[:most]
    return sorted((case for _, _, case in kept), key=lambda case: case.id)


def _draw(case_id: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}\0{case_id}".encode()).hexdigest()


def arms_of(cases: Sequence[Case], sources: Sequence[str], protocol: str) -> list[Arm]:
    """Arms of a protocol: one for holdout and kfold (its first fold), one per source for loso.

    Raises:
        ValueError: an unknown protocol.
    """
    if protocol == "holdout":
        return [_arm("fused", None, cases)]
    if protocol == "loso":
        return [_left_out(source, f"fold{i}", cases) for i, source in enumerate(sources)]
    if protocol == "kfold":
        return [_arm("fused", "fold0", cases)]
    raise ValueError(f"protocol: found {protocol!r}, expected 'holdout', 'kfold' or 'loso'")


def _arm(name: str, fold: str | None, cases: Iterable[Case]) -> Arm:
    parts: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        parts[case.role(fold)].append(case)
    return Arm(name, fold, tuple(parts["train"]), tuple(parts["val"]), tuple(parts["test"]))


def _left_out(source: str, fold: str, cases: Iterable[Case]) -> Arm:
    arm = _arm(f"without:{source}", fold, cases)
    if strangers := [case.id for case in arm.test if case.source != source]:
        raise ValueError(f"{fold} tests {strangers[0]}, expected cases of {source} only")
    if own := [case.id for case in (*arm.train, *arm.val) if case.source == source]:
        raise ValueError(f"{fold} trains on {own[0]} of {source}, the source left out")
    return arm


def source_weights(cases: Sequence[Case]) -> list[float]:
    """Chance of each case to be drawn: 1/sqrt(cases of its source), summing to 1."""
    counts = Counter(case.source for case in cases)
    raw = [counts[case.source] ** -0.5 for case in cases]
    total = sum(raw)
    return [weight / total for weight in raw]
