"""The metadata tables beside Project-Imaging-X: read once, looked up by row or upstream name."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

Row = dict[str, str]
REVIEWED = Path(__file__).resolve().parent / "reviewed.yaml"


class ImportSourceError(ValueError):
    """A file of the source folder is missing or not as expected."""


@dataclass(frozen=True)
class Tables:
    """Everything the converter reads. Row numbers are 0-based places in the upstream table."""

    rows: list[dict[str, Any]]
    token_maps: dict[str, dict[str, str]]  # facet -> token -> canonical term(s)
    reg_means: dict[str, str]  # upstream name -> registration, regression, ...
    url_issues: dict[int, str]
    suspects: dict[int, list[Row]]
    links: dict[str, list[Row]]  # upstream name -> crosswalk rows
    idc: dict[str, Row]
    openneuro: dict[str, Row]
    licences: dict[str, dict[str, str]]  # source -> source id -> licence text
    reviewed: dict[str, Any] = field(default_factory=dict)


def _csv(path: Path) -> Iterator[Row]:
    if not path.is_file():
        raise ImportSourceError(f"{path.name}: expected in {path.parent}")
    with path.open(encoding="utf-8", newline="") as lines:
        yield from csv.DictReader(lines)


def _json(path: Path) -> Any:
    if not path.is_file():
        raise ImportSourceError(f"{path.name}: expected in {path.parent}")
    return json.loads(path.read_text("utf-8"))


def _grouped(rows: Iterator[Row], key: str) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row[key], []).append(row)
    return found


def read_tables(folder: Path) -> Tables:
    """Read the source folder.

    Raises:
        ImportSourceError: a file is missing.
    """
    vocabulary = folder / "vocabulary"
    upstream = folder / "project_imaging_x"
    suspects = _grouped(_csv(upstream / "suspects.csv"), "row")
    benchmark = _json(folder / "medsegbench" / "info.json")
    mnist = _json(folder / "medmnist" / "info.json")
    return Tables(
        rows=_json(upstream / "datasets.json"),
        token_maps={
            facet: {r["token"]: r["canonical"] for r in _csv(vocabulary / f"{facet}_map.csv")}
            for facet in ("modality", "anatomy", "task", "dimension")
        },
        reg_means={r["name"]: r["reg_means"] for r in _csv(vocabulary / "task_reg_resolution.csv")},
        url_issues={int(r["row"]): r["issue"] for r in _csv(vocabulary / "url_issues.csv")},
        suspects={int(row): found for row, found in suspects.items()},
        links=_grouped(_csv(folder / "crosswalk.csv"), "upstream_name"),
        idc={r["collection_id"]: r for r in _csv(folder / "idc" / "idc_collections.csv")},
        openneuro={
            r["accession_number"]: r
            for r in _csv(folder / "openneuro_metadata" / "metadata_imaging.csv")
        },
        licences={
            "amid": {r["name"]: r["license"] for r in _csv(folder / "amid" / "datasets.csv")},
            "linhandev": {
                r["name"]: r["license"] for r in _csv(folder / "linhandev_dataset" / "datasets.csv")
            },
            "medsegbench": {key: row.get("license", "") for key, row in benchmark.items()},
            "medmnist": {key: row.get("license", "") for key, row in mnist.items()},
        },
        reviewed=yaml.safe_load(REVIEWED.read_text("utf-8")),
    )
