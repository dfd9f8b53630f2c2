"""A bundle whose files lie in an object store is looked through as one on a disk is."""

from __future__ import annotations

import boto3
import pytest
from django.core.files.storage import storages

from fusion.models import Bundle
from tests.fusion.conftest import object_server, store
from tests.viewed import SHAPE, make_viewed

__all__ = ["object_server", "store"]
pytestmark = pytest.mark.django_db
KEYS = {"access_key": "test", "secret_key": "test"}


@pytest.fixture
def on_disk(tmp_path, client) -> dict[str, bytes]:
    """What page and API show of the same bundle on a disk."""
    bundle = make_viewed(tmp_path / "disk")
    found = _shown(client, bundle)
    bundle.delete()
    return found


@pytest.fixture
def bundle(on_disk, store: str, settings, tmp_path) -> Bundle:  # noqa: ARG001 - after it
    names = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    boto3.client("s3", "us-east-1", endpoint_url=store, **names).create_bucket(Bucket="bundles")
    settings.STORAGES = {
        **settings.STORAGES,
        "bundles": {
            "BACKEND": "storages.backends.s3.S3Storage",
            "OPTIONS": {
                "bucket_name": "bundles", "endpoint_url": store, "region_name": "us-east-1",
                "location": "made", **KEYS,
            },
        },
    }  # fmt: skip
    made = make_viewed(tmp_path / "s3")
    assert storages["bundles"].__class__.__name__ == "S3Storage"
    return made


def _shown(client, bundle: Bundle) -> dict[str, bytes]:
    case = f"/bundles/{bundle.pk}/cases/known/"
    asked = {"plane": "axial", "index": 15, "overlay": "fill", "level": 0, "width": 300}
    pages = {
        "page": client.get(f"/bundles/{bundle.pk}/"),
        "cases": client.get(f"/bundles/{bundle.pk}/cases/"),
        "case": client.get(case),
        "slice": client.get(f"{case}slice.png", asked),
        "file": client.get(f"/api/v1/bundles/{bundle.pk}/files/README.md"),
        "json": client.get(f"/api/v1/bundles/{bundle.pk}/cases/known/"),
    }
    assert {name: answer.status_code for name, answer in pages.items()} == dict.fromkeys(pages, 200)
    return {
        name: b"".join(answer.streaming_content) if answer.streaming else answer.content
        for name, answer in pages.items()
    }


def test_pages_slices_and_files_are_the_same_from_an_object_store(client, bundle, on_disk):
    found = _shown(client, bundle)

    assert found["slice"].startswith(b"\x89PNG")
    for name in ("slice", "file"):
        assert found[name] == on_disk[name], name
    assert f'"slices":{SHAPE[2]}'.encode() in found["json"].replace(b" ", b"")
    assert b"known" in found["cases"]


def test_a_part_of_a_file_comes_from_an_object_store(client, bundle):
    address = f"/api/v1/bundles/{bundle.pk}/files/README.md"
    whole = b"".join(client.get(address).streaming_content)

    part = client.get(address, headers={"Range": "bytes=5-14"})

    assert part.status_code == 206
    assert b"".join(part.streaming_content) == whole[5:15]
