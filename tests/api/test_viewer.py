"""A bundle's cases and their slices over the API."""

from __future__ import annotations

import pytest

from fusion.models import Bundle
from tests.factories import make_bundle
from tests.viewed import SHAPE, make_viewed

pytestmark = pytest.mark.django_db


@pytest.fixture
def bundle(tmp_path) -> Bundle:
    return make_viewed(tmp_path)


def test_cases_are_listed_with_their_labels_and_narrowed(client, bundle):
    address = f"/api/v1/bundles/{bundle.pk}/cases/"
    everything = client.get(address, {"page_size": 2}).json()
    some = client.get(address, {"source": "first", "split": "train"}).json()

    assert (everything["total"], len(everything["results"])) == (3, 2)
    assert client.get(everything["next"]).json()["next"] is None
    (case,) = some["results"]
    assert case["id"] == "known"
    assert case["splits"] == ["train"]
    assert case["annotated"] == ["hippocampus-anterior"]
    assert case["present"]["hippocampus-anterior"] == 6 * 5 * 3
    assert client.get(case["page"]).status_code == 200
    assert client.get(case["slice"])["Cache-Control"].endswith("immutable")
    refused = client.get(address, {"source": "nobody"})
    assert (refused.status_code, refused.json()["errors"][0]["path"]) == (400, "source")


def test_a_case_says_what_can_be_looked_at(client, bundle):
    case = client.get(f"/api/v1/bundles/{bundle.pk}/cases/known/").json()

    slices = {plane["name"]: plane["slices"] for plane in case["planes"]}
    assert slices == dict(zip(("sagittal", "coronal", "axial"), SHAPE, strict=True))
    assert case["windows"][0] == {"name": "soft tissue", "low": -160.0, "high": 240.0}
    assert case["legend"][0]["concept"] == "hippocampus-anterior"
    assert case["not_shown"] == ""


def test_page_and_api_draw_the_same_slice(client, bundle):
    asked = {"plane": "coronal", "index": 24, "overlay": "fill", "level": 0, "width": 500}

    page = client.get(f"/bundles/{bundle.pk}/cases/known/slice.png", asked)
    api = client.get(f"/api/v1/bundles/{bundle.pk}/cases/known/slice.png", asked)

    assert api["Content-Type"] == "image/png"
    assert api.content == page.content


def test_an_image_that_is_too_large_is_said_to_be(client, bundle, settings):
    settings.VIEWER_BYTES = 1000

    case = client.get(f"/api/v1/bundles/{bundle.pk}/cases/known/").json()
    picture = client.get(f"/api/v1/bundles/{bundle.pk}/cases/known/slice.png")

    assert "unpacks to" in case["not_shown"]
    assert (picture.status_code, picture.json()["code"]) == (422, "not_shown")


def test_a_bundle_without_a_manifest_has_no_cases(client):
    bundle = make_bundle()

    assert client.get(f"/api/v1/bundles/{bundle.pk}/cases/").status_code == 404
    assert client.get(f"/bundles/{bundle.pk}/cases/").status_code == 404
