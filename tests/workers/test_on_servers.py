"""Priorities and places on real servers, each chosen by environment alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

from tests.conftest import ROOT
from tests.test_servers import made_database

pytestmark = pytest.mark.services

IN_ORDER = """
import json, time, uuid, django
django.setup()
from celery import current_app
from workers import broker
from workers.submit import enqueue
with current_app.connection_for_write() as connection:
    queue = current_app.amqp.queues["cpu"](connection.channel())
    queue.declare()
    queue.purge()
    for priority in (1, 5, 9, 1, 9):
        enqueue(uuid.uuid4(), f"stage {priority}", priority)
    until = time.monotonic() + 30
    while broker.depths(["cpu"])["cpu"] < 5 and time.monotonic() < until:
        time.sleep(0.1)
    depths = broker.depths(["cpu", f"never-made-{uuid.uuid4()}"])
    found = [queue.get(no_ack=True).payload[0][1] for _ in range(5)]
print(json.dumps([broker.kind(), list(depths.values()), found]))
"""

AT_ONCE = """
import json, threading, django
django.setup()
from django.conf import settings
from django.db import connection
from workers.models import Run
settings.RUNS_AT_ONCE = 2
runs = [Run.objects.create(title=str(n), recipe={}) for n in range(8)]
start, won = threading.Barrier(len(runs)), []
def claim(run):
    start.wait()
    if Run.objects.claim(run.pk, "w") is not None:
        won.append(run.title)
    connection.close()
threads = [threading.Thread(target=claim, args=(run,)) for run in runs]
for one in threads: one.start()
for one in threads: one.join()
print(json.dumps([len(won), Run.objects.filter(state="running").count()]))
"""


def run(code: str | list[str], state: Path, **variables: str) -> str:
    command = ["-c", code] if isinstance(code, str) else code
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "portal.settings",
            "IMAGINGX_STATE_DIR": str(state),
            **variables,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(params=["file", "redis", "amqp"])
def broker_url(request: pytest.FixtureRequest) -> str:
    """Address of a broker of each kind; on Redis a database that nothing else uses."""
    if request.param == "redis":
        parts = urlsplit(request.getfixturevalue("redis_url"))
        return urlunsplit(parts._replace(path="/13"))
    return request.getfixturevalue("rabbitmq_url") if request.param == "amqp" else ""


def test_what_goes_first_comes_first_on_every_broker(broker_url: str, tmp_path: Path):
    printed = run(IN_ORDER, tmp_path, IMAGINGX_BROKER_URL=broker_url)

    kind, depths, found = json.loads(printed.splitlines()[-1])
    assert kind == (urlsplit(broker_url).scheme or "file")
    assert depths == [5, 0]
    assert found == ["stage 9", "stage 9", "stage 5", "stage 1", "stage 1"]


def test_of_many_claims_at_the_same_time_no_more_get_a_place_than_there_are(
    postgres_url: str,
    tmp_path: Path,
):
    with made_database(postgres_url, "template0") as url:
        server = {"IMAGINGX_DATABASE_URL": url}
        run(["manage.py", "migrate", "-v0"], tmp_path, **server)

        printed = run(AT_ONCE, tmp_path, **server)

    assert json.loads(printed.splitlines()[-1]) == [2, 2]


DIES_HOLDING = """
import os, sys, time, django
django.setup()
from kombu.transport import redis
redis.time = lambda: time.time() + float(sys.argv[1])
from celery import current_app
with current_app.connection_for_read() as connection:
    queue = connection.SimpleQueue("cpu")
    queue.put({"n": 1})
    queue.get(timeout=30)
    os._exit(0)
"""

COMES_AGAIN = """
import json, time, django
django.setup()
from celery import current_app
with current_app.connection_for_read() as connection:
    queue = connection.SimpleQueue("cpu")
    channel = queue.channel
    until, found = time.monotonic() + 60, None
    while found is None and time.monotonic() < until:
        channel.qos.restore_visible(interval=1)
        try:
            found = queue.get(timeout=1)
        except queue.Empty:
            continue
        found.ack()
    left = channel.client.exists(channel.unacked_key, channel.unacked_index_key)
print(json.dumps([found and found.payload, left]))
"""


@pytest.mark.parametrize("clock_ahead", [0, 3600, -3600])
def test_what_a_killed_worker_had_in_hand_on_redis_comes_again_whatever_its_clock_said(
    clock_ahead: int, redis_url: str, tmp_path: Path
):
    broker = urlunsplit(urlsplit(redis_url)._replace(path=f"/{uuid.uuid4().int % 3 + 1}"))
    site = {"IMAGINGX_BROKER_URL": broker, "IMAGINGX_RUN_LEASE_SECONDS": "2"}
    run(["-c", DIES_HOLDING, str(clock_ahead)], tmp_path, **site)

    printed = run(COMES_AGAIN, tmp_path, **site)

    assert json.loads(printed.splitlines()[-1]) == [{"n": 1}, 0]
