"""The build gate: no group and no image stands in two splits. Pure; used before and after."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from fusion.bundle.content import split_names

KEYS = {"group": "group", "t1": "image (T1)"}


def find_leaks(cases: Iterable[Mapping[str, Any]]) -> list[str]:
    """One sentence per group, image file (T0) or image content (T1) that is in several splits."""
    where: dict[tuple[str, str, str], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for case in cases:
        tokens = [(name, str(case[key])) for key, name in KEYS.items() if case.get(key)]
        if "row" not in case["origin"]["image"]:
            # All rows of one array file share its hash; T1 tells them apart.
            tokens.append(("file (T0)", str(case["origin"]["image"]["sha256"])))
        for fold, split in split_names(case).items():
            for kind, token in tokens:
                where[fold, kind, token][split].append(str(case["id"]))
    return [
        f"{kind} {token[:20]} is in {_listed(by_split)}"
        + ("" if fold == "holdout" else f" of {fold}")
        for (fold, kind, token), by_split in sorted(where.items())
        if len(by_split) > 1
    ]


def _listed(by_split: Mapping[str, list[str]]) -> str:
    return " and ".join(f"{split} ({', '.join(ids[:3])})" for split, ids in by_split.items())
