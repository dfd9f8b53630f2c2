"""Blueprints and partners through API, page and command."""

from __future__ import annotations

import json
import re
from html import unescape

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import CommandError, call_command

from portal.settings import env
from tests.factories import make_dataset

pytestmark = pytest.mark.django_db
CT = {"modalities": ["CT"], "anatomies": ["Liver"], "tasks": ["Segmentation"],
      "dimensions": ["3D"], "classes": ["liver"], "annotation": "manual"}  # fmt: skip


@pytest.fixture
def two():
    make_dataset("ct-one", licence="CC-BY-4.0", **CT)
    make_dataset("ct-two", **CT)
    make_dataset("mr", **{**CT, "modalities": ["MR"]})


@pytest.mark.usefixtures("two")
def test_the_blueprint_of_two_datasets(client):
    data = client.get("/api/v1/blueprint/", {"slug": ["ct-one", "ct-two"]}).json()

    assert data["verdict"] == "eligible as far as the catalog knows"
    assert data["band"] == "recommended"
    assert {row["code"]: row["verdict"] for row in data["rules"]}["E09"] == "recipe only"
    assert data["alignment"]["common"][0]["concept"] == "liver"


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize(
    ("params", "path", "said"),
    [
        ({"slug": ["ct-one"]}, "slug", "1 dataset"),
        ({"slug": ["ct-one", "ct-tow"]}, "slug", "'ct-two'"),
        ({"slug": ["ct-one", "ct-two"], "task": "Segmentatoin"}, "task", "'Segmentation'"),
        ({"slug": ["ct-one", "ct-two"], "mode": "unoin"}, "mode", "'union'"),
        ({"slug": ["ct-one", "ct-two"], "profil": "grid"}, "profil", "'profile'"),
    ],
)
def test_a_slip_is_named_with_what_was_meant(client, params, path, said):
    answer = client.get("/api/v1/blueprint/", params)

    assert answer.status_code == 400
    assert answer.json()["errors"][0]["path"] == path
    assert said in str(answer.json()["errors"])
    assert client.get("/blueprint/", params).status_code == (200 if "1 dataset" in said else 400)


@pytest.mark.usefixtures("two")
def test_classes_that_would_meet_if_confirmed_are_said_everywhere(client, capsys):
    make_dataset("ct-slip", **{**CT, "classes": ["Liverr"]})
    pair = {"slug": ["ct-one", "ct-slip"]}
    data = client.get("/api/v1/blueprint/", pair).json()
    page = unescape(client.get("/blueprint/", pair).content.decode())
    call_command("blueprint", "ct-one", "ct-slip")

    assert data["alignment"]["proposed"][0]["classes"]["ct-slip"] == ["Liverr"]
    assert "would meet if a person confirmed" in page
    assert "Liver (ct-slip: Liverr)" in page
    assert "would meet if confirmed: Liver (ct-slip: Liverr)" in capsys.readouterr().out


@pytest.mark.usefixtures("two")
def test_partners_and_goal(client):
    found = client.get("/api/v1/datasets/ct-one/partners/").json()

    assert [one["slug"] for one in found["results"]] == ["ct-two"]
    assert found["blocked"] == {"E03": 1}
    asked = {"modality": "computed tomography", "anatomy": "abdomen", "task": "seg"}
    assert client.get("/api/v1/blueprint/goal/", asked).json()["slugs"] == ["ct-one", "ct-two"]
    assert client.get("/api/v1/datasets/none/partners/").status_code == 404
    wrong = client.get("/api/v1/blueprint/goal/", {**asked, "anatomy": "livr"})
    assert "'Liver'" in str(wrong.json()["errors"])


@pytest.mark.usefixtures("two")
def test_the_pages_say_what_blocks_and_who_fits(client):
    page = client.get("/blueprint/", {"slug": ["ct-one", "mr"]}).content.decode()
    own = client.get("/datasets/ct-one/").content.decode()
    by_goal = client.get("/blueprint/", {"modality": "CT", "anatomy": "Liver", "task": "seg"})

    assert "1 rule blocks it" in page
    assert 'data-verdict="block"' in page
    assert "they have no family of modality in common" in page
    assert "/blueprint/?slug=ct-one&amp;slug=ct-two" in own
    assert "The best set of 2 datasets" in by_goal.content.decode()


@pytest.mark.usefixtures("two")
def test_the_command_draws_ranks_and_refuses(capsys):
    call_command("blueprint", "ct-one", "ct-two", json=True)
    assert json.loads(capsys.readouterr().out)["band"] == "recommended"
    call_command("blueprint", "ct-one", "mr")
    assert "blocked by E03" in capsys.readouterr().out
    call_command("blueprint", "ct-one")
    assert "ct-two: recommended" in capsys.readouterr().out
    call_command("blueprint", goal=["CT", "liver", "seg"])
    assert "expected cases" not in capsys.readouterr().out
    with pytest.raises(CommandError, match="ct-one"):
        call_command("blueprint", "ct-noe", "mr")


