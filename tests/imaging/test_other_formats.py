"""FreeSurfer, MINC, videos and deep pictures, against files that other libraries write."""

from __future__ import annotations

import gzip
import struct

import av
import h5py
import nibabel as nib
import numpy as np
import pytest
from nibabel.externals.netcdf import netcdf_file
from PIL import Image

from fusion.imaging.errors import CaseError
from fusion.imaging.io import Limits, read_frame, read_frames, read_image, video_facts, write_png
from fusion.imaging.volume import Picture
from tests.imaging.make import placed, turned

GRID = placed((7, 6, 5), (0.9, 1.3, 2.5), "LPI", rotation=turned(20))
VALUES = np.random.default_rng(2).integers(0, 900, GRID.shape).astype(np.int16)


def refusal(path, **options):
    with pytest.raises(CaseError) as caught:
        read_image(path, **options)
    return caught.value


def mgh(path, array=VALUES, edit=None):
    nib.save(nib.MGHImage(array, GRID.affine), path)
    if edit:
        content = bytearray(gzip.decompress(path.read_bytes()))
        edit(content)
        path.write_bytes(gzip.compress(bytes(content)))
    return path


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float32])
@pytest.mark.parametrize("name", ["a.mgz", "a.mgh"])
def test_freesurfer_volumes_are_where_nibabel_has_them(tmp_path, name, dtype):
    volume = read_image(mgh(tmp_path / name, (VALUES % 200).astype(dtype)))
    np.testing.assert_array_equal(volume.array, VALUES % 200)
    np.testing.assert_allclose(volume.grid.affine, GRID.affine, atol=1e-4)
    assert (volume.array.dtype, volume.geometry) == (dtype, "mgh")
    assert volume.array.dtype.isnative


def test_frames_and_faults_of_freesurfer_volumes(tmp_path):
    four = np.stack([VALUES, VALUES + 1], axis=-1)
    path = mgh(tmp_path / "a.mgz", four)
    np.testing.assert_array_equal(read_image(path, channel=1).array, VALUES + 1)
    assert "2 images along the 4th axis" in refusal(path).message

    def give(offset, value, form=">i"):
        return lambda content: struct.pack_into(form, content, offset, value)

    assert refusal(mgh(path, edit=give(28, 0, ">h"))).code == "no_geometry"
    assert refusal(mgh(path, edit=give(0, 2))).code == "unreadable"
    assert refusal(mgh(path, edit=give(20, 7))).code == "dtype_refused"
    assert refusal(mgh(path, edit=give(4, 8000))).code == "unreadable"
    assert refusal(mgh(path, edit=give(4, 2**31 - 1))).code == "size_limit"
    assert refusal(mgh(path, edit=give(4, -1))).code == "unreadable"


AXES = ("zspace", "yspace", "xspace")
STEPS, STARTS = (2.5, -1.3, 0.9), (7.0, -30.0, 12.0)
MINC_AFFINE = np.array([[0, 0, 0.9, 12], [0, -1.3, 0, -30], [2.5, 0, 0, 7], [0, 0, 0, 1]])
COSINES = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))


def minc1(path):
    file = netcdf_file(str(path), "w")
    for name, size, step, start, cosines in zip(
        AXES, GRID.shape, STEPS, STARTS, COSINES, strict=True
    ):
        file.createDimension(name, size)
        axis = file.createVariable(name, "i", ())
        axis.spacing, axis.step, axis.start = b"regular__", step, start
        axis.direction_cosines = np.array(cosines)
    image = file.createVariable("image", "h", AXES)
    image.signtype, image.valid_range = b"signed__", np.array([0.0, 1000.0])
    image[:] = VALUES
    for name, scale in (("image-min", 0.0), ("image-max", 500.0)):
        file.createVariable(name, "d", (AXES[0],))[:] = np.full(GRID.shape[0], scale)
    file.close()
    return path


