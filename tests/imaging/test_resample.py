"""Resampling: every point stays in its place, whatever the axes, the backend and the type."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.imaging import kernels
from fusion.imaging.geometry import to_ras
from fusion.imaging.harmonise import resample, resample_labels, smooth_for, target_grid
from fusion.imaging.io import write_nifti
from fusion.imaging.parallel import set_threads
from fusion.imaging.sampling import align
from fusion.imaging.volume import Grid, Volume
from tests.imaging.make import ball, dice, noise, oracle, placed, ramp, turned

BACKENDS = ("numba", "numpy", "torch")
SOURCES = {
    "RAS": placed((21, 17, 13), (0.9, 1.3, 2.5)),
    "LPI": placed((21, 17, 13), (0.9, 1.3, 2.5), "LPI"),
    "PSR": placed((21, 17, 13), (0.9, 1.3, 2.5), "PSR"),
    "left-handed": placed((21, 17, 13), (0.9, 1.3, 2.5), "LAS"),
    "oblique": placed((21, 17, 13), (0.9, 1.3, 2.5), "SPL", rotation=turned(20) @ turned(9, 0)),
    "10:1": placed((31, 27, 5), (0.5, 0.5, 5.0), "LAS"),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", SOURCES)
def test_a_ramp_of_world_places_stays_in_place(name, backend):
    source = SOURCES[name]
    grid = target_grid(source, (1.1, 0.8, 1.7))

    moved = resample(Volume(ramp(source), source), grid, backend=backend)

    assert grid.axcodes == "RAS"
    assert moved.array.dtype == np.float32
    # The last voxel of an axis may lie outside the outermost centres, where the edge is held.
    held = moved.array[:-2, :-2, :-4]
    np.testing.assert_allclose(held, ramp(grid)[:-2, :-2, :-4], atol=2e-3)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", SOURCES)
def test_a_ramp_stays_in_place_on_a_rotated_target(name, backend):
    source = SOURCES[name]
    ras = target_grid(source, (1.0, 1.0, 1.0))
    middle = ras.world(np.array([[(n - 1) / 2 for n in ras.shape]]))[0]
    affine = turned(31, 1) @ turned(-17, 2) @ ras.affine
    grid = Grid((5, 4, 3), affine)
    affine[:3, 3] += middle - grid.world(np.array([[2.0, 1.5, 1.0]]))[0]
    grid = Grid((5, 4, 3), affine)

    assert align(source, grid) is None
    moved = resample(Volume(ramp(source), source), grid, backend=backend)

    np.testing.assert_allclose(moved.array, ramp(grid), atol=2e-3)


@pytest.mark.parametrize("kind", [sitk.sitkLinear, sitk.sitkNearestNeighbor])
@pytest.mark.parametrize("name", SOURCES)
def test_values_agree_with_simpleitk(name, kind):
    volume = noise(SOURCES[name])
    grid = target_grid(volume.grid, (1.13, 1.41, 2.77))
    word = "linear" if kind == sitk.sitkLinear else "nearest"

    ours = resample(volume, grid, interpolation=word).array

    theirs = oracle(volume, grid, kind)
    # SimpleITK is compared where it has a value: half a voxel around the outermost centres.
    places = np.linalg.inv(volume.grid.affine) @ grid.affine
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1)
    at = index @ places[:3, :3].T + places[:3, 3]
    known = ((at > -0.49) & (at < np.array(volume.grid.shape) - 0.51)).all(axis=-1)
    assert known.mean() > 0.7
    np.testing.assert_allclose(ours[known], theirs[known], atol=2e-5)


@pytest.mark.parametrize("kind", [sitk.sitkLinear, sitk.sitkNearestNeighbor])
@pytest.mark.parametrize("name", SOURCES)
def test_rotated_targets_agree_with_simpleitk(name, kind):
    volume = noise(SOURCES[name])
    ras = target_grid(volume.grid, (1.13, 1.41, 1.77))
    grid = Grid(ras.shape, ras.affine @ turned(7.3) @ turned(4.1, 0))
    word = "linear" if kind == sitk.sitkLinear else "nearest"

    ours = resample(volume, grid, interpolation=word, fill=-5).array
    theirs = oracle(volume, grid, kind, -5)

    off = np.abs(ours - theirs) > 1e-4
    assert 0.2 < (ours != -5).mean() < 1
    # A voxel on the very rim may fall to either side.
    assert off.mean() < 2e-3


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("rotated", [False, True])
def test_backends_agree(dtype, rotated):
    source = SOURCES["PSR"]
    values = np.random.default_rng(3).integers(0, 200, source.shape).astype(dtype)
    grid = target_grid(source, (1.3, 0.7, 1.9))
    if rotated:
        grid = Grid(grid.shape, grid.affine @ turned(12))
    kinds = ["linear", "nearest"] + ([] if np.dtype(dtype).kind == "f" else ["one_hot"])
    for kind in kinds:
        found = [
            resample(Volume(values, source), grid, interpolation=kind, backend=b).array
            for b in BACKENDS
        ]
        assert {str(a.dtype) for a in found} == {
            "float32" if kind == "linear" else str(values.dtype)
        }
        for other in found[1:]:
            np.testing.assert_allclose(found[0], other, atol=200 * 1e-4 if kind == "linear" else 0)


def test_a_turned_view_gives_the_values_of_its_copy():
    volume = noise(SOURCES["LPI"])
    view = to_ras(volume)[0]
    grid = target_grid(volume.grid, (1, 1, 1))

    by_view = resample(view, grid).array
    by_copy = resample(view.with_array(view.array.copy("C")), grid).array

    np.testing.assert_allclose(by_view, by_copy, atol=1e-6)
    np.testing.assert_allclose(by_view, resample(volume, grid).array, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_same_grid_gives_the_same_values(backend):
    volume = noise(SOURCES["oblique"])

    for kind in ("linear", "nearest"):
        again = resample(volume, volume.grid, interpolation=kind, backend=backend)
        np.testing.assert_array_equal(again.array, volume.array)


@pytest.mark.parametrize("backend", BACKENDS)
def test_voxels_outside_the_source_get_the_fill(backend):
    volume = noise(placed((5, 5, 5), (1, 1, 1), origin=(0, 0, 0)))
    far = Grid((4, 3, 2), placed((4, 3, 2), (1, 1, 1), origin=(50, 0, 0)).affine)
    tilted = Grid((4, 3, 2), far.affine @ turned(30))

    for grid in (far, tilted):
        for kind in ("linear", "nearest"):
            moved = resample(volume, grid, interpolation=kind, backend=backend, fill=-7)
            assert (moved.array == -7).all()


@pytest.mark.parametrize("spacing", [(0.3, 0.3, 0.3), (0.4, 0.7, 1.9), (1.0, 1.0, 1.0)])
def test_a_finer_grid_has_no_empty_rim(spacing):
    source = placed((10, 11, 7), (1, 1, 2), "LPI")
    ones = Volume(np.ones(source.shape, np.float32), source)

    assert resample(ones, target_grid(source, spacing)).array.min() == 1


def test_the_grid_rule():
    source = placed((256, 256, 160), (0.94, 0.94, 1.2), "LPI")

    grid = target_grid(source, (1, 1, 1))

    assert grid.shape == (241, 241, 192)
    np.testing.assert_allclose(grid.spacing_mm, 1)
    np.testing.assert_allclose(grid.affine[:3, 3], to_ras(noise_free(source))[0].grid.affine[:3, 3])
    assert target_grid(placed((1, 4, 4), (0.2, 1, 1)), (3, 3, 3)).shape == (1, 1, 1)
    with pytest.raises(ValueError, match="expected three sizes above 0"):
        target_grid(source, (1, 0, 1))


def noise_free(grid):
    return Volume(np.zeros(grid.shape, np.uint8), grid)


def test_spacing_goes_with_the_ras_axes():
    source = placed((10, 20, 30), (4, 2, 1), "PSR")

    grid = target_grid(source, (1, 4, 2))

    assert (grid.shape, grid.axcodes) == ((30, 10, 20), "RAS")
    np.testing.assert_allclose(grid.spacing_mm, (1, 4, 2))


@pytest.mark.parametrize("codes", ["RAS", "LPI", "SPR"])
def test_a_sphere_keeps_its_place_and_size_on_the_claimed_grid(codes):
    source = placed((41, 37, 33), (0.94, 0.94, 1.2), codes)
    centre = source.world(np.array([[20.2, 18.1, 16.4]]))[0]
    mask = Volume(ball(source, centre, 11.0), source)
    grid = target_grid(source, (1, 1, 1))

    moved, flags = resample_labels(mask, grid)

    assert flags == []
    assert dice(moved.array, ball(grid, centre, 11.0)) > 0.97
    half = ball(grid, centre + 0.5, 11.0)
    assert dice(moved.array, half) < dice(moved.array, ball(grid, centre, 11.0)) - 0.01


@settings(max_examples=25, deadline=None)
@given(
    st.tuples(*[st.floats(0.5, 3.0)] * 3),
    st.sampled_from(["RAS", "LPI", "PSR", "ILA"]),
    st.integers(0, 1000),
)
def test_labels_are_never_invented(spacing, codes, seed):
    source = placed((9, 8, 7), (1, 1.3, 2.1), codes)
    values = np.random.default_rng(seed).choice([0, 3, 7, 300], source.shape).astype(np.uint16)

    grid = target_grid(source, spacing)
    for kind in ("one_hot", "nearest"):
        moved = resample(Volume(values, source), grid, interpolation=kind)
        assert moved.array.dtype == np.uint16
        assert set(np.unique(moved.array)) <= {0, 3, 7, 300}


def test_votes_equal_linear_masks_and_argmax():
    source = placed((15, 13, 11), (1, 1, 1))
    values = np.random.default_rng(5).integers(0, 4, source.shape).astype(np.uint8)
    grid = target_grid(source, (1.37, 0.81, 1.13))

    voted = resample(Volume(values, source), grid, interpolation="one_hot").array

    masks = [
        resample(Volume((values == v).astype(np.float32), source), grid).array for v in range(4)
    ]
    best = np.max(masks, axis=0)
    chosen = np.take_along_axis(np.stack(masks), voted[None].astype(int), axis=0)[0]
    np.testing.assert_allclose(chosen, best, atol=1e-5)


def test_a_plate_that_votes_lose_is_found_by_nearest_or_flagged():
    source = placed((40, 40, 40), (1, 1, 1))
    plate = np.zeros(source.shape, np.uint8)
    plate[20] = 1

    kept, flags = resample_labels(Volume(plate, source), target_grid(source, (1, 2, 2)))
    assert (flags, int(kept.array.max())) == ([], 1)

    _, flags = resample_labels(Volume(plate, source), target_grid(source, (3, 3, 3)))
    assert flags == ["structure_lost"]


def test_a_smaller_field_of_view_is_not_a_lost_structure():
    source = placed((30, 30, 30), (1, 1, 1), origin=(0, 0, 0))
    mask = Volume(ball(source, (15, 15, 15), 10), source)
    half = placed((15, 30, 30), (1, 1, 1), origin=(0, 0, 0))

    moved, flags = resample_labels(mask, half)

    assert flags == []
    np.testing.assert_array_equal(moved.array, mask.array[:15])


def test_smoothing_takes_only_the_thinned_axes():
    source = placed((24, 24, 24), (1, 1, 1))
    volume = noise(source)

    same = smooth_for(volume, target_grid(source, (1, 1, 0.5)))
    one = smooth_for(volume, target_grid(source, (1, 2, 1)))

    assert same.array is volume.array
    assert one.array.std() < 0.8 * volume.array.std()
    from scipy.ndimage import gaussian_filter1d

    expected = gaussian_filter1d(volume.array, 0.7, axis=1, mode="nearest")
    np.testing.assert_allclose(one.array, expected, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", SOURCES)
def test_smoothing_in_the_same_pass_gives_what_two_steps_give(name, backend):
    volume = noise(SOURCES[name])
    for spacing in ((1.3, 2.1, 6.2), (0.4, 2.9, 2.5)):
        grid = target_grid(volume.grid, spacing)

        once = resample(volume, grid, smooth=True, backend=backend)

        twice = resample(smooth_for(volume, grid), grid, backend="numpy")
        np.testing.assert_allclose(once.array, twice.array, atol=1e-5)
    with pytest.raises(ValueError, match="linear"):
        resample(volume, grid, smooth=True, interpolation="nearest")


@pytest.fixture
def threads():
    yield set_threads
    set_threads(0)


def test_the_number_of_threads_changes_no_byte(threads, tmp_path):
    source = placed((61, 53, 47), (0.7, 0.8, 1.1), "LPI")
    volume = noise(source)
    labels = volume.with_array((np.abs(volume.array) * 3).astype(np.uint8))
    grid = target_grid(source, (1, 1, 1))
    found = []
    for number in (1, 2, 5):
        threads(number)
        moved = [
            resample(volume, grid),
            resample(volume, grid, smooth=True),
            resample(labels, grid, interpolation="nearest"),
            resample(labels, grid, interpolation="one_hot"),
            resample(volume, Grid(grid.shape, grid.affine @ turned(9))),
        ]
        for place, one in enumerate(moved):
            write_nifti(one, tmp_path / f"{number}-{place}.nii.gz")
        found.append([(tmp_path / f"{number}-{n}.nii.gz").read_bytes() for n in range(5)])

    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("kind", ["linear", "nearest", "one_hot"])
def test_kernels_keep_a_grid_that_nothing_moves_on(kind):
    # The door hands such a volume back as it is; here the kernel itself is asked.
    source = SOURCES["oblique"]
    values = np.random.default_rng(2).integers(0, 9, source.shape).astype(np.uint8)

    found = kernels.sample_aligned(values, align(source, source), kind, 0)

    np.testing.assert_array_equal(found, values)


def test_thick_slices_are_not_smoothed_across():
    source = placed((20, 20, 8), (0.5, 0.5, 5))
    volume = noise(source)

    smooth = smooth_for(volume, target_grid(source, (0.5, 0.5, 10)))

    assert smooth.array is volume.array


def test_a_slight_shear_is_squared_and_a_large_one_resampled():
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    affine[0, 1] = 0.3
    source = Grid((20, 20, 20), affine)

    grid = target_grid(source, (1, 1, 1))
    moved = resample(Volume(ramp(source), source), grid)

    columns = grid.affine[:3, :3]
    np.testing.assert_allclose(columns.T @ columns, np.eye(3), atol=1e-9)
    middle = (slice(8, 12),) * 3
    np.testing.assert_allclose(moved.array[middle], ramp(grid)[middle], atol=1e-3)


def test_one_slice_and_one_voxel_work():
    source = placed((7, 1, 1), (1, 1, 5))
    moved = resample(
        Volume(np.arange(7.0).reshape(7, 1, 1), source), target_grid(source, (2, 1, 5))
    )

    np.testing.assert_array_equal(moved.array.ravel(), [0, 2, 4, 6])


def test_unknown_words_are_refused():
    volume = noise(SOURCES["RAS"])
    with pytest.raises(ValueError, match="expected one of"):
        resample(volume, volume.grid, interpolation="cubic")
    with pytest.raises(ValueError, match="runs on the CPU"):
        resample(volume, volume.grid, backend="numba", device="cuda:0")


def test_what_a_volume_carries_goes_along():
    volume = replace(noise(SOURCES["RAS"]), unit="hu", flags=("nan_replaced",), geometry="qform")
    moved = resample(volume, target_grid(volume.grid, (2, 2, 2)))

    assert (moved.unit, moved.flags, moved.geometry) == ("hu", ("nan_replaced",), "qform")
    assert math.prod(moved.grid.shape) == moved.array.size


def test_threads_may_call_at_once():
    from concurrent.futures import ThreadPoolExecutor

    volume = noise(SOURCES["LPI"])
    grid = target_grid(volume.grid, (1, 1, 1))
    expected = resample(volume, grid).array

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: resample(volume, grid).array, range(16)))

    for array in found:
        np.testing.assert_array_equal(array, expected)


def test_cuda_gives_the_cpu_values():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here; the torch path runs on the CPU in the tests above")
    volume = noise(SOURCES["PSR"])
    grid = target_grid(volume.grid, (1.3, 0.7, 1.9))
    labels = volume.with_array((volume.array > 0).astype(np.uint16) * 300)

    for target in (grid, Grid(grid.shape, grid.affine @ turned(12))):
        here = resample(volume, target).array
        np.testing.assert_allclose(resample(volume, target, device="cuda:0").array, here, atol=1e-4)
        voted = resample(labels, target, interpolation="one_hot")
        there = resample(labels, target, interpolation="one_hot", device="cuda:0")
        np.testing.assert_array_equal(there.array, voted.array)


@pytest.mark.parametrize("smooth", [True, False])
@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_whole_numbers_are_the_rounded_ones(backend, smooth):
    """A CT goes to int16 without a float copy of the whole: the same values, rounded."""
    source = placed((23, 31, 19), (0.9, 0.7, 1.9), "LPI")
    volume = replace(noise(source), array=np.rint(noise(source).array * 500).astype(np.int16))
    grid = target_grid(source, (1.3, 1.3, 1.3))

    exact = resample(volume, grid, smooth=smooth, backend=backend, fill=-1024)
    whole = resample(volume, grid, smooth=smooth, backend=backend, fill=-1024, dtype=np.int16)

    assert whole.array.dtype == np.int16
    assert np.array_equal(whole.array, np.rint(exact.array))
    assert len(np.unique(whole.array)) > 100
