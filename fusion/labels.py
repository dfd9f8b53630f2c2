"""The label map of one case, in the plan's values and on the image's grid."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from fusion.arrays import as_pixels, mask_at
from fusion.cases import FoundCase
from fusion.errors import nearest
from fusion.imaging import labels as label_values
from fusion.imaging.boxes import filled
from fusion.imaging.errors import CaseError
from fusion.imaging.geometry import same_voxels
from fusion.imaging.harmonise import resample
from fusion.imaging.io import (
    PICTURE_SUFFIXES,
    VIDEO_SUFFIXES,
    Drawing,
    Shape,
    ShapeFile,
    label_names,
    read_array,
    read_image,
    read_shapes,
    read_structures,
    slice_names,
)
from fusion.imaging.raster import fill_pairs, runs_of, runs_of_mask
from fusion.imaging.transforms import record
from fusion.imaging.volume import Array, Picture, Volume
from fusion.plan import Plan
from fusion.source import (
    BACKGROUND,
    IGNORE,
    OTHER,
    Layer,
    Rows,
    SourceDescription,
    SpaceRows,
    parts_of,
)
from fusion.space import things_in_space
from fusion.tables import need_columns, rows_of, version_of

Image = Volume | Picture
_MOST_NAMED = 8  # values that an error lists


def label_of(
    description: SourceDescription,
    source: Mapping[str, Any],
    plan: Plan,
    root: Path,
    case: FoundCase,
    image: Image,
    row: dict[str, Any],
) -> Image:
    """The label map on the image's own grid: value v > 0 is the plan's concept v - 1.

    The value after all concepts is where nobody annotated.
    """
    value_of = values_of(description, source, plan)
    if description.layers[0].kind == "probability":
        maps = [
            _on_grid(_open(root, files[0], layer, case, image), image, files[0], row)
            for layer, files in zip(description.layers, case.layers, strict=True)
        ]
        scale = description.layers[0].scale
        found = label_values.from_probabilities([m.array for m in maps], scale)
        lut = {0: 0} | {i + 1: value_of[la.concept] for i, la in enumerate(description.layers)}
        return _like(image, label_values.remap(found, lut))
    ignore = value_of[IGNORE]
    merged: Array = np.zeros(_shape(image), np.uint8)
    parts = sorted(zip(description.layers, case.layers, strict=True), key=_priority)
    lacking = []
    for _, group in groupby(parts, key=_priority):
        level: Array = np.zeros_like(merged)
        for layer, files in group:
            arrays = [array_of_layer(layer, value_of, root, f, case, image, row) for f in files]
            if all(one is None for one in arrays):
                lacking.append(lacking_layer(layer, files, case))
            for one, file in zip(arrays, files, strict=True):
                level = _unite(level, one, file, ignore) if one is not None else level
        merged = np.where(level > 0, level, merged) if merged.any() else level
    unknown = unknown_of(description, source, lacking)
    row["annotated"] = annotated_but(unknown, source, case)
    if values := [v for v, c in enumerate(plan.concept_ids(), 1) if c in unknown]:
        merged[np.isin(merged, values)] = 0
    return _like(image, merged)


def values_of(
    description: SourceDescription, source: Mapping[str, Any], plan: Plan
) -> dict[str, int]:
    """The plan's value of each concept and each meaning of the source; 0 is not wanted.

    IGNORE has the value after all concepts.
    """
    targets = {c: i + 1 for i, c in enumerate(plan.concept_ids())}
    value_of = {c: targets.get(t, 0) if t else 0 for c, t in source["mapping"].items()}
    # The plan lets the concepts of one value have one target at most.
    return (
        value_of
        | {
            meaning: max(value_of.get(part, 0) for part in parts_of(meaning))
            for meaning in description.meanings()
        }
        | {IGNORE: len(targets) + 1}
    )


def unknown_of(
    description: SourceDescription, source: Mapping[str, Any], lacking: Sequence[Layer]
) -> set[str | None]:
    """The plan's concepts that nobody looked for where the layers `lacking` say nothing."""
    unknown = {
        source["mapping"].get(concept)
        for layer in lacking
        if layer.missing == "unknown"
        for concept in layer.concepts()
    }
    # A layer that draws a whole concept answers for its parts, too.
    return unknown - {c for la in description.layers if la not in lacking for c in la.concepts()}


