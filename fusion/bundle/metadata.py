"""Files beside the manifest: the two JSONL files of the fusion paper, citations and licences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from catalog.licences import licence_url
from fusion.bundle.boxes import BOXES_ROLE, PICTURE_COLUMNS, VOLUME_COLUMNS
from fusion.bundle.content import (
    Content,
    Row,
    date_published,
    described,
    file_of,
    licence_of,
    source_name,
)
from fusion.bundle.croissant import CREATOR, description
from fusion.bundle.manifest import has_boxes, role_of
from fusion.bundle.text import dump_json

UNKNOWN = "NA"
PLANE = 2  # axes of a picture
_DRAWN = {"segmentation": "mask", "classification": "image label", "detection": "bounding box"}


def data_meta(content: Content) -> list[dict[str, Any]]:
    """One row of 16 fields per source, counted over the cases that are in this bundle."""
    return [_meta_row(content, source) for source in content.sources]


def _meta_row(content: Content, source: Row) -> dict[str, Any]:
    facts, cases = described(source), content.of_source(str(source["id"]))
    labelled = sum(
        bool(file_of(case, "label") or file_of(case, BOXES_ROLE) or case.get("classes"))
        for case in cases
    )
    presence = "labeled" if labelled == len(cases) else "mixed" if labelled else "unlabeled"
    modality = str(facts.get("modality") or UNKNOWN)
    family = str(facts.get("sequence") or facts.get("family") or "")
    return {
        "dataset_name": source_name(source),
        "release_date": str(facts.get("year") or UNKNOWN),
        "homepage_url": str(facts.get("homepage") or UNKNOWN),
        "organization": str(facts.get("publisher") or UNKNOWN),
        "challenge_series": UNKNOWN,
        "license": licence_of(source, "images"),
        "dataset_description": f"{source_name(source)}, as fused in {content.title}",
        "modality_primary": modality,
        "modality_secondary": f"{modality}:{family}" if family not in ("", modality) else UNKNOWN,
        "anatomical_structure": _regions(content),
        "disease": UNKNOWN,
        "data_volume": dump_json(_volume(cases), indent=None),
        "valid_image_n": len(cases),
        "label_presence": presence if cases else "unlabeled",
        "task_type": content.task,
        "num_classes_per_task": dump_json({content.task: len(content.concepts)}, indent=None),
    }


def _regions(content: Content) -> str:
    return ", ".join(str(row.get("label") or row["id"]) for row in content.plan["concepts"])


def _volume(cases: Sequence[Row]) -> dict[str, int]:
    volume = {"total": len(cases)}
    for case in cases:
        if isinstance(case["split"], str):
            volume[case["split"]] = volume.get(case["split"], 0) + 1
    return volume


def annotation_rows(content: Content, manifest: Row) -> list[dict[str, Any]]:
    """One row per case with the blocks record, context, media_geometry and tasks."""
    written = {case["id"]: case for case in manifest["cases"]}
    by_id = {str(source["id"]): source for source in content.sources}
    return [
        _annotation(content, case, written[case["id"]], by_id[case["source"]])
        for case in content.cases
    ]


def _annotation(content: Content, case: Row, written: Row, source: Row) -> dict[str, Any]:
    files = {role_of(row["member"]): f"{row['path']}#{row['member']}" for row in written["files"]}
    facts = described(source)
    return {
        "record": {
            "dataset_name": source_name(source),
            "image_path": next((p for r, p in files.items() if r.startswith("image")), None),
            "sample_id": case["id"],
        },
        "context": {
            "subject": case["group"],
            "age": None,
            "sex": None,
            "site": None,
            "modality": str(facts.get("modality") or UNKNOWN),
            "anatomy": _regions(content),
            "text": None,
            "extra": {
                "source": case["source"],
                "split": case["split"],
                "flags": case["flags"],
                "recipe_only": written["recipe_only"],
            },
        },
        "media_geometry": {
            "task_type": content.task,
            "leaf_task": content.task,
            "annotation_type": _DRAWN[content.task],
            "dimension": content.plan["dimension"],
            "shape": case["shape"],
            "spacing": case.get("spacing_mm"),
            "orientation": case.get("axcodes"),
            "slice_index": None,
            "frame_index": None,
            "timestamps": None,
            "camera": None,
        },
        "tasks": [_payload(content, case, files)],
    }


def _payload(content: Content, case: Row, files: Mapping[str, str]) -> dict[str, Any]:
    common = {"dimension": content.plan["dimension"], "annotated": case["annotated"]}
    if content.task == "segmentation":
        return common | {
            "schema_variant": "label_map",
            "label_path": files.get("label"),
            "values": {c: v for v, c in enumerate(content.concepts, start=1)},
            "present": case.get("present") or {},
        }
    if content.task == "detection":
        columns = PICTURE_COLUMNS if len(case["shape"]) == PLANE else VOLUME_COLUMNS
        return common | {
            "schema_variant": "boxes",
            "boxes_path": files.get(BOXES_ROLE),
            "values": {c: v for v, c in enumerate(content.concepts)},
            "corners": list(columns),
            "boxes": case["boxes"] if has_boxes(content, case) else None,
        }
    return common | {"schema_variant": "image_labels", "classes": case.get("classes")}


def citation_cff(content: Content) -> str:
    """CITATION.cff: the bundle, and every source as a reference."""
    data = {
        "cff-version": "1.2.0",
        "message": "Please cite every source below as well as this bundle.",
        "title": content.title,
        "type": "dataset",
        "authors": [{"name": CREATOR}],
        "version": content.bundle_id,
        "date-released": date_published(content),
        "abstract": description(content),
        "references": [_reference(source) for source in content.sources],
    }
    return str(yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=1000))


def _reference(source: Row) -> dict[str, Any]:
    facts = described(source)
    row: dict[str, Any] = {
        "type": "data",
        "title": source_name(source),
        "authors": [{"name": str(facts.get("publisher") or "unknown")}],
    }
    optional = {
        "year": facts.get("year"),
        "version": facts.get("version"),
        "doi": facts.get("doi"),
        "url": facts.get("homepage"),
        "notes": facts.get("citation"),
    }
    return row | {key: value for key, value in optional.items() if value}


def references_bib(content: Content) -> str:
    """BibTeX, one @misc per source."""
    return "\n".join(_bib(source) for source in content.sources)


def _bib(source: Row) -> str:
    facts = described(source)
    fields = {
        "title": source_name(source),
        "author": facts.get("publisher"),
        "year": facts.get("year"),
        "doi": facts.get("doi"),
        "howpublished": facts.get("homepage") and f"\\url{{{facts['homepage']}}}",
        "note": facts.get("citation"),
    }
    lines = [f"  {key} = {{{_bib_text(key, v)}}}," for key, v in fields.items() if v]
    return "\n".join([f"@misc{{{source['id']},", *lines, "}", ""])


def _bib_text(key: str, value: Any) -> str:
    if key in ("howpublished", "doi"):
        return str(value)
    return "".join(f"\\{c}" if c in "{}%&#$_" else c for c in str(value).replace("\\", "/"))


def licence_texts(content: Content) -> dict[str, str]:
    """File name below LICENSES/ -> what is known of that licence."""
    texts = {f"{source['id']}.txt": _licence_text(source) for source in content.sources}
    texts["_bundle.txt"] = (
        "Manifest, splits, label maps and descriptions of this bundle: CC0-1.0\n"
        f"{licence_url('CC0-1.0')}\n"
        "Images and labels keep the licence of their source: one file per source here.\n"
    )
    return texts


def _licence_text(source: Row) -> str:
    facts = described(source).get("licence") or {}
    lines = [f"Source: {source_name(source)}"]
    for part in ("images", "labels"):
        licence = licence_of(source, part)
        lines.append(f"{part.capitalize()}: {licence} {licence_url(licence)}".rstrip())
    if url := facts.get("url"):
        lines.append(f"Stated at: {url}")
    if note := facts.get("note"):
        lines.append(f"Note: {note}")
    if homepage := described(source).get("homepage"):
        lines.append(f"Homepage: {homepage}")
    for key, value in sorted((source.get("licence_result") or {}).items()):
        lines.append(f"{key}: {dump_json(value, indent=None)}")
    lines.append("Read the publisher's page before any use: nothing here is legal advice.")
    return "\n".join(lines) + "\n"
