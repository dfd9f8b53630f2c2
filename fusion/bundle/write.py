"""Write a bundle from a build's work folder. Two builds of one plan give equal SHA256SUMS."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fusion.bundle import datasheet, metadata
from fusion.bundle.boxes import BOXES_LIST, is_boxes
from fusion.bundle.content import (
    Content,
    Row,
    is_shipped,
    origin_files,
    plan_facts,
    read_content,
    shard_prefix,
)
from fusion.bundle.croissant import build_croissant
from fusion.bundle.errors import BundleError
from fusion.bundle.gate import find_leaks
from fusion.bundle.manifest import (
    LOCK_FILE,
    build_manifest,
    case_record,
    manifest_schema,
    role_of,
)
from fusion.bundle.names import (
    BASELINE,
    BUILD_INFO,
    NATIVE,
    NATIVE_ROLE,
    PARTIAL,
    REPORT,
    SUMS,
    check_path,
)
from fusion.bundle.originals import ORIGINALS, read_originals
from fusion.bundle.pixels import suffix_of
from fusion.bundle.shards import CAP_BYTES, Item, Sample, Shard, write_shards
from fusion.bundle.text import (
    json_bytes,
    sha256_of,
    write_bytes,
    write_json,
    write_jsonl,
    write_text,
)
from fusion.bundle.views import descriptions
from fusion.bundle.views.view import View

TOOLS = ("read_bundle.py", "masked.py")  # CC0-1.0, copied into every bundle
BOX_TOOLS = ("read_boxes.py",)  # the same, of bundles for detection
IGNORE_TOOLS = ("ignoring.py",)  # the same, where some voxels were not annotated


def write_bundle(
    plan: Any,
    workdir: Path,
    out_partial: Path,
    exclusions: Iterable[Any] = (),
    findings: Iterable[Any] = (),
    splits: Row | None = None,
    dedup: Row | None = None,
    *,
    roots: Mapping[str, Path] | None = None,
    lock: Row | None = None,
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
        roots: source id -> folder of its files, for sources whose originals may be passed on.
        lock: every source file as it was acquired; without it, the files that the cases name.
        report: a folder that becomes `report/`.
        measured: what was measured of the cases, for report.json; its `compatibility` goes to the
            manifest.
        build_info: times, host, versions, device; outside SHA256SUMS.
        cap_bytes: largest size of one shard.

    Raises:
        BundleError: leak_detected, file_changed, name_unsafe, no_cases, case_invalid.
    """
    if measured:
        plan = {**plan_facts(plan), "compatibility": measured["compatibility"]}
    content = read_content(
        plan,
        workdir,
        exclusions=exclusions,
        findings=findings,
        splits=splits,
        dedup=dedup,
        roots=roots,
        lock=lock,
    )
    if leaks := find_leaks(content.cases):
        raise BundleError("leak_detected", "\n".join(leaks))
    if out_partial.exists():
        shutil.rmtree(out_partial)
    out_partial.mkdir(parents=True)
    withheld, originals = read_originals(content)
    shards = _write_shards(content, originals, out_partial, cap_bytes)
    if report is not None:
        _copy_report(report, out_partial / REPORT)
    _write_descriptions(content, out_partial, shards, withheld, measured or {})
    write_sums(out_partial, {f"shards/{shard.name}": shard.sha256 for shard in shards})
    write_json(out_partial / BUILD_INFO, dict(build_info or {}))


def write_sums(folder: Path, known: Mapping[str, str] | None = None) -> None:
    """SHA256SUMS over every file in order of path, but for itself and what depends on a machine.

    `known` are hashes that were taken while a file was written: it is not read again for it.
    """
    hashes = known or {}
    lines = [
        f"{hashes.get(path) or sha256_of(folder / path)}  {path}\n"
        for path in list_files(folder)
        if path not in (SUMS, BUILD_INFO) and not path.startswith(f"{BASELINE}/")
    ]
    write_text(folder / SUMS, "".join(lines))


def list_files(folder: Path) -> list[str]:
    """Every file below `folder`, relative with `/`, in order."""
    found = (path for path in folder.rglob("*") if path.is_file() or path.is_symlink())
    return sorted(path.relative_to(folder).as_posix() for path in found)


def _copy_report(report: Path, target: Path) -> None:
    for path in list_files(report):
        check_path(path)
        write_bytes(target / path, (report / path).read_bytes())


