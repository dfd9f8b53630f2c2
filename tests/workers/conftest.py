"""Runs for tests, and sites: an own state folder with own worker processes."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from celery import current_app
from PIL import Image

from catalog.models import Dataset
from fusion.build import STAGES
from fusion.recipe_files import example_recipes, load_recipe
from tests.conftest import ROOT, MakeOnce, missing
from tests.fusion.test_real_cases import made_source
from workers.chunks import work_on_chunk
from workers.models import Run, RunChunk, RunStage
from workers.runner import work_on


def demo_recipe(**changes: Any) -> dict[str, Any]:
    """The shipped sample recipe, without its baseline."""
    return {
        **load_recipe(example_recipes()["brain-tissue"]),
        "baseline": {"tier": "none"},
        **changes,
    }


@pytest.fixture
def datasets(db: None) -> list[Dataset]:  # noqa: ARG001
    """The datasets that the sample recipe names."""
    slugs = [source["dataset"] for source in demo_recipe()["sources"]]
    return [Dataset.objects.create(slug=slug, name=slug, digest="0" * 64) for slug in slugs]


@pytest.fixture
def make_run(db: None) -> Callable[..., Run]:  # noqa: ARG001
    """Makes a queued run with its stages; fields can be given."""

    def make(**fields: Any) -> Run:
        values = {"title": "a run", "recipe": demo_recipe(), "stage": STAGES[0], **fields}
        run = Run.objects.create(**values)
        for position, name in enumerate(STAGES):
            RunStage.objects.create(run=run, position=position, name=name)
        return run

    return make


@pytest.fixture
def messages(tmp_path: Path) -> Iterator[Callable[[], list[tuple[str, list[str]]]]]:
    """The messages in an embedded broker of this test's own, as (queue, arguments)."""
    folder = tmp_path / "queue"
    folder.mkdir()
    mine = {
        "broker_url": "filesystem://localhost",
        "broker_transport": "workers.broker:Transport",
        "broker_transport_options": {"data_folder_in": folder, "data_folder_out": folder},
    }
    before = {key: current_app.conf[key] for key in mine}
    current_app.conf.update(mine)
    current_app._after_fork()  # forget the connections made with other settings

    def read() -> list[tuple[str, list[str]]]:
        found = []
        for path in sorted(folder.glob("*.msg")):
            body = json.loads(path.read_text())["body"]
            found.append((path.name.split(".")[1], json.loads(base64.b64decode(body))[0]))
        return found

    yield read
    current_app.conf.update(before)
    current_app._after_fork()


def bring(run: Run, stage: str) -> None:
    """Do what a worker does with the run's messages until it stands at `stage`."""
    for name in STAGES[: STAGES.index(stage)]:
        work_on(run.pk, name)
        while RunChunk.objects.claimable().filter(run=run, stage=name).exists():
            work_on_chunk(run.pk, name)
        if run.chunks.filter(stage=name).exists():
            work_on(run.pk, name)


@pytest.fixture(scope="session")
def sample_data() -> Path:
    """Data root that holds the sample images of the demo."""
    for root in (os.environ.get("IMAGINGX_TEST_SAMPLE"), ROOT / "var" / "data"):
        if root and (Path(root) / "sample" / "nilearn").is_dir():
            return Path(root)
    missing("the sample images are expected in $IMAGINGX_TEST_SAMPLE (make sample)")
    raise AssertionError


