"""The plan of a dataset by API and on its page."""

from __future__ import annotations

import pytest

from tests.factories import make_dataset

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("lung")]


@pytest.fixture
def lung():
    url = "https://portal.imaging.datacommons.cancer.gov/explore/?collection_id=4d_lung"
    link = {"url": url, "kind": "download", "source": "idc", "issue": None}
    return make_dataset("lung", links=[link], size_bytes=183043903814, access="open")


def plan(client, **params):
    return client.get("/api/v1/datasets/lung/acquisition/", params)


def test_a_plan_says_what_it_takes_before_anything_is_fetched(client):
    found = plan(client).json()

    assert (found["connector"], found["is_automatic"]) == ("idc", True)
    assert found["location"]["collections"] == ["4d_lung"]
    assert found["bytes"] == found["disk_bytes"] == 183043903814
    assert found["needs"] == "none"
    assert found["steps"]


def test_a_part_has_exact_files_and_bytes(client):
    found = plan(client, subjects="1", modality="CT").json()

    assert (found["selected"], found["subjects"]) == (True, 1)
    assert 0 < found["bytes"] < 183043903814
    assert found["files"] > found["series"] > 0


@pytest.mark.parametrize(
    ("params", "path"),
    [({"modality": "XX"}, "modality"), ({"subjects": "0"}, "subjects"), ({"size": "1"}, "size")],
)
def test_a_part_that_cannot_be_is_a_400_that_names_it(client, params, path):
    answer = plan(client, **params)

    assert answer.status_code == 400
    assert answer.json()["errors"][0]["path"] == path


def test_the_page_says_how_to_get_it(client):
    html = client.get("/datasets/lung/").content.decode()

    assert "How to get it" in html
    assert "Imaging Data Commons" in html
    assert "location: {&quot;kind&quot;: &quot;idc&quot;" in html
    assert "/api/v1/datasets/lung/acquisition/" in html
