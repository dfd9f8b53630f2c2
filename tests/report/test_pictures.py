"""Pictures of cases: sides, proportions and outlines are those of the patient."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from fusion.imaging.volume import Picture, Volume
from fusion.report.pictures import GAP, PALETTE, SIDE_3D, draw, planes
from tests.imaging.make import ball, placed, world

SHAPE, SPACING = (40, 48, 32), (1.0, 1.0, 1.5)


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def where(drawn: np.ndarray, colour: tuple[int, int, int], tile: int) -> np.ndarray:
    """Rows and columns of a colour within the nth tile of a 3D drawing."""
    left = tile * (SIDE_3D + GAP)
    return np.argwhere((drawn[:, left : left + SIDE_3D] == colour).all(axis=-1))


def phantom(codes: str, offset_mm: tuple[float, float, float]) -> tuple[Volume, Volume]:
    """A grey head with a ball at `offset_mm` (right, front, up) from its middle."""
    grid = placed(SHAPE, SPACING, codes)
    middle = world(grid).reshape(-1, 3).mean(axis=0)
    head = ball(grid, middle, 18).astype(np.int16) * 100
    head[0, 0, 0], head[0, 0, 1] = -1, 101
    return Volume(head, grid), Volume(ball(grid, middle + np.array(offset_mm), 4), grid)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "LAS", "PSR", "IAL"])
def test_a_label_on_the_patients_left_is_on_the_viewers_right(codes):
    image, label = phantom(codes, (-10, 0, 0))

    drawn = pixels(draw(image, label).png)

    for tile in (0, 1):  # axial, coronal
        assert where(drawn, PALETTE[0], tile)[:, 1].min() > SIDE_3D / 2
    first = planes(image, label.array)[0]
    assert first.letters[:2] == "RL", "the viewer's left is the patient's right"


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PSR"])
def test_front_is_up_in_axial_and_left_in_sagittal_slices_and_up_is_up(codes):
    image, label = phantom(codes, (0, 9, 0))
    drawn = pixels(draw(image, label).png)
    assert where(drawn, PALETTE[0], 0)[:, 0].max() < SIDE_3D / 2
    assert where(drawn, PALETTE[0], 2)[:, 1].max() < SIDE_3D / 2

    image, label = phantom(codes, (0, 0, 9))
    drawn = pixels(draw(image, label).png)
    for tile in (1, 2):
        assert where(drawn, PALETTE[0], tile)[:, 0].max() < SIDE_3D / 2
    assert [one.letters for one in planes(image, None)] == ["RLAP", "RLSI", "APSI"]


def test_the_left_side_bears_the_letter_on_the_right():
    image, label = phantom("RAS", (-10, 0, 0))

    white = where(pixels(draw(image, label).png), (255, 255, 255), 0)

    right = white[white[:, 1] > SIDE_3D - 12]
    height, width = np.ptp(right, axis=0) + 1
    assert (height, width) == (7, 5)
    rows = {tuple(row - right.min(axis=0)) for row in right}
    assert rows == {(n, 0) for n in range(7)} | {(6, n) for n in range(5)}, "not an L"


def test_a_ball_stays_round_where_voxels_are_five_times_as_tall():
    grid = placed((41, 41, 9), (1.0, 1.0, 5.0), "RAS")
    middle = world(grid).reshape(-1, 3).mean(axis=0)
    inside = ball(grid, middle, 14)

    drawn = pixels(draw(Volume(inside.astype(np.int16), grid), Volume(inside, grid)).png)

    for tile in range(3):
        height, width = np.ptp(where(drawn, PALETTE[0], tile), axis=0)
        assert height / width == pytest.approx(1, abs=0.2)


def test_two_structures_beside_the_middle_are_both_in_the_picture():
    image, left = phantom("RAS", (-10, 0, 0))
    right = phantom("RAS", (10, 0, 0))[1]

    drawn = draw(image, replace(left, array=left.array + 2 * right.array))

    assert drawn.shown == (1, 2)
    sagittal = pixels(drawn.png)
    assert len(where(sagittal, PALETTE[0], 2)) + len(where(sagittal, PALETTE[1], 2)) > 0


def test_a_ct_is_seen_through_a_window_in_hounsfield_units():
    image, label = phantom("RAS", (0, 0, 0))
    soft = replace(image, unit="hu")
    bone = replace(image, unit="hu", array=image.array * 9)

    assert draw(soft, label).window == "-160 to 240 HU"
    assert draw(bone, label).window == "-1000 to 1000 HU"
    assert draw(image, label).window.startswith("percentiles")


def test_a_single_labelled_pixel_of_a_large_picture_is_still_drawn():
    picture = np.zeros((2000, 1500, 3), np.uint8)
    mask = np.zeros((2000, 1500), np.uint8)
    mask[1234, 321] = 1

    assert draw(Picture(picture), Picture(mask)).shown == (1,)


def test_a_nucleus_keeps_its_outline_inside_its_cell():
    rows, columns = np.indices((90, 90)) - 44
    away = np.hypot(rows, columns)
    cell = np.where(away < 20, 1, np.where(away < 40, 2, 0)).astype(np.uint8)

    drawn = pixels(draw(Picture(np.zeros((90, 90, 3), np.uint8)), Picture(cell)).png)

    scale = 192 / 90
    for colour, radius in ((PALETTE[0], 20), (PALETTE[1], 40)):
        found = (drawn == colour).all(axis=-1).sum()
        assert found > 5.5 * radius * scale, "less than a circle"


@pytest.mark.parametrize(
    "image",
    [
        Volume(np.full((1, 1, 1), 7, np.int16), placed((1, 1, 1), (1, 1, 1))),
        Volume(np.arange(300, dtype=np.float32).reshape(300, 1, 1), placed((300, 1, 1), (1, 1, 9))),
        Picture(np.zeros((1, 900), np.uint8)),
        Picture(np.arange(6, dtype=np.uint16).reshape(2, 3), bits=16),
    ],
)
def test_odd_images_without_labels_are_drawn_the_same_each_time(image):
    first, second = draw(image, None), draw(image, None)

    assert first.png == second.png
    assert Image.open(io.BytesIO(first.png)).size == (first.width, first.height)


def test_boxes_are_drawn_at_their_edges_each_by_itself():
    boxes = [(1, (10, 20, 50, 60)), (1, (30, 40, 90, 80)), (2, (95, 0, 95.5, 0.5))]

    found = draw(Picture(np.zeros((100, 100), np.uint8)), None, boxes)

    assert found.planes == ("picture", "boxes")
    assert found.shown == (1, 2)
    drawn = pixels(found.png)[:, -192:]
    at = {name: int(n * 1.92) for name, n in {"left": 30, "top": 40, "inside": 45}.items()}
    assert tuple(drawn[at["inside"], at["left"]]) == PALETTE[0]
    assert tuple(drawn[at["top"], at["inside"]]) == PALETTE[0]
    assert tuple(drawn[at["inside"], at["inside"]]) == (0, 0, 0)


def test_boxes_of_a_volume_are_drawn_in_the_slices_through_them():
    image = Volume(np.zeros((20, 20, 20), np.int16), placed((20, 20, 20), (1, 1, 1)))

    assert draw(image, None, [(2, (3, 4, 5, 9, 9, 9))]).shown == (2,)
    assert draw(image, None, []).shown == ()
