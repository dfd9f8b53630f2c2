"""Suggestions through the API, and the corrected question beside a poor answer."""

from __future__ import annotations

import pytest

from tests.factories import make_dataset

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("datasets")]
ADDRESS = "/api/v1/suggest/"


def test_concepts_come_with_counts_and_datasets_with_addresses(client):
    answer = client.get(ADDRESS, {"q": "brain f"}).json()
    concept, *_ = client.get(ADDRESS, {"q": "brain fundus ph"}).json()["results"]

    assert answer["q"] == "brain f"
    assert concept == {
        "kind": "concept",
        "facet": "modality",
        "facet_title": "Modality",
        "term": "Fundus photography",
        "count": 2,
        "matched": None,
        "text": "brain Fundus photography",
    }
    (dataset,) = client.get(ADDRESS, {"q": "first f"}).json()["results"][:1]
    assert dataset == {
        "kind": "dataset",
        "slug": "first-fundus",
        "name": "First Fundus",
        "matched": None,
        "year": 2011,
        "url": "/datasets/first-fundus/",
    }
    assert client.get(dataset["url"]).status_code == 200


def test_nothing_typed_offers_nothing(client):
    assert client.get(ADDRESS).json() == {"q": "", "results": []}
    assert client.get(ADDRESS, {"q": "  "}).json()["results"] == []


def test_as_many_as_are_asked_for(client):
    assert len(client.get(ADDRESS, {"q": "f", "limit": "1"}).json()["results"]) == 1


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"limit": "0"}, "a whole number from 1 to 20"),
        ({"limit": "21"}, "found '21'"),
        ({"limit": "x"}, "found 'x'"),
        ({"limt": "3"}, "did you mean 'limit'?"),
        ({"query": "lung"}, "expected one of limit, q"),
    ],
)
def test_a_slip_in_a_parameter_is_a_400(client, params, said):
    answer = client.get(ADDRESS, params)

    assert answer.status_code == 400
    assert said in answer.json()["errors"][0]["message"]


def test_a_new_dataset_is_offered_at_once(client):
    assert client.get(ADDRESS, {"q": "zebra"}).json()["results"] == []
    make_dataset("zebrafish", name="Zebrafish")

    assert [row["slug"] for row in client.get(ADDRESS, {"q": "zebra"}).json()["results"]] == [
        "zebrafish"
    ]


def test_a_keystroke_asks_the_database_only_whether_the_catalog_changed(
    client, django_assert_max_num_queries
):
    client.get(ADDRESS, {"q": "fundus"})

    with django_assert_max_num_queries(2):
        client.get(ADDRESS, {"q": "fundu"})


def test_a_poor_answer_names_the_question_that_was_meant(client):
    make_dataset("colin", name="Colin 27")
    make_dataset("polyps", name="Polyps", anatomies=["Colon"], modalities=["Endoscopy"])

    answer = client.get("/api/v1/datasets/", {"q": "colin endoscopy"}).json()

    assert answer["total"] == 0
    assert answer["did_you_mean"] == "colon endoscopy"
    assert client.get("/api/v1/datasets/", {"q": "colon"}).json()["did_you_mean"] is None
