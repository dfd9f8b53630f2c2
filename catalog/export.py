"""The catalog as JSON lines or CSV: one dataset a line, in slug order, keys as listed in `KEYS`."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, TextIO

from catalog.models import Dataset

KEYS = (
    "slug",
    "name",
    "aliases",
    "year",
    "modalities",
    "anatomies",
    "tasks",
    "diseases",
    "dimensions",
    "counts",
    "licence",
    "access",
    "homepage",
    "sources",
)
LIST_MARK = "|"


def export_row(dataset: Dataset) -> dict[str, Any]:
    """The exported keys of one dataset; an unknown licence or homepage is null."""
    row = {key: getattr(dataset, key) for key in KEYS}
    row["licence"] = row["licence"] or None
    row["homepage"] = row["homepage"] or None
    return row


def write_jsonl(datasets: Iterable[Dataset], out: TextIO) -> int:
    """One JSON object a line; the number of lines."""
    count = 0
    for dataset in datasets:
        count += 1
        out.write(json.dumps(export_row(dataset), ensure_ascii=False) + "\n")
    return count


def write_csv(datasets: Iterable[Dataset], out: TextIO) -> int:
    """A header and one line a dataset; lists joined by `|`, counts as JSON, unknown empty."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(KEYS)
    count = 0
    for dataset in datasets:
        count += 1
        row = export_row(dataset)
        writer.writerow([_cell(key, row[key]) for key in KEYS])
    return count


def _cell(key: str, value: Any) -> str:
    if value is None:
        return ""
    if key == "counts":
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        return LIST_MARK.join(str(item) for item in value)
    return str(value)


WRITERS: Mapping[str, Callable[[Iterable[Dataset], TextIO], int]] = MappingProxyType(
    {"jsonl": write_jsonl, "csv": write_csv}
)
