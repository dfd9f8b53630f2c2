"""The steps from a blueprint to a run: what each form does to the recipe, and what it refuses."""

from __future__ import annotations

import json
from html import unescape
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
import yaml
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from fusion.recipe_files import example_recipes, load_description, parse
from portal.web.wizard.views import PAGES
from tests.factories import make_dataset
from workers.models import Run

pytestmark = pytest.mark.django_db
CT = {"modalities": ["CT"], "anatomies": ["Abdomen"], "tasks": ["Segmentation"],
      "dimensions": ["3D"]}  # fmt: skip
TWO = ["lits", "amos22"]
ORIGIN = "https://example.org/data"


@pytest.fixture(autouse=True)
def catalog():
    make_dataset("lits", name="LiTS", licence="CC-BY-NC-ND-4.0", access="open", **CT)
    make_dataset("amos22", name="AMOS", licence="CC-BY-4.0", **CT)
    make_dataset("nobody", name="Scans of nobody", homepage=ORIGIN, classes=["liver", "livr"], **CT)
    for slug in ("icbm152-2009a", "mni152-neuromorphometrics"):
        make_dataset(slug, modalities=["MR"], anatomies=["Brain"], dimensions=["3D"])


def begin(client, *slugs: str, **choice) -> dict:
    """The draft of these datasets, as the address of the first step carries it."""
    answer = client.get("/blueprint/labels/", {"slug": slugs or TWO, **choice})
    assert answer.status_code == 302
    return draft_in(answer)


def draft_in(answer) -> dict:
    return json.loads(parse_qs(urlsplit(answer["Location"]).query)["recipe"][0])


def page(client, step: str, draft: dict) -> str:
    answer = client.get(f"/blueprint/{step}/", {"recipe": json.dumps(draft)})
    assert answer.status_code == 200
    return unescape(answer.content.decode())


def send(client, step: str, draft: dict, **fields):
    return client.post(f"/blueprint/{step}/", {"recipe": json.dumps(draft), **fields})


def shipped(name: str) -> dict:
    return parse(example_recipes()[name].read_text())


def test_datasets_are_drafted_and_the_address_holds_the_draft(client):
    draft = begin(client, mode="union", profile="native")

    assert [source["description"] for source in draft["sources"]] == ["lits", "amos22-ct"]
    assert (draft["mode"], draft["target"]) == ("union", {"profile": "native"})
    html = page(client, "labels", draft)
    assert 'aria-label="Concept of 1 in LiTS' in html
    assert "Union: " in html


@pytest.mark.parametrize("step", PAGES)
def test_every_step_downloads_the_recipe_and_leads_to_every_other(client, step):
    draft = begin(client)

    text = send(client, step, draft, go="yaml")
    data = send(client, step, draft, go="json")

    assert yaml.safe_load(text.content)["sources"] == draft["sources"]
    assert data.json()["sources"] == draft["sources"]
    assert data["Content-Disposition"] == 'attachment; filename="lits-and-amos.json"'
    for other in PAGES:
        assert send(client, step, draft, go=other)["Location"].startswith(f"/blueprint/{other}/?")
    back = send(client, step, draft, go="datasets")["Location"]
    assert "slug=lits&slug=amos22" in back
    assert client.get(back).status_code == 200


def test_the_first_page_downloads_the_recipe_too_and_keeps_a_draft_over_other_datasets(client):
    asked = {"slug": TWO, "go": "yaml"}
    assert yaml.safe_load(client.post("/blueprint/labels/", asked).content)["task"]
    draft = {**begin(client), "title": "Mine"}

    html = client.get("/blueprint/", {"recipe": json.dumps(draft)}).content.decode()
    again = client.post(
        "/blueprint/labels/", {"slug": [*TWO, "nobody"], "recipe": json.dumps(draft)}
    )

    assert "Eligibility" in html
    changed = draft_in(again)
    assert changed["title"] == "Mine"
    assert [source["dataset"] for source in changed["sources"]] == [*TWO, "nobody"]


# Labels


def test_a_label_means_what_was_chosen_and_the_page_says_what_is_lost(client):
    draft = begin(client)

    answer = send(client, "labels", draft, **{"meaning-0-0": "Spleen", "task": "segmentation"})

    description = draft_in(answer)["sources"][0]["description"]
    assert description["layers"][0]["values"]["1"] == "spleen"
    html = page(client, "labels", draft_in(answer))
    assert "Intersection: 2 concepts" in html
    assert "lost" in html
    back = send(client, "labels", draft_in(answer), **{"meaning-0-0": "liver parenchyma"})
    assert draft_in(back)["sources"][0]["description"] == "lits"


