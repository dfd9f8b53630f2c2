"""NIfTI: what honest files say is read, what hostile ones claim is refused before it costs."""

from __future__ import annotations

import gzip
import resource

import nibabel as nib
import numpy as np
import pytest

from fusion.imaging.errors import CaseError
from fusion.imaging.io import LIMITS, Limits, label_names, read_image, write_nifti
from fusion.imaging.volume import Grid, Volume
from tests.imaging.make import noise, placed, turned

GRID = placed((7, 6, 5), (0.9, 1.3, 2.5), "LPI")


def saved(path, array, affine=GRID.affine, *, sform=1, qform=0, edit=None):
    image = nib.Nifti1Image(array, affine)
    image.set_sform(affine if sform else None, sform)
    image.set_qform(affine if qform else None, qform)
    if edit:
        edit(image.header)
    nib.save(image, path)
    return path


def refusal(path, **options):
    with pytest.raises(CaseError) as caught:
        read_image(path, **options)
    return caught.value


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize(
    "dtype", [np.uint8, np.int8, np.int16, np.uint16, np.int32, np.uint32, np.float32, np.float64]
)
def test_what_nibabel_writes_is_read_back(tmp_path, name, dtype):
    values = np.random.default_rng(0).integers(0, 100, GRID.shape).astype(dtype)

    volume = read_image(saved(tmp_path / name, values))

    assert volume.array.dtype == dtype
    np.testing.assert_array_equal(volume.array, values)
    np.testing.assert_allclose(volume.grid.affine, GRID.affine, atol=1e-6)
    assert (volume.geometry, volume.grid.axcodes) == ("sform", "LPI")


def test_big_endian_and_nifti2_are_read(tmp_path):
    values = np.arange(210, dtype=np.int16).reshape(GRID.shape)
    big = nib.Nifti1Image(values.astype(">i2"), GRID.affine, nib.Nifti1Header(endianness=">"))
    two = nib.Nifti2Image(values, GRID.affine)

    for image, name in ((big, "big.nii.gz"), (two, "two.nii.gz")):
        nib.save(image, tmp_path / name)
        volume = read_image(tmp_path / name)
        np.testing.assert_array_equal(volume.array, values)
        assert volume.array.dtype.isnative


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_writing_repeats_to_the_byte_and_names_nothing(tmp_path, name):
    volume = noise(GRID)
    (tmp_path / "x").mkdir()
    write_nifti(volume, tmp_path / name)
    write_nifti(volume.with_array(volume.array.copy("C")), tmp_path / "x" / name)

    content = (tmp_path / name).read_bytes()
    assert content == (tmp_path / "x" / name).read_bytes()
    assert b"a.nii" not in content
    header = nib.load(tmp_path / name).header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 1)
    assert all(bytes(header[k]).strip(b"\0") == b"" for k in ("descrip", "aux_file", "db_name"))
    assert sorted(p.name for p in tmp_path.iterdir()) == [name, "x"]


@pytest.mark.parametrize("rotation", [None, turned(33) @ turned(12, 1)])
@pytest.mark.parametrize("codes", ["RAS", "LPI", "PSR", "ILA"])
def test_a_written_volume_is_the_same_for_us_and_for_nibabel(tmp_path, codes, rotation):
    volume = noise(placed((7, 6, 5), (0.9, 1.3, 2.5), codes, rotation=rotation))
    write_nifti(volume, tmp_path / "a.nii.gz")

    again, other = read_image(tmp_path / "a.nii.gz"), nib.load(tmp_path / "a.nii.gz")

    np.testing.assert_array_equal(again.array, volume.array)
    np.testing.assert_array_equal(np.asanyarray(other.dataobj), volume.array)
    for affine in (again.grid.affine, other.affine, other.get_qform()):
        np.testing.assert_allclose(affine, volume.grid.affine, atol=1e-4)


def test_types_that_nifti_lacks_are_stored_in_the_next_one(tmp_path):
    for dtype, stored in ((bool, np.uint8), (np.int64, np.int32), (np.float16, np.float32)):
        write_nifti(Volume(np.ones(GRID.shape, dtype), GRID), tmp_path / "a.nii.gz")
        assert read_image(tmp_path / "a.nii.gz").array.dtype == stored


@pytest.mark.parametrize(
    ("slope", "intercept", "dtype"),
    [(1, -1024, np.int16), (2, 0, np.int16), (0.5, 3, np.float32), (0, 9, None), (np.nan, 9, None)],
)
def test_slope_and_intercept_are_applied_and_zero_means_none(tmp_path, slope, intercept, dtype):
    values = np.arange(210, dtype=np.uint8).reshape(GRID.shape)
    path = saved(tmp_path / "a.nii", values)
    raw = bytearray(path.read_bytes())
    raw[112:120] = np.array([slope, intercept], "<f4").tobytes()
    path.write_bytes(raw)

    volume = read_image(path)

    expected = values.astype(float) * slope + intercept if dtype else values
    np.testing.assert_allclose(volume.array, expected)
    assert volume.array.dtype == (dtype or np.uint8)


