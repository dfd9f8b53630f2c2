"""DICOM as it comes: compressed, deflated, many frames a file, colour, PET, without suffixes."""

from __future__ import annotations

import io
import zlib

import highdicom
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from fusion.imaging.errors import CaseError
from fusion.imaging.io import Limits, dicom_facts, read_image, read_structures
from fusion.imaging.volume import Picture, Volume
from tests.imaging.make import placed
from tests.imaging.test_dicom import VOXELS, refusal, series, write_slice


def rewritten(path, change):
    ds = pydicom.dcmread(path)
    change(ds)
    ds.save_as(path, enforce_file_format=True)
    return path


def coloured(path, array, kind="RGB", **tags):
    """A secondary capture without a place in the patient."""
    path = write_slice(path.parent, path.stem, (0, 0, 0), VOXELS[0])

    def change(ds):
        del ds.ImagePositionPatient, ds.ImageOrientationPatient
        ds.RescaleIntercept = 0
        ds.Rows, ds.Columns = array.shape[-3:-1] if array.shape[-1] == 3 else array.shape[-2:]
        ds.SamplesPerPixel = 3 if array.shape[-1] == 3 else 1
        ds.PhotometricInterpretation = kind
        if ds.SamplesPerPixel == 3:
            ds.PlanarConfiguration = 0
        bits = array.dtype.itemsize * 8
        ds.BitsAllocated, ds.BitsStored, ds.HighBit = bits, bits, bits - 1
        ds.PixelData = array.tobytes() + b"\0" * (array.nbytes % 2)
        for tag, value in tags.items():
            setattr(ds, tag, value)

    return rewritten(path, change)


def enlarge(ds):
    ds.PixelData = np.kron(ds.pixel_array, np.ones((16, 16), np.uint16)).tobytes()
    ds.Rows, ds.Columns = ds.Rows * 16, ds.Columns * 16


@pytest.mark.parametrize(
    ("syntax", "plugin"),
    [
        (JPEG2000Lossless, "pylibjpeg"),
        (JPEGLSLossless, "pyjpegls"),
        (RLELossless, "pydicom"),
        (DeflatedExplicitVRLittleEndian, ""),
    ],
    ids=["J2K", "JPEG-LS", "RLE", "deflated"],
)
def test_a_compressed_series_is_the_plain_one(tmp_path, syntax, plugin):
    folder = series(tmp_path / "s")
    # Encoders need more than a handful of pixels.
    for path in folder.iterdir():
        rewritten(path, enlarge)
    plain = read_image(folder)

    def change(ds):
        if plugin:
            ds.compress(syntax, encoding_plugin=plugin)
        else:
            ds.file_meta.TransferSyntaxUID = syntax

    for path in folder.iterdir():
        rewritten(path, change)

    packed = read_image(folder)
    assert pydicom.dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID == syntax
    np.testing.assert_array_equal(packed.array, plain.array)
    np.testing.assert_array_equal(packed.grid.affine, plain.grid.affine)


def jpeg(tmp_path, size=(40, 30), claimed=None):
    ramp = np.add.outer(np.arange(size[0]), np.arange(size[1])).astype(np.uint8) * 3
    out = io.BytesIO()
    Image.fromarray(ramp).save(out, format="JPEG", quality=100)
    path = coloured(tmp_path / "j.dcm", ramp, "MONOCHROME2")

    def change(ds):
        if claimed:
            ds.Rows, ds.Columns = claimed
        ds.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
        ds.PixelData = encapsulate([out.getvalue()])
        ds["PixelData"].is_undefined_length = True

    return rewritten(path, change), ramp


def test_baseline_jpeg_is_decoded_and_its_size_is_believed_only_with_the_header(tmp_path):
    path, ramp = jpeg(tmp_path)
    assert np.abs(read_image(path).array.astype(int) - ramp).max() <= 2
    path, _ = jpeg(tmp_path, claimed=(20, 30))
    assert "a frame is (40, 30), the header (20, 30)" in refusal(path).message


@pytest.mark.filterwarnings("ignore:Expected explicit VR:UserWarning:pydicom")
def test_a_deflate_bomb_is_not_inflated(tmp_path):
    path = write_slice(tmp_path, 1, (0, 0, 0), VOXELS[0])
    rewritten(
        path, lambda ds: setattr(ds.file_meta, "TransferSyntaxUID", DeflatedExplicitVRLittleEndian)
    )
    content = path.read_bytes()
    meta = pydicom.filereader.read_file_meta_info(path)
    start = 144 + meta.FileMetaInformationGroupLength
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = packer.compress(bytes(3_000_000)) + packer.flush()
    path.write_bytes(content[:start] + bomb)
    small = Limits(size_bytes=1_000_000, header_bytes=1_000_000)
    assert refusal(path, limits=small).code == "size_limit"
    assert refusal(path).code == "unreadable"


