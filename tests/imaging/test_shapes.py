"""Outlines in annotation files become masks: where they lie, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from skimage.draw import polygon2mask

from fusion.imaging.errors import CaseError
from fusion.imaging.io import read_shapes
from fusion.imaging.raster import fill, fill_runs, runs_of

SIZE = (9, 12)
#: x from 2 to 7, y from 1 to 4: five columns and three rows.
SQUARE = [(2, 1), (7, 1), (7, 4), (2, 4)]
FLAT = [n for point in SQUARE for n in point]


def expected() -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[1:4, 2:7] = True
    return mask


corners = st.lists(
    st.tuples(st.floats(-3, 15, width=32), st.floats(-3, 12, width=32)), min_size=3, max_size=9
)


@given(corners)
@example([(0.0, 3.0), (1.5, 0.0), (1.5, 1.0)])  # one centre, and that on the outline: a speck
def test_a_pixel_belongs_to_an_outline_when_its_centre_does(points):
    ring = np.array(points, float)

    ours = fill([ring], SIZE)

    # The oracle counts from pixel centres, in rows and columns.
    theirs = polygon2mask(SIZE, ring[:, ::-1] - 0.5)
    centres = np.stack(np.meshgrid(*map(np.arange, SIZE), indexing="ij"), axis=-1) + 0.5
    a, b = ring, np.roll(ring, -1, axis=0)
    near = np.full(SIZE, np.inf)
    for (x0, y0), (x1, y1) in zip(a, b, strict=True):
        d = np.array([x1 - x0, y1 - y0])
        p = centres[..., ::-1] - (x0, y0)
        t = np.clip((p @ d) / max(d @ d, 1e-12), 0, 1)
        near = np.minimum(near, np.linalg.norm(p - t[..., None] * d, axis=-1))
    clear = near > 1e-4  # on the outline itself the two may differ
    if theirs[clear].any():
        np.testing.assert_array_equal(ours[clear], theirs[clear])


def test_a_hole_is_left_open_and_a_speck_is_not_lost():
    hole = np.array([(3, 2), (4, 2), (4, 3), (3, 3)], float)

    mask = fill([np.array(SQUARE, float), hole], SIZE)
    speck = fill([np.array([(5.1, 6.1), (5.2, 6.1), (5.2, 6.2)])], SIZE)

    assert not mask[2, 3]
    assert mask.sum() == 14
    assert np.argwhere(speck).tolist() == [[6, 5]]


def encoded(counts: list[int]) -> str:
    """COCO's compression, written from its description."""
    out = []
    for i, count in enumerate(counts):
        x, more = count - (counts[i - 2] if i > 2 else 0), True
        while more:
            part = x & 0x1F
            x >>= 5
            more = x != -1 if part & 0x10 else x != 0
            out.append(chr((part | 0x20 if more else part) + 48))
    return "".join(out)


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=12))
def test_compressed_run_lengths_come_back(counts):
    assert runs_of(encoded(counts)) == counts


def test_runs_go_down_the_columns_and_must_cover_the_picture():
    flat = expected().T.ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *edges, flat.size]).tolist()

    np.testing.assert_array_equal(fill_runs(counts, SIZE), expected())
    with pytest.raises(CaseError, match="cover"):
        fill_runs(counts[:-1], SIZE)
    with pytest.raises(CaseError):
        runs_of("P")


