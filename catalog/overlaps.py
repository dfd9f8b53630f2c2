"""Which datasets hold images of the same people: a graph over the records' relations. Pure.

Classes, from sure to weak: *certain*, a relation of any kind between the two; *likely*, a path of
inclusions from one to the other, or a single relation that was only cited, not read; *possible*, a
common ancestor. A common descendant means nothing. Archives that merely host many datasets are not
walked through.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

OverlapClass = Literal["certain", "likely", "possible"]
INCLUSIONS = frozenset({"subset", "superset", "derived", "relabelled"})
SHARED = "shared_patients"
HUBS = frozenset({"openneuro", "idc", "tcga", "national-lung-screening-trial", "mimic-cxr"})


@dataclass(frozen=True)
class Overlap:
    """What is known of two datasets; `path` is the slugs from one to the other."""

    a: str
    b: str
    certainty: OverlapClass
    kind: str
    path: tuple[str, ...]
    evidence: str


class OverlapGraph:
    """Relations of all datasets, child to parent."""

    def __init__(self, relations: Mapping[str, Iterable[Mapping[str, Any]]]) -> None:
        self._up: dict[str, dict[str, Mapping[str, Any]]] = {}
        self._shared: dict[frozenset[str], Mapping[str, Any]] = {}
        for slug, rows in relations.items():
            for row in rows:
                if row.get("inverse"):
                    continue
                if row["kind"] in INCLUSIONS:
                    self._up.setdefault(slug, {})[row["to"]] = row
                elif row["kind"] == SHARED:
                    self._shared[frozenset((slug, row["to"]))] = row

    def between(self, a: str, b: str) -> Overlap | None:
        """The strongest overlap that is known of two datasets; None when none is."""
        shared = self._shared.get(frozenset((a, b)))
        if shared is not None:
            return self._direct(a, b, shared)
        for child, parent in ((a, b), (b, a)):
            path = self._path(child, parent)
            if path is None:
                continue
            if len(path) == 2:  # noqa: PLR2004
                return self._direct(child, parent, self._up[child][parent])
            row = self._up[path[0]][path[1]]
            return Overlap(child, parent, "likely", row["kind"], path, self._evidence(path))
        return self._common(a, b)

    def _direct(self, a: str, b: str, row: Mapping[str, Any]) -> Overlap:
        sure: OverlapClass = "likely" if row.get("trust") == "cited" else "certain"
        return Overlap(a, b, sure, row["kind"], (a, b), row["evidence"])

    def _path(self, child: str, parent: str) -> tuple[str, ...] | None:
        """The shortest chain of inclusions from child up to parent."""
        came: dict[str, str | None] = {child: None}
        todo = deque([child])
        while todo:
            node = todo.popleft()
            if node == parent:
                path = [node]
                while (before := came[path[-1]]) is not None:
                    path.append(before)
                return tuple(reversed(path))
            if node in HUBS and node != child:
                continue
            for above in self._up.get(node, ()):
                if above not in came:
                    came[above] = node
                    todo.append(above)
        return None

    def _ancestors(self, slug: str) -> set[str]:
        found: set[str] = set()
        todo = [slug]
        while todo:
            for above in self._up.get(todo.pop(), ()):
                if above not in found and above not in HUBS:
                    found.add(above)
                    todo.append(above)
        return found

    def _common(self, a: str, b: str) -> Overlap | None:
        common = sorted(self._ancestors(a) & self._ancestors(b))
        if not common:
            return None
        up, down = self._path(a, common[0]), self._path(b, common[0])
        path = (*(up or ()), *reversed((down or ())[:-1]))
        evidence = f"both come from {common[0]}"
        return Overlap(a, b, "possible", "common ancestor", path, evidence)

    def _evidence(self, path: tuple[str, ...]) -> str:
        steps = pairwise(path)
        return "; ".join(str(self._up[child][parent]["evidence"]) for child, parent in steps)
