"""The same image is found again under another file, axis order, type, padding or size."""

from __future__ import annotations

import hashlib
import json

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.imaging.file_hash import file_sha256
from fusion.imaging.geometry import to_ras
from fusion.imaging.harmonise import resize_picture
from fusion.imaging.hashes import (
    Signatures,
    identify,
    is_blank,
    look,
    read_thumb,
    shows_slice,
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

    assert signatures.count == 54
    for other in (rescaled, padded, to_ras(CT)[0]):
        assert signatures.same_series(slice_signatures(other))
        assert signatures.shared_with(slice_signatures(other)) == 54
    unlike = Volume(RNG.integers(-1000, 2000, (20, 18, 16)), CT.grid)
    assert signatures.shared_with(slice_signatures(unlike)) == 0
    assert not signatures.same_series(slice_signatures(unlike))


def test_a_copy_that_lost_slices_along_one_axis_is_found_and_five_slices_are_needed():
    """All slices of the other two axes have changed: those of the cut axis decide."""
    signatures = slice_signatures(CT)

    for kept, expected in ((9, True), (5, True), (4, False)):
        cut = Volume(CT.array[..., :kept], placed((20, 18, kept), (1, 1, 2), "LPI"))
        assert signatures.same_series(slice_signatures(cut)) is expected, kept


def test_signatures_survive_their_way_through_json():
    signatures = slice_signatures(CT)

    again = Signatures.from_dict(json.loads(json.dumps(signatures.as_dict())))

    assert again.shared_with(signatures) == again.count == 54


def test_flat_slices_say_nothing():
    assert slice_signatures(Volume(np.zeros((5, 5, 5)), placed((5, 5, 5), (1, 1, 1)))).count == 0
    assert slice_signatures(photo(1)).count == 1
    coloured = Picture(np.stack([photo(n).array for n in range(3)], axis=2))
    assert slice_signatures(coloured).count == 3
    assert slice_signatures(Picture(photo(1).array // 8)).exact == ()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 7), st.integers(0, 5), st.integers(0, 40))
def test_a_picture_is_itself_after_turns_remapped_values_and_a_margin(turn, margin, shift):
    first = photo(3, (40, 52))
    moved = np.rot90(first.array, turn % 4)
    moved = moved[:, ::-1] if turn > 3 else moved
    moved = moved.astype(np.uint16) * 3 + shift
    moved = np.pad(moved, margin, constant_values=int(moved.min()) - (shift > 0))

    mine, theirs = (set(slice_signatures(p).exact) for p in (first, Picture(moved, 16)))

    assert mine & theirs
    other = set(slice_signatures(photo(4, (40, 52))).exact)
    assert not mine & other


def test_equal_counts_in_another_arrangement_are_no_copy():
    first = photo(5)
    shuffled = np.random.default_rng(1).permutation(first.array.ravel()).reshape(first.array.shape)
    mine, theirs = slice_signatures(first), slice_signatures(Picture(shuffled))

    assert mine.full[0] == theirs.full[0]
    assert not set(mine.exact) & set(theirs.exact)


def test_a_picture_made_from_a_slice_is_found_in_its_volume():
    rng = np.random.default_rng(2)
    volume = Volume(
        rng.integers(-900, 900, (30, 26, 12)).astype(np.int16),
        placed((30, 26, 12), (1, 1, 2), "LPI"),
    )
    plane = to_ras(volume)[0].array[:, :, 7]

    shifted = (plane.astype(np.int32) + 1024).astype(np.uint16)
    assert shows_slice(Picture(np.rot90(shifted), 16), volume)
    permuted = rng.permutation(shifted.ravel()).reshape(shifted.shape)
    assert not shows_slice(Picture(permuted, 16), volume)


def bits(a, b) -> int:
    return max((getattr(a, n) ^ getattr(b, n)).bit_count() for n in ("phash", "dhash"))


def test_looks_survive_size_and_light_and_tell_pictures_apart():
    first, second = photo(1), photo(2)
    smaller = resize_picture(first, (60, 80), "area")
    brighter = Picture((first.array * 0.8 + 30).astype(np.uint8))

    for other in (smaller, brighter):
        assert bits(look(first), look(other)) <= 4
    assert bits(look(first), look(second)) > 10
    mirrored, plain = look(Picture(first.array[:, ::-1])), look(first)
    assert mirrored.phash == plain.phash_mirrored
    assert mirrored.dhash == plain.dhash_mirrored


def test_the_look_of_a_volume_survives_another_grid_and_window():
    from scipy.ndimage import gaussian_filter, zoom

    body = gaussian_filter(np.random.default_rng(3).normal(size=(60, 50, 40)), 5)
    first = Volume(body, placed((60, 50, 40), (1, 1, 1)))
    turned = Volume(body[::-1].transpose(1, 0, 2), placed((50, 60, 40), (1, 1, 1), "ALS"))
    coarse = zoom(body, 0.6, order=1)
    low, high = np.percentile(body, [1, 99])
    others = [
        turned,
        Volume(coarse, placed(coarse.shape, (1.67, 1.67, 1.67))),
        first.with_array(np.clip(body, low, high)),
    ]

    for other in others:
        assert bits(look(first), look(other)) <= 6
    assert np.array_equal(look(first).thumb, look(turned).thumb)


def test_an_image_s_marks_are_plain_data_and_its_thumbnail_a_file(tmp_path):
    for image, solid in ((CT, True), (photo(1), False)):
        marks = identify(image, tmp_path / "case" / "thumb.bin")

        assert set(json.loads(json.dumps(marks))) == {"t1", "t2", "look"}
        thumb = read_thumb(tmp_path / "case" / "thumb.bin", solid=solid)
        assert np.array_equal(thumb, look(image).thumb)
