from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from django.core.management import CommandError, call_command

from fusion.bundle.errors import BundleError
from fusion.bundle.pixels import decode
from fusion.bundle.privacy import find_names, find_private
from fusion.bundle.verify import verify_bundle
from fusion.bundle.write import list_files, write_bundle, write_sums
from tests.bundle.factories import make_case, make_plan, picture_bytes, volume_bytes


def failed(path: Path) -> dict[str, str]:
    return {check.code: check.detail for check in verify_bundle(path).checks if not check.ok}


def write_tar(folder: Path, target: Path, extra=()) -> Path:
    with tarfile.open(target, "w") as tar:
        for name in list_files(folder):
            tar.add(folder / name, f"root/{name}")
        for info in extra:
            tar.addfile(info, io.BytesIO(bytes(info.size)))
    return target


def test_one_flipped_byte_is_found_in_every_file(bundle):
    names = [name for name in list_files(bundle) if name not in ("SHA256SUMS", "build_info.json")]
    assert len(names) > 30
    for name in names:
        path = bundle / name
        whole = path.read_bytes()
        middle = len(whole) // 2
        path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])

        expected = hashlib.sha256(whole).hexdigest()
        line = next(row for row in failed(bundle)["checksums"].splitlines() if row.startswith(name))
        assert hashlib.sha256(path.read_bytes()).hexdigest() in line
        assert expected in line
        path.write_bytes(whole)
    assert verify_bundle(bundle).ok


def test_a_flipped_byte_in_the_sums_is_found(bundle):
    sums = bundle / "SHA256SUMS"
    text = sums.read_text()
    sums.write_text(("1" if text[0] == "0" else "0") + text[1:])

    assert "checksums" in failed(bundle)


def test_a_damaged_member_is_found_though_the_sums_are_rewritten(bundle):
    shard = next((bundle / "shards").glob("test-*.tar"))
    data = bytearray(shard.read_bytes())
    data[600] ^= 1
    shard.write_bytes(data)
    write_sums(bundle)

    problems = failed(bundle)
    assert "checksums" not in problems
    assert "#first__" in problems["shards"]


def test_missing_and_extra_files_are_named(bundle):
    (bundle / "README.md").unlink()
    (bundle / "extra.bin").write_bytes(b"x")

    detail = failed(bundle)["files"]
    assert "README.md: in SHA256SUMS, but missing" in detail
    assert "extra.bin: found, but not in SHA256SUMS" in detail


def test_a_link_is_refused(bundle):
    (bundle / "link.json").symlink_to("/etc/hostname")

    assert "link.json" in failed(bundle)["names"]


@pytest.mark.parametrize("key", ["group", "t1"])
def test_a_leak_written_into_the_manifest_is_found(bundle, key):
    path = bundle / "manifest.json"
    manifest = json.loads(path.read_text())
    train = next(c for c in manifest["cases"] if c["split"] == "train")
    test = next(c for c in manifest["cases"] if c["split"] == "test")
    test[key] = train[key]
    path.write_text(json.dumps(manifest))
    write_sums(bundle)

    assert train["id"] in failed(bundle)["leaks"]
    assert test["id"] in failed(bundle)["leaks"]


def test_a_held_out_source_must_not_leak_within_its_fold(built_once):
    manifest = json.loads((built_once["loso"] / "manifest.json").read_text())
    from fusion.bundle.gate import find_leaks

    manifest["cases"][0]["group"] = manifest["cases"][-1]["group"]
    assert any("fold0" in line for line in find_leaks(manifest["cases"]))


def test_a_manifest_with_an_unknown_field_is_refused(bundle):
    path = bundle / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"surprise": 1}))

    assert "surprise" in failed(bundle)["manifest"]


def test_a_folder_whose_tools_were_used_verifies_and_a_tar_of_it_does_not(bundle, tmp_path):
    use = "import sys; sys.path.insert(0, 'tools'); import read_bundle"
    wrote = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run([sys.executable, "-c", use], cwd=bundle, env=wrote, check=True)
    [cached] = (bundle / "tools" / "__pycache__").iterdir()

    assert verify_bundle(bundle).ok
    files = {c.code: c for c in verify_bundle(write_tar(bundle, tmp_path / "b.tar")).checks}[
        "files"
    ]
    assert files.detail == f"tools/__pycache__/{cached.name}: found, but not in SHA256SUMS"
    cached.rename(cached.with_name("other.cpython-311.pyc"))
    assert not verify_bundle(bundle).ok


def test_a_tar_of_the_bundle_verifies_like_its_folder(bundle, tmp_path):
    assert verify_bundle(write_tar(bundle, tmp_path / "whole.tar")).ok


@pytest.mark.parametrize("name", ["root/../../evil", "/root/evil", "root/a\\b", "evil"])
def test_a_tar_that_would_leave_its_folder_is_refused(bundle, tmp_path, name):
    tar = write_tar(bundle, tmp_path / "evil.tar", [tarfile.TarInfo(name)])

    assert "names" in failed(tar)


def test_a_tar_with_a_link_or_a_double_is_refused(bundle, tmp_path):
    link = tarfile.TarInfo("root/link")
    link.type, link.linkname = tarfile.SYMTYPE, "../outside"
    tar = write_tar(bundle, tmp_path / "x.tar", [link, tarfile.TarInfo("root/README.md")])

    assert "no regular file" in failed(tar)["names"]
    assert "stands twice" in failed(tar)["names"]


