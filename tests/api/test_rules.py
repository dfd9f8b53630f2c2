"""Rules through the API: the rule file in, phases and reasons out."""

from __future__ import annotations

import json

import pytest

from catalog.models import CatalogRevision
from catalog.rules import DEFAULT, KEYS
from tests.factories import make_dataset

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("shelf")]
URL = "/api/v1/rules/"


@pytest.fixture
def shelf(db) -> None:  # noqa: ARG001 - rows need the database
    counts = [{"number": 500, "unit": "image", "source": "curation"}]
    flat = {"dimensions": ["2D"], "tasks": ["Segmentation"], "counts": counts}
    make_dataset("ct-flat", modalities=["CT"], publisher="Hospital", labelled=True, **flat)
    make_dataset("ct-found", modalities=["CT"], **{**flat, "tasks": ["Localization"]})
    make_dataset("oct-flat", modalities=["OCT"], **flat)
    CatalogRevision.objects.create(digest="d" * 64, dataset_count=3)


def post(client, body: str | bytes, query: str = ""):
    return client.post(URL + query, body, content_type="application/json")


def test_the_published_rule_file_is_answered_with_kept_dropped_and_phases(client):
    data = post(client, json.dumps(dict(DEFAULT))).json()

    assert data["catalog"] == "d" * 64
    assert (data["profile"], data["considered"]) == ("stated", 3)
    assert [row["slug"] for row in data["kept"]] == ["ct-flat"]
    assert data["kept"][0]["organisation"] == "Hospital"
    dropped = {row["slug"]: row for row in data["dropped"]}
    assert dropped["ct-found"]["rule"] == "task_types"
    assert dropped["oct-flat"]["failed"] == [
        {"rule": "modalities", "found": "OCT", "expected": "CT or MR or Fundus photography"}
    ]
    assert [phase["left"] for phase in data["phases"]] == [2, 1, 1, 1]
    last = data["phases"][-1]
    assert last["modalities"][0] | {"datasets": 1, "images": 500} == last["modalities"][0]
    assert last["total"]["labelled_ratio"] == 1.0


def test_both_profiles_stand_beside_each_other(client):
    data = post(client, "{}", "?profile=compatibility").json()

    # No organisation is known of the set that the task filter alone would drop.
    assert data["profile"] == "compatibility"
    assert [row["slug"] for row in data["kept"]] == ["ct-flat"]
    assert data["dropped"][0]["rule"] == "compatibility.organisation"
    assert data["comparison"]["published_table_6"][0]["images"] == 1_173_965
    assert data["comparison"]["stated"]["total"]["datasets"] == 1


@pytest.mark.parametrize(
    ("body", "path", "nearest"),
    [
        ('{"modality": ["CT"]}', "modality", "'modalities'"),
        ('{"modalities": ["CTT"]}', "modalities[0]", "'CT'"),
        ('{"selection": {"budget": 3}}', "selection.budget", "'selection.storage_budget_gb'"),
        ('{"dimension": "2D", "dimension": "3D"}', "dimension", ""),
        ('{"dimension": ', "line 1, column 15", ""),
        ("", "line 1, column 1", ""),
        ("[" * 60_000, "", "object"),
        ('{"x\\ud800": 1}', "", "ud800"),
    ],
)
def test_a_wrong_rule_file_is_a_400_with_place_and_nearest(client, body, path, nearest):
    answer = post(client, body)

    assert answer.status_code == 400
    assert answer["Content-Type"] == "application/problem+json"
    (error,) = answer.json()["errors"]
    assert error["path"] == path
    assert nearest in error["message"]


def test_a_wrong_parameter_is_a_400_that_names_the_nearest(client):
    wrong_value = post(client, "{}", "?profile=compatability")
    wrong_name = post(client, "{}", "?profil=stated")

    assert "'compatibility'" in wrong_value.json()["errors"][0]["message"]
    assert "'profile'" in wrong_name.json()["errors"][0]["message"]
    assert {wrong_value.status_code, wrong_name.status_code} == {400}


def test_only_json_is_read(client):
    assert client.post(URL, {"dimension": "2D"}).status_code == 415


def test_the_defaults_can_be_sent_back_and_every_key_is_explained(client):
    data = client.get(URL).json()

    assert data["defaults"] == dict(DEFAULT)
    assert post(client, json.dumps(data["defaults"])).status_code == 200
    assert post(client, json.dumps(data["effective"])).status_code == 200
    assert [key["name"] for key in data["keys"]] == [key.name for key in KEYS]
    assert all(key["expects"] and key["meaning"] for key in data["keys"])


def test_an_answer_takes_two_queries_however_many_datasets_there_are(
    client, django_assert_num_queries
):
    with django_assert_num_queries(2):
        post(client, "{}")