def test_few_nan_become_the_minimum_and_many_are_refused(tmp_path):
    values = np.full((20, 20, 20), 5, np.float32)
    values[3, 4, 5], values[0, 0, 0] = np.nan, -2
    few = read_image(saved(tmp_path / "few.nii.gz", values))
    assert few.flags == ("nan_replaced",)
    assert few.array[3, 4, 5] == -2

    values[:1] = np.inf
    assert refusal(saved(tmp_path / "many.nii.gz", values)).code == "unreadable"


def test_a_fourth_axis_of_one_is_dropped_and_a_true_one_refused(tmp_path):
    one = saved(tmp_path / "one.nii.gz", np.zeros((*GRID.shape, 1), np.uint8))
    two = saved(tmp_path / "two.nii.gz", np.zeros((*GRID.shape, 2), np.uint8))

    assert read_image(one).array.shape == GRID.shape
    assert "2 images along the 4th axis, expected one" in refusal(two).message


def test_complex_and_colour_voxels_are_refused(tmp_path):
    path = saved(tmp_path / "a.nii", np.zeros(GRID.shape, np.complex64))
    assert refusal(path).code == "dtype_refused"
    rgb = np.zeros(GRID.shape, [("R", "u1"), ("G", "u1"), ("B", "u1")])
    assert refusal(saved(tmp_path / "b.nii", rgb)).code == "dtype_refused"


def edited(path, offset, content):
    raw = bytearray(path.read_bytes())
    raw[offset : offset + len(content)] = content
    path.write_bytes(gzip.compress(raw) if path.name.endswith("gz") else raw)
    return path


@pytest.mark.parametrize(
    ("dims", "code"),
    [
        ((3, 30_000, 30_000, 30_000), "size_limit"),
        ((3, 8_192, 8_192, 8_192), "size_limit"),
        ((3, 8_193, 1, 1), "size_limit"),
        ((3, 0, 5, 5), "unreadable"),
        ((3, -4, 5, 5), "unreadable"),
        ((9, 7, 6, 5), "unreadable"),
        ((3, 700, 600, 500), "unreadable"),
        ((3, 7, 6, 4), "unreadable"),
    ],
)
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_sizes_that_lie_cost_no_memory(tmp_path, dims, code, name):
    path = saved(tmp_path / "honest.nii", np.zeros(GRID.shape, np.uint8)).rename(tmp_path / name)
    edited(path, 40, np.array(dims, "<i2").tobytes())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    assert refusal(path).code == code

    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB


