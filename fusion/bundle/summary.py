"""What a person wants to know first about a bundle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fusion.bundle.manifest import manifest_of
from fusion.bundle.names import BASELINE
from fusion.bundle.views import VIEWS, make_view


def summarise(bundle: Path) -> dict[str, Any]:
    """What a person wants to know first about a bundle folder."""
    manifest = json.loads((bundle / "manifest.json").read_text("utf-8"))
    baseline_path = bundle / BASELINE / "baseline.json"
    baseline = json.loads(baseline_path.read_text("utf-8")) if baseline_path.is_file() else None
    datasets = {s["id"]: s["dataset"] for s in manifest["plan"].get("sources", [])}
    sources = [
        {
            "id": s["id"],
            "name": s["name"],
            "dataset": s.get("dataset") or datasets.get(s["id"], ""),
            "licence": {p: s["licence"].get(p) or "unknown" for p in ("images", "labels")},
            "cases_in": s["n_cases_in"],
            "used": s["n_used"],
            "excluded": s["excluded"],
        }
        for s in manifest["sources"]
    ]
    report_path = bundle / "report.json"
    report = json.loads(report_path.read_text("utf-8")) if report_path.is_file() else {}
    return {
        "bundle_id": manifest["bundle_id"],
        "sources": sources,
        "cases": len(manifest["cases"]),
        "concepts": [c["label"] for c in manifest["concepts"]],
        "splits": {
            split: {source: row["cases"] for source, row in by_source.items()}
            for split, by_source in manifest["splits"]["counts"].items()
        },
        "findings": report.get("findings", []),
        "exclusions": report.get("exclusions", []),
        "measured": (report.get("measured") or {}).get("overview"),
        "known_limits": manifest["known_limits"],
        "views": _views(manifest),
        "baseline": baseline,
    }


def _views(manifest: Mapping[str, Any]) -> dict[str, str]:
    """View -> why it cannot be had, "" where it can; a bundle of an earlier version has none."""
    try:
        whole = manifest_of(manifest)
    except ValidationError:
        return {}
    return {name: make_view(name, whole).omitted for name in VIEWS}
