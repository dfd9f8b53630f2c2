"""RAS order, image against label, and the exact way back."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.imaging.errors import CaseError
from fusion.imaging.geometry import orthonormal, same_voxels, to_ras
from fusion.imaging.harmonise import resample, resample_labels, target_grid
from fusion.imaging.transforms import Transform, crop, invert, pad, record
from fusion.imaging.volume import Grid, Volume
from tests.imaging.make import ball, dice, noise, placed, ramp, turned

CODES = [
    a + b + c
    for axes in (("LR", "PA", "IS"), ("PA", "IS", "LR"), ("IS", "LR", "PA"), ("PA", "LR", "IS"))
    for a in axes[0]
    for b in axes[1]
    for c in axes[2]
]


@pytest.mark.parametrize("codes", CODES)
def test_ras_order_moves_no_voxel_in_the_world(codes):
    source = placed((5, 4, 3), (0.9, 1.3, 2.5), codes)
    volume = Volume(ramp(source), source)

    turned_volume, step = to_ras(volume)

    assert turned_volume.grid.axcodes == "RAS"
    np.testing.assert_allclose(turned_volume.array, ramp(turned_volume.grid), atol=1e-9)
    assert np.shares_memory(turned_volume.array, volume.array)
    assert (step.op, step.invertible, step.shape_in) == ("reorient", True, (5, 4, 3))


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(CODES),
    st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 6)),
    st.floats(-40, 40),
    st.floats(-40, 40),
)
def test_reorienting_there_and_back_is_exact(codes, shape, first, second):
    rotation = turned(first, 2) @ turned(second, 0)
    volume = noise(placed(shape, (0.7, 1.1, 3.3), codes, rotation=rotation))

    moved, step = to_ras(volume)
    back = invert([step], moved)

    np.testing.assert_array_equal(back.array, volume.array)
    np.testing.assert_array_equal(back.grid.affine, volume.grid.affine)
    assert moved.grid.axcodes == "RAS"


def test_a_lossless_chain_comes_back_equal_by_way_of_json():
    volume = Volume(
        np.random.default_rng(0).integers(0, 4, (9, 8, 7)).astype(np.uint8),
        placed((9, 8, 7), (0.9, 1.3, 2.5), "PSL", rotation=turned(11)),
    )
    turned_volume, first = to_ras(volume)
    shape = turned_volume.grid.shape
    larger = pad(turned_volume, (1, 2, 3), (shape[0] + 4, shape[1] + 5, shape[2] + 6))
    second = record("pad", {"before": [1, 2, 3]}, turned_volume, larger, invertible=True)
    wide = larger.with_array(larger.array.astype(np.int32))
    third = record("cast", {}, larger, wide, invertible=True)
    steps = json.loads(json.dumps([s.as_dict() for s in (first, second, third)]))

    back = invert(steps, wide, values=True)

    np.testing.assert_array_equal(back.array, volume.array)
    assert back.array.dtype == volume.array.dtype
    np.testing.assert_array_equal(back.grid.affine, volume.grid.affine)
    assert [Transform.from_dict(s) for s in steps] == [first, second, third]


def test_crop_keeps_the_world_and_a_prediction_goes_back_into_the_whole():
    source = placed((9, 8, 7), (0.9, 1.3, 2.5), "LAS")
    volume = Volume(ramp(source), source)
    part = crop(volume, (2, 1, 3), (4, 5, 2))

    np.testing.assert_allclose(part.array, ramp(part.grid), atol=1e-9)
    back = invert([record("crop", {"start": [2, 1, 3]}, volume, part, invertible=True)], part)

    np.testing.assert_array_equal(back.grid.affine, source.affine)
    np.testing.assert_array_equal(back.array[2:6, 1:6, 3:5], part.array)
    assert np.count_nonzero(back.array) == part.array.size
    with pytest.raises(ValueError, match="leaves the volume"):
        crop(volume, (6, 0, 0), (4, 1, 1))
    with pytest.raises(ValueError, match="does not fit"):
        pad(volume, (0, 0, 0), (4, 4, 4))


@pytest.mark.parametrize("rotation", [None, turned(17) @ turned(8, 0)])
def test_a_resampled_prediction_returns_to_the_exact_native_grid(rotation):
    source = placed((33, 31, 27), (1.1, 0.9, 1.3), "LPI", rotation=rotation)
    centre = source.world(np.array([[16.0, 15.0, 13.0]]))[0]
    mask = Volume(ball(source, centre, 9), source)
    ras, first = to_ras(mask)
    moved, _ = resample_labels(ras, target_grid(ras.grid, (1.5, 1.5, 1.5)))
    second = record("resample", {"interpolation": "one_hot"}, ras, moved, invertible=True)

    back = invert([first, second], moved)
    soft = invert([first, second], moved.with_array(moved.array.astype(np.float32)))

    assert back.array.shape == source.shape
    np.testing.assert_array_equal(back.grid.affine, source.affine)
    assert back.array.dtype == np.uint8
    assert dice(back.array, mask.array) > 0.93
    assert soft.array.dtype == np.float32
    np.testing.assert_array_equal(soft.array > 0.5 + 1e-6, back.array > 0)


def test_value_steps_are_undone_only_when_asked():
    volume = noise(placed((4, 4, 4), (1, 1, 1)))
    scaled = volume.with_array(volume.array * 2 + 5)
    step = record("rescale", {"slope": 2, "intercept": 5}, volume, scaled, invertible=True)

    np.testing.assert_allclose(invert([step], scaled, values=True).array, volume.array, atol=1e-6)
    assert invert([step], scaled) is scaled


def test_a_prediction_of_the_wrong_shape_is_refused():
    volume = noise(placed((4, 5, 6), (1, 1, 1), "LPI"))
    _, step = to_ras(volume)

    with pytest.raises(ValueError, match=r"cannot undo reorient.*\(4, 5, 6\)"):
        invert([step], noise(placed((4, 5, 7), (1, 1, 1))))
    with pytest.raises(ValueError, match="expected one of"):
        record("swirl", {}, volume, volume, invertible=False)


def test_image_and_label_must_lie_on_one_grid():
    image = noise(placed((6, 5, 4), (1, 1, 2)))
    near = Grid((6, 5, 4), image.grid.affine + np.eye(4, k=3) * 0.05)
    far = Grid((6, 5, 4), image.grid.affine + np.eye(4, k=3) * 0.5)

    cut = Grid((6, 5, 3), image.grid.affine)

    assert same_voxels(image, Volume(image.array, near))
    assert same_voxels(image, to_ras(noise(placed((6, 5, 4), (1, 1, 2))))[0])
    assert not same_voxels(image, noise(placed((3, 3, 3), (2, 2, 2))))
    for grid, words in ((far, "0.50 voxels apart"), (cut, r"label is \(6, 5, 3\)")):
        with pytest.raises(CaseError, match=words) as caught:
            same_voxels(image, Volume(np.zeros(grid.shape), grid))
        assert caught.value.code == "grid_conflict"


def test_grids_say_what_they_are():
    grid = placed((4, 5, 6), (0.5, 1.5, 3), "LPS", rotation=turned(10))

    np.testing.assert_allclose(grid.spacing_mm, (0.5, 1.5, 3))
    assert grid.axcodes == "LPS"
    assert grid.voxel_mm3 == pytest.approx(2.25)
    assert grid.corners().shape == (8, 3)
    np.testing.assert_allclose(grid.corners()[0], grid.affine[:3, 3])
    assert not grid.same_as(placed((4, 5, 7), (0.5, 1.5, 3), "LPS", rotation=turned(10)))


def test_the_closest_right_angles_keep_spacing_and_centre():
    affine = turned(25) @ np.diag([0.8, 1.2, 2.0, 1.0])
    affine[0, 1] += 0.05
    grid = Grid((20, 20, 10), affine)

    squared = Grid(grid.shape, orthonormal(grid))

    np.testing.assert_allclose(squared.spacing_mm, grid.spacing_mm)
    centre = np.array([[9.5, 9.5, 4.5]])
    np.testing.assert_allclose(squared.world(centre), grid.world(centre))
    unit = squared.affine[:3, :3] / squared.spacing_mm
    np.testing.assert_allclose(unit.T @ unit, np.eye(3), atol=1e-12)


def test_a_float_image_is_unchanged_by_a_trip_to_its_own_grid():
    volume = noise(placed((8, 7, 6), (1, 2, 3), "SAL"))
    moved, step = to_ras(volume)
    same = resample(moved, moved.grid)
    back = invert([step, record("resample", {}, moved, same, invertible=True)], same)

    np.testing.assert_array_equal(back.array, volume.array)
