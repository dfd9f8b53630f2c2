"""Imaging Data Commons from its index in Parquet files, of the package `idc_index_data` or fetched.

The index's one row a series is summed up to the two tables that `catalog.importers.idc` reads.
"""

from __future__ import annotations

import importlib
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from catalog.importers import idc
from catalog.importers.entry import Entry, ImportSourceError

PACKAGE = "idc_index_data"
FILES = ("idc_index.parquet", "collections_index.parquet", "analysis_results_index.parquet")
MEGABYTES_OF_A_GB = 1024
_INDEX = (
    "collection_id", "analysis_result_id", "PatientID", "StudyInstanceUID", "SeriesInstanceUID",
    "Modality", "BodyPartExamined", "license_short_name", "series_size_MB",
)  # fmt: skip
_TEXTS = ("collection_id", "collection_name", "cancer_types", "tumor_locations", "species")


def entries(folder: Path | None = None) -> Iterator[Entry]:
    """Every collection and analysis result of the index files.

    Args:
        folder: where `FILES` lie; None: in the installed package.

    Raises:
        ImportSourceError: the package is not installed, or its files are not as expected.
    """
    folder = folder or package_folder()
    index, collections, analysis = (folder / name for name in FILES)
    series = read(index, _INDEX)
    yield from convert(series, read(collections, ()))
    yield from results(series, read(analysis, ()))


def package_folder() -> Path:
    """Where the installed package keeps the index files.

    Raises:
        ImportSourceError: it is not installed.
    """
    try:
        package = importlib.import_module(PACKAGE)
    except ImportError as error:
        raise ImportSourceError(f"{PACKAGE}: expected as an installed package") from error
    index: Path = package.IDC_INDEX_PARQUET_FILEPATH
    return index.parent


def read(path: Path, columns: tuple[str, ...]) -> pa.Table:
    """The named columns of a Parquet file, or all.

    Raises:
        ImportSourceError: the file cannot be read or lacks a column.
    """
    try:
        return pq.read_table(path, columns=list(columns) or None)
    except (OSError, pa.ArrowInvalid, KeyError) as error:
        raise ImportSourceError(f"{path.name}: {error}") from error


def convert(index: pa.Table, collections: pa.Table) -> Iterator[Entry]:
    """Entries from the series of the index and the table of collections."""
    filled = {name: pc.fill_null(index[name], "") for name in _INDEX[:-1]}
    index = pa.table({**filled, _INDEX[-1]: index[_INDEX[-1]]})
    own = index.filter(pc.equal(index["analysis_result_id"], ""))
    totals = _totals(own)
    lists = {
        name: _counted(own, column)
        for name, column in (
            ("series_by_modality", "Modality"),
            ("licenses", "license_short_name"),
            ("body_parts", "BodyPartExamined"),
        )
    }
    rows = []
    for found in collections.to_pylist():
        ref = str(found["collection_id"])
        row = {name: str(found[name] or "") for name in _TEXTS}
        row["sources"] = json.dumps(found["sources"] or [], ensure_ascii=False, default=str)
        by_list = {name: _text(counts[ref]) for name, counts in lists.items()}
        codes = ";".join(lists["series_by_modality"][ref])
        rows.append({**row, **totals.get(ref, _NO_SERIES), **by_list, "modalities": codes})
    yield from idc.convert(rows, _parts(index))


def results(index: pa.Table, analysis: pa.Table) -> Iterator[Entry]:
    """Entries from the series of the index and the table of analysis results."""
    summed = index.group_by("analysis_result_id").aggregate(
        [("PatientID", "count_distinct"), ("SeriesInstanceUID", "count_distinct")]
    )
    numbers = {row["analysis_result_id"]: row for row in summed.to_pylist()}
    for found in analysis.to_pylist():
        own = numbers.get(found["analysis_result_id"], {})
        yield idc.parse_analysis(
            {
                **{name: str(found[name] or "") for name in idc.ANALYSIS_COLUMNS if name in found},
                "patients": str(own.get("PatientID_count_distinct", "")),
                "series": str(own.get("SeriesInstanceUID_count_distinct", "")),
            }
        )


_NO_SERIES: Mapping[str, str] = {
    "subjects_in_idc": "0",
    "studies": "0",
    "series": "0",
    "size_gb": "",
}


def _totals(own: pa.Table) -> dict[str, dict[str, str]]:
    """Numbers and size of each collection's own series."""
    summed = own.group_by("collection_id").aggregate(
        [
            ("PatientID", "count_distinct"),
            ("StudyInstanceUID", "count_distinct"),
            ("SeriesInstanceUID", "count_distinct"),
            ("series_size_MB", "sum"),
        ]
    )
    return {
        row["collection_id"]: {
            "subjects_in_idc": str(row["PatientID_count_distinct"]),
            "studies": str(row["StudyInstanceUID_count_distinct"]),
            "series": str(row["SeriesInstanceUID_count_distinct"]),
            "size_gb": str(round(row["series_size_MB_sum"] / MEGABYTES_OF_A_GB, 3)),
        }
        for row in summed.to_pylist()
    }


def _counted(own: pa.Table, column: str) -> Mapping[str, dict[str, int]]:
    """Series of each collection by the values of a column, the most frequent first."""
    summed = own.group_by(["collection_id", column]).aggregate([([], "count_all")])
    found: dict[str, dict[str, int]] = defaultdict(dict)
    rows: list[dict[str, Any]] = summed.to_pylist()
    for row in sorted(rows, key=lambda row: (-row["count_all"], row[column])):
        if row[column]:
            found[row["collection_id"]][row[column]] = row["count_all"]
    return found


def _text(counts: Mapping[str, int]) -> str:
    return ";".join(f"{name}:{number}" for name, number in counts.items())


def _parts(index: pa.Table) -> list[dict[str, str]]:
    keys = ["collection_id", "analysis_result_id", "Modality", "license_short_name"]
    summed = index.group_by(keys).aggregate([("series_size_MB", "sum")])
    rows: list[dict[str, Any]] = sorted(
        summed.to_pylist(), key=lambda row: [row[key] for key in keys]
    )
    return [
        {**{key: row[key] for key in keys}, "size_mb": str(row["series_size_MB_sum"])}
        for row in rows
    ]