@pytest.fixture
def enhanced(tmp_path):
    """The classic series as one enhanced multi-frame file, by another library."""
    folder = series(tmp_path / "classic")
    sources = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
    for ds in sources:
        ds.StudyInstanceUID = ds.FrameOfReferenceUID = "1.2.3"
        ds.PatientID, ds.PatientName, ds.PatientSex, ds.PatientBirthDate = "p", "n^", "F", ""
        ds.StudyDate, ds.StudyTime, ds.StudyID = "20200101", "101010", "1"
        ds.SeriesNumber, ds.AccessionNumber, ds.Manufacturer = 1, "", "m"
        ds.ReferringPhysicianName = ""
        ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        ds.InstanceNumber, ds.AcquisitionNumber = 1, 1
        ds.KVP = 120
    made = highdicom.legacy.LegacyConvertedEnhancedCTImage(
        sources, generate_uid(), 1, generate_uid(), 1
    )
    made.save_as(tmp_path / "enhanced.dcm")
    return folder, tmp_path / "enhanced.dcm"


def test_an_enhanced_file_is_the_series_it_was_made_of(enhanced):
    folder, path = enhanced
    one, many = read_image(path), read_image(folder)
    np.testing.assert_array_equal(one.array, many.array)
    np.testing.assert_allclose(one.grid.affine, many.grid.affine)
    assert (one.unit, one.geometry) == ("hu", "dicom")


def test_frames_out_of_order_and_with_a_gap(enhanced):
    _, path = enhanced
    expected = read_image(path)

    def reverse(ds):
        ds.PerFrameFunctionalGroupsSequence = ds.PerFrameFunctionalGroupsSequence[::-1]
        ds.PixelData = ds.pixel_array[::-1].tobytes()

    np.testing.assert_array_equal(read_image(rewritten(path, reverse)).array, expected.array)

    def move(ds):
        frame = ds.PerFrameFunctionalGroupsSequence[0]
        frame.PlanePositionSequence[0].ImagePositionPatient = [-20, -30, 40]

    assert refusal(rewritten(path, move)).code == "geometry_irregular"


