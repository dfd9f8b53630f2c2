"""Own data in the blueprint and its steps, by page and API: for who keeps them and nobody else."""

from __future__ import annotations

import json
from html import unescape
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml
from django.contrib.auth.models import User
from django.test import Client

from fusion.models import Upload
from tests.factories import make_dataset
from workers.models import Run

pytestmark = pytest.mark.django_db
DESCRIPTION = """
schema: imaging-x/source/1
name: Camera of mine
modality: OP
family: Fundus photography
dimension: 2D
licence: {images: null, labels: null}
annotation: manual
cases: {image: "images/{name}.png", subject: "{name}"}
layers:
  - {path: "masks/{name}.png", kind: mask, threshold: 127, concept: CONCEPT}
"""
SHA256 = "5" * 64
UNFINISHED = "modality: ?Infrared\n"


def _kept(owner: User, name: str, concept: str = "retinal_vessel", **fields) -> Upload:
    text = DESCRIPTION.replace("CONCEPT", concept)
    values = {"description": text, "state": Upload.State.KEPT, "sha256": SHA256, **fields}
    return Upload.objects.create(owner=owner, name=name, files=[], size_bytes=2_000_000, **values)


@pytest.fixture
def ada(settings, tmp_path) -> Client:
    """Signed in, with data of her own and one dataset of the catalog that fits it."""
    settings.WORK_DIR = settings.STATE_DIR = settings.UPLOAD_DIR = tmp_path
    user = User.objects.create_user("ada", password="x")
    make_dataset("stare", name="STARE", modalities=["Fundus photography"], dimensions=["2D"],
                 tasks=["Segmentation"], anatomies=["Eye"], classes=["retinal vessel"],
                 licence="CC-BY-4.0")  # fmt: skip
    _kept(user, "my-eyes")
    _kept(user, "guessed", "'?retinal_vessel'")
    _kept(user, "unfinished", description=DESCRIPTION.replace("modality: OP\n", UNFINISHED))
    _kept(User.objects.create_user("bob"), "bobs")
    return _client("ada")


def _client(name: str = "") -> Client:
    client = Client()
    if name:
        client.force_login(User.objects.get(username=name))
    return client


def _draft(answer) -> dict:
    assert answer.status_code == 302, answer.content
    return json.loads(parse_qs(urlsplit(answer["Location"]).query)["recipe"][0])


def _text(answer, status: int = 200) -> str:
    assert answer.status_code == status
    return unescape(answer.content.decode())


def test_the_blueprint_offers_ones_own_data_and_draws_them_beside_the_catalog(ada):
    first = _text(ada.get("/blueprint/"))
    drawn = _text(ada.get("/blueprint/", {"slug": "stare", "own": "my-eyes"}))

    assert 'name="own" value="my-eyes"' in first
    assert 'name="own" value="unfinished"' not in first
    assert "finish its description" in first
    assert "bobs" not in first
    assert "Eligible as far as the catalog knows" in drawn
    assert "own: private build" in drawn
    assert "Retinal vessel" in drawn
    assert "1.9\xa0MB" in drawn


@pytest.mark.parametrize("name", ["bobs", "unfinished", "nothing"])
def test_what_is_not_ones_own_or_not_ready_is_named_not_drawn(ada, name):
    asked = {"slug": "stare", "own": name}
    body = {"slug": ["stare"], "own": [name]}

    assert f"found '{name}', expected data" in _text(ada.get("/blueprint/", asked), 400)
    assert f"found '{name}'" in _text(ada.get("/blueprint/labels/", asked), 400)
    for path in ("blueprint", "recipes/draft"):
        answer = ada.post(f"/api/v1/{path}/", body, content_type="application/json")
        assert answer.status_code == 400
        assert answer.json()["errors"][0]["path"] == "own"


@pytest.mark.usefixtures("ada")
def test_a_visitor_is_asked_who_they_are_and_the_api_tells_them_nothing():
    visitor = _client()
    asked = {"slug": "stare", "own": "my-eyes"}

    assert visitor.get("/blueprint/", asked)["Location"].startswith("/login/?next=/blueprint/")
    body = {"slug": ["stare"], "own": ["my-eyes"]}
    answer = visitor.post("/api/v1/recipes/draft/", body, content_type="application/json")
    assert answer.status_code == 400
    assert "Camera" not in str(answer.json())
    assert "Your own data" not in _text(visitor.get("/blueprint/"))