def test_truncated_and_damaged_files_are_refused(tmp_path):
    whole = saved(tmp_path / "a.nii.gz", np.random.default_rng(0).normal(size=(20, 20, 20)))
    content = whole.read_bytes()
    for keep in (0, 1, 10, 200, len(content) // 2, len(content) - 4):
        (tmp_path / "cut.nii.gz").write_bytes(content[:keep])
        assert refusal(tmp_path / "cut.nii.gz").code == "unreadable"
    broken = bytearray(content)
    broken[len(broken) // 2] ^= 0xFF
    (tmp_path / "broken.nii.gz").write_bytes(broken)
    assert refusal(tmp_path / "broken.nii.gz").code == "unreadable"
    (tmp_path / "text.nii.gz").write_bytes(gzip.compress(b"not an image at all" * 40))
    assert "expected 348 or 540" in refusal(tmp_path / "text.nii.gz").message
    assert refusal(tmp_path / "nowhere.nii.gz").code == "unreadable"


def test_a_gzip_bomb_stops_one_byte_past_its_header(tmp_path):
    honest = saved(tmp_path / "a.nii", np.zeros(GRID.shape, np.uint8)).read_bytes()
    (tmp_path / "bomb.nii.gz").write_bytes(gzip.compress(honest + bytes(200_000_000), 1))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    assert "more than the 210 bytes" in refusal(tmp_path / "bomb.nii.gz").message
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB


def test_limits_are_the_callers_choice(tmp_path):
    path = saved(tmp_path / "a.nii.gz", np.zeros(GRID.shape, np.uint8))

    assert refusal(path, limits=Limits(voxels=209)).code == "size_limit"
    assert refusal(path, limits=Limits(file_bytes=10)).code == "size_limit"
    assert read_image(path, LIMITS).array.size == 210


def test_an_extension_that_lies_about_its_size_is_refused(tmp_path):
    path = saved(tmp_path / "a.nii", np.zeros(GRID.shape, np.uint8))
    for offset in (1e9, 3e7, -5.0, 100.5, np.nan):
        edited(path, 108, np.array([offset], "<f4").tobytes())
        assert refusal(path).code in {"size_limit", "unreadable"}


def test_label_names_travel_in_the_header(tmp_path):
    xml = b'<Ext><Label Key="1">spleen</Label><Label Key="7">kidney left</Label></Ext>'
    image = nib.Nifti1Image(np.zeros(GRID.shape, np.uint8), GRID.affine)
    image.header.extensions.append(nib.nifti1.Nifti1Extension(0, xml))
    nib.save(image, tmp_path / "a.nii.gz")

    assert label_names(tmp_path / "a.nii.gz") == {1: "spleen", 7: "kidney left"}
    assert read_image(tmp_path / "a.nii.gz").array.shape == GRID.shape
    assert label_names(saved(tmp_path / "b.nii", np.zeros(GRID.shape, np.uint8))) == {}


def test_hostile_xml_in_the_header_gives_no_names(tmp_path):
    xml = b'<!DOCTYPE x [<!ENTITY e "boom">]><Ext><Label Key="1">&e;</Label></Ext>'
    image = nib.Nifti1Image(np.zeros(GRID.shape, np.uint8), GRID.affine)
    image.header.extensions.append(nib.nifti1.Nifti1Extension(0, xml))
    nib.save(image, tmp_path / "a.nii.gz")

    assert label_names(tmp_path / "a.nii.gz") == {}


def two_forms(path, shift):
    image = nib.Nifti1Image(np.zeros((40, 40, 40), np.uint8), np.eye(4))
    other = np.eye(4)
    other[0, 3] = shift
    image.set_sform(np.eye(4), 2)
    image.set_qform(other, 1)
    nib.save(image, path)
    return path


def test_two_affines_that_disagree_are_a_conflict_that_a_rule_settles(tmp_path):
    path = two_forms(tmp_path / "a.nii.gz", 5)

    assert refusal(path).code == "geometry_conflict"
    assert read_image(path, form="sform").grid.affine[0, 3] == 0
    assert read_image(path, form="qform").grid.affine[0, 3] == 5
    assert read_image(two_forms(tmp_path / "b.nii.gz", 0.01)).geometry == "sform"


def test_without_a_code_there_is_no_place_in_3d_but_2d_is_let_through(tmp_path):
    deep = saved(tmp_path / "a.nii.gz", np.zeros(GRID.shape, np.uint8), sform=0)
    flat = saved(tmp_path / "b.nii.gz", np.zeros((7, 6, 1), np.uint8), sform=0)

    assert refusal(deep).code == "no_geometry"
    assert read_image(flat).geometry == "none"
    assert refusal(deep, form="sform").code == "no_geometry"


def test_an_affine_that_cannot_be_inverted_is_no_geometry(tmp_path):
    path = saved(tmp_path / "a.nii", np.zeros(GRID.shape, np.uint8))
    edited(path, 280, np.zeros(12, "<f4").tobytes())

    assert "cannot be inverted" in refusal(path).message


def test_the_qform_is_used_when_it_is_the_only_one(tmp_path):
    volume = read_image(saved(tmp_path / "a.nii", np.zeros(GRID.shape, np.uint8), sform=0, qform=1))

    assert volume.geometry == "qform"
    np.testing.assert_allclose(volume.grid.affine, GRID.affine, atol=1e-5)


def test_slight_shear_is_forgiven_and_strong_shear_flagged(tmp_path):
    for shear, flag in ((0.002, "shear_removed"), (0.2, "sheared")):
        affine = np.eye(4)
        affine[0, 1] = shear
        path = saved(tmp_path / "a.nii", np.zeros((20, 20, 20), np.uint8), affine)
        volume = read_image(path)
        assert volume.flags == (flag,)
        write_nifti(volume, tmp_path / "again.nii")
        again = read_image(tmp_path / "again.nii")
        np.testing.assert_allclose(again.grid.affine, volume.grid.affine, atol=1e-5)


def test_singular_grids_and_odd_shapes_are_refused():
    with pytest.raises(CaseError, match="singular"):
        Grid((2, 2, 2), np.diag([1.0, 0, 1, 1]))
    with pytest.raises(CaseError, match="expected three sizes"):
        Grid((2, 0, 2), np.eye(4))
    with pytest.raises(CaseError, match="its grid is"):
        Volume(np.zeros((2, 2, 3)), Grid((2, 2, 2), np.eye(4)))
    with pytest.raises(ValueError, match="read-only"):
        GRID.affine[0, 0] = 3
