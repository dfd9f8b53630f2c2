"""The boxes of one case, in the plan's concepts and on the image's own grid."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fusion.bundle.boxes import Box
from fusion.cases import FoundCase
from fusion.imaging.boxes import (
    DECIMALS,
    Corners,
    around,
    around_parts,
    as_boxes,
    clipped,
    moved,
    sizes_of,
    volumes,
)
from fusion.imaging.errors import CaseError
from fusion.imaging.volume import Array, Volume
from fusion.labels import (
    Image,
    annotated_but,
    array_of_layer,
    drawing_of,
    label_of,
    lacking_layer,
    numbers_of,
    unknown_of,
    value_of_words,
    values_of,
)
from fusion.plan import Plan
from fusion.source import Layer, SourceDescription, SpaceRows
from fusion.space import things_in_space


@dataclass(frozen=True)
class _Found:
    """A box of the plan's value, before it is checked."""

    value: int
    corners: Corners
    derived: bool


def boxes_of(
    description: SourceDescription,
    source: Mapping[str, Any],
    plan: Plan,
    root: Path,
    case: FoundCase,
    image: Image,
    row: dict[str, Any],
    flat: Callable[[Array], Array] | None = None,
) -> list[Box]:
    """Boxes of the concepts that the plan wants, sorted; those on the image only.

    Where the source's `uses` is "bounds", masks and outlines count by the box around each of their
    connected parts; instances by the box around each number.

    Args:
        flat: cuts the plane that the case is out of an array on the grid of `image`.

    Raises:
        CaseError: label_missing, label_unmapped, grid_conflict, unreadable.
    """
    cut = flat or (lambda array: array)
    shape = cut(np.empty(image.array.shape, np.bool_)).shape
    if description.layers[0].kind == "probability":
        merged = label_of(description, source, plan, root, case, image, row)
        found = _around_values(cut(merged.array))
    else:
        found = []
        value_of, lacking = values_of(description, source, plan), list[Layer]()
        is_derived = source["uses"] == "bounds"
        for layer, files in zip(description.layers, case.layers, strict=True):
            each = [
                _of_file(layer, value_of, root, file, case, image, row, cut, is_derived)
                for file in files
            ]
            if all(one is None for one in each):
                lacking.append(lacking_layer(layer, files, case))
            found += [box for boxes in each for box in boxes or ()]
        unknown = unknown_of(description, source, lacking)
        row["annotated"] = annotated_but(unknown, source, case)
    named = dict(enumerate(plan.concept_ids(), 1))
    if unseen := sum(one.value == len(named) + 1 for one in found):
        detail = f"{case.name}: {unseen} regions are not annotated, which boxes cannot say"
        row["findings"].append({"code": "ignore_lost", "detail": detail})
    found = [one for one in found if named.get(one.value) in row["annotated"]]
    is_volume = isinstance(image, Volume) and flat is None
    sizes = sizes_of(shape, is_volume=is_volume)
    kept = _on_image(found, sizes, case, row)
    order = sorted(kept, key=lambda one: (one.value, one.corners, one.derived))
    once = list(dict.fromkeys(order))
    if len(once) < len(order):
        detail = f"{case.name}: {len(order) - len(once)} boxes are equal to another one"
        row["findings"].append({"code": "box_duplicate", "detail": detail})
    return [Box(named[one.value], one.corners, one.derived) for one in once]


def on_stored_grid(
    boxes: Sequence[Box], steps: Iterable[Mapping[str, Any]], sizes: Sequence[int]
) -> list[Box]:
    """The boxes where the image's own steps took them, without what has no voxel there.

    A resampled grid ends up to half a voxel before the image's own.
    """
    places, _ = clipped(moved(as_boxes((b.corners for b in boxes), len(sizes)), steps), sizes)
    return [
        replace(box, corners=tuple(place))
        for box, place, held in zip(boxes, places.tolist(), volumes(places), strict=True)
        if held
    ]