def files():
    """The same square, as each tool writes it: name, content, whether it is an outline."""
    coco = {
        "images": [{"id": 1, "file_name": "train/a.jpg", "height": 9, "width": 12}],
        "categories": [{"id": 5, "name": "lesion"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 5, "segmentation": [FLAT], "bbox": [2, 1, 5, 3]}
        ],
    }
    boxes = json.loads(json.dumps(coco))
    boxes["annotations"][0]["segmentation"] = []
    labelme = {
        "imageHeight": 9,
        "imageWidth": 12,
        "shapes": [{"label": "lesion", "points": SQUARE, "shape_type": "polygon"}],
    }
    rectangle = {
        "shapes": [{"label": "lesion", "points": [(2, 1), (7, 4)], "shape_type": "rectangle"}]
    }
    super_annotate = {
        "metadata": {"height": 9, "width": 12},
        "instances": [{"type": "polygon", "className": "lesion", "points": FLAT}],
    }
    via = {
        "a.jpg123": {
            "filename": "a.jpg",
            "regions": [
                {
                    "shape_attributes": {
                        "name": "polygon",
                        "all_points_x": [x for x, _ in SQUARE],
                        "all_points_y": [y for _, y in SQUARE],
                    },
                    "region_attributes": {"kind": "lesion"},
                }
            ],
        }
    }
    geojson = {
        "type": "FeatureCollection",
        "features": [
            {
                "geometry": {"type": "Polygon", "coordinates": [[*SQUARE, SQUARE[0]]]},
                "properties": {"classification": {"name": "lesion"}},
            }
        ],
    }
    voc = (
        "<annotation><size><width>12</width><height>9</height></size><object><name>lesion</name>"
        "<bndbox><xmin>3</xmin><ymin>2</ymin><xmax>7</xmax><ymax>4</ymax></bndbox></object>"
        "</annotation>"
    )
    aperio = (
        '<Annotations><Annotation Name="lesion"><Regions><Region><Vertices>'
        + "".join(f'<Vertex X="{x}" Y="{y}"/>' for x, y in SQUARE)
        + "</Vertices></Region></Regions></Annotation></Annotations>"
    )
    yolo = f"lesion {4.5 / 12} {2.5 / 9} {5 / 12} {3 / 9}\n"
    outline = "lesion " + " ".join(f"{x / 12} {y / 9}" for x, y in SQUARE)
    return {
        "coco.json": (coco, True),
        "boxes.json": (boxes, False),
        "labelme.json": (labelme, True),
        "rectangle.json": (rectangle, False),
        "superannotate.json": (super_annotate, True),
        "via.json": (via, True),
        "q.geojson": (geojson, True),
        "voc.xml": (voc, False),
        "aperio.xml": (aperio, True),
        "yolo.txt": (yolo, False),
        "outline.txt": (outline, True),
    }


@pytest.mark.parametrize("name", files())
def test_each_tool_s_file_gives_the_same_square(tmp_path, name):
    content, is_area = files()[name]
    text = content if isinstance(content, str) else json.dumps(content)
    (tmp_path / name).write_text(text)

    drawing = read_shapes(tmp_path / name).of("images/a.jpg")

    assert [shape.name for shape in drawing.shapes] == ["lesion"]
    assert drawing.shapes[0].is_area == is_area
    np.testing.assert_array_equal(drawing.shapes[0].mask(SIZE), expected())
    assert drawing.size in {None, SIZE}


def test_a_picture_is_found_by_its_folder_when_names_repeat(tmp_path):
    data = files()["coco.json"][0]
    data["images"] = [
        {"id": n, "file_name": f"{part}/a.jpg", "height": 9, "width": 12}
        for n, part in enumerate(("train", "test"), 1)
    ]
    (tmp_path / "c.json").write_text(json.dumps(data))
    shapes = read_shapes(tmp_path / "c.json")

    assert len(shapes.of("images/train/a.jpg").shapes) == 1
    assert shapes.of("images/test/a.jpg").shapes == ()
    assert shapes.of("images/test/b.jpg") is None
    with pytest.raises(CaseError, match=r"train/a\.jpg or test/a\.jpg") as caught:
        shapes.of("elsewhere/a.png")
    assert caught.value.code == "label_ambiguous"


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"a": 1}', '{"images": [1], "annotations": []}', "[[[", "{" * 9999]
)
def test_what_is_no_annotation_file_is_refused(tmp_path, content):
    (tmp_path / "a.json").write_text(content)

    with pytest.raises(CaseError) as caught:
        read_shapes(tmp_path / "a.json")
    assert caught.value.code == "unreadable"


@pytest.mark.parametrize("count", [{"a": 1}, "9", 1.5, None])
def test_run_lengths_that_are_no_whole_numbers_are_refused(tmp_path, count):
    area = {"counts": [1, count]}
    content = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": [{"image_id": 1, "category_id": 1, "segmentation": area}],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))

    with pytest.raises(CaseError, match="no annotation file: TypeError") as caught:
        read_shapes(tmp_path / "a.json")
    assert caught.value.code == "unreadable"


def test_xml_with_entities_is_refused(tmp_path):
    bomb = '<!DOCTYPE a [<!ENTITY b "bb">]><annotation>&b;</annotation>'
    (tmp_path / "a.xml").write_text(bomb)

    with pytest.raises(CaseError) as caught:
        read_shapes(tmp_path / "a.xml")
    assert caught.value.code == "unreadable"
