"""Suggestions in a real browser: keyboard, mouse, what is announced, and history."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(600)]


def test_the_arrow_keys_mark_and_enter_takes_a_concept(page: Page, portal: str, shots: Path):
    page.goto(portal)
    box = page.get_by_role("combobox", name="Search datasets")
    expect(box).to_have_attribute("aria-expanded", "false")

    box.press_sequentially("brain MR seg")
    options = page.get_by_role("listbox", name="Suggestions").get_by_role("option")
    expect(options.first).to_contain_text("Segmentation")
    expect(options.first).to_contain_text(re.compile(r"Task, [\d,]+ datasets"))
    expect(box).to_have_attribute("aria-expanded", "true")
    expect(page.locator("#suggest-status")).to_have_text(
        f"{options.count()} suggestions, use the arrow keys"
    )
    expect(page.locator('[role="option"][aria-selected="true"]')).to_have_count(0)

    box.press("ArrowDown")
    expect(options.first).to_have_attribute("aria-selected", "true")
    expect(box).to_have_attribute("aria-activedescendant", options.first.get_attribute("id"))
    expect(box).to_be_focused()
    page.screenshot(path=shots / "suggest.png")
    box.press("Enter")

    expect(box).to_have_value("brain MR Segmentation")
    expect(page.get_by_role("listbox")).to_be_hidden()
    box.press("Enter")
    page.wait_for_url("**/datasets/?q=brain+MR+Segmentation")
    expect(page.get_by_text("Task: Segmentation")).to_be_visible()


def test_enter_on_a_dataset_opens_its_page(page: Page, portal: str):
    page.goto(f"{portal}/datasets/")
    box = page.get_by_role("combobox")
    box.press_sequentially("chasedb")
    expect(page.get_by_role("option", name="CHASE_DB1")).to_be_visible()
    box.press("ArrowUp")  # from the text to the last one
    expect(page.locator('[role="option"]').last).to_have_attribute("aria-selected", "true")
    box.press("ArrowDown")  # and back to the text
    expect(page.locator('[role="option"][aria-selected="true"]')).to_have_count(0)
    expect(box).not_to_have_attribute("aria-activedescendant", re.compile("."))

    box.press("ArrowDown")
    box.press("Enter")

    page.wait_for_url("**/datasets/chase-db1/")


def test_escape_closes_the_list_and_keeps_the_text(page: Page, portal: str):
    page.goto(portal)
    box = page.get_by_role("combobox")
    box.press_sequentially("lung")
    expect(page.get_by_role("listbox")).to_be_visible()

    box.press("Escape")

    expect(page.get_by_role("listbox")).to_be_hidden()
    expect(box).to_have_value("lung")
    expect(box).to_have_attribute("aria-expanded", "false")
    box.press("ArrowDown")
    expect(page.get_by_role("listbox")).to_be_visible()
    box.press("Enter")  # nothing is marked: the text itself is searched for
    page.wait_for_url("**/datasets/?q=lung")


def test_the_mouse_takes_a_suggestion_and_leaving_closes_the_list(page: Page, portal: str):
    page.goto(f"{portal}/statistics/")
    box = page.get_by_role("combobox")
    box.press_sequentially("sonog")
    page.get_by_role("option", name="Ultrasound").click()
    expect(box).to_have_value("sonography")
    expect(box).to_be_focused()

    box.fill("lung")
    expect(page.get_by_role("listbox")).to_be_visible()
    page.get_by_role("heading", level=1).click()
    expect(page.get_by_role("listbox")).to_be_hidden()


def test_fast_typing_asks_once_and_only_the_last_answer_counts(page: Page, portal: str):
    asked: list[str] = []
    page.on("request", lambda r: asked.append(r.url) if "/suggest/" in r.url else None)
    page.goto(portal)
    box = page.get_by_role("combobox")

    box.press_sequentially("tuberculosis", delay=10)

    expect(page.get_by_role("option").first).to_contain_text("Tuberculosis")
    assert len(asked) <= 4
    box.fill("t")
    expect(page.get_by_role("listbox")).to_be_hidden()


def test_after_filtering_and_going_back_the_box_still_suggests(page: Page, portal: str):
    page.goto(f"{portal}/datasets/?q=retina")
    page.locator(".facet").get_by_role("link", name="Classification").click()
    page.wait_for_url("**task=Classification**")
    _expect_suggestions(page)
    page.go_back()
    page.wait_for_url("**/datasets/?q=retina")
    _expect_suggestions(page)


def _expect_suggestions(page: Page) -> None:
    box = page.get_by_role("combobox")
    box.fill("optic nerve he")
    expect(page.get_by_role("listbox")).to_have_count(1)
    expect(page.get_by_role("option").first).to_contain_text("Retina")
    box.press("Escape")


def test_the_form_searches_when_suggestions_do_not_answer(page: Page, portal: str):
    page.route("**/suggest/**", lambda route: route.abort())
    page.goto(portal)
    box = page.get_by_role("combobox")
    box.press_sequentially("fundus")
    page.wait_for_timeout(300)
    expect(page.get_by_role("listbox")).to_be_hidden()

    box.press("Enter")

    page.wait_for_url("**/datasets/?q=fundus")
