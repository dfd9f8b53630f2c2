"""Archives of strangers: honest ones become folders, others are refused before they do harm."""

from __future__ import annotations

import io
import logging
import stat
import tarfile
import zipfile

import pytest

from fusion.errors import BuildError
from fusion.imaging.file_hash import file_sha256
from fusion.locations import LocalFolder
from fusion.sources import acquire
from fusion.sources.archive import ArchiveLimits, unpack

FILES = {"set/images/1.png": b"one" * 500, "set/masks/1.png": b"two", "Übersicht.txt": b"text"}


def zipped(path, entries=FILES, **info):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for name, content in entries.items():
            one = zipfile.ZipInfo(name)
            one.compress_type = zipfile.ZIP_DEFLATED
            for key, value in info.items():
                setattr(one, key, value)
            out.writestr(one, content)
    return path


def tarred(path, entries=FILES, **info):
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as out:
        for name, content in entries.items():
            one = tarfile.TarInfo(name)
            one.size = len(content)
            for key, value in info.items():
                setattr(one, key, value)
            out.addfile(one, io.BytesIO(content))
    return path


def found(folder):
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def refusal(path, cache, limits=None):
    with pytest.raises(BuildError) as caught:
        unpack(path, cache, limits)
    left = [p for p in cache.rglob("*") if p.name != "archives"]
    assert left == [], "what is refused leaves nothing behind"
    return caught.value


MAKERS = [(zipped, "a.zip"), (tarred, "a.tar"), (tarred, "a.tar.gz"), (tarred, "a.TGZ")]


@pytest.mark.parametrize(("make", "name"), MAKERS[:3])
def test_a_source_may_be_an_archive_below_the_data_root(tmp_path, make, name):
    archive = make(tmp_path / name)
    place = LocalFolder(kind="local", path=name)

    folder = acquire(place, data_root=tmp_path, cache=tmp_path / "cache")

    assert found(folder) == FILES
    assert folder.name == file_sha256(archive)
    stamp = (folder / "Übersicht.txt").stat().st_mtime_ns
    assert acquire(place, data_root=tmp_path, cache=tmp_path / "cache") == folder
    assert (folder / "Übersicht.txt").stat().st_mtime_ns == stamp
    assert [p.name for p in (tmp_path / "cache" / "archives").iterdir()] == [folder.name]


def test_an_archive_inside_an_archive_stays_a_file(tmp_path):
    inner = zipped(tmp_path / "inner.zip").read_bytes()
    folder = unpack(zipped(tmp_path / "a.zip", {"inner.zip": inner}), tmp_path / "cache")
    assert found(folder) == {"inner.zip": inner}


@pytest.mark.parametrize(("make", "name"), [(zipped, "a.zip"), (tarred, "a.tar.gz")])
@pytest.mark.parametrize(
    "names",
    [
        ["/etc/x"], ["../x"], ["a/../../x"], ["C:x"], ["C:\\x"], ["a\\b"], ["a\x01b"], ["a\nb"],
        ["x" * 300], ["A/x", "a/y"], ["B.png", "b.PNG"], ["a", "a/b"], ["a/b", "a"],
        ["\u00e9.png", "e\u0301.png"], ["x/" * 600 + "y"],
    ],
    ids=lambda names: repr(names)[:24],
)  # fmt: skip
def test_names_that_lead_out_or_clash_are_unsafe(tmp_path, make, name, names):
    archive = make(tmp_path / name, dict.fromkeys(names, b"x"))
    assert refusal(archive, tmp_path / "cache").code == "archive_unsafe"


def test_a_name_twice_is_unsafe(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as out:
        out.writestr("x", b"1")
        with pytest.warns(UserWarning, match="Duplicate"):
            out.writestr("x", b"2")
    assert refusal(tmp_path / "a.zip", tmp_path / "cache").code == "archive_unsafe"


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE],
)
def test_links_and_devices_are_unsafe(tmp_path, kind):
    archive = tarred(tmp_path / "a.tar", {"x": b""}, type=kind, linkname="/etc/passwd")
    assert "link or a device" in str(refusal(archive, tmp_path / "cache"))


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK])
def test_links_in_a_zip_are_unsafe(tmp_path, mode):
    archive = zipped(tmp_path / "a.zip", {"x": b"/etc/passwd"}, external_attr=(mode | 0o777) << 16)
    assert "link or a device" in str(refusal(archive, tmp_path / "cache"))


