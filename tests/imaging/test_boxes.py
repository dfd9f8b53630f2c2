"""Boxes go where the voxels go, and come back to the last bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.imaging.boxes import (
    around,
    around_parts,
    as_boxes,
    clipped,
    filled,
    matched,
    moved,
    moved_back,
    overlaps,
    ras_step,
)
from fusion.imaging.geometry import to_ras
from fusion.imaging.harmonise import resample, target_grid
from fusion.imaging.resize import resize_picture
from fusion.imaging.transforms import crop, pad, record
from fusion.imaging.volume import Grid, Picture, Volume

SHAPE = (7, 9, 11)
CODES = ("RAS", "LPS", "PIR", "SLA", "IAR", "ASL")
DIRECTIONS = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}


def volume(codes: str, spacing=(1.0, 2.5, 0.7)) -> Volume:
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, letter in enumerate(codes):
        row, sign = DIRECTIONS[letter]
        affine[row, axis] = sign * spacing[axis]
    affine[:3, 3] = (-3.5, 8.0, 100.25)
    return Volume(np.arange(np.prod(SHAPE)).reshape(SHAPE), Grid(SHAPE, affine))


def places(sizes):
    """Boxes on a grid of `sizes`, with up to six decimals."""
    axes = [st.tuples(*[st.integers(0, n * 10**6)] * 2).map(sorted) for n in sizes]
    one = st.tuples(*axes).map(lambda ends: [e[0] / 1e6 for e in ends] + [e[1] / 1e6 for e in ends])
    return st.lists(one, max_size=4).map(lambda found: as_boxes(found, len(sizes)))


@given(codes=st.sampled_from(CODES), boxes=places(SHAPE))
def test_flips_and_swaps_of_axes_are_undone_to_the_last_bit(codes, boxes):
    _, step = to_ras(volume(codes))

    there = moved(boxes, [step, step.as_dict() | {"op": "rescale"}])

    np.testing.assert_array_equal(moved_back(there, [step]), boxes)
    facts = {"shape": SHAPE, "axcodes": codes}
    np.testing.assert_array_equal(moved(boxes, ras_step(facts)), moved(boxes, [step]))


@given(codes=st.sampled_from(CODES), low=st.tuples(*[st.integers(0, 5)] * 3))
def test_a_box_holds_the_same_voxels_before_and_after_a_flip(codes, low):
    image = volume(codes)
    high = tuple(n + 2 for n in low)
    box = as_boxes([[*low, *high]], 3)

    turned, step = to_ras(image)

    there = moved(box, [step])[0].astype(int)
    inside = turned.array[tuple(map(slice, there[:3], there[3:]))]
    before = image.array[tuple(map(slice, low, high))]
    assert sorted(inside.ravel()) == sorted(before.ravel())


@given(boxes=places(SHAPE))
def test_crops_and_pads_are_undone_to_the_last_bit(boxes):
    image = volume("LPS")
    cut = crop(image, (1, 2, 3), (5, 6, 7))
    wide = pad(cut, (2, 0, 1), (9, 6, 9))
    steps = [
        record("crop", {"start": [1, 2, 3]}, image, cut, invertible=True),
        record("pad", {"before": [2, 0, 1]}, cut, wide, invertible=True),
    ]

    there = moved(boxes, steps)

    by = np.tile([1, -2, -2], 2)  # 2 - 1 along the first axis, and so on
    np.testing.assert_allclose(there, boxes + by, atol=1e-6)
    np.testing.assert_array_equal(moved_back(there, steps), boxes)


@settings(max_examples=25, deadline=None)
@given(boxes=places(SHAPE), size=st.tuples(*[st.floats(0.4, 3)] * 3))
def test_a_resampling_keeps_boxes_in_their_place_in_the_world(boxes, size):
    image = to_ras(volume("RAS"))[0]
    image = replace(image, array=image.array.astype(np.float32))
    grid = target_grid(image.grid, size)
    step = record("resample", {}, image, resample(image, grid), invertible=True)

    there = moved(boxes, [step])

    # A corner is half a voxel away from the centre that an affine speaks of.
    old, new = (g.world(b.reshape(-1, 3) - 0.5) for g, b in ((image.grid, boxes), (grid, there)))
    np.testing.assert_allclose(new, old, atol=1e-4)
    largest = max(1.0, *(np.array(grid.spacing_mm) / image.grid.spacing_mm))
    np.testing.assert_allclose(moved_back(there, [step]), boxes, atol=1e-6 * largest + 1e-9)


def test_boxes_of_a_picture_grow_and_shrink_with_its_edges():
    picture = Picture(np.zeros((20, 30), np.uint8))
    smaller = resize_picture(picture, (10, 6), "area")
    step = record("resample", {}, picture, smaller, invertible=True)

    boxes = as_boxes([[0, 0, 30, 20], [5, 2, 10, 4]], 2)

    np.testing.assert_array_equal(moved(boxes, [step]), [[0, 0, 6, 10], [1, 1, 2, 2]])
    np.testing.assert_array_equal(moved_back(moved(boxes, [step]), [step]), boxes)


def test_what_reaches_beyond_the_grid_is_cut_and_measured():
    inside, beyond = clipped(as_boxes([[-1.5, 2, 4, 12], [1, 1, 2, 2]], 2), (10, 8))

    np.testing.assert_array_equal(inside, [[0, 2, 4, 8], [1, 1, 2, 2]])
    np.testing.assert_array_equal(beyond, [4, 0])
    assert clipped(as_boxes([], 3), (4, 4, 4))[1].shape == (0,)


def test_parts_and_numbers_have_a_box_each():
    mask = np.zeros((8, 9), bool)
    mask[1:3, 4:7] = mask[3, 7] = mask[6, 1] = True  # the second touches the first by a corner

    assert around_parts(mask) == [(4, 1, 8, 4), (1, 6, 2, 7)]
    assert around(np.array([[0, 3], [3, 1]])) == [(1, (1, 1, 2, 2)), (3, (0, 0, 2, 2))]
    assert around_parts(np.zeros((3, 3, 3), bool)) == []


def test_overlaps_are_shares_of_what_two_boxes_hold_together():
    one = as_boxes([[0, 0, 2, 2], [0, 0, 0, 0]], 2)
    other = as_boxes([[1, 0, 3, 2], [0, 0, 2, 2]], 2)

    np.testing.assert_allclose(overlaps(one, other), [[1 / 3, 1], [0, 0]])
    assert matched(one, other) == 1
    assert matched(as_boxes([], 2), other) == 0


def test_a_filled_box_holds_the_voxels_whose_centre_it_holds_and_one_at_least():
    found = filled([(2, (1.4, 0.6, 3.4, 1.6)), (3, (2.6, 3.6, 2.7, 3.7))], (5, 6))

    np.testing.assert_array_equal(np.argwhere(found == 2), [[1, 1], [1, 2]])
    np.testing.assert_array_equal(np.argwhere(found == 3), [[4, 3]])
