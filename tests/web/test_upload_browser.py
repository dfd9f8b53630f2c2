"""Own data in a real browser: a killed server, a reload, the findings, and all without scripts."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.running import Running
from tests.uploads import dicom, fundus, zipped
from tests.web.look import VIEWS, assert_accessible, look_as
from tests.workers.conftest import Site
from tests.workers.test_uploads import DESCRIPTION

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(1200)]
PASSWORD = "a long enough one"
PATCH = "**/api/v1/uploads/*/files/*/"


@pytest.fixture(scope="module")
def server(tmp_path_factory, prepared: Path, sample_data: Path) -> Iterator[Running]:
    state = tmp_path_factory.mktemp("portal") / "state"
    shutil.copytree(prepared, state)
    running = Running(Site(state, sample_data))
    running.add_user("ada", PASSWORD)
    running.start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    """Five parts of 8 MiB, with pictures, noise and a header that names somebody."""
    noise = np.random.default_rng(1).bytes(33 << 20)
    files = {**fundus(), "notes/20240131.dcm": dicom("US", PatientName="Doe^Jane"), "n.bin": noise}
    path = tmp_path_factory.mktemp("sent") / "my-eyes.zip"
    path.write_bytes(zipped(files))
    return path


def _sign_in(page: Page, server: Running) -> None:
    page.goto(f"{server.url}/login/?next=/uploads/")
    page.get_by_label("Name").fill("ada")
    page.get_by_label("Password").fill(PASSWORD)
    page.locator("form.login").get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Your data")


def _looked_at(page: Page, shots: Path, name: str) -> None:
    for view in VIEWS[::3]:  # desktop in light, phone in dark
        look_as(page, view)
        assert_accessible(page)
        page.screenshot(path=shots / f"{name}-{view}.png", full_page=True)
    look_as(page, VIEWS[0])


def _delete(page: Page) -> None:
    page.get_by_role("button", name="Delete it").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Your data")


def test_an_upload_outlives_a_killed_server_and_a_reload_and_is_kept_on_ones_word(
    page: Page, server: Running, archive: Path, shots: Path
):
    _sign_in(page, server)
    offsets: list[int] = []

    def hinder(route: Route) -> None:
        if route.request.method != "PATCH":
            return route.continue_()
        offsets.append(int(route.request.headers["upload-offset"]))
        if len(offsets) == 2:
            server.kill()
            server.start()
            return route.abort("connectionreset")
        if len(offsets) == 4:
            return route.fulfill(status=503, body="")  # nothing goes on until the reload
        if len(offsets) > 4 and not page.evaluate("window.wasReloaded"):
            return route.abort("connectionreset")
        return route.continue_()

    page.route(PATCH, hinder)
    page.get_by_label("Name").fill("my-eyes")
    page.get_by_label("Files, or one archive").set_input_files(archive)
    _looked_at(page, shots, "upload-form")
    page.get_by_role("button", name="Upload and check").click()
    expect(page.get_by_text("Trying again").first).to_be_visible(timeout=120_000)
    expect(page.locator("[data-upload-figures]")).to_contain_text("16.8 MB", timeout=120_000)
    page.reload()
    expect(page.get_by_role("heading", name="are here")).to_contain_text("16.8 MB")
    _looked_at(page, shots, "upload-resumed")
    page.evaluate("window.wasReloaded = true")
    before = len(offsets)
    page.get_by_label("Files, or one archive").set_input_files(archive)
    page.get_by_role("button", name="Go on").click()

    found = page.get_by_role("heading", name="What may tell who people are")
    expect(found).to_be_visible(timeout=240_000)
    assert min(offsets[before:]) == 2 * (8 << 20)  # what was here was not sent again
    expect(page.get_by_text("DICOM headers name a person")).to_be_visible()
    expect(page.get_by_text("Jane")).to_have_count(0)
    _looked_at(page, shots, "upload-checked")
    page.get_by_role("button", name="Keep it as my-eyes").click()
    expect(found).to_be_visible()  # the box has to be ticked first
    page.get_by_label("I have seen what was found").check()
    page.get_by_role("button", name="Keep it as my-eyes").click()
    expect(page.locator("#recipe-source")).to_contain_text("{kind: own, name: my-eyes}")
    expect(page.get_by_text("to settle before it can be fused")).to_be_visible()
    page.get_by_label("As YAML").fill(DESCRIPTION)
    page.get_by_role("button", name="Save the description").click()
    expect(page.get_by_text("Recipes can use it")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download it").click()
    assert Path(download.value.path()).read_text() == DESCRIPTION
    _looked_at(page, shots, "upload-kept")
    _delete(page)
    expect(page.get_by_role("link", name="my-eyes")).to_have_count(0)


def test_without_scripts_a_form_sends_a_small_archive(browser: Browser, server: Running, tmp_path):
    small = tmp_path / "small.zip"
    small.write_bytes(zipped(fundus(2)))
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    _sign_in(page, server)
    page.get_by_label("Name").fill("small")
    page.get_by_label("Files, or one archive").set_input_files(small)
    page.get_by_role("button", name="Upload and check").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("small")

    for _ in range(120):
        if page.get_by_role("button", name="Keep it as small").count():
            break
        page.wait_for_timeout(1000)
        page.reload()

    page.get_by_role("button", name="Keep it as small").click()
    expect(page.locator("#recipe-source")).to_be_visible()
    _delete(page)
    context.close()


def test_files_that_were_not_chosen_again_are_named(page: Page, server: Running, tmp_path):
    paths = []
    for number in range(2):
        paths.append(tmp_path / f"p{number}.json")
        paths[-1].write_text("{}")
    _sign_in(page, server)
    page.route(PATCH, lambda route: route.abort())
    page.get_by_label("Name").fill("two")
    page.get_by_label("Files, or one archive").set_input_files(paths)
    page.get_by_role("button", name="Upload and check").click()
    expect(page.get_by_text("Trying again")).to_be_visible()
    page.unroute_all(behavior="ignoreErrors")
    page.reload()

    page.get_by_label("Files, or one archive").set_input_files(paths[:1])
    page.get_by_role("button", name="Go on").click()

    expect(page.get_by_role("status").get_by_text("p1.json")).to_be_visible()
    page.reload()
    _delete(page)
