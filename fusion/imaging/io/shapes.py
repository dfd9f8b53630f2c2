"""Outlines, boxes and run lengths in annotation files; the kind is told by the content.

COCO, LabelMe, SuperAnnotate, VGG Image Annotator, GeoJSON (.json, .geojson), Pascal VOC and Aperio
ImageScope (.xml), YOLO (.txt).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from operator import index
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from defusedxml import ElementTree

from fusion.imaging.errors import CaseError
from fusion.imaging.io.limits import LIMITS, Limits
from fusion.imaging.raster import Mask, Ring, fill, fill_box, fill_runs, runs_of

MAX_BYTES = 1 << 30
_CIRCLE = 72  # corners
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Shape:
    """One annotated thing.

    `parts` are united; each is an outline and its holes. A point or a line has none. `is_share`:
    coordinates are shares of width and height. `runs` hold for a picture of `size` (rows, columns).
    """

    name: str
    parts: tuple[tuple[Ring, ...], ...] = ()
    box: Box | None = None
    runs: tuple[int, ...] = ()
    is_share: bool = False

    @property
    def is_area(self) -> bool:
        """An outline; a box alone is none."""
        return bool(self.parts or self.runs)

    def bounds(self, size: tuple[int, int]) -> Box | None:
        """Its box, else the one around its outline; None where it has no area."""
        scale = (size[1], size[0]) if self.is_share else (1, 1)
        if self.box is not None:
            x0, y0, x1, y1 = self.box
            return x0 * scale[0], y0 * scale[1], x1 * scale[0], y1 * scale[1]
        if self.parts:
            points = np.concatenate([rings[0] for rings in self.parts]) * scale
            return (*points.min(axis=0).tolist(), *points.max(axis=0).tolist())
        rows, columns = np.nonzero(self.mask(size))
        if not rows.size:
            return None
        return (float(columns.min()), float(rows.min()),
                float(columns.max() + 1), float(rows.max() + 1))  # fmt: skip

    def mask(self, size: tuple[int, int]) -> Mask:
        """Pixels of a picture of `size` (rows, columns): of the outline, else of the box."""
        scale = np.array([size[1], size[0]] if self.is_share else [1, 1], float)
        if self.runs:
            return fill_runs(self.runs, size)
        if self.parts:
            out: Mask = np.zeros(size, bool)
            for rings in self.parts:
                out |= fill([ring * scale for ring in rings], size)
            return out
        if self.box is not None:
            x0, y0, x1, y1 = self.box
            return fill_box((x0 * scale[0], y0 * scale[1], x1 * scale[0], y1 * scale[1]), size)
        return np.zeros(size, bool)


@dataclass(frozen=True)
class Drawing:
    """The shapes of one picture; `size` (rows, columns) where the file states it."""

    shapes: tuple[Shape, ...]
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class ShapeFile:
    """Drawings by the name of their picture; "" in a file that speaks of one picture only."""

    drawings: Mapping[str, Drawing]
    by_end: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def of(self, image: str) -> Drawing | None:
        """The drawing of a picture, found by its path, its name or its name without suffix.

        Raises:
            CaseError: label_ambiguous, when two pictures of the file have this name.
        """
        if "" in self.drawings:
            return self.drawings[""]
        path = PurePosixPath(image)
        longest = ["/".join(path.parts[n:]) for n in range(len(path.parts))]
        for wanted in (*longest, path.stem):
            found = self.by_end.get(wanted, ())
            if len(found) > 1:
                raise CaseError("label_ambiguous", f"{image}: may be {' or '.join(found[:3])}")
            if found:
                return self.drawings[found[0]]
        return None


def read_shapes(path: Path, limits: Limits = LIMITS) -> ShapeFile:
    """Every shape of an annotation file.

    Raises:
        CaseError: unreadable or size_limit.
    """
    limits.check_file(path)
    if (size := path.stat().st_size) > MAX_BYTES:
        raise CaseError("size_limit", f"{path.name}: {size} bytes, limit {MAX_BYTES}")
    suffix = path.suffix.lower()
    try:
        if suffix == ".txt":
            drawings = {"": Drawing(tuple(_yolo(path.read_text("utf-8-sig"))))}
        elif suffix == ".xml":
            drawings = {"": _xml(ElementTree.fromstring(path.read_bytes()))}
        else:
            drawings = _json(json.loads(path.read_text("utf-8-sig")))
    except CaseError as error:
        raise CaseError(error.code, f"{path.name}: {error.message}") from error
    except Exception as error:
        # Strangers' annotation files: a key that is not there, text where a number should be.
        what = f"{type(error).__name__}: {error}"
        raise CaseError("unreadable", f"{path.name}: no annotation file: {what}") from error
    by_end: dict[str, list[str]] = {}
    for name in drawings:
        place = PurePosixPath(name)
        ends = {"/".join(place.parts[n:]) for n in range(len(place.parts))} | {place.stem}
        for end in ends:
            by_end.setdefault(end, []).append(name)
    return ShapeFile(drawings, {end: tuple(names) for end, names in by_end.items()})


def _json(data: Any) -> dict[str, Drawing]:
    if isinstance(data, list) and data and "geometry" in data[0]:
        data = {"features": data}
    if not isinstance(data, dict):
        raise CaseError("unreadable", f"{type(data).__name__}, expected an annotation file")
    if "annotations" in data and "images" in data:
        return _coco(data)
    if "features" in data:
        return {"": Drawing(tuple(_geojson(data["features"])))}
    if "shapes" in data:
        size = _size(data.get("imageHeight"), data.get("imageWidth"))
        return {"": Drawing(tuple(map(_labelme, data["shapes"])), size)}
    if "instances" in data:
        meta = data.get("metadata") or {}
        size = _size(meta.get("height"), meta.get("width"))
        return {"": Drawing(tuple(map(_superannotate, data["instances"])), size)}
    files = data.get("_via_img_metadata", data)
    if files and all(isinstance(one, dict) and "regions" in one for one in files.values()):
        return {one["filename"]: Drawing(tuple(_via(one["regions"]))) for one in files.values()}
    raise CaseError("unreadable", f"keys {sorted(data)[:6]} are of no known annotation file")


def _size(rows: Any, columns: Any) -> tuple[int, int] | None:
    return (int(rows), int(columns)) if rows and columns else None


def _ring(points: Any) -> Ring:
    return np.asarray(points, float).reshape(-1, 2)


def _coco(data: Mapping[str, Any]) -> dict[str, Drawing]:
    names = {row["id"]: str(row["name"]) for row in data.get("categories", ())}
    by_image: dict[Any, list[Shape]] = {row["id"]: [] for row in data["images"]}
    for row in data["annotations"]:
        if row["image_id"] not in by_image:
            raise CaseError("unreadable", f"annotation {row.get('id')} is of no listed image")
        by_image[row["image_id"]].append(_coco_shape(row, names[row["category_id"]]))
    out: dict[str, Drawing] = {}
    for row in data["images"]:
        if row["file_name"] in out:
            raise CaseError("label_ambiguous", f"image {row['file_name']} is listed twice")
        size = _size(row.get("height"), row.get("width"))
        out[row["file_name"]] = Drawing(tuple(by_image[row["id"]]), size)
    return out


def _coco_shape(row: Mapping[str, Any], name: str) -> Shape:
    area, box = row.get("segmentation"), row.get("bbox")
    if box:
        x, y, width, height = map(float, box)
        box = (x, y, x + width, y + height)
    if isinstance(area, dict):
        counts = area["counts"]
        runs = runs_of(counts) if isinstance(counts, str) else map(index, counts)
        return Shape(name, box=box, runs=tuple(runs))
    parts = tuple((_ring(points),) for points in area or () if len(points) >= 6)  # noqa: PLR2004
    return Shape(name, parts, box or None)


def _labelme(row: Mapping[str, Any]) -> Shape:
    points, kind = _ring(row["points"]), row.get("shape_type") or "polygon"
    name = str(row["label"])
    if kind == "polygon":
        return Shape(name, ((points,),))
    if kind == "rectangle":
        return Shape(name, box=(*points.min(axis=0), *points.max(axis=0)))
    if kind == "circle":
        return Shape(name, ((_circle(*points[0], *[np.hypot(*(points[1] - points[0]))] * 2),),))
    return Shape(name)


def _circle(x: float, y: float, rx: float, ry: float) -> Ring:
    angle = np.linspace(0, 2 * np.pi, _CIRCLE, endpoint=False)
    return np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], axis=1)


def _superannotate(row: Mapping[str, Any]) -> Shape:
    name, kind = str(row.get("className") or row.get("classId")), row["type"]
    if kind == "polygon":
        holes = [_ring(points) for points in row.get("exclude") or ()]
        return Shape(name, ((_ring(row["points"]), *holes),))
    if kind == "bbox":
        box = row["points"]
        return Shape(name, box=(box["x1"], box["y1"], box["x2"], box["y2"]))
    if kind == "ellipse":
        return Shape(name, ((_circle(row["cx"], row["cy"], row["rx"], row["ry"]),),))
    return Shape(name)


def _via(regions: Any) -> Iterator[Shape]:
    for row in regions.values() if isinstance(regions, dict) else regions:
        shape, said = row["shape_attributes"], row.get("region_attributes") or {}
        name = next((str(v) for v in said.values() if v), "")
        if shape["name"] in {"polygon", "polyline"}:
            points = np.stack([shape["all_points_x"], shape["all_points_y"]], axis=1)
            yield Shape(name, ((_ring(points),),))
        elif shape["name"] == "rect":
            x, y = shape["x"], shape["y"]
            yield Shape(name, box=(x, y, x + shape["width"], y + shape["height"]))
        elif shape["name"] in {"circle", "ellipse"}:
            rx, ry = (shape.get(r, shape.get("r")) for r in ("rx", "ry"))
            yield Shape(name, ((_circle(shape["cx"], shape["cy"], rx, ry),),))
        else:
            yield Shape(name)


def _geojson(features: Iterable[Mapping[str, Any]]) -> Iterator[Shape]:
    for row in features:
        said = row.get("properties") or {}
        group = said.get("classification")
        name = group.get("name") if isinstance(group, dict) else group
        name = str(name or said.get("name") or said.get("label") or "")
        kind, places = row["geometry"]["type"], row["geometry"]["coordinates"]
        many = {"Polygon": [places], "MultiPolygon": places}.get(kind, [])
        yield Shape(name, tuple(tuple(_ring(ring) for ring in rings) for rings in many))


def _xml(root: Any) -> Drawing:
    if root.tag == "Annotations":
        return Drawing(tuple(_aperio(root)))
    if root.tag != "annotation":
        raise CaseError("unreadable", f"XML of {root.tag}, expected Pascal VOC or ImageScope")
    size = root.find("size")
    shape = _size(size.findtext("height"), size.findtext("width")) if size is not None else None
    return Drawing(tuple(map(_voc, root.iter("object"))), shape)


def _voc(node: Any) -> Shape:
    """Boxes of Pascal VOC count pixels from 1 and include both ends."""
    box = node.find("bndbox")
    x0, y0, x1, y1 = (float(box.findtext(key)) for key in ("xmin", "ymin", "xmax", "ymax"))
    return Shape(str(node.findtext("name")).strip(), box=(x0 - 1, y0 - 1, x1, y1))


def _aperio(root: Any) -> Iterator[Shape]:
    for layer in root.iter("Annotation"):
        name = layer.get("Name") or next(
            (one.get("Name") for one in layer.iter("Attribute") if one.get("Name")), ""
        )
        for region in layer.iter("Region"):
            points = [(float(v.get("X")), float(v.get("Y"))) for v in region.iter("Vertex")]
            own = region.get("Text") or name or str(layer.get("Id") or "")
            yield Shape(own, ((_ring(points),),) if len(points) > 2 else ())  # noqa: PLR2004


def _yolo(text: str) -> Iterator[Shape]:
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words:
            continue
        values = [float(word) for word in words[1:]]
        if len(values) in {4, 5}:
            x, y, width, height = values[:4]
            box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
            yield Shape(words[0], box=box, is_share=True)
        elif len(values) >= 6 and len(values) % 2 == 0:  # noqa: PLR2004
            yield Shape(words[0], ((_ring(values),),), is_share=True)
        else:
            raise CaseError(
                "unreadable", f"line {number} has {len(values)} numbers after the class"
            )
