"""Suggesting a correction and deciding on it, as pages."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client

from catalog.corrections import FIELDS
from catalog.models import Correction, Dataset
from portal.models import CURATORS

pytestmark = pytest.mark.usefixtures("datasets")
FORM = "/datasets/first-fundus/correct/"
EVIDENCE = {"url": "https://example.org/terms", "quote": "as it says", "reason": ""}


@pytest.fixture
def curator() -> Client:
    user = User.objects.create_user("ada")
    user.groups.add(Group.objects.get_or_create(name=CURATORS)[0])
    signed_in = Client()
    signed_in.force_login(user)
    return signed_in


@pytest.mark.parametrize("field", FIELDS)
def test_every_field_has_a_form(client, field):
    html = client.get(FORM, {"field": field}).content.decode()

    assert "Send to the curators" in html


@pytest.mark.parametrize(
    ("field", "given", "kept"),
    [
        ("year", {"value": "2012"}, 2012),
        ("modalities", {"value": ["CT", "MR"]}, ["CT", "MR"]),
        ("diseases", {}, []),
        ("classes", {"value": "disc\n\n cup "}, ["disc", "cup"]),
        ("labelled", {"value": "yes"}, True),
        ("licence", {"unknown": "on"}, None),
        (
            "counts",
            {"number": "40", "unit": "image", "split": "test", "what": ""},
            {"number": 40, "unit": "image", "split": "test", "what": None},
        ),
        (
            "links",
            {"address": "https://example.org/", "kind": "download"},
            {"url": "https://example.org/", "kind": "download"},
        ),
        (
            "spacing",
            {"value": "0.8 x 0.8 x 2.5"},
            {"min_mm": None, "median_mm": [0.8, 0.8, 2.5], "max_mm": None},
        ),
    ],
)
def test_what_the_form_gives_is_kept_as_a_record_holds_it(client, field, given, kept):
    answer = client.post(f"{FORM}?field={field}", {**given, **EVIDENCE})

    assert answer.status_code == 302, answer.content.decode()
    assert Correction.objects.get().value == kept


def test_a_visitor_suggests_a_curator_accepts_and_all_see_it(client, curator):
    html = client.get("/datasets/first-fundus/").content.decode()
    assert f"{FORM}?field=year" in html
    sent = client.post(f"{FORM}?field=year", {"value": "2012", **EVIDENCE}, follow=True)
    page = sent.redirect_chain[-1][0]
    assert "Waits for a curator" in sent.content.decode()
    assert "First Fundus: Year" not in client.get("/corrections/").content.decode()
    assert "First Fundus: Year" in curator.get("/corrections/").content.decode()

    answer = curator.post(f"{page}accept/", {"reason": ""}, follow=True)

    assert "the catalog follows it" in answer.content.decode()
    assert Dataset.objects.get(slug="first-fundus").year == 2012
    html = client.get("/datasets/first-fundus/").content.decode()
    assert "accepted by ada" in html
    assert "https://example.org/terms" in html
    assert "First Fundus: Year" in client.get("/corrections/").content.decode()


def test_a_rejection_without_a_reason_is_asked_for_one(client, curator):
    page = client.post(f"{FORM}?field=year", {"value": "2012", **EVIDENCE})["Location"]

    answer = curator.post(f"{page}reject/", {"reason": " "})

    assert answer.status_code == 422
    assert "why it is not followed" in answer.content.decode()
    curator.post(f"{page}reject/", {"reason": "another set"})
    assert "another set" in client.get(page).content.decode()
    assert curator.post(f"{page}accept/").status_code == 409


def test_only_curators_decide(client):
    page = client.post(f"{FORM}?field=year", {"value": "2012", **EVIDENCE})["Location"]

    assert client.post(f"{page}accept/")["Location"].startswith("/login/?next=/corrections/")
    assert "<h2>Accept</h2>" not in client.get(page).content.decode()
    client.force_login(User.objects.create_user("somebody"))
    assert client.post(f"{page}accept/").status_code == 403
    assert Correction.objects.get().state == "open"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"value": "1066", **EVIDENCE}, "1895"),
        ({"value": "2012", "url": "javascript:alert(1)", "quote": "x"}, "http(s) address"),
        ({"value": "2012", "url": "https://example.org/"}, "in its words"),
        ({"value": "2011", **EVIDENCE}, "another value"),
        ({"value": "", **EVIDENCE}, "expected a value"),
    ],
)
def test_what_cannot_be_taken_is_said_and_the_rest_of_the_form_is_kept(client, given, said):
    answer = client.post(f"{FORM}?field=year", given)

    assert answer.status_code == 422
    html = answer.content.decode()
    assert said in html
    assert "example.org" in html or "javascript" in html
    assert not Correction.objects.exists()


def test_text_of_strangers_is_written_as_text(client, curator):
    evil = {"url": "https://example.org/", "quote": "<script>alert(1)</script>"}
    page = client.post(f"{FORM}?field=publisher", {"value": "<img src=x>", **evil})["Location"]

    for html in (client.get(page), curator.get("/corrections/")):
        assert "<script>alert" not in html.content.decode()
        assert "<img src=x>" not in html.content.decode()


def test_an_unknown_field_or_dataset_is_said(client):
    assert client.get(FORM, {"field": "licens"}).status_code == 400
    assert client.get("/datasets/nowhere/correct/").status_code == 404
