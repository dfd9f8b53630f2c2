"""The bundle as a Hugging Face dataset repository: its README.md is the card.

`datasets.load_dataset(<bundle folder>)` reads the shards in place (WebDataset). The table of cases
without pixels is in cases.parquet. `annotated` is in every record, so nothing is lost.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from fusion.bundle.manifest import (
    BoxPart,
    CasePart,
    DetectionManifest,
    IgnoringManifest,
    Manifest,
    boxes_by_case,
)
from fusion.bundle.names import PARTIAL
from fusion.bundle.text import dump_json
from fusion.bundle.views.view import View

SPLITS = {"train": "train", "val": "validation", "test": "test", "all": "cases"}
#: SPDX ids that the Hub lists under the same name in small letters.
_ON_HUB = {
    "CC0-1.0", "CC-BY-2.0", "CC-BY-2.5", "CC-BY-3.0", "CC-BY-4.0", "CC-BY-SA-3.0", "CC-BY-SA-4.0",
    "CC-BY-NC-2.0", "CC-BY-NC-3.0", "CC-BY-NC-4.0", "CC-BY-ND-4.0", "CC-BY-NC-ND-3.0",
    "CC-BY-NC-ND-4.0", "CC-BY-NC-SA-2.0", "CC-BY-NC-SA-3.0", "CC-BY-NC-SA-4.0", "MIT",
    "Apache-2.0", "ODbL-1.0", "PDDL-1.0", "CDLA-Permissive-1.0", "CDLA-Permissive-2.0",
}  # fmt: skip
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (10**6, "100K<n<1M"))


def view(manifest: Manifest) -> View:
    """The table of cases; the rest of the view is the bundle itself."""
    if not manifest.shards:
        return View({"omitted": "no case is in this bundle's files"})
    names = sorted({_prefix(shard.path) for shard in manifest.shards} & set(SPLITS))
    facts = {"folder": "", "splits": [SPLITS[name] for name in names], "card": "README.md"}
    return View(facts, {"cases.parquet": _table(manifest)}, whole=("*",))


def front_matter(manifest: Manifest) -> str:
    """The card's YAML block, with `---` before and after."""
    licences = {row.licence for case in manifest.cases for row in case.files} - {"CC0-1.0"}
    prefixes = {_prefix(shard.path) for shard in manifest.shards}
    size = next((name for limit, name in _SIZES if len(manifest.cases) < limit), "n>1M")
    task = {
        "segmentation": "image-segmentation",
        "classification": "image-classification",
        "detection": "object-detection",
    }
    card: dict[str, Any] = {
        "pretty_name": manifest.title,
        **_licence(licences),
        "task_categories": [task[manifest.plan.task]],
        "size_categories": [size],
        "source_datasets": sorted(source.dataset or source.id for source in manifest.sources),
        "tags": ["medical", "imaging-x", "webdataset", *sorted(_modalities(manifest))],
        "configs": [
            {
                # `datasets` caches by folder name and config name: two bundles in folders of one
                # name must not be taken for each other.
                "config_name": f"bundle-{manifest.bundle_id[:12]}",
                "default": True,
                "data_files": [
                    {"split": SPLITS[name], "path": f"shards/{name}-*.tar"}
                    for name in SPLITS
                    if name in prefixes
                ],
            }
        ],
    }
    return f"---\n{yaml.safe_dump(card, sort_keys=False, allow_unicode=True, width=1000)}---\n"


def _licence(licences: set[str]) -> dict[str, str]:
    if len(licences) == 1 and (only := next(iter(licences))) in _ON_HUB:
        return {"license": only.lower()}
    link = {"license_name": "mixed-per-source", "license_link": "LICENSES/_bundle.txt"}
    return {"license": "other", **link}


def _modalities(manifest: Manifest) -> set[str]:
    return {source.modality.lower() for source in manifest.sources if source.modality}


def _prefix(shard: str) -> str:
    return shard.removeprefix("shards/").rpartition("-")[0].removesuffix(PARTIAL)


def _table(manifest: Manifest) -> bytes:
    """One row per case, without pixels; the same bytes with the same version of pyarrow."""
    rows = [_row(case) for case in manifest.cases]
    schema, boxes = _SCHEMA, boxes_by_case(manifest)
    if isinstance(manifest, DetectionManifest):
        schema = schema.append(pa.field("objects", _OBJECTS))
        rows = [row | {"objects": _objects(boxes.get(row["id"]))} for row in rows]
    if isinstance(manifest, IgnoringManifest):
        schema = schema.append(pa.field("ignored", pa.int64()))
        counts = {case.id: case.ignored for case in manifest.cases}
        rows = [row | {"ignored": counts[row["id"]]} for row in rows]
    out = io.BytesIO()
    table = pa.Table.from_pylist(rows, schema=schema)
    pq.write_table(table, out, compression="zstd", store_schema=False)
    return out.getvalue()


_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.string()),
        ("name", pa.string()),
        ("group", pa.string()),
        ("split", pa.string()),
        ("shape", pa.list_(pa.int64())),
        ("spacing_mm", pa.list_(pa.float64())),
        ("unit", pa.string()),
        ("annotated", pa.list_(pa.string())),
        ("present", pa.string()),
        ("classes", pa.string()),
        ("flags", pa.list_(pa.string())),
        ("recipe_only", pa.list_(pa.string())),
        ("t1", pa.string()),
        ("shard", pa.string()),
    ]
)


#: As the Hub's data sets for detection have it; corners are those of the manifest.
_OBJECTS = pa.struct(
    [
        ("corners", pa.list_(pa.list_(pa.float64()))),
        ("concept", pa.list_(pa.string())),
        ("derived", pa.list_(pa.bool_())),
    ]
)


def _objects(boxes: Sequence[BoxPart] | None) -> dict[str, list[Any]] | None:
    """None where the labels are not in the bundle."""
    if boxes is None:
        return None
    return {name: [getattr(box, name) for box in boxes] for name in _OBJECTS.names}


def _row(case: CasePart) -> dict[str, Any]:
    row = case.model_dump(mode="json")
    return {name: row.get(name) for name in _SCHEMA.names} | {
        "split": case.split if isinstance(case.split, str) else dump_json(case.split, indent=None),
        "spacing_mm": case.spacing,
        "present": dump_json(case.present, indent=None),
        "classes": dump_json(case.classes, indent=None),
        "shard": case.files[0].path if case.files else None,
    }
