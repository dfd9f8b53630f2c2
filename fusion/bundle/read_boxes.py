"""Boxes of a bundle for detection, beside read_bundle.py; numpy alone, torch is optional.

This file stands alone and is part of every such bundle (tools/read_boxes.py). Public domain:
CC0-1.0.

    import sys; sys.path.insert(0, "my-bundle/tools")
    from read_boxes import BoxCases, boxes_of
    from read_bundle import Bundle

    bundle = Bundle("my-bundle")
    for case in bundle.cases("train"):
        found = boxes_of(bundle, case)          # corners, classes, derived; None without labels
    data = BoxCases(bundle, "train")            # items of torch; collate them as lists

Corners are where a box begins, then where it ends, in continuous voxel coordinates of the stored
image: voxel n covers n to n + 1. x0, y0, x1, y1 of a picture, x along the columns (the second axis
of its array); i0, j0, k0, i1, j1, k1 of a volume, along the axes of its array. Class v is
bundle.concepts[v]. A case without boxes was looked through and shows nothing of what is annotated.
"""

from __future__ import annotations

import csv
import io
from typing import Any, NamedTuple

import numpy as np

ROLE = "label_boxes"


class Boxes(NamedTuple):
    """`corners` float64 (N, 4 or 6), `classes` int64 (N,), `derived` bool (N,).

    A derived box was made from a mask or an outline.
    """

    corners: np.ndarray
    classes: np.ndarray
    derived: np.ndarray


def boxes_of(bundle: Any, case: dict[str, Any], *, check: bool = False) -> Boxes | None:
    """The boxes of a case; None where its labels are not in the bundle."""
    if not any(row["role"] == ROLE for row in case["files"]):
        return None
    text = bundle.read(case, ROLE, check=check).decode("utf-8")
    _, *rows = csv.reader(io.StringIO(text, newline=""))
    corners = np.array([row[1:-1] for row in rows], np.float64)
    return Boxes(
        corners.reshape(-1, 2 * len(case["shape"])),
        np.array([bundle.concepts.index(row[0]) for row in rows], np.int64),
        np.array([row[-1] == "1" for row in rows], bool),
    )


class BoxCases:
    """A map-style data set: the items of `bundle.torch()` with `boxes` and `labels` of each case.

    `boxes` float32 (N, 4 or 6), `labels` int64 (N,) as torchvision's and MONAI's detectors take
    them; cases whose labels are not in the bundle are left out.
    """

    def __init__(self, bundle: Any, split: str | None = None, fold: str | None = None) -> None:
        self.items = bundle.torch(split, fold)
        known = (boxes_of(bundle, case) for case in self.items.cases)
        self.found = [(n, boxes) for n, boxes in enumerate(known) if boxes is not None]

    def __len__(self) -> int:
        return len(self.found)

    def __getitem__(self, index: int) -> dict[str, Any]:
        import torch

        number, boxes = self.found[index]
        item: dict[str, Any] = self.items[number]
        return item | {
            "boxes": torch.from_numpy(boxes.corners.astype(np.float32)),
            "labels": torch.from_numpy(boxes.classes),
        }
