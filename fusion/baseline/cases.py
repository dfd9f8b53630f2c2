"""Cases of a build, and which of them an arm trains on, chooses by and is tested on."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fusion.bundle.boxes import BOXES_ROLE

FUSED, SINGLE, WITHOUT = "fused", "single:", "without:"
_LEARNT = frozenset({"train", "val"})
_VAL_SHARE = 5  # one group of so many, of a source without val cases


@dataclass(frozen=True)
class Case:
    """One case of the build's work folder, as its case.json describes it.

    Attributes:
        split: train, val or test; with folds, fold name to one of these.
        annotated: concepts that somebody looked for; absent from it means unknown.
        classes: concept to 1, 0 or -1 (uncertain).
        images: one file per channel, in order; one file where a picture holds three colours.
        shape: extent in pixels or voxels, without channels.
        spacing_mm: of each axis, None for pictures.
        norm: how the bundle says that its intensities are scaled; None: unsaid.
        boxes: the table of its boxes.
        ignores: its label map may say where nobody annotated, by the value after all concepts.
    """

    id: str
    source: str
    group: str
    split: str | Mapping[str, str]
    annotated: frozenset[str]
    classes: Mapping[str, int]
    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...] | None
    channels: int
    unit: str
    images: tuple[Path, ...]
    label: Path | None
    norm: Mapping[str, Any] | None = None
    boxes: Path | None = None
    ignores: bool = False

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

    @property
    def learns(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What decides the network: two arms that learn alike are trained once."""
        return tuple(case.id for case in self.train), tuple(case.id for case in self.val)


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
        shape=tuple(int(n) for n in row["shape"][: 3 if spacing else 2]),
        spacing_mm=tuple(float(mm) for mm in spacing) if spacing else None,
        channels=int(row["channels"]),
        unit=row["unit"],
        images=tuple(path for role, path in files.items() if role.startswith("image")),
        label=files.get("label"),
        norm=row.get("norm"),
        boxes=files.get(BOXES_ROLE),
        ignores="ignored" in row,
    )


def limited(cases: Sequence[Case], most: int, seed: int) -> list[Case]:
    """At most `most` cases, the same for one seed: as many of each source as it has.

    What a small source leaves of its share goes to the larger ones. A source keeps the proportions
    of its splits.
    """
    strata: dict[str, dict[str, list[Case]]] = defaultdict(lambda: defaultdict(list))
    for case in sorted(cases, key=lambda case: _draw(case.id, seed)):
        strata[case.source][json.dumps(case.split, sort_keys=True)].append(case)
    turns = []
    for source in strata.values():
        ranked = [
            (rank / len(stratum), _draw(case.id, seed), case)
            for stratum in source.values()
            for rank, case in enumerate(stratum)
        ]
        inside = sorted(ranked, key=lambda entry: entry[:2])
        turns += [(turn, draw, case) for turn, (_, draw, case) in enumerate(inside)]
    kept = sorted(turns, key=lambda entry: entry[:2])[:most]
    return sorted((case for _, _, case in kept), key=lambda case: case.id)


def _draw(name: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}\0{name}".encode()).hexdigest()


def arms_of(
    cases: Sequence[Case], sources: Sequence[str], protocol: str, seed: int = 0
) -> list[Arm]:
    """Every arm of a protocol, fold by fold.

    Holdout and k-fold: all sources together, each alone, all but each; every arm is tested on the
    test cases of every source. Leave-one-source-out: all but each, tested on the one left out, and
    each alone, tested on whatever it does not learn from. A source without val cases gets one group
    in five of its training groups as val.

    Raises:
        ValueError: an unknown protocol, or a fold that trains on the source left out.
    """
    several = len(sources) > 1
    if protocol == "loso":
        arms = [_left_out(source, f"fold{i}", cases) for i, source in enumerate(sources)]
        if several:
            arms += [_alone(source, i, len(sources), cases) for i, source in enumerate(sources)]
    elif protocol in {"holdout", "kfold"}:
        arms = []
        for fold in [None] if protocol == "holdout" else _folds(cases):
            fused = _arm(FUSED, fold, cases)
            arms.append(fused)
            if several:
                arms += [_only(fused, f"{SINGLE}{s}", {s}) for s in sources]
                arms += [_only(fused, f"{WITHOUT}{s}", set(sources) - {s}) for s in sources]
    else:
        raise ValueError(f"protocol: found {protocol!r}, expected 'holdout', 'kfold' or 'loso'")
    return [_with_val(arm, seed) for arm in arms]


def _folds(cases: Iterable[Case]) -> list[str]:
    return sorted(
        {fold for case in cases if isinstance(case.split, Mapping) for fold in case.split}
    )


def _arm(name: str, fold: str | None, cases: Iterable[Case]) -> Arm:
    parts: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        parts[case.role(fold)].append(case)
    return Arm(name, fold, tuple(parts["train"]), tuple(parts["val"]), tuple(parts["test"]))


def _only(arm: Arm, name: str, sources: set[str]) -> Arm:
    """The arm with the training and val cases of `sources` alone, and all of its test cases."""
    train, val = (
        tuple(case for case in part if case.source in sources) for part in (arm.train, arm.val)
    )
    return Arm(name, arm.fold, train, val, arm.test)


def _left_out(source: str, fold: str, cases: Iterable[Case]) -> Arm:
    arm = _arm(f"{WITHOUT}{source}", fold, cases)
    if strangers := [case.id for case in arm.test if case.source != source]:
        raise ValueError(f"{fold} tests {strangers[0]}, expected cases of {source} only")
    if own := [case.id for case in (*arm.train, *arm.val) if case.source == source]:
        raise ValueError(f"{fold} trains on {own[0]} of {source}, the source left out")
    return arm


def _alone(source: str, number: int, folds: int, cases: Sequence[Case]) -> Arm:
    """A source alone: what every other fold learns from of it; tested on all other groups."""
    others = [f"fold{i}" for i in range(folds) if i != number]
    parts: dict[str, list[Case]] = {"train": [], "val": []}
    for case in cases:
        roles = {case.role(fold) for fold in others}
        if case.source == source and len(roles) == 1 and roles <= _LEARNT:
            parts[roles.pop()].append(case)
    learnt = {case.group for part in parts.values() for case in part}
    test = tuple(case for case in cases if case.group not in learnt)
    return Arm(f"{SINGLE}{source}", "", tuple(parts["train"]), tuple(parts["val"]), test)


def _with_val(arm: Arm, seed: int) -> Arm:
    """Val cases from the training groups of each source that has none; a small one gives none."""
    have = {case.source for case in arm.val}
    groups: dict[str, set[str]] = defaultdict(set)
    for case in arm.train:
        if case.source not in have:
            groups[case.source].add(case.group)
    held: set[str] = set()
    for source in sorted(groups):
        order = sorted(groups[source], key=lambda group: _draw(group, seed))
        held |= set(order[: len(order) // _VAL_SHARE])
    train = tuple(case for case in arm.train if case.group not in held)
    val = tuple(case for case in arm.train if case.group in held)
    return replace(arm, train=train, val=(*arm.val, *val))


def source_weights(cases: Sequence[Case]) -> list[float]:
    """Chance of each case to be drawn: 1/sqrt(cases of its source), summing to 1."""
    counts = Counter(case.source for case in cases)
    raw = [counts[case.source] ** -0.5 for case in cases]
    total = sum(raw)
    return [weight / total for weight in raw]