@pytest.mark.parametrize(("make", "name"), MAKERS)
def test_size_and_number_are_bounded(tmp_path, make, name):
    archive = make(tmp_path / name, {"a": bytes(5000), "b": bytes(5000)})
    for limits in (ArchiveLimits(expanded_bytes=9999), ArchiveLimits(members=1)):
        assert refusal(archive, tmp_path / "cache", limits).code == "archive_unsafe"


def test_a_strong_ratio_is_a_warning(tmp_path, caplog):
    archive = zipped(tmp_path / "a.zip", {"mask.raw": bytes(3_000_000)})
    with caplog.at_level(logging.WARNING):
        assert found(unpack(archive, tmp_path / "cache")) == {"mask.raw": bytes(3_000_000)}
    assert "grew" in caplog.text


def test_a_zip_that_lies_about_sizes_or_overlaps_is_refused(tmp_path):
    content = bytearray(zipped(tmp_path / "a.zip", {"a": bytes(5000)}).read_bytes())
    at = content.rindex(b"PK\x01\x02")
    content[at + 24 : at + 28] = (10).to_bytes(4, "little")
    (tmp_path / "b.zip").write_bytes(content)
    assert refusal(tmp_path / "b.zip", tmp_path / "cache").code in {
        "archive_unsafe", "source_failed",
    }  # fmt: skip
    content[at + 20 : at + 24] = (10**6).to_bytes(4, "little")
    (tmp_path / "c.zip").write_bytes(content)
    assert "overlap" in str(refusal(tmp_path / "c.zip", tmp_path / "cache"))


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tgz"])
def test_damaged_archives_fail_the_source(tmp_path, name):
    make = zipped if name.endswith("zip") else tarred
    whole = make(tmp_path / name).read_bytes()
    broken = whole[:20] + b"\xff" * 9 + whole[29:]
    for content in (b"no archive at all" * 40, whole[: len(whole) // 3], b"", broken):
        (tmp_path / name).write_bytes(content)
        assert refusal(tmp_path / name, tmp_path / "cache").code == "source_failed"


def test_a_zip_with_an_empty_name_or_a_wrong_offset_is_refused(tmp_path):
    whole = zipped(tmp_path / "a.zip", {"\0b": b"x"}).read_bytes().replace(b"_b", b"\0b")
    (tmp_path / "a.zip").write_bytes(whole)
    assert refusal(tmp_path / "a.zip", tmp_path / "cache").code == "archive_unsafe"
    content = bytearray(zipped(tmp_path / "b.zip", {"b": b"x"}).read_bytes())
    at = content.rindex(b"PK\x05\x06")
    content[at + 16 : at + 20] = (2**31).to_bytes(4, "little")
    (tmp_path / "b.zip").write_bytes(content)
    assert refusal(tmp_path / "b.zip", tmp_path / "cache").code == "source_failed"


def test_a_wrong_checksum_fails_the_source(tmp_path):
    whole = tarred(tmp_path / "a.tgz").read_bytes()
    (tmp_path / "a.tgz").write_bytes(whole[:-8] + bytes(4) + whole[-4:])
    assert refusal(tmp_path / "a.tgz", tmp_path / "cache").code == "source_failed"


def test_an_encrypted_zip_says_so(tmp_path):
    content = bytearray(zipped(tmp_path / "a.zip", {"a": b"x"}).read_bytes())
    at = content.rindex(b"PK\x01\x02")
    content[at + 8] |= 1
    (tmp_path / "a.zip").write_bytes(content)
    assert "encrypted" in str(refusal(tmp_path / "a.zip", tmp_path / "cache"))


def test_an_archive_reached_by_a_link_is_refused(tmp_path):
    outside = zipped(tmp_path / "outside.zip")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "a.zip").symlink_to(outside)
    with pytest.raises(BuildError, match="leads out of the data root"):
        acquire(
            LocalFolder(kind="local", path="a.zip"), data_root=tmp_path / "root", cache=tmp_path
        )
