"""The labels of one case, in the plan's values: label maps on the image's grid, and classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from fusion.cases import FoundCase
from fusion.imaging import labels as label_values
from fusion.imaging.errors import CaseError
from fusion.imaging.geometry import same_voxels
from fusion.imaging.harmonise import resample
from fusion.imaging.io import read_image, read_npz
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
    merged: Array | None = None
    for layer, files in zip(description.layers, case.layers, strict=True):
        for file in files:
            one = _layer_array(layer, value_of, root, file, image, row)
            merged = one if merged is None else _unite(merged, one, file)
    if merged is None:
        raise CaseError("label_missing", f"{case.image}: no label file")
    return _like(image, merged)


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


def class_of(
    description: SourceDescription, source: Mapping[str, Any], root: Path, case: FoundCase
) -> dict[str, int] | None:
    """1 for the case's class, 0 for the source's other classes; None without class labels."""
    rule = description.classes
    if rule is None:
        return None
    text = dict(case.fields).get(rule.field, "") if rule.field else ""
    if rule.table:
        text = table_of(root / rule.table, rule.key, rule.column).get(case.name, "")
    if case.npz and description.cases.npz:
        array = array_of(root / description.cases.npz.file, case.npz[1])
        text = str(int(np.ravel(array[case.npz[2]])[0]))
    if not text.strip():
        raise CaseError("label_missing", f"{case.name}: its class is blank, which is not 'normal'")
    if text not in rule.values:
        known = ", ".join(rule.values)
        raise CaseError("label_unmapped", f"{case.name}: class {text!r} is not one of {known}")
    mapping = source["mapping"]
    mine = mapping.get(rule.values[text])
    return {c: int(c == mine) for c in source["annotated"]}


def version_of(path: Path) -> tuple[int, int]:
    """Changes when the file does."""
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def array_of(path: Path, key: str) -> Array:
    """One array of an .npz archive."""
    return _read_array(path, key, version_of(path))


@lru_cache(maxsize=4)
def _read_array(path: Path, key: str, _: tuple[int, int]) -> Array:
    """One archive serves all its cases."""
    return read_npz(path, key)


def table_of(path: Path, key: str, column: str) -> dict[str, str]:
    """One column of a csv or tsv table by another; read once for all cases.

    Raises:
        CaseError: unreadable, when the table lacks a column.
    """
    return _read_table(path, key, column, version_of(path))


@lru_cache(maxsize=4)
def _read_table(path: Path, key: str, column: str, _: tuple[int, int]) -> dict[str, str]:
    import pandas as pd

    table = pd.read_csv(path, sep=None, engine="python", dtype=str, keep_default_na=False)
    if lack := {key, column} - set(table.columns):
        raise CaseError(
            "unreadable", f"{path.name}: no column {sorted(lack)}; it has {list(table.columns)}"
        )
    return dict(zip(table[key], table[column], strict=True))
