"""Structures that a file names itself lie where the image has them, each under its own number."""

from __future__ import annotations

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid

from fusion.imaging.errors import CaseError
from fusion.imaging.geometry import to_ras
from fusion.imaging.io import read_image, read_structures
from fusion.imaging.io.labelset import moved_onto
from fusion.imaging.volume import Grid
from tests.imaging.make import placed
from tests.imaging.test_dicom import series

ZS = (10, 12, 14, 16)
SHAPE = (len(ZS), 5, 6)  # K, rows, columns
RNG = np.random.default_rng(5)
LIVER, SPLEEN = RNG.random(SHAPE) > 0.7, RNG.random(SHAPE) > 0.6
LIVER[2:] = False  # frames without it are left out of the file
SPLEEN &= ~LIVER
SPLEEN[1] = False


@pytest.fixture
def image(tmp_path):
    return read_image(series(tmp_path / "ct", ZS))


def segment(number, label, kind):
    return highdicom.seg.SegmentDescription(
        number,
        label,
        codes.SCT.Organ,
        kind,
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.MANUAL,
    )


def seg(tmp_path, pixels, kind="BINARY", **options):
    """A segmentation of the classic series, written by another library."""
    folder = tmp_path / "ct"
    sources = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
    for ds in sources:
        ds.StudyInstanceUID = ds.FrameOfReferenceUID = "1.2.3"
        ds.PatientID, ds.PatientName, ds.PatientSex, ds.PatientBirthDate = "p", "n^", "F", ""
        ds.StudyDate, ds.StudyTime, ds.StudyID = "20200101", "101010", "1"
        ds.AccessionNumber = ds.ReferringPhysicianName = ""
    sources.sort(key=lambda ds: ds.ImagePositionPatient[2])
    made = highdicom.seg.Segmentation(
        sources,
        pixels,
        kind,
        [segment(1, "Liver, left", codes.SCT.Liver), segment(2, "Milz", codes.SCT.Spleen)],
        generate_uid(), 1, generate_uid(), 1, "m", "m", "1", "1", **options,
    )  # fmt: skip
    made.save_as(tmp_path / "seg.dcm")
    return tmp_path / "seg.dcm"


def ours(mask):
    return mask.transpose(2, 1, 0)


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_segments_become_a_label_map_with_names_and_codes(tmp_path, image, kind):
    pixels = np.where(LIVER, 1, np.where(SPLEEN, 2, 0)).astype(np.uint8)

    found = read_structures(seg(tmp_path, pixels, kind), image.grid)

    np.testing.assert_array_equal(found.label_map.array, ours(pixels))
    np.testing.assert_array_equal(found.grid.affine, image.grid.affine)
    assert dict(found.names) == {1: "Liver, left", 2: "Milz"}
    assert [found.codes[n][0].value for n in (1, 2)] == ["10200004", "78961009"]
    assert found.codes[1][0].scheme == "SCT"


def test_overlapping_segments_keep_a_mask_each(tmp_path, image):
    both = np.stack([LIVER, SPLEEN | (LIVER & (RNG.random(SHAPE) > 0.5))], axis=-1)

    found = read_structures(seg(tmp_path, both.astype(np.uint8)), image.grid)

    assert len(found.layers) == 2
    for number in (1, 2):
        np.testing.assert_array_equal(found.mask(number), ours(both[..., number - 1]))
    with pytest.raises(CaseError, match=r"structures 1 .* and 2 .* overlap") as caught:
        _ = found.label_map
    assert caught.value.code == "label_collision"


def test_a_fraction_of_one_half_counts(tmp_path, image):
    share = np.stack([LIVER * 0.9, SPLEEN * 0.3], axis=-1).astype(np.float32)
    found = read_structures(seg(tmp_path, share, "FRACTIONAL"), image.grid)
    np.testing.assert_array_equal(found.mask(1), ours(LIVER))
    assert not found.mask(2).any()
    assert 2 in found.names


def test_segments_follow_an_image_that_was_turned_and_stop_at_its_edge(tmp_path, image):
    pixels = np.where(LIVER, 1, np.where(SPLEEN, 2, 0)).astype(np.uint8)
    path = seg(tmp_path, pixels)
    turned = to_ras(image)[0]

    found = read_structures(path, turned.grid)

    expected = to_ras(image.with_array(ours(pixels)))[0]
    np.testing.assert_array_equal(found.label_map.array, expected.array)
    cut = Grid((6, 5, 2), image.grid.affine)
    with pytest.raises(CaseError, match="reaches out") as caught:
        read_structures(path, cut)
    assert caught.value.code == "grid_conflict"


@pytest.mark.parametrize("origin", [(12.5 + 1e6, -30.25, 7.0), (12.5, -1e30, 7.0)])
def test_structures_far_from_the_image_are_a_conflict_and_empty_ones_are_not(origin):
    grid, far = placed((6, 5, 4), (1, 1, 1)), placed((6, 5, 4), (1, 1, 1), origin=origin)
    assert not moved_onto(np.zeros(grid.shape, bool), far, grid, "a").any()
    with pytest.raises(CaseError, match="reaches out"):
        moved_onto(np.ones(grid.shape, bool), far, grid, "a")


def test_another_grid_leaves_the_segments_on_their_own(tmp_path, image):
    path = seg(tmp_path, LIVER.astype(np.uint8) * 1)
    other = placed((4, 4, 4), (3, 3, 3))
    found = read_structures(path, other)
    assert found.grid.shape == (6, 5, 2)  # the slices that hold a segment
    there = to_ras(found.label_map)[0]
    expected = to_ras(image.with_array(ours(LIVER)))[0]
    np.testing.assert_array_equal(there.array, expected.array[..., :2])
    np.testing.assert_allclose(there.grid.affine, expected.grid.affine)