def slow_recipe(folder: Path, cases: int = 8) -> dict[str, Any]:
    """A recipe of pictures in `folder`/made, big enough for each to take a while."""
    made = made_source(folder, (24, 31))
    rng = np.random.default_rng(3)
    for number in range(cases):
        pixels = rng.integers(0, 255, (700, 700, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"made/images/{number}.png")
        mask = np.zeros((700, 700), np.uint8)
        mask[100:300, 100:600] = 255
        Image.fromarray(mask).save(folder / f"made/masks/{number}.png")
    base = load_recipe(example_recipes()["retinal-vessels"])
    return base | {"baseline": {"tier": "none"}} | made


#: For sites whose workers are killed: what those held is free after so long.
SOON_FREE = {"IMAGINGX_RUN_LEASE_SECONDS": "6"}


@dataclass
class Site:
    """A portal of its own: state folder, database file, broker, workers."""

    state: Path
    data: Path
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("IMAGINGX_", "DJANGO_"))}
        return {
            **kept,
            "IMAGINGX_STATE_DIR": str(self.state),
            "IMAGINGX_DATA_ROOT": str(self.data),
            "IMAGINGX_THREADS": "1",
            "IMAGINGX_RUN_LEASE_SECONDS": "20",  # what a killed worker held is soon free
            **self.extra,
        }

    def manage(self, *words: str) -> str:
        done = subprocess.run(
            [sys.executable, "manage.py", *words],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def submit(self, recipe: dict[str, Any]) -> str:
        file = self.state / "recipe.json"
        file.write_text(json.dumps(recipe))
        code = (
            "import json; from workers.submit import submit_run; "
            f"print('run', submit_run(json.load(open({str(file)!r}))).pk.hex)"
        )
        return self.manage("shell", "-v0", "-c", code).split("run ")[1].strip()

    def start_worker(self) -> subprocess.Popen[bytes]:
        log = (self.state / f"worker{len(self.workers)}.log").open("wb")
        worker = subprocess.Popen(
            [sys.executable, "manage.py", "run_worker"],
            cwd=ROOT,
            env=self.environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        self.workers.append(worker)
        return worker

    def kill(self, worker: subprocess.Popen[bytes]) -> None:
        """SIGKILL to the worker and its pool, as when the machine loses power."""
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()

    def one(self, sql: str, *values: Any) -> Any:
        """First row of a query on the site's own database file."""
        with sqlite3.connect(self.state / "db.sqlite3", timeout=30) as database:
            return database.execute(sql, values).fetchone()

    def state_of(self, run: str) -> str:
        return self.one("SELECT state FROM workers_run WHERE id = ?", run)[0]

    def stage_state(self, run: str, name: str) -> tuple[str, int]:
        return self.one(
            "SELECT state, done FROM workers_runstage WHERE run_id = ? AND name = ?", run, name
        )

    def wait(self, what: Callable[[], bool], seconds: float = 300) -> float:
        """Wait until something holds; returns how long it took."""
        start = time.monotonic()
        while not what():
            assert time.monotonic() - start < seconds, self.logs()
            time.sleep(0.02)
        return time.monotonic() - start

    def wait_for_end(self, run: str, seconds: float = 480) -> str:
        self.wait(lambda: self.state_of(run) not in {"queued", "running"}, seconds)
        return self.state_of(run)

    def logs(self) -> str:
        return "\n".join(path.read_text()[-4000:] for path in sorted(self.state.glob("*.log")))

    def sums(self) -> str:
        (path,) = self.state.glob("bundles/*/SHA256SUMS")
        return path.read_text()

    def close(self) -> None:
        for worker in self.workers:
            if worker.poll() is None:
                self.kill(worker)


@pytest.fixture(scope="session")
def prepared(make_once: MakeOnce, sample_data: Path) -> Path:
    """A state folder with schema and catalog."""

    def fill(state: Path) -> None:
        site = Site(state, sample_data)
        site.manage("migrate", "-v0")
        site.manage("load_catalog")

    return make_once("prepared", fill)


@pytest.fixture
def make_site(tmp_path: Path, prepared: Path, sample_data: Path) -> Iterator[Callable[[str], Site]]:
    sites: list[Site] = []

    def make(name: str) -> Site:
        shutil.copytree(prepared, tmp_path / name)
        sites.append(Site(tmp_path / name, sample_data))
        return sites[-1]

    yield make
    for site in sites:
        site.close()