def _of_file(
    layer: Layer,
    value_of: Mapping[str, int],
    root: Path,
    file: str,
    case: FoundCase,
    image: Image,
    row: dict[str, Any],
    cut: Callable[[Array], Array],
    is_derived: bool,
) -> list[_Found] | None:
    """The boxes of one label file; None where it does not speak of this case."""
    if isinstance(layer.rows, SpaceRows):
        return _in_space(layer, layer.rows, value_of, root, file, case, image)
    if layer.kind == "shapes":
        return _drawn(layer, value_of, root, file, case, image, is_derived)
    if layer.kind == "instances":
        value = value_of.get(layer.concept, 0)
        numbers = cut(numbers_of(layer, root, file, case, image, row)) if value else None
        return [] if numbers is None else [_Found(value, c, True) for _, c in around(numbers)]
    array = array_of_layer(layer, value_of, root, file, case, image, row)
    return None if array is None else _around_values(cut(array))


def _around_values(label: Array) -> list[_Found]:
    return [
        _Found(int(value), corners, derived=True)
        for value in np.unique(label)
        if value
        for corners in around_parts(label == value)
    ]


def _drawn(
    layer: Layer,
    value_of: Mapping[str, int],
    root: Path,
    file: str,
    case: FoundCase,
    image: Image,
    from_outlines: bool,
) -> list[_Found] | None:
    drawn = drawing_of(layer, value_of, root, file, case, image)
    if drawn is None:
        return None
    drawing, lookup = drawn
    size = (image.array.shape[0], image.array.shape[1])
    found = []
    for shape in drawing.shapes:
        if not (value := lookup[shape.name]):
            continue
        corners = shape.bounds(size)
        if corners is None or (shape.box is None and not from_outlines):
            what = "no area" if corners is None else "an outline; convert: box makes boxes of them"
            raise CaseError("label_unmapped", f"{file}: {case.name}: {shape.name!r} is {what}")
        places = tuple(round(float(c), DECIMALS) for c in corners)
        if not np.isfinite(places).all():
            raise CaseError("unreadable", f"{file}: {case.name}: box {places} is not finite")
        found.append(_Found(value, places, shape.box is None))
    return found


def _in_space(
    layer: Layer,
    rows: SpaceRows,
    value_of: Mapping[str, int],
    root: Path,
    file: str,
    case: FoundCase,
    image: Image,
) -> list[_Found] | None:
    things = things_in_space(rows, root, file, case, image)
    if things is None:
        return None
    lookup = value_of_words(layer, value_of, file, (one.name for one in things))
    return [
        _Found(value, one.corners, derived=not one.is_exact)
        for one in things
        if (value := lookup[one.name])
    ]


def _on_image(
    found: Sequence[_Found], sizes: Sequence[int], case: FoundCase, row: dict[str, Any]
) -> list[_Found]:
    """The boxes with what of them lies on the image.

    Raises:
        CaseError: grid_conflict, when a box lies beside the image: it was drawn on another grid.
    """
    axes = len(sizes)
    whole = [one for one in found if all(a < b for a, b in _ends(one, axes))]
    inside, beyond = clipped(as_boxes((one.corners for one in whole), axes), sizes)
    for one, held in zip(whole, volumes(inside), strict=True):
        if not held:
            raise CaseError(
                "grid_conflict",
                f"{case.name}: box {list(one.corners)} lies beside the image, whose size is "
                f"{tuple(sizes)}",
            )
    told = {
        "box_empty": (len(found) - len(whole), "have no extent"),
        "box_clipped": (
            int((beyond > 0).sum()),
            f"reach beyond the image, by up to {beyond.max(initial=0):.6g} voxels",
        ),
    }
    for code, (number, what) in told.items():
        if number:
            detail = f"{case.name}: {number} of {len(found)} boxes {what}"
            row["findings"].append({"code": code, "detail": detail})
    return [
        replace(one, corners=tuple(part)) for one, part in zip(whole, inside.tolist(), strict=True)
    ]


def _ends(box: _Found, axes: int) -> Iterable[tuple[float, float]]:
    return zip(box.corners[:axes], box.corners[axes:], strict=True)
