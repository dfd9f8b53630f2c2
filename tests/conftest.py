"""Fixtures shared by all tests: where real data and real servers are.

A missing server or data folder skips the test with a reason on a developer's machine and fails it
where IMAGINGX_REQUIRE_SERVICES=1 (CI).
"""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from filelock import FileLock

from catalog.collection import read_catalog
from fusion import pool

ROOT = Path(__file__).resolve().parent.parent
PBKDF2PasswordHasher.iterations = 1  # accounts of tests would take half a second each, twice
pool.CHILDREN_KEPT = 2  # a child starts in seconds; most builds of tests are done in less


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files of long tests go first: of several test processes none is left with one at the end."""
    long = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in long)


def missing(reason: str) -> None:
    """Skip for want of a part; where all parts are required, fail."""
    if os.environ.get("IMAGINGX_REQUIRE_SERVICES") == "1":
        pytest.fail(f"required here: {reason}")
    pytest.skip(reason)


MakeOnce = Callable[[str, Callable[[Path], None]], Path]


@pytest.fixture(scope="session")
def make_once(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> MakeOnce:
    """Folders made by the first test process that asks for them, for all of one run to read."""
    root = tmp_path_factory.getbasetemp()
    root = root if worker_id == "master" else root.parent

    def made(name: str, make: Callable[[Path], None]) -> Path:
        folder = root / "made-once" / name
        folder.parent.mkdir(exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not folder.exists():
                partial = folder.with_name(f"{name}.partial")
                shutil.rmtree(partial, ignore_errors=True)
                partial.mkdir()
                make(partial)
                partial.rename(folder)
        return folder

    return made


@pytest.fixture(scope="session")
def shipped(make_once: MakeOnce) -> dict[str, dict[str, Any]]:
    """The facts of the shipped catalog by slug; not to be changed."""

    def read(folder: Path) -> None:
        (folder / "facts").write_bytes(pickle.dumps(read_catalog()))

    facts: dict[str, dict[str, Any]] = pickle.loads(  # noqa: S301 - written above
        (make_once("catalog", read) / "facts").read_bytes()
    )
    return facts


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real labelled images; `tests/README.md` says which and where they are expected."""
    folder = Path(os.environ.get("IMAGINGX_SHARED", ROOT.parent / "shared")) / "data"
    if not folder.is_dir():
        missing("real sample images are expected in $IMAGINGX_SHARED/data (tests/README.md)")
    return folder


def _url(variable: str, server: str) -> str:
    if not (url := os.environ.get(variable, "")):
        missing(f"{server} is expected at ${variable}")
    return url


@pytest.fixture(scope="session")
def elasticsearch_url() -> str:
    return _url("IMAGINGX_TEST_SEARCH_URL", "Elasticsearch 8")


@pytest.fixture(scope="session")
def postgres_url() -> str:
    return _url("IMAGINGX_TEST_DATABASE_URL", "PostgreSQL")


@pytest.fixture(scope="session")
def redis_url() -> str:
    return _url("IMAGINGX_TEST_BROKER_URL", "Redis")


@pytest.fixture(scope="session")
def rabbitmq_url() -> str:
    return _url("IMAGINGX_TEST_RABBITMQ_URL", "RabbitMQ")


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of a Chromium that Playwright drives."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    missing("Chromium is expected on the PATH")
    raise AssertionError
