"""The whole way in a real browser, with the real web server and a real worker."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from fusion.recipe_files import example_recipes, load_recipe
from tests.web.look import VIEWS, assert_accessible, look_as

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(1200)]


def test_filters_change_the_address_without_a_new_page(page: Page, portal: str):
    page.goto(f"{portal}/datasets/?q=retina")
    page.evaluate("window.wasNotReloaded = true")
    before = page.get_by_role("status").first.inner_text()

    page.locator(".facet").get_by_role("link", name="Classification").click()

    page.wait_for_url("**task=Classification**")
    expect(page.get_by_role("status").first).not_to_have_text(before)
    assert page.evaluate("window.wasNotReloaded")
    page.go_back()
    expect(page.get_by_role("status").first).to_have_text(before)


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_filters_stand_beside_the_results_or_folded_above_them(
    browser: Browser, portal: str, scripts
):
    context = browser.new_context(java_script_enabled=scripts)
    page = context.new_page()
    page.goto(f"{portal}/datasets/?q=retina&task=Segmentation&year_from=2005")
    folded, facet = page.locator("summary", has_text="Filters (2 chosen)"), page.locator(".facet")
    first = page.locator(".result").first
    for view in VIEWS[:2]:
        look_as(page, view)
        expect(folded).to_be_hidden()
        expect(facet.first).to_be_visible()
    look_as(page, VIEWS[2])
    page.reload()
    expect(facet.first).to_be_hidden()
    box = first.bounding_box()
    assert box
    assert box["y"] < VIEWS[2].height
    folded.focus()
    page.keyboard.press("Enter")
    expect(facet.first).to_be_visible()
    context.close()


def test_the_keyboard_alone_skips_to_the_content_and_searches(page: Page, portal: str):
    page.goto(portal)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_role("combobox")).to_be_focused()
    page.keyboard.type("liver CT")
    page.keyboard.press("Enter")

    expect(page.get_by_role("heading", level=1)).to_have_text("Datasets")
    expect(page.get_by_text("Modality: CT")).to_be_visible()


def test_everything_works_without_scripts(browser: Browser, portal: str):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{portal}/datasets/")
    page.get_by_role("searchbox").fill("fundus")
    page.get_by_role("button", name="Search").click()
    page.locator(".facet").get_by_role("link", name="Segmentation").click()
    expect(page.get_by_text("Task: Segmentation")).to_be_visible()

    page.goto(f"{portal}/recipes/")
    page.get_by_label("Recipe as YAML or JSON").fill("title: x")
    page.get_by_role("button", name="Check only").click()
    expect(page.get_by_role("alert")).to_contain_text("sources: is missing")
    page.locator("#brain-tissue").get_by_role("button", name="Start fusion").click()
    expect(page.get_by_role("list", name="Stages")).to_be_visible()
    if page.locator("#reload").count():
        page.locator("#reload").click()
        expect(page.get_by_role("list", name="Stages")).to_be_visible()
    context.close()


PAGES = {
    "home": "/",
    "datasets": "/datasets/?q=retinal+vessel",
    "dataset": "/datasets/chase-db1/",
    "files": "/datasets/chase-db1/files/",
    "compare": "/compare/?datasets=chase-db1&datasets=stare",
    "blueprint": "/blueprint/?datasets=chase-db1&datasets=stare",
    "statistics": "/statistics/",
    "versions": "/versions/",
    "harvests": "/harvests/",
    "waiting": "/harvests/waiting/",
    "links": "/links/",
    "queues": "/waiting/",
    "rules": "/rules/",
    "recipes": "/recipes/",
    "runs": "/runs/",
    "bundles": "/bundles/",
    "login": "/login/",
    "status": "/status/",
    "api": "/api/v1/docs/",
}


@pytest.mark.parametrize("noun", PAGES)
def test_every_page_is_accessible_and_fits_its_screen(
    page: Page, portal: str, shots: Path, noun: str
):
    page.goto(portal + PAGES[noun])
    page.wait_for_load_state("networkidle")
    for view in VIEWS:
        look_as(page, view)
        page.screenshot(path=shots / f"{noun}-{view}.png", full_page=True)
        assert_accessible(page)


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_a_run_is_steered_by_the_buttons_of_its_page(
    browser: Browser, portal: str, shots: Path, scripts
):
    context = browser.new_context(java_script_enabled=scripts)
    page = context.new_page()
    recipe = load_recipe(example_recipes()["brain-tissue"]) | {"seed": 11 + scripts}
    page.goto(f"{portal}/recipes/")
    page.get_by_label("Recipe as YAML or JSON").fill(json.dumps(recipe))
    page.get_by_role("button", name="Check and start").click()

    page.get_by_role("button", name="Pause the run").click()
    _see(page, page.locator(".overall .state", has_text="Paused"))
    page.screenshot(path=shots / "run-paused.png", full_page=True)
    page.get_by_role("button", name="High priority").click()
    _see(page, page.locator("button[aria-pressed=true]", has_text="High"))
    page.get_by_role("button", name="Resume the run").click()
    expect(page.get_by_role("button", name="Pause the run")).to_be_visible()
    page.get_by_role("button", name="Cancel the run").click()
    _see(page, page.locator(".overall .state", has_text="Cancelled"))
    context.close()


def _see(page: Page, what: Locator) -> None:
    """Wait for it as a visitor without scripts does: by loading the page again."""
    deadline = time.monotonic() + 60
    while not what.count():
        assert time.monotonic() < deadline, page.locator("#progress").inner_text()
        page.wait_for_timeout(500)
        page.reload()


def test_the_status_page_shows_the_worker_and_fits_its_screen(
    browser: Browser, portal: str, shots: Path
):
    for scheme in ("light", "dark"):
        context = browser.new_context(color_scheme=scheme, viewport={"width": 390, "height": 844})
        page = context.new_page()
        page.goto(f"{portal}/status/")
        expect(page.get_by_role("heading", name="Workers")).to_be_visible()
        expect(page.locator("#workers + .table-box .state.good")).to_have_text("alive")
        page.screenshot(path=shots / f"status-{scheme}.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        context.close()
