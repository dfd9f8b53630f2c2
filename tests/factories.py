"""Rows for tests: each default is valid, keyword arguments give the rest."""

from __future__ import annotations

import hashlib
from typing import Any

from django.core.files.base import ContentFile
from django.core.files.storage import storages

from catalog.models import Dataset
from catalog.record import DatasetRecord, resolve
from catalog.services import dataset_values
from fusion.baseline.evaluate import not_run
from fusion.build import STAGES
from fusion.models import Bundle
from fusion.recipe_files import example_recipes, load_recipe
from workers.models import Run, RunCase, RunStage

FILES = {"README.md": b"# A bundle\n", "shards/train-000000.tar": bytes(range(256)) * 37}


def make_facts(slug: str, claims: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """Facts of a record with one claim of Project-Imaging-X a field, or with the given claims."""
    source = "project-imaging-x"
    record: dict[str, Any] = {
        "slug": slug,
        "name": fields.pop("name", slug.replace("-", " ").title()),
        "aliases": fields.pop("aliases", []),
        "sources": fields.pop("sources", [{"id": source, "ref": slug}]),
    }
    for key in ("family", "relations", "counts", "links"):
        if key in fields:
            record[key] = fields.pop(key)
    if homepage := fields.pop("homepage", None):
        record["links"] = [{"url": homepage, "source": source}]
    record |= {key: [{"value": value, "source": "curation"}] for key, value in fields.items()}
    return resolve(DatasetRecord.model_validate(record | (claims or {})))


def make_dataset(slug: str, claims: dict[str, Any] | None = None, **fields: Any) -> Dataset:
    """A dataset row made from the facts of `make_facts`."""
    return Dataset.objects.create(**dataset_values(make_facts(slug, claims, **fields)))


def make_run(**fields: Any) -> Run:
    """A queued run of the sample recipe with its stages."""
    values = {
        "title": "Grey and white matter",
        "recipe": load_recipe(example_recipes()["brain-tissue"]),
        "stage": STAGES[0],
        **fields,
    }
    run = Run.objects.create(**values)
    for position, name in enumerate(STAGES):
        RunStage.objects.create(run=run, position=position, name=name)
    return run


def make_case(run: Run, source: str, name: str, state: str, code: str = "") -> RunCase:
    return RunCase.objects.create(
        run=run, source=source, name=name, state=state, code=code, stage="harmonise"
    )


def make_bundle(files: dict[str, bytes] = FILES, **fields: Any) -> Bundle:
    """A bundle row whose files are in the bundle storage, SHA256SUMS and build_info.json too."""
    bundle_id = hashlib.sha256(repr(sorted(files)).encode()).hexdigest()
    rows = [
        {"path": path, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for path, data in files.items()
    ]
    sums = "".join(f"{row['sha256']}  {row['path']}\n" for row in rows)
    extra = {"SHA256SUMS": sums.encode(), "build_info.json": b"{}\n"}
    for path, data in {**files, **extra}.items():
        storages["bundles"].save(f"{bundle_id}/{path}", ContentFile(data))
    values: dict[str, Any] = {
        "title": "Two small sources",
        "build": "private",
        "recipe": {},
        "summary": make_summary(),
        "baseline": None,
        "files": rows,
        "size_bytes": sum(row["bytes"] for row in rows),
        **fields,
    }
    return Bundle.objects.create(bundle_id=bundle_id, **values)


def make_baseline() -> dict[str, Any]:
    """baseline.json of a small segmentation with one figure."""
    plan = {"bundle_id": "0" * 64, "title": "Two", "task": "segmentation", "protocol": "holdout",
            "seed": 1, "sources": [{"id": "first"}, {"id": "second"}],
            "concepts": [{"id": "hippocampus", "label": "Hippocampus"}]}  # fmt: skip
    common = {"metric": "dice", "concept": None, "n_groups": 1, "n_empty_excluded": 0,
              "n_positive": None, "silver": False}  # fmt: skip
    none = {
        "value": None,
        "ci": None,
        "n_cases": 0,
        "reason": "arm failed: seed 1: no training case",
    }
    some = {"value": 0.6432, "ci": "unreliable", "n_cases": 1, "reason": ""}
    cells = {("fused", "first"): some, ("fused", "second"): none,
             ("single:first", "first"): none, ("single:first", "second"): none}  # fmt: skip
    matrix = [{"arm": a, "source": s, **common, **row} for (a, s), row in cells.items()]
    return not_run(plan, "smoke", "one seed") | {"matrix": matrix}


def make_measured() -> dict[str, Any]:
    """What the report stage says of two sources, short."""
    row = {
        "id": "first", "cases": 5, "read": 3, "subjects": None, "dtype": {"int16": 3},
        "unit": {"unknown": 3}, "orientation": {"LAS": 3}, "channels": {"1": 3},
        "spacing_mm_before": [1, 1, 3], "spacing_mm_after": [2, 2, 2], "size_before": [9, 8, 7],
        "size_after": [9, 8, 7],
    }  # fmt: skip
    fit = {"S": 0.8123, "C": 0.9, "band": "recommended", "parts": []}
    catalog = {"S": None, "C": 0.35, "band": "not enough metadata"}
    return {"sources": [row, row | {"id": "second"}], "fit": fit | {"catalog": catalog}}


def make_summary(**changes: Any) -> dict[str, Any]:
    """What fusion.bundle.summary.summarise says of a small bundle."""
    return {
        "sources": [
            {
                "id": "first",
                "name": "The first set",
                "dataset": "first",
                "licence": {"images": "CC-BY-4.0", "labels": "unknown"},
                "cases_in": 5,
                "used": 3,
                "excluded": {"image_missing": 2},
            }
        ],
        "cases": 3,
        "concepts": ["Hippocampus"],
        "splits": {"test": {"first": 1}, "train": {"first": 2}},
        "findings": [{"code": "small_stratum", "detail": "one group", "severity": "warning"}],
        "exclusions": {
            "image_missing": [
                {
                    "source": "first",
                    "name": f"case{n}",
                    "code": "image_missing",
                    "detail": "no file",
                }
                for n in range(2)
            ]
        },
        "known_limits": ["three cases"],
        "baseline": None,
        **changes,
    }
