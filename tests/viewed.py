"""A bundle with known pixels to look at, for the tests of pages and API."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fusion.bundle.write import write_bundle
from fusion.models import Bundle
from portal import viewer
from tests.bundle.factories import make_case, make_plan
from tests.factories import make_bundle

SHAPE = (40, 30, 20)  # of 1 x 1.5 x 2.25 mm: 40 x 45 x 45 mm
#: A bright box at the patient's right, front and top; nothing else is so.
BOX = (slice(30, 36), slice(22, 27), slice(14, 17))
#: Its second label: a box at the left, back and bottom.
LOW_BOX = (slice(4, 8), slice(2, 6), slice(1, 4))


def known_volume() -> tuple[np.ndarray, np.ndarray]:
    """An image in HU and its label map, in RAS order."""
    image = np.full(SHAPE, -1000, np.int16)
    image[2:38, 2:28, 1:19] = 40
    image[BOX] = 200
    label = np.zeros(SHAPE, np.uint8)
    label[BOX], label[LOW_BOX] = 1, 2
    return image, label


def make_viewed(folder: Path, dimension: str = "3D", **fields: Any) -> Bundle:
    """A published bundle of one case of known pixels (3D) and some random ones.

    Bundles of tests have equal names: what was kept of another one is forgotten.
    """
    viewer._index.cache_clear()
    viewer._scenes._kept.clear()
    work = folder / "work"
    if dimension == "3D":
        image, label = known_volume()
        known = {"shape": list(SHAPE), "unit": "hu", "annotated": ["hippocampus-anterior"]}
        make_case(work, "first", 0, "train", "3D", id="known", image=image, label=label, **known)
    for number, split in ((1, "train"), (2, "test")):
        make_case(work, "second", number, split, dimension)
    plan = make_plan(dimension, views=[])
    write_bundle(plan, work, folder / "bundle", [], [])
    paths = [path for path in (folder / "bundle").rglob("*") if path.is_file()]
    files = {path.relative_to(folder / "bundle").as_posix(): path.read_bytes() for path in paths}
    for outside in ("SHA256SUMS", "build_info.json"):
        files.pop(outside, None)
    return make_bundle(files, **fields)