def test_step_by_step_own_data_become_a_private_run(ada):
    draft = _draft(ada.get("/blueprint/labels/", {"slug": "stare", "own": "my-eyes"}))

    source = draft["sources"][1]
    assert source["location"] == {"kind": "own", "name": "my-eyes"}
    assert source["description"]["name"] == "Camera of mine"
    labels = _text(ada.get("/blueprint/labels/", {"recipe": json.dumps(draft)}))
    assert "Camera of mine" in labels
    assert "Intersection: 1 concept" in labels
    files = _text(ada.get("/blueprint/licences/", {"recipe": json.dumps(draft)}))
    assert "your own data" in files
    assert "Licence of images and labels: own: private build" in files
    assert "nothing of it is passed on" in files
    kept = _draft(ada.post("/blueprint/licences/", {"recipe": json.dumps(draft), "go": "start"}))
    assert kept["sources"][1]["location"] == source["location"]
    back = ada.post("/blueprint/start/", {"recipe": json.dumps(draft), "go": "datasets"})
    assert "slug=stare&own=my-eyes" in back["Location"]
    assert "Eligibility" in _text(ada.get(back["Location"]))

    started = ada.post(
        "/blueprint/start/", {"recipe": json.dumps(draft), "go": "run", "tier": "none"}
    )

    assert started.status_code == 302, _text(started)
    run = Run.objects.get()
    assert started["Location"] == f"/runs/{run.pk}/"
    assert (run.owner.username, run.public) == ("ada", False)
    assert run.recipe["sources"][1]["location"]["sha256"] == SHA256


def test_somebody_who_is_sent_the_address_of_a_draft_cannot_start_it(ada):
    draft = _draft(ada.get("/blueprint/labels/", {"slug": "stare", "own": "my-eyes"}))

    for other in (_client("bob"), _client()):
        text = _text(other.get("/blueprint/licences/", {"recipe": json.dumps(draft)}))
        assert "not kept here by you" in text
        other.post("/blueprint/start/", {"recipe": json.dumps(draft), "go": "run", "tier": "none"})
    assert not Run.objects.exists()


def test_guesses_are_confirmed_on_the_labels_step(ada):
    draft = _draft(ada.get("/blueprint/labels/", {"slug": "stare", "own": "guessed"}))

    assert "1 undecided" in _text(ada.get("/blueprint/labels/", {"recipe": json.dumps(draft)}))
    sent = {"recipe": json.dumps(draft), "meaning-1-0": "Retinal vessel"}
    decided = _draft(ada.post("/blueprint/labels/", sent))

    assert decided["sources"][1]["description"]["layers"][0]["concept"] == "retinal_vessel"
    assert Upload.objects.get(name="guessed").description.count("?retinal_vessel") == 1


def test_a_recipe_that_names_own_data_is_continued_with_their_description(ada):
    text = json.dumps({"sources": [
        {"id": "mine", "location": {"kind": "own", "name": "my-eyes"}},
        {"id": "bobs", "location": {"kind": "own", "name": "bobs"}},
    ]})  # fmt: skip

    draft = _draft(ada.post("/blueprint/open/", {"recipe": text}))

    assert draft["sources"][0]["description"]["name"] == "Camera of mine"
    assert "description" not in draft["sources"][1]


def test_the_api_drafts_and_labels_own_data(ada):
    body = {"slug": ["stare"], "own": ["my-eyes"]}
    drawn = ada.post("/api/v1/blueprint/", body, content_type="application/json").json()
    data = ada.post("/api/v1/recipes/draft/", body, content_type="application/json").json()

    assert {one["slug"]: one["access"] for one in drawn["sources"]}["my-eyes"] == "own"
    assert data["undescribed"] == []
    assert data["sources"][1]["is_here"] is True
    assert data["sources"][1]["ships"]["shareable"] == {"images": "recipe", "labels": "recipe"}
    recipe = {"recipe": data["recipe"]}
    labels = ada.post("/api/v1/recipes/labels/", recipe, content_type="application/json").json()
    assert labels["labels"]["outcomes"]["intersection"]["concepts"] == ["retinal_vessel"]


def test_two_described_folders_go_on_to_the_labels(client):
    described = yaml.safe_load(DESCRIPTION.replace("CONCEPT", "retinal_vessel"))
    held = json.dumps({"a": described, "b": described})

    draft = _draft(client.post("/blueprint/labels/", {"described": held}))

    assert [one["dataset"] for one in draft["sources"]] == ["a", "b"]
