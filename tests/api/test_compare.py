"""Comparison and likes through the API."""

from __future__ import annotations

import pytest

from catalog.services import load_facts
from tests.factories import make_dataset, make_facts

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("datasets")]
COMPARE = "/api/v1/datasets/compare/"


def test_datasets_are_compared_in_the_order_asked(client):
    data = client.get(COMPARE, {"slug": ["second-fundus", "first-fundus"]}).json()

    assert [one["slug"] for one in data["datasets"]] == ["second-fundus", "first-fundus"]
    fields = {row["field"]: row for row in data["fields"]}
    assert fields["year"] == {
        "field": "year",
        "state": "partly unknown",
        "values": [None, 2011],
        "unknown": [True, False],
        "conflicts": [False, False],
        "shared": [],
    }
    assert fields["modalities"]["state"] == "same"
    assert data["shared"]["concepts"]["anatomy"] == ["Retina"]
    assert data["licence"]["unknown"] == ["second-fundus"]
    assert data["licence"]["redistribute"] is False


@pytest.mark.parametrize(
    ("slugs", "found", "expected"),
    [
        ([], "0 datasets", "2 to 6 datasets"),
        (["first-fundus"], "1 dataset", "2 to 6 datasets"),
        (["first-fundus", "first-fundus"], "1 dataset", "2 to 6 datasets"),
        ([f"d{n}" for n in range(7)], "7 datasets", "2 to 6 datasets"),
    ],
)
def test_too_few_or_too_many_are_refused_with_their_number(client, slugs, found, expected):
    answer = client.get(COMPARE, {"slug": slugs})

    assert answer.status_code == 400
    (error,) = answer.json()["errors"]
    assert (error["path"], error["found"], error["expected"]) == ("slug", found, expected)


def test_every_slug_that_is_none_is_named_with_the_nearest(client):
    answer = client.get(COMPARE, {"slug": ["furst-fundus", "first-fundus", "secnd-fundus"]})

    assert answer.status_code == 400
    errors = {row["found"]: row["message"] for row in answer.json()["errors"]}
    assert set(errors) == {"furst-fundus", "secnd-fundus"}
    assert "'second-fundus'" in errors["secnd-fundus"]


def test_another_parameter_is_refused(client):
    answer = client.get(COMPARE, {"slgu": "first-fundus"})

    assert answer.status_code == 400
    assert "'slug'" in answer.json()["errors"][0]["message"]


def test_the_likes_of_a_dataset_come_with_their_reasons(client):
    make_dataset("third-fundus", family="Series", modalities=["Fundus photography"])

    data = client.get("/api/v1/datasets/first-fundus/similar/").json()

    assert [one["slug"] for one in data["results"]] == ["second-fundus", "third-fundus"]
    first = data["results"][0]
    assert {"facet": "anatomy", "term": "Retina", "datasets": 2} in first["shared"]
    assert "anatomy Retina" in first["why"]
    assert first["overlap"] is None
    assert data["family"] == []
    assert client.get("/api/v1/datasets/nothing/similar/").status_code == 404


def test_likes_follow_the_catalog_when_it_is_loaded_anew(client):
    brain = {"modalities": ["MR"], "anatomies": ["Brain"]}
    one, two, three = (make_facts(slug, **brain) for slug in ("one", "two", "three"))

    load_facts([one, two])
    before = client.get("/api/v1/datasets/one/similar/").json()["results"]
    load_facts([one, three])
    after = client.get("/api/v1/datasets/one/similar/").json()["results"]

    assert [row["slug"] for row in before] == ["two"]
    assert [row["slug"] for row in after] == ["three"]