def test_no_concept_of_that_name_is_refused_with_the_nearest_and_stays_typed(client):
    answer = send(client, "labels", begin(client), **{"meaning-0-0": "livr"}, go="target")

    html = unescape(answer.content.decode())
    assert answer.status_code == 422
    assert "sources[0].description.layers.0.values.1: found 'livr'" in html
    assert "nearest: 'Liver'" in html
    assert 'value="livr"' in html


def test_htmx_gets_an_error_that_it_shows_and_no_address_for_it(client):
    draft = json.dumps(begin(client))
    fields = {"recipe": draft, "meaning-0-0": "livr"}

    answer = client.post("/blueprint/labels/", fields, headers={"HX-Request": "true"})

    assert answer.status_code == 200
    assert answer["HX-Push-Url"] == "false"
    assert "found &#x27;livr&#x27;" in answer.content.decode()


def test_concepts_covers_and_mode_are_kept_and_taken_back(client):
    draft = begin(client)
    asked = {"has": ["concepts", "covers-0"], "concept": ["liver"], "mode": "union"}

    changed = draft_in(send(client, "labels", draft, **asked))

    assert (changed["mode"], changed["concepts"]) == ("union", ["liver"])
    assert "covers" not in changed["sources"][0]["description"]
    assert "All of <b>Liver</b>" in page(client, "labels", changed)
    without = draft_in(send(client, "labels", changed, has=["concepts"]))
    assert "concepts" not in without


def test_classes_are_made_of_masks_when_the_task_asks_for_classes(client):
    changed = draft_in(send(client, "labels", begin(client), task="classification"))

    assert [source["convert"] for source in changed["sources"]] == ["presence", "presence"]
    assert "Accept classes that one source alone has" in page(client, "labels", changed)
    back = draft_in(send(client, "labels", changed, task="segmentation"))
    assert not any("convert" in source for source in back["sources"])


def test_a_dataset_that_nobody_described_says_so_and_takes_an_uploaded_description(client):
    draft = begin(client, "lits", "nobody")
    html = page(client, "labels", draft)

    assert "Nobody has described these files yet" in html
    assert "manage.py describe_source FOLDER --dataset nobody" in html
    assert "looks like it: 89 of 100" in html
    assert "Without a source description no run can read: nobody" in page(client, "start", draft)
    text = yaml.safe_dump({**load_description("lits"), "dataset": "nobody", "name": "Ours"})
    upload = SimpleUploadedFile("ours.yaml", text.encode())
    changed = draft_in(send(client, "labels", draft, **{"description-1": upload}))
    assert changed["sources"][1]["description"]["name"] == "Ours"
    assert "Nobody has described" not in page(client, "labels", changed)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"modality: CT", "sources[1].description.name: is missing"),
        (b"\xff\xfe", "no UTF-8 text at byte 0"),
        (b"", "expected 1 to"),
        (b"a: [1", "line 1"),
    ],
)
def test_a_file_that_is_no_description_is_named(client, content, said):
    upload = SimpleUploadedFile("ours.yaml", content)

    answer = send(client, "labels", begin(client, "lits", "nobody"), **{"description-1": upload})

    assert answer.status_code == 422
    assert said in unescape(answer.content.decode())


def test_a_draft_too_long_for_an_address_travels_in_the_form(client):
    long = {**shipped("abdomen-ct"), "about": "x" * 4000}
    for slug in ("totalsegmentator", "msd-task09-spleen"):
        make_dataset(slug, **CT)

    answer = send(client, "labels", long, go="target")

    html = answer.content.decode()
    assert answer.status_code == 200
    assert "This draft is too long for an address" in html
    assert 'action="/blueprint/target/"' in html
    assert "x" * 4000 in html


# Target and splits


def test_the_grid_needs_sizes_and_other_profiles_have_none(client):
    draft = begin(client)
    sizes = {f"spacing-{axis}": str(axis + 1) for axis in range(3)}

    on_grid = draft_in(send(client, "target", draft, profile="grid", **sizes))
    native = draft_in(send(client, "target", on_grid, profile="native", **sizes))

    assert on_grid["target"] == {"profile": "grid", "spacing_mm": [1.0, 2.0, 3.0]}
    assert native["target"] == {"profile": "native"}


