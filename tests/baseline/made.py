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
from fusion.bundle.boxes import Box, encode_boxes

QUICK = Tier(steps=16, shared_steps=32, fewest_steps=8, validations=2)
LEARNING = Tier(steps=100, shared_steps=200, fewest_steps=60)


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

    def boxed(self, source: str, split: Any, **more: Any) -> str:
        """One grey picture of 60 x 48 with up to three discs and a box around each.

        Discs of value 1 are bright, those of value 2 dark; `concepts` names the values.
        """
        concepts = more.pop("concepts", ["disc"])
        image, boxes = discs(len(self.cases), (60, 48), len(concepts))
        folder, row = self._case(source, split, "png", image.shape, **more)
        Image.fromarray(image).save(folder / "image.png")
        named = [Box(concepts[value - 1], corners) for value, corners in boxes]
        said = [box for box in named if box.concept in row["annotated"]]
        (folder / "label_boxes.csv").write_bytes(encode_boxes(said, is_volume=False))
        self._write(folder, row, has_label=False)
        row["files"].append({"role": "label_boxes", "path": "label_boxes.csv"})
        (folder / "case.json").write_text(json.dumps(row))
        return row["id"]

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


def discs(
    seed: int, shape: tuple[int, int], values: int = 1
) -> tuple[np.ndarray, list[tuple[int, tuple[float, ...]]]]:
    """Grey picture uint8 with none to three discs that lie apart; value and x0, y0, x1, y1."""
    rng = np.random.default_rng([seed, 5])
    rows, columns = np.indices(shape)
    image, found = rng.integers(80, 140, shape), []
    taken = np.zeros(shape, bool)
    for _ in range(rng.integers(0, 4)):
        radius = rng.uniform(4, 8)
        centre = [rng.uniform(radius + 1, size - radius - 1) for size in shape]
        far = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2
        if taken[far <= (radius + 3) ** 2].any():
            continue
        label, value = far <= radius**2, int(rng.integers(1, values + 1))
        image[label] += 100 if value == 1 else -75
        taken |= label
        at, along = np.flatnonzero(label.any(axis=1)), np.flatnonzero(label.any(axis=0))
        corners = along[0], at[0], along[-1] + 1, at[-1] + 1
        found.append((value, tuple(float(one) for one in corners)))
    return image.astype(np.uint8), found


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