def annotated_but(
    unknown: Collection[str | None], source: Mapping[str, Any], case: FoundCase
) -> list[str]:
    """The concepts of the source that somebody looked for in this case.

    Raises:
        CaseError: label_missing, when there is none.
    """
    annotated = [c for c in source["annotated"] if c not in unknown]
    if not annotated:
        raise CaseError("label_missing", f"{case.image}: nobody looked for any wanted concept")
    return annotated


def lacking_layer(layer: Layer, files: tuple[str, ...], case: FoundCase) -> Layer:
    """A layer that says nothing of this case, which must be allowed."""
    if layer.missing == "exclude":
        raise CaseError("label_missing", f"{', '.join(files) or layer.path} lists no {case.image}")
    return layer


def _priority(part: tuple[Layer, tuple[str, ...]]) -> int:
    return part[0].priority


def _shape(image: Image) -> tuple[int, ...]:
    return image.array.shape if isinstance(image, Volume) else image.array.shape[:2]


def array_of_layer(
    layer: Layer,
    value_of: Mapping[str, int],
    root: Path,
    file: str,
    case: FoundCase,
    image: Image,
    row: dict[str, Any],
) -> Array | None:
    """One file's labels on the image's grid; None where it does not speak of this case."""
    if layer.kind in {"mask", "instances"} and not value_of.get(layer.concept):
        return np.zeros(_shape(image), np.uint8)  # nobody asked for it: not read
    if isinstance(layer.rows, SpaceRows):
        return _filled_in_space(layer, layer.rows, value_of, root, file, case, image)
    if layer.kind == "shapes":
        return _drawn(layer, value_of, root, file, case, image)
    if layer.kind == "segments":
        return _segments(layer, value_of, root, file, image, row)
    raw = _open(root, file, layer, case, image)
    inside: Array
    if layer.kind == "mask":
        if isinstance(raw, Volume):
            inside = np.greater(raw.array, layer.threshold)
        else:
            inside = label_values.binarise(raw.array, layer.threshold, layer.channel) > 0
        raw = replace(raw, array=_valued(inside, value_of[layer.concept]))
    elif layer.kind == "instances":
        is_colour = isinstance(raw, Picture) and raw.channels > 1
        inside = np.greater(raw.array, 0)
        if is_colour:
            inside = np.logical_or.reduce(inside, axis=-1)
        raw = replace(raw, array=_valued(inside, value_of[layer.concept]))
    elif layer.kind == "colour_map":
        raw = replace(raw, array=_by_colour(layer, value_of, raw, file))
    else:
        raw = replace(raw, array=_by_value(layer, value_of, raw, root / file, row))
    return _on_grid(raw, image, file, row).array


def _by_value(
    layer: Layer, value_of: Mapping[str, int], raw: Image, path: Path, row: dict[str, Any]
) -> Array:
    from fusion.imaging.label_kernels import count  # compiled: not for web processes

    integers = label_values.as_integers(raw.array)
    counts = count(integers)
    seen = np.flatnonzero(counts).tolist()
    row["label_values"] = sorted({*row.get("label_values", ()), *seen})
    for value in sorted({int(v) for v in layer.ignore_values} & set(seen)):
        detail = f"{path.name}: value {value} of {counts[value]} voxels became background"
        row["findings"].append({"code": "values_ignored", "detail": detail})
    table = {0: 0} | {
        value: value_of.get(concept, 0) if concept != BACKGROUND else 0
        for value, concept in layer.table().items()
    }
    if OTHER in layer.values:
        rest = value_of.get(layer.values[OTHER], 0)
        table = dict.fromkeys(seen, rest) | table
    try:
        return label_values.remap(integers, table)
    except CaseError as error:
        names = label_names(path) if ".nii" in path.name else {}
        lost = [v for v in seen if v not in table and v in names]
        called = ", ".join(f"{v} {names[v]!r}" for v in lost[:_MOST_NAMED])
        hint = f"; the file calls them {called}" if called else ""
        raise CaseError(error.code, f"{path.name}: {error.message}{hint}") from error


