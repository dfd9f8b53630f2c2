"""A first visitor's walk through the portal, which writes its own guide: docs/tour.md.

`IMAGINGX_WRITE_TOUR=1` writes the text and its pictures; without it the walk is only taken, and the
text on file must be what it says.
"""

from __future__ import annotations

import io
import os
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from fusion.bundle.verify import verify_bundle
from tests.conftest import ROOT
from tests.web.look import VIEWS, assert_accessible, look_as

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(1800)]

GUIDE = ROOT / "docs" / "tour.md"
PICTURES = ROOT / "docs" / "img" / "tour"
WRITING = bool(os.environ.get("IMAGINGX_WRITE_TOUR"))
FUSION_SECONDS = 900  # on two busy cores the small baseline is the slow part
RUN_ENDED = ".overall .state.good, .overall .state.bad, .overall .state.warn"
INTRODUCTION = """\
# A walk through the portal

What a first visitor sees from the search to a checked bundle, on the sample that `make up` brings:
two averaged brains, enough to show the way. `make tour` takes this walk in a browser and writes
this page; the tests take it too, at desktop and phone width, in light and dark.
"""


@dataclass
class Tour:
    """Steps taken on one page, as text and pictures."""

    page: Page
    shots: Path
    steps: list[str] = field(default_factory=list)

    def step(self, name: str, title: str, text: str, at: Locator | None = None) -> None:
        """What is on the screen now, from `at` on; every screen is looked at by axe-core."""
        for view in VIEWS[1:]:
            look_as(self.page, view)
            assert_accessible(self.page)
            self.page.screenshot(path=self.shots / f"tour-{name}-{view}.png", full_page=True)
        look_as(self.page, VIEWS[0])
        assert_accessible(self.page)
        if at:
            at.evaluate("e => e.scrollIntoView({block: 'start'})")
        else:
            self.page.evaluate("window.scrollTo(0, 0)")
        picture = self.page.screenshot(path=self.shots / f"tour-{name}.png")
        if WRITING:
            PICTURES.mkdir(parents=True, exist_ok=True)
            Image.open(io.BytesIO(picture)).save(PICTURES / f"{name}.webp", quality=72, method=6)
        number = len(self.steps) + 1
        self.steps.append(f"## {number}. {title}\n\n{text}\n\n![{title}](img/tour/{name}.webp)\n")

    def guide(self) -> str:
        return "\n".join([INTRODUCTION, *self.steps])


def test_from_the_search_to_a_checked_bundle(page: Page, portal: str, shots: Path, tmp_path: Path):
    tour = Tour(page, shots)
    _find(tour, portal)
    _choose_and_fuse(tour)
    _follow(tour)
    _look_and_download(tour, tmp_path)
    if WRITING:
        GUIDE.write_text(tour.guide())
    assert GUIDE.read_text() == tour.guide(), "make tour writes docs/tour.md again"


def _find(tour: Tour, portal: str) -> None:
    page = tour.page
    page.goto(portal)
    tour.step(
        "home",
        "Start with a question or a region",
        "One search box, the body as a map, and what the catalog lacks. The numbers count what "
        "is in this catalog now.",
    )
    page.get_by_role("combobox").fill("brain MR template")
    page.get_by_role("combobox").press("Enter")
    expect(page.get_by_text("Modality: MR")).to_be_visible()
    tour.step(
        "search",
        "Search in your own words",
        "What was understood is shown as chips that can be taken away. Strict matches come "
        "first; what lacks something comes apart from them and says what. Every state is in the "
        "address.",
    )
    page.goto(f"{portal}/datasets/icbm152-2009a/")
    expect(page.get_by_role("heading", level=1)).to_contain_text("ICBM")
    tour.step(
        "dataset",
        "Read what is known, and who says so",
        "Each fact names its sources and marks where they disagree; what nobody states is "
        "unknown. Beside it: the licence in plain words, how to get the files, what it can be "
        "fused with.",
    )


