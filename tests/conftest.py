"""Fixtures shared by all tests: where real data and real servers are.

A missing server or data folder skips the test with a reason on a developer's machine and fails it
where IMAGINGX_REQUIRE_SERVICES=1 (CI).
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def missing(reason: str) -> None:
    """Skip for want of a part; where all parts are required, fail."""
    if os.environ.get("IMAGINGX_REQUIRE_SERVICES") == "1":
        pytest.fail(f"required here: {reason}")
    pytest.skip(reason)


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
