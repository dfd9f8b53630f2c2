"""From a recipe to tensors: a real portal with its worker, and the same without a portal."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from fusion.bundle.verify import verify_bundle
from imagingx import Client, load_table, load_torch
from tests.conftest import ROOT
from tests.workers.conftest import Site, demo_recipe, prepared, sample_data  # noqa: F401 - fixtures

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture
def site(tmp_path: Path, prepared: Path, sample_data: Path) -> Site:  # noqa: F811
    shutil.copytree(prepared, tmp_path / "state")
    return Site(tmp_path / "state", sample_data)


@pytest.fixture
def running(site: Site) -> Iterator[tuple[str, str]]:
    """Address of a portal with its worker, and a token."""
    added = subprocess.run(
        [sys.executable, "manage.py", "add_user", "ada", "--token"],
        cwd=ROOT, env=site.environment, input="a long enough one\n", capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = site.state / "up.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "up", "--port", str(port)],
            cwd=ROOT, env=site.environment, stdout=output, stderr=output,
        )  # fmt: skip
        try:
            url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 240
            while True:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                try:
                    httpx.get(f"{url}/healthz")
                    break
                except httpx.TransportError:
                    time.sleep(0.2)
            yield url, added.stdout.split()[-1]
        finally:
            process.terminate()
            process.wait(timeout=60)


def test_start_follow_download_and_load(running, tmp_path):
    url, token = running
    with Client(url, token) as hers, Client(url) as visitor:
        run = hers.start(demo_recipe())
        *_, last = hers.follow(run["id"], every_s=0.5)
        assert (last["state"], last["error"]) == ("succeeded", "")
        bundle = last["bundle_id"]

        folder = hers.download(bundle, tmp_path / "bundle")

        assert [one["bundle_id"] for one in hers.bundles()] == [bundle]
        assert list(visitor.bundles()) == []  # hers alone until she publishes it
        assert list(visitor.runs()) == []
    assert verify_bundle(folder).ok
    table = load_table(folder)
    cases = load_torch(folder, "test", fold="fold0")
    assert len(cases) == (table["split:fold0"] == "test").sum() > 0
    assert cases[0]["image"].ndim == 4
    assert set(table["source"]) == {source["id"] for source in demo_recipe()["sources"]}


def test_a_fusion_without_a_portal_gives_a_bundle(site, tmp_path):
    recipe = tmp_path / "recipe.json"
    recipe.write_text(json.dumps(demo_recipe()))

    done = subprocess.run(
        [sys.executable, "-m", "imagingx", "fuse", str(recipe), "--local", "--out", "bundle"],
        cwd=tmp_path, env={**site.environment, "PYTHONPATH": str(ROOT)}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert verify_bundle(tmp_path / "bundle").ok
    assert len(load_table(tmp_path / "bundle")) > 0
