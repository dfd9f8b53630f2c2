"""Metrics, health and the status page: what they say, and to whom."""

from __future__ import annotations

import socket
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils.timezone import now
from prometheus_client.parser import text_string_to_metric_families

from catalog.search.engine import reindex
from tests.factories import make_bundle, make_case, make_run
from workers.models import Run, RunStage, WorkerProcess

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("datasets")]
OUTSIDE = {"REMOTE_ADDR": "192.0.2.7"}


@pytest.fixture(autouse=True)
def own_queue(tmp_path):
    from celery import current_app

    folder = tmp_path / "queue"
    folder.mkdir()
    before = dict(current_app.conf.broker_transport_options)
    current_app.conf.broker_transport_options = {
        "data_folder_in": str(folder),
        "data_folder_out": str(folder),
    }
    current_app._after_fork()
    yield folder
    current_app.conf.broker_transport_options = before
    current_app._after_fork()


def make_worker(**fields) -> WorkerProcess:
    values = {
        "name": "host/1/42/7",
        "host": "host-a",
        "pid": 42,
        "queues": ["cpu"],
        "concurrency": 1,
        "children": [43],
        "device": "CPU, 2 cores",
        "versions": {"celery": "5.7.0"},
        "started_at": now(),
        "seen_at": now(),
        **fields,
    }
    return WorkerProcess.objects.create(**values)


def figures(client) -> dict[tuple, float]:
    """Every sample of /metrics by name and labels."""
    answer = client.get("/metrics")
    assert answer["Content-Type"].startswith("text/plain")
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.content.decode())
        for sample in family.samples
    }


def test_metrics_count_what_the_database_holds(client, own_queue):
    run = make_run(state=Run.State.RUNNING, retries=2, lost_leases=1, bytes_in=1000)
    make_run(state=Run.State.FAILED, error_code="disk_full")
    RunStage.objects.filter(run=run, name="acquire").update(state="done", seconds=3.5)
    RunStage.objects.filter(run=run, name="ingest").update(state="done", seconds=100_000)
    make_case(run, "first", "a", "used")
    make_case(run, "first", "b", "excluded", "unreadable")
    make_worker()
    make_worker(name="host/1/44/7", pid=44, seen_at=now() - timedelta(hours=1))
    make_bundle(size_bytes=70)
    make_bundle({"a": b"b"}, size_bytes=30, removed_at=now())
    (own_queue / "4_00000000000000000000_x.cpu.msg").write_text("{}")

    found = figures(client)

    def value(name: str, **labels: str) -> float:
        return found[f"imagingx_{name}", *sorted(labels.items())]

    assert value("runs", state="running") == 1
    assert value("runs", state="paused") == 0
    assert value("runs_failed", code="disk_full") == 1
    assert value("retries_total") == 2
    assert value("lost_leases_total") == 1
    assert value("source_bytes_total") == 1000
    assert value("stage_seconds_bucket", stage="acquire", le="1.0") == 0
    assert value("stage_seconds_bucket", stage="acquire", le="5.0") == 1
    assert value("stage_seconds_bucket", stage="ingest", le="86400.0") == 0
    assert value("stage_seconds_bucket", stage="ingest", le="+Inf") == 1
    assert value("stage_seconds_sum", stage="acquire") == 3.5
    assert value("cases_total", state="excluded", code="unreadable") == 1
    assert value("workers", queue="cpu") == 1
    assert value("workers", queue="gpu") == 0
    assert value("bundle_storage_bytes") == 70
    assert value("bundle_bytes_total") == 100
    assert value("bundles", state="removed") == 1
    assert value("broker_up", broker="file") == 1
    assert value("queue_messages", broker="file", queue="cpu") == 1
    assert value("queue_messages", broker="file", queue="gpu") == 0
    assert value("index_is_current") == 0
    assert value("disk_free_bytes", folder="work") > 0
    reindex()
    assert figures(client)["imagingx_index_is_current",] == 1


@pytest.mark.parametrize("path", ["/metrics", "/status/"])
def test_figures_are_for_operators(client, path, settings):
    assert client.get(path).status_code == 200
    assert client.get(path, **OUTSIDE).status_code == 403
    assert client.get(path, HTTP_X_FORWARDED_FOR="127.0.0.1").status_code == 403
    no_token = client.get(path, HTTP_AUTHORIZATION="Bearer ", **OUTSIDE)
    assert no_token.status_code == 403

    settings.METRICS_TOKEN = "let-me-in"
    for given, status in (("Bearer let-me-in", 200), ("Bearer other", 403)):
        assert client.get(path, HTTP_AUTHORIZATION=given, **OUTSIDE).status_code == status
    settings.METRICS_NETWORKS = ["192.0.2.0/24"]
    assert client.get(path, **OUTSIDE).status_code == 200
    assert client.get(path).status_code == 403


