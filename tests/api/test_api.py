"""Datasets, recipes, runs, the schema, and the one error shape."""

from __future__ import annotations

import json

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from openapi_spec_validator import validate

from catalog.search import engine
from fusion.build import STAGES
from fusion.recipe_files import example_recipes, load_recipe
from tests.factories import make_case, make_run
from workers.models import Run

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("datasets")]
SHAPE = {"title", "status", "code", "detail", "errors"}


def post(client, address: str, body: object):
    return client.post(address, json.dumps(body), content_type="application/json")


def sample() -> dict:
    return load_recipe(example_recipes()["brain-tissue"])


def test_search_answers_with_strict_and_near_results_and_facets(client):
    found = client.get("/api/v1/datasets/", {"q": "fundus", "licence": "CC-BY-4.0"}).json()

    assert [hit["slug"] for hit in found["results"]] == ["first-fundus"]
    assert [hit["slug"] for hit in found["near"]] == ["second-fundus"]
    assert found["total"] == 1
    assert {facet["name"] for facet in found["facets"]} >= {"modality", "licence", "year"}


@pytest.mark.parametrize(
    ("params", "path", "nearest"),
    [
        ({"modality": "Fundus fotography"}, "modality", "Fundus photography"),
        ({"modalty": "CT"}, "modalty", "modality"),
        ({"sort": "newst"}, "sort", "newest"),
    ],
)
def test_a_slip_in_a_query_is_a_400_that_names_the_nearest(client, params, path, nearest):
    answer = client.get("/api/v1/datasets/", params)

    problem = answer.json()
    assert answer.status_code == 400
    assert answer["Content-Type"] == "application/problem+json"
    assert set(problem) == SHAPE
    assert problem["errors"][0]["path"] == path
    assert nearest in problem["errors"][0]["message"]


@pytest.mark.parametrize(
    ("address", "nearest"),
    [
        ("/api/v1/runs/?stat=queued", "state"),
        ("/api/v1/runs/?state=queue", "queued"),
        ("/api/v1/runs/?page=0", "whole number"),
        ("/api/v1/bundles/?pages=2", "page"),
    ],
)
def test_other_lists_know_their_parameters_too(client, address, nearest):
    answer = client.get(address)

    assert answer.status_code == 400
    assert nearest in answer.json()["errors"][0]["message"]


def test_search_away_is_a_503_that_says_when_to_come_back(client, settings):
    settings.SEARCH_URL = "http://127.0.0.1:9"  # nothing listens on the discard port
    engine._engine.cache_clear()

    answer = client.get("/api/v1/datasets/")

    assert answer.status_code == 503
    assert int(answer["Retry-After"]) > 0
    assert set(answer.json()) == SHAPE


def test_a_dataset_is_one_object_with_its_record(client):
    row = client.get("/api/v1/datasets/first-fundus/").json()

    assert row["modalities"] == ["Fundus photography"]
    assert row["licence"] == "CC-BY-4.0"
    assert "record" in row
    missing = client.get("/api/v1/datasets/nope/")
    assert missing.status_code == 404
    assert set(missing.json()) == SHAPE


def test_shipped_recipes_are_listed_whole_and_valid(client):
    rows = client.get("/api/v1/recipes/").json()["results"]

    assert {row["name"] for row in rows} == set(example_recipes())
    recipe = next(row["recipe"] for row in rows if row["name"] == "brain-tissue")
    answer = post(client, "/api/v1/recipes/validate/", {"recipe": recipe})
    assert answer.status_code == 200
    assert answer.json()["datasets"] == ["icbm152-2009a", "mni152-neuromorphometrics"]
    assert not Run.objects.exists()


def test_a_wrong_recipe_is_a_422_that_lists_every_problem(client):
    recipe = {**sample(), "taks": "x", "build": "privat"}

    answer = post(client, "/api/v1/runs/", {"recipe": recipe})

    assert answer.status_code == 422
    assert {error["path"] for error in answer.json()["errors"]} == {"taks", "build"}
    assert not Run.objects.exists()


def test_a_recipe_cannot_reach_outside_the_data_root(client):
    for path in ("/etc", "../secrets", "a/../../b"):
        recipe = sample()
        recipe["sources"][0]["location"]["path"] = path
        answer = post(client, "/api/v1/runs/", {"recipe": recipe})
        assert answer.status_code == 422, path


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"example": "brain-tissue", "recipe": {}}, 400),
        ({"exampel": "brain-tissue"}, 400),
        ({"example": "brain-tisue"}, 422),
        ({"recipe": []}, 400),
        ({"recipe": "text"}, 400),
        ([], 400),
        ("text", 400),
    ],
)
def test_a_body_that_is_no_request_has_the_error_shape(client, body, status):
    answer = post(client, "/api/v1/runs/", body)

    assert answer.status_code == status
    assert set(answer.json()) == SHAPE


def test_broken_and_too_deep_json_is_a_400(client):
    for text in ('{"recipe": ', "[" * 100_000):
        answer = client.post("/api/v1/runs/", text, content_type="application/json")
        assert answer.status_code == 400
        assert set(answer.json()) == SHAPE


def test_another_method_or_type_is_refused_in_the_same_shape(client):
    assert set(client.delete("/api/v1/runs/").json()) == SHAPE
    form = client.post("/api/v1/runs/", {"example": "brain-tissue"})
    assert form.status_code == 415  # no form of another site can start a run
    assert not Run.objects.exists()


