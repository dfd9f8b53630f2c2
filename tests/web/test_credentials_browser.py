"""Credentials, terms and deposits in a real browser, on every screen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Page, expect

from tests.factories import make_bundle, make_dataset, make_run
from tests.web.look import VIEWS, assert_accessible, look_as
from workers.credentials import keep

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


def test_credentials_terms_and_deposits_are_whole_on_every_screen(
    page: Page, live_server, shots: Path
):
    ann = User.objects.create_user("ann", password="c0rrect-horse")
    link = {"url": "https://zenodo.org/records/7", "kind": "official", "source": "curation"}
    make_dataset(
        "signed", links=[link | {"issue": None}], licence="CC-BY-4.0", access="registration"
    )
    bundle = make_bundle(build="shareable")
    make_run(owner=ann, bundle=bundle)
    keep(ann, "ZENODO_TOKEN", "zen_canary-of-the-page")

    page.goto(f"{live_server.url}/account/credentials/")
    page.get_by_label("Name").fill("ann")
    page.get_by_label("Password").fill("c0rrect-horse")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_label("Place", exact=True).select_option("HF_TOKEN")
    page.get_by_label("Value").fill("hf_canary-of-the-page")
    page.get_by_role("button", name="Keep it").click()
    expect(page.get_by_role("button", name="Remove Hugging Face Hub")).to_be_visible()
    assert "canary-of-the-page" not in page.content()

    page.goto(f"{live_server.url}/datasets/signed/")
    page.get_by_role("link", name="to be accepted").click()
    terms = page.url
    page.get_by_label("I have read these terms").check()
    page.get_by_role("button", name="Accept").click()
    expect(page.get_by_text("You accepted these terms")).to_be_visible()

    page.goto(f"{live_server.url}/bundles/{bundle.pk}/")
    page.get_by_role("link", name="Send it to").click()
    page.get_by_label("Place", exact=True).select_option("huggingface")
    page.get_by_label("Target").fill("ann/two-sources")
    page.get_by_role("button", name="What would be sent?").click()
    expect(page.get_by_role("heading", name="This would be sent")).to_be_visible()
    deposit = page.url

    addresses = {"credentials": f"{live_server.url}/account/credentials/", "terms": terms}
    for name, address in {**addresses, "deposit": deposit}.items():
        page.goto(address)
        for view in VIEWS:
            look_as(page, view)
            page.screenshot(path=shots / f"{name}-{view}.png", full_page=True)
            assert_accessible(page)
