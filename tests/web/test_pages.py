"""Every page answers, and what is wrong in an address is said with the nearest valid value."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import transaction
from django.test import Client

from tests.web.weight import weight
from workers.models import Run

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("catalog")]


@pytest.fixture(scope="module")
def loaded(django_db_setup, django_db_blocker, tmp_path_factory) -> Iterator[Path]:  # noqa: ARG001
    """The shipped catalog in the database until the module ends; where its index may lie."""
    with django_db_blocker.unblock(), transaction.atomic():
        call_command("load_catalog")
        yield tmp_path_factory.mktemp("search")
        transaction.set_rollback(True)


@pytest.fixture
def catalog(loaded, own_state, db, settings):  # noqa: ARG001 - each test in a savepoint of its own
    settings.SEARCH_DIR = loaded


@pytest.mark.parametrize(
    "page",
    ["/", "/datasets/", "/datasets/?q=mri", "/datasets/stare/", "/recipes/", "/runs/", "/bundles/"],
)
def test_a_page_answers(client: Client, page):
    assert client.get(page).status_code == 200


@pytest.mark.parametrize("start", ["/datasets/", "/api/v1/datasets/"])
def test_a_misspelled_value_is_a_400_that_names_the_nearest(client: Client, start):
    answer = client.get(start, {"task": "Segmentatoin"})

    assert answer.status_code == 400
    assert b"Segmentation" in answer.content


def test_an_unknown_licence_is_shown_as_unknown(client: Client):
    assert b"unknown" in client.get("/datasets/stare/").content


def test_the_api_finds_what_the_page_finds(client: Client):
    found = client.get("/api/v1/datasets/", {"q": "retinal vessel"}).json()

    page = client.get("/datasets/", {"q": "retinal vessel"}).content.decode()
    assert found["results"]
    assert all(f"/datasets/{hit['slug']}/" in page for hit in found["results"])


def test_a_wrong_recipe_starts_nothing_and_names_the_place(client: Client):
    answer = client.post(
        "/api/v1/runs/", {"recipe": {"title": "x"}}, content_type="application/json"
    )

    assert answer.status_code == 422
    assert {"path", "found", "expected", "message"} <= set(answer.json()["errors"][0])
    assert not Run.objects.exists()


@pytest.mark.parametrize("view", ["list", "table", "cards"])
@pytest.mark.parametrize("text", ["", "retinal vessel", "brain MR segmentation", "no such thing"])
def test_a_search_page_is_light_and_asks_the_database_little(
    client: Client, text, view, django_assert_max_num_queries
):
    address = "/datasets/", {"q": text, "view": view}
    client.get(*address)
    with django_assert_max_num_queries(12):
        answer = client.get(*address)

    assert weight(answer.content.decode()) <= 60_000