@pytest.mark.parametrize("value", ["modality=1", "modality=a", "labels=.5,labels=.5", "x=1"])
def test_weights_that_are_no_whole_are_refused(monkeypatch, value):
    monkeypatch.setenv("IMAGINGX_SCORE_WEIGHTS", value)

    with pytest.raises(ImproperlyConfigured, match=r"IMAGINGX_SCORE_WEIGHTS: found .* together 1"):
        env.weights("IMAGINGX_SCORE_WEIGHTS")


LOCAL = {"name": "Our scans", "modality": "CT", "family": "CT", "dimension": "3D",
         "annotation": "manual", "licence": {"images": "CC0-1.0", "labels": "CC0-1.0"},
         "cases": {"image": "{name}.nii.gz", "subject": None},
         "layers": [{"path": "l/{name}.nii.gz", "kind": "mask", "concept": "liver"}]}  # fmt: skip


@pytest.mark.usefixtures("two")
def test_a_folder_that_is_only_described_is_set_beside_the_catalog(client, tmp_path, capsys):
    body = {"slug": ["ct-one"], "described": {"ours": LOCAL}}
    data = client.post("/api/v1/blueprint/", body, content_type="application/json").json()

    rules = {row["code"]: row for row in data["rules"]}
    assert data["verdict"] == "eligible as far as the catalog knows"
    assert data["alignment"]["common"][0]["concept"] == "liver"
    assert rules["E11"]["verdict"] == "warn"
    assert rules["E11"]["seen"]["ours"] == "no ids"
    assert rules["E09"]["verdict"] == "pass"

    file = tmp_path / "ours.json"
    file.write_text(json.dumps(LOCAL | {"modality": "MR", "family": "MR"}))
    call_command("blueprint", "ct-one", "--local", f"ours={file}", "--json")
    assert json.loads(capsys.readouterr().out)["blocked_by"] == ["E03"]


@pytest.mark.usefixtures("two")
def test_species_that_differ_block_as_soon_as_they_are_stated(client):
    other = LOCAL | {"species": "pig"}
    body = {"described": {"ours": LOCAL, "pigs": other}}
    data = client.post("/api/v1/blueprint/", body, content_type="application/json").json()

    assert data["blocked_by"] == ["E01"]


@pytest.mark.usefixtures("two")
def test_a_description_with_a_slip_is_named_with_its_place(client):
    wrong = LOCAL | {"licens": {}, "layers": [{**LOCAL["layers"][0], "concept": "livr"}]}
    body = {"slug": ["ct-one"], "described": {"ours": wrong}}
    answer = client.post("/api/v1/blueprint/", body, content_type="application/json")

    assert answer.status_code == 422
    assert "ours.licens: unknown key; did you mean 'licence'?" in str(answer.json()["errors"])
    del wrong["licens"]
    answer = client.post("/api/v1/blueprint/", body, content_type="application/json")
    assert "did you mean 'liver'" in str(answer.json()["errors"])


OURS = """
schema: imaging-x/source/1
name: Our liver scans
modality: CT
family: CT
dimension: 3D
cases: {image: "images/{name}.nii.gz", subject: "{name}"}
layers: [{path: "labels/{name}.nii.gz", kind: mask, concept: liver}]
"""


def posted(client, text, name="ours.yaml", **data):
    file = SimpleUploadedFile(name, text.encode())
    return client.post("/blueprint/", {"description": file, **data})


@pytest.mark.usefixtures("two")
def test_the_page_takes_descriptions_of_local_folders_and_keeps_them_while_choices_change(client):
    page = posted(client, OURS, slug="ct-one")
    html = page.content.decode()

    assert page.status_code == 200
    assert "Our liver scans <span" in html
    assert "Eligible as far as the catalog knows" in html
    held = re.search(r'name="described" value="([^"]*)"', html)
    again = {"slug": "ct-one", "mode": "union", "described": unescape(held[1])}
    assert "Labels that meet (union)" in client.post("/blueprint/", again).content.decode()
    assert "Compare these datasets" not in html
    other = posted(client, OURS.replace("Our", "Their"), "ours.yaml", described=again["described"])
    assert "Their liver scans" in other.content.decode()


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize(
    ("text", "said"),
    [
        (OURS.replace("liver}", "livr}"), "found concept &#x27;livr&#x27;"),
        ("a: [1", "expected"),
        ("x: &a [1]\ny: *a", "YAML alias"),
        ("#" * 300_000, "expected 1 to 262144 bytes"),
        (OURS.replace("dimension", "dimensoin"), "unknown key"),
    ],
)
def test_a_description_that_cannot_be_used_is_a_422_that_names_why(client, text, said):
    page = posted(client, text, slug="ct-one")

    assert page.status_code == 422
    assert said in page.content.decode()
