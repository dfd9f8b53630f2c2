"""Searches that are saved and datasets that rules keep, in a real browser, on every screen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Browser, Page, expect

from tests.factories import make_dataset
from tests.web.look import VIEWS, assert_accessible, look_as

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("datasets"),
]
PASSWORD = "c0rrect-horse"


@pytest.fixture(scope="module", autouse=True)
def rows_beside_a_browser() -> Iterator[None]:
    """Playwright keeps a loop in this thread; rows are made here all the same, none in a task."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        yield


def _look(page: Page, shots: Path, name: str) -> None:
    for view in VIEWS:
        look_as(page, view)
        assert_accessible(page)
        page.screenshot(path=shots / f"{name}-{view}.png", full_page=True)
    look_as(page, VIEWS[0])


def _sign_in(page: Page, url: str, to: str) -> None:
    User.objects.create_user("ann", password=PASSWORD)
    page.goto(f"{url}/login/?next={to}")
    page.get_by_label("Name").fill("ann")
    page.get_by_label("Password").fill(PASSWORD)
    page.locator("form.login").get_by_role("button", name="Sign in").click()


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_a_search_is_saved_renamed_opened_and_deleted(
    browser: Browser, live_server: Any, shots: Path, scripts: bool
):
    context = browser.new_context(java_script_enabled=scripts)
    page = context.new_page()
    _sign_in(page, live_server.url, "/datasets/?q=fundus")
    page.get_by_role("link", name="name", exact=True).click()  # htmx swaps the form with the page
    page.wait_for_url("**sort=name**")
    if scripts:
        _look(page, shots, "search-to-save")
        page.reload()
    page.get_by_label("Name of the saved search").fill("Eyes")
    page.get_by_role("button", name="Save search").click()

    expect(page.get_by_role("heading", level=1)).to_have_text("Saved searches")
    if scripts:
        _look(page, shots, "saved-searches")
    page.get_by_label("New name of Eyes").fill("Retinas")
    page.get_by_role("button", name="Rename Eyes").click()
    page.get_by_role("link", name="Retinas", exact=True).click()
    expect(page.get_by_text("2 datasets match")).to_be_visible()
    page.get_by_role("link", name="Your saved searches").click()
    page.get_by_role("button", name="Delete Retinas").click()
    expect(page.get_by_text("Nothing is saved yet")).to_be_visible()
    context.close()


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_what_rules_keep_is_compared_and_fused(
    browser: Browser, live_server: Any, shots: Path, scripts: bool
):
    counts = [{"number": 500, "unit": "image", "source": "curation"}]
    flat = {"dimensions": ["2D"], "tasks": ["Segmentation"], "counts": counts, "modalities": ["CT"]}
    make_dataset("ct-one", name="First CT", **flat)
    make_dataset("ct-two", name="Second CT", **flat)
    context = browser.new_context(java_script_enabled=scripts)
    page = context.new_page()
    page.goto(f"{live_server.url}/rules/")
    for name in ("First CT", "Second CT"):
        page.get_by_label(f"Compare {name}").check()
    if scripts:
        expect(page.get_by_role("button", name="Compare 2")).to_be_visible()
        _look(page, shots, "rules-basket")
        page.reload()
    page.get_by_role("button", name="Fuse these").click()

    page.wait_for_url("**/blueprint/?slug=ct-one&slug=ct-two")
    page.go_back()
    for name in ("First CT", "Second CT"):  # without scripts nothing is remembered
        page.get_by_label(f"Compare {name}").check()
    page.get_by_role("button", name="Compare").last.click()
    page.wait_for_url("**/compare/?slug=ct-one&slug=ct-two")
    context.close()
