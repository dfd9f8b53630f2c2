"""The changelog, harvests and what waits of them, as pages, feed and API."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from datetime import timedelta

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.utils.timezone import now

from catalog import services
from catalog.curation import propose
from catalog.importers.cells import make_claim
from catalog.importers.entry import Entry
from catalog.models import CatalogLink, CatalogRevision, Dataset, HarvestChange, LinkHost
from catalog.record import Count
from catalog.refresh import Reading, begin, fail, take
from portal.models import CURATORS, ApiToken

pytestmark = pytest.mark.django_db
ATOM = "{http://www.w3.org/2005/Atom}"
SOURCE = "openneuro"


def entry(ref, licence="CC0-1.0", number=20):
    facts = {
        "modalities": make_claim("modalities", ["MR"], SOURCE),
        "licence": make_claim("licence", licence, SOURCE),
    }
    count = Count(number=number, unit="subject", source=SOURCE)
    return Entry(source=SOURCE, ref=ref, name=f"Set {ref}", facts=facts, counts=(count,))


@pytest.fixture(autouse=True)
def harvests(tmp_path, monkeypatch, settings):
    """Two harvests: one of three datasets, one that changes two of them, one of these for good."""
    settings.SEARCH_DIR = tmp_path / "search"
    monkeypatch.setattr(services, "read_tables", lambda _: {})
    first, second = begin(SOURCE), None
    take(first, Reading([entry("ds1"), entry("ds2"), entry("ds3")], "a"))
    second = begin(SOURCE)
    found = [entry("ds1", "CC-BY-NC-4.0"), entry("ds2", number=30), entry("ds3"), entry("ds<4>")]
    take(second, Reading(found, "b", [("ds9", "no number")]))
    return first, second


@pytest.fixture
def curator():
    user = User.objects.create_user("ann")
    user.groups.add(Group.objects.get_or_create(name=CURATORS)[0])
    client = Client()
    client.force_login(user)
    return client


def html(client, address, status=200):
    answer = client.get(address)
    assert answer.status_code == status, address
    return answer.content.decode()


def test_the_changelog_lists_versions_and_a_version_its_changes(client):
    page = html(client, "/versions/")
    assert page.index("Version 2") < page.index("Version 1")
    assert "harvest of openneuro" in page

    detail = html(client, "/versions/2/")
    assert "<del>20 subjects</del>" in detail
    assert "<ins>30 subjects</ins>" in detail
    assert "Set ds&lt;4&gt;" in detail
    assert "CC-BY-NC-4.0" not in detail  # it waits
    assert "Everything is new in it" in html(client, "/versions/1/")
    html(client, "/versions/3/", 404)


def test_the_feed_of_versions_is_answered_once(client):
    answer = client.get("/versions/feed/")
    feed = ET.fromstring(answer.content)  # noqa: S314 - our own answer

    titles = [one.findtext(f"{ATOM}title") for one in feed.iter(f"{ATOM}entry")]
    assert titles == [
        "Version 2: 1 new, 1 changed, 0 gone",
        "Version 1: 3 new, 0 changed, 0 gone",
    ]
    assert (
        client.get("/versions/feed/", headers={"If-None-Match": answer["ETag"]}).status_code == 304
    )


def test_the_diff_report_shows_old_and_new_and_what_could_not_be_read(client, harvests):
    _, second = harvests
    assert "1 change wait" in html(client, "/harvests/")

    page = html(client, f"/harvests/{second.pk}/")
    assert "<del>CC0-1.0</del>" in page
    assert "<ins>CC-BY-NC-4.0</ins>" in page
    assert "ds9: no number" in page
    assert "30 subject" not in html(client, f"/harvests/{second.pk}/?state=waiting")
    assert "checkbox" not in page


def test_a_failed_harvest_says_why(client):
    row = begin(SOURCE)
    fail(row, "answered 404 <here>")

    assert "answered 404 &lt;here&gt;" in html(client, f"/harvests/{row.pk}/")


def test_curators_decide_on_what_waits(client, curator):
    (change,) = HarvestChange.objects.filter(state="waiting")
    given = {"change": change.pk, "decision": "accept", "reason": "its page says so"}
    assert client.post("/harvests/decide/", given)["Location"].startswith("/login/")
    assert Client().post("/harvests/decide/").status_code == 302
    other = Client()
    other.force_login(User.objects.create_user("bob"))
    assert other.post("/harvests/decide/", given).status_code == 403
    assert f'value="{change.pk}"' in html(curator, "/harvests/waiting/")

    assert curator.post("/harvests/decide/", given).status_code == 302

    assert Dataset.objects.get(slug="openneuro-ds1").licence == "CC-BY-NC-4.0"
    assert "No change waits" in html(curator, "/harvests/waiting/")
    assert "ann accepted changes of openneuro" in html(client, "/versions/")


def test_the_api_lists_versions_harvests_and_changes(client, harvests):
    versions = client.get("/api/v1/catalog/versions/?page_size=1").json()
    assert (versions["total"], versions["results"][0]["number"]) == (2, 2)
    detail = client.get("/api/v1/catalog/versions/2/").json()
    kinds = {one["slug"]: one["kind"] for one in detail["changes"]}
    assert kinds == {"openneuro-ds2": "changed", "openneuro-ds-4": "new"}

    rows = client.get("/api/v1/catalog/harvests/?source=openneuro").json()["results"]
    assert [row["id"] for row in rows] == [one.pk for one in reversed(harvests)]
    assert rows[0]["revision"] == 2
    one = client.get(f"/api/v1/catalog/harvests/{rows[0]['id']}/").json()
    assert one == rows[0]
    waiting = client.get("/api/v1/catalog/changes/?state=waiting").json()["results"]
    assert [(row["ref"], row["before"], row["after"]) for row in waiting] == [
        ("ds1", {"licence": "CC0-1.0"}, {"licence": "CC-BY-NC-4.0"})
    ]
    assert client.get("/api/v1/catalog/harvests/?source=x").status_code == 400
    assert client.get("/api/v1/catalog/statistics/").json()["version"] == 2


def test_the_api_decides_for_tokens_of_curators_alone(client):
    user = User.objects.create_user("ann")
    user.groups.add(Group.objects.get_or_create(name=CURATORS)[0])
    (change,) = HarvestChange.objects.filter(state="waiting")
    body = {"ids": [change.pk, 10**6], "decision": "reject", "reason": "a slip"}

    def post(scope, owner=user):
        _, text = ApiToken.objects.issue(owner, "t", [scope])
        return client.post(
            "/api/v1/catalog/changes/decide/",
            body,
            "application/json",
            headers={"Authorization": f"Bearer {text}"},
        )

    assert post("run").status_code == 403
    assert post("curate", User.objects.create_user("bob")).status_code == 403
    done = post("curate").json()
    assert [one["state"] for one in done["decided"]] == ["rejected"]
    assert done["version"] is None
    assert post("curate").json()["decided"] == []
    assert Dataset.objects.get(slug="openneuro-ds1").licence == "CC0-1.0"


def test_one_page_and_the_api_lead_to_everything_that_waits_for_curators(client):
    dataset = Dataset.objects.get(slug="openneuro-ds1")
    propose(dataset, "year", 2012, url="https://x.org/", quote="in 2012")
    host = LinkHost.objects.create(name="x.org")
    gone = now() - timedelta(days=3)
    CatalogLink.objects.create(
        url="https://x.org/", host=host, state="broken", since=gone, next_at=now()
    )
    fail(begin("idc"), "answered 404")
    fail(begin("idc"), "answered 404 again")

    found = client.get("/api/v1/catalog/waiting/").json()
    page = html(client, "/waiting/")

    rows = {one["name"]: one for one in found["results"]}
    assert {name: one["count"] for name, one in rows.items()} == {
        "corrections": 1, "changes of sources": 1, "broken addresses": 1, "failed harvests": 1,
    }  # fmt: skip
    assert found["total"] == 4
    assert rows["broken addresses"]["since"].startswith(f"{gone:%Y-%m-%d}")
    for one in rows.values():
        assert f'href="{one["page"].replace("&", "&amp;")}"' in page
        html(client, one["page"])
        listed = client.get(one["api"]).json()
        assert one["name"] == "failed harvests" or listed["total"] in {0, one["count"]}
    assert client.get("/api/v1/catalog/waiting/?x=1").status_code == 400


def test_pages_take_few_queries(client, django_assert_max_num_queries):
    for address in (
        "/versions/",
        "/versions/2/",
        "/harvests/",
        "/harvests/waiting/",
        "/waiting/",
    ):
        with django_assert_max_num_queries(12):
            html(client, address)
    assert CatalogRevision.objects.current().loaded_at > now() - timedelta(minutes=5)
