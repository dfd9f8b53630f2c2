"""A saved search is an Atom feed."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from datetime import UTC, datetime, timedelta

import pytest

from catalog.models import Dataset
from tests.factories import make_dataset

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("datasets")]
ATOM = "{http://www.w3.org/2005/Atom}"
FEED = "/datasets/feed/"


def read(answer) -> ET.Element:
    assert answer.status_code == 200
    assert answer["Content-Type"] == "application/atom+xml; charset=utf-8"
    return ET.fromstring(answer.content)  # noqa: S314 - our own answer


def slugs(feed: ET.Element) -> list[str]:
    ids = [entry.findtext(f"{ATOM}id", "") for entry in feed.iter(f"{ATOM}entry")]
    return [one.rpartition("/")[2] for one in ids]


def change(slug: str, moment: datetime) -> None:
    Dataset.objects.filter(slug=slug).update(updated_at=moment)


def test_matching_datasets_come_newest_change_first(client):
    start = datetime(2026, 1, 1, tzinfo=UTC)
    for days, slug in enumerate(("second-fundus", "icbm152-2009a", "first-fundus")):
        change(slug, start + timedelta(days=days))

    feed = read(client.get(FEED, {"q": "fundus"}))

    assert slugs(feed) == ["first-fundus", "second-fundus"]
    change("second-fundus", start + timedelta(days=9))
    assert slugs(read(client.get(FEED, {"q": "fundus"}))) == ["second-fundus", "first-fundus"]


def test_it_is_a_whole_atom_feed(client):
    feed = read(client.get(FEED, {"modality": "Fundus photography", "year_from": "2000"}))

    moment = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
    assert feed.tag == f"{ATOM}feed"
    address = "http://testserver/datasets/feed/?modality=Fundus+photography&year_from=2000"
    assert feed.findtext(f"{ATOM}id") == address
    assert feed.findtext(f"{ATOM}author/{ATOM}name")
    assert feed.findtext(f"{ATOM}title") == (
        "Datasets: Modality: Fundus photography, Year from: 2000"
    )
    ways = {link.get("rel"): link.get("href") for link in feed.findall(f"{ATOM}link")}
    assert ways["self"] == address
    assert ways["alternate"] == address.replace("feed/", "")
    (entry,) = feed.findall(f"{ATOM}entry")
    assert entry.findtext(f"{ATOM}id") == "tag:testserver,2026:dataset/first-fundus"
    assert entry.findtext(f"{ATOM}title") == "First Fundus"
    assert "Licence: CC-BY-4.0." in entry.findtext(f"{ATOM}summary", "")
    assert entry.find(f"{ATOM}link").get("href") == "http://testserver/datasets/first-fundus/"
    for one in (feed, entry):
        assert moment.fullmatch(one.findtext(f"{ATOM}updated", ""))


def test_an_entry_keeps_its_id_when_the_dataset_changes(client):
    before = read(client.get(FEED, {"q": "first"}))
    Dataset.objects.filter(slug="first-fundus").update(name="First Fundus, again")
    change("first-fundus", datetime(2030, 1, 1, tzinfo=UTC))
    after = read(client.get(FEED, {"q": "first"}))

    one, other = (feed.find(f"{ATOM}entry") for feed in (before, after))
    assert one.findtext(f"{ATOM}id") == other.findtext(f"{ATOM}id")
    assert one.findtext(f"{ATOM}updated") != other.findtext(f"{ATOM}updated")


def test_near_matches_are_not_in_it(client):
    feed = read(client.get(FEED, {"q": "fundus", "licence": "CC-BY-4.0"}))

    assert slugs(feed) == ["first-fundus"]
    assert slugs(read(client.get(FEED, {"q": "nothingofthekind"}))) == []


def test_it_holds_more_than_one_page_of_the_search_and_no_more_than_asked(client):
    for n in range(30):
        make_dataset(f"many-{n}", modalities=["OCT"])

    assert len(slugs(read(client.get(FEED, {"modality": "OCT", "page": "2"})))) == 30
    few = read(client.get(FEED, {"modality": "OCT", "limit": "7", "sort": "name"}))
    assert len(slugs(few)) == 7
    assert few.findtext(f"{ATOM}subtitle", "").startswith("7 of 30 ")


def test_a_reader_that_has_it_already_gets_nothing_until_the_catalog_changes(client):
    first = client.get(FEED, {"q": "fundus"})
    again = {"if-none-match": first["ETag"]}

    assert client.get(FEED, {"q": "fundus"}, headers=again).status_code == 304
    assert client.get(FEED, {"q": "brain"}, headers=again).status_code == 200
    make_dataset("third-fundus", modalities=["Fundus photography"])
    assert client.get(FEED, {"q": "fundus"}, headers=again).status_code == 200


def test_text_from_outside_can_break_neither_feed_nor_reader(client):
    make_dataset("evil", name="<script>alert(1)</script> & co", modalities=["OCT"])

    feed = read(client.get(FEED, {"q": "\x00\x0b\ufffe<script>", "modality": "OCT"}))

    assert slugs(feed) == ["evil"]
    summary = feed.findtext(f"{ATOM}entry/{ATOM}summary", "")
    assert "<script>" not in summary  # a reader shows it as HTML
    assert "&lt;script&gt;" in summary
    assert feed.findtext(f"{ATOM}entry/{ATOM}title") == "<script>alert(1)</script> & co"


def test_a_slip_is_a_400_that_names_the_nearest(client):
    answer = client.get(FEED, {"modality": "Fundus fotography", "sort": "newst"})

    assert answer.status_code == 400
    said = answer.content.decode()
    assert "Fundus photography" in said
    assert "newest" in said


def test_a_search_page_names_the_feed_of_its_search(client):
    params = {"q": "fundus", "access": "open", "sort": "name", "page": "1"}
    html = client.get("/datasets/", params).content.decode()

    ways = re.findall(r'<(link|a) [^>]*href="(/datasets/feed/[^"]*)"', html)
    named = re.findall(
        r'<link rel="alternate" type="application/atom\+xml"[^>]*href="([^"]+)"', html
    )
    assert {tag for tag, _ in ways} >= {"a"}
    assert {*named, *(way for _, way in ways)} == {"/datasets/feed/?q=fundus&amp;access=open"}
    address = named[0].replace("&amp;", "&")
    assert slugs(read(client.get(address))) == ["second-fundus"]
