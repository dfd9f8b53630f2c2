#!/usr/bin/env python
"""Many visitors at once on the portal that `make up` starts; one error or wrong answer fails it.

    scripts/load.py [--users 200] [--seconds 120] [--arrive 20]

The sample is fused first by the portal's own worker, so that there is a bundle to download. One
visitor alone then says how long each kind of request takes; after that all come, `--arrive` of them
a second, and each asks every one to three seconds. `make load` runs it; files of its own lie in a
temporary folder. Needs the sample images (`make sample`).
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from locust import between, constant, task
from locust.contrib.fasthttp import FastHttpUser
from locust.env import Environment
from locust.runners import LocalRunner
from locust.stats import StatsEntry

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import httpx  # noqa: E402 - after locust, which makes sockets and sleep wait without a thread

from imagingx import Client  # noqa: E402

QUESTIONS = (
    "", "brain MR segmentation", "retinal vessels", "tuberculosis chest x-ray", "liver CT",
    "covid-19 ct", "skin lesion", "kits19", "tuberculsis chst xray", "open access", "ct >100 scans",
)  # fmt: skip
CHOICES = (
    {"modality": "CT"}, {"modality": "MR", "task": "Segmentation"}, {"access": "open"},
    {"anatomy": "Brain", "sort": "newest"}, {"year_from": "2015", "view": "table"},
    {"licence": "CC-BY-4.0", "view": "cards"}, {"not_modality": "CT", "page": "2"},
)  # fmt: skip
RECIPE = "brain-tissue"
START_SECONDS, ALONE_SECONDS = 300, 20
P50, P95 = 0.5, 0.95
CUT = 1000  # bytes after which a download is broken off and resumed


class Visitor(FastHttpUser):
    """Looks around as people do; each answer must hold what was asked for."""

    wait_time = between(1, 3)
    slugs: tuple[str, ...] = ()
    bundle = ""
    files: tuple[dict[str, Any], ...] = ()

    def see(self, kind: str, address: str, expected: str) -> None:
        """Ask; `expected` stands in a good answer."""
        with self.client.get(address, name=kind, catch_response=True) as answer:
            if answer.status_code != httpx.codes.OK or expected not in (answer.text or ""):
                answer.failure(f"{address}: found {answer.status_code}, expected {expected!r}")

    @task(5)
    def search(self) -> None:
        question = urlencode({"q": random.choice(QUESTIONS)})  # noqa: S311
        self.see("search page", f"/datasets/?{question}", "Narrow by")

    @task(4)
    def narrow(self) -> None:
        question = urlencode({"q": random.choice(QUESTIONS[:3]), **random.choice(CHOICES)})  # noqa: S311
        self.see("search page with facets", f"/datasets/?{question}", "Narrow by")

    @task(6)
    def type(self) -> None:
        text = random.choice(QUESTIONS[1:])  # noqa: S311
        typed = text[: random.randint(1, len(text))]  # noqa: S311
        self.see("suggestions", f"/api/v1/suggest/?{urlencode({'q': typed})}", '"results"')

    @task(4)
    def read(self) -> None:
        slug = random.choice(self.slugs)  # noqa: S311
        self.see("dataset page", f"/datasets/{slug}/", f"/api/v1/datasets/{slug}/")

    @task(2)
    def ask(self) -> None:
        question = urlencode({"q": random.choice(QUESTIONS)})  # noqa: S311
        self.see("API: search", f"/api/v1/datasets/?{question}", '"facets"')

    @task(2)
    def ask_for_one(self) -> None:
        slug = random.choice(self.slugs)  # noqa: S311
        self.see("API: dataset", f"/api/v1/datasets/{slug}/", f'"slug":"{slug}"')

    @task(1)
    def open(self) -> None:
        self.see("bundle page", f"/bundles/{self.bundle}/", self.bundle[:12])

    @task(1)
    def download(self) -> None:
        """A file of the bundle, broken off and resumed: its SHA-256 must be the stated one."""
        file = random.choice(self.files)  # noqa: S311
        cut = min(CUT, file["bytes"] - 1)
        begin = self._part(file, f"bytes=0-{cut - 1}", b"") if cut else b""
        self._part(file, f"bytes={cut}-", begin)

    def _part(self, file: dict[str, Any], span: str, before: bytes) -> bytes:
        """The bytes of `span`; where they end the file, all of them are checked."""
        headers = {"Range": span, "If-Range": f'"{file["sha256"]}"'}
        with self.client.get(
            file["url"], name="file of a bundle", headers=headers, catch_response=True
        ) as answer:
            content = answer.content or b""
            found = hashlib.sha256(before + content).hexdigest()
            if answer.status_code != httpx.codes.PARTIAL_CONTENT:
                answer.failure(f"{file['path']}: found {answer.status_code}, expected 206")
            elif span.endswith("-") and found != file["sha256"]:
                answer.failure(f"{file['path']}: SHA-256 {found}, expected {file['sha256']}")
            return content

    @task(1)
    def download_all(self) -> None:
        address = f"/api/v1/bundles/{self.bundle}/download/"
        with self.client.get(address, name="whole bundle", catch_response=True) as answer:
            content = answer.content or b""
            if answer.status_code != httpx.codes.OK or not all(
                file["path"].encode() in content for file in self.files
            ):
                answer.failure(f"{answer.status_code}: {len(content)} bytes, expected every file")


class Portal:
    """`manage.py up` with a worker, on a port and a state folder of its own."""

    def __init__(self, state: Path, data: Path) -> None:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("IMAGINGX_", "DJANGO_"))}
        self.environment = {
            **kept, "IMAGINGX_STATE_DIR": str(state), "IMAGINGX_DATA_ROOT": str(data),
        }  # fmt: skip
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = state / "up.log"

    def start(self) -> None:
        """Returns once it answers."""
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "up", "--port", str(self.port)],
                cwd=ROOT, env=self.environment, stdout=log, stderr=log,
            )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                httpx.get(f"{self.url}/healthz", timeout=10)
            except httpx.TransportError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(self.log.read_text()) from None
                time.sleep(0.5)
            else:
                return

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=60)


def fuse(portal: Client) -> str:
    """The sample as a bundle, without a baseline; returns its id."""
    recipe = next(one for one in portal.recipes() if one["name"] == RECIPE)["recipe"]
    run = portal.start({**recipe, "baseline": {"tier": "none"}})
    *_, last = portal.follow(run["id"])
    if last["state"] != "succeeded":
        raise SystemExit(f"the sample's run {last['state']}: {last['error']}")
    return str(last["bundle_id"])


def crowd(users: int, arrive: float, seconds: float, host: str) -> LocalRunner:
    """Let visitors come and stay; `seconds` count from when all are there."""
    environment = Environment(user_classes=[Visitor], host=host)
    runner = environment.create_local_runner()
    runner.start(users, spawn_rate=arrive)
    time.sleep(users / arrive + seconds)
    runner.quit()
    return runner


def table(alone: LocalRunner, together: LocalRunner) -> int:
    """Print what was seen by kind; returns the number of errors."""
    before = {entry.name: entry for entry in alone.stats.entries.values()}
    print(f"{'request':<26} {'asked':>7} {'errors':>7} {'p50 ms':>8} {'p95 ms':>8} {'/ alone':>8}")
    entries: list[StatsEntry] = [*together.stats.entries.values(), together.stats.total]
    for entry in entries:
        p50, p95 = (entry.get_response_time_percentile(share) for share in (P50, P95))
        one = before.get(entry.name, alone.stats.total)
        ratio = p95 / (one.get_response_time_percentile(P50) or 1)
        print(f"{entry.name:<26} {entry.num_requests:>7} {entry.num_failures:>7} {p50:>8.0f} "
              f"{p95:>8.0f} {ratio:>9.1f}")  # fmt: skip
    errors = [*alone.stats.errors.values(), *together.stats.errors.values()]
    for error in errors[:20]:
        print(f"  {error.occurrences} x {error.name}: {error.error}")
    raised = [*alone.exceptions.values(), *together.exceptions.values()]
    for each in raised:
        print(f"  {each['count']} x {each['msg']}\n{each['traceback']}")
    return sum(error.occurrences for error in errors) + sum(each["count"] for each in raised)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--arrive", type=float, default=20, help="visitors that come in a second")
    parser.add_argument("--data", type=Path, default=ROOT / "var" / "data", help="with the sample")
    options = parser.parse_args()
    state = Path(tempfile.mkdtemp(prefix="imagingx-load-"))
    portal = Portal(state, options.data.resolve())
    try:
        portal.start()
        with Client(portal.url) as client:
            Visitor.bundle = fuse(client)
            folder = client.download(Visitor.bundle, state / "downloaded")
            print(f"a bundle of {sum(1 for _ in folder.rglob('*'))} files and folders is there")
            listed = httpx.get(f"{portal.url}/api/v1/bundles/{Visitor.bundle}/files/").json()
            Visitor.files = tuple(listed["results"])
            Visitor.slugs = tuple(one["slug"] for one in client.search(limit=100)["results"])
        Visitor.wait_time = constant(0)
        alone = crowd(1, 1, ALONE_SECONDS, portal.url)
        Visitor.wait_time = between(1, 3)
        together = crowd(options.users, options.arrive, options.seconds, portal.url)
        return 1 if table(alone, together) else 0
    finally:
        portal.stop()
        shutil.rmtree(state, ignore_errors=True)


if __name__ == "__main__":
    raise SystemExit(main())
