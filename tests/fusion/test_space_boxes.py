"""Things that a table states in mm of the world come to lie on the voxels of their scan."""

from __future__ import annotations

import json

import numpy as np
import pytest
import SimpleITK as sitk

from fusion.bundle import read_boxes
from fusion.bundle.read_bundle import Bundle
from fusion.bundle.verify import verify_bundle
from fusion.source import Layer
from tests.fusion.made import fuse, member, recipe

SPACING, ORIGIN = (0.8, 0.8, 2.0), (-20.0, -30.0, 50.0)  # x, y, z of ITK: LPS
SIZE = (30, 28, 16)
#: seriesuid -> middles (x, y, z in mm, LPS) and diameters; the last scan shows nothing.
NODULES = {
    "1.2.3": [(-8.0, -20.0, 66.0, 6.0), (-14.0, -14.0, 74.0, 4.4)],
    "1.2.4": [(-5.2, -22.4, 60.0, 8.0)],
    "1.2.5": [],
}
FLIPPED = "1.2.4"  # this scan's rows run the other way


def body(uid: str) -> np.ndarray:
    """(z, y, x) in HU: noise, and 800 in each nodule."""
    rng = np.random.default_rng(len(NODULES[uid]))
    array = rng.normal(-900, 20, SIZE[::-1]).clip(-1024)
    z, y, x = np.meshgrid(
        *[ORIGIN[n] + SPACING[n] * np.arange(SIZE[n]) for n in (2, 1, 0)], indexing="ij"
    )
    for cx, cy, cz, diameter in NODULES[uid]:
        array[(x - cx) ** 2 + (y - cy) ** 2 + (z - cz) ** 2 <= (diameter / 2) ** 2] = 800
    return np.round(array).astype(np.int16)


@pytest.fixture
def luna(tmp_path):
    rows = ["seriesuid,coordX,coordY,coordZ,diameter_mm"]
    for n, (uid, nodules) in enumerate(NODULES.items()):
        array, direction, origin = body(uid), np.eye(3), np.array(ORIGIN)
        if uid == FLIPPED:
            array, direction = array[:, ::-1], np.diag([1.0, -1.0, 1.0])
            origin[1] += SPACING[1] * (SIZE[1] - 1)
        image = sitk.GetImageFromArray(np.ascontiguousarray(array))
        image.SetSpacing(SPACING)
        image.SetOrigin(origin.tolist())
        image.SetDirection(direction.ravel().tolist())
        folder = tmp_path / "luna" / f"subset{n}"
        folder.mkdir(parents=True)
        sitk.WriteImage(image, str(folder / f"{uid}.mhd"))
        rows += [",".join([uid, *map(str, one)]) for one in nodules]
    (tmp_path / "luna" / "annotations.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def described(**rows) -> dict:
    how = {"key": "seriesuid", "centre": ["coordX", "coordY", "coordZ"], "space": "LPS"}
    layer = {
        "path": "annotations.csv",
        "kind": "shapes",
        "rows": how | (rows or {"diameter": "diameter_mm"}),
        "values": {"*": "lung_nodule"},
        "missing": "absent",
    }
    cases = {"image": "subset{subset}/{name}.mhd", "subject": "{name}"}
    return member("luna", modality="CT", family="CT", cases=cases, layers=[layer])


def detection(source: dict, **changes) -> dict:
    wanted = {"task": "detection", "concepts": ["lung_nodule"]}
    return recipe(source, views=["monai", "nnunet", "bids", "huggingface"], **(wanted | changes))


@pytest.mark.parametrize("spacing", [None, [1, 1, 1]])
def test_a_nodule_of_a_table_lies_where_the_scan_shows_it_on_every_grid(luna, spacing):
    target = {"profile": "grid", "spacing_mm": spacing} if spacing else {"profile": "canonical"}

    built = fuse(detection(described(), target=target), luna)

    assert verify_bundle(built.build.out).ok
    with Bundle(built.build.out) as bundle:
        for case in bundle.cases():
            image, affine = bundle.image(case)
            boxes = read_boxes.boxes_of(bundle, case)
            assert len(boxes.corners) == len(NODULES[case["name"]])
            assert boxes.derived.all()
            centres = sorted(
                (affine @ [*(low + high - 1) / 2, 1])[:3].tolist()
                for low, high in zip(boxes.corners[:, :3], boxes.corners[:, 3:], strict=True)
            )
            middles = sorted([-x, -y, z] for x, y, z, _ in NODULES[case["name"]])
            np.testing.assert_allclose(centres, middles, atol=1e-4)
            for low, high in zip(boxes.corners[:, :3], boxes.corners[:, 3:], strict=True):
                inner = tuple(int(n) for n in (low + high) / 2)
                assert image[inner] > 0
    views = built.manifest["views"]
    assert "no place for boxes" in views["nnunet"]["omitted"]
    assert "no place for boxes" in views["bids"]["omitted"]
    listed = json.loads((built.build.out / "views" / "monai" / "datalist.json").read_text())
    rows = [row for part in ("training", "validation", "test") for row in listed.get(part, [])]
    assert sorted(len(row["box"]) for row in rows) == [0, 1, 2]
    assert all(len(box) == 6 for row in rows for box in row["box"])


def test_the_sides_of_a_ball_are_its_diameter_in_voxels(luna):
    built = fuse(detection(described()), luna)

    box = built.cases["1.2.4"]["boxes"][0]["corners"]
    sides = np.subtract(box[3:], box[:3]) * built.cases["1.2.4"]["spacing_mm"]
    np.testing.assert_allclose(sides, 8.0, atol=1e-4)


def test_corners_and_sides_say_the_same_as_each_other_and_are_no_derived_box(luna):
    table = luna / "luna" / "annotations.csv"
    head = "seriesuid,x,y,z,w,h,d,x0,y0,z0,x1,y1,z1"
    row = "1.2.3,-8,-20,66,4,6,8,-10,-23,62,-6,-17,70"
    table.write_text(f"{head}\n{row}\n")
    sides = described(centre=["x", "y", "z"], size=["w", "h", "d"])
    corners = described(centre=None, box=["x0", "y0", "z0", "x1", "y1", "z1"])

    one, other = (
        fuse(detection(source), luna, luna / name)
        for name, source in (("one", sides), ("other", corners))
    )

    assert one.cases["1.2.3"]["boxes"] == other.cases["1.2.3"]["boxes"]
    assert one.cases["1.2.3"]["boxes"][0]["derived"] is False


def test_a_wrong_space_is_told_by_boxes_beside_their_scan(luna):
    built = described(diameter="diameter_mm", space="RAS")

    with pytest.raises(Exception, match="lies beside the image"):
        fuse(detection(built), luna)


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ({"centre": ["x", "y", "z"]}, "centre goes with diameter or size"),
        ({"diameter": "d"}, "give either centre or box"),
        ({"box": list("abcdef"), "size": list("xyz")}, "centre goes with diameter or size"),
    ],
)
def test_rows_in_space_say_one_thing(rows, why):
    with pytest.raises(ValueError, match=why):
        Layer(path="t.csv", kind="shapes", values={"*": "x"}, rows=rows | {"space": "LPS"})
