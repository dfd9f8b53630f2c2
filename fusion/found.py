"""The cases of a source, as its files and tables show them.

Tables, headers and arrays are files of strangers: `found_cases` runs in the bounded child process.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from fusion.arrays import array_cases
from fusion.cases import ArrayRow, FoundCase, find_cases, planes_of
from fusion.imaging.errors import CaseError
from fusion.imaging.geometry import to_ras
from fusion.imaging.io import VIDEO_SUFFIXES, read_image, video_facts
from fusion.imaging.volume import Array, Volume
from fusion.source import SourceDescription
from fusion.tables import look_up, need_columns, rows_of

#: Axis of a volume in RAS order that a plane lies across.
ACROSS = {"sagittal": 0, "coronal": 1, "axial": 2}


def found_cases(description: dict[str, Any], root: Path, paths: Sequence[str]) -> Array:
    """`cases_of` as bytes of JSON, which an answer of any length between processes may be."""
    cases, findings = cases_of(SourceDescription.model_validate(description), root, paths)
    text = json.dumps({"cases": [asdict(case) for case in cases], "findings": findings})
    return np.frombuffer(text.encode(), np.uint8)


def from_bytes(answer: Array) -> tuple[list[FoundCase], list[dict[str, str]]]:
    """What `found_cases` answered."""
    data = json.loads(answer.tobytes())
    return [as_case(row) for row in data["cases"]], data["findings"]


def cases_of(
    description: SourceDescription, root: Path, paths: Sequence[str]
) -> tuple[list[FoundCase], list[dict[str, str]]]:
    """The cases of a source, and what was noticed in the tables that they are looked up in.

    Args:
        description: what the source looks like.
        root: its folder.
        paths: all files below `root`, relative, with `/`.

    Raises:
        CaseError: when a table or an array cannot be read.
    """
    if description.cases.arrays:
        return look_up(description, root, list(array_cases(description, root)))
    found = find_cases(description, paths)
    if description.cases.planes:
        found = [one for case in found for one in _planes(description, root, case)]
    return look_up(description, root, found)


def as_case(row: dict[str, Any]) -> FoundCase:
    """A case from what `asdict` and JSON made of it."""
    fields = dict(row)
    fields["layers"] = tuple(tuple(files) for files in fields["layers"])
    fields["fields"] = tuple((a, b) for a, b in fields["fields"])
    fields["channels"] = tuple((path, index) for path, index in fields["channels"])
    fields["array"] = ArrayRow(**fields["array"]) if fields["array"] else None
    return FoundCase(**fields)


def _planes(description: SourceDescription, root: Path, case: FoundCase) -> Iterator[FoundCase]:
    rule = description.cases.planes
    if rule is None or case.code:
        yield case
        return
    if not rule.column:
        try:
            count = _count(root / case.image, rule.axis, description.geometry)
        except CaseError as error:
            yield replace(case, code=error.code, detail=error.message)
            return
        yield from planes_of(case, range(0, count, rule.every), rule.first)
        return
    need_columns(root, rule, [rule.column])
    tables, cells = ", ".join(rule.table), [r[rule.column] for r in rows_of(root, rule, case)]
    if not cells:
        yield replace(case, code="label_missing", detail=f"{case.image}: {tables} lists no plane")
        return
    numbers = sorted({float(cell) - rule.first for cell in cells if _is_number(cell)})
    if any(n < 0 or n != int(n) for n in numbers) or not all(map(_is_number, cells)):
        odd = next(c for c in cells if not _is_number(c) or float(c) % 1 or float(c) < rule.first)
        detail = f"{case.image}: {tables}: plane {odd!r}, expected a number from {rule.first} on"
        yield replace(case, code="unreadable", detail=detail)
        return
    yield from planes_of(case, map(int, numbers), rule.first)


def _is_number(cell: str) -> bool:
    try:
        return bool(np.isfinite(float(cell)))
    except ValueError:
        return False


def _count(path: Path, axis: str, form: str | None) -> int:
    """How many planes an image has."""
    if not axis:
        if path.suffix.lower() not in VIDEO_SUFFIXES:
            raise CaseError("unreadable", f"{path.name}: no video; planes of volumes need an axis")
        return video_facts(path).frames
    image = read_image(path, form=form)
    if not isinstance(image, Volume):
        raise CaseError("unreadable", f"{path.name}: a 2D image has no {axis} planes")
    return to_ras(image)[0].grid.shape[ACROSS[axis]]
