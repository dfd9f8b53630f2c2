"""Groups to train, val and test. Pure; order comes from hashes, never from time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

Row = Mapping[str, Any]
NAMES = ("train", "val", "test")
SMALLEST_STRATUM = 3


def assign(
    cases: Sequence[Row],
    shares: Mapping[str, float],
    seed: int,
    train_only: frozenset[str] = frozenset(),
) -> tuple[dict[str, str], list[dict[str, str]], set[str]]:
    """Holdout: case id -> split.

    Strata are (source, rarest concept present). Within a stratum groups go, in the order of
    SHA-256(seed, group), to the split with the largest deficit, weighted by cases. A stratum with
    fewer than 3 groups goes to train and is listed. A group with an official test case is test;
    its other cases are left out, as the third value says. A group with a case of a `train_only`
    source is train; its official test cases are left out.
    """
    groups: dict[str, list[Row]] = {}
    for case in cases:
        groups.setdefault(case["group"], []).append(case)
    split_of: dict[str, str] = {}
    dropped: set[str] = set()
    strata: dict[tuple[str, str], list[str]] = {}
    rarest = _rarity(cases)
    for group, members in groups.items():
        official = {case["official_split"] for case in members}
        if train_only & {case["source"] for case in members}:
            split_of[group] = "train"
            dropped |= {c["id"] for c in members if c["official_split"] == "test"}
        elif "test" in official:
            split_of[group] = "test"
            dropped |= {c["id"] for c in members if c["official_split"] != "test"}
        else:
            strata.setdefault(_stratum(members, rarest), []).append(group)
    notes = []
    for stratum, names in sorted(strata.items()):
        if len(names) < SMALLEST_STRATUM:
            split_of |= dict.fromkeys(names, "train")
            detail = f"{stratum[0]} / {stratum[1]}: {len(names)} group(s), all in train"
            notes.append({"code": "small_stratum", "detail": detail})
            continue
        split_of |= _deal(names, {g: len(groups[g]) for g in names}, shares, seed)
    return {case["id"]: split_of[case["group"]] for case in cases}, notes, dropped


def leave_one_source_out(cases: Sequence[Row], sources: Sequence[str]) -> dict[str, dict[str, str]]:
    """Case id -> {fold<i>: test if the case is of source i, else train}."""
    return {
        case["id"]: {
            f"fold{i}": "test" if case["source"] == source else "train"
            for i, source in enumerate(sources)
        }
        for case in cases
    }


def _rarity(cases: Sequence[Row]) -> list[str]:
    """Concepts (or classes) from the rarest to the most common."""
    counts: dict[str, int] = {}
    for case in cases:
        for concept in _held(case):
            counts[concept] = counts.get(concept, 0) + 1
    return sorted(counts, key=lambda c: (counts[c], c))


def _held(case: Row) -> list[str]:
    if case.get("classes"):
        return [c for c, value in case["classes"].items() if value == 1]
    return [c for c, n in case["present"].items() if n > 0]


def _stratum(members: Sequence[Row], rarest: Sequence[str]) -> tuple[str, str]:
    held = {c for case in members for c in _held(case)}
    return min(m["source"] for m in members), next((c for c in rarest if c in held), "none")


def _deal(
    names: Sequence[str], weight: Mapping[str, int], shares: Mapping[str, float], seed: int
) -> dict[str, str]:
    total = sum(weight.values())
    have = dict.fromkeys(NAMES, 0)
    out = {}
    for name in sorted(names, key=lambda g: sha256(f"{seed}|{g}".encode()).hexdigest()):
        wanted = max(NAMES, key=lambda s: shares[s] * total - have[s])
        out[name] = wanted
        have[wanted] += weight[name]
    return out