def test_two_frames_at_each_place_are_two_channels(enhanced):
    _, path = enhanced
    expected = read_image(path)

    def double(ds):
        raw, frames = ds.pixel_array, list(ds.PerFrameFunctionalGroupsSequence)
        again = [pydicom.Dataset(frame) for frame in frames]
        ds.PerFrameFunctionalGroupsSequence = frames + again
        ds.NumberOfFrames = len(frames) * 2
        ds.PixelData = np.concatenate([raw, raw + 7]).tobytes()
        for number, frame in enumerate(ds.PerFrameFunctionalGroupsSequence):
            frame.FrameContentSequence = [pydicom.Dataset()]
            frame.FrameContentSequence[0].DimensionIndexValues = [1 + number // len(frames)]

    rewritten(path, double)
    assert "2 images along the 4th axis" in refusal(path).message
    for channel, more in ((0, 0), (1, 7)):
        found = read_image(path, channel=channel)
        np.testing.assert_array_equal(found.array, expected.array + more)
        np.testing.assert_allclose(found.grid.affine, expected.grid.affine)


def test_frames_are_counted_before_they_are_decoded(enhanced):
    _, path = enhanced
    rewritten(path, lambda ds: setattr(ds, "NumberOfFrames", 5))
    assert "5 frames, but 4 frame descriptions" in refusal(path).message
    rewritten(path, lambda ds: setattr(ds, "NumberOfFrames", 2**31 - 1))
    assert refusal(path).code == "size_limit"
    assert refusal(path, limits=Limits(voxels=100)).code == "size_limit"


def test_a_cine_loop_is_one_picture_a_frame(tmp_path):
    loop = np.random.default_rng(0).integers(0, 255, (5, 6, 8, 3)).astype(np.uint8)
    path = coloured(tmp_path / "us.dcm", loop, NumberOfFrames=5, Modality="US")
    np.testing.assert_array_equal(read_image(path, channel=3).array, loop[3])
    assert "5 frames" in refusal(path).message


def test_ybr_becomes_rgb_and_a_palette_is_expanded(tmp_path):
    rgb = np.zeros((6, 8, 3), np.uint8)
    rgb[:3], rgb[3:] = (200, 40, 90), (10, 220, 30)
    ybr = np.asarray(Image.fromarray(rgb).convert("YCbCr"))
    found = read_image(coloured(tmp_path / "y.dcm", ybr, "YBR_FULL")).array
    assert np.abs(found.astype(int) - rgb).max() <= 2

    index = (np.arange(48) % 4).astype(np.uint8).reshape(6, 8)
    table = np.array([[0, 255, 10, 20], [0, 128, 30, 40], [0, 64, 50, 60]], np.uint16) << 8
    path = coloured(tmp_path / "p.dcm", index)

    def give_palette(ds):
        ds.PhotometricInterpretation = "PALETTE COLOR"
        for number, values in enumerate(table):
            ds.add_new(0x00281101 + number, "US", [4, 0, 16])
            ds.add_new(0x00281201 + number, "OW", values.tobytes())

    found = read_image(rewritten(path, give_palette)).array
    np.testing.assert_array_equal(found, (table >> 8).T.astype(np.uint8)[index])


def test_inverted_grey_keeps_its_depth(tmp_path):
    grey = np.array([[0, 1000], [65535, 300]], np.uint16)
    picture = read_image(coloured(tmp_path / "m.dcm", grey, "MONOCHROME1"))
    np.testing.assert_array_equal(picture.array, 65535 - grey)
    assert (picture.array.dtype, picture.bits) == (np.uint16, 16)


def test_burned_in_text_and_what_names_a_person_are_told(tmp_path):
    grey = np.zeros((4, 4), np.uint8)
    tags = {"BurnedInAnnotation": "YES", "PatientName": "A^B", "InstitutionName": ""}
    path = coloured(tmp_path / "b.dcm", grey, "MONOCHROME2", **tags)
    picture, facts = read_image(path), dicom_facts(path)
    assert isinstance(picture, Picture)
    assert picture.flags == ("burned_in_annotation",)
    assert (facts.burned_in, facts.deidentified, facts.identifying) == (
        True,
        None,
        ("PatientName",),
    )
    assert "A^B" not in repr(facts)
    folder = series(tmp_path / "s", BurnedInAnnotation="NO")
    assert read_image(folder).flags == ()


PET = {
    "Modality": "PT", "Units": "BQML", "CorrectedImage": ["ATTN", "DECY"], "PatientWeight": 70,
    "DecayCorrection": "START", "SeriesDate": "20200102", "SeriesTime": "110000",
    "AcquisitionDate": "20200102", "AcquisitionTime": "110001.5", "RescaleIntercept": 0,
}  # fmt: skip


def injection(**tags):
    item = pydicom.Dataset()
    item.RadiopharmaceuticalStartTime = "100000"
    item.RadionuclideTotalDose, item.RadionuclideHalfLife = 3.7e8, 6586.2
    for tag, value in tags.items():
        setattr(item, tag, value)
    return [item]


def test_pet_with_all_tags_becomes_suv(tmp_path):
    folder = series(tmp_path / "s", **PET, RadiopharmaceuticalInformationSequence=injection())
    volume = read_image(folder)
    factor = 70_000 / (3.7e8 * 2 ** (-3600 / 6586.2))
    np.testing.assert_allclose(volume.array, VOXELS.transpose(2, 1, 0) * factor, rtol=1e-5)
    assert volume.unit == "suv"


@pytest.mark.parametrize(
    ("tags", "item"),
    [
        ({"PatientWeight": None}, {}),
        ({"Units": "CNTS"}, {}),
        ({"DecayCorrection": "NONE"}, {}),
        ({"CorrectedImage": ["DECY"]}, {}),
        ({"SeriesTime": "120000"}, {}),
        ({}, {"RadionuclideTotalDose": 370}),
        ({}, {"RadionuclideHalfLife": None}),
        ({}, {"RadiopharmaceuticalStartTime": "1130"}),
    ],
)
def test_pet_that_lacks_a_tag_keeps_its_values(tmp_path, tags, item):
    folder = series(tmp_path / "s", **PET, RadiopharmaceuticalInformationSequence=injection(**item))
    for path in folder.iterdir():
        rewritten(path, lambda ds: [setattr(ds, tag, value) for tag, value in tags.items()])
    volume = read_image(folder)
    assert volume.unit == "unknown"
    np.testing.assert_array_equal(volume.array, VOXELS.transpose(2, 1, 0))


def test_files_without_a_suffix_are_known_by_their_mark(tmp_path):
    folder = series(tmp_path / "s")
    plain = read_image(folder)
    for path in list(folder.iterdir()):
        path.rename(path.with_name(f"IM{path.stem}"))
    (folder / "notes.txt").write_text("not an image")
    assert isinstance(plain, Volume)
    np.testing.assert_array_equal(read_image(folder).array, plain.array)
    assert read_image(folder / "IM9").grid.shape == (6, 5, 1)
    with pytest.raises(CaseError, match="no reader"):
        read_image(folder / "notes.txt")


def test_an_element_of_unknown_kind_is_unreadable_wherever_it_is_met(tmp_path):
    path = write_slice(tmp_path, 1, (0, 0, 0), VOXELS[0])
    content = path.read_bytes()
    at = content.index(b"\x08\x00\x60\x00CS")
    path.write_bytes(content[: at + 4] + b"C1" + content[at + 6 :])
    assert refusal(path).code == "unreadable"
    with pytest.raises(CaseError, match="unreadable"):
        dicom_facts(path)
    with pytest.raises(CaseError, match="unreadable"):
        read_structures(path, placed((4, 4, 4), (1, 1, 1)))
