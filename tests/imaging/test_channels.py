"""Files that hold several images of one size: one is taken by its index, never by guess."""

from __future__ import annotations

import gzip

import h5py
import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from fusion.imaging.errors import CaseError
from fusion.imaging.io import Limits, h5_shape, image_parts, read_h5, read_image
from tests.imaging.make import placed

GRID = placed((7, 6, 5), (0.9, 1.3, 2.5), "LPI")
FOUR = np.random.default_rng(3).integers(0, 500, (*GRID.shape, 4)).astype(np.int16)


def refusal(path, **options):
    with pytest.raises(CaseError) as caught:
        read_image(path, **options)
    return caught.value


def nifti(path):
    nib.save(nib.Nifti1Image(FOUR, GRID.affine), path)
    return path


def itk(path, *, vector):
    axes = (2, 1, 0, 3) if vector else (3, 2, 1, 0)
    image = sitk.GetImageFromArray(FOUR.transpose(axes).copy(), isVector=vector)
    image.SetSpacing((0.9, 1.3, 2.5) if vector else (0.9, 1.3, 2.5, 1))
    sitk.WriteImage(image, str(path))
    return path


@pytest.mark.parametrize("channel", [0, 2, 3])
@pytest.mark.parametrize(
    "make",
    [
        lambda folder: nifti(folder / "a.nii"),
        lambda folder: nifti(folder / "a.nii.gz"),
        lambda folder: itk(folder / "a.nrrd", vector=True),
        lambda folder: itk(folder / "a.nrrd", vector=False),
        lambda folder: itk(folder / "a.mha", vector=True),
    ],
    ids=["nii", "nii.gz", "nrrd vector", "nrrd 4D", "mha vector"],
)
def test_one_channel_of_a_4d_image_is_a_volume(tmp_path, make, channel):
    path = make(tmp_path)

    volume = read_image(path, channel=channel)

    np.testing.assert_array_equal(volume.array, FOUR[..., channel])
    np.testing.assert_allclose(volume.grid.spacing_mm, (0.9, 1.3, 2.5), atol=1e-6)
    assert "4 images along the 4th axis" in refusal(path).message
    for beyond in (4, -1):
        assert f"no channel {beyond}; there are 4" in refusal(path, channel=beyond).message


def test_channel_zero_is_the_only_one_of_a_3d_image(tmp_path):
    nib.save(nib.Nifti1Image(FOUR[..., 0], GRID.affine), tmp_path / "a.nii")
    np.testing.assert_array_equal(read_image(tmp_path / "a.nii", channel=0).array, FOUR[..., 0])
    assert "no channel 1" in refusal(tmp_path / "a.nii", channel=1).message


def test_a_4d_file_is_checked_to_its_end(tmp_path):
    content = nifti(tmp_path / "a.nii").read_bytes()
    (tmp_path / "short.nii.gz").write_bytes(gzip.compress(content[:-1]))
    (tmp_path / "long.nii.gz").write_bytes(gzip.compress(content + b"\0"))
    assert "before its voxels do" in refusal(tmp_path / "short.nii.gz", channel=1).message
    assert "more than the" in refusal(tmp_path / "long.nii.gz", channel=1).message
    assert refusal(tmp_path / "a.nii", channel=1, limits=Limits(frames=3)).code == "size_limit"
    assert (
        refusal(tmp_path / "a.nii", channel=1, limits=Limits(file_bytes=1200)).code == "size_limit"
    )


def test_a_page_of_a_tiff_is_a_picture(tmp_path):
    pages = [Image.fromarray(FOUR[..., 0, n].astype(np.uint16)) for n in range(4)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])

    picture = read_image(tmp_path / "a.tif", channel=2)

    np.testing.assert_array_equal(picture.array, FOUR[..., 0, 2])
    assert "4 frames" in refusal(tmp_path / "a.tif").message
    assert "no channel 4" in refusal(tmp_path / "a.tif", channel=4).message


def test_a_moving_webp_names_its_frames_and_a_still_one_is_a_picture(tmp_path):
    frames = [Image.fromarray(np.full((8, 9, 3), v, np.uint8)) for v in (10, 200, 90)]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], lossless=True)
    frames[1].save(tmp_path / "b.webp", lossless=True)

    assert "3 frames" in refusal(tmp_path / "a.webp").message
    assert int(read_image(tmp_path / "a.webp", channel=2).array.mean()) == 90
    assert int(read_image(tmp_path / "b.webp").array.mean()) == 200


