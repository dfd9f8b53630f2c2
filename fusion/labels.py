"""The label map of one case, in the plan's values and on the image's grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from fusion.cases import FoundCase
from fusion.imaging import labels as label_values
from fusion.imaging.errors import CaseError
from fusion.imaging.geometry import same_voxels
from fusion.imaging.harmonise import resample
from fusion.imaging.io import read_image
from fusion.imaging.transforms import record
from fusion.imaging.volume import Array, Picture, Volume
from fusion.plan import Plan
from fusion.source import IGNORE, OTHER, Layer, SourceDescription

Image = Volume | Picture


def label_of(
    description: SourceDescription,
    source: Mapping[str, Any],
    plan: Plan,
    root: Path,
    case: FoundCase,
    image: Image,
    row: dict[str, Any],
) -> Image:
    """The label map on the image's own grid: value v > 0 is the plan's concept v - 1."""
    targets = {c: i + 1 for i, c in enumerate(plan.concept_ids())}
    value_of = {c: targets.get(t, 0) if t else 0 for c, t in source["mapping"].items()}
    if description.layers[0].kind == "probability":
        maps = [_on_grid(_open(root, files[0]), image, files[0], row) for files in case.layers]
        scale = description.layers[0].scale
        found = label_values.from_probabilities([m.array for m in maps], scale)
        lut = {0: 0} | {i + 1: value_of[la.concept] for i, la in enumerate(description.layers)}
        return _like(image, label_values.remap(found, lut))
    merged: Array = np.zeros(_shape(image), np.uint8)
    parts = sorted(zip(description.layers, case.layers, strict=True), key=_priority)
    for _, group in groupby(parts, key=_priority):
        level: Array = np.zeros_like(merged)
        for layer, file in ((layer, file) for layer, files in group for file in files):
            level = _unite(level, _layer_array(layer, value_of, root, file, image, row), file)
        merged = np.where(level > 0, level, merged) if merged.any() else level
    row["annotated"], unknown = _looked_for(description, source, case)
    if not row["annotated"]:
        raise CaseError("label_missing", f"{case.image}: nobody looked for any wanted concept")
    if unknown:
        merged[np.isin(merged, [targets[c] for c in unknown])] = 0
    return _like(image, merged)


def _priority(part: tuple[Layer, tuple[str, ...]]) -> int:
    return part[0].priority


def _shape(image: Image) -> tuple[int, ...]:
    return image.array.shape if isinstance(image, Volume) else image.array.shape[:2]


def _looked_for(
    description: SourceDescription, source: Mapping[str, Any], case: FoundCase
) -> tuple[list[str], list[str]]:
    """The plan's concepts that were and were not looked for in this case."""
    lacking = {
        source["mapping"].get(concept)
        for layer, files in zip(description.layers, case.layers, strict=True)
        if not files and layer.missing == "unknown"
        for concept in layer.concepts()
    }
    annotated = source["annotated"]
    return [c for c in annotated if c not in lacking], [c for c in annotated if c in lacking]


def _layer_array(
    layer: Layer,
    value_of: Mapping[str, int],
    root: Path,
    file: str,
    image: Image,
    row: dict[str, Any],
) -> Array:
    raw = _open(root, file)
    if layer.kind == "mask":
        if isinstance(raw, Volume):
            values = (raw.array > layer.threshold).astype(np.uint8)
        else:
            values = label_values.binarise(raw.array, layer.threshold, layer.channel)
        raw = replace(raw, array=values * np.uint8(value_of[layer.concept]))
    else:
        integers = label_values.as_integers(raw.array)
        table = {0: 0} | {
            value: value_of.get(concept, 0) if concept != IGNORE else 0
            for value, concept in layer.table().items()
        }
        if OTHER in layer.values:
            rest = value_of.get(layer.values[OTHER], 0)
            table = {int(v): rest for v in np.unique(integers)} | table
        raw = replace(raw, array=label_values.remap(integers, table))
    return _on_grid(raw, image, file, row).array


def _open(root: Path, file: str) -> Image:
    path = root / file
    if path.stat().st_size == 0:
        raise CaseError("unreadable", f"{file}: the file is empty")
    return read_image(path)


def _on_grid(label: Image, image: Image, file: str, row: dict[str, Any]) -> Image:
    """The label on the image's grid; another valid grid is resampled and recorded."""
    if isinstance(image, Picture) or isinstance(label, Picture):
        if label.array.shape[:2] != image.array.shape[:2]:
            raise CaseError(
                "grid_conflict",
                f"{file}: the label is {label.array.shape[:2]}, the image {image.array.shape[:2]}",
            )
        return label
    try:
        if same_voxels(image, label):
            return resample(label, image.grid, interpolation="nearest")
    except CaseError as error:
        raise CaseError(error.code, f"{file}: {error.message}") from error
    is_map = label.array.dtype.kind in "ui"
    kind = "nearest" if is_map else "linear"
    moved = resample(label, image.grid, interpolation=kind)
    row["findings"].append(
        {
            "code": "label_resampled",
            "detail": f"{file}: from {label.grid.shape} at {label.grid.spacing_mm} mm",
        }
    )
    row.setdefault("label_transforms", []).append(
        record("resample", {"interpolation": kind}, label, moved, invertible=False).as_dict()
    )
    return moved


def _unite(merged: Array, one: Array, file: str) -> Array:
    clash = (merged > 0) & (one > 0) & (merged != one)
    if clash.any():
        raise CaseError("label_collision", f"{file}: {int(clash.sum())} voxels have two concepts")
    return np.maximum(merged, one)


def _like(image: Image, array: Array) -> Image:
    kind = np.uint8 if array.max(initial=0) < 256 else np.uint16  # noqa: PLR2004
    array = np.ascontiguousarray(array.astype(kind, copy=False))
    if isinstance(image, Volume):
        return replace(image, array=array, flags=())
    return replace(image, array=array)
