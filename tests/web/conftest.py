"""Pages are tested on the same small catalog as the API, in browsers on a portal of their own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.api.conftest import datasets, own_state
from tests.running import Running
from tests.workers.conftest import Site, prepared, sample_data

__all__ = ["datasets", "own_state", "prepared", "sample_data"]

ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def portal(
    tmp_path_factory: pytest.TempPathFactory,
    prepared: Path,
    sample_data: Path,
) -> Iterator[str]:
    """Address of a portal with its worker, on a state folder of its own."""
    state = tmp_path_factory.mktemp("portal") / "state"
    shutil.copytree(prepared, state)
    running = Running(Site(state, sample_data))
    running.start()
    yield running.url
    running.stop()


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=ARGS)
        yield started
        started.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page on which nothing was refused by the content security policy."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    refused: list[str] = []
    opened = context.new_page()
    opened.on("console", lambda m: refused.append(m.text) if "Content Security" in m.text else None)
    opened.on("pageerror", lambda error: refused.append(str(error)))
    yield opened
    context.close()
    assert refused == []


@pytest.fixture(scope="module")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pictures of the pages go, for a person to look at."""
    given = os.environ.get("IMAGINGX_SCREENSHOTS")
    folder = Path(given) if given else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
