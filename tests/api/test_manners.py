"""Codes of errors, tags, chosen keys, repeated requests, rates, other origins."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache

from portal.models import RepeatableRequest
from tests.factories import make_bundle, make_run
from workers.models import Run

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("datasets")]
START = json.dumps({"example": "brain-tissue"})


def start(client, key: str, body: str = START):
    headers = {"Idempotency-Key": key}
    return client.post("/api/v1/runs/", body, content_type="application/json", headers=headers)


@pytest.mark.parametrize(
    ("address", "status", "code"),
    [
        ("/api/v1/datasets/?modality=Nothing", 400, "query_invalid"),
        ("/api/v1/runs/?page=0", 400, "parameter_invalid"),
        ("/api/v1/datasets/nope/", 404, "not_found"),
        ("/api/v1/nowhere/", 404, "not_found"),
        ("/api/v1/recipes/validate/", 405, "method_not_allowed"),
    ],
)
def test_each_error_has_a_code_that_programs_can_rely_on(client, address, status, code):
    answer = client.get(address)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(
    "address", ["/api/v1/datasets/", "/api/v1/datasets/first-fundus/", "/api/v1/runs/"]
)
def test_what_one_has_already_is_not_sent_again(client, address):
    first = client.get(address)
    again = client.get(address, headers={"If-None-Match": first["ETag"]})

    assert (again.status_code, again.content) == (304, b"")
    assert again["ETag"] == first["ETag"]
    make_run()
    other = client.get("/api/v1/runs/", headers={"If-None-Match": first["ETag"]})
    assert other.status_code == 200


def test_answers_to_a_user_are_kept_by_no_shared_cache(client):
    assert client.get("/api/v1/runs/")["Cache-Control"] == "no-cache"
    client.force_login(User.objects.create(username="ada"))

    answer = client.get("/api/v1/runs/")

    assert "private" in answer["Cache-Control"]
    assert {"Authorization", "Cookie"} <= {word.strip() for word in answer["Vary"].split(",")}


@pytest.mark.parametrize("address", ["/api/v1/runs/", "/api/v1/bundles/", "/api/v1/datasets/"])
def test_lists_answer_with_the_keys_that_are_asked_for(client, address):
    make_run()
    make_bundle()
    key = {"runs": "id", "bundles": "bundle_id", "datasets": "slug"}[address.split("/")[3]]

    rows = client.get(address, {"fields": key}).json()["results"]

    assert rows
    assert all(list(row) == [key] for row in rows)
    wrong = client.get(address, {"fields": f"{key},nothing"})
    assert (wrong.status_code, wrong.json()["errors"][0]["found"]) == (400, "nothing")


def test_single_things_do_so_too(client):
    found = client.get("/api/v1/datasets/first-fundus/", {"fields": "slug, licence"}).json()

    assert found == {"slug": "first-fundus", "licence": "CC-BY-4.0"}


def test_a_request_that_is_repeated_under_its_key_is_done_once(client):
    first = start(client, "k1")
    client.post(f"{first.json()['url']}cancel/")
    again, fresh = start(client, "k1"), start(client, "k2")

    assert first.status_code == again.status_code == 202
    assert again.json()["id"] == first.json()["id"]
    assert again.json()["state"] == "cancelled"
    assert fresh.json()["id"] != first.json()["id"]
    other = start(client, "k1", json.dumps({"example": "brain-tissue", "priority": "high"}))
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert Run.objects.count() == 2


def test_a_key_is_forgotten_after_a_month(client):
    first = start(client, "k1")
    client.post(f"{first.json()['url']}cancel/")
    old = RepeatableRequest.objects.get()
    RepeatableRequest.objects.update(created_at=old.created_at - timedelta(days=31))

    assert start(client, "k1").json()["id"] != first.json()["id"]
    assert RepeatableRequest.objects.count() == 1


@pytest.mark.parametrize("key", ["", "k" * 201])
def test_a_key_that_is_none_is_refused(client, key):
    assert start(client, key).json()["errors"][0]["path"] == "Idempotency-Key"
    assert not Run.objects.exists()


def test_a_key_belongs_to_its_user(client):
    assert start(client, "k1").status_code == 202
    client.force_login(User.objects.create(username="ada"))

    other = start(client, "k1", json.dumps({"example": "brain-tissue", "priority": "low"}))

    assert other.status_code == 202


def test_who_asks_too_often_is_told_when_to_come_back(client, settings):
    cache.clear()
    settings.API_RATE, settings.API_RATE_USER = "2/min", ""
    answers = [client.get("/api/v1/runs/") for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[0]["RateLimit-Policy"] == '"visitor";q=2;w=60'
    assert [answer["RateLimit"].split(";")[1] for answer in answers] == ["r=1", "r=0", "r=0"]
    assert 0 < int(answers[2]["Retry-After"]) <= 60
    assert answers[2].json()["code"] == "throttled"
    forged = client.get("/api/v1/runs/", headers={"X-Forwarded-For": "192.0.2.77"})
    assert forged.status_code == 429
    client.force_login(User.objects.create(username="ada"))
    assert client.get("/api/v1/runs/").status_code == 200
    cache.clear()


def test_pages_of_other_origins_ask_only_where_a_setting_lets_them(client, settings):
    headers = {"Origin": "https://lab.example"}
    assert not client.get("/api/v1/runs/", headers=headers).has_header(
        "Access-Control-Allow-Origin"
    )
    settings.CORS_ALLOWED_ORIGINS = ["https://lab.example"]

    answer = client.get("/api/v1/runs/", headers=headers)

    assert answer["Access-Control-Allow-Origin"] == "https://lab.example"
    assert not answer.has_header("Access-Control-Allow-Credentials")
    assert "ETag" in answer["Access-Control-Expose-Headers"]
    page = client.get("/runs/", headers=headers)
    assert not page.has_header("Access-Control-Allow-Origin")