@pytest.mark.parametrize(
    ("step", "fields", "said"),
    [
        ("target", {"profile": "gird"}, "profile: found 'gird', expected one of native"),
        ("target", {"profile": "grid", "spacing-0": "a"}, "target.spacing_mm[0]: found 'a'"),
        ("target", {"profile": "grid", "spacing-0": ""}, "target.spacing_mm[0]: found 'nothing'"),
        (
            "target",
            {"profile": "grid", "spacing-0": "900", "spacing-1": "1", "spacing-2": "1"},
            "spacing_mm is in millimetres, 0.05 to 50",
        ),
        ("splits", {"train": "70", "val": "20", "test": "20"}, "shares that sum to 1"),
        ("splits", {"train": "most", "val": "0", "test": "0"}, "splits.train: found 'most'"),
        ("splits", {"seed": "-1"}, "seed: found '-1', expected a whole number"),
        ("splits", {"overlap_plan": "hope"}, "overlap_plan: found 'hope'"),
        ("licences", {"build": "public"}, "build: found 'public'"),
        (
            "licences",
            {"place-0": "local", "path-0": "../../etc"},
            "sources[0].location.path: found '../../etc'",
        ),
        ("start", {"title": "x"}, "title: found 'x', expected 3 to 200 characters"),
        ("start", {"tier": "huge"}, "tier: found 'huge'"),
    ],
)
def test_what_cannot_be_is_refused_with_its_field_and_stays_on_its_step(client, step, fields, said):
    answer = send(client, step, begin(client), **fields, go="start")

    html = unescape(answer.content.decode())
    assert answer.status_code == 422
    assert said in html
    assert f'action="/blueprint/{step}/"' in html


def test_splits_people_and_overlaps_are_written_down(client):
    draft = begin(client, "icbm152-2009a", "mni152-neuromorphometrics")
    html = page(client, "splits", draft)
    assert "both templates average scans of the same 152 volunteers" in html
    assert "E07" in html
    assert "certain overlap: both hold images of the same people" in html
    assert "<b>Leave one source out</b>" in html

    changed = draft_in(
        send(client, "splits", draft, protocol="kfold", train="60", val="10", test="30", seed="7",
             has=["unknown_subjects", "overlap", "official_val"], official_val="1",
             unknown_subjects="icbm152-2009a", **{"reason-0": "a demonstration"})
    )  # fmt: skip

    assert changed["splits"] == {
        "protocol": "kfold", "train": 0.6, "val": 0.1, "test": 0.3, "official_val": True,
    }  # fmt: skip
    assert changed["seed"] == 7
    assert changed["accept"]["unknown_subjects"] == ["icbm152-2009a"]
    assert changed["accept"]["overlap"][0]["reason"] == "a demonstration"
    assert "Still to do" not in page(client, "splits", changed)


# Licences and files


def test_licences_are_told_in_words_with_the_source_that_decides(client):
    html = page(client, "licences", {**begin(client), "build": "shareable"})

    assert "All but 1 source may be passed on" in html
    assert "images as the original files only, labels as the original files only" in html
    assert "CC-BY-NC-ND-4.0 lets them be passed on unchanged only" in html


def test_how_files_are_got_and_whether_they_are_here(client, settings):
    draft = begin(client, "lits", "nobody")
    assert page(client, "licences", draft).count("to be put here by hand") == 2

    changed = draft_in(send(client, "licences", draft, **{"place-1": "local", "path-1": "ours"}))
    (settings.DATA_ROOT / "ours").mkdir(parents=True)

    assert changed["sources"][1]["location"] == {"kind": "manual", "path": "ours", "page": ORIGIN}
    assert "already here" in page(client, "licences", changed)


def test_what_only_the_page_of_a_dataset_tells_is_asked_for(client):
    where = "https://huggingface.co/datasets/owner/name"
    make_dataset("hub", homepage=where, access="registration", **CT)
    draft = begin(client, "lits", "hub")
    html = page(client, "licences", draft)
    assert "Revision (full commit hash)" in html
    assert 'href="/datasets/hub/terms/"' in html

    answer = send(
        client, "licences", draft, **{"place-1": "fetch", "revision-1": "a" * 40}, go="start"
    )

    place = draft_in(answer)["sources"][1]["location"]
    assert place == {"kind": "huggingface", "repo_id": "owner/name", "revision": "a" * 40}


# Start


