"""Bundles over the API: lists, and downloads byte for byte."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import tarfile

import pytest
from PIL import Image

from fusion.models import Bundle
from tests.factories import FILES, make_bundle
from tests.fusion.test_real_cases import build as build_recipe
from tests.fusion.test_real_cases import made_source
from workers.publish import publish

pytestmark = pytest.mark.django_db
SHARD = "shards/train-000000.tar"


@pytest.fixture
def bundle() -> Bundle:
    return make_bundle()


@pytest.fixture
def fused(tmp_path) -> Bundle:
    """A bundle built from made-up pictures and published."""
    data = tmp_path / "data"
    build, _ = build_recipe(
        "retinal-vessels", data, tmp_path / "out", **made_source(data, (24, 31))
    )
    return publish(build.out, build.locked_plan(), {})


def content(answer) -> bytes:
    return b"".join(answer.streaming_content) if answer.streaming else answer.content


def test_a_list_is_an_object_with_pages(client):
    make_bundle()
    make_bundle({"one.txt": b"1"})
    first = client.get("/api/v1/bundles/", {"page_size": 1}).json()

    second = client.get(first["next"]).json()

    assert (first["total"], second["next"]) == (2, None)
    ids = {row["bundle_id"] for row in (*first["results"], *second["results"])}
    assert len(ids) == 2
    assert client.get("/api/v1/bundles/", {"page": 9}).json()["results"] == []


def test_metadata_names_page_and_download(client, bundle):
    row = client.get(f"/api/v1/bundles/{bundle.pk}/").json()

    assert row["summary"]["cases"] == 3
    assert row["download"] == f"/api/v1/bundles/{bundle.pk}/download/"
    assert client.get(row["page"]).status_code == 200


def test_the_tar_holds_every_file_and_the_sums(client, bundle):
    answer = client.get(f"/api/v1/bundles/{bundle.pk}/download/")
    data = content(answer)

    assert int(answer["Content-Length"]) == len(data)
    assert answer["Content-Type"] == "application/x-tar"
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        root = bundle.pk[:12]
        names = [f"{root}/{path}" for path in (*FILES, "SHA256SUMS", "build_info.json")]
        assert tar.getnames() == names
        member = tar.extractfile(f"{root}/{SHARD}")
        assert member is not None
        assert member.read() == FILES[SHARD]


def test_a_download_in_pieces_is_the_download(client, bundle):
    address = f"/api/v1/bundles/{bundle.pk}/download/"
    first = client.get(address)
    whole = content(first)
    cuts = [0, 1, 511, 512, 700, 5000, len(whole) - 1, len(whole)]

    pieces = []
    for start, stop in itertools.pairwise(cuts):
        headers = {"Range": f"bytes={start}-{stop - 1}", "If-Range": first["ETag"]}
        answer = client.get(address, headers=headers)
        assert answer.status_code == 206
        assert answer["Content-Range"] == f"bytes {start}-{stop - 1}/{len(whole)}"
        pieces.append(content(answer))

    assert b"".join(pieces) == whole


def test_a_known_tag_brings_no_bytes(client, bundle):
    address = f"/api/v1/bundles/{bundle.pk}/download/"
    first = client.get(address)

    again = client.get(address, headers={"If-None-Match": first["ETag"]})

    assert again.status_code == 304
    assert again.content == b""
    assert again["ETag"] == first["ETag"]


def test_a_changed_bundle_is_sent_whole_instead_of_resumed(client, bundle):
    address = f"/api/v1/bundles/{bundle.pk}/download/"
    headers = {"Range": "bytes=100-", "If-Range": '"of another build"'}

    answer = client.get(address, headers=headers)

    assert answer.status_code == 200
    assert len(content(answer)) == int(answer["Content-Length"])


def test_head_says_the_size_and_sends_nothing(client, bundle):
    address = f"/api/v1/bundles/{bundle.pk}/download/"

    answer = client.head(address)

    assert answer.status_code == 200
    assert content(answer) == b""
    assert int(answer["Content-Length"]) == len(content(client.get(address)))
    assert answer["Accept-Ranges"] == "bytes"


def test_a_range_past_the_end_is_refused_with_the_size(client, bundle):
    size = len(FILES[SHARD])
    answer = client.get(
        f"/api/v1/bundles/{bundle.pk}/files/{SHARD}", headers={"Range": f"bytes={size}-"}
    )

    assert answer.status_code == 416
    assert answer["Content-Range"] == f"bytes */{size}"
    assert answer.json()["status"] == 416


def test_one_file_is_tagged_with_its_hash_and_sent_in_ranges(client, bundle):
    address = f"/api/v1/bundles/{bundle.pk}/files/{SHARD}"

    answer = client.get(address, headers={"Range": "bytes=-300", "Accept": "application/x-tar"})

    assert answer["ETag"] == f'"{hashlib.sha256(FILES[SHARD]).hexdigest()}"'
    assert content(answer) == FILES[SHARD][-300:]
    assert answer["Content-Disposition"] == 'attachment; filename="train-000000.tar"'
    assert answer["Content-Type"] == "application/octet-stream"


@pytest.mark.parametrize("path", ["SHA256SUMS", "build_info.json"])
def test_files_outside_the_sums_can_be_fetched_too(client, bundle, path):
    assert client.get(f"/api/v1/bundles/{bundle.pk}/files/{path}").status_code == 200


@pytest.mark.parametrize(
    "path", ["../secret", "..%2f..%2fsecret", "%2e%2e/secret", "/etc/passwd", "shards", "nope"]
)
def test_a_path_that_the_bundle_does_not_name_is_not_found(client, bundle, tmp_path, path):
    (tmp_path / "bundles" / "secret").write_text("hidden words")

    answer = client.get(f"/api/v1/bundles/{bundle.pk}/files/{path}")

    assert answer.status_code == 404
    assert b"hidden words" not in content(answer)


def test_files_are_listed_with_size_hash_and_address(client, bundle):
    rows = client.get(f"/api/v1/bundles/{bundle.pk}/files/").json()

    assert rows["total"] == len(FILES) + 2
    for row in rows["results"]:
        data = content(client.get(row["url"]))
        assert (len(data), hashlib.sha256(data).hexdigest()) == (row["bytes"], row["sha256"])


def test_a_view_comes_as_one_tar_that_the_tool_can_read(client, fused, tmp_path):
    """`fused` is a bundle of real shards: its pixels are cut out of them on the way."""
    address = f"/api/v1/bundles/{fused.pk}/download/"
    answer = client.get(address, {"view": "nnunet"})
    data = content(answer)

    assert int(answer["Content-Length"]) == len(data)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        tar.extractall(tmp_path / "unpacked", filter="data")
    (found,) = (tmp_path / "unpacked").glob("*/**/dataset.json")
    stated = json.loads(found.read_text())
    images = list(found.parent.glob("imagesTr/*_0000.png"))
    assert len(images) == stated["numTraining"] > 0
    assert all(Image.open(path).size == (31, 24) for path in images)

    piece = client.get(address, {"view": "nnunet"}, headers={"Range": "bytes=700-4999"})
    assert (piece.status_code, content(piece)) == (206, data[700:5000])
    assert client.get(address, {"view": "nnunett"}).status_code == 400
    page = client.get(f"/bundles/{fused.pk}/").content.decode()
    assert f"{address}?view=nnunet" in page
