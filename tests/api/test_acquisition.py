"""The plan of a dataset by API and on its page."""

from __future__ import annotations

import pytest

from tests.factories import make_dataset
from tests.fusion.servers import COMMIT, HubHandler, Site, hub, serving

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


FILES = {"images/1.png": bytes(1000), "images/2.png": bytes(2000), "labels.csv": b"name"}


@pytest.fixture
def hub_set(settings, monkeypatch):
    """A dataset whose files are on the Hub, of which the catalog knows the address alone."""
    site = Site()
    hub(site, FILES)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    settings.FETCH_NETWORKS = ["127.0.0.0/8"]
    link = {"url": "https://huggingface.co/datasets/some/set", "kind": "official"}
    make_dataset("hub-set", links=[{**link, "source": "curation", "issue": None}], access="open")
    with serving(site, HubHandler) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        yield site


def test_the_place_is_asked_for_files_bytes_and_version_of_a_part_and_fetches_nothing(
    client, hub_set
):
    address = "/api/v1/datasets/hub-set/acquisition/"
    offline = client.get(address).json()
    whole = client.get(address, {"ask": "true"}).json()
    part = client.get(address, {"pattern": ["images/*"]}).json()
    nothing = client.get(address, {"pattern": ["*.nii"]}).json()

    assert (offline["to_pin"], offline["files"], offline["bytes"]) == (["revision"], None, None)
    assert (whole["files"], whole["bytes"], whole["to_pin"]) == (3, 3004, [])
    assert whole["location"]["revision"] == COMMIT
    assert (part["files"], part["bytes"], part["selected"]) == (2, 3000, True)
    assert part["location"]["allow_patterns"] == ["images/*"]
    assert (nothing["files"], nothing["bytes"]) == (0, 0)
    assert not any("/resolve/" in path for _, path, _ in hub_set.asked)


def test_what_a_place_refuses_is_said_and_visitors_sign_in_where_that_is_asked_for(
    client, hub_set, settings
):
    hub_set.faults["/api/datasets/some/set"] = [(401, {"X-Error-Code": "GatedRepo"})]

    refused = client.get("/api/v1/datasets/hub-set/acquisition/", {"ask": "true"})
    settings.REQUIRE_SIGN_IN = True
    visitor = client.get("/api/v1/datasets/hub-set/acquisition/", {"ask": "true"})
    page = client.post("/datasets/hub-set/files/")

    assert refused.status_code == 400
    assert "set HF_TOKEN" in refused.json()["errors"][0]["message"]
    assert visitor.status_code == 401
    assert page["Location"].startswith("/login/")


def test_the_page_asks_for_a_part(client, hub_set):
    before = client.get("/datasets/hub-set/files/").content.decode()
    after = client.post("/datasets/hub-set/files/", {"patterns": "images/1.png labels.csv"})
    lung = client.post("/datasets/lung/files/", {"subjects": "1", "modality": "CT"})
    wrong = client.post("/datasets/lung/files/", {"modality": "XX"})

    assert "What it takes" not in before
    assert "<dt>Files</dt><dd>2</dd>" in after.content.decode()
    assert "1004\xa0bytes" in after.content.decode()
    assert COMMIT in after.content.decode()
    assert "<dt>Subjects</dt><dd>1</dd>" in lung.content.decode()
    assert wrong.status_code == 422
    assert hub_set.asked