def test_a_draft_without_problems_starts_once(client):
    draft = begin(client)
    assert "Nothing stands in the way" in page(client, "start", draft)

    first = send(client, "start", draft, title="Two livers", tier="none", go="run")
    second = send(client, "start", draft, title="Two livers", tier="none", go="run")

    run = Run.objects.get()
    assert first["Location"] == second["Location"] == f"/runs/{run.pk}/"
    assert (run.title, run.recipe["baseline"]["tier"]) == ("Two livers", "none")


def test_what_blocks_a_run_is_said_and_nothing_is_started(client):
    draft = begin(client, "icbm152-2009a", "mni152-neuromorphometrics")

    answer = send(client, "start", draft, go="run")

    assert answer.status_code == 422
    assert "E07" in answer.content.decode()
    assert not Run.objects.exists()


def test_starting_asks_to_sign_in_where_that_is_needed_and_comes_back(client, settings):
    settings.REQUIRE_SIGN_IN = True
    draft = begin(client)

    answer = send(client, "start", draft, go="run")

    assert answer["Location"].startswith("/login/?next=/blueprint/start/")
    client.force_login(User.objects.create(username="ada"))
    assert send(client, "start", draft, go="run")["Location"].startswith("/runs/")


def test_a_form_without_its_token_is_refused():
    client = Client(enforce_csrf_checks=True)

    assert client.post("/blueprint/start/", {"go": "run"}).status_code == 403


# A recipe that somebody has


def test_a_recipe_goes_on_where_something_is_missing(client):
    whole = shipped("brain-tissue")
    unfinished = {**whole, "accept": {}}

    done = client.post("/blueprint/open/", {"recipe": json.dumps(whole)})
    upload = SimpleUploadedFile("recipe.yaml", yaml.safe_dump(unfinished).encode())
    not_yet = client.post("/blueprint/open/", {"file": upload})

    assert done["Location"].startswith("/blueprint/start/?recipe=")
    assert not_yet["Location"].startswith("/blueprint/splits/?recipe=")
    assert draft_in(done) == whole


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "recipe: found nothing"),
        ("a: [1", "line 1"),
        ("- a", "expected a mapping"),
        ("title: x", "sources: found nothing, expected a list of sources"),
        ("sources: [liver]", "sources[0]: found 'liver'"),
    ],
)
def test_a_broken_recipe_is_refused_with_the_field(client, text, said):
    answer = client.post("/blueprint/open/", {"recipe": text})

    html = unescape(answer.content.decode())
    assert answer.status_code == 422
    assert said in html
    assert "This recipe cannot be continued" in html


def test_a_recipe_with_a_slip_is_continued_and_the_slip_is_named_where_it_is(client):
    slip = {**begin(client), "target": {"profile": "gird"}}

    answer = client.post("/blueprint/open/", {"recipe": json.dumps(slip)})

    assert answer["Location"].startswith("/blueprint/target/")
    assert 'target.profile: found "gird"' in page(client, "target", slip)


@pytest.mark.parametrize(
    "broken",
    [
        {"target": []}, {"splits": 3}, {"accept": "all"}, {"accept": {"overlap": [3]}},
        {"concepts": "liver"}, {"concepts": [["a"]]}, {"views": 4}, {"baseline": None},
        {"mode": ["union"]}, {"task": {}}, {"channels": 5}, {"seed": "x"}, {"title": 7},
        {"target": {"profile": "grid", "spacing_mm": 2}}, {"overlap_plan": []}, {"build": {}},
        {"splits": {"train": "x", "protocol": []}}, {"accept": {"unknown_subjects": 5}},
    ],
)  # fmt: skip
def test_no_value_of_the_wrong_kind_breaks_a_step(client, broken):
    draft = {**begin(client), **broken}

    for step in PAGES:
        answer = client.get(f"/blueprint/{step}/", {"recipe": json.dumps(draft)})
        assert answer.status_code == 200
        assert send(client, step, draft).status_code in {200, 302, 422}


@pytest.mark.parametrize(
    "source",
    [
        {}, {"id": 5, "dataset": [], "location": "x", "description": 7},
        {"id": "A b", "dataset": "lits", "description": {"layers": 3}},
        {"id": "a", "dataset": "lits", "location": {"kind": "http", "files": 3}},
        {"id": "a", "dataset": "lits", "location": {"kind": "local", "path": 3},
         "description": "nothing shipped"},
        {"id": "a", "dataset": "lits", "location": {"kind": []}, "description": "lits"},
    ],
)  # fmt: skip
def test_no_source_of_the_wrong_kind_breaks_a_step(client, source):
    draft = begin(client)
    draft["sources"][0] = source

    for step in PAGES:
        answer = client.get(f"/blueprint/{step}/", {"recipe": json.dumps(draft)})
        assert answer.status_code == 200
        assert send(client, step, draft).status_code in {200, 302, 422}