def minc2(path, **options):
    with h5py.File(path, "w") as file:
        dimensions = file.create_group("minc-2.0/dimensions")
        for name, size, step, start, cosines in zip(
            AXES, GRID.shape, STEPS, STARTS, COSINES, strict=True
        ):
            axis = dimensions.create_dataset(name, (), "i4")
            axis.attrs["spacing"], axis.attrs["length"] = np.bytes_("regular__"), size
            axis.attrs["step"], axis.attrs["start"] = step, start
            axis.attrs["direction_cosines"] = np.array(cosines)
        place = file.create_group("minc-2.0/image/0")
        image = place.create_dataset("image", data=VALUES, **options)
        image.attrs["dimorder"] = np.bytes_(",".join(AXES))
        image.attrs["valid_range"] = np.array([0.0, 1000.0])
        place["image-min"], place["image-max"] = np.zeros(7), np.full(7, 500.0)
        for name in ("image-min", "image-max"):
            place[name].attrs["dimorder"] = np.bytes_(AXES[0])
    return path


@pytest.mark.parametrize("make", [minc1, minc2])
def test_minc_volumes_have_their_real_values_and_place(tmp_path, make):
    path = make(tmp_path / "a.mnc")
    volume, other = read_image(path), nib.load(path)
    np.testing.assert_allclose(volume.array, VALUES / 2, rtol=1e-6)
    np.testing.assert_allclose(volume.array, other.get_fdata(), rtol=1e-6)
    np.testing.assert_allclose(volume.grid.affine, MINC_AFFINE)
    assert volume.geometry == "minc"
    assert refusal(path, limits=Limits(voxels=100)).code == "size_limit"


def test_minc_that_is_damaged_packed_or_leads_elsewhere(tmp_path):
    one = minc1(tmp_path / "a.mnc")
    (tmp_path / "b.mnc.gz").write_bytes(gzip.compress(one.read_bytes()))
    np.testing.assert_allclose(read_image(tmp_path / "b.mnc.gz").array, VALUES / 2, rtol=1e-6)
    small = Limits(size_bytes=300)
    assert refusal(tmp_path / "b.mnc.gz", limits=small).code == "size_limit"
    two = minc2(tmp_path / "c.mnc")
    with h5py.File(two, "a") as file:
        del file["minc-2.0/image/0/image-max"]
        file["minc-2.0/image/0/image-max"] = h5py.ExternalLink("/etc/hostname", "x")
    assert "is a link" in refusal(two).message
    for content in (b"", b"CDF\x01", b"\x89HDF\r\n\x1a\n", one.read_bytes()[:300]):
        one.write_bytes(content)
        assert refusal(one).code == "unreadable"


FRAMES = [np.full((32, 48, 3), value, np.uint8) for value in (20, 90, 160, 230)]


def video(path, codec, pixels="yuv420p", rate=10):
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = 48, 32, pixels
        for array in FRAMES:
            frame = av.VideoFrame.from_ndarray(array, format="rgb24")
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def gif(path):
    pages = [Image.fromarray(array) for array in FRAMES]
    pages[0].save(path, save_all=True, append_images=pages[1:], duration=100)
    return path


MAKERS = [
    lambda folder: video(folder / "a.mp4", "mpeg4"),
    lambda folder: video(folder / "a.mov", "mpeg4"),
    lambda folder: video(folder / "a.avi", "mjpeg", "yuvj420p"),
    lambda folder: video(folder / "a.mkv", "mpeg4"),
    lambda folder: gif(folder / "a.gif"),
]
NAMES = ["mp4", "mov", "avi", "mkv", "gif"]


@pytest.mark.parametrize("make", MAKERS, ids=NAMES)
def test_frames_of_a_video_are_pictures_at_their_times(tmp_path, make):
    path = make(tmp_path)
    facts = video_facts(path)
    assert (facts.frames, facts.size) == (4, (32, 48))
    assert facts.fps == pytest.approx(10)
    np.testing.assert_allclose(facts.timestamps, (0, 0.1, 0.2, 0.3), atol=0.011)
    for index, expected in enumerate(FRAMES):
        picture = read_frame(path, index)
        assert picture.array.shape == (32, 48, 3)
        assert np.abs(picture.array.astype(int) - expected).max() <= 6
        same = read_image(path, channel=index).array  # of a grey GIF, grey
        same = same if same.ndim == 3 else same[..., None]
        np.testing.assert_array_equal(picture.array, np.broadcast_to(same, (32, 48, 3)))
    assert len(list(read_frames(path))) == 4
    assert "4 frames" in refusal(path).message
    assert "no channel 4; there are 4 frames" in refusal(path, channel=4).message


