"""NRRD and MetaImage: placed as their headers say, refused where those lie or say nothing."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fusion.imaging.errors import CaseError
from fusion.imaging.io import Limits, image_parts, read_image, write_nifti
from fusion.imaging.volume import Volume
from tests.imaging.make import placed

SHAPE = (4, 3, 2)
VALUES = np.arange(24, dtype=np.int16).reshape(SHAPE, order="F")
RAW = VALUES.tobytes(order="F")
#: Left, posterior and superior grow along the axes: RAS is its mirror image in x and y.
AFFINE = np.array([[-0.5, 0, 0, -10], [0, -0.6, 0, -20], [0, 0, 2.5, 30], [0, 0, 0, 1.0]])
NRRD = (
    "NRRD0004\n# by hand\ntype: short\ndimension: 3\nspace: left-posterior-superior\n"
    "sizes: 4 3 2\nspace directions: (0.5,0,0) (0,0.6,0) (0,0,2.5)\nkinds: domain domain domain\n"
    "endian: little\nencoding: {encoding}\nspace origin: (10,20,30)\n{more}\n"
)
MHA = (
    "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\n"
    "CompressedData = False\nTransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = 10 20 30\n"
    "ElementSpacing = 0.5 0.6 2.5\nDimSize = {sizes}\nElementType = MET_SHORT\n"
    "ElementDataFile = {data}\n"
)


def written(path, header, payload=RAW):
    path.write_bytes(header.encode() + payload)
    return path


def nrrd(path, payload=RAW, encoding="raw", more=""):
    return written(path, NRRD.format(encoding=encoding, more=more), payload)


def mha(path, payload=RAW, data="LOCAL", sizes="4 3 2"):
    return written(path, MHA.format(sizes=sizes, data=data), payload)


def refused(path, **options):
    with pytest.raises(CaseError) as caught:
        read_image(path, **options)
    assert path.name in caught.value.message
    return caught.value


@pytest.mark.parametrize("make", [nrrd, mha])
def test_voxels_and_place_are_those_of_the_header(tmp_path, make):
    volume = read_image(make(tmp_path / f"a.{make.__name__}"))

    assert isinstance(volume, Volume)
    np.testing.assert_array_equal(volume.array, VALUES)
    np.testing.assert_allclose(volume.grid.affine, AFFINE, atol=1e-9)
    assert (volume.geometry, volume.grid.axcodes) == ("itk", "LPS")


def test_compressed_and_two_part_images_are_the_same_image(tmp_path):
    (tmp_path / "a.raw").write_bytes(RAW)
    (tmp_path / "b.raw.gz").write_bytes(gzip.compress(RAW))
    paths = [
        nrrd(tmp_path / "a.nrrd", gzip.compress(RAW), "gzip"),
        nrrd(tmp_path / "b.nhdr", b"", "raw", "data file: a.raw"),
        nrrd(tmp_path / "c.nhdr", b"", "gzip", "data file: b.raw.gz"),
        mha(tmp_path / "d.mhd", b"", "a.raw"),
    ]

    for path in paths:
        volume = read_image(path)
        np.testing.assert_array_equal(volume.array, VALUES, err_msg=path.name)
        np.testing.assert_allclose(volume.grid.affine, AFFINE, atol=1e-9)
    assert image_parts(paths[0]) == (paths[0],)
    assert image_parts(paths[3]) == (paths[3], tmp_path / "a.raw")


def test_an_oblique_image_lies_where_nifti_has_it(tmp_path):
    turn = sitk.Euler3DTransform((0, 0, 0), 0.3, -0.2, 0.5)
    image = sitk.GetImageFromArray(np.ascontiguousarray(VALUES.T))
    image.SetSpacing((0.5, 0.6, 2.5))
    image.SetOrigin((10, 20, 30))
    image.SetDirection(turn.GetMatrix())
    for name in ("a.nrrd", "a.mha", "a.nii.gz"):
        sitk.WriteImage(image, str(tmp_path / name))
    expected = read_image(tmp_path / "a.nii.gz").grid.affine

    for name in ("a.nrrd", "a.mha"):
        np.testing.assert_allclose(read_image(tmp_path / name).grid.affine, expected, atol=1e-4)


def test_a_header_without_a_place_in_the_body_is_not_guessed(tmp_path):
    text = NRRD.format(encoding="raw", more="")
    bare = "\n".join(
        line for line in text.split("\n") if not line.startswith(("space", "kinds"))
    ).replace("endian", "spacings: 0.5 0.6 2.5\nendian")
    spaced = MHA.format(sizes="4 3 2", data="LOCAL").replace(
        "TransformMatrix = 1 0 0 0 1 0 0 0 1\n", ""
    )

    for path in (written(tmp_path / "a.nrrd", bare), written(tmp_path / "a.mha", spaced)):
        volume = read_image(path)
        assert volume.geometry == "none"
        np.testing.assert_allclose(volume.grid.spacing_mm, (0.5, 0.6, 2.5))


def test_voxels_that_are_not_all_there_refuse_the_case(tmp_path):
    assert refused(nrrd(tmp_path / "a.nrrd", RAW[:-2])).code == "unreadable"
    assert "46 bytes of voxels, expected 48" in refused(mha(tmp_path / "a.mha", RAW[:-2])).message
    cut = gzip.compress(RAW)[:-12]
    assert refused(nrrd(tmp_path / "b.nrrd", cut, "gzip")).code == "unreadable"


@pytest.mark.parametrize("data", ["/etc/passwd", "../a.raw", "LIST", "a%03d.raw 1 2 1", "none.raw"])
def test_a_header_reaches_no_file_outside_its_folder(tmp_path, data):
    (tmp_path / "a.raw").write_bytes(RAW)
    folder = tmp_path / "in"
    folder.mkdir()

    error = refused(mha(folder / "a.mhd", b"", data))
    assert error.code == "unreadable"
    assert data in error.message
    assert refused(nrrd(folder / "a.nhdr", b"", "raw", f"data file: {data}")).code == "unreadable"
    assert image_parts(folder / "a.mhd") == (folder / "a.mhd",)


def test_a_link_beside_the_header_is_not_followed(tmp_path):
    (tmp_path / "secret").write_bytes(RAW)
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.raw").symlink_to(tmp_path / "secret")

    assert "is not there" in refused(mha(folder / "a.mhd", b"", "a.raw")).message


def test_sizes_are_refused_before_memory_is_asked_for(tmp_path):
    huge = mha(tmp_path / "a.mha", RAW, sizes="8000 8000 8000")

    assert refused(huge).code == "size_limit"
    assert refused(nrrd(tmp_path / "a.nrrd"), limits=Limits(dimension=3)).code == "size_limit"


def test_several_values_a_voxel_and_several_volumes_are_named(tmp_path):
    colours = sitk.GetImageFromArray(np.zeros((2, 3, 4, 3), np.uint8), isVector=True)
    sitk.WriteImage(colours, str(tmp_path / "a.mha"))
    series = sitk.GetImageFromArray(np.zeros((5, 2, 3, 4), np.uint8), isVector=False)
    sitk.WriteImage(series, str(tmp_path / "b.nrrd"))

    assert "3 images along the 4th axis" in refused(tmp_path / "a.mha").message
    assert "5 images along the 4th axis" in refused(tmp_path / "b.nrrd").message


@pytest.mark.parametrize(
    "content", [b"", b"NRRD0004\n", b"NRRD0004\ntype: short\n\n", b"x" * 400_000, b"\x00" * 64]
)
def test_what_is_no_image_is_unreadable(tmp_path, content):
    for name in ("a.nrrd", "a.nhdr", "a.mha", "a.mhd"):
        (tmp_path / name).write_bytes(content)
        assert refused(tmp_path / name).code == "unreadable"


def test_a_nifti_made_from_it_is_the_same_image(tmp_path):
    volume = read_image(nrrd(tmp_path / "a.nrrd"))
    write_nifti(volume, tmp_path / "a.nii.gz")
    back = read_image(tmp_path / "a.nii.gz")

    np.testing.assert_array_equal(back.array, VALUES)
    assert back.grid.same_as(placed(SHAPE, (0.5, 0.6, 2.5), "LPS", (-10, -20, 30)))


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    kind=st.sampled_from([".nrrd", ".nhdr", ".mha", ".mhd"]),
    place=st.integers(0, 330),
    bytes_=st.binary(min_size=1, max_size=6),
    keep=st.booleans(),
)
def test_a_damaged_header_gives_an_image_or_a_clear_refusal(tmp_path, kind, place, bytes_, keep):
    path = tmp_path / f"a{kind}"
    whole = (nrrd(path) if kind.startswith(".n") else mha(path)).read_bytes()
    path.write_bytes(whole[:place] + bytes_ + whole[place + (0 if keep else len(bytes_)) :])

    try:
        found = read_image(path, Limits(dimension=64, voxels=10_000)).array.size
    except CaseError as error:
        found = error.code

    refusals = {"unreadable", "size_limit", "no_geometry", "dtype_refused"}
    assert found in refusals or found <= 10_000


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("NDims = 3", "NDims = -1"),  # crashed ITK
        ("NDims = 3", "NDims = 1e-300"),
        ("NDims = 3", "NDims = 3\nNDims = -1"),
        ("BinaryData = True", "BinaryData = Tr5e"),  # ITK read text without an end
        ("ElementDataFile = LOCAL", "ElementDataFile = " + "x" * 5000),
        ("ElementDataFile = LOCAL", "ElementDataFile = a\0b"),
    ],
)
def test_headers_that_brought_itk_down_are_unreadable(tmp_path, old, new):
    text = MHA.format(sizes="4 3 2", data="LOCAL").replace(old, new)
    assert refused(written(tmp_path / "a.mha", text)).code == "unreadable"


@pytest.mark.parametrize(
    "field",
    ["kinds: " + "domain " * 160, "f" * 1100 + ": 3", "units: " + "a" * 600 + "\r" + "b" * 600],
)
def test_a_field_of_which_itk_dies_is_unreadable(tmp_path, field):
    text = NRRD.format(encoding="raw", more="").replace("kinds: domain domain domain", field)
    path = written(tmp_path / "a.nrrd", text)

    assert "expected 900 at most" in refused(path).message


def test_free_text_of_a_header_may_be_long(tmp_path):
    long = f"content: {'a' * 2000}\nk:={'b: ' * 2000}\n# {'c' * 2000}\n"

    assert (read_image(nrrd(tmp_path / "a.nrrd", more=long)).array == VALUES).all()


@pytest.mark.parametrize("number", ["1e308", "inf", "nan", "-1e30"])
@pytest.mark.parametrize("old", ["0 0 1\nOffset", "= 10 20", "ElementSpacing = 0.5"])
def test_a_place_that_is_no_length_does_not_hang(tmp_path, old, number):
    new = old.replace("0 0 1", f"0 {number} 1").replace("= 10", f"= {number}")
    new = new.replace("= 0.5", f"= {number}")
    text = MHA.format(sizes="4 3 2", data="LOCAL").replace(old, new)
    assert refused(written(tmp_path / "a.mha", text)).code in {"no_geometry", "unreadable"}


def test_a_dimension_that_its_sizes_do_not_have_is_unreadable(tmp_path):
    for stated in ("16", "0", "-3", "4", "x"):
        text = NRRD.format(encoding="raw", more="").replace("dimension: 3", f"dimension: {stated}")
        assert refused(written(tmp_path / "a.nrrd", text)).code == "unreadable"
