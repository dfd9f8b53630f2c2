"""One case: read, check, bring to the plan's profile, write. Excluded cases raise CaseError."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from fusion.cases import FoundCase
from fusion.imaging import labels as label_values
from fusion.imaging.errors import CaseError
from fusion.imaging.geometry import same_voxels, to_ras
from fusion.imaging.harmonise import resample, resample_labels, smooth_for, target_grid
from fusion.imaging.hashes import dhash, file_sha256, is_blank, phash, t1
from fusion.imaging.io import image_parts, read_image, read_npz, write_nifti, write_png
from fusion.imaging.resize import resize_picture
from fusion.imaging.transforms import record
from fusion.imaging.volume import Array, Picture, Volume
from fusion.plan import Plan
from fusion.source import IGNORE, OTHER, Layer, SourceDescription

Image = Volume | Picture


def case_id(source: str, name: str, seed: int) -> str:
    """Safe, unique, and without the original name: `<source>__<12 hex>`."""
    return f"{source}__{sha256(f'{seed}|{source}|{name}'.encode()).hexdigest()[:12]}"


def harmonise_case(
    plan: Plan,
    source: Mapping[str, Any],
    root: Path,
    case: FoundCase,
    folder: Path,
    locked: Mapping[str, str],
) -> dict[str, Any]:
    """Write image and label into `folder`; returns the content of case.json.

    `locked` holds the SHA-256 of each source file as it was acquired.

    Raises:
        CaseError: the case is excluded; the code says why.
    """
    description = SourceDescription.model_validate(source["description"])
    image = _read(description, root, case)
    if is_blank(image):
        raise CaseError("degenerate", f"{case.image}: one value only ({image.array.flat[0]})")
    row: dict[str, Any] = {
        "id": folder.name,
        "source": source["id"],
        "name": case.name,
        "subject": case.subject,
        "official_split": case.split,
        "origin": _origin(root, case, locked),
        "t1": t1(image),
        "annotated": list(source["annotated"]),
        "flags": list(getattr(image, "flags", ())),
        "findings": [],
        "classes": _class_of(description, source, root, case),
        "norm": None,
    }
    label = None
    if description.layers and plan.task == "segmentation":
        label = _label(description, source, plan, root, case, image, row)
    image, label = _harmonise(plan, description, case, image, label, row)
    folder.mkdir(parents=True, exist_ok=True)
    row["files"] = _write(folder, image, label)
    row |= _facts(image)
    row["present"] = _present(plan, label)
    if isinstance(image, Picture):
        row["dhash"], row["phash"] = dhash(image), phash(image)
    return row


def _read(description: SourceDescription, root: Path, case: FoundCase) -> Image:
    if case.npz:
        file = description.cases.npz.file if description.cases.npz else ""
        return Picture(_array_of(root / file, case.npz[0])[case.npz[2]])
    path = root / case.image
    if path.is_file() and path.stat().st_size == 0:
        raise CaseError("unreadable", f"{case.image}: the file is empty")
    image = read_image(path, form=description.geometry)
    wanted = Volume if description.dimension == "3D" else Picture
    if not isinstance(image, wanted):
        raise CaseError(
            "unreadable",
            f"{case.image}: a {'2D' if wanted is Volume else '3D'} image, the source description "
            f"says {description.dimension}",
        )
    return image


def _label(
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


def _class_of(
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
        array = _array_of(root / description.cases.npz.file, case.npz[1])
        text = str(int(np.ravel(array[case.npz[2]])[0]))
    if not text.strip():
        raise CaseError("label_missing", f"{case.name}: its class is blank, which is not 'normal'")
    if text not in rule.values:
        known = ", ".join(rule.values)
        raise CaseError("label_unmapped", f"{case.name}: class {text!r} is not one of {known}")
    mapping = source["mapping"]
    mine = mapping.get(rule.values[text])
    return {c: int(c == mine) for c in source["annotated"]}


def _version(path: Path) -> tuple[int, int]:
    """Changes when the file does."""
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def _array_of(path: Path, key: str) -> Array:
    return _read_array(path, key, _version(path))


@lru_cache(maxsize=4)
def _read_array(path: Path, key: str, _: tuple[int, int]) -> Array:
    """One archive serves all its cases."""
    return read_npz(path, key)


@lru_cache(maxsize=4)
def _digest(path: Path, _: tuple[int, int]) -> str:
    return file_sha256(path)


def table_of(path: Path, key: str, column: str) -> dict[str, str]:
    """One column of a csv or tsv table by another; read once for all cases.

    Raises:
        CaseError: unreadable, when the table lacks a column.
    """
    return _read_table(path, key, column, _version(path))


@lru_cache(maxsize=4)
def _read_table(path: Path, key: str, column: str, _: tuple[int, int]) -> dict[str, str]:
    import pandas as pd

    table = pd.read_csv(path, sep=None, engine="python", dtype=str, keep_default_na=False)
    if lack := {key, column} - set(table.columns):
        raise CaseError(
            "unreadable", f"{path.name}: no column {sorted(lack)}; it has {list(table.columns)}"
        )
    return dict(zip(table[key], table[column], strict=True))


def _harmonise(
    plan: Plan,
    description: SourceDescription,
    case: FoundCase,
    image: Image,
    label: Image | None,
    row: dict[str, Any],
) -> tuple[Image, Image | None]:
    steps: list[dict[str, Any]] = []
    row["transforms"] = steps
    if isinstance(image, Picture):
        return _native_size(description, case, image, label, row)
    if plan.profile == "native":
        return image, label
    turned, step = to_ras(image)
    steps.append(step.as_dict())
    if label is not None:
        label = to_ras(label)[0]  # type: ignore[arg-type]
        label = replace(label, grid=turned.grid)
    if plan.profile != "grid" or plan.spacing_mm is None:
        return turned, label
    grid = target_grid(turned.grid, plan.spacing_mm)
    moved = resample(smooth_for(turned, grid), grid)
    params = {"interpolation": "linear", "smoothing": "gaussian 0.35 voxel per factor"}
    steps.append(record("resample", params, turned, moved, invertible=True).as_dict())
    if label is not None:
        label, flags = resample_labels(label, grid)
        row["flags"] += flags
    return moved, label


def _native_size(
    description: SourceDescription,
    case: FoundCase,
    image: Picture,
    label: Image | None,
    row: dict[str, Any],
) -> tuple[Picture, Image | None]:
    """Undo what a host did to the size of this copy, as its description declares."""
    for rule in description.adjust:
        if not re.fullmatch(rule.only, case.name):
            continue
        height, width = image.array.shape[:2]
        size = rule.native_size or (0, 0)
        if rule.enlarged_by:
            size = (round(height / rule.enlarged_by), round(width / rule.enlarged_by))
        smaller = size[0] <= height and size[1] <= width
        kind = "area" if smaller else "linear"
        before, image = image, resize_picture(image, size, kind)
        step = record(
            "resample",
            {"interpolation": kind, "reason": rule.reason},
            before,
            image,
            invertible=True,
        )
        row["transforms"].append(step.as_dict())
        row["findings"].append({"code": "shared_scale", "detail": f"{case.name}: {rule.reason}"})
        if isinstance(label, Picture):
            label = _shrink_label(label, size)
    return image, label


def _shrink_label(label: Picture, size: tuple[int, int]) -> Picture:
    """Each concept by the share of the new pixel that it covers; a half or more wins."""
    values = [int(v) for v in np.unique(label.array) if v]
    out = np.zeros(size, label.array.dtype)
    for value in values:
        share = resize_picture(
            Picture((label.array == value).astype(np.float32), 32), size, "area"
        ).array
        out[share >= 0.5] = value  # noqa: PLR2004
    return replace(label, array=out)


def _origin(root: Path, case: FoundCase, locked: Mapping[str, str]) -> dict[str, Any]:
    """Path, SHA-256 and size of the case's files.

    Raises:
        CaseError: upstream_changed, when a file is not what was acquired.
    """

    def as_acquired(full: Path) -> str:
        path, digest = full.relative_to(root).as_posix(), _digest(full, _version(full))
        if digest != locked.get(path):
            expected = locked.get(path, "none")[:12]
            raise CaseError(
                "upstream_changed",
                f"{path}: SHA-256 is {digest[:12]}, expected {expected} as acquired",
            )
        return digest

    def one(path: str) -> dict[str, Any]:
        full = root / path
        if full.is_dir():
            files = sorted(p for p in full.iterdir() if p.is_file())
            text = "".join(f"{file_sha256(p)}  {p.name}\n" for p in files)
            digest = sha256(text.encode()).hexdigest()
            size = sum(p.stat().st_size for p in files)
        else:
            parts = image_parts(full)
            digests = [as_acquired(part) for part in parts]
            size = sum(part.stat().st_size for part in parts)
            lines = "".join(f"{d}  {p.name}\n" for d, p in zip(digests, parts, strict=True))
            digest = digests[0] if len(parts) == 1 else sha256(lines.encode()).hexdigest()
        row: dict[str, Any] = {"path": path, "sha256": digest, "bytes": size}
        return row | ({"row": case.npz[2], "array": case.npz[0]} if case.npz else {})

    return {
        "image": one(case.image),
        "labels": [one(path) for files in case.layers for path in files],
    }


def _write(folder: Path, image: Image, label: Image | None) -> list[dict[str, Any]]:
    suffix = ".nii.gz" if isinstance(image, Volume) else ".png"
    files = []
    for role, one in (("image", image), ("label", label)):
        if one is None:
            continue
        path = folder / f"{role}{suffix}"
        if isinstance(one, Volume):
            write_nifti(one, path)
        else:
            write_png(one, path)
        files.append(
            {
                "role": role,
                "path": path.name,
                "sha256": file_sha256(path),
                "bytes": path.stat().st_size,
            }
        )
    return files


def _facts(image: Image) -> dict[str, Any]:
    shape = list(image.array.shape)
    if isinstance(image, Volume):
        spacing = [round(s, 6) for s in image.grid.spacing_mm]
        place = {"spacing_mm": spacing, "axcodes": image.grid.axcodes, "channels": 1}
        place["unit"] = image.unit
    else:
        shape = shape[:2]
        place = {"spacing_mm": None, "axcodes": None, "channels": image.channels, "unit": "unknown"}
    return {"shape": shape, "dtype": str(image.array.dtype), **place}


def _present(plan: Plan, label: Image | None) -> dict[str, int]:
    if label is None:
        return {}
    counts = np.bincount(label.array.ravel(), minlength=len(plan.concepts) + 1)
    return {c: int(counts[i + 1]) for i, c in enumerate(plan.concept_ids())}


def save_case(folder: Path, row: Mapping[str, Any]) -> None:
    """Write case.json last and whole: its presence says that the case is finished."""
    part = folder / "case.json.part"
    part.write_text(json.dumps(row, sort_keys=True, indent=1, ensure_ascii=False) + "\n", "utf-8")
    part.replace(folder / "case.json")
