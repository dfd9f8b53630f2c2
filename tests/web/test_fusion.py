"""Recipes, runs and bundles as pages."""

from __future__ import annotations

import json
import re
from datetime import timedelta

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from fusion.recipe_files import example_recipes, load_recipe
from tests.factories import (
    FILES,
    make_baseline,
    make_bundle,
    make_case,
    make_measured,
    make_run,
    make_summary,
)
from workers.models import Run, RunStage

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("datasets")]


def sample() -> dict:
    return load_recipe(example_recipes()["brain-tissue"])


def test_every_shipped_recipe_has_a_button_and_says_which_data_are_missing(client):
    html = client.get("/recipes/").content.decode()

    assert html.count("Start fusion<span") == len(example_recipes())
    assert "<code>sample/nilearn/datasets/data</code>" in html
    assert 'href="/datasets/icbm152-2009a/"' in html


def test_starting_a_shipped_recipe_makes_a_run_once(client):
    first = client.post("/recipes/start/", {"example": "brain-tissue"})
    second = client.post("/recipes/start/", {"example": "brain-tissue"})

    run = Run.objects.get()
    assert first.status_code == 302
    assert first["Location"] == second["Location"] == f"/runs/{run.pk}/"


def test_a_form_without_its_token_is_refused():
    client = Client(enforce_csrf_checks=True)

    answer = client.post("/recipes/start/", {"example": "brain-tissue"})

    assert answer.status_code == 403
    assert "This form was not accepted" in answer.content.decode()
    assert not Run.objects.exists()


def test_a_get_starts_nothing(client):
    assert client.get("/recipes/start/", {"example": "brain-tissue"}).status_code == 405


def test_a_wrong_recipe_comes_back_with_place_found_and_expected(client):
    recipe = {**sample(), "taks": "segmentation"}
    recipe["sources"][0]["dataset"] = "icbm152-2009"
    text = json.dumps(recipe)

    answer = client.post("/recipes/start/", {"recipe": text})

    html = answer.content.decode()
    assert answer.status_code == 422
    assert "<code>taks</code>" in html
    assert "did you mean" in html
    assert "&quot;taks&quot;" in html  # the text is still in the field
    assert not Run.objects.exists()


def test_check_only_starts_nothing(client):
    upload = SimpleUploadedFile("recipe.json", json.dumps(sample()).encode())

    answer = client.post("/recipes/start/", {"file": upload, "action": "check"})

    assert answer.status_code == 200
    assert "This recipe is valid" in answer.content.decode()
    assert not Run.objects.exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "found nothing"),
        ("a: [1", "line 1"),
        ("- a\n- b", "expected a mapping"),
        ("a: &x [1, 2]\nb: [*x, *x]", "YAML alias"),
        ("[" * 5000, "nested too deeply"),
        ("title: " + "x" * 300_000, "at most"),
    ],
)
def test_text_that_is_no_recipe_is_named(client, text, said):
    answer = client.post("/recipes/start/", {"recipe": text})

    assert answer.status_code == 422
    assert said in answer.content.decode()


def test_a_file_that_is_no_text_is_named(client):
    upload = SimpleUploadedFile("recipe.yaml", b"\xff\xfe\x00")

    answer = client.post("/recipes/start/", {"file": upload})

    assert answer.status_code == 422
    assert "no UTF-8 text" in answer.content.decode()


def test_a_run_page_shows_stages_sources_and_codes(client, django_assert_num_queries):
    run = make_run(state=Run.State.RUNNING, stage="harmonise")
    run.stages.filter(name="acquire").update(state=RunStage.State.DONE, done=2, total=2, seconds=75)
    run.stages.filter(name="harmonise").update(state=RunStage.State.RUNNING, done=1, total=4)
    make_case(run, "icbm152", "a", "used")
    make_case(run, "icbm152", "b", "excluded", "grid_conflict")
    make_case(run, "mni152", "c", "pending")

    with django_assert_num_queries(4):
        html = client.get(f"/runs/{run.pk}/").content.decode()

    assert "1 of 9 stages" in html
    assert "2 of 2 · 1 min 15 s" in html
    assert 'value="25"' in html
    assert "image and label do not lie on compatible grids" in html
    assert f'action="/runs/{run.pk}/cancel/"' in html


def test_the_moving_part_asks_for_itself_until_the_run_ends(client):
    run = make_run(state=Run.State.RUNNING, stage="split")

    html = client.get(f"/runs/{run.pk}/progress/?seen=running-split").content.decode()
    assert 'hx-trigger="every 1s"' in html
    assert "run-status" not in html  # nothing new to announce

    run.state, run.error_code, run.error = Run.State.FAILED, "source_failed", "no such folder"
    run.save()
    answer = client.get(f"/runs/{run.pk}/progress/?seen=running-split")
    html = answer.content.decode()
    assert "hx-trigger" not in html
    assert "no such folder" in html
    assert "Run failed" in html
    assert "no-store" in answer["Cache-Control"]


