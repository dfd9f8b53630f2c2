"""The web server is killed in the middle of a transfer, and nothing of it is lost or doubled."""

from __future__ import annotations

import hashlib
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagingx import Client
from imagingx.transfer import sha256_of
from tests.running import Running
from tests.workers.conftest import Site, prepared, sample_data

__all__ = ["prepared", "sample_data"]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
LARGE = 192 << 20


@pytest.fixture(scope="module")
def server(tmp_path_factory, prepared: Path) -> Iterator[Running]:
    state = tmp_path_factory.mktemp("portal") / "state"
    shutil.copytree(prepared, state)
    running = Running(Site(state, state / "data"), words=("--no-worker",))
    running.start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def content(tmp_path_factory) -> Path:
    """A file in which every place is another."""
    path = tmp_path_factory.mktemp("content") / "large.raw"
    with path.open("wb") as out:
        for number in range(LARGE >> 20):
            out.write(hashlib.sha256(str(number).encode()).digest() * (1 << 15))
    return path


def test_a_download_goes_on_byte_by_byte(server: Running, content: Path, tmp_path: Path):
    code = (
        "from pathlib import Path; from tests.factories import make_bundle; "
        f"print(make_bundle({{'shards/large.raw': Path({str(content)!r}).read_bytes()}}).pk)"
    )
    bundle = server.site.manage("shell", "--no-imports", "-c", code).split()[-1]
    told: list[int] = []
    killed_at: list[int] = []

    def progress(done: int, _: int) -> None:
        told.append(done)
        if done > LARGE // 3 and not killed_at:
            server.kill()
            killed_at.append(len(told) - 1)
            server.start()

    with Client(server.url) as portal:
        folder = portal.download(bundle, tmp_path / "bundle", progress)

    assert (folder / "shards/large.raw").read_bytes() == content.read_bytes()
    first = told[killed_at[0]]
    assert min(told[killed_at[0] :]) >= first  # what was there was not fetched again


def test_an_upload_goes_on_with_what_the_server_has_written(server: Running, content: Path):
    token = server.add_user("ada", "a long enough one", "--token").split()[-1]
    killed = threading.Event()

    def kill_while_it_writes() -> None:
        parts = server.site.state / "uploads"
        while sum(one.stat().st_size for one in parts.glob("*/parts/0")) < LARGE // 3:
            time.sleep(0.005)
        server.kill()
        killed.set()
        server.start()

    watching = threading.Thread(target=kill_while_it_writes)
    watching.start()
    told: list[int] = []
    with Client(server.url, token) as portal:
        found = portal.upload(content, "large", lambda done, _: told.append(done))
        watching.join()

        assert killed.is_set()
        assert told == sorted(told)
        assert (found["state"], found["files"][0]["offset"]) == ("waiting", LARGE)
        part = server.site.state / "uploads" / found["id"] / "parts" / "0"
        assert sha256_of(part) == sha256_of(content)
        portal.delete_upload(found["id"])
        assert list(portal.uploads()) == []
