"""Write a bundle from a build's work folder. Two builds of one plan give equal SHA256SUMS."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fusion.bundle import datasheet, metadata
from fusion.bundle.content import (
    Content,
    Row,
    file_of,
    images_of,
    origin_files,
    plan_facts,
    read_content,
    shard_prefix,
)
from fusion.bundle.croissant import build_croissant
from fusion.bundle.errors import BundleError
from fusion.bundle.gate import find_leaks
from fusion.bundle.manifest import LOCK_FILE, build_manifest, case_record
from fusion.bundle.nnunet import write_view
from fusion.bundle.pixels import suffix_of
from fusion.bundle.shards import CAP_BYTES, Item, Sample, Shard, write_shards
from fusion.bundle.text import dump_json, sha256_of, write_json, write_jsonl, write_text

SUMS, BUILD_INFO, REPORT = "SHA256SUMS", "build_info.json", "report"


def write_bundle(
    plan: Any,
    workdir: Path,
    out_partial: Path,
    exclusions: Iterable[Any] = (),
    findings: Iterable[Any] = (),
    splits: Row | None = None,
    dedup: Row | None = None,
    *,
    report: Path | None = None,
    measured: Row | None = None,
    build_info: Mapping[str, Any] | None = None,
    cap_bytes: int = CAP_BYTES,
) -> None:
    """Write the bundle to `out_partial`, a folder that the caller renames when all is well.

    What `out_partial` held before is removed, so a run that was cut off can start again.

    Args:
        plan: a mapping, or an object with `as_dict()` and `bundle_id`.
        workdir: holds `cases/<id>/case.json` and the files that it names.
        exclusions: rows {source, name, stage, code, detail}.
        findings: rows {code, severity, detail, ...}.
        splits: facts on the assignment that go to the manifest as they are.
        dedup: {tiers, thresholds, hits, reviewed, merged_by}.
        report: a folder that becomes `report/`.
        measured: what was measured of the cases, for report.json; its `compatibility` goes to the
            manifest.
        build_info: times, host, versions, device, baseline result; outside SHA256SUMS.
        cap_bytes: largest size of one shard.

    Raises:
        BundleError: leak_detected, file_changed, name_unsafe, no_cases, case_invalid.
    """
    if measured:
        plan = {**plan_facts(plan), "compatibility": measured["compatibility"]}
    content = read_content(
        plan, workdir, exclusions=exclusions, findings=findings, splits=splits, dedup=dedup
    )
    if leaks := find_leaks(content.cases):
        raise BundleError("leak_detected", "\n".join(leaks))
    if out_partial.exists():
        shutil.rmtree(out_partial)
    out_partial.mkdir(parents=True)
    shards = _write_shards(content, out_partial, cap_bytes)
    views = {}
    if "nnunet" in (content.plan.get("views") or []):
        views["nnunet"] = write_view(content, out_partial)
    _write_descriptions(content, out_partial, shards, views, measured or {})
    if report:
        shutil.copytree(report, out_partial / REPORT)
    write_sums(out_partial)
    write_json(out_partial / BUILD_INFO, dict(build_info or {}))
    os.sync()  # copied files of the views, too, are on disk before the caller renames the folder


def write_sums(folder: Path) -> None:
    """SHA256SUMS over every file but itself and build_info.json, in order of path."""
    lines = [
        f"{sha256_of(folder / path)}  {path}\n"
        for path in list_files(folder)
        if path not in (SUMS, BUILD_INFO)
    ]
    write_text(folder / SUMS, "".join(lines))


def list_files(folder: Path) -> list[str]:
    """Every file below `folder`, relative with `/`, in order."""
    found = (path for path in folder.rglob("*") if path.is_file() or path.is_symlink())
    return sorted(path.relative_to(folder).as_posix() for path in found)


def _write_shards(content: Content, out: Path, cap_bytes: int) -> list[Shard]:
    by_prefix: dict[str, list[Sample]] = {}
    for case in content.cases:
        by_prefix.setdefault(shard_prefix(case), []).append(_sample(content, case))
    return [
        shard
        for prefix in sorted(by_prefix)
        for shard in write_shards(out / "shards", prefix, by_prefix[prefix], cap_bytes)
    ]


def _sample(content: Content, case: Row) -> Sample:
    case_id = str(case["id"])
    items = []
    for row in (*images_of(case), file_of(case, "label")):
        if row:
            name = f"{case_id}.{row['role']}{suffix_of(str(row['path']))}"
            path = content.workdir / "cases" / case_id / str(row["path"])
            items.append(Item(name, path, str(row["sha256"])))
    record = dump_json(case_record(content, case)) + "\n"
    return Sample(case_id, (*items, Item(f"{case_id}.json", record.encode())))


def _write_descriptions(
    content: Content, out: Path, shards: list[Shard], views: dict[str, Any], measured: Row
) -> None:
    checks = {
        "leaks": {"ok": True, "detail": "no group, T0 or T1 in two splits"},
        "hashes": {"ok": True, "detail": "every packed file has the hash noted when it was made"},
    }
    manifest = build_manifest(content, shards, views, checks)
    write_json(out / "manifest.json", manifest)
    write_jsonl(out / "data-meta.jsonl", metadata.data_meta(content))
    write_jsonl(
        out / f"annotations-{content.task}.jsonl", metadata.annotation_rows(content, manifest)
    )
    write_json(out / "croissant.json", build_croissant(content, out, shards))
    write_text(out / "README.md", datasheet.datasheet(content, views))
    write_text(out / "CITATION.cff", metadata.citation_cff(content))
    write_text(out / "references.bib", metadata.references_bib(content))
    for name, text in metadata.licence_texts(content).items():
        write_text(out / "LICENSES" / name, text)
    plan = {key: value for key, value in content.plan.items() if key != "compatibility"}
    recipe = plan.get("recipe") or plan
    write_json(out / "recipe" / "recipe.json", recipe)
    write_json(out / "recipe" / "lock.json", _lock(content))
    write_json(out / "report.json", _report(content, checks, views, measured))


def _lock(content: Content) -> dict[str, Any]:
    """What a rebuild must fetch and must find: source files by hash, cases by T1."""
    files: dict[str, dict[str, Row]] = {str(source["id"]): {} for source in content.sources}
    for case in content.cases:
        for row in origin_files(case):
            files[str(case["source"])][str(row["path"])] = {
                key: row[key] for key in ("path", "sha256", "bytes")
            }
    return {
        "bundle_id": content.bundle_id,
        "requirements_sha256": sha256_of(LOCK_FILE) if LOCK_FILE.is_file() else "",
        "sources": {
            source: [rows[path] for path in sorted(rows)] for source, rows in files.items()
        },
        "expected_t1": {str(case["id"]): case["t1"] for case in content.cases},
    }


def _report(content: Content, checks: Row, views: Row, measured: Row) -> dict[str, Any]:
    by_code: dict[str, list[Row]] = {}
    for row in content.exclusions:
        by_code.setdefault(str(row.get("code")), []).append(row)
    return {
        "checks": checks,
        "exclusions": by_code,
        "findings": list(content.findings),
        "measured": {key: value for key, value in measured.items() if key != "findings"},
        "views": dict(views),
    }