def test_the_log_is_in_order_though_seconds_are_rounded_and_the_newest_stands_first(client):
    run = make_run(state=Run.State.SUCCEEDED)
    start = run.created_at
    run.stages.filter(name="acquire").update(
        state=RunStage.State.DONE, started_at=start + timedelta(seconds=1), seconds=13
    )
    run.stages.filter(name="ingest").update(
        state=RunStage.State.DONE, started_at=start + timedelta(seconds=13.9), seconds=0.1
    )
    Run.objects.update(finished_at=start + timedelta(seconds=20))

    html = client.get(f"/runs/{run.pk}/").content.decode()

    told = re.findall(r"</time> ([^<]+)</li>", html)
    acquired, ingested = ["Acquire: stage done", "Acquire: stage began"], "Ingest: stage began"
    assert told == ["succeeded", "Ingest: stage done", ingested, *acquired, "asked for"]
    assert "Tell me when it has ended" not in html  # it has


def test_cancel_ends_a_waiting_run_at_once(client):
    run = make_run()

    answer = client.post(f"/runs/{run.pk}/cancel/")

    run.refresh_from_db()
    assert answer.status_code == 302
    assert run.state == Run.State.CANCELLED


def test_a_bundle_page_shows_contents_licences_codes_and_notices(client):
    baseline = make_baseline()
    bundle = make_bundle(baseline=baseline)

    html = client.get(f"/bundles/{bundle.pk}/").content.decode()

    for said in (
        "Private build",
        "Small sample",
        "CC-BY-4.0",
        "inconclusive",
        "0.643",
        "first alone",
    ):
        assert said in html
    assert "a label names a case whose image is not there" in html
    assert "small_stratum" in html
    assert bundle.files[0]["sha256"] in html
    assert f"/api/v1/bundles/{bundle.pk}/download/" in html
    assert html.index(" train</th>") < html.index(" test</th>")
    assert "No source states a licence" in html
    assert f"imagingx download {bundle.pk}" in html
    assert f"curl -fL -C - -o {bundle.pk[:12]}.tar" in html
    assert "manage.py rebuild_bundle" in html


REPORT = {
    "report/report.html": b"<!doctype html><title>Quality</title>",
    "report/cases.png": b"\x89PNG\r\n\x1a\n",
}


def test_a_bundle_page_shows_what_was_measured_and_leads_to_the_report(client):
    bundle = make_bundle(REPORT, summary=make_summary(measured=make_measured()))

    html = client.get(f"/bundles/{bundle.pk}/").content.decode()

    sizes = "1 \u00d7 1 \u00d7 3 mm \u2192 2 \u00d7 2 \u00d7 2 mm"
    for said in (
        sizes,
        "LAS (3)",
        "score 0.81 of 1, 90% of what counts known",
        "not enough metadata",
        "score unknown, 35% known",
    ):
        assert said in html
    assert f'href="/bundles/{bundle.pk}/report/"' in html
    assert f'src="/bundles/{bundle.pk}/cases.png"' in html


def test_the_baseline_page_is_served_as_built_and_its_figures_as_json(client):
    pages = {"baseline/baseline.html": b"<!doctype html><title>Baseline</title>"}
    bundle = make_bundle(pages, baseline=make_baseline())
    bare = make_bundle(FILES)

    html = client.get(f"/bundles/{bundle.pk}/").content.decode()
    page = client.get(f"/bundles/{bundle.pk}/baseline/")

    assert f'href="/bundles/{bundle.pk}/baseline/"' in html
    assert "arm failed: seed 1: no training case" in html
    assert page.content == pages["baseline/baseline.html"]
    assert "sandbox" in page["Content-Security-Policy"]
    found = client.get(f"/api/v1/bundles/{bundle.pk}/baseline/").json()
    assert (found["verdict"], found["matrix"][0]["value"]) == ("inconclusive", 0.6432)
    assert client.get(f"/api/v1/bundles/{bare.pk}/baseline/").status_code == 404
    assert client.get(f"/bundles/{bare.pk}/baseline/").status_code == 404