def test_what_is_no_bundle_says_so(tmp_path):
    (tmp_path / "x.tar").write_bytes(b"no tar at all")
    (tmp_path / "empty").mkdir()

    with pytest.raises(BundleError, match="no readable tar"):
        verify_bundle(tmp_path / "x.tar")
    with pytest.raises(BundleError, match="found nothing"):
        verify_bundle(tmp_path / "absent")
    assert "manifest.json" in failed(tmp_path / "empty")["manifest"]


def _built(tmp_path, dimension="3D", **case) -> Path:
    make_case(tmp_path, "first", 1, "train", dimension, **case)
    write_bundle(make_plan(dimension, views=[]), tmp_path, tmp_path / "out")
    return tmp_path / "out"


def test_image_and_label_of_other_shapes_are_found(tmp_path):
    out = _built(tmp_path, label=np.zeros((3, 9, 5), np.uint8))

    assert "grids differ" in failed(out)["pixels"]


def test_a_moved_label_is_found(tmp_path):
    labels = np.ones((8, 9, 5), np.uint8)
    out = _built(
        tmp_path,
        label=np.zeros((8, 9, 5), np.uint8),
        image=labels,
    )
    assert verify_bundle(out).ok
    other = tmp_path / "other"
    case = make_case(other, "first", 1, "train", "3D")
    moved = volume_bytes(np.zeros((8, 9, 5), np.uint8), spacing=(1.0, 1.5, 2.5))
    folder = other / "cases" / case["id"]
    (folder / "label.nii.gz").write_bytes(moved)
    case["files"][1]["sha256"] = hashlib.sha256(moved).hexdigest()
    (folder / "case.json").write_text(json.dumps(case | {"present": {}}))
    write_bundle(make_plan(views=[]), other, other / "out")

    assert "affines of image and label differ by 0.25 mm" in failed(other / "out")["pixels"]


def test_a_label_value_without_a_concept_is_found(tmp_path):
    out = _built(tmp_path, "2D", label=np.full((12, 17), 3, np.uint8))

    assert "found label value 3, expected 0 to 2" in failed(out)["pixels"]


def test_a_concept_that_nobody_looked_for_is_found(tmp_path):
    out = _built(tmp_path, annotated=["hippocampus-anterior"])

    assert "hippocampus-posterior, which is not in its annotated list" in failed(out)["pixels"]


def test_counts_that_do_not_match_the_pixels_are_found(tmp_path):
    out = _built(tmp_path, present={"hippocampus-anterior": 1})

    assert "expected 1" in failed(out)["pixels"]


def test_words_in_an_image_header_are_found(tmp_path):
    case = make_case(tmp_path, "first", 1, "train", "3D")
    data = volume_bytes(np.ones((8, 9, 5), np.int16), descrip=b"Mrs Doe, 1961")
    (tmp_path / "cases" / case["id"] / "image.nii.gz").write_bytes(data)
    case["files"][0]["sha256"] = hashlib.sha256(data).hexdigest()
    (tmp_path / "cases" / case["id"] / "case.json").write_text(json.dumps(case))
    write_bundle(make_plan(views=[]), tmp_path, tmp_path / "out")

    assert "Mrs Doe" in failed(tmp_path / "out")["privacy"]


@pytest.mark.parametrize(
    "text",
    [
        "see /home/someone/scan.nii.gz",
        r"C:\\Users\\someone",
        "PatientName: Doe",
        "(0010,0020)",
        str(Path.home() / "longer-than-five"),
    ],
)
def test_paths_and_identifiers_are_found_in_text(text):
    assert list(find_private(json.dumps({"detail": text})))


@pytest.mark.parametrize(
    "text", ["https://example.org/data/set", "images/data/x.png", "12 mm/data", "s3://b/var/x"]
)
def test_addresses_and_relative_paths_are_no_finding(text):
    assert not list(find_private(text))


@pytest.mark.parametrize("text", ["Doe_Jane/scan.dcm", "jane.doe", "DOE, JANE", "x/Jane Doe/y"])
def test_a_person_s_name_is_found_in_the_spellings_of_file_names(text):
    (found,) = find_names(f'{{"path": "{text}"}}', ["Doe^Jane"])
    assert "Jane" not in found


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Doelger, Janet", "Doe^Jane"),  # longer words
        ("LIDC-IDRI-0001/1.dcm", "LIDC-IDRI-0001"),  # a pseudonym
        ("anonymous data", "Anonymous"),
        ("a line", "Li"),
    ],
)
def test_pseudonyms_and_parts_of_words_are_no_name(text, name):
    assert not list(find_names(text, [name]))


def test_broken_image_bytes_become_a_bundle_error():
    for name, data in [
        ("a.png", picture_bytes(np.zeros((5, 7), np.uint8))[:40]),
        ("a.nii.gz", volume_bytes(np.zeros((5, 7, 3), np.uint8))[:-20]),
        ("a.nii.gz", b"plain"),
    ]:
        with pytest.raises(BundleError, match=r"^a\."):
            decode(name, data)


def test_a_gzip_bomb_stops_at_the_limit(monkeypatch):
    monkeypatch.setattr("fusion.bundle.pixels.MAX_BYTES", 1_000)

    with pytest.raises(BundleError) as raised:
        decode("a.nii.gz", volume_bytes(np.zeros((50, 50, 50), np.uint8)))
    assert raised.value.code == "size_limit"


def test_the_command_prints_each_check_and_its_exit_says_the_rest(bundle, capsys):
    call_command("verify_bundle", str(bundle))
    assert "ok     checksums" in capsys.readouterr().out

    (bundle / "README.md").write_text("changed")
    with pytest.raises(CommandError, match="failed: checksums"):
        call_command("verify_bundle", str(bundle), "--json")
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is False
    assert os.sep not in report["checks"][0]["code"]