def test_a_gif_that_does_not_move_is_a_picture(tmp_path):
    Image.fromarray(FRAMES[1]).save(tmp_path / "a.gif")
    assert int(read_image(tmp_path / "a.gif").array.mean()) == 90


def test_videos_are_bounded_and_playlists_are_none(tmp_path):
    path = gif(tmp_path / "a.gif")
    assert refusal(path, channel=0, limits=Limits(dimension=40)).code == "size_limit"
    with pytest.raises(CaseError, match="size_limit"):
        video_facts(path, Limits(frames=3))
    (tmp_path / "secret.mp4").write_bytes(path.read_bytes())
    for name, text in (
        ("b.mp4", "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.mp4\n"),
        ("c.avi", "ffconcat version 1.0\nfile secret.mp4\n"),
        ("d.mp4", ""),
    ):
        (tmp_path / name).write_text(text)
        assert "not a video" in refusal(tmp_path / name, channel=0).message
    path.write_bytes(path.read_bytes()[:30])
    assert refusal(path, channel=0).code == "unreadable"


DEEP = np.random.default_rng(1).integers(0, 65_535, (9, 13, 3)).astype(np.uint16)


def tiff(path, bits, samples, payload, orientation=1):
    """A plain little-endian TIFF by hand; 12 bits and 16-bit colour are beyond Pillow's writer."""
    height, width = 9, 13
    extra = [bits] * samples
    inline = bits if samples == 1 else None
    entries = [
        (256, 3, 1, width), (257, 3, 1, height), (258, 3, samples, inline), (259, 3, 1, 1),
        (262, 3, 1, 1 if samples == 1 else 2), (273, 4, 1, None), (274, 3, 1, orientation),
        (277, 3, 1, samples), (278, 3, 1, height), (279, 4, 1, len(payload)), (284, 3, 1, 1),
    ]  # fmt: skip
    start = 8 + 2 + 12 * len(entries) + 4
    values = struct.pack(f"<{samples}H", *extra)
    rows = []
    for tag, kind, count, value in entries:
        place = start + len(values) if tag == 273 else start
        rows.append(struct.pack("<HHII", tag, kind, count, place if value is None else value))
    head = struct.pack("<2sHIH", b"II", 42, 8, len(entries))
    path.write_bytes(head + b"".join(rows) + bytes(4) + values + payload)
    return path


def test_sixteen_bits_a_channel_stay_sixteen(tmp_path):
    write_png(Picture(DEEP, 16), tmp_path / "a.png")
    for path in (tmp_path / "a.png", tiff(tmp_path / "a.tif", 16, 3, DEEP.tobytes())):
        picture = read_image(path)
        np.testing.assert_array_equal(picture.array, DEEP)
        assert (picture.bits, picture.array.dtype) == (16, np.uint16)


def test_deep_pictures_are_turned_as_pillow_turns_shallow_ones(tmp_path):
    shallow = (DEEP >> 8).astype(np.uint8)
    for orientation in range(1, 9):
        path = tiff(tmp_path / "a.tif", 16, 3, DEEP.tobytes(), orientation)
        plain = tiff(tmp_path / "b.tif", 8, 3, shallow.tobytes(), orientation)
        expected = read_image(plain).array
        np.testing.assert_array_equal((read_image(path).array >> 8).astype(np.uint8), expected)


def test_twelve_bits_are_read_as_they_are(tmp_path):
    grey = (DEEP[..., 0] >> 4).astype(np.uint16)
    rows = []
    for row in grey:
        bits = "".join(f"{value:012b}" for value in row)
        bits += "0" * (-len(bits) % 8)
        rows.append(int(bits, 2).to_bytes(len(bits) // 8, "big"))
    picture = read_image(tiff(tmp_path / "a.tif", 12, 1, b"".join(rows)))
    np.testing.assert_array_equal(picture.array, grey)
