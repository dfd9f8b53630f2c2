"""One slice of a tested case as arrays to be drawn: image, reference, prediction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fusion.baseline.grid import SOLID, Canvas, Stack
from fusion.baseline.page import PICTURES
from fusion.baseline.quality import MOST_WORST, failure
from fusion.baseline.results import CaseResult

COLOURS = 3
Masks = Mapping[str, npt.NDArray[np.bool_]]


def worst_of(cases: Iterable[CaseResult]) -> list[str]:
    """Ids of the test cases that a network fails most."""
    ranked = sorted(
        (found[0], row.case) for row in cases if row.split == "test" and (found := failure(row))
    )
    return [case for _, case in ranked[:MOST_WORST]]


def write_picture(folder: Path, case: str, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """`folder`/pictures/<case>.npz."""
    path = folder / PICTURES / f"{case}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def slice_of(
    stack: Stack,
    canvas: Canvas,
    concepts: Sequence[str],
    pair: tuple[Masks, Masks] | None,
) -> dict[str, npt.NDArray[Any]]:
    """The fullest slice of a case, as it is looked at; label maps where there are masks.

    Args:
        stack: the case on the canvas.
        canvas: tells a volume, whole or cut, from a picture.
        concepts: value v of a label map is concepts[v - 1].
        pair: predicted and true masks (N, ...) by concept.
    """
    images = stack.unpadded(stack.images).astype(np.float32)
    maps = {}
    if pair:
        for name, masks in zip(("prediction", "reference"), pair, strict=True):
            maps[name] = np.zeros(images.shape[:1] + images.shape[2:], np.uint8)
            for concept, mask in masks.items():
                maps[name][mask] = concepts.index(concept) + 1
    if canvas.dims == SOLID:  # (1, C, I, J, K): the axial planes
        images = np.moveaxis(images[0], -1, 0)
        maps = {name: np.moveaxis(one[0], -1, 0) for name, one in maps.items()}
    filled = np.sum([(one > 0).reshape(len(one), -1).sum(axis=1) for one in maps.values()], axis=0)
    place = int(np.argmax(filled)) if maps and np.any(filled) else len(images) // 2
    image = images[place]
    shown = image[:COLOURS] if len(image) == COLOURS else image[:1]
    grey = len(shown) == 1
    arrays = {"image": _bytes(shown)[0] if grey else np.moveaxis(_bytes(shown), 0, -1)}
    arrays |= {name: one[place] for name, one in maps.items()}
    if canvas.dims == SOLID or canvas.axis is not None:  # front on top, patient left on the right
        arrays = {name: one[::-1, ::-1].swapaxes(0, 1) for name, one in arrays.items()}
    return {name: np.ascontiguousarray(one) for name, one in arrays.items()}


def _bytes(image: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    low, high = np.quantile(image, [0.005, 0.995])
    span = float(high - low) or 1.0
    scaled: npt.NDArray[np.uint8] = np.rint(np.clip((image - low) / span, 0, 1) * 255).astype(
        np.uint8
    )
    return scaled
