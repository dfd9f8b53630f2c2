"""Work folders of small made-up cases: bright discs on noise, as a build leaves them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from PIL import Image

from fusion.baseline.tier import Tier

QUICK = Tier(steps=16, fewest_steps=8, validations=2)
LEARNING = Tier(steps=100, fewest_steps=60)


@dataclass
class Work:
    """A work folder under construction."""

    root: Path
    cases: list[dict[str, Any]] = field(default_factory=list)

    def picture(self, source: str, split: Any, **more: Any) -> str:
        """One grey picture of 60 x 48 with a disc of value 1; returns the case's id."""
        image, label = disc(len(self.cases), (60, 48))
        label = more.pop("label", label)
        folder, row = self._case(source, split, "png", image.shape, **more)
        Image.fromarray(image).save(folder / "image.png")
        if label is not None:
            Image.fromarray(label.astype(np.uint8)).save(folder / "label.png")
        return self._write(folder, row, has_label=label is not None)

    def volume(self, source: str, split: Any, **more: Any) -> str:
        """One volume of 40 x 34 x 12 at 1 x 1.5 x 4 mm; only its middle planes hold a disc."""
        rng = np.random.default_rng(len(self.cases))
        image, label = disc(len(self.cases), (40, 34))
        images = np.stack([rng.integers(0, 60, image.shape) for _ in range(12)], -1)
        images[..., 4:8] = image[..., None]
        labels = np.zeros(images.shape, np.uint8)
        labels[..., 4:8] = label[..., None]
        spacing = (1.0, 1.5, 4.0)
        folder, row = self._case(
            source, split, "nii.gz", images.shape, spacing_mm=list(spacing), **more
        )
        for name, array in (("image", images.astype(np.int16)), ("label", labels)):
            nib.save(nib.Nifti1Image(array, np.diag([*spacing, 1.0])), folder / f"{name}.nii.gz")
        return self._write(folder, row, has_label=True)

    def stored(
        self,
        source: str,
        split: Any,
        image: np.ndarray,
        label: np.ndarray | None,
        affine: np.ndarray,
        **more: Any,
    ) -> str:
        """A volume as it is given."""
        spacing = np.linalg.norm(affine[:3, :3], axis=0).tolist()
        folder, row = self._case(source, split, "nii.gz", image.shape, spacing_mm=spacing, **more)
        nib.save(nib.Nifti1Image(image, affine), folder / "image.nii.gz")
        if label is not None:
            nib.save(nib.Nifti1Image(label.astype(np.uint8), affine), folder / "label.nii.gz")
        return self._write(folder, row, has_label=label is not None)

    def _case(
        self, source: str, split: Any, suffix: str, shape: tuple[int, ...], **more: Any
    ) -> tuple[Path, dict[str, Any]]:
        case_id = f"{source}__{len(self.cases):012x}"
        row = {
            "id": case_id,
            "name": f"case {len(self.cases)}",
            "source": source,
            "group": f"g:{case_id}",
            "split": split,
            "files": suffix,
            "shape": list(shape),
            "spacing_mm": None,
            "channels": 1,
            "unit": "unknown",
            "annotated": ["disc"],
            "classes": None,
            **more,
        }
        folder = self.root / "cases" / case_id
        folder.mkdir(parents=True)
        return folder, row

    def _write(self, folder: Path, row: dict[str, Any], *, has_label: bool) -> str:
        suffix = row["files"]
        roles = ["image", "label"] if has_label else ["image"]
        row["files"] = [{"role": role, "path": f"{role}.{suffix}"} for role in roles]
        (folder / "case.json").write_text(json.dumps(row))
        self.cases.append(row)
        return row["id"]


def disc(seed: int, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Grey picture uint8 with one bright disc, and the disc."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices(shape)
    radius = rng.uniform(6, 9)
    centre = [rng.uniform(radius + 1, size - radius - 1) for size in shape]
    label = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= radius**2
    image = rng.integers(0, 60, shape) + 150 * label
    return image.astype(np.uint8), label.astype(np.uint8)


def plan(*sources: str, **more: Any) -> dict[str, Any]:
    """A plan with the concept `disc`."""
    return {
        "bundle_id": "0" * 64,
        "title": "Discs",
        "task": "segmentation",
        "seed": 7,
        "protocol": "holdout",
        "concepts": [{"id": "disc"}],
        "sources": [{"id": source, "description": {}} for source in sources],
        **more,
    }


def holdout(work: Work, kind: str = "picture", **more: Any) -> Work:
    """Two sources, a and b: six train, one val and three test cases each."""
    for source in ("a", "b"):
        for split in ["train"] * 6 + ["val"] + ["test"] * 3:
            getattr(work, kind)(source, split, **more)
    return work