def test_the_report_is_served_as_built_and_nothing_in_it_can_run(client):
    bundle = make_bundle(REPORT)

    page = client.get(f"/bundles/{bundle.pk}/report/")
    picture = client.get(f"/bundles/{bundle.pk}/cases.png")

    assert page.content == REPORT["report/report.html"]
    assert page["Content-Type"] == "text/html; charset=utf-8"
    policy = page["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "sandbox" in policy
    assert "script-src" not in policy
    assert picture["Content-Type"] == "image/png"
    data = client.get(f"/api/v1/bundles/{bundle.pk}/").json()
    assert data["report"] == f"/bundles/{bundle.pk}/report/"


def test_charts_of_the_report_are_pictures_of_their_own(client):
    title = "Intensities of a &amp; b: originals as an area, harmonised as a line"
    drawn = f'<svg viewBox="0 0 340 120" role="img" aria-label="{title}"><line x1="0"/></svg>'
    page = f"<!doctype html><svg viewBox='0 0 9 9'></svg><figure>{drawn}</figure>"
    bundle = make_bundle(
        {"report/report.html": page.encode()}, summary=make_summary(measured=make_measured())
    )

    html = client.get(f"/bundles/{bundle.pk}/").content.decode()
    chart = client.get(f"/bundles/{bundle.pk}/charts/0.svg")

    assert f'src="/bundles/{bundle.pk}/charts/0.svg" alt="{title}"' in html
    assert chart["Content-Type"] == "image/svg+xml"
    assert "default-src 'none'" in chart["Content-Security-Policy"]
    assert b'<line x1="0"/></svg>' in chart.content
    assert client.get(f"/bundles/{bundle.pk}/charts/1.svg").status_code == 404


def test_a_bundle_without_a_report_offers_none(client):
    bundle = make_bundle()

    assert client.get(f"/bundles/{bundle.pk}/report/").status_code == 404
    assert client.get(f"/bundles/{bundle.pk}/cases.png").status_code == 404
    assert "/report/" not in client.get(f"/bundles/{bundle.pk}/").content.decode()
    assert client.get(f"/api/v1/bundles/{bundle.pk}/").json()["report"] is None


def test_a_run_page_shows_what_was_measured_and_the_findings(client):
    finding = {"code": "catalog_differs", "severity": "info", "detail": "first: <b>28</b> images"}
    run = make_run(state=Run.State.RUNNING, stage="package")
    run.quality = {**make_measured(), "findings": [finding]}
    run.save()

    html = client.get(f"/runs/{run.pk}/").content.decode()

    assert "What the files hold" in html
    assert "first: &lt;b&gt;28&lt;/b&gt; images" in html
    data = client.get(f"/api/v1/runs/{run.pk}/").json()
    assert data["quality"]["findings"] == [finding]


def test_a_large_shareable_bundle_has_no_notices(client):
    bundle = make_bundle(build="shareable", summary=make_summary(cases=500))

    html = client.get(f"/bundles/{bundle.pk}/").content.decode()

    assert "Private build" not in html
    assert "Small sample" not in html


def test_each_state_of_a_run_offers_what_can_be_done(client):
    run = make_run()

    def offered() -> set[str]:
        html = client.get(f"/runs/{run.pk}/").content.decode()
        actions = ("pause", "resume", "retry", "cancel", "priority")
        return {name for name in actions if f'action="/runs/{run.pk}/{name}/"' in html}

    assert offered() == {"pause", "cancel", "priority"}
    assert client.post(f"/runs/{run.pk}/pause/")["Location"] == f"/runs/{run.pk}/"
    assert offered() == {"resume", "cancel", "priority"}
    client.post(f"/runs/{run.pk}/resume/")
    client.post(f"/runs/{run.pk}/priority/", {"priority": "low"})
    run.refresh_from_db()
    assert (run.state, run.priority) == (Run.State.QUEUED, Run.Priority.LOW)
    Run.objects.update(state=Run.State.FAILED)
    assert offered() == {"retry"}
    client.post(f"/runs/{run.pk}/retry/")
    assert offered() == {"pause", "cancel", "priority"}
    Run.objects.update(state=Run.State.SUCCEEDED)
    assert offered() == set()


def test_a_button_that_came_too_late_shows_the_run_as_it_is(client):
    run = make_run(state=Run.State.SUCCEEDED)

    late = client.post(f"/runs/{run.pk}/pause/")
    wrong = client.post(f"/runs/{run.pk}/priority/", {"priority": "<b>"})

    assert late.status_code == wrong.status_code == 409
    assert "it is succeeded and cannot be paused" in late.content.decode()
    assert "&lt;b&gt;" in wrong.content.decode()


def test_steering_needs_the_forms_token():
    client = Client(enforce_csrf_checks=True)
    run = make_run()

    assert client.post(f"/runs/{run.pk}/pause/").status_code == 403
    assert client.get(f"/runs/{run.pk}/pause/").status_code == 405


def test_a_run_without_a_place_says_what_it_waits_for(client, settings):
    settings.RUNS_AT_ONCE = 1
    make_run(state=Run.State.RUNNING)
    run = make_run()

    html = client.get(f"/runs/{run.pk}/").content.decode()

    assert "Waiting for a place: 1 runs are under way, 1 may be at once." in html