def _by_colour(layer: Layer, value_of: Mapping[str, int], raw: Image, file: str) -> Array:
    """Each pixel by its colour, or by the nearest one that is close enough."""
    if isinstance(raw, Volume) or raw.array.dtype != np.uint8:
        raise CaseError("dtype_refused", f"{file}: no picture of 8 bits, colours cannot be told")
    rgb = raw.array if raw.channels > 1 else np.repeat(raw.array[..., None], 3, axis=2)
    packed = rgb[..., 0].astype(np.int32) << 16 | rgb[..., 1].astype(np.int32) << 8 | rgb[..., 2]
    seen, places, counts = np.unique(packed, return_inverse=True, return_counts=True)
    colours = layer.colours()
    known = np.array(list(colours), np.int32)
    concepts = list(colours.values())
    apart = np.stack([seen >> 16, seen >> 8 & 255, seen & 255], axis=1)
    distance = np.abs(apart[:, None] - known[None]).max(axis=2)
    nearest_one, how_far = distance.argmin(axis=1), distance.min(axis=1)
    named = {}
    for at, (index, off) in enumerate(zip(nearest_one.tolist(), how_far.tolist(), strict=True)):
        named[f"#{seen[at]:06x}"] = concepts[index] if off <= layer.tolerance else None
    sizes = dict(zip(named, counts.tolist(), strict=True))
    lookup = _resolved(layer, named, sizes, value_of, f"{file}: colours", "pixels")
    table = np.array([lookup[name] for name in named], np.uint16)
    values: Array = table[places.reshape(packed.shape)]
    return values


def _valued(inside: Array, value: int) -> Array:
    """`value` inside, 0 elsewhere, in the smallest type that holds it."""
    values: Array = inside.astype(np.min_scalar_type(value)) * value
    return values


def _drawn(
    layer: Layer,
    value_of: Mapping[str, int],
    root: Path,
    file: str,
    case: FoundCase,
    image: Image,
) -> Array | None:
    """Outlines of an annotation file, filled."""
    drawn = drawing_of(layer, value_of, root, file, case, image)
    if drawn is None:
        return None
    drawing, lookup = drawn
    size = image.array.shape[:2]
    merged: Array = np.zeros(size, np.uint8)
    for shape in drawing.shapes:
        if not (value := lookup[shape.name]):
            continue
        if not shape.is_area and not (shape.box and layer.boxes == "fill"):
            what = (
                "a box; state boxes: fill if it may stand for the thing" if shape.box else "no area"
            )
            raise CaseError("label_unmapped", f"{file}: {case.name}: {shape.name!r} is {what}")
        drawn_in = _valued(shape.mask(size), value)
        merged = _unite(merged, drawn_in, f"{file}: {case.name}", value_of[IGNORE])
    return merged


def _filled_in_space(
    layer: Layer,
    rows: SpaceRows,
    value_of: Mapping[str, int],
    root: Path,
    file: str,
    case: FoundCase,
    image: Image,
) -> Array | None:
    """The boxes of things in space, filled; they must be allowed to stand for the things."""
    things = things_in_space(rows, root, file, case, image)
    if things is None:
        return None
    lookup = value_of_words(layer, value_of, file, (one.name for one in things))
    merged: Array = np.zeros(image.array.shape, np.uint8)
    for one in things:
        if not (value := lookup[one.name]):
            continue
        if layer.boxes != "fill":
            what = "a box; state boxes: fill if it may stand for the thing"
            raise CaseError("label_unmapped", f"{file}: {case.name}: {one.name!r} is {what}")
        inside = filled([(1, one.corners)], image.array.shape) > 0
        where = f"{file}: {case.name}"
        merged = _unite(merged, _valued(inside, value), where, value_of[IGNORE])
    return merged


