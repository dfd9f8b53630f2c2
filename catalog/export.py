"""The catalog as files: JSON lines, CSV, Parquet, the paper's data-meta.jsonl, DCAT, citations.

Every writer takes facts (`catalog.record.resolve`) in slug order and gives the same bytes for the
same facts.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from catalog.citation import to_bibtex, to_csl
from catalog.dcat import to_graph
from catalog.describe import describe

Facts = Mapping[str, Any]
KEYS = (
    "slug",
    "name",
    "aliases",
    "tier",
    "family",
    "year",
    "modalities",
    "anatomies",
    "tasks",
    "diseases",
    "dimensions",
    "counts",
    "labelled",
    "annotation",
    "licence",
    "licence_labels",
    "access",
    "publisher",
    "doi",
    "homepage",
    "platform",
    "conflicts",
    "sources",
)
LIST_MARK = "|"
NOT_KNOWN = "NA"


def export_row(facts: Facts) -> dict[str, Any]:
    """The exported keys of one dataset; what is unknown is null, but access, which says so."""
    row = {key: facts[key] for key in KEYS}
    row["sources"] = list(dict.fromkeys(ref["id"] for ref in facts["sources"]))
    return row


def to_jsonl(datasets: Iterable[Facts]) -> bytes:
    """All facts with their claims, one JSON object a line."""
    return _lines(datasets)


def to_csv(datasets: Iterable[Facts]) -> bytes:
    """A header and one line a dataset; lists joined by `|`, counts as JSON, unknown empty."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(KEYS)
    for facts in datasets:
        row = export_row(facts)
        writer.writerow([_cell(key, row[key]) for key in KEYS])
    return out.getvalue().encode()


def _cell(key: str, value: Any) -> str:
    if value is None:
        return ""
    if key == "counts":
        return json.dumps(value, ensure_ascii=False)
    text = LIST_MARK.join(map(str, value)) if isinstance(value, list) else str(value)
    # A spreadsheet would run a cell that begins like a formula.
    return f"'{text}" if text.startswith(("=", "+", "@", "-")) else text


_COUNT = pa.struct(
    [
        ("number", pa.int64()),
        *((key, pa.string()) for key in ("unit", "what", "split", "source", "raw")),
    ]
)
_TYPES: Mapping[str, Any] = MappingProxyType(
    {
        "year": pa.int32(),
        "labelled": pa.bool_(),
        "counts": pa.list_(_COUNT),
        **dict.fromkeys(
            ("aliases", "modalities", "anatomies", "tasks", "diseases"), pa.list_(pa.string())
        ),
        **dict.fromkeys(("dimensions", "conflicts", "sources"), pa.list_(pa.string())),
    }
)


def to_parquet(datasets: Iterable[Facts]) -> bytes:
    """The exported keys as typed columns; counts are a list of structs."""
    schema = pa.schema([(key, _TYPES.get(key, pa.string())) for key in KEYS])
    table = pa.Table.from_pylist([export_row(facts) for facts in datasets], schema=schema)
    out = io.BytesIO()
    pq.write_table(table, out, compression="zstd")
    return out.getvalue()


def to_data_meta(datasets: Iterable[Facts]) -> bytes:
    """The sixteen fields that the Project Imaging-X paper prescribes (arXiv 2603.27460)."""
    return _lines(map(data_meta, datasets))


def data_meta(facts: Facts) -> dict[str, Any]:
    """One line of data-meta.jsonl; "NA" where the catalog does not know."""
    main = facts["counts"][0] if facts["counts"] else None
    splits = {
        count["split"]: count["number"]
        for count in facts["counts"]
        if main and count["split"] and count["unit"] == main["unit"]
    }
    images = next((c["number"] for c in facts["counts"] if c["unit"] in {"image", "volume"}), None)
    labels = {True: "labeled", False: "unlabeled", None: NOT_KNOWN}
    return {
        "dataset_name": facts["name"],
        "release_date": str(facts["year"] or NOT_KNOWN),
        "homepage_url": facts["homepage"] or NOT_KNOWN,
        "organization": facts["publisher"] or NOT_KNOWN,
        "challenge_series": facts["family"] or NOT_KNOWN,
        "license": facts["licence"] or NOT_KNOWN,
        "dataset_description": describe(facts),
        "modality_primary": facts["modalities"] or NOT_KNOWN,
        "modality_secondary": facts["modality_details"] or NOT_KNOWN,
        "anatomical_structure": facts["anatomies"] or NOT_KNOWN,
        "disease": facts["diseases"] or NOT_KNOWN,
        "data_volume": {"total": main["number"], "unit": main["unit"], **splits}
        if main
        else NOT_KNOWN,
        "valid_image_n": images or NOT_KNOWN,
        "label_presence": labels[facts["labelled"]],
        "task_type": facts["tasks"] or NOT_KNOWN,
        "num_classes_per_task": len(facts["classes"]) or NOT_KNOWN,
    }


def to_turtle(datasets: Iterable[Facts]) -> bytes:
    """DCAT 3 in Turtle."""
    return to_graph(datasets).serialize(format="turtle", encoding="utf-8")


def _lines(rows: Iterable[Any]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _bibtex(datasets: Iterable[Facts]) -> bytes:
    return to_bibtex(datasets).encode()


def _csl(datasets: Iterable[Facts]) -> bytes:
    return (json.dumps(to_csl(datasets), ensure_ascii=False, indent=1) + "\n").encode()


# format -> (media type, file name, writer)
FORMATS: Mapping[str, tuple[str, str, Callable[[Iterable[Facts]], bytes]]] = MappingProxyType(
    {
        "jsonl": ("application/jsonl", "datasets.jsonl", to_jsonl),
        "csv": ("text/csv; charset=utf-8", "datasets.csv", to_csv),
        "parquet": ("application/vnd.apache.parquet", "datasets.parquet", to_parquet),
        "data-meta": ("application/jsonl", "data-meta.jsonl", to_data_meta),
        "dcat": ("text/turtle; charset=utf-8", "catalog.ttl", to_turtle),
        "bibtex": ("application/x-bibtex; charset=utf-8", "datasets.bib", _bibtex),
        "csl": ("application/vnd.citationstyles.csl+json", "datasets.csl.json", _csl),
    }
)
