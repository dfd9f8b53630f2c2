#!/usr/bin/env python
"""Load the real HTTP API with searches while the catalog is reloaded and its index swapped.

    scripts/load_search.py [--seconds 60] [--clients 8] [--datasets 400]

Two states of a catalog are loaded in turn. Every answer must be that of one of the two, whole; an
error or a mixture counts as wrong and fails the run. With IMAGINGX_TEST_SEARCH_URL the portal
searches on that Elasticsearch server, else in process.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RECORDS = ROOT / "catalog" / "records"
QUESTIONS = (
    "lung ct", "brain MR segmentation", "chest xray", "retinal vessels", "tuberculsis chst xray",
    "renamed", "breast cancer commercial use", "ct >100 scans", "modality:MR -task:Segmentation",
    "kits", "spleen", "open access",
)  # fmt: skip
START_SECONDS = 120


@dataclass
class Tally:
    """What all clients saw."""

    times_s: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    swaps: int = 0


class Portal:
    """A web server of its own on a state folder of its own."""

    def __init__(self, state: Path, search_url: str) -> None:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("IMAGINGX_", "DJANGO_"))}
        self.environment = {**kept, "IMAGINGX_STATE_DIR": str(state)}
        if search_url:
            index = f"imagingx-load-{secrets.token_hex(4)}"
            self.environment |= {"IMAGINGX_SEARCH_URL": search_url, "IMAGINGX_SEARCH_INDEX": index}
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.log = state / "server.log"

    def manage(self, *words: str) -> None:
        command = [sys.executable, "manage.py", *words]
        done = subprocess.run(
            command, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(done.stderr)

    def start(self) -> subprocess.Popen[bytes]:
        command = [
            sys.executable, "-m", "gunicorn", "portal.wsgi", "--workers", "2", "--threads", "4",
            "--bind", f"127.0.0.1:{self.port}", "--log-level", "error",
        ]  # fmt: skip
        with self.log.open("wb") as log:
            process = subprocess.Popen(
                command, cwd=ROOT, env=self.environment, stdout=log, stderr=log
            )
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self.ask("lung")
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(self.log.read_text()) from None
                time.sleep(0.2)
            else:
                return process

    def ask(self, text: str) -> str:
        """The answer that must be whole: total, results and facet counts."""
        question = urllib.parse.urlencode({"q": text, "limit": 20})
        address = f"http://127.0.0.1:{self.port}/api/v1/datasets/?{question}"
        with urllib.request.urlopen(address, timeout=60) as answer:
            data = json.load(answer)
        facets = {
            f["name"]: [(o["value"], o["count"]) for o in f["options"]] for f in data["facets"]
        }
        seen = [data["total"], [hit["name"] for hit in data["results"]], facets]
        return json.dumps(seen, sort_keys=True)


def two_catalogs(folder: Path, number: int) -> tuple[Path, Path]:
    """Record folders that differ in one name in ten and in a few missing datasets."""
    one, other = folder / "one", folder / "other"
    for place in (one, other):
        place.mkdir()
    (folder / "harvested").mkdir()
    paths = sorted(RECORDS.glob("*.yaml"))
    for index, path in enumerate(paths[:: max(1, len(paths) // number)][:number]):
        text = path.read_text("utf-8").split("relations:\n")[0]
        (one / path.name).write_text(text, "utf-8")
        if index % 50 == 1:
            continue
        name = f"name: Renamed {index}\n"
        lines = text.splitlines(keepends=True)
        changed = [name if line.startswith("name:") else line for line in lines]
        (other / path.name).write_text("".join(changed if index % 10 == 0 else lines), "utf-8")
    return one, other


def client(
    portal: Portal, number: int, right: dict[str, set[str]], end: float, tally: Tally
) -> None:
    place = number
    while time.monotonic() < end:
        text = QUESTIONS[place % len(QUESTIONS)]
        place += 1
        started = time.perf_counter()
        try:
            answer = portal.ask(text)
        except (OSError, ValueError) as error:
            tally.errors.append(f"{text}: {error}")
            continue
        tally.times_s.append(time.perf_counter() - started)
        if answer not in right[text]:
            tally.wrong.append(text)


def run(seconds: float, clients: int, datasets: int, search_url: str) -> Tally:
    """Load one engine; see the module."""
    folder = Path(tempfile.mkdtemp(prefix="imagingx-load-"))
    try:
        (folder / "state").mkdir()
        portal = Portal(folder / "state", search_url)
        states = two_catalogs(folder, datasets)
        harvested = str(folder / "harvested")
        portal.manage("migrate", "-v0")
        portal.manage("load_catalog", "--records", str(states[0]), "--harvested", harvested)
        server = portal.start()
        try:
            right: dict[str, set[str]] = {text: set() for text in QUESTIONS}
            for state in states:
                portal.manage("load_catalog", "--records", str(state), "--harvested", harvested)
                for text in QUESTIONS:
                    right[text].add(portal.ask(text))
            tally = Tally()
            end = time.monotonic() + seconds
            threads = [
                threading.Thread(target=client, args=(portal, number, right, end, tally))
                for number in range(clients)
            ]
            for thread in threads:
                thread.start()
            while time.monotonic() < end:
                state = states[tally.swaps % 2]
                portal.manage("load_catalog", "--records", str(state), "--harvested", harvested)
                tally.swaps += 1
            for thread in threads:
                thread.join()
        finally:
            server.terminate()
            server.wait(timeout=30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--datasets", type=int, default=400)
    options = parser.parse_args()
    bad = 0
    for name, url in (
        ("embedded", ""),
        ("elasticsearch", os.environ.get("IMAGINGX_TEST_SEARCH_URL", "")),
    ):
        if name == "elasticsearch" and not url:
            print(f"{name}: IMAGINGX_TEST_SEARCH_URL is not set, not measured")
            continue
        tally = run(options.seconds, options.clients, options.datasets, url)
        times = sorted(tally.times_s)
        p50, p95 = statistics.median(times), times[int(len(times) * 0.95)]
        print(
            f"{name}: {len(times)} answers, {len(tally.errors)} errors, {len(tally.wrong)} wrong, "
            f"{tally.swaps} reloads, p95 {p95 / p50:.1f} x p50"
        )
        for line in (tally.errors + tally.wrong)[:5]:
            print(f"  {line}")
        bad += len(tally.errors) + len(tally.wrong)
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
