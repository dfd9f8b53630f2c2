"""A MONAI (Decathlon) data list.

Beside image and label each row says which concepts were looked for (`annotated`, and
`annotated_mask` in the order of the label values), its source and its group. Leave-one-source-out
puts all rows under `training` with their `fold`: the one that a case is held out of.
"""

from __future__ import annotations

from typing import Any

from fusion.bundle.content import IGNORE
from fusion.bundle.manifest import (
    CasePart,
    DetectionManifest,
    Manifest,
    boxes_by_case,
    ignore_of,
    ignored_in,
)
from fusion.bundle.text import json_bytes
from fusion.bundle.views.view import Placed, View, folds_of, images_of, label_of, suffix_of
from fusion.imaging.boxes import DECIMALS

SECTIONS = {"train": "training", "val": "validation", "test": "test"}


def view(manifest: Manifest) -> View:
    """The view: `datalist.json` with paths beside it."""
    cases = [case for case in manifest.cases if images_of(case)]
    if not cases:
        return View({"omitted": "no case is in this bundle's files"})
    rows: dict[str, list[dict[str, Any]]] = {section: [] for section in SECTIONS.values()}
    for case in cases:
        rows[_section(case)].append(_row(manifest, case))
    concepts = manifest.plan.concepts
    sources = sorted({source.modality or "unknown" for source in manifest.sources})
    data: dict[str, Any] = {
        "name": manifest.title,
        "description": f"Bundle {manifest.bundle_id}. {CONTRACT}",
        "reference": " ".join(manifest.citations),
        "licence": "per source, see LICENSES/ of the bundle",
        "tensorImageSize": manifest.plan.dimension,
        "modality": {"0": " or ".join(sources)},
        "labels": {"0": "background"} | {str(v): c for v, c in enumerate(concepts, start=1)},
        "numTraining": len(rows["training"]),
        "numTest": len(rows["test"]),
    } | {section: found for section, found in rows.items() if found}
    if (ignore := ignore_of(manifest)) is not None:
        data["labels"][str(ignore)] = IGNORE
        data["ignore"] = ignore
        data["description"] += f" {IGNORED.format(ignore)}"
    if isinstance(manifest, DetectionManifest):
        data["labels"] = {str(v): concept for v, concept in enumerate(concepts)}
        data["description"] += f" {BOXES}"
    placed = [Placed(path, row) for case in cases for path, row in zip(*_files(case), strict=True)]
    facts = {"folder": "", "counts": {section: len(found) for section, found in rows.items()}}
    files = {"datalist.json": json_bytes(data)}
    if isinstance(manifest, DetectionManifest) and manifest.plan.dimension == "2D":
        files |= {
            f"coco-{section}.json": json_bytes(_coco(manifest, section))
            for section, found in rows.items()
            if found
        }
    return View(facts, files, tuple(placed))


CONTRACT = (
    "A concept that is not in a row's `annotated` is unknown there, not absent: "
    "mask the loss with `annotated_mask`."
)
BOXES = (
    "`box` holds corners in voxels of `image` as MONAI loads it (a picture's first axis is its "
    "width), `label` the class of each, counted from 0. A row without `box` has labels that may "
    "not be passed on."
)


IGNORED = "Value {} of a label map is where nobody annotated: leave it out of losses and metrics."


def _section(case: CasePart) -> str:
    return SECTIONS[case.split] if isinstance(case.split, str) else "training"


def _files(case: CasePart) -> tuple[list[str], list[Any]]:
    """Paths in the view and the members that they hold."""
    images = images_of(case)
    many = len(images) > 1
    paths = [
        f"images/{case.id}{f'_{n:04d}' if many else ''}{suffix_of(row)}"
        for n, row in enumerate(images)
    ]
    if label := label_of(case):
        return [*paths, f"labels/{case.id}{suffix_of(label)}"], [*images, label]
    return paths, list(images)


def _row(manifest: Manifest, case: CasePart) -> dict[str, Any]:
    paths, members = _files(case)
    has_label = members[-1].role == "label"
    images = paths[:-1] if has_label else paths
    row: dict[str, Any] = {
        "image": images if len(images) > 1 else images[0],
        "case": case.id,
        "source": case.source,
        "group": case.group,
        "annotated": case.annotated,
        "annotated_mask": [int(c in case.annotated) for c in manifest.plan.concepts],
    }
    if has_label:
        row["label"] = paths[-1]
        row |= {} if ignore_of(manifest) is None else {"ignored": ignored_in(case)}
    elif case.classes is not None:
        row["label"] = [case.classes.get(c, -1) for c in manifest.plan.concepts]
    if (boxes := boxes_by_case(manifest).get(case.id)) is not None:
        row["box"] = [box.corners for box in boxes]
        row["label"] = [manifest.plan.concepts.index(box.concept) for box in boxes]
    if isinstance(case.split, dict):
        held = sorted(fold for fold, split in folds_of(case).items() if split == "test")
        row["fold"] = sorted(case.split).index(held[0]) if held else -1
    return row


def _coco(manifest: Manifest, section: str) -> dict[str, Any]:
    """The pictures of a section and their boxes, as COCO writes them: x, y, width, height.

    COCO cannot say that a class was not looked for: `annotated` of each image does.
    """
    concepts, boxes = manifest.plan.concepts, boxes_by_case(manifest)
    cases = [c for c in manifest.cases if images_of(c) and _section(c) == section and c.id in boxes]
    images, annotations = list[dict[str, Any]](), list[dict[str, Any]]()
    for number, case in enumerate(cases, 1):
        height, width = case.shape[:2]
        images.append(
            {
                "id": number,
                "file_name": _files(case)[0][0],
                "height": height,
                "width": width,
                "annotated": case.annotated,
            }
        )
        for box in boxes[case.id]:
            x0, y0, x1, y1 = box.corners
            size = [round(x1 - x0, DECIMALS), round(y1 - y0, DECIMALS)]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": concepts.index(box.concept) + 1,
                    "bbox": [x0, y0, *size],
                    "area": round(size[0] * size[1], DECIMALS),
                    "iscrowd": 0,
                }
            )
    return {
        "info": {"description": f"{manifest.title} (bundle {manifest.bundle_id})"},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": v, "name": c} for v, c in enumerate(concepts, start=1)],
    }
