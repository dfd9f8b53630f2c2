"""Work folders as a build leaves them: odd shapes, uneven spacing, two sources, all splits."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import nibabel as nib
import numpy as np
from isal import igzip
from PIL import Image

SPLITS = ("train", "train", "val", "test")


def sha(data: bytes | str) -> str:
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()


def make_plan(dimension: str = "3D", **changes) -> dict:
    concepts = [
        {"id": "hippocampus-anterior", "label": "Anterior hippocampus"},
        {"id": "hippocampus-posterior", "label": "Posterior hippocampus"},
    ]
    plan = {
        "title": "Two sources, one task",
        "task": "segmentation",
        "mode": "intersection",
        "build": "private",
        "seed": 20260101,
        "dimension": dimension,
        "profile": "canonical",
        "spacing_mm": None,
        "concepts": concepts,
        "sources": [make_source("first"), make_source("second", licence=None)],
        "protocol": "holdout",
        "splits": {"train": 0.5, "val": 0.25, "test": 0.25},
        "accept": {},
        "views": ["nnunet", "monai", "bids", "huggingface"],
        "baseline": {"tier": "none"},
        "known_limits": ["Only eight cases."],
    } | changes
    return {"bundle_id": sha(json.dumps(plan, sort_keys=True))} | plan


def make_source(source_id: str, licence: str | None = "CC-BY-SA-4.0", modality: str = "MR") -> dict:
    return {
        "id": source_id,
        "dataset": source_id,
        "description": {
            "name": f"The {source_id} set & more",
            "version": "1.0",
            "year": 2018,
            "publisher": "Somebody {et al.}",
            "homepage": f"https://example.org/data/{source_id}",
            "doi": "10.1234/abcd" if source_id == "first" else "",
            "citation": "Somebody et al., 100% real, 2018",
            "licence": {"images": licence, "labels": licence, "url": "", "note": ""},
            "modality": modality,
            "family": "mr",
            "dimension": "3D",
            "annotation": "manual",
            "known_limits": [f"{source_id} is small"],
        },
        "licence_result": {"redistribute": licence is not None},
    }


def volume_bytes(array: np.ndarray, spacing=(1.0, 1.5, 2.25), descrip: bytes = b"") -> bytes:
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = (-10.5, 3.25, 7.0)
    image = nib.Nifti1Image(array, affine)
    image.set_qform(affine, 1)
    image.set_sform(affine, 1)
    image.header["descrip"] = descrip
    return bytes(igzip.compress(image.to_bytes(), compresslevel=1, mtime=0))


def picture_bytes(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(array).save(out, "PNG")
    return out.getvalue()


def make_case(workdir: Path, source: str, number: int, split, dimension: str, **changes) -> dict:
    """Write one case; `changes` go to case.json, `label` and `image` give other arrays."""
    rng = np.random.default_rng([number, len(source)])
    is_3d = dimension == "3D"
    channels = changes.pop("channels", 1 if is_3d else 3)
    shape = (7 + number, 9, 5) if is_3d else (11 + number, 17)
    pixels = shape if channels == 1 else (*shape, channels)
    image = changes.pop("image", rng.integers(0, 255, pixels).astype("int16" if is_3d else "uint8"))
    label = changes.pop("label", rng.integers(0, 3, shape).astype("uint8"))
    encode = volume_bytes if is_3d else picture_bytes
    suffix = ".nii.gz" if is_3d else ".png"
    name = f"case{number:03d}"
    case_id = changes.pop("id", f"{source}__{sha(source + name)[:12]}")
    folder = workdir / "cases" / case_id
    folder.mkdir(parents=True)
    files = []
    for role, array in (("image", image), ("label", label)):
        if array is None:
            continue
        data = array if isinstance(array, bytes) else encode(array)
        (folder / f"{role}{suffix}").write_bytes(data)
        row = {"role": role, "path": f"{role}{suffix}", "sha256": sha(data), "bytes": len(data)}
        files.append(row)
    names = [row["id"] for row in make_plan()["concepts"]]
    present = {c: int((label == v).sum()) for v, c in enumerate(names, 1) if label is not None}
    case = {
        "id": case_id,
        "source": source,
        "name": name,
        "group": f"g:{sha(case_id)[:12]}",
        "split": split,
        "origin": {
            "image": {"path": f"images/{name}{suffix}", "sha256": sha(case_id), "bytes": 10},
            "labels": [{"path": f"labels/{name}{suffix}", "sha256": sha(name), "bytes": 5}],
        },
        "files": files,
        "t1": sha("t1" + case_id),
        "shape": list(shape),
        "spacing_mm": [1.0, 1.5, 2.25] if is_3d else None,
        "axcodes": "RAS" if is_3d else None,
        "channels": channels,
        "dtype": "int16" if is_3d else "uint8",
        "unit": "unknown",
        "annotated": names,
        "present": present,
        "classes": None,
        "flags": [],
        "transforms": [],
        "norm": {"method": "zscore", "fitted_on": "train"} if is_3d else None,
    } | changes
    (folder / "case.json").write_text(json.dumps(case))
    return case


def make_workdir(workdir: Path, dimension: str = "3D", protocol: str = "holdout") -> list[dict]:
    """Eight cases: two sources, each with two train, one val, one test."""
    cases = []
    for source in ("first", "second"):
        for number, split in enumerate(SPLITS):
            folds = {
                f"fold{k}": "test" if source == held else "val" if split == "val" else "train"
                for k, held in enumerate(("first", "second"))
            }
            chosen = folds if protocol == "loso" else split
            cases.append(make_case(workdir, source, number, chosen, dimension))
    return cases
