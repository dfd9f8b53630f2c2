"""Pictures and arrays: depth, palette, alpha and orientation come out as they are meant."""

from __future__ import annotations

import gzip
import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fusion.imaging.errors import CaseError
from fusion.imaging.harmonise import resize_picture
from fusion.imaging.io import Limits, read_image, read_npz, write_png
from fusion.imaging.labels import binarise
from fusion.imaging.volume import Picture

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 255, (11, 7)).astype(np.uint8)
RGB = RNG.integers(0, 255, (11, 7, 3)).astype(np.uint8)


def saved(path, image, **options):
    image.save(path, **options)
    return path


def refusal(path, **options):
    with pytest.raises(CaseError) as caught:
        read_image(path, **options)
    return caught.value


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "ppm"])
def test_rgb_is_read_as_it_is(tmp_path, suffix):
    path = saved(tmp_path / f"a.{suffix}", Image.fromarray(RGB))
    np.testing.assert_array_equal(read_image(path).array, RGB)
    packed = tmp_path / f"b.{suffix}.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    np.testing.assert_array_equal(read_image(packed).array, RGB)


def test_alpha_never_counts(tmp_path):
    mask = np.zeros((11, 7, 4), np.uint8)
    mask[3:5, 2:4, :3] = 255
    mask[..., 3] = 255

    picture = read_image(saved(tmp_path / "a.png", Image.fromarray(mask)))

    assert picture.array.shape == (11, 7, 3)
    assert binarise(picture.array, 127).sum() == 4
    assert binarise(mask, 127).sum() == 4
    with pytest.raises(CaseError, match="channel 3"):
        binarise(mask, 127, channel=3)


def test_one_bit_is_0_and_255_so_that_one_threshold_serves_all_masks(tmp_path):
    mask = GREY > 100
    picture = read_image(saved(tmp_path / "a.png", Image.fromarray(mask)))

    assert (picture.bits, picture.array.dtype) == (1, np.uint8)
    np.testing.assert_array_equal(picture.array, mask * 255)
    np.testing.assert_array_equal(binarise(picture.array, 127), mask)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_stay_sixteen(tmp_path, suffix):
    deep = (GREY.astype(np.uint16) * 257)[:, :]
    picture = read_image(saved(tmp_path / f"a.{suffix}", Image.fromarray(deep)))

    assert (picture.bits, picture.array.dtype) == (16, np.uint16)
    np.testing.assert_array_equal(picture.array, deep)


def test_a_palette_is_expanded_and_a_grey_one_has_one_channel(tmp_path):
    coloured = Image.fromarray(GREY % 3, mode=None).convert("P")
    coloured.putpalette([0, 0, 0, 255, 10, 10, 20, 20, 200])
    assert read_image(saved(tmp_path / "a.png", coloured)).array.shape == (11, 7, 3)

    grey = Image.fromarray(GREY).convert("P")
    np.testing.assert_array_equal(read_image(saved(tmp_path / "b.png", grey)).array, GREY)


