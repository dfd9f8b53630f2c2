"""Small made-up sources on disk, and the recipes over them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zlib import crc32

import nibabel as nib
import numpy as np

from fusion.build import STAGES, Build, run_stage
from fusion.plan import make_plan
from fusion.recipe_check import check_recipe
from tests.fusion.test_real_cases import Silent

RAS = np.diag([1.0, 1.0, 1.0, 1.0])


def brain(seed: int, shape=(20, 18, 16)) -> np.ndarray:
    """An MR-like volume: noise around a bright body on a dark ground; float32."""
    rng = np.random.default_rng(seed)
    array = rng.normal(100, 10, shape)
    inner = tuple(slice(n // 4, n - n // 4) for n in shape)
    array[inner] += 400
    return np.round(array).astype(np.float32)


def person(seed: int) -> np.ndarray:
    """The same with coarse structure of its own: no two of them look alike."""
    coarse = np.random.default_rng(seed).normal(0, 150, (5, 6, 4))
    return brain(seed) + np.kron(coarse, np.ones((4, 3, 4))).astype(np.float32)


def body(seed: int, shape=(20, 18, 16)) -> np.ndarray:
    """A CT-like volume in HU: air around soft tissue; int16."""
    rng = np.random.default_rng(seed)
    array = np.full(shape, -1000.0)
    inner = tuple(slice(n // 4, n - n // 4) for n in shape)
    array[inner] = 50
    return np.round(array + rng.normal(0, 15, shape)).clip(-1024).astype(np.int16)


def block(shape=(20, 18, 16), value: int = 1, dtype: Any = np.uint8) -> np.ndarray:
    """A label map with one block of `value` in the middle."""
    label = np.zeros(shape, dtype)
    label[tuple(slice(n // 4 + 1, n - n // 4 - 1) for n in shape)] = value
    return label


def write_nifti(path: Path, array: np.ndarray, affine: np.ndarray = RAS) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(array, affine)
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    nib.save(image, path)


def write_source(
    folder: Path,
    images: Mapping[str, np.ndarray],
    labels: Mapping[str, np.ndarray] | None = None,
    affine: np.ndarray = RAS,
) -> None:
    """images/<name>.nii.gz and labels/<name>.nii.gz; by default a block that no other name has."""
    for name, array in images.items():
        write_nifti(folder / "images" / f"{name}.nii.gz", array, affine)
        label = _own_block(name, array.shape[:3]) if labels is None else labels.get(name)
        if label is not None:
            write_nifti(folder / "labels" / f"{name}.nii.gz", label, affine)


def _own_block(name: str, shape: tuple[int, ...]) -> np.ndarray:
    label = block(shape)
    inside = np.flatnonzero(label)
    label.flat[inside[crc32(name.encode()) % len(inside)]] = 0
    return label


def member(name: str, **changes: Any) -> dict[str, Any]:
    """A source of a recipe over what `write_source` wrote to the folder `name`."""
    description = {
        "name": name,
        "modality": "MR",
        "family": "MR",
        "dimension": "3D",
        "faces": "none",
        "cases": {"image": "images/{name}.nii.gz", "subject": "{name}"},
        "layers": [
            {"path": "labels/{name}.nii.gz", "kind": "label_map", "values": {"1": "spleen"}}
        ],
    }
    return {
        "id": name,
        "dataset": name,
        "location": {"kind": "local", "path": name},
        "description": description | changes,
    }


def recipe(*members: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "schema": "imaging-x/recipe/1",
        "title": "made",
        "task": "segmentation",
        "concepts": ["spleen"],
        "baseline": {"tier": "none"},
        "views": [],
        "sources": list(members),
    } | changes


class Built:
    """A finished build: its parts as plain data."""

    def __init__(self, build: Build, progress: Silent) -> None:
        self.build, self.codes = build, progress.codes
        rows = sorted((build.workdir / "final" / "cases").glob("*/case.json"))
        self.cases = {row["name"]: row for path in rows if (row := json.loads(path.read_text()))}
        self.manifest = json.loads((build.out / "manifest.json").read_text())
        self.report = json.loads((build.out / "report.json").read_text())

    def findings(self) -> list[str]:
        return [row["code"] for row in self.report["findings"]]

    def file(self, name: str, role: str) -> Path:
        row = self.cases[name]
        path = next(f["path"] for f in row["files"] if f["role"] == role)
        return self.build.workdir / "final" / "cases" / row["id"] / path


def fuse(data: dict[str, Any], root: Path, out: Path | None = None) -> Built:
    """Every stage of the recipe, sources below `root`."""
    known = {source["dataset"] for source in data["sources"]}
    plan = make_plan(check_recipe(data, known))
    target = out or root / "bundle"
    build, progress = Build(plan, root, target.with_name(target.name + ".work"), target), Silent()
    for stage in STAGES:
        run_stage(stage, build, progress)
    return Built(build, progress)