def contour(points, kind="CLOSED_PLANAR"):
    item = Dataset()
    item.ContourGeometricType, item.NumberOfContourPoints = kind, len(points)
    item.ContourData = [f"{v:.4f}" for v in np.ravel(points)]
    return item


def rtstruct(path, regions):
    """`regions`: name -> contours in patient mm (LPS)."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = RTStructureSetStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    ds = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.Modality = RTStructureSetStorage, "RTSTRUCT"
    ds.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    ds.StructureSetROISequence, ds.ROIContourSequence = [], []
    ds.RTROIObservationsSequence = []
    for number, (name, items) in enumerate(regions.items(), 1):
        roi, drawn, note, code = Dataset(), Dataset(), Dataset(), Dataset()
        roi.ROINumber, roi.ROIName = number, name
        drawn.ReferencedROINumber, drawn.ContourSequence = number, items
        code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "10200004", "SCT", "Liver"
        note.ReferencedROINumber, note.RTROIIdentificationCodeSequence = number, [code]
        ds.StructureSetROISequence.append(roi)
        ds.ROIContourSequence.append(drawn)
        ds.RTROIObservationsSequence.append(note)
    ds.save_as(path, enforce_file_format=True)
    return path


def square(grid, k, low, high):
    """A square between the pixel centres, in LPS mm."""
    (a, b), (c, d) = low, high
    corners = np.array([[a, b, k], [c, b, k], [c, d, k], [a, d, k]], float)
    return grid.world(corners) * [-1, -1, 1]


@pytest.mark.parametrize("codes_of_axes", ["LPS", "RAS", "SPR"])
def test_contours_are_drawn_where_the_patient_has_them(tmp_path, codes_of_axes):
    grid = placed((9, 8, 3), (0.8, 1.1, 2.5), codes_of_axes)
    outer, hole = ((0.5, 1.5), (7.5, 6.5)), ((2.5, 3.5), (4.5, 5.5))
    path = rtstruct(
        tmp_path / "rs.dcm",
        {
            "Leber": [contour(square(grid, 1, *outer)), contour(square(grid, 1, *hole))],
            "Isocentre": [contour([[0, 0, 0]], "POINT")],
            "nothing": [],
        },
    )

    found = read_structures(path, grid)

    expected = np.zeros(grid.shape, bool)
    expected[1:8, 2:7, 1] = True
    expected[3:5, 4:6, 1] = False
    np.testing.assert_array_equal(found.mask(1), expected)
    assert dict(found.names) == {1: "Leber", 2: "Isocentre", 3: "nothing"}
    assert dict(found.notes) == {2: "POINT: no area"}
    assert not found.mask(3).any()
    assert found.codes[1][0].meaning == "Liver"


@pytest.mark.parametrize(
    ("k", "low", "words"),
    [
        (1.4, (0, 0), "lies on no slice"),
        (3, (0, 0), "outside the image"),
        (1, (-3, 0), "outside the image"),
    ],
)
def test_a_contour_off_the_slices_or_the_image_is_a_conflict(tmp_path, k, low, words):
    grid = placed((9, 8, 3), (0.8, 1.1, 2.5))
    path = rtstruct(tmp_path / "rs.dcm", {"a": [contour(square(grid, k, low, (5, 5)))]})
    with pytest.raises(CaseError, match=words) as caught:
        read_structures(path, grid)
    assert caught.value.code == "grid_conflict"


def test_damaged_structure_sets_are_unreadable(tmp_path):
    grid = placed((9, 8, 3), (1, 1, 1))
    path = rtstruct(tmp_path / "rs.dcm", {"a": [contour([[0, 0, 0], [1, 1, 1]])]})
    with pytest.raises(CaseError, match="2 points"):
        read_structures(path, grid)
    path = rtstruct(tmp_path / "rs.dcm", {})
    with pytest.raises(CaseError, match="no region"):
        read_structures(path, grid)


def test_a_contour_may_be_smaller_than_a_voxel(tmp_path):
    grid = placed((9, 8, 3), (0.8, 1.1, 2.5))
    path = rtstruct(tmp_path / "rs.dcm", {"a": [contour(square(grid, 1, (3.2, 4.1), (3.4, 4.3)))]})
    assert np.argwhere(read_structures(path, grid).mask(1)).tolist() == [[3, 4, 1]]


def test_layers_of_a_slicer_segmentation(tmp_path):
    grid = placed((6, 5, 4), (1, 1, 2), "LPS")
    layers = np.zeros((4, 5, 6, 2), np.uint8)
    layers[1, 1:3, 2:4, 0], layers[2, 1:3, 2:4, 0], layers[1, 2, 2, 1] = 1, 3, 1
    image = sitk.GetImageFromArray(layers, isVector=True)
    lps = np.diag([-1.0, -1, 1, 1]) @ grid.affine
    image.SetSpacing((1, 1, 2))
    image.SetOrigin(lps[:3, 3].tolist())
    for n, (name, layer, value) in enumerate((("Liver", 0, 1), ("Lung", 0, 3), ("Tumour", 1, 1))):
        image.SetMetaData(f"Segment{n}_Name", name)
        image.SetMetaData(f"Segment{n}_Layer", str(layer))
        image.SetMetaData(f"Segment{n}_LabelValue", str(value))
    sitk.WriteImage(image, str(tmp_path / "a.seg.nrrd"))

    found = read_structures(tmp_path / "a.seg.nrrd", grid)

    assert dict(found.names) == {1: "Liver", 2: "Lung", 3: "Tumour"}
    assert [int(found.mask(n).sum()) for n in (1, 2, 3)] == [4, 4, 1]
    assert found.mask(3)[2, 2, 1]
    assert len(found.layers) == 2