def test_exif_orientation_is_applied_once(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(tmp_path / "a.jpg", Image.fromarray(RGB), exif=exif, quality=95)

    picture = read_image(path)

    assert picture.array.shape == (7, 11, 3)
    write_png(picture, tmp_path / "b.png")
    assert read_image(tmp_path / "b.png").array.shape == (7, 11, 3)


def test_other_colour_spaces_become_rgb(tmp_path):
    picture = read_image(saved(tmp_path / "a.jpg", Image.fromarray(RGB).convert("CMYK")))
    assert picture.array.shape == (11, 7, 3)
    grey_alpha = Image.merge("LA", [Image.fromarray(GREY)] * 2)
    np.testing.assert_array_equal(read_image(saved(tmp_path / "b.png", grey_alpha)).array, GREY)


def test_more_than_one_frame_is_refused(tmp_path):
    first = Image.fromarray(GREY)
    path = saved(tmp_path / "a.tif", first, save_all=True, append_images=[first])
    assert "2 frames" in refusal(path).message


def png_claiming(width, height):
    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("size", [(60_000, 60_000), (9_000, 10), (12_000, 12_000)])
def test_a_picture_bomb_is_refused_from_its_header(tmp_path, size):
    (tmp_path / "a.png").write_bytes(png_claiming(*size))
    assert refusal(tmp_path / "a.png").code == "size_limit"


def test_damaged_pictures_are_unreadable(tmp_path):
    (tmp_path / "a.png").write_bytes(png_claiming(50, 50))
    assert refusal(tmp_path / "a.png").code == "unreadable"
    (tmp_path / "b.jpg").write_bytes(b"\xff\xd8\xff\xe0 nothing more")
    assert refusal(tmp_path / "b.jpg").code == "unreadable"
    (tmp_path / "c.ppm.gz").write_bytes(gzip.compress(b"P6\n7 11\n255\n" + RGB.tobytes()[:-5]))
    assert refusal(tmp_path / "c.ppm.gz").code == "unreadable"
    (tmp_path / "d.ppm.gz").write_bytes(gzip.compress(bytes(5000)))
    assert refusal(tmp_path / "d.ppm.gz", limits=Limits(size_bytes=4999)).code == "size_limit"
    (tmp_path / "e.xyz").write_bytes(b"GIF89a")
    assert "known: .avi, .bmp, .dcm" in refusal(tmp_path / "e.xyz").message


def test_a_format_hidden_behind_another_name_is_refused(tmp_path):
    out = io.BytesIO()
    Image.fromarray(GREY).save(out, format="TGA")
    (tmp_path / "a.png").write_bytes(out.getvalue())
    assert refusal(tmp_path / "a.png").code == "unreadable"


def test_png_bytes_repeat_and_hold_8_and_16_bits(tmp_path):
    deep = RGB.astype(np.uint16) * 211 + 7
    for array in (GREY, RGB, GREY.astype(np.uint16) * 200, GREY > 9, deep):
        write_png(Picture(array), tmp_path / "a.png")
        write_png(array.copy("F"), tmp_path / "b.png")
        assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
        np.testing.assert_array_equal(read_image(tmp_path / "a.png").array, array)
    with pytest.raises(CaseError, match="expected uint8"):
        write_png(Picture(GREY.astype(np.float32)), tmp_path / "c.png")


def test_arrays_come_without_pickle_and_with_checked_sizes(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, images=RNG.integers(0, 9, (40, 5, 4)).astype(np.uint8), bad=np.array([{}, 1]))

    assert read_npz(path, "images").shape == (40, 5, 4)
    for key, code in (("bad", "dtype_refused"), ("none", "unreadable")):
        with pytest.raises(CaseError) as caught:
            read_npz(path, key)
        assert caught.value.code == code
    with pytest.raises(CaseError, match="it has"):
        read_npz(path, "image")
    with pytest.raises(CaseError) as caught:
        read_npz(path, "images", Limits(voxels=100))
    assert caught.value.code == "size_limit"
    whole = path.read_bytes()
    for content in (whole[:-60], whole[:6] + b"\x00\x08" + whole[8:30] + b"\xff" + whole[31:]):
        path.write_bytes(content)
        with pytest.raises(CaseError, match="unreadable"):
            read_npz(path, "images")


def test_an_npy_header_that_no_parser_understands_is_unreadable(tmp_path):
    np.save(tmp_path / "a.npy", GREY)
    content = bytearray((tmp_path / "a.npy").read_bytes())
    for at, byte in ((20, 0), (10, ord("(")), (30, ord("{"))):
        (tmp_path / "a.npy").write_bytes(bytes([*content[:at], byte, *content[at + 1 :]]))
        assert refusal(tmp_path / "a.npy").code == "unreadable"


def test_npy_pictures(tmp_path):
    np.save(tmp_path / "a.npy", RGB)
    np.testing.assert_array_equal(read_image(tmp_path / "a.npy").array, RGB)
    np.save(tmp_path / "b.npy", np.zeros((5, 6, 7)))
    assert refusal(tmp_path / "b.npy").code == "no_geometry"
    huge = np.lib.format.header_data_from_array_1_0(GREY) | {"shape": (8000, 8000, 800)}
    with (tmp_path / "c.npy").open("wb") as out:
        np.lib.format.write_array_header_1_0(out, huge)
    assert refusal(tmp_path / "c.npy").code == "size_limit"


@pytest.mark.parametrize("factor", [2, 3, 5])
@pytest.mark.parametrize("array", [GREY, RGB], ids=["grey", "rgb"])
def test_a_true_enlargement_is_undone_exactly_by_area(array, factor):
    big = np.repeat(np.repeat(array, factor, axis=0), factor, axis=1)

    small = resize_picture(Picture(big), array.shape[:2], "area")

    np.testing.assert_array_equal(small.array, array)
    nearest = resize_picture(Picture(big), array.shape[:2], "nearest")
    np.testing.assert_array_equal(nearest.array, array)


@pytest.mark.parametrize("kind", ["linear", "area", "nearest"])
@pytest.mark.parametrize("shape", [(30, 41), (67, 130), (13, 9)])
def test_a_ramp_keeps_half_pixel_places(kind, shape):
    rows = (np.arange(45) + 0.5)[:, None] / 45
    columns = (np.arange(60) + 0.5) / 60
    ramp = Picture((rows + 10 * columns).astype(np.float32), bits=32)

    out = resize_picture(ramp, shape, kind).array

    expected = (np.arange(shape[0]) + 0.5)[:, None] / shape[0]
    expected = expected + 10 * (np.arange(shape[1]) + 0.5) / shape[1]
    step = 0 if kind != "nearest" else 10 / 60
    inner = (slice(2, -2), slice(2, -2))
    tolerance = {"linear": 1e-4, "area": 10 / 60 / 3, "nearest": step / 2 + 1 / 45}[kind]
    np.testing.assert_allclose(out[inner], expected[inner], atol=tolerance)


@settings(max_examples=30, deadline=None)
@given(
    st.tuples(st.integers(1, 20), st.integers(1, 20)),
    st.tuples(st.integers(1, 25), st.integers(1, 25)),
    st.sampled_from(["linear", "area", "nearest"]),
)
def test_resizing_keeps_constants_and_the_range(old, new, kind):
    array = np.random.default_rng(sum(old)).integers(3, 200, old).astype(np.uint8)

    out = resize_picture(Picture(array), new, kind).array
    flat = resize_picture(Picture(np.full(old, 77, np.uint8)), new, kind).array

    assert out.shape == new
    assert array.min() <= out.min() <= out.max() <= array.max()
    assert (flat == 77).all()


def test_area_keeps_the_mean():
    picture = Picture(RNG.normal(size=(37, 53)).astype(np.float32), bits=32)
    small = resize_picture(picture, (11, 17), "area")
    assert abs(small.array.mean() - picture.array.mean()) < 1e-5


def test_resizing_refuses_what_it_does_not_know():
    with pytest.raises(ValueError, match="expected one of"):
        resize_picture(Picture(GREY), (3, 3), "cubic")
    with pytest.raises(ValueError, match="sizes >= 1"):
        resize_picture(Picture(GREY), (0, 3), "area")
