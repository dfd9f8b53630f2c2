"""What holds for every page: nothing inline, everything labelled, colours that can be read."""

from __future__ import annotations

import itertools
import re
from html.parser import HTMLParser

import pytest
from django.contrib.auth.models import User

from portal.web.wizard.views import PAGES
from tests.conftest import ROOT
from tests.factories import make_bundle, make_measured, make_run, make_summary

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("datasets")]
TOKENS = ROOT / "portal" / "static" / "portal" / "css" / "tokens.css"


class Page(HTMLParser):
    """Collects what the tests look at."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.inline: list[str] = []
        self.ids: list[str] = []
        self.labels: set[str] = set()
        self.fields: list[str] = []
        self.headings: list[int] = []
        self._in_label = 0
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.inline += [name for name, _ in attrs if name == "style" or name.startswith("on")]
        is_code = tag == "script" and values.get("type") != "application/ld+json"
        if tag == "style" or (is_code and "src" not in values):
            self.inline.append(tag)
        if "id" in values:
            self.ids.append(values["id"])
        if re.fullmatch(r"h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag == "label":
            self._in_label += 1
            self.labels.add(values.get("for", ""))
        is_field = tag in {"textarea", "select"} or (
            tag == "input" and values.get("type") not in {"hidden", "submit"}
        )
        if is_field and not self._in_label and "aria-label" not in values:
            self.fields.append(values.get("id", f"<{tag} without id>"))

    def handle_endtag(self, tag):
        self._in_label -= tag == "label"


@pytest.fixture
def pages(client) -> dict[str, str]:
    run, bundle = make_run(), make_bundle(summary=make_summary(measured=make_measured()))
    addresses = [
        "/",
        "/datasets/",
        "/datasets/?q=fundus&licence=CC-BY-4.0&year_from=2000",
        "/datasets/?task=Nothing",
        "/datasets/first-fundus/",
        "/datasets/first-fundus/files/",
        "/compare/",
        "/compare/?slug=first-fundus",
        "/compare/?slug=first-fundus&slug=second-fundus",
        "/compare/?slug=nothing&rows=none",
        "/blueprint/",
        "/blueprint/?slug=first-fundus&slug=second-fundus",
        "/blueprint/?modality=Fundus&anatomy=Eye&task=Segmentation",
        "/blueprint/?slug=nothing&mode=both",
        "/statistics/",
        "/versions/",
        "/harvests/",
        "/harvests/waiting/",
        "/links/",
        "/waiting/",
        "/recipes/",
        "/runs/",
        f"/runs/{run.pk}/",
        "/bundles/",
        "/status/",
        "/login/",
        f"/bundles/{bundle.pk}/",
        "/api/v1/docs/",
        "/nowhere/",
    ]
    addresses += [f"/blueprint/{step}/?example=brain-tissue" for step in PAGES]
    found = {address: client.get(address, follow=True).content.decode() for address in addresses}
    ada = User.objects.create(username="ada")
    hers = make_bundle({"a.txt": b"a"}, build="shareable", public=False)
    make_run(owner=ada, public=False, bundle=hers)
    client.force_login(ada)
    own = ["/account/", "/runs/", f"/bundles/{hers.pk}/"]
    found |= {f"{address} of ada": client.get(address).content.decode() for address in own}
    made = client.post("/account/", {"name": "a script", "scopes": ["read"]})
    wrong = client.post("/account/", {"name": "", "scopes": ["all"]})
    return found | {"made": made.content.decode(), "wrong": wrong.content.decode()}


def test_no_page_has_inline_code_or_styles(pages):
    for address, html in pages.items():
        assert Page(html).inline == [], address


def test_every_field_has_a_label_and_every_id_is_there_once(pages):
    for address, html in pages.items():
        page = Page(html)
        assert set(page.fields) <= page.labels, address
        assert len(page.ids) == len(set(page.ids)), address


def test_headings_begin_with_one_first_and_skip_no_level(pages):
    for address, html in pages.items():
        levels = Page(html).headings
        assert levels.count(1) == 1, address
        main = levels[levels.index(1) :]
        assert all(b - a <= 1 for a, b in itertools.pairwise(main)), (address, levels)


def test_pages_forbid_code_from_elsewhere(client):
    policy = client.get("/datasets/")["Content-Security-Policy"]

    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_static_files_that_pages_name_are_there(pages, client):
    names = {name for html in pages.values() for name in re.findall(r'"(/static/[^"]+)"', html)}

    assert len(names) > 6
    for name in names:
        assert client.get(name).status_code == 200, name


def _luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_can_be_read_on_every_ground_it_stands_on(scheme):
    part = TOKENS.read_text().split("@media")[scheme]
    token = dict(re.findall(r"--([\w-]+):\s*(#[0-9a-f]{6})", part))
    pairs = [(text, "ground") for text in ("text", "muted", "accent", "accent-strong")]
    pairs += [(text, "surface") for text in ("text", "muted", "accent", "good", "warn", "bad")]
    pairs += [("muted", "raised"), ("text", "raised"), ("on-accent", "accent")]
    pairs += [("on-accent", "accent-strong"), ("accent-strong", "accent-soft")]
    pairs += [(mood, f"{mood}-soft") for mood in ("good", "warn", "bad")]
    pairs += [("text", f"{mood}-soft") for mood in ("good", "warn", "bad")]

    low = {pair: _contrast(token[pair[0]], token[pair[1]]) for pair in pairs}

    assert {pair: ratio for pair, ratio in low.items() if ratio < 4.5} == {}