def test_a_run_is_created_once_followed_and_cancelled(client):
    first = post(client, "/api/v1/runs/", {"example": "brain-tissue"})
    second = post(client, "/api/v1/runs/", {"recipe": sample()})

    assert first.status_code == second.status_code == 202
    assert first.json()["id"] == second.json()["id"]
    run = client.get(first["Location"]).json()
    assert run["state"] == "queued"
    assert [stage["state"] for stage in run["stages"]] == ["waiting"] * len(STAGES)
    assert client.get("/api/v1/runs/", {"state": "queued"}).json()["total"] == 1

    assert client.post(f"{run['url']}cancel/").json()["state"] == "cancelled"
    assert client.get("/api/v1/runs/", {"state": "queued"}).json()["total"] == 0


def test_a_run_counts_its_cases_by_source_and_code(client, django_assert_num_queries):
    run = make_run(state=Run.State.RUNNING)
    make_case(run, "icbm152", "a", "used")
    make_case(run, "icbm152", "b", "excluded", "unreadable")
    make_case(run, "mni152", "c", "pending")

    with django_assert_num_queries(3):
        sources = client.get(f"/api/v1/runs/{run.pk}/").json()["sources"]

    assert sources == [
        {"source": "icbm152", "total": 2, "pending": 0, "used": 1, "excluded": {"unreadable": 1}},
        {"source": "mni152", "total": 1, "pending": 1, "used": 0, "excluded": {}},
    ]


def test_the_schema_is_valid_openapi_and_made_without_a_warning(client, tmp_path):
    accept = {"HTTP_ACCEPT": "application/vnd.oai.openapi+json"}
    schema = json.loads(client.get("/api/v1/schema/", **accept).content)
    validate(schema)

    paths = set(schema["paths"])
    assert {"/api/v1/datasets/", "/api/v1/runs/{run_id}/cancel/"} <= paths
    assert "/api/v1/bundles/{bundle_id}/files/{path}" in paths
    call_command("spectacular", "--validate", "--fail-on-warn", "--file", tmp_path / "schema.yaml")


def test_a_run_is_paused_resumed_and_cancelled_by_the_api(client):
    run = make_run()
    root = f"/api/v1/runs/{run.pk}/"

    paused = client.post(f"{root}pause/")
    assert (paused.status_code, paused.json()["state"]) == (202, "paused")
    assert paused.json()["waits_for"] == "somebody to resume it"
    high = post(client, f"{root}priority/", {"priority": "high"})
    assert high.json()["priority"] == "high"
    assert client.post(f"{root}resume/").json()["state"] == "queued"
    assert client.post(f"{root}cancel/").json()["state"] == "cancelled"
    for action in ("pause", "resume", "retry"):
        answer = client.post(f"{root}{action}/")
        assert answer.status_code == 409
        assert "it is cancelled" in answer.json()["detail"]
    assert client.get(f"{root}pause/").status_code == 405


def test_a_failed_run_is_retried_by_the_api(client):
    run = make_run(state=Run.State.FAILED, stage="split", error_code="disk_full", error="no room")

    answer = client.post(f"/api/v1/runs/{run.pk}/retry/")

    body = answer.json()
    assert answer.status_code == 202
    assert (body["state"], body["stage"], body["error"]) == ("queued", "split", "")


def test_an_unknown_priority_is_named(client):
    answer = post(client, f"/api/v1/runs/{make_run().pk}/priority/", {"priority": "now"})

    assert answer.status_code == 400
    assert '"now" is not a valid choice' in answer.json()["detail"]


def test_only_its_owner_and_staff_steer_an_owned_run(client):
    ada, bob = (User.objects.create(username=name) for name in ("ada", "bob"))
    root = User.objects.create(username="root", is_staff=True)
    run = make_run(owner=ada)
    address = f"/api/v1/runs/{run.pk}/pause/"

    assert client.post(address).status_code == 403
    client.force_login(bob)
    assert client.post(address).status_code == 403
    assert client.post(f"/runs/{run.pk}/pause/").status_code == 403
    for user in (ada, root):
        client.force_login(user)
        answer = client.post(address)
        assert (answer.status_code, answer.json()["owner"]) == (202, "ada")


def test_a_signed_in_user_needs_the_csrf_token_in_the_api():
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.create(username="ada"))
    run = make_run()

    assert client.post(f"/api/v1/runs/{run.pk}/cancel/").status_code == 403
    run.refresh_from_db()
    assert run.state == "queued"


def test_a_run_that_there_is_no_room_for_is_refused_with_its_figures(client, settings, tmp_path):
    recipe = load_recipe(example_recipes()["brain-tissue"])
    source = recipe["sources"][0]
    image = tmp_path / "data" / source["location"]["path"] / source["description"]["cases"]["image"]
    image.parent.mkdir(parents=True)
    image.write_bytes(bytes(10**6))
    settings.BUNDLE_BYTES = 10**6

    answer = post(client, "/api/v1/runs/", {"example": "brain-tissue"})

    assert answer.status_code == 507
    told = "storage_quota: bundles of all users: 0 bytes used, 0 bytes on their way, about "
    told += "2.5 MB asked, 1.0 MB allowed"
    advice = "an operator makes room (manage.py keep_bundle remove) or allows more"
    assert answer.json()["detail"] == f"{told}; {advice}"
    page = client.post("/recipes/start/", {"example": "brain-tissue"})
    assert page.status_code == 507
    assert "2.5 MB asked" in page.content.decode()
    assert not Run.objects.exists()
