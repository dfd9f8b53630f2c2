"""Groups to train, val and test. Pure; order comes from hashes, never from time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

Row = Mapping[str, Any]
NAMES = ("train", "val", "test")
FOLDS = 5
SMALLEST_STRATUM = 3


@dataclass
class Assignment:
    """Who is where.

    Attributes:
        split: case id -> train, val or test; with folds, case id -> {fold: one of these}. A case
            without a fold has no part in it.
        dropped: cases that are left out, for the test data's sake.
        notes: findings.
    """

    split: dict[str, Any] = field(default_factory=dict)
    dropped: set[str] = field(default_factory=set)
    notes: list[dict[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Rules:
    """What is settled before anything is dealt.

    Attributes:
        train_only: sources whose labels were made by a model.
        official_val: official val data are val; else they are train.
    """

    train_only: frozenset[str] = frozenset()
    official_val: bool = False


def holdout(
    cases: Sequence[Row], shares: Mapping[str, float], seed: int, rules: Rules = Rules()
) -> Assignment:
    """Case id -> split.

    Strata are (source, rarest concept present). Within a stratum groups go, in the order of
    SHA-256(seed, group), to the split with the largest deficit, weighted by cases; groups of the
    stratum whose place was settled count for it. A stratum with fewer than 3 groups to deal goes to
    train and is listed. A group with an official test case is test and its other cases are left
    out. A group with a case of a `train_only` source is train; its official test cases are left
    out.
    """
    out, settled, strata, groups = _settled(cases, rules)
    split_of = dict(settled)
    for stratum, names in sorted(strata.items()):
        open_ = [name for name in names if name not in settled]
        if 0 < len(open_) < SMALLEST_STRATUM:
            split_of |= dict.fromkeys(open_, "train")
            detail = f"{stratum[0]} / {stratum[1]}: {len(open_)} group(s), all in train"
            out.notes.append({"code": "small_stratum", "detail": detail})
            continue
        weight = {name: len(groups[name]) for name in names}
        have = Counter[str]()
        for name in names:
            if name in settled:
                have[settled[name]] += weight[name]
        split_of |= _deal(open_, weight, shares, seed, have)
    out.split = {case["id"]: split_of[case["group"]] for case in cases}
    return out


def kfold(
    cases: Sequence[Row], seed: int, rules: Rules = Rules(), folds: int = FOLDS
) -> Assignment:
    """Case id -> {fold<i>: test in one fold, train in the others}.

    Dealt as in a holdout with equal shares, small strata too; ties go to the emptiest fold. Groups
    with an official test case are test in every fold, those that are train only train in every one.
    """
    out, settled, strata, groups = _settled(cases, rules)
    names = [f"fold{i}" for i in range(folds)]
    shares = dict.fromkeys(names, 1 / folds)
    total = Counter[str](dict.fromkeys(names, 0))
    fold_of: dict[str, str] = {}
    for _, members in sorted(strata.items()):
        open_ = [name for name in members if name not in settled]
        weight = {name: len(groups[name]) for name in open_}
        fold_of |= _deal(open_, weight, shares, seed, Counter(), total)
    for case in cases:
        group = case["group"]
        if group in settled:
            out.split[case["id"]] = dict.fromkeys(names, settled[group])
        else:
            held = fold_of[group]
            out.split[case["id"]] = {n: "test" if n == held else "train" for n in names}
    return out


def leave_one_source_out(
    cases: Sequence[Row], sources: Sequence[str], rules: Rules = Rules()
) -> Assignment:
    """Case id -> {fold<i>: test if the case is of source i, else train}.

    A case whose group has a case of the source left out has no part in that fold; a group with an
    official test case is never train.
    """
    out = Assignment()
    touched: dict[str, set[str]] = {}
    official: dict[str, set[str]] = {}
    for case in cases:
        touched.setdefault(case["group"], set()).add(case["source"])
        official.setdefault(case["group"], set()).add(str(case["official_split"]))
    left_out = 0
    for case in cases:
        group, folds = case["group"], {}
        learns = "val" if rules.official_val and "val" in official[group] else "train"
        for i, source in enumerate(sources):
            if case["source"] == source:
                folds[f"fold{i}"] = "test"
            elif source not in touched[group] and "test" not in official[group]:
                folds[f"fold{i}"] = learns
            else:
                left_out += 1
        out.split[case["id"]] = folds
    if left_out:
        detail = (
            f"{left_out} times a case has no part in a fold: its group is tested there, or holds "
            "official test data"
        )
        out.notes.append({"code": "fold_partial", "detail": detail})
    return out


Strata = dict[tuple[str, str], list[str]]


def _settled(
    cases: Sequence[Row], rules: Rules
) -> tuple[Assignment, dict[str, str], Strata, dict[str, list[Row]]]:
    """What the rules say of whole groups, before anything is dealt."""
    groups: dict[str, list[Row]] = {}
    for case in cases:
        groups.setdefault(case["group"], []).append(case)
    out, settled, strata = Assignment(), {}, Strata()
    rarest = _rarity(cases)
    for group, members in groups.items():
        official = {case["official_split"] for case in members}
        if rules.train_only & {case["source"] for case in members}:
            settled[group] = "train"
            out.dropped |= {c["id"] for c in members if c["official_split"] == "test"}
        elif "test" in official:
            settled[group] = "test"
            out.dropped |= {c["id"] for c in members if c["official_split"] != "test"}
        elif "val" in official:
            settled[group] = "val" if rules.official_val else "train"
        strata.setdefault(_stratum(members, rarest), []).append(group)
    return out, settled, strata, groups


def _rarity(cases: Sequence[Row]) -> list[str]:
    """Concepts (or classes) from the rarest to the most common."""
    counts: Counter[str] = Counter()
    for case in cases:
        counts.update(_held(case))
    return sorted(counts, key=lambda c: (counts[c], c))


def _held(case: Row) -> list[str]:
    if case.get("classes"):
        return [c for c, value in case["classes"].items() if value == 1]
    return [c for c, n in case["present"].items() if n > 0]


def _stratum(members: Sequence[Row], rarest: Sequence[str]) -> tuple[str, str]:
    held = {c for case in members for c in _held(case)}
    return min(m["source"] for m in members), next((c for c in rarest if c in held), "none")


def _deal(
    names: Sequence[str],
    weight: Mapping[str, int],
    shares: Mapping[str, float],
    seed: int,
    have: Counter[str],
    elsewhere: Counter[str] | None = None,
) -> dict[str, str]:
    """Each group to the largest deficit; `elsewhere` counts what breaks ties, and is kept up."""
    total = sum(weight.values())
    out = {}
    for name in sorted(names, key=lambda g: sha256(f"{seed}|{g}".encode()).hexdigest()):
        wanted = max(
            shares,
            key=lambda s: (
                round(shares[s] * total - have[s], 9),
                -(elsewhere[s] if elsewhere is not None else 0),
            ),
        )
        out[name] = wanted
        have[wanted] += weight[name]
        if elsewhere is not None:
            elsewhere[wanted] += weight[name]
    return out