def test_staff_see_the_status_from_anywhere_and_others_do_not(client):
    client.force_login(User.objects.create(username="ada"))
    assert client.get("/status/", **OUTSIDE).status_code == 403
    client.force_login(User.objects.create(username="root", is_staff=True))
    assert client.get("/status/", **OUTSIDE).status_code == 200


def test_the_status_page_shows_workers_runs_and_failures(client):
    run = make_run(title="<b>Vessels</b>", state=Run.State.RUNNING, stage="harmonise")
    token = "host/1/43/9/nonce"
    Run.objects.filter(pk=run.pk).update(worker=token, lease_until=now() + timedelta(minutes=1))
    make_run(title="Hippocampus", priority=Run.Priority.HIGH)
    make_run(
        title="Lungs", state=Run.State.FAILED, error_code="disk_full", error="no room <i>left</i>"
    )
    make_worker()

    html = client.get("/status/").content.decode()

    assert "harmonise: &lt;b&gt;Vessels&lt;/b&gt;" in html
    assert "host-a / 42" in html
    assert "<td>a worker</td>" in html
    assert "no room &lt;i&gt;left&lt;/i&gt;" in html
    assert "disk_full" in html
    assert "style=" not in html
    assert html.index("Hippocampus") < html.index("Vessels", html.index("open-runs"))


def test_the_process_says_that_it_lives_without_asking_anybody(client, django_assert_num_queries):
    with django_assert_num_queries(0):
        assert client.get("/healthz", **OUTSIDE).json() == {"status": "ok"}


@pytest.mark.django_db(transaction=True)
def test_a_site_with_all_its_parts_is_ready(client):
    answer = client.get("/readyz")

    body = answer.json()
    assert answer.status_code == 200, body
    assert [part["name"] for part in body["parts"]] == [
        "database", "broker", "search", "storage", "disk",
    ]  # fmt: skip
    assert all(part["ok"] for part in body["parts"])


@pytest.mark.django_db(transaction=True)
def test_a_part_that_is_away_or_mute_makes_it_unready_in_time(client, settings):
    from catalog.search.engine import _engine

    with socket.socket() as mute:  # accepts and never answers
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        settings.SEARCH_URL = f"http://127.0.0.1:{mute.getsockname()[1]}"
        settings.DISK_RESERVE_BYTES = 10**18
        answer = client.get("/readyz")
        _engine.cache_clear()

    parts = {part["name"]: part for part in answer.json()["parts"]}
    assert answer.status_code == 503
    assert (parts["search"]["ok"], parts["search"]["detail"]) == (False, "no answer within 3 s")
    assert "expected at least" in parts["disk"]["detail"]
    assert parts["database"]["ok"]
    outside = client.get("/readyz", **OUTSIDE).json()
    assert set(outside["parts"][0]) == {"name", "ok"}


def test_each_answer_names_its_request_and_takes_no_foreign_lines(client):
    plain = client.get("/healthz", HTTP_X_REQUEST_ID="abc-1")
    forged = client.get("/healthz", HTTP_X_REQUEST_ID="a b\tINFO")

    assert plain["X-Request-ID"] == "abc-1"
    assert len(forged["X-Request-ID"]) == 32


def test_a_removed_bundle_says_why_and_how_to_build_it_again(client):
    bundle = make_bundle(recipe={"title": "Vessels <1>"})
    bundle.removed_at, bundle.removed_why = now(), "older than 30 days"
    bundle.save()

    page = client.get(f"/bundles/{bundle.pk}/")
    assert page.status_code == 410
    html = page.content.decode()
    assert "older than 30 days" in html
    assert "Vessels &lt;1&gt;" in html
    assert client.get(f"/bundles/{bundle.pk}/report/").status_code == 410
    for path in ("", "files/", "download/", "files/README.md"):
        answer = client.get(f"/api/v1/bundles/{bundle.pk}/{path}")
        assert answer.status_code == 410
        body = answer.json()
        assert body["recipe"] == {"title": "Vessels <1>"}
        assert "older than 30 days" in body["detail"]
    assert client.get("/api/v1/bundles/").json()["total"] == 0
    assert bundle.pk not in client.get("/bundles/").content.decode()


def test_a_user_signs_in_owns_a_run_and_signs_out():
    client = Client(enforce_csrf_checks=True)
    User.objects.create_user("ada", password="difference-engine")

    def send(address: str, **fields: str):
        client.get("/login/")
        token = client.cookies["csrftoken"].value
        return client.post(address, {**fields, "csrfmiddlewaretoken": token})

    wrong = send("/login/", username="ada", password="x")
    assert "do not fit together" in wrong.content.decode()
    away = send("/login/", username="ada", password="difference-engine", next="https://evil.test/")
    assert away["Location"] == "/runs/"
    send("/recipes/start/", example="brain-tissue")
    run = Run.objects.get()
    assert run.owner.get_username() == "ada"
    assert "Sign out ada" in client.get("/runs/").content.decode()
    send("/logout/")
    assert send(f"/runs/{run.pk}/cancel/").status_code == 404  # hers alone
