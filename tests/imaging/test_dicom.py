"""DICOM series made here: order and place come from positions, irregular ones are refused."""

from __future__ import annotations

import shutil

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from fusion.imaging.errors import CaseError
from fusion.imaging.io import Limits, read_image
from fusion.imaging.volume import Picture, Volume

SERIES = generate_uid()
VOXELS = np.random.default_rng(0).integers(0, 3000, (4, 5, 6)).astype(np.uint16)  # K rows columns


def write_slice(folder, number, position, pixels, **tags):
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    ds = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    ds.SeriesInstanceUID, ds.Modality = SERIES, "CT"
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    ds.ImagePositionPatient, ds.PixelSpacing = list(position), [0.8, 0.5]
    ds.SliceThickness = 3
    ds.Rows, ds.Columns = pixels.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.RescaleSlope, ds.RescaleIntercept = 1, -1024
    ds.PixelData = pixels.tobytes()
    for tag, value in tags.items():
        if value is None:
            delattr(ds, tag)
        else:
            setattr(ds, tag, value)
    ds.save_as(folder / f"{number}.dcm", enforce_file_format=True)
    return folder / f"{number}.dcm"


def series(folder, zs=(10, 12, 14, 16), **tags):
    folder.mkdir(exist_ok=True)
    # File names run against the order of positions.
    for k, z in enumerate(zs):
        write_slice(folder, 9 - k, (-20, -30, z), VOXELS[k], **tags)
    return folder


def refusal(path, **options):
    with pytest.raises(CaseError) as caught:
        read_image(path, **options)
    return caught.value


def test_a_series_is_stacked_by_position_and_turned_to_ras(tmp_path):
    volume = read_image(series(tmp_path / "s"))

    assert isinstance(volume, Volume)
    np.testing.assert_array_equal(volume.array, VOXELS.transpose(2, 1, 0).astype(int) - 1024)
    expected = [[-0.5, 0, 0, 20], [0, -0.8, 0, 30], [0, 0, 2, 10], [0, 0, 0, 1]]
    np.testing.assert_allclose(volume.grid.affine, expected)
    assert (volume.unit, volume.geometry, volume.grid.axcodes) == ("hu", "dicom", "LPS")
    assert volume.array.dtype == np.int16


def test_an_oblique_series_agrees_with_simpleitk(tmp_path):
    import SimpleITK as sitk

    row, column = np.array([0.8, 0.6, 0.0]), np.array([0.0, 0.0, -1.0])
    normal = np.cross(row, column)
    for k in range(4):
        position = np.array([5.0, -7.0, 11.0]) + 2.5 * k * normal
        orientation = [*row, *column]
        write_slice(tmp_path, 9 - k, position, VOXELS[k], ImageOrientationPatient=orientation)

    volume = read_image(tmp_path)

    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path)))
    image = reader.Execute()
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image).T, volume.array)
    for index in ((0, 0, 0), (5, 0, 0), (0, 4, 0), (0, 0, 3)):
        lps = np.array(image.TransformIndexToPhysicalPoint(index))
        ours = volume.grid.world(np.array([index], float))[0]
        np.testing.assert_allclose(ours, lps * [-1, -1, 1], atol=1e-6)


@pytest.mark.parametrize(
    ("zs", "words"),
    [
        ((10, 12, 16, 18), "is a slice missing"),
        ((10, 12, 12, 14), "two slices"),
        ((10, 12, 14.3, 16), "slice steps run from"),
        ((10, 10, 10, 10), "4 slices at each place"),
    ],
)
def test_missing_doubled_and_uneven_slices_are_irregular(tmp_path, zs, words):
    error = refusal(series(tmp_path / "s", zs))
    assert error.code == "geometry_irregular"
    assert words in error.message


def test_a_small_spread_of_steps_is_let_through(tmp_path):
    volume = read_image(series(tmp_path / "s", (10, 12.02, 14.01, 16)))
    assert volume.grid.spacing_mm[2] == pytest.approx(2)


def test_a_tilted_gantry_is_irregular(tmp_path):
    for k in range(4):
        write_slice(tmp_path, k, (0, 0.7 * k, 2 * k), VOXELS[k])
    assert "tilted gantry" in refusal(tmp_path).message


def test_one_instance_twice_is_irregular(tmp_path):
    folder = series(tmp_path / "s")
    shutil.copy(folder / "9.dcm", folder / "1.dcm")
    error = refusal(folder)
    assert error.code == "geometry_irregular"
    assert "more than once" in error.message


def test_two_series_in_one_folder_are_refused(tmp_path):
    folder = series(tmp_path / "s")
    write_slice(folder, 1, (0, 0, 30), VOXELS[0], SeriesInstanceUID=generate_uid())
    assert "SeriesInstanceUID differs" in refusal(folder).message


def test_a_changed_size_or_frame_count_is_refused(tmp_path):
    folder = series(tmp_path / "s")
    write_slice(folder, 1, (-20, -30, 18), VOXELS[0][:4])
    assert "Rows differs" in refusal(folder).message
    path = write_slice(tmp_path, 1, (0, 0, 0), VOXELS[0], NumberOfFrames=2)
    assert "2 frames" in refusal(path).message


