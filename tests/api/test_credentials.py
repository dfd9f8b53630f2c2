"""Credentials and accepted terms by API and on the pages of an account."""

from __future__ import annotations

import json

import pytest
from django.contrib.auth.models import User
from django.test import Client

from tests.factories import make_dataset
from tests.fusion.made import member, recipe
from workers.models import AcceptedTerms, Credential

pytestmark = pytest.mark.django_db
SECRET = "zen_canary55c2a8"
BASE = "/api/v1/credentials/"


@pytest.fixture
def ann() -> User:
    return User.objects.create(username="ann")


@pytest.fixture
def mine(client: Client, ann: User) -> Client:
    client.force_login(ann)
    return client


def give(client: Client, name: str = "ZENODO_TOKEN", value: str = SECRET):
    return client.put(f"{BASE}{name}/", {"value": value}, content_type="application/json")


def row(client: Client, name: str = "ZENODO_TOKEN") -> dict:
    return next(one for one in client.get(BASE).json()["results"] if one["name"] == name)


def test_a_credential_is_given_changed_and_removed_and_its_value_is_in_no_answer(mine):
    given = give(mine)
    sealed = Credential.objects.get().sealed
    changed = give(mine, value=SECRET + "2")
    listed, page = mine.get(BASE), mine.get("/account/credentials/")

    assert given.json()["given"]
    assert Credential.objects.get().sealed != sealed
    for answer in (given, changed, listed, page):
        assert answer.status_code == 200
        assert SECRET.encode() not in answer.content
    assert mine.delete(f"{BASE}ZENODO_TOKEN/").status_code == 204
    assert not row(mine)["given"]
    assert mine.delete(f"{BASE}ZENODO_TOKEN/").status_code == 404


def test_nobody_elses_credentials_are_seen_tested_or_removed(mine):
    give(mine)
    other = Client()
    other.force_login(User.objects.create(username="ben"))

    assert not row(other)["given"]
    assert other.post(f"{BASE}ZENODO_TOKEN/test/").status_code == 404
    assert other.delete(f"{BASE}ZENODO_TOKEN/").status_code == 404
    assert other.post("/account/credentials/ZENODO_TOKEN/remove/").status_code == 404
    assert row(mine)["given"]


def test_visitors_have_none(client):
    assert client.get(BASE).status_code == give(client).status_code == 401
    assert client.get("/account/credentials/").status_code == 302


@pytest.mark.parametrize(("name", "value"), [("NO_SUCH", SECRET), ("PHYSIONET_LOGIN", SECRET)])
def test_a_value_that_cannot_be_one_is_refused_and_not_repeated(mine, name, value):
    answer = give(mine, name, value)
    page = mine.post("/account/credentials/", {"name": name, "value": value})

    assert (answer.status_code, page.status_code) == (400, 422)
    assert answer.json()["code"] == "credential_invalid"
    assert SECRET.encode() not in answer.content + page.content


def test_the_page_takes_tests_and_removes(mine):
    mine.post("/account/credentials/", {"name": "ZENODO_TOKEN", "value": SECRET})
    html = mine.get("/account/credentials/").content.decode()

    assert "/account/credentials/ZENODO_TOKEN/test/" in html
    assert mine.post("/account/credentials/ZENODO_TOKEN/remove/").status_code == 302
    assert not Credential.objects.exists()


@pytest.fixture
def signed():
    link = {"url": "https://zenodo.org/records/7", "kind": "official", "source": "curation"}
    return make_dataset(
        "signed", links=[link | {"issue": None}], licence="CC-BY-4.0", access="registration"
    )


@pytest.mark.usefixtures("signed")
def test_terms_are_accepted_once_and_shown_with_the_plan(mine):
    address = "/api/v1/datasets/signed/"
    plan = mine.get(f"{address}acquisition/").json()

    def accept(digest: str):
        return mine.post(f"{address}terms/", {"digest": digest}, content_type="application/json")

    assert plan["accepted_at"] is None
    assert plan["accept"] == ["the terms at https://zenodo.org/records/7"]
    assert accept("0" * 64).json()["code"] == "terms_changed"
    assert accept(plan["accept_digest"]).json()["accepted_at"]
    assert mine.get(f"{address}acquisition/").json()["accepted_at"]
    assert Client().get(f"{address}acquisition/").json()["accepted_at"] is None
    assert AcceptedTerms.objects.count() == 1


@pytest.mark.usefixtures("signed")
def test_terms_are_accepted_on_their_page(mine):
    html = mine.get("/datasets/signed/").content.decode()
    page = mine.get("/datasets/signed/terms/").content.decode()
    digest = mine.get("/api/v1/datasets/signed/acquisition/").json()["accept_digest"]

    assert "/datasets/signed/terms/" in html
    assert digest in page
    assert mine.post("/datasets/signed/terms/", {"digest": "0" * 64}).status_code == 409
    assert mine.post("/datasets/signed/terms/", {"digest": digest}).status_code == 302
    assert "You accepted these terms" in mine.get("/datasets/signed/terms/").content.decode()
    assert "signed" in mine.get("/account/credentials/").content.decode()


@pytest.mark.usefixtures("signed")
def test_a_run_that_needs_them_is_refused_by_page_and_api_with_what_to_do(mine):
    place = {"kind": "http", "files": [{"url": "https://example.org/a.zip"}]}
    asked = recipe({**member("a"), "dataset": "signed", "location": place})

    by_api = mine.post("/api/v1/runs/", {"recipe": asked}, content_type="application/json")
    by_page = mine.post("/recipes/start/", {"recipe": json.dumps(asked)})

    assert (by_api.status_code, by_api.json()["code"]) == (409, "terms_open")
    assert by_api.json()["errors"][0]["path"] == "signed"
    assert by_page.status_code == 422
    for answer in (by_api, by_page):
        assert "https://zenodo.org/records/7" in answer.content.decode()


@pytest.mark.usefixtures("signed")
def test_a_stated_speed_gives_the_time(client):
    plan = client.get("/api/v1/datasets/signed/acquisition/", {"mbit": "100"}).json()

    assert (plan["seconds"], plan["speed"]) == (None, "")  # nobody states its bytes