def _write_shards(
    content: Content, originals: list[Sample], out: Path, cap_bytes: int
) -> list[Shard]:
    """Shards per split; samples that lack a file of the others have shards of their own.

    Tools take the first samples of a shard for what all of them hold.
    """
    samples = {str(case["id"]): s for case in content.cases if (s := _sample(content, case))}
    whole = max((len(sample.items) for sample in samples.values()), default=0)
    by_prefix: dict[str, list[Sample]] = {}
    for case in content.cases:
        if sample := samples.get(str(case["id"])):
            prefix = shard_prefix(case) + ("" if len(sample.items) == whole else PARTIAL)
            by_prefix.setdefault(prefix, []).append(sample)
        if native := _items(content, case, is_native=True):
            by_prefix.setdefault(NATIVE, []).append(Sample(str(case["id"]), tuple(native)))
    if originals:
        by_prefix[ORIGINALS] = originals
    return [
        shard
        for prefix in sorted(by_prefix)
        for shard in write_shards(out / "shards", prefix, by_prefix[prefix], cap_bytes)
    ]


def _items(content: Content, case: Row, *, is_native: bool = False) -> list[Item]:
    """The files of a case that may be passed on; native label maps are apart."""
    case_id = str(case["id"])
    return [
        Item(
            f"{case_id}.{row['role']}{_suffix(row)}",
            content.workdir / "cases" / case_id / str(row["path"]),
            str(row["sha256"]),
        )
        for row in case["files"]
        if is_shipped(content.owner_of(case, row["role"]), str(row["role"]))
        and (row["role"] == NATIVE_ROLE) == is_native
    ]


def _suffix(row: Row) -> str:
    return ".csv" if is_boxes(str(row["role"])) else suffix_of(str(row["path"]))


def _sample(content: Content, case: Row) -> Sample | None:
    """Image, label and record of one case; None where its image may not be passed on."""
    items = _items(content, case)
    if not any(role_of(item.name).startswith("image") for item in items):
        return None
    record = json_bytes(case_record(content, case))
    return Sample(str(case["id"]), (*items, Item(f"{case['id']}.json", record)))


def _write_descriptions(
    content: Content, out: Path, shards: list[Shard], withheld: list[str], measured: Row
) -> None:
    checks = {
        "leaks": {"ok": True, "detail": "no group, T0, T1 or T2 in two splits"},
        "hashes": {"ok": True, "detail": "every packed file has the hash noted when it was made"},
    }
    manifest = build_manifest(content, shards, checks, withheld)
    views = descriptions(manifest, content.plan.get("views") or [])
    facts = {name: view.facts for name, view in views.items()}
    manifest = manifest.model_copy(update={"views": facts})
    rows = manifest.model_dump(mode="json")
    ignores = content.ignore is not None
    for path, data in view_files(views).items():
        write_bytes(out / path, data)
    write_json(out / "manifest.json", rows)
    write_json(out / "manifest.schema.json", manifest_schema(content.task, ignores=ignores))
    write_jsonl(out / "data-meta.jsonl", metadata.data_meta(content))
    write_jsonl(out / f"annotations-{content.task}.jsonl", metadata.annotation_rows(content, rows))
    if content.task == "detection":
        write_jsonl(out / BOXES_LIST, rows["boxes"])
    write_json(out / "croissant.json", build_croissant(content, out, shards))
    write_text(out / "README.md", datasheet.first_page(content, manifest))
    write_text(out / "datasheet.md", datasheet.datasheet(content, manifest))
    write_text(out / "CITATION.cff", metadata.citation_cff(content))
    write_text(out / "references.bib", metadata.references_bib(content))
    for name, text in metadata.licence_texts(content).items():
        write_text(out / "LICENSES" / name, text)
    boxes = BOX_TOOLS if content.task == "detection" else ()
    for tool in TOOLS + boxes + (IGNORE_TOOLS if ignores else ()):
        write_bytes(out / "tools" / tool, (Path(__file__).parent / tool).read_bytes())
    plan = {key: value for key, value in content.plan.items() if key != "compatibility"}
    recipe = plan.get("recipe") or plan
    write_json(out / "recipe" / "recipe.json", recipe)
    write_json(out / "recipe" / "sources.json", content.lock or _acquired(content))
    write_json(out / "recipe" / "lock.json", _lock(content))
    write_json(out / "report.json", _report(content, checks, facts, measured))


def view_files(views: Mapping[str, View]) -> dict[str, bytes]:
    """Path in the bundle -> content, for the small files of its views."""
    return {
        f"views/{name}/{path}": data
        for name, view in views.items()
        for path, data in view.files.items()
    }


def _acquired(content: Content) -> dict[str, Any]:
    rows = _lock(content)["sources"]
    sources = {
        str(source["id"]): {"location": source.get("location"), "files": rows[str(source["id"])]}
        for source in content.sources
    }
    return {"schema": "imaging-x/lock/1", "sources": sources}


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