def test_pixels_that_do_not_fill_the_header_are_unreadable(tmp_path):
    path = write_slice(tmp_path, 1, (0, 0, 0), VOXELS[0], Rows=400)
    assert refusal(path).code == "unreadable"
    path = write_slice(tmp_path, 2, (0, 0, 0), VOXELS[0], Rows=60_000, Columns=60_000)
    assert refusal(path).code == "size_limit"
    assert refusal(series(tmp_path / "s"), limits=Limits(voxels=100)).code == "size_limit"


def test_what_is_not_dicom_is_unreadable(tmp_path):
    (tmp_path / "a.dcm").write_bytes(b"nothing of the kind")
    assert refusal(tmp_path / "a.dcm").code == "unreadable"
    assert refusal(tmp_path).code == "unreadable"
    (tmp_path / "empty").mkdir()
    assert "no .dcm file" in refusal(tmp_path / "empty").message


def test_without_rescale_tags_values_stay(tmp_path):
    folder = series(tmp_path / "s", RescaleSlope=None, RescaleIntercept=None, Modality="MR")
    volume = read_image(folder)
    np.testing.assert_array_equal(volume.array, VOXELS.transpose(2, 1, 0))
    assert volume.unit == "unknown"


def test_one_file_is_a_slice_or_a_picture(tmp_path):
    placed = read_image(write_slice(tmp_path, 1, (0, 0, 0), VOXELS[0]))
    flat = read_image(
        write_slice(
            tmp_path,
            2,
            (0, 0, 0),
            VOXELS[0],
            ImagePositionPatient=None,
            PhotometricInterpretation="MONOCHROME1",
            RescaleIntercept=0,
        )
    )

    assert isinstance(placed, Volume)
    assert placed.grid.shape == (6, 5, 1)
    assert isinstance(flat, Picture)
    assert flat.array.shape == (5, 6)
    assert np.unravel_index(flat.array.argmin(), (5, 6)) == np.unravel_index(
        VOXELS[0].argmax(), (5, 6)
    )


def test_the_files_are_written_as_the_standard_says(tmp_path):
    path = write_slice(tmp_path, 1, (0, 0, 0), VOXELS[0])
    assert pydicom.dcmread(path).pixel_array.shape == (5, 6)


def two_volumes(folder, tags, zs=(10, 12, 14)):
    """Slices of two volumes at the same places, in the order in which they are acquired."""
    folder.mkdir()
    for k, z in enumerate(zs):
        for n, own in enumerate(tags):
            mine = {key: v[k] if isinstance(v, tuple) else v for key, v in own.items()}
            pixels = np.full((5, 6), 100 * n + k + 1, np.uint16)
            write_slice(folder, f"{k}{n}", (0, 0, z), pixels, RescaleIntercept=0, **mine)
    return folder


@pytest.mark.parametrize(
    ("tags", "first"),
    [
        ([{"EchoTime": 4.6}, {"EchoTime": 2.3}], 1),
        ([{"TemporalPositionIdentifier": 1}, {"TemporalPositionIdentifier": 2}], 0),
        ([{"AcquisitionNumber": 9}, {"AcquisitionNumber": 10}], 0),
        ([{"TriggerTime": (0, 3, 1)}, {"TriggerTime": (40, 42, 39)}], 0),
    ],
)
def test_volumes_at_one_place_are_channels_and_never_interleaved(tmp_path, tags, first):
    folder = two_volumes(tmp_path / "s", tags)

    for channel in (0, 1):
        found = read_image(folder, channel=channel)
        base = 100 * (first if channel == 0 else 1 - first)
        assert found.array[0, 0].tolist() == [base + 1, base + 2, base + 3]
    assert "2 volumes at the same place" in refusal(folder).message


@pytest.mark.parametrize(
    "tags",
    [[{}, {}], [{"EchoTime": 4.6}, {"EchoTime": 4.6}], [{"EchoTime": (1, 2, 1)}, {"EchoTime": 2}]],
)
def test_volumes_that_no_tag_tells_apart_are_refused(tmp_path, tags):
    error = refusal(two_volumes(tmp_path / "s", tags), channel=0)

    assert error.code == "geometry_irregular"
    assert "2 slices at each place" in error.message


def test_an_anonymiser_that_gave_each_slice_a_series_of_its_own_is_seen_through(tmp_path):
    folder = tmp_path / "s"
    folder.mkdir()
    for k, z in enumerate((10, 12, 14)):
        write_slice(folder, k, (0, 0, z), VOXELS[k], SeriesInstanceUID=generate_uid())

    assert read_image(folder).grid.shape == (6, 5, 3)
    write_slice(folder, 3, (0, 0, 16), VOXELS[3])
    write_slice(folder, 4, (0, 0, 18), VOXELS[3])
    assert "SeriesInstanceUID differs" in refusal(folder).message
