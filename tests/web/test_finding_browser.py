"""From the start page to a comparison and a blueprint, and a correction, in a real browser."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.web.look import VIEWS, View, assert_accessible

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(600)]


def open_as(browser: Browser, view: View) -> Page:
    return browser.new_context(
        color_scheme=view.scheme, viewport={"width": view.width, "height": view.height}
    ).new_page()


@pytest.mark.parametrize("view", VIEWS, ids=str)
def test_find_by_the_body_map_then_basket_then_compare_then_fuse(
    browser: Browser, portal: str, shots: Path, view: View
):
    page = open_as(browser, view)
    page.goto(portal)
    assert_accessible(page)
    page.screenshot(path=shots / f"home-{view}.png", full_page=True)
    eye = page.locator(".body-map").get_by_role("link", name="Eye:")
    eye.focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/datasets/?anatomy=Eye")

    for name in ("table", "cards", "list"):
        page.get_by_role("group", name="Show as").get_by_role("link", name=name).click()
        expect(page.get_by_role("group", name="Show as").locator("[aria-current]")).to_have_text(
            name
        )
        assert_accessible(page)
        page.screenshot(path=shots / f"search-{name}-{view}.png")
    boxes = page.locator("input[data-pick]:visible")
    chosen = [boxes.nth(n).get_attribute("value") for n in range(2)]
    for n in range(2):
        boxes.nth(n).check()
    page.get_by_role("button", name="Compare 2").click()
    page.wait_for_url("**/compare/?**")
    expect(page.get_by_role("table").get_by_role("columnheader")).to_have_count(3)
    assert_accessible(page)

    page.go_back()
    page.get_by_role("button", name="Fuse these").click()
    page.wait_for_url("**/blueprint/?**")
    assert all(f"slug={slug}" in page.url for slug in chosen)
    page.context.close()


@pytest.mark.parametrize("view", VIEWS, ids=str)
def test_a_dataset_page_shows_its_relations_and_takes_a_correction(
    browser: Browser, portal: str, shots: Path, view: View
):
    page = open_as(browser, view)
    page.goto(f"{portal}/datasets/kits19/")
    expect(page.locator("svg.graph")).to_be_visible()
    assert_accessible(page)
    page.screenshot(path=shots / f"dataset-{view}.png", full_page=True)
    page.get_by_role("link", name="correct year").click()
    page.get_by_role("textbox", name="Year").fill("1066")
    page.get_by_role("textbox", name="Address of the page").fill("https://example.org/kits")
    page.get_by_role("textbox", name="In its words").fill(f"released, {view}")
    page.get_by_role("button", name="Send to the curators").click()
    expect(page.get_by_role("alert").first).to_contain_text("1895")
    assert_accessible(page)

    page.get_by_role("textbox", name="Year").fill("2020")
    page.get_by_role("button", name="Send to the curators").click()
    page.wait_for_url("**/corrections/**")
    expect(page.get_by_text("Waits for a curator")).to_be_visible()
    assert_accessible(page)
    page.screenshot(path=shots / f"correction-{view}.png", full_page=True)
    page.goto(f"{portal}/corrections/")
    assert_accessible(page)
    page.context.close()


def test_evidence_opens_on_hover_and_stays_open_on_a_click(page: Page, portal: str):
    page.goto(f"{portal}/datasets/kits19/")
    evidence = page.locator("details.evidence").first
    claims = evidence.locator("table")
    expect(claims).not_to_be_visible()
    evidence.locator("summary").hover()
    expect(claims).to_be_visible()
    page.mouse.move(0, 0)
    expect(claims).not_to_be_visible()

    evidence.locator("summary").click()
    page.mouse.move(0, 0)

    expect(claims).to_be_visible()