def test_a_shipped_recipe_can_be_changed(client):
    answer = client.get("/blueprint/labels/", {"example": "brain-tissue"})

    assert draft_in(answer) == shipped("brain-tissue")
    wrong = client.get("/blueprint/labels/", {"example": "nothing"})
    assert wrong.status_code == 422
    assert "example: found &#x27;nothing&#x27;" in wrong.content.decode()


# The ways in


def test_rules_find_a_set_and_datasets_join_by_address_and_doi(client):
    make_dataset("by-doi", name="By DOI", doi="10.5281/zenodo.77", **CT)
    rules = json.dumps({"modalities": ["CT"], "dimension": "3D", "license_allowlist": None})

    html = client.get("/blueprint/", {"rules": rules}).content.decode()
    wrong = client.get("/blueprint/", {"rules": '{"modalites": []}'})

    assert "The rules keep" in html
    assert wrong.status_code == 400
    assert "modalities" in wrong.content.decode()
    for text in (
        f"{ORIGIN}/",
        "https://doi.org/10.5281/zenodo.77",
        "http://localhost/datasets/lits/",
    ):
        added = client.get("/blueprint/", {"slug": "amos22", "add": text})
        assert added.status_code == 200, text
        assert "Eligibility" in added.content.decode()


def test_an_address_without_a_draft_leads_to_the_first_page(client):
    assert client.get("/blueprint/target/")["Location"] == "/blueprint/"
    wrong = client.get("/blueprint/labels/?" + urlencode({"slug": ["lits", "amso22"]}, doseq=True))
    assert wrong.status_code == 400
    assert "amos22" in wrong.content.decode()


# The API does the same


def test_the_api_drafts_edits_and_checks(client):
    asked = {"slug": ["lits", "nobody"], "mode": "union"}
    found = client.post("/api/v1/recipes/draft/", asked, "application/json").json()

    assert found["undescribed"] == ["nobody"]
    assert found["next_step"] == "labels"
    assert found["problems"][0]["step"] == "labels"
    assert found["sources"][0]["ships"]["shareable"]["images"] == "original"
    draft = client.post("/api/v1/recipes/draft/", {"slug": TWO}, "application/json").json()
    meanings = {"lits": {"layers.0.values.1": "spleen"}}
    body = {"recipe": draft["recipe"], "meanings": meanings}
    edited = client.post("/api/v1/recipes/labels/", body, "application/json").json()
    assert edited["labels"]["outcomes"]["intersection"]["concepts"] == ["liver", "spleen"]
    checked = client.post(
        "/api/v1/recipes/validate/", {"recipe": edited["recipe"]}, "application/json"
    ).json()
    assert {"E05", "E09"} <= {gate["code"] for gate in checked["gates"]}
    rules = {"modalities": ["CT"], "dimension": "3D"}
    by_rules = client.post("/api/v1/blueprint/rules/", rules, "application/json").json()
    assert set(by_rules) == {"S", "slugs", "pool"}


@pytest.mark.parametrize(
    ("meanings", "path"),
    [
        ({"lits": {"layers.0.values.1": "livr"}}, "meanings.lits.layers.0.values.1"),
        ({"lits": {"layers.0.values.77": "liver"}}, "meanings.lits.layers.0.values.77"),
        ({"list": {"layers.0.values.1": "liver"}}, "meanings.list"),
    ],
)
def test_the_api_names_a_label_that_is_none(client, meanings, path):
    draft = client.post("/api/v1/recipes/draft/", {"slug": TWO}, "application/json").json()
    body = {"recipe": draft["recipe"], "meanings": meanings}

    answer = client.post("/api/v1/recipes/labels/", body, "application/json")

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["path"] == path


def test_concepts_are_listed_and_found_by_a_slip(client):
    every = client.get("/api/v1/catalog/concepts/").json()
    near = client.get("/api/v1/catalog/concepts/", {"q": "livr"}).json()

    assert every["total"] > 300
    assert near["results"][0]["id"] == "liver"
    assert near["results"][0]["score"] < 100