def drawing_of(
    layer: Layer,
    value_of: Mapping[str, int],
    root: Path,
    file: str,
    case: FoundCase,
    image: Image,
) -> tuple[Drawing, dict[str, int]] | None:
    """What an annotation file draws of a case, and the plan's value of each of its words.

    None where it does not speak of the case.
    """
    size = image.array.shape[:2]
    if isinstance(image, Volume) or isinstance(layer.rows, SpaceRows):
        raise CaseError("grid_conflict", f"{file}: no outlines of a volume can be read from it")
    if layer.rows:
        drawing = rows_drawn(root, file, layer.rows, case, size)
    else:
        drawing = shapes_of(root / file).of(case.image)
    if drawing is None:
        return None
    if drawing.size not in {None, size}:
        said = f"{file} says {drawing.size}, {case.image} is {size}"
        raise CaseError("grid_conflict", f"{said} (rows, columns)")
    return drawing, value_of_words(layer, value_of, file, (s.name for s in drawing.shapes))


def value_of_words(
    layer: Layer, value_of: Mapping[str, int], file: str, words: Iterable[str]
) -> dict[str, int]:
    """The plan's value of each class that things of a file have.

    Raises:
        CaseError: label_unmapped.
    """
    counts = Counter(words)
    named = _named(layer, counts)
    return _resolved(layer, named, counts, value_of, f"{file}: classes", "shapes")


def numbers_of(
    layer: Layer, root: Path, file: str, case: FoundCase, image: Image, row: dict[str, Any]
) -> Array:
    """The things of an instances layer on the image's grid, numbered from 1."""
    raw = _open(root, file, layer, case, image)
    if isinstance(raw, Picture) and raw.channels > 1:
        colours = raw.array.reshape(-1, raw.channels)
        _, each = np.unique(colours, axis=0, return_inverse=True)
        numbers = (each.reshape(-1) + 1) * colours.any(axis=1)
    else:
        _, each = np.unique(raw.array, return_inverse=True)
        numbers = (each.reshape(-1) + 1) * (raw.array.reshape(-1) > 0)
    raw = replace(raw, array=numbers.reshape(_shape(raw)).astype(np.int32))
    return _on_grid(raw, image, file, row).array


def _segments(
    layer: Layer,
    value_of: Mapping[str, int],
    root: Path,
    file: str,
    image: Image,
    row: dict[str, Any],
) -> Array:
    """Named structures of a segmentation object."""
    if not isinstance(image, Volume):
        raise CaseError("grid_conflict", f"{file}: structures lie in volumes, the image is 2D")
    found = read_structures(root / file, image.grid)
    counts = dict.fromkeys(found.names.values(), 1)
    lookup = _resolved(
        layer, _named(layer, counts), counts, value_of, f"{file}: names", "structures"
    )
    table = {0: 0} | {number: lookup[name] for number, name in found.names.items()}
    merged: Array = np.zeros(image.array.shape, np.uint8)
    for one in found.layers:
        values = one.with_array(label_values.remap(one.array, table))
        merged = _unite(merged, _on_grid(values, image, file, row).array, file, value_of[IGNORE])
    return merged


def _named(layer: Layer, words: Iterable[str]) -> dict[str, str | None]:
    ignored = dict.fromkeys(layer.ignore_values, BACKGROUND)
    return {word: ({**ignored, **layer.values}).get(word) for word in words}


