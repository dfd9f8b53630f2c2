from __future__ import annotations

import io
import random
import tarfile

import pytest

from fusion.bundle.download import BundleTar
from fusion.bundle.errors import BundleError
from fusion.bundle.verify import verify_bundle
from fusion.bundle.write import list_files


def tar_of(folder, root="bundle-0123456789ab") -> BundleTar:
    names = list_files(folder)
    files = [{"path": name, "bytes": (folder / name).stat().st_size} for name in names]
    return BundleTar(files, lambda path: (folder / path).open("rb"), root)


def test_the_stream_is_a_tar_that_verifies(built_once, tmp_path):
    tar = tar_of(built_once["2D"])
    data = b"".join(tar.iter_range())
    (tmp_path / "bundle.tar").write_bytes(data)

    assert len(data) == tar.size
    with tarfile.open(fileobj=io.BytesIO(data)) as opened:
        names = [m.name.partition("/")[2] for m in opened]
    assert names == list_files(built_once["2D"])
    assert verify_bundle(tmp_path / "bundle.tar").ok


def test_every_range_is_a_slice_of_the_whole(built_once):
    tar = tar_of(built_once["3D"])
    whole = b"".join(tar.iter_range())
    edges = sorted({0, 1, 511, 512, 513, tar.size - 1024, tar.size - 1, tar.size, *tar._starts})
    rng = random.Random(7)  # noqa: S311
    pairs = [(a, b) for a in edges[:12] + edges[-6:] for b in edges[:12] + edges[-6:] if a <= b]
    pairs += [tuple(sorted(rng.choices(range(tar.size + 1), k=2))) for _ in range(300)]
    for start, end in pairs:
        assert b"".join(tar.iter_range(start, end)) == whole[start:end], (start, end)


def test_the_tag_follows_the_content(built_once):
    folder = built_once["2D"]
    assert tar_of(folder).etag == tar_of(folder).etag
    assert tar_of(folder).etag != tar_of(folder, "other").etag
    assert tar_of(folder).etag.startswith('"')


def test_a_range_outside_is_refused(built_once):
    tar = tar_of(built_once["2D"])
    for start, end in [(-1, 2), (5, 4), (0, tar.size + 1)]:
        with pytest.raises(BundleError, match="expected within"):
            list(tar.iter_range(start, end))


def test_a_file_that_shrank_breaks_the_stream():
    tar = BundleTar([{"path": "a", "bytes": 10}], lambda _: io.BytesIO(b"short"), "root")

    with pytest.raises(BundleError, match="found 5 bytes"):
        list(tar.iter_range())


@pytest.mark.parametrize("path", ["../a", "/a", "a//b", "a/./b", ""])
def test_an_unsafe_path_is_refused(path):
    with pytest.raises(BundleError, match="relative path"):
        BundleTar([{"path": path, "bytes": 1}], lambda _: io.BytesIO(b"x"), "root")
