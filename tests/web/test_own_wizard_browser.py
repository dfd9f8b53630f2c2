"""Own data beside a catalogued dataset in a real browser, from the blueprint to a finished run."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from imagingx import Client
from tests.running import Running
from tests.web.look import VIEWS, assert_accessible, look_as
from tests.workers.conftest import Site

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(1200)]
PASSWORD = "a long enough one"
DESCRIPTION = """
schema: imaging-x/source/1
name: Scanner of mine
modality: MR
family: MR
dimension: 3D
licence: {images: null, labels: null}
annotation: manual
cases: {image: "images/{name}.nii.gz", subject: "{name}"}
layers:
  - path: "labels/{name}.nii.gz"
    kind: label_map
    values: {"1": grey_matter, "2": "?white_matter"}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory, prepared: Path, sample_data: Path) -> Iterator[Running]:
    state = tmp_path_factory.mktemp("portal") / "state"
    shutil.copytree(prepared, state)
    running = Running(Site(state, sample_data))
    token = running.add_user("ada", PASSWORD, "--token").split()[-1]
    running.add_user("bob", PASSWORD)
    running.start()
    with Client(running.url, token) as hers:
        _keep(hers, tmp_path_factory.mktemp("sent"))
    yield running
    running.stop()


def _keep(hers: Client, folder: Path) -> None:
    rng = np.random.default_rng(5)
    affine = np.diag([-3.0, 3.5, 4.0, 1.0])
    for number in range(3):
        labels = np.zeros((41, 37, 29), np.uint8)
        labels[8:30, 6:30, 5:24] = 1
        labels[12:22, 10 + number : 22, 9:18] = 2
        image = (labels * 90 + rng.normal(60, 9, labels.shape)).astype(np.int16)
        for part, array in (("images", image), ("labels", labels)):
            (folder / part).mkdir(exist_ok=True)
            nib.save(nib.Nifti1Image(array, affine), folder / part / f"p{number}.nii.gz")
    sent = hers.upload(folder, "my-heads")
    *_, checked = hers.follow_upload(sent["id"], every_s=0.5)
    assert checked["state"] == "checked", checked
    hers.keep_upload(sent["id"], accept=True)
    hers.describe_upload(sent["id"], DESCRIPTION)


def _sign_in(page: Page, server: Running, name: str, to: str) -> None:
    page.goto(f"{server.url}/login/?next={to}")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.locator("form.login").get_by_role("button", name="Sign in").click()


def _looked_at(page: Page, shots: Path, name: str) -> None:
    for view in VIEWS[::3]:
        look_as(page, view)
        assert_accessible(page)
        page.screenshot(path=shots / f"own-{name}-{view}.png", full_page=True)
    look_as(page, VIEWS[0])
    page.reload()


def test_own_data_and_a_catalogued_dataset_become_a_bundle(
    page: Page, browser: Browser, server: Running, shots: Path
):
    _sign_in(page, server, "ada", "/blueprint/?slug=mni152-neuromorphometrics")
    page.get_by_label("my-heads").check()
    page.get_by_role("button", name="Take these").click()
    expect(page.get_by_role("row", name="Scanner of mine").first).to_contain_text(
        "own: private build"
    )
    _looked_at(page, shots, "blueprint")
    page.get_by_role("button", name="Next: Labels").click()

    expect(page.get_by_text("1 undecided")).to_be_visible()
    page.get_by_label("Concept of 2 in Scanner of mine").fill("White matter")
    page.get_by_label("Concept of 2 in Scanner of mine").press("Tab")
    expect(page.locator("#outcome")).to_contain_text("Intersection: 2 concepts")
    page.get_by_role("button", name="Next: Target").click()
    page.get_by_label("Grid").check()
    for axis in (1, 2, 3):
        page.get_by_label(f"Voxel size, axis {axis}").fill("4")
    page.get_by_role("button", name="Next: Splits").click()
    page.get_by_label("Leave one source out").check()
    page.get_by_role("button", name="Next: Licences and files").click()

    expect(page.get_by_role("heading", name="Scanner of mine")).to_contain_text("your own data")
    _looked_at(page, shots, "licences")
    draft = page.url
    page.get_by_role("button", name="Next: Start").click()
    page.get_by_label("Baseline check").select_option("none")
    page.get_by_role("button", name="Start the fusion").click()
    expect(page.get_by_role("link", name="Open the bundle")).to_be_visible(timeout=400_000)
    run = page.url
    page.get_by_role("link", name="Open the bundle").click()
    expect(page.get_by_text("Scanner of mine").first).to_be_visible()

    others = browser.new_context().new_page()
    assert others.goto(run).status == 404
    _sign_in(others, server, "bob", "/blueprint/")
    expect(others.get_by_role("heading", name="Blueprint of a fusion")).to_be_visible()
    expect(others.get_by_text("my-heads")).to_have_count(0)
    others.goto(draft)
    expect(others.get_by_role("heading", name="Scanner of mine")).to_contain_text("not kept here")
    others.context.close()