def _choose_and_fuse(tour: Tour) -> None:
    page = tour.page
    portal = page.url.split("/datasets/")[0]
    page.goto(f"{portal}/blueprint/?slug=icbm152-2009a&slug=mni152-neuromorphometrics")
    tour.step(
        "blueprint",
        "See whether datasets fit before anything is fetched",
        "The blueprint answers each rule of eligibility with the values it saw, scores how well "
        "the datasets fit, and names what is not known.",
    )
    page.get_by_role("button", name="Next: Labels").click()
    expect(page.locator("#outcome")).to_contain_text("Intersection: 2 concepts")
    tour.step(
        "labels",
        "Say what each label means",
        "A proposal for each label of each source, with its score. What intersection and union "
        "would lose is worked out while you choose.",
    )
    page.get_by_role("button", name="Next: Target").click()
    page.get_by_label("Grid").check()
    for axis in (1, 2, 3):
        page.get_by_label(f"Voxel size, axis {axis}").fill("2.5")
    tour.step("target", "Choose the target", "Native, canonical, or one grid for all.")
    page.get_by_role("button", name="Next: Splits").click()
    page.get_by_label("Plan for copies").select_option("drop_child_copies")
    tour.step(
        "splits",
        "Keep people apart",
        "No person may be in two splits. These two templates show the same people, so the rule "
        "for overlaps (E07) wants a decision: a plan for copies.",
    )
    page.get_by_role("button", name="Next: Licences and files").click()
    tour.step(
        "licences",
        "Know what may be shared",
        "What each licence allows decides between a private and a shareable build. Each source "
        "says how its files are obtained: by itself, by hand in steps, or already here.",
    )
    page.get_by_role("button", name="Next: Start").click()
    page.get_by_label("Title").fill("Tissue, step by step")
    tour.step(
        "start",
        "Start the run, or keep the recipe",
        "The recipe is the whole of what was chosen. It can be downloaded at every step, put "
        "under version control, and continued from a file.",
    )
    page.get_by_role("button", name="Start the fusion").click()


def _follow(tour: Tour) -> None:
    page = tour.page
    expect(page.locator("#progress")).to_be_visible()
    page.evaluate("window.wasNotReloaded = true")
    expect(page.locator(".stages li.done").first).to_be_visible(timeout=60_000)
    tour.step(
        "run",
        "Watch it",
        "Stages, sources and cases as they are worked on; pause, cancel, raise its priority. "
        "The page can be closed: the run goes on, and a killed worker's work is taken up by "
        "another.",
    )
    page.wait_for_selector(RUN_ENDED, timeout=FUSION_SECONDS * 1000)
    assert page.evaluate("window.wasNotReloaded")
    expect(page.locator(".overall .state")).to_have_text("Succeeded")
    expect(page.locator("#run-status")).to_have_text("Run succeeded")


def _look_and_download(tour: Tour, folder: Path) -> None:
    page = tour.page
    page.get_by_role("link", name="Open the bundle").click()
    expect(page.get_by_text("Private build")).to_be_visible()
    expect(page.get_by_text("Small sample")).to_be_visible()
    tour.step(
        "bundle",
        "Open the bundle",
        "What is in it by source and split, what was left out and why, its licences, its "
        "limits. This one says that it is a small sample and for your own use only.",
    )
    page.get_by_role("link", name="Look through the cases").click()
    page.locator("main h2 a").first.click()
    expect(page.locator("#slice")).to_be_visible()
    page.wait_for_load_state("networkidle")
    tour.step(
        "viewer",
        "Look inside",
        "Three planes with the masks over them; wheel, keys or slider move through the slices. "
        "The letters say which side is which.",
    )
    page.go_back()
    page.go_back()
    with page.expect_download() as download:
        page.locator("#download").click()
    download.value.save_as(folder / "bundle.tar")
    with tarfile.open(folder / "bundle.tar") as tar:
        tar.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    report = verify_bundle(unpacked)
    assert report.ok, [check for check in report.checks if not check.ok]
    page.locator("#get").scroll_into_view_if_needed()
    tour.step(
        "download",
        "Take it with you, and check it",
        "As one file, in parts that resume, or cut for nnU-Net, MONAI, BIDS and Hugging Face. "
        "`manage.py verify_bundle` and `sha256sum -c SHA256SUMS` check it; the commands below "
        "rebuild it byte for byte from your own copies of the sources.",
        at=page.locator("#get"),
    )
