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

from fusion import fingerprint
from fusion.cases import FoundCase
from fusion.imaging.errors import CaseError
from fusion.imaging.geometry import to_ras
from fusion.imaging.harmonise import resample, resample_labels, smooth_for, target_grid
from fusion.imaging.hashes import dhash, file_sha256, is_blank, phash, t1
from fusion.imaging.io import image_parts, read_image, write_nifti, write_png
from fusion.imaging.resize import resize_picture
from fusion.imaging.transforms import record
from fusion.imaging.volume import Picture, Volume
from fusion.labels import Image, array_of, class_of, label_of, version_of
from fusion.plan import Plan
from fusion.source import SourceDescription


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
        "original": fingerprint.facts(image),
        "annotated": list(source["annotated"]),
        "flags": list(getattr(image, "flags", ())),
        "findings": [],
        "classes": class_of(description, source, root, case),
        "norm": None,
    }
    label = None
    if description.layers and plan.task == "segmentation":
        label = label_of(description, source, plan, root, case, image, row)
    image, label = _harmonise(plan, description, case, image, label, row)
    folder.mkdir(parents=True, exist_ok=True)
    row["files"] = _write(folder, image, label)
    row |= _facts(image) | {"intensity": fingerprint.quantiles(image.array)}
    row["present"] = _present(plan, label)
    if isinstance(image, Picture):
        row["dhash"], row["phash"] = dhash(image), phash(image)
    return row


def _read(description: SourceDescription, root: Path, case: FoundCase) -> Image:
    if case.npz:
        file = description.cases.npz.file if description.cases.npz else ""
        return Picture(array_of(root / file, case.npz[0])[case.npz[2]])
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


@lru_cache(maxsize=4)
def _digest(path: Path, _: tuple[int, int]) -> str:
    return file_sha256(path)


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
        path, digest = full.relative_to(root).as_posix(), _digest(full, version_of(full))
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
