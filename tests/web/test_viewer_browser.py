"""Looking through a bundle in a real browser: wheel, keys, slider, links, and without a script."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.viewed import make_viewed
from tests.web.look import VIEWS, assert_accessible, look_as

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.django_db(transaction=True),
]


@pytest.fixture(scope="module", autouse=True)
def rows_beside_a_browser() -> Iterator[None]:
    """Playwright keeps a loop in this thread; rows are made here all the same, none in a task."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        yield


@pytest.fixture
def address(live_server, tmp_path: Path) -> str:
    bundle = make_viewed(tmp_path)
    return f"{live_server.url}/bundles/{bundle.pk}/cases/"


def see_it_drawn(page: Page) -> None:
    """Wait until the slice on the page is a picture that came."""
    page.wait_for_function(
        "() => { const i = document.getElementById('slice');"
        " return i && i.complete && i.naturalWidth > 0; }"
    )


def test_from_the_list_through_the_slices(page: Page, address: str, shots: Path):
    page.goto(address)
    page.get_by_label("Source").select_option("first")
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_text("1 of 3 cases")).to_be_visible()
    page.get_by_role("link", name="case000").click()

    frame, number = page.locator("[data-frame]"), page.locator("[data-number]")
    start = int(number.inner_text())
    frame.hover()
    page.mouse.wheel(0, 40)
    expect(number).to_have_text(str(start + 1))
    frame.focus()
    page.keyboard.press("End")
    expect(number).to_have_text("19")
    page.keyboard.press("ArrowUp")
    page.get_by_role("slider", name="Slice").fill("5")
    expect(number).to_have_text("5")
    expect(page.locator("#slice")).to_have_attribute("src", re.compile("index=5"))
    expect(page).to_have_url(re.compile("axial=5"))
    see_it_drawn(page)

    page.get_by_role("link", name="Coronal", exact=True).click()
    expect(page).to_have_url(re.compile("plane=coronal.*axial=5"))
    page.get_by_role("link", name="Fill").click()
    page.get_by_role("link", name="lung").click()
    page.get_by_role("link", name="hide Posterior hippocampus").click()
    expect(page.get_by_role("link", name="show Posterior hippocampus")).to_be_visible()
    see_it_drawn(page)
    page.screenshot(path=shots / "viewer.png", full_page=True)
    page.reload()
    assert "window=lung" in page.url
    expect(page.get_by_role("link", name="lung")).to_have_attribute("aria-current", "true")


def test_without_a_script_links_and_forms_do_the_same(browser: Browser, address: str):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{address}known/?axial=5")

    page.get_by_role("link", name="+10").click()
    expect(page.locator("#place")).to_have_value("15")
    page.get_by_label("Level").fill("0")
    page.get_by_label("Width").fill("100")
    page.get_by_role("button", name="Apply level and width").click()
    expect(page.get_by_text("Black is -50, white 50 HU")).to_be_visible()
    expect(page.locator("#place")).to_have_value("15")
    context.close()


@pytest.mark.parametrize("view", VIEWS, ids=str)
def test_list_and_viewer_are_whole_on_every_screen(page, address, shots, view):
    look_as(page, view)
    for name, rest in (("cases", ""), ("case", "known/?overlay=fill")):
        page.goto(address + rest)
        page.wait_for_load_state("networkidle")
        assert_accessible(page)
        page.screenshot(path=shots / f"{name}-{view}.png", full_page=True)