def _resolved(
    layer: Layer,
    named: Mapping[str, str | None],
    counts: Mapping[str, int],
    value_of: Mapping[str, int],
    what: str,
    unit: str,
) -> dict[str, int]:
    """The plan's value of each word of a label file.

    Raises:
        CaseError: label_unmapped, with how often each word occurs and the nearest known one.
    """
    rest = layer.values.get(OTHER)
    found = {word: concept or rest for word, concept in named.items()}
    if lost := sorted((w for w, c in found.items() if c is None), key=lambda w: (-counts[w], w)):
        known = [word for word in (*layer.values, *layer.ignore_values) if word != OTHER]
        shown = [f"{w!r} ({counts[w]} {unit}{nearest(w, known)})" for w in lost[:_MOST_NAMED]]
        more = f" and {len(lost) - _MOST_NAMED} more" if len(lost) > _MOST_NAMED else ""
        raise CaseError("label_unmapped", f"{what} {', '.join(shown)}{more} are not in the mapping")
    return {word: value_of.get(concept or "", 0) for word, concept in found.items()}


def shapes_of(path: Path) -> ShapeFile:
    """An annotation file; one that speaks of many pictures is read once."""
    return _read_shapes(path, version_of(path))


@lru_cache(maxsize=4)
def _read_shapes(path: Path, _: tuple[int, int]) -> ShapeFile:
    return read_shapes(path)


def rows_drawn(
    root: Path, file: str, rows: Rows, case: FoundCase, size: tuple[int, int]
) -> Drawing | None:
    """What the rows of a table draw of a picture of `size`; None where it has no row.

    Raises:
        CaseError: unreadable, when a cell is not what its column should hold.
    """
    table = rows.model_copy(update={"table": [file]})
    drawn = rows.columns()
    columns = [*drawn, *filter(None, (rows.name, rows.plane))]
    need_columns(root, table, columns)
    found = rows_of(root, table, case)
    if rows.plane and case.plane >= 0:
        found = tuple(r for r in found if _is_number(r[rows.plane], dict(case.fields)["plane"]))
    if not found:
        return None
    told = [
        row
        for row in found
        if not {row[c] for c in (*drawn, *filter(None, (rows.name,)))} & set(rows.nothing)
    ]
    try:
        if rows.chords:
            by_name: dict[str, list[list[float]]] = {}
            for row in told:
                ends = [float(row[c]) for c in rows.chords]
                by_name.setdefault(row[rows.name] if rows.name else OTHER, []).append(ends)
            return Drawing(tuple(_chords(name, ends) for name, ends in by_name.items()))
        return Drawing(tuple(_of_row(rows, row, size) for row in told))
    except CaseError as error:
        raise CaseError(error.code, f"{file}: {case.name}: {error.message}") from error
    except ValueError as error:
        raise CaseError("unreadable", f"{file}: {case.name}: {error}") from error


def _is_number(cell: str, wanted: str) -> bool:
    try:
        return float(cell) == float(wanted)
    except ValueError:
        return False


def _of_row(rows: Rows, row: Mapping[str, str], size: tuple[int, int]) -> Shape:
    name = row[rows.name] if rows.name else OTHER
    if rows.runs:
        numbers = _run_numbers(row[rows.runs], rows)
        if rows.coding == "coco":
            return Shape(name, runs=tuple(numbers))
        mask = fill_pairs(
            numbers, size, first=rows.first, relative=rows.coding == "relative", down=rows.down
        )
        return Shape(name, runs=tuple(runs_of_mask(mask)))
    x0, y0, x1, y1 = (float(row[column]) for column in rows.columns())
    if not np.isfinite([x0, y0, x1, y1]).all():
        raise ValueError(f"box {x0}, {y0}, {x1}, {y1} is not finite")
    if rows.extent:
        x1, y1 = x0 + x1, y0 + y1
    return Shape(name, box=(x0, y0, x1, y1))


def _run_numbers(cell: str, rows: Rows) -> list[int]:
    if rows.coding == "coco" and not cell.replace(" ", "").replace(",", "").isdigit():
        return runs_of(cell)
    return [int(word) for word in cell.replace(",", " ").split()]


