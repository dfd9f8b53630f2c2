"""Which cases are the same image, and which must stay in one split. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import numpy as np

from fusion.imaging.hashes import near_pairs

Row = Mapping[str, Any]
CANDIDATE_BITS = 6
SAME_PICTURE = 0.99


@dataclass
class Duplicates:
    """Outcome: groups, cases to leave out, findings and counts per tier."""

    group_of: dict[str, str] = field(default_factory=dict)
    excluded: dict[str, str] = field(default_factory=dict)  # case id -> detail
    findings: list[dict[str, str]] = field(default_factory=list)
    hits: dict[str, int] = field(default_factory=dict)


def find_duplicates(
    cases: Sequence[Row],
    single_group: Mapping[str, str],
    correlation: Callable[[str, str], float],
) -> Duplicates:
    """Join what belongs together.

    Args:
        cases: case rows, in order of id.
        single_group: source id -> group name, for sources whose subjects are unknown.
        correlation: T4 of two cases' pictures, asked only for candidates.
    """
    out = Duplicates(hits=dict.fromkeys(("subject", "T0", "T1", "T3", "label_T0"), 0))
    parent = {case["id"]: case["id"] for case in cases}

    def find(one: str) -> str:
        while parent[one] != one:
            one = parent[one]
        return one

    def join(a: str, b: str, tier: str) -> None:
        out.hits[tier] += 1
        ra, rb = sorted((find(a), find(b)))
        parent[rb] = ra

    for tier, key in (
        ("subject", lambda c: _subject(c, single_group)),
        (
            "T0",
            lambda c: (
                c["origin"]["image"]["sha256"] if "row" not in c["origin"]["image"] else c["id"]
            ),
        ),
        ("T1", lambda c: c["t1"]),
        ("label_T0", _labels_key),
    ):
        for same in _alike(cases, key):
            for other in same[1:]:
                join(same[0]["id"], other["id"], tier)
                _note(out, tier, same[0], other)
    _near(cases, correlation, join, out)
    for case in cases:
        out.group_of[case["id"]] = "g:" + sha256(find(case["id"]).encode()).hexdigest()[:12]
    return out


def _subject(case: Row, single_group: Mapping[str, str]) -> str:
    return single_group.get(case["source"]) or f"{case['source']}:{case['subject'] or case['name']}"


def _labels_key(case: Row) -> str:
    """Byte-identical labels that hold something; empty masks are alike by nature.

    A file that speaks of many pictures is shared by their cases and tells none from another.
    """
    labels = case["origin"]["labels"]
    if not any(case["present"].values()) or any("entry" in label for label in labels):
        return str(case["id"])
    return "|".join(label["sha256"] for label in labels) or str(case["id"])


def _alike(cases: Sequence[Row], key: Callable[[Row], str]) -> list[list[Row]]:
    groups: dict[str, list[Row]] = {}
    for case in cases:
        groups.setdefault(key(case), []).append(case)
    return [group for group in groups.values() if len(group) > 1]


def _note(out: Duplicates, tier: str, first: Row, other: Row) -> None:
    pair = f"{first['source']}/{first['name']} and {other['source']}/{other['name']}"
    if tier == "label_T0":
        detail = f"{pair} have byte-identical labels"
        out.findings.append({"code": "label_duplicate", "detail": detail})
    elif tier in {"T0", "T1"} and other["id"] not in out.excluded:
        out.excluded[other["id"]] = f"same image as {first['source']}/{first['name']} ({tier})"
        if _labels_key(first) != _labels_key(other):
            out.findings.append({"code": "label_conflict", "detail": f"{pair}: labels differ"})


def _near(
    cases: Sequence[Row],
    correlation: Callable[[str, str], float],
    join: Callable[[str, str, str], None],
    out: Duplicates,
) -> None:
    """T3 candidates among pictures, confirmed by T4; what stays in doubt is listed for review."""
    pictures = [case for case in cases if "phash" in case and case["id"] not in out.excluded]
    if len(pictures) < 2:  # noqa: PLR2004
        return
    pairs: set[tuple[int, int]] = set()
    for name in ("phash", "dhash"):
        hashes = np.array([case[name] for case in pictures], np.uint64)
        pairs |= {(int(i), int(j)) for i, j in near_pairs(hashes, CANDIDATE_BITS)}
    for i, j in sorted(pairs):
        a, b = pictures[i], pictures[j]
        r = correlation(a["id"], b["id"])
        names = f"{a['source']}/{a['name']} and {b['source']}/{b['name']}: correlation {r:.3f}"
        if r >= SAME_PICTURE:
            join(a["id"], b["id"], "T3")
            out.findings.append({"code": "near_duplicate", "detail": names})
        elif _bits(a, b) <= 2:  # noqa: PLR2004
            out.findings.append({"code": "leak_review", "detail": names})


def _bits(a: Row, b: Row) -> int:
    return max((int(a[name]) ^ int(b[name])).bit_count() for name in ("phash", "dhash"))
