"""Saved searches: kept by page and API in one spelling, private to who keeps them."""

from __future__ import annotations

import re
from html import unescape

import pytest
from django.contrib.auth.models import User
from django.test import Client

from portal import searches
from portal.models import ApiToken, SavedSearch, Scope

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("datasets")]
API = "/api/v1/searches/"


@pytest.fixture
def ada(client) -> Client:
    client.force_login(User.objects.create(username="ada"))
    return client


def _form(html: str) -> dict[str, str]:
    """The fields of the form that saves the search of a page."""
    form = re.search(r'<form [^>]+"/account/searches/save/".*?</form>', html, re.DOTALL)
    assert form is not None
    found = re.findall(r'name="(\w+)"(?: value="([^"]*)")?', form[0])
    return {name: unescape(value) for name, value in found}


def _save(client: Client, body: dict[str, str], **more):
    return client.post(API, body, content_type="application/json", **more)


def test_a_search_page_saves_its_search_and_the_list_leads_back(ada):
    asked = {"q": "fundus", "modality": "Fundus photography", "sort": "name", "page": "1"}
    html = ada.get("/datasets/", asked).content.decode()

    assert ada.post("/account/searches/save/", _form(html))["Location"] == "/account/searches/"

    page = unescape(ada.get("/account/searches/").content.decode())
    saved = SavedSearch.objects.get()
    assert saved.name == "fundus, Modality: Fundus photography"
    assert saved.query == "q=fundus&modality=Fundus+photography"
    assert f'href="/datasets/?{saved.query}"' in page
    found = ada.get(f"/datasets/?{saved.query}").content.decode()
    assert "2 datasets match" in found
    assert ada.get(f"/datasets/feed/?{saved.query}").status_code == 200
    assert f'href="/datasets/feed/?{saved.query}"' in page


def test_a_visitor_is_offered_the_feed_alone(client):
    html = client.get("/datasets/", {"q": "fundus"}).content.decode()

    assert "Save search" not in html
    assert 'href="/datasets/feed/?q=fundus"' in html
    assert client.post("/account/searches/save/", {"query": "q=x"})["Location"].startswith("/login")
    assert client.get(API).status_code == 401
    assert _save(client, {"query": "q=x"}).json()["code"] == "sign_in_required"
    assert not SavedSearch.objects.exists()


def test_one_search_is_kept_once_and_takes_a_new_name(ada):
    first = _save(ada, {"query": "?modality=OCT&q=eye"}).json()
    again = _save(ada, {"query": "q=eye&modality=optical coherence tomography&page=3"}).json()
    named = _save(ada, {"query": "q=eye&modality=OCT", "name": " Eyes  of OCT "}).json()

    assert first["id"] == again["id"] == named["id"]
    assert (first["name"], again["name"]) == ("eye, Modality: OCT", "eye, Modality: OCT")
    assert named["name"] == "Eyes of OCT"
    assert ada.get(API).json()["total"] == 1
    assert ada.get(named["results"]).status_code == 200


def test_they_are_renamed_and_deleted(ada):
    saved = _save(ada, {"query": ""}).json()
    address = f"{API}{saved['id']}/"

    assert saved["name"] == "all"
    patched = ada.patch(address, {"name": "Everything"}, content_type="application/json")
    assert (patched.status_code, patched.json()["name"]) == (200, "Everything")
    ada.post(f"/account/searches/{saved['id']}/rename/", {"name": ""})
    assert ada.get(address).json()["name"] == "all"
    ada.post(f"/account/searches/{saved['id']}/rename/", {"name": "x" * 200})
    assert ada.get(address).json()["name"] == "x" * 80
    assert ada.delete(address).status_code == 204
    again = _save(ada, {"query": "q=eye"}).json()
    ada.post(f"/account/searches/{again['id']}/delete/")
    assert ada.get(API).json()["results"] == []


@pytest.mark.parametrize(
    ("query", "said"),
    [("modality=Fundos", "Fundus photography"), ("colour=red", "colour"), ("q=" + "a" * 2001, "")],
)
def test_what_is_no_search_is_not_saved(ada, query, said):
    page = ada.post("/account/searches/save/", {"query": query})
    answer = _save(ada, {"query": query})

    assert (page.status_code, answer.status_code) == (400, 400)
    assert said in page.content.decode()
    assert said in str(answer.json()["errors"])
    assert not SavedSearch.objects.exists()


def test_there_is_an_end_to_them(ada, monkeypatch):
    monkeypatch.setattr(searches, "MOST_SAVED", 2)
    for word in ("one", "two"):
        assert _save(ada, {"query": f"q={word}"}).status_code == 201

    assert "delete one first" in str(_save(ada, {"query": "q=three"}).json())
    assert _save(ada, {"query": "q=two"}).status_code == 201


def test_two_people_keep_the_same_search(ada):
    _save(ada, {"query": "q=eye"})
    other = Client()
    other.force_login(User.objects.create(username="bob"))

    assert other.get(API).json()["total"] == 0
    assert _save(other, {"query": "q=eye"}).status_code == 201
    assert SavedSearch.objects.count() == 2


def test_a_reading_token_reads_and_saves_nothing(client):
    owner = User.objects.create(username="ada")
    token = ApiToken.objects.issue(owner, "t", [Scope.READ])[1]
    headers = {"Authorization": f"Bearer {token}"}

    assert client.get(API, headers=headers).status_code == 200
    assert _save(client, {"query": "q=x"}, headers=headers).status_code == 403


def test_a_name_is_no_markup(ada):
    _save(ada, {"query": "q=eye", "name": "<script>alert(1)</script>"})

    assert "<script>alert" not in ada.get("/account/searches/").content.decode()
