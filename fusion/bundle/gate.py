"""The build gate: no group and no image stands in two splits. Pure; used before and after."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from fusion.bundle.content import split_names
from fusion.imaging.hashes import Signatures, shared_slices

KEYS = {"group": "group", "t1": "image (T1)"}
Row = Mapping[str, Any]


def find_leaks(cases: Iterable[Row]) -> list[str]:
    """One sentence per group, image file (T0), content (T1) or slices (T2) in several splits."""
    rows = list(cases)
    return [*_equal(rows), *find_slice_leaks(rows)]


def find_slice_leaks(rows: Sequence[Row]) -> list[str]:
    """The same for slices and channels (T2) alone; rows without `t2` are passed over."""
    signed = [case for case in rows if case.get("t2")]
    words = [(case, [("picture (T2)", word) for word in case["t2"]["exact"]]) for case in signed]
    return [*_repeated(words), *_slices(signed)]


def _equal(rows: list[Row]) -> list[str]:
    found = []
    for case in rows:
        tokens = [(name, str(case[key])) for key, name in KEYS.items() if case.get(key)]
        if "row" not in case["origin"]["image"]:
            # All rows of one array file share its hash; T1 tells them apart.
            tokens.append(("file (T0)", str(case["origin"]["image"]["sha256"])))
        found.append((case, tokens))
    return _repeated(found)


def _repeated(rows: list[tuple[Row, list[tuple[str, str]]]]) -> list[str]:
    where: dict[tuple[str, str, str], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for case, tokens in rows:
        for fold, split in split_names(case).items():
            for kind, token in tokens:
                where[fold, kind, token][split].append(str(case["id"]))
    return [
        f"{kind} {token[:20]} is in {_listed(by_split)}{_of(fold)}"
        for (fold, kind, token), by_split in sorted(where.items())
        if len(by_split) > 1
    ]


def _slices(rows: list[Row]) -> Iterator[str]:
    """Volumes with equal slices in different splits."""
    solid = [case for case in rows if len(case["t2"]["full"]) > 1]
    signed = [Signatures.from_dict(case["t2"]) for case in solid]
    for i, j in shared_slices([one.tokens() for one in signed]):
        if not signed[i].same_series(signed[j]):
            continue
        first, second = split_names(solid[i]), split_names(solid[j])
        for fold, split in first.items():
            other = second.get(fold, split)
            if other != split:
                n = signed[i].shared_with(signed[j])
                yield (
                    f"{n} slices (T2) are in {split} ({solid[i]['id']}) and "
                    f"{other} ({solid[j]['id']}){_of(fold)}"
                )


def _of(fold: str) -> str:
    return "" if fold == "holdout" else f" of {fold}"


def _listed(by_split: Mapping[str, list[str]]) -> str:
    return " and ".join(f"{split} ({', '.join(ids[:3])})" for split, ids in by_split.items())