def _chords(name: str, ends: list[list[float]]) -> Shape:
    """The outline that lines across it (after the long axis) end on."""
    across = np.array(ends[1:], float).reshape(-1, 4)
    if len(across) < 2 or not np.isfinite(across).all():  # noqa: PLR2004
        raise CaseError("unreadable", f"{len(across)} lines across an outline, expected 2 or more")
    return Shape(name, ((np.concatenate([across[:, :2], across[::-1, 2:]]),),))


def _open(root: Path, file: str, layer: Layer, case: FoundCase, image: Image) -> Image:
    """One label file as it is."""
    if case.array:
        return Picture(as_pixels(mask_at(root, case.array, layer.channel)), bits=16)
    path = root / file
    if path.is_dir():
        return _stacked(path, root / case.image, image)
    if path.stat().st_size == 0:
        raise CaseError("unreadable", f"{file}: the file is empty")
    if layer.array:
        return keyed_image(path, layer.array, layer.channel)
    return read_image(
        path,
        channel=case.plane if case.plane >= 0 and path.suffix.lower() in VIDEO_SUFFIXES else None,
    )


def keyed_image(path: Path, key: str, channel: int = 0) -> Picture:
    """The array `key` of a file as a picture; of (H, W, K) that is no colour, one channel."""
    array = as_pixels(read_array(path, key))
    if array.ndim == 3 and array.shape[2] != 3:  # noqa: PLR2004
        if channel >= array.shape[2]:
            raise CaseError("unreadable", f"{path.name}[{key}]: {array.shape}, no {channel}")
        array = np.ascontiguousarray(array[..., channel])
    return Picture(array, bits=8 * array.dtype.itemsize)


def _stacked(folder: Path, series: Path, image: Image) -> Volume:
    """Pictures of a folder, one a slice of the DICOM series that is the image.

    They belong to the files of the series by their names, else in the same order of names.
    """
    if not isinstance(image, Volume) or not series.is_dir():
        raise CaseError("grid_conflict", f"{folder.name}: slices belong to a DICOM series")
    names = sorted((p.name for p in folder.iterdir() if _is_picture(p)), key=natural)
    slices = slice_names(series)
    if len(names) != len(slices):
        raise CaseError(
            "grid_conflict", f"{folder.name}: {len(names)} pictures, the series has {len(slices)}"
        )
    by_stem = {Path(name).stem: name for name in names}
    if by_stem.keys() != {Path(name).stem for name in slices}:
        by_stem = {Path(a).stem: b for a, b in zip(sorted(slices, key=natural), names, strict=True)}
    planes = []
    for name in slices:
        found = read_image(folder / by_stem[Path(name).stem])
        array = found.array if isinstance(found, Picture) else np.zeros((0, 0))
        array = array[..., 0] if array.ndim > 2 else array  # noqa: PLR2004
        if array.T.shape != image.grid.shape[:2]:
            raise CaseError(
                "grid_conflict", f"{folder.name}: slice {array.shape[::-1]}, {image.grid.shape[:2]}"
            )
        planes.append(array.T)
    return Volume(np.stack(planes, axis=-1), image.grid, image.geometry)


def _is_picture(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in PICTURE_SUFFIXES


def natural(name: str) -> list[tuple[int, str]]:
    """Sort key: numbers by value, so that 10 comes after 9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


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


def _unite(merged: Array, one: Array, file: str, ignore: int = 0) -> Array:
    """Both at once; `ignore`, the largest value, wins over a concept."""
    if not merged.any():
        return one
    clash = (merged > 0) & (one > 0) & (merged != one)
    if ignore:
        clash &= (merged != ignore) & (one != ignore)
    if clash.any():
        raise CaseError("label_collision", f"{file}: {int(clash.sum())} voxels have two concepts")
    return np.maximum(merged, one)


def _like(image: Image, array: Array) -> Image:
    kind = np.uint8 if array.max(initial=0) < 256 else np.uint16  # noqa: PLR2004
    array = array.astype(kind, copy=False)
    if isinstance(image, Volume):
        return replace(image, array=array, flags=())
    return replace(image, array=array)
