"""The main job on servers, chosen by environment alone."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from psycopg import sql

from tests.workers.conftest import SOON_FREE, Site, demo_recipe, sample_data, slow_recipe

__all__ = ["sample_data"]
pytestmark = [pytest.mark.services, pytest.mark.slow]


@contextmanager
def made_database(postgres_url: str, template: str) -> Iterator[str]:
    """Address of a copy of `template`, for as long as it is used."""
    name = f"servers_{uuid.uuid4().hex[:10]}"
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        try:
            yield urlunsplit(urlsplit(postgres_url)._replace(path=f"/{name}"))
        finally:
            admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture(scope="module")
def filled(postgres_url: str, sample_data: Path, tmp_path_factory) -> Iterator[str]:
    """Name of a database with schema and catalog, to be copied."""
    with made_database(postgres_url, "template0") as url:
        site = Servers(tmp_path_factory.mktemp("filled"), sample_data)
        site.extra = {"IMAGINGX_DATABASE_URL": url}
        site.manage("migrate", "-v0")
        site.manage("load_catalog")
        yield urlsplit(url).path.removeprefix("/")


@pytest.fixture
def database(postgres_url: str, filled: str) -> Iterator[str]:
    """A database of its own with schema and catalog."""
    with made_database(postgres_url, filled) as url:
        yield url


@pytest.fixture
def s3(tmp_path: Path) -> Iterator[str]:
    """Endpoint of a server that speaks S3, with the bucket `bundles`."""
    import boto3

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = (tmp_path / "s3.log").open("wb")
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=log,
        stderr=log,
    )
    endpoint = f"http://127.0.0.1:{port}"
    for _ in range(300):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            break
        except OSError:
            assert server.poll() is None, (tmp_path / "s3.log").read_text()
            time.sleep(0.1)
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    client.create_bucket(Bucket="bundles")
    yield endpoint
    server.terminate()
    server.wait(10)


class Servers(Site):
    """A site whose stores are all servers."""

    def state_of(self, run: str) -> str:
        with psycopg.connect(self.extra["IMAGINGX_DATABASE_URL"]) as database:
            row = database.execute("SELECT state FROM workers_run WHERE id = %s", [run]).fetchone()
        return row[0]


DOWNLOAD = """
from pathlib import Path
from django.test import Client
from fusion.models import Bundle
bundle = Bundle.objects.get()
answer = Client().get(f"/api/v1/bundles/{bundle.pk}/download/", headers={"host": "localhost"})
assert answer.status_code == 200, answer.status_code
Path(TARGET).write_bytes(b"".join(answer.streaming_content))
print("id", bundle.pk)
"""


@pytest.fixture
def amqp(rabbitmq_url: str) -> Iterator[str]:
    """RabbitMQ without queues."""
    from kombu import Connection

    def delete() -> None:
        with Connection(rabbitmq_url) as connection:
            for name in ("cpu", "gpu", "io"):
                connection.channel().queue_delete(name)

    delete()
    yield rabbitmq_url
    delete()


def waiting_in(rabbitmq_url: str, queue: str) -> int:
    from kombu import Connection

    with Connection(rabbitmq_url) as connection:
        return connection.channel().queue_declare(queue, passive=True).message_count


def test_a_run_on_rabbitmq_survives_its_worker_and_leaves_no_message(
    amqp, database, sample_data, tmp_path
):
    site = Servers(tmp_path / "site", sample_data)
    site.state.mkdir()
    addresses = {"IMAGINGX_DATABASE_URL": database, "IMAGINGX_BROKER_URL": amqp}
    site.extra = addresses | SOON_FREE
    try:
        run = site.submit(demo_recipe())
        worker = site.start_worker()
        site.wait(lambda: site.state_of(run) == "running")
        site.kill(worker)
        worker = site.start_worker()

        assert site.wait_for_end(run) == "succeeded", site.logs()
        worker.terminate()
        assert worker.wait(60) == 0
        assert [waiting_in(amqp, queue) for queue in ("cpu", "gpu")] == [0, 0]
    finally:
        site.close()
    assert "ok" in site.manage("verify_bundle", str(next(site.state.glob("bundles/*")))).lower()


def test_the_same_bundle_comes_from_servers_as_from_the_embedded_stores(
    database, redis_url, elasticsearch_url, s3, sample_data, tmp_path
):
    recipe = demo_recipe()
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    embedded = Site(tmp_path / "embedded", sample_data)
    embedded.state.mkdir()
    embedded.manage("fuse", str(tmp_path / "recipe.json"), "--out", str(tmp_path / "bundle"))

    site = Servers(tmp_path / "servers", sample_data)
    site.state.mkdir()
    index = f"servers-{uuid.uuid4().hex[:10]}"
    broker = urlunsplit(urlsplit(redis_url)._replace(path="/5"))
    site.extra = {
        "IMAGINGX_DATABASE_URL": database,
        "IMAGINGX_BROKER_URL": broker,
        "IMAGINGX_SEARCH_URL": elasticsearch_url,
        "IMAGINGX_SEARCH_INDEX": index,
        "IMAGINGX_STORAGE_URL": "s3://bundles/prefix",
        "IMAGINGX_S3_ENDPOINT_URL": s3,
        "IMAGINGX_S3_ACCESS_KEY_ID": "test",
        "IMAGINGX_S3_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    try:
        site.manage("reindex_search")
        found = json.loads(site.manage("search", "retinal vessel", "--json", "--limit", "5"))
        assert found["results"]
        site.start_worker()
        run = site.submit(recipe)
        assert site.wait_for_end(run) == "succeeded", site.logs()
        tar = tmp_path / "bundle.tar"
        site.manage("shell", "-v0", "-c", f"TARGET = {str(tar)!r}\n{DOWNLOAD}")
    finally:
        site.close()

    assert not (site.state / "db.sqlite3").exists()
    assert "ok" in embedded.manage("verify_bundle", str(tar)).lower()
    subprocess.run(["tar", "-xf", tar, "-C", tmp_path / "servers"], check=True)
    (sums,) = (tmp_path / "servers").glob("*/SHA256SUMS")
    assert sums.read_text() == (tmp_path / "bundle" / "SHA256SUMS").read_text()


def test_two_hosts_share_a_run_of_which_one_dies_and_the_bundle_is_the_same(
    database, redis_url, s3, tmp_path
):
    data = tmp_path / "data"
    recipe = slow_recipe(data)
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    hosts = [Servers(tmp_path / name, data) for name in ("first", "second")]
    number = 6 + uuid.uuid4().int % 10
    broker = urlunsplit(urlsplit(redis_url)._replace(path=f"/{number}"))
    for host in hosts:
        host.state.mkdir()
        host.extra = SOON_FREE | {
            "IMAGINGX_DATABASE_URL": database,
            "IMAGINGX_BROKER_URL": broker,
            "IMAGINGX_STORAGE_URL": "s3://bundles/prefix",
            "IMAGINGX_S3_ENDPOINT_URL": s3,
            "IMAGINGX_S3_ACCESS_KEY_ID": "test",
            "IMAGINGX_S3_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "IMAGINGX_CHUNK_CASES": "1",
        }
    first, second = hosts
    alone = Site(tmp_path / "alone", data)
    alone.state.mkdir()
    alone.manage("fuse", str(tmp_path / "recipe.json"), "--out", str(tmp_path / "bundle"))

    def chunks(column: str) -> list[str]:
        """Who did chunks, or holds some just now."""
        query = sql.SQL("SELECT worker FROM workers_runchunk WHERE {} IS NOT NULL")
        with psycopg.connect(database) as connection:
            rows = connection.execute(query.format(sql.Identifier(column)))
            return [worker for (worker,) in rows]

    def is_of(host: Servers, worker: str) -> bool:
        pid = int(worker.split("/")[2])
        return Path(f"/proc/{pid}/environ").read_bytes().find(bytes(host.state)) >= 0

    try:
        for host in hosts:
            host.start_worker()
            host.wait(lambda host=host: "ready" in host.logs(), 120)
        run = first.submit(recipe)
        # Each host has done a chunk, and the second one is amid another.
        first.wait(lambda: len({w.split("/")[2] for w in chunks("finished_at")}) == 2, 300)
        first.wait(lambda: any(is_of(second, w) for w in chunks("lease_until")), 60)
        second.kill(second.workers[0])
        assert first.state_of(run) == "running"
        assert first.wait_for_end(run, 300) == "succeeded", first.logs()
        assert len(chunks("finished_at")) == 8
        tar = tmp_path / "bundle.tar"
        first.manage("shell", "-v0", "-c", f"TARGET = {str(tar)!r}\n{DOWNLOAD}")
    finally:
        for host in hosts:
            host.close()

    subprocess.run(["tar", "-xf", tar, "-C", first.state], check=True)
    (sums,) = first.state.glob("*/SHA256SUMS")
    assert sums.read_text() == (tmp_path / "bundle" / "SHA256SUMS").read_text()
