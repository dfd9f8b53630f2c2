"""From two datasets to a run in a real browser: every step, with and without scripts."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml
from playwright.sync_api import Browser, Page, expect

from tests.web.look import VIEWS, assert_accessible, look_as

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(1200)]
START = "/blueprint/?slug=icbm152-2009a&slug=mni152-neuromorphometrics"
STEPS = ("Labels", "Target", "Splits", "Licences and files", "Start")


def look(page: Page, shots: Path, name: str) -> None:
    """Every screen: nothing serious, nothing too wide, and a picture."""
    for view in VIEWS:
        look_as(page, view)
        assert_accessible(page)
        page.screenshot(path=shots / f"wizard-{name}-{view}.png", full_page=True)
    look_as(page, VIEWS[0])


def _edit_labels(page: Page) -> None:
    """What is changed is shown at once, without a new page, and is in the address."""
    outcome = page.locator("#outcome")
    page.evaluate("window.wasNotReloaded = true")
    white = page.get_by_label(re.compile("^Concept of 35,40")).first
    white.fill("Hippocampus")
    white.press("Tab")
    expect(outcome).to_contain_text("Intersection: 1 concept")
    expect(outcome).to_contain_text("1 label lost")
    white.fill("no such thing")
    white.press("Tab")
    expect(page.get_by_role("alert")).to_contain_text("found 'no such thing'")
    white.fill("White matter")
    white.press("Tab")
    expect(outcome).to_contain_text("Intersection: 2 concepts")
    expect(page.get_by_role("alert")).to_have_count(0)
    assert page.evaluate("window.wasNotReloaded")
    assert "recipe" in parse_qs(urlsplit(page.url).query)
    page.reload()
    expect(outcome).to_contain_text("Intersection: 2 concepts")


def test_two_datasets_become_a_run(page: Page, portal: str, shots: Path, tmp_path: Path):
    page.goto(portal + START)
    expect(page.get_by_role("heading", name="Blueprint of a fusion")).to_be_visible()
    look(page, shots, "datasets")
    page.get_by_role("button", name="Next: Labels").click()

    expect(page.locator("#outcome")).to_contain_text("Intersection: 2 concepts")
    look(page, shots, "labels")
    page.reload()  # axe-core leaves styles of its own, which a copy of the page may not have
    _edit_labels(page)

    page.get_by_role("button", name="Next: Target").click()
    page.get_by_label("Grid").check()
    for axis in (1, 2, 3):
        page.get_by_label(f"Voxel size, axis {axis}").fill("2.5")
    look(page, shots, "target")
    page.get_by_role("button", name="Next: Splits").click()

    expect(page.get_by_text("Still to do in this step: 1")).to_be_visible()
    page.get_by_label("Leave one source out").check()
    page.get_by_label("Accept it without a plan, because").fill("A demonstration")
    look(page, shots, "splits")
    page.get_by_role("button", name="Next: Licences and files").click()

    expect(page.get_by_text("already here")).to_have_count(2)
    expect(page.get_by_text("LicenseRef-FSL does not let files be passed on")).to_be_visible()
    look(page, shots, "licences")
    page.get_by_role("button", name="Next: Start").click()

    page.get_by_label("Title").fill("Tissue, step by step")
    page.get_by_label("Baseline check").select_option("none")
    look(page, shots, "start")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download YAML").click()
    download.value.save_as(tmp_path / "recipe.yaml")
    recipe = yaml.safe_load((tmp_path / "recipe.yaml").read_text())
    assert recipe["target"] == {"profile": "grid", "spacing_mm": [2.5, 2.5, 2.5]}
    assert [source["description"] for source in recipe["sources"]] == [
        "icbm152-2009a", "mni152-tissue",
    ]  # fmt: skip
    page.get_by_role("button", name="Start the fusion").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Tissue, step by step")
    expect(page.get_by_role("list", name="Stages")).to_be_visible()
    page.get_by_role("button", name="Cancel the run").click()

    # The file that was downloaded goes on where the wizard ended.
    page.goto(f"{portal}/blueprint/")
    page.get_by_label("Upload a file").set_input_files(tmp_path / "recipe.yaml")
    page.get_by_role("button", name="Continue it").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Start")
    expect(page.get_by_label("Title")).to_have_value("Tissue, step by step")


@pytest.mark.parametrize("width", [1280, 390], ids=["desktop", "phone"])
def test_the_wizard_needs_no_scripts(browser: Browser, portal: str, width: int):
    context = browser.new_context(
        java_script_enabled=False, viewport={"width": width, "height": 844}
    )
    page = context.new_page()
    page.goto(portal + START)
    page.get_by_role("button", name="Next: Labels").click()
    page.get_by_label(re.compile("^Concept of 35,40")).first.fill("background")
    page.get_by_role("button", name="Show what comes of it").click()
    expect(page.locator("#outcome")).to_contain_text("Intersection: 1 concept")

    for name in STEPS[1:]:
        page.get_by_role("button", name=f"Next: {name}").click()
        expect(page.get_by_role("heading", level=1)).to_have_text(name)
    page.get_by_role("button", name="Start the fusion").click()
    expect(page.get_by_role("alert")).to_contain_text("E07")
    page.get_by_role("navigation", name="Steps").get_by_role("button", name="Splits").click()
    page.get_by_label("Plan for copies").select_option("drop_child_copies")
    page.get_by_role("navigation", name="Steps").get_by_role("button", name="Start").click()
    page.get_by_role("button", name="Start the fusion").click()
    expect(page.get_by_role("list", name="Stages")).to_be_visible()
    page.get_by_role("button", name="Cancel the run").click()
    context.close()


def test_a_dataset_that_nobody_described_says_what_a_person_supplies(
    page: Page, portal: str, shots: Path
):
    page.goto(f"{portal}/blueprint/labels/?slug=kits23&slug=ct-org")

    expect(page.get_by_text("Nobody has described these files yet")).to_be_visible()
    expect(page.get_by_text("describe_source")).to_be_visible()
    look(page, shots, "undescribed")


def test_long_lists_of_labels_and_the_first_page_fit_every_screen(
    page: Page, portal: str, shots: Path
):
    page.goto(f"{portal}/blueprint/labels/?slug=totalsegmentator&slug=amos22")
    expect(page.locator("#outcome")).to_contain_text("concepts")
    look(page, shots, "long")
    page.goto(f"{portal}/blueprint/")
    look(page, shots, "first")
