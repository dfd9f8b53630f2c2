"""Choosing datasets over several pages in a real browser, and comparing them."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(600)]
BAR = "[data-compare-bar]"


def tick(page: Page, name: str):
    return page.get_by_role("checkbox", name=f"Compare {name}", exact=True)


def test_a_choice_is_kept_over_searches_and_compared(page: Page, portal: str, shots: Path):
    page.goto(f"{portal}/datasets/?q=CHASE_DB1")
    tick(page, "CHASE_DB1").check()
    expect(page.locator("[data-compare-count]")).to_have_text("1 chosen")

    page.goto(f"{portal}/datasets/?q=STARE")
    tick(page, "STARE").check()
    expect(page.locator("[data-compare-count]")).to_have_text("2 chosen")
    page.screenshot(path=shots / "compare-bar.png")
    page.locator(BAR).get_by_role("button", name="Compare 2").click()

    page.wait_for_url("**/compare/?**")
    assert "slug=chase-db1" in page.url
    assert "slug=stare" in page.url
    assert page.url.count("slug=") == 2
    heads = page.get_by_role("table").get_by_role("columnheader")
    expect(heads).to_have_count(3)
    page.screenshot(path=shots / "compare.png", full_page=True)

    page.get_by_role("link", name="remove STARE").click()
    page.goto(f"{portal}/datasets/?q=STARE")
    expect(tick(page, "STARE")).not_to_be_checked()
    expect(page.locator("[data-compare-count]")).to_have_text("1 chosen")


def test_the_choice_follows_filters_without_a_new_page(page: Page, portal: str):
    page.goto(f"{portal}/datasets/?q=retina")
    page.evaluate("window.wasNotReloaded = true")
    first = page.locator("input[data-pick]:visible").first
    slug = first.get_attribute("value")
    first.check()

    page.locator(".facet").get_by_role("link", name="Classification").click()
    page.wait_for_url("**task=Classification**")

    expect(page.locator("[data-compare-count]")).to_have_text("1 chosen")
    assert page.evaluate("window.wasNotReloaded")
    sent = page.evaluate("[...new FormData(document.querySelector('#compare')).getAll('slug')]")
    assert sent == [slug]
    feed = page.locator('link[rel="alternate"][type="application/atom+xml"]')
    assert "task=Classification" in (feed.get_attribute("href") or "")


def test_a_seventh_is_refused_and_said_and_all_can_be_cleared(page: Page, portal: str):
    page.goto(f"{portal}/datasets/?q=retina")
    boxes = page.locator("input[data-pick]:visible")
    for n in range(6):
        boxes.nth(n).check()

    boxes.nth(6).click()

    expect(page.locator("[data-compare-count]")).to_contain_text("At most 6")
    expect(boxes.nth(6)).not_to_be_checked()
    page.locator("[data-compare-drop]").first.click()
    expect(page.locator("[data-compare-count]")).to_have_text("5 chosen")
    page.get_by_role("button", name="Clear").click()
    expect(boxes.first).not_to_be_checked()
    expect(page.locator("[data-compare-count]")).to_contain_text("Tick 2 to 6 datasets")


def test_ticks_compare_without_scripts_and_by_keyboard(browser: Browser, portal: str):
    context = browser.new_context(java_script_enabled=False)
    opened = context.new_page()
    opened.goto(f"{portal}/datasets/?q=retina")
    for n in range(2):
        opened.locator("input[data-pick]:visible").nth(n).focus()
        opened.keyboard.press("Space")
    opened.locator(BAR).get_by_role("button", name="Compare").focus()
    opened.keyboard.press("Enter")

    expect(opened.get_by_role("table").get_by_role("columnheader")).to_have_count(3)
    context.close()


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 390)])
def test_six_side_by_side_are_no_wider_than_the_screen(
    browser: Browser,
    portal: str,
    scheme,
    width: int,
):
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900})
    opened = context.new_page()
    slugs = ("chase-db1", "stare", "lidc-idri", "kits19", "camus", "chexpert")
    opened.goto(f"{portal}/compare/?" + "&".join(f"slug={slug}" for slug in slugs))

    expect(opened.get_by_role("columnheader")).to_have_count(7)
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    context.close()