@pytest.fixture
def h5(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        images = np.arange(6 * 5 * 4 * 3, dtype=np.uint8).reshape(6, 5, 4, 3)
        file.create_dataset("set/x", data=images, compression="gzip", chunks=(1, 5, 4, 3))
        file["text"], file["bad"] = "words", np.array([1.0, np.nan])
        file["away"] = h5py.ExternalLink("/etc/hostname", "/x")
        file["soft"] = h5py.SoftLink("/set/x")
        layout = h5py.VirtualLayout((6, 5), "u1")
        layout[:] = h5py.VirtualSource("other.h5", "y", shape=(6, 5))
        file.create_virtual_dataset("virtual", layout)
        (tmp_path / "raw").write_bytes(bytes(8))
        file.create_dataset("outside", (8,), "u1", external=[(str(tmp_path / "raw"), 0, 8)])
    return path


def test_arrays_of_h5_files_are_read_whole_or_by_row(h5):
    whole = read_h5(h5, "set/x")
    assert h5_shape(h5, "set/x") == whole.shape == (6, 5, 4, 3)
    np.testing.assert_array_equal(read_h5(h5, "/set/x", row=4), whole[4])
    with pytest.raises(CaseError, match="no row 6; it has 6"):
        read_h5(h5, "set/x", row=6)
    with pytest.raises(CaseError) as caught:
        read_h5(h5, "set/x", Limits(voxels=300))
    assert caught.value.code == "size_limit"
    assert read_h5(h5, "set/x", Limits(voxels=60), row=0).shape == (5, 4, 3)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("none", "beside it are"),
        ("set", "no array"),
        ("set/x/y", "no array"),
        ("text", "expected real numbers"),
        ("bad", "NaN"),
        ("away", "is a link"),
        ("soft", "is a link"),
        ("virtual", "lies in other files"),
        ("outside", "lies in other files"),
    ],
)
def test_an_h5_file_cannot_lead_elsewhere(h5, key, words):
    with pytest.raises(CaseError, match=words):
        read_h5(h5, key)


def test_a_damaged_h5_file_is_unreadable(h5):
    for content in (b"", b"no", h5.read_bytes()[:900]):
        h5.write_bytes(content)
        with pytest.raises(CaseError, match="unreadable"):
            read_h5(h5, "set/x")


@pytest.mark.timeout(120)
def test_chunks_of_other_axes_than_the_array_are_refused(tmp_path):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=np.zeros((5, 9, 7), np.int16), chunks=(1, 9, 7))
    space = b"\1%b\1\0\0\0\0\0\5"  # version, number of axes, flags, reserved; first size
    written = path.read_bytes()
    assert written.count(space % b"\3") == 1
    path.write_bytes(written.replace(space % b"\3", space % b"\1"))

    with pytest.raises(CaseError, match=r"chunks of \(1, 9, 7\) in an array of \(5,\)"):
        read_h5(path, "x")


@pytest.mark.parametrize("image", [nib.Nifti1Pair, nib.Nifti2Pair])
@pytest.mark.parametrize("end", ["", ".gz"])
def test_header_and_voxels_in_two_files_are_one_image(tmp_path, image, end):
    name = tmp_path / f"a.img{end}"
    nib.save(image(FOUR, GRID.affine), name)
    header = tmp_path / f"a.hdr{end}"

    for path in (name, header):
        volume = read_image(path, channel=1)
        np.testing.assert_array_equal(volume.array, FOUR[..., 1])
        np.testing.assert_allclose(volume.grid.affine, GRID.affine, atol=1e-6)
        assert image_parts(path) == (header, name)
    name.unlink()
    assert "no a.img" in refusal(header, channel=1).message
    assert image_parts(header) == (header,)


def test_analyze_says_nothing_about_place(tmp_path):
    nib.save(nib.AnalyzeImage(FOUR[..., 0], np.diag([2, 2, 3, 1])), tmp_path / "a.img")
    assert refusal(tmp_path / "a.hdr").code == "no_geometry"
    nib.save(nib.AnalyzeImage(FOUR[..., :1, 0], np.diag([2, 2, 3, 1])), tmp_path / "b.img")
    flat = read_image(tmp_path / "b.hdr")
    assert (flat.geometry, flat.grid.shape) == ("none", (7, 6, 1))
    np.testing.assert_array_equal(flat.array, FOUR[..., :1, 0])
