"""How pages are looked at: widths, colour schemes, and what axe-core finds."""

from __future__ import annotations

from typing import Literal, NamedTuple

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

WORTH_MENDING = {"serious", "critical"}
# Swagger UI comes as it is: buttons within buttons. Its page names the schema beside it.
NOT_OURS = {"exclude": [[".swagger-ui"]]}


class View(NamedTuple):
    """A screen: width and height in CSS pixels."""

    width: int
    height: int
    scheme: Literal["light", "dark"]

    def __str__(self) -> str:
        return f"{'phone' if self.width < 500 else 'desktop'}-{self.scheme}"


VIEWS = (
    View(1280, 900, "light"),
    View(1280, 900, "dark"),
    View(390, 844, "light"),
    View(390, 844, "dark"),
)


def look_as(page: Page, view: View) -> None:
    """Show the page that is open on another screen, without loading it again."""
    page.emulate_media(color_scheme=view.scheme)
    page.set_viewport_size({"width": view.width, "height": view.height})


def assert_accessible(page: Page) -> None:
    """No serious or critical finding of axe-core, and nothing wider than the screen."""
    found = Axe().run(page, context=NOT_OURS).response["violations"]
    bad = [
        f"{item['impact']} {item['id']}: {item['help']}: {node['html']} ({node['failureSummary']})"
        for item in found
        if item["impact"] in WORTH_MENDING
        for node in item["nodes"]
    ]
    assert not bad, "\n".join([page.url, *bad])
    assert page.viewport_size
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= page.viewport_size["width"], f"{page.url} is {wide} pixels wide"
