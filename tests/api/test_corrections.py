"""Corrections over the API: who may propose, see and decide."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group, User

from catalog.models import Correction, Dataset
from portal.models import CURATORS, ApiToken, Scope

pytestmark = pytest.mark.usefixtures("datasets")
ADDRESS = "/api/v1/datasets/second-fundus/corrections/"
GIVEN = {"field": "licence", "value": "CC0-1.0", "url": "https://example.org/", "quote": "CC0"}


@pytest.fixture
def tokens() -> dict[str, dict[str, str]]:
    """Headers of a curator, of one whose token may only read, and of somebody."""
    group, _ = Group.objects.get_or_create(name=CURATORS)
    users = {name: User.objects.create_user(name) for name in ("curator", "reader", "somebody")}
    for name in ("curator", "reader"):
        users[name].groups.add(group)
    scopes = {name: [Scope.READ, Scope.CURATE] for name in users} | {"reader": [Scope.READ]}
    return {
        name: {"Authorization": f"Bearer {ApiToken.objects.issue(user, name, scopes[name])[1]}"}
        for name, user in users.items()
    }


def post(client, address: str, data: dict, headers: dict | None = None):
    return client.post(address, data, content_type="application/json", headers=headers)


def test_proposed_by_a_visitor_accepted_by_a_curator_and_followed(client, tokens):
    answer = post(client, ADDRESS, GIVEN)
    assert answer.status_code == 201
    assert answer.json()["state"] == "open"
    mine = answer["Location"]
    assert client.get(ADDRESS).json()["total"] == 0  # nobody has looked at it
    assert client.get(ADDRESS, headers=tokens["curator"]).json()["total"] == 1

    accepted = post(client, f"{mine}accept/", {}, tokens["curator"])

    assert accepted.status_code == 200
    assert client.get("/api/v1/datasets/second-fundus/").json()["licence"] == "CC0-1.0"
    assert client.get(ADDRESS).json()["results"][0]["curator"] == "curator"
    assert client.get(mine).json()["state"] == "accepted"
    assert "CC0-1.0" in client.get("/api/v1/datasets/second-fundus/record/").content.decode()


@pytest.mark.parametrize("decision", ["accept", "reject"])
@pytest.mark.parametrize(
    ("who", "status"), [("", 401), ("somebody", 403), ("reader", 403), ("curator", 200)]
)
def test_who_may_decide(client, tokens, who, status, decision):
    mine = post(client, ADDRESS, GIVEN)["Location"]

    answer = post(client, f"{mine}{decision}/", {"reason": "because"}, tokens.get(who))

    assert answer.status_code == status
    assert (Correction.objects.get().state == "open") == (status != 200)


def test_a_rejection_needs_a_reason_and_a_second_decision_is_a_conflict(client, tokens):
    mine = post(client, ADDRESS, GIVEN)["Location"]

    assert post(client, f"{mine}reject/", {}, tokens["curator"]).status_code == 422
    assert post(client, f"{mine}reject/", {"reason": "no"}, tokens["curator"]).status_code == 200
    again = post(client, f"{mine}accept/", {}, tokens["curator"])

    assert again.status_code == 409
    assert again.json()["code"] == "decided_already"


def test_what_cannot_be_used_is_named_with_the_nearest(client):
    answer = post(client, ADDRESS, {**GIVEN, "field": "modalities", "value": ["Fundos photo"]})

    assert answer.status_code == 422
    assert answer.json()["code"] == "correction_invalid"
    assert "Fundus photography" in answer.json()["errors"][0]["message"]
    assert post(client, ADDRESS, {**GIVEN, "field": "licens"}).status_code == 400
    assert post(client, "/api/v1/datasets/nowhere/corrections/", GIVEN).status_code == 404


def test_one_sender_proposes_so_many_a_day(client, settings, tokens):
    settings.CORRECTIONS_A_DAY = 2
    for year in (2001, 2002):
        assert post(client, ADDRESS, {**GIVEN, "field": "year", "value": year}).status_code == 201

    answer = post(client, ADDRESS, GIVEN)

    assert answer.status_code == 429
    assert answer.json()["code"] == "too_many_corrections"
    assert post(client, ADDRESS, GIVEN, tokens["somebody"]).status_code == 201


def test_no_address_of_a_visitor_is_kept(client):
    post(client, ADDRESS, GIVEN)

    assert "127.0.0.1" not in str(Correction.objects.values().get())


def test_of_a_gone_dataset_nothing_can_be_accepted(client, tokens):
    mine = post(client, ADDRESS, GIVEN)["Location"]
    Dataset.objects.filter(slug="second-fundus").delete()

    answer = post(client, f"{mine}accept/", {}, tokens["curator"])

    assert answer.status_code == 409
    assert Correction.objects.get().state == "open"
