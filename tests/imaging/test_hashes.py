"""The same image is found again under another file, axis order, type, padding or size."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.imaging.geometry import to_ras
from fusion.imaging.harmonise import resize_picture
from fusion.imaging.hashes import (
    correlation,
    dhash,
    file_sha256,
    is_blank,
    near_pairs,
    phash,
    slice_signatures,
    t1,
)
from fusion.imaging.io import read_image, write_nifti
from fusion.imaging.volume import Picture, Volume
from tests.imaging.make import noise, placed

RNG = np.random.default_rng(4)
CT = Volume(
    RNG.integers(-1000, 2000, (20, 18, 16)).astype(np.int16), placed((20, 18, 16), (1, 1, 2), "LPI")
)


def photo(seed, shape=(120, 160)):
    """Smooth shapes with a little noise, as photographs have."""
    from scipy.ndimage import gaussian_filter

    values = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 12)
    values = (values - values.min()) / np.ptp(values) * 255
    return Picture(values.astype(np.uint8))


def test_the_files_own_hash(tmp_path):
    (tmp_path / "a").write_bytes(b"abc" * 1000)
    assert file_sha256(tmp_path / "a") == hashlib.sha256(b"abc" * 1000).hexdigest()


def test_t1_ignores_file_axis_order_and_type(tmp_path):
    write_nifti(CT, tmp_path / "a.nii.gz")
    write_nifti(to_ras(CT)[0], tmp_path / "b.nii")
    same = [
        CT,
        read_image(tmp_path / "a.nii.gz"),
        read_image(tmp_path / "b.nii"),
        CT.with_array(CT.array.astype(np.float32)),
        CT.with_array(CT.array.astype(np.int64, order="F")),
    ]
    assert {t1(v) for v in same} == {t1(CT)}


def test_t1_sees_one_voxel_a_flip_and_a_shape():
    changed = CT.array.copy()
    changed[3, 4, 5] += 1
    others = [
        CT.with_array(changed),
        CT.with_array(CT.array[::-1]),
        noise(CT.grid),
        Picture(CT.array[0]),
        Volume(CT.array.reshape(18, 20, 16), placed((18, 20, 16), (1, 1, 2))),
    ]
    assert len({t1(v) for v in [CT, *others]}) == 6


def test_grey_stored_as_rgb_is_the_same_picture():
    grey = photo(1)
    assert t1(grey) == t1(Picture(np.repeat(grey.array[..., None], 3, axis=2)))
    assert not is_blank(grey)
    assert is_blank(Picture(np.full((3, 3), 7)))


def test_slices_are_found_after_rescaling_padding_and_turning():
    body = CT.array.copy()
    rescaled = Volume(body.astype(np.float32) * 0.5 + 3, CT.grid)
    lowest = int(body.min()) - 1
    padded = Volume(np.pad(body, 4, constant_values=lowest), placed((28, 26, 24), (1, 1, 2), "LPI"))
    signatures = slice_signatures(CT)

    assert len(signatures.full) == 54
    for other in (rescaled, padded, to_ras(CT)[0]):
        assert signatures.same_series(slice_signatures(other))
    unlike = Volume(RNG.integers(-1000, 2000, (20, 18, 16)), CT.grid)
    assert signatures.shared_with(slice_signatures(unlike)) == 0
    assert not signatures.same_series(slice_signatures(unlike))


def test_flat_slices_say_nothing():
    assert slice_signatures(Volume(np.zeros((5, 5, 5)), placed((5, 5, 5), (1, 1, 1)))).full == set()
    assert len(slice_signatures(photo(1)).full) == 1
    coloured = Picture(np.stack([photo(n).array for n in range(3)], axis=2))
    assert len(slice_signatures(coloured).full) == 3


def test_looks_survive_size_and_light_and_tell_pictures_apart():
    first, second = photo(1), photo(2)
    smaller = resize_picture(first, (60, 80), "area")
    brighter = Picture((first.array * 0.8 + 30).astype(np.uint8))

    for make in (dhash, phash):
        for other in (smaller, brighter):
            assert (make(first) ^ make(other)).bit_count() <= 4
        assert (make(first) ^ make(second)).bit_count() > 10
        assert 0 <= make(first) < 2**64
    assert correlation(first, smaller) > 0.99
    assert correlation(first, brighter) > 0.99
    assert correlation(first, second) < 0.9
    assert correlation(first, Picture(np.zeros((9, 9)))) == 0


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 8), st.integers(0, 60))
def test_near_pairs_are_exactly_those_of_the_full_comparison(seed, max_bits, count):
    rng = np.random.default_rng(seed)
    centres = rng.integers(0, 2**64, max(1, count // 4), dtype=np.uint64)
    hashes = rng.choice(centres, count) if count else np.zeros(0, np.uint64)
    for _ in range(5):
        flip = rng.random(count) < 0.7
        hashes = np.where(
            flip, hashes ^ (np.uint64(1) << rng.integers(0, 64, count, np.uint64)), hashes
        )

    found = near_pairs(hashes, max_bits)

    expected = [
        (i, j)
        for i in range(count)
        for j in range(i + 1, count)
        if (int(hashes[i]) ^ int(hashes[j])).bit_count() <= max_bits
    ]
    assert [tuple(pair) for pair in found.tolist()] == expected


def test_equal_hashes_are_all_paired():
    assert near_pairs(np.array([7, 9, 7, 7], np.uint64), 0).tolist() == [[0, 2], [0, 3], [2, 3]]
    with pytest.raises(ValueError, match="max_bits"):
        near_pairs(np.zeros(2, np.uint64), 64)
