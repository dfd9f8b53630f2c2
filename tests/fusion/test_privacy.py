"""What files tell of people, each kind made with something and with nothing to tell."""

from __future__ import annotations

import io
import json

import nibabel as nib
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from fusion.privacy import FINDINGS, look, report
from tests.uploads import dicom, png


def _codes(folder, path: str, content: bytes) -> set[str]:
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    return {code for code, _ in look(folder, path)["found"]}


def _photo(**exif: object) -> bytes:
    out, data = io.BytesIO(), Image.Exif()
    tags = {"Artist": 315, "Software": 305}
    for name, value in exif.items():
        if name == "GPS":
            data[34853] = {1: "N", 2: (48.0, 8.0, 0.0)}
        else:
            data[tags[name]] = value
    Image.new("RGB", (8, 8), "red").save(out, "JPEG", exif=data)
    return out.getvalue()


def _nifti(text: bytes = b"") -> bytes:
    image = nib.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), np.diag([1, 1, 2, 1]))
    image.header["descrip"] = text
    return image.to_bytes()


@pytest.mark.parametrize(
    ("path", "content", "codes"),
    [
        ("a.dcm", dicom("CT"), set()),
        ("a.dcm", dicom("CT", PatientName="Doe^Jane"), {"dicom_identity"}),
        (
            "a",
            dicom("CT", PatientID="7", PatientIdentityRemoved="YES"),
            {"dicom_identity_removed"},
        ),
        ("a.dcm", dicom("US"), {"burned_in_possible"}),
        ("a.dcm", dicom("US", BurnedInAnnotation="NO"), set()),
        ("a.dcm", dicom("CT", BurnedInAnnotation="YES"), {"burned_in"}),
        ("a.dcm", dicom("MR", BodyPartExamined="BRAIN"), {"face_possible"}),
        ("a.dcm", dicom("MR", BodyPartExamined="KNEE"), set()),
        (
            "a.dcm",
            dicom("MR", BodyPartExamined="BRAIN", RecognizableVisualFeatures="NO"),
            set(),
        ),
        ("a.dcm", dicom("CT", RecognizableVisualFeatures="YES"), {"face_visible"}),
        ("scan.nii", _nifti(), set()),
        ("scan.nii", _nifti(b"Doe"), {"nifti_text"}),
        ("sub-01/anat/sub-01_T1w.nii", _nifti(), {"face_possible"}),
        ("sub-01/anat/sub-01_desc-defaced_T1w.nii", _nifti(), set()),
        ("a.jpg", _photo(Software="x"), set()),
        ("a.jpg", _photo(Artist="Doe"), {"picture_text"}),
        ("a.jpg", _photo(GPS=True), {"picture_place"}),
        ("a.json", json.dumps({"RepetitionTime": 2, "PatientSex": "F"}).encode(), set()),
        ("a.json", b'{"x": [{"PatientBirthDate": "19700102"}]}', {"sidecar_identity"}),
        ("a.csv", b"image,class\n1,2\n", set()),
        ("a.csv", b"image;Date of birth\n1,2\n", {"table_identity"}),
        ("20240131/a.png", png(1), {"name_date"}),
        ("Doe^Jane.png", png(1), {"name_identity"}),
        ("scan_12345678901.png", png(1), {"name_number"}),
        ("1.2.840.113619.2.png", png(1), set()),
    ],
)
def test_a_file_tells_what_is_in_it_and_its_name(tmp_path, path, content, codes):
    assert _codes(tmp_path, path, content) == codes
    assert codes <= set(FINDINGS)


def test_words_in_the_pixels_of_pictures_and_of_ultrasound_are_noticed(tmp_path):
    image = Image.new("L", (300, 90), 30)
    ImageDraw.Draw(image).text((10, 30), "DOE JANE", 240, ImageFont.load_default(20))
    out, size = io.BytesIO(), {"Rows": 90, "Columns": 300, "BurnedInAnnotation": "NO"}
    image.save(out, "PNG")
    scan = dicom("US", **size, PixelData=image.tobytes())
    ct = dicom("CT", **size, PixelData=image.tobytes())
    empty = dicom("US", **size, PixelData=bytes(90 * 300))

    assert _codes(tmp_path, "a.png", out.getvalue()) == {"text_seen"}
    assert _codes(tmp_path, "a.dcm", scan) == {"text_seen"}
    assert _codes(tmp_path, "b.dcm", ct) == _codes(tmp_path, "c.dcm", empty) == set()


def test_values_that_identify_are_not_repeated(tmp_path):
    (tmp_path / "a.dcm").write_bytes(dicom("CT", PatientName="Doe^Jane", AccessionNumber="77"))

    row = look(tmp_path, "a.dcm")

    assert ["dicom_identity", "AccessionNumber"] in row["found"]
    assert "Doe" not in json.dumps(row)


def test_a_broken_file_is_told_and_its_name_still_judged(tmp_path):
    (tmp_path / "19991231.png").write_bytes(b"no picture")

    row = look(tmp_path, "19991231.png")

    assert (row["kind"], row["code"]) == ("unreadable", "unreadable")
    assert row["found"] == [["name_date", "a date"]]


def test_the_report_orders_by_weight_and_says_what_must_be_accepted(tmp_path):
    files = {
        "scan.nii": _nifti(b"free text"),
        "a.dcm": dicom("CT", PatientName="Doe^Jane"),
        "b.dcm": dicom("CT", PatientName="Doe^John", BodyPartExamined="HEAD"),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    rows = [look(tmp_path, name) for name in files]

    found = report(rows)

    severities = [one["severity"] for one in found["findings"]]
    assert severities == ["alert", "warning", "note"]
    assert found["findings"][0]["files"] == 2
    assert found["kinds"] == {"DICOM": 2, "volume": 1}
    assert found["must_be_accepted"]
    assert not report(rows[:1])["must_be_accepted"]
