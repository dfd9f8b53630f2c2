"""Link checks against a server that answers what real ones answer."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from typing import Any
from urllib.parse import urldefrag

import pytest
import yaml
from django.core.management import call_command
from django.utils.timezone import now

from catalog.links import FILE, Answer, claim_host, judge, release, successor, sync_links
from catalog.models import CatalogLink, Dataset, LinkCheck, LinkHost
from tests.factories import make_dataset
from workers.links import check_due

LOGIN = b"<html><form><input name=user><input type='password' name=p></form></html>"


class Web:
    """Paths with what they answer, in turn: status, headers, body; the last one for ever."""

    def __init__(self) -> None:
        self.answers: dict[str, list[tuple[int, dict[str, str], bytes]]] = {}
        self.asked: list[tuple[str, str, float]] = []
        self.no_head: set[str] = set()
        self.silent: set[str] = set()
        self.url = ""

    def put(self, path: str, *answers: tuple[int, dict[str, str], bytes]) -> str:
        self.answers[path] = list(answers)
        return self.url + path

    def paths(self) -> list[str]:
        return [f"{method} {path}" for method, path, _ in self.asked]


class Handler(BaseHTTPRequestHandler):
    web: Web
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.web.asked.append((self.command, self.path, time.monotonic()))
        if self.path in self.web.silent:
            time.sleep(1.5)
            self.close_connection = True
            return
        waiting = self.web.answers.get(self.path, [(404, {}, b"")])
        turn = waiting.pop(0) if len(waiting) > 1 and self.command == "GET" else waiting[0]
        status, headers, body = turn
        if self.command == "HEAD" and self.path in self.web.no_head:
            status, headers, body = 405, {}, b""
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def web(settings: Any, monkeypatch: Any) -> Iterator[Web]:
    settings.FETCH_NETWORKS = ["127.0.0.0/8"]
    settings.LINK_PAUSE_SECONDS = 0
    monkeypatch.setattr("workers.links.TIMEOUT", 0.5)
    made = Web()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"web": made}))
    made.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield made
    server.shutdown()
    server.server_close()


PAGE = (200, {"Content-Type": "text/html"}, b"<h1>A dataset</h1>")


def dataset(*urls: str, slug: str = "alpha") -> None:
    make_dataset(slug, links=[{"url": url, "source": "curation"} for url in urls])


def check() -> dict[str, CatalogLink]:
    """Let everything be due, check, and give the rows by path."""
    CatalogLink.objects.update(next_at=now())
    LinkHost.objects.update(quiet_until=None)
    check_due(20)
    return {re.sub(r"^\w+://[^/]+", "", row.url): row for row in CatalogLink.objects.all()}


@pytest.mark.django_db
def test_what_servers_answer_is_told_apart(web: Web):
    web.put("/page", PAGE)
    web.put("/zip", (200, {"Content-Type": "application/zip"}, b"PK"))
    web.put("/a", (301, {"Location": "/b"}, b""))
    web.put("/b", (308, {"Location": "/new"}, b""))
    web.put("/new", PAGE)
    web.put("/doi", (302, {"Location": "/new"}, b""))
    web.put("/slash", (301, {"Location": "/slash/"}, b""))
    web.put("/slash/", PAGE)
    web.put("/gone", (410, {}, b""))
    web.put("/wall", (200, {"Content-Type": "text/html"}, LOGIN))
    web.put("/led", (302, {"Location": "/accounts/login?next=x"}, b""))
    web.put("/accounts/login?next=x", PAGE)
    web.put("/needs", (401, {}, b""))
    web.put("/robots", (403, {}, b""))
    web.no_head.add("/page")
    dataset(*(f"{web.url}{path}" for path in [*web.answers, "/nowhere"]))

    found = check()

    states = {path: row.state for path, row in found.items()}
    assert states == {
        "/page": "ok",
        "/zip": "ok",
        "/a": "moved",
        "/b": "moved",
        "/new": "ok",
        "/doi": "ok",
        "/slash": "ok",
        "/slash/": "ok",
        "/gone": "broken",
        "/wall": "sign-in",
        "/led": "sign-in",
        "/accounts/login?next=x": "ok",
        "/needs": "sign-in",
        "/robots": "denied",
        "/nowhere": "failing",
    }
    assert found["/a"].final_url == f"{web.url}/new"
    (last,) = LinkCheck.objects.filter(link=found["/a"])
    assert last.hops == [[301, f"{web.url}/b"], [308, f"{web.url}/new"]]
    assert "GET /zip" not in web.paths()
    assert found["/nowhere"].next_at - found["/nowhere"].checked_at == timedelta(hours=6)


@pytest.mark.django_db
def test_a_link_is_broken_after_three_failures_and_heals(web: Web):
    web.put("/x", (404, {}, b""), (404, {}, b""), (404, {}, b""), PAGE)
    dataset(f"{web.url}/x")

    states = [check()["/x"].state for _ in range(3)]
    web.answers["/x"] = [PAGE]
    healed = check()["/x"]

    assert states == ["failing", "failing", "broken"]
    assert (healed.state, healed.failures, healed.detail) == ("ok", 0, "")
    assert [one.state for one in healed.checks.all()] == ["ok", "broken", "failing", "failing"]


@pytest.mark.django_db
def test_a_fault_that_passes_is_no_broken_link(web: Web):
    web.put("/x", (500, {}, b""), (200, {"Content-Type": "text/html"}, b"back"))
    dataset(f"{web.url}/x")

    first, second = check()["/x"], check()["/x"]

    assert (first.state, first.status, second.state, second.failures) == ("failing", 500, "ok", 0)


@pytest.mark.django_db
@pytest.mark.parametrize("status", [429, 503])
def test_a_host_that_asks_to_wait_is_left_alone_so_long(web: Web, status):
    web.put("/a", (status, {"Retry-After": "120"}, b""))
    web.put("/b", PAGE)
    dataset(f"{web.url}/a", f"{web.url}/b")

    check()

    assert web.paths() == ["HEAD /a"]
    first = CatalogLink.objects.get(url=f"{web.url}/a")
    assert (first.state, first.failures) == ("unchecked", 0)
    assert 100 < (first.next_at - now()).total_seconds() <= 120
    check_due(5)
    assert web.paths() == ["HEAD /a"]
    LinkHost.objects.update(quiet_until=now())
    check_due(5)
    assert "GET /b" in web.paths()


@pytest.mark.django_db
def test_a_silent_host_is_given_up_after_three_links(web: Web):
    paths = [f"/{number}" for number in range(5)]
    web.silent.update(paths)
    dataset(*(f"{web.url}{path}" for path in paths))

    found = check()

    assert [found[path].state for path in paths] == ["failing"] * 3 + ["unchecked"] * 2
    assert "Timeout" in found["/0"].detail
    assert LinkHost.objects.get().quiet_until > now() + timedelta(minutes=50)


@pytest.mark.django_db
def test_requests_to_one_host_keep_their_distance(web: Web, settings: Any):
    settings.LINK_PAUSE_SECONDS = 0.3
    dataset(*(web.put(f"/{n}", (200, {"Content-Type": "application/zip"}, b"PK")) for n in "abc"))

    check()

    times = [moment for _, _, moment in web.asked]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert len(gaps) == 2
    assert min(gaps) >= 0.29


@pytest.mark.django_db
def test_inner_addresses_are_not_asked(web: Web, settings: Any):
    settings.FETCH_NETWORKS = []
    web.put("/x", PAGE)
    dataset(f"{web.url}/x")

    row = check()["/x"]

    assert (row.state, web.asked) == ("broken", [])
    assert "no public address" in row.detail


@pytest.mark.django_db
def test_a_redirect_to_an_inner_address_is_not_followed(web: Web):
    web.put("/x", (302, {"Location": "http://169.254.169.254/latest/"}, b""))
    dataset(f"{web.url}/x")

    row = check()["/x"]

    assert (row.state, "no public address" in row.detail) == ("broken", True)


@pytest.mark.django_db
def test_a_host_is_claimed_once_until_it_is_released():
    dataset("https://a.example/1", "https://a.example/2", "https://b.example/")
    sync_links()

    claimed = [claim_host(), claim_host(), claim_host()]

    assert [host and host.name for host in claimed] == ["a.example", "b.example", None]
    release(claimed[0])
    assert claim_host().name == "a.example"
    LinkHost.objects.update(lease_until=now() - timedelta(seconds=1))
    assert claim_host() is not None


@pytest.mark.django_db(transaction=True)
def test_two_rounds_at_once_do_no_double_work(web: Web):
    urls = [web.put(f"/{n}", (200, {"Content-Type": "application/zip"}, b"")) for n in range(12)]
    dataset(*urls)
    sync_links()
    rounds = [threading.Thread(target=check_due, args=(20,)) for _ in range(2)]

    for one in rounds:
        one.start()
    for one in rounds:
        one.join()

    assert sorted(web.paths()) == sorted(f"HEAD /{n}" for n in range(12))
    assert LinkCheck.objects.count() == 12


@pytest.mark.django_db
def test_addresses_follow_the_catalog():
    dataset("https://a.example/1", "https://wiki.cancerimagingarchive.net/display/Public/ACRIN-X")
    assert sync_links() == 3
    later = "https://www.cancerimagingarchive.net/collection/acrin-x/"
    assert set(CatalogLink.objects.values_list("successor", flat=True)) == {"", later}

    Dataset.objects.all().delete()
    dataset("https://a.example/1")
    assert sync_links() == 1
    assert CatalogLink.objects.get().url == "https://a.example/1"


WIKI = "https://wiki.cancerimagingarchive.net"
TCIA = "https://www.cancerimagingarchive.net"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (f"{WIKI}/display/Public/QIN+LUNG+CT", f"{TCIA}/collection/qin-lung-ct/"),
        (f"{WIKI}/display/Public/CPTAC-OV#70227856bcab", f"{TCIA}/collection/cptac-ov/"),
        (f"{WIKI}/pages/viewpage.action?pageId=1966254", f"{TCIA}/collection/lidc-idri/"),
        (f"{WIKI}/display/NLST/National+Lung+Screening+Trial", f"{TCIA}/collection/nlst/"),
        (f"{WIKI}/pages/viewpage.action?pageId=93258287", "https://doi.org/10.7937/gkr0-xv29"),
        (f"{WIKI}/pages/viewpage.action?pageId=1", ""),
        ("https://example.org/display/Public/X", ""),
    ],
)
def test_retired_pages_have_their_successor(old, new):
    assert successor(old) == new


def test_rules_agree_with_every_record_that_knows_both_addresses(shipped):
    wiki = re.compile(r"https?://wiki\.cancerimagingarchive\.net/")
    site = re.compile(r"https://www\.cancerimagingarchive\.net/(collection|analysis-result)/")
    checked = 0
    for facts in shipped.values():
        urls = [link["url"] for link in facts["links"]]
        new = {url for url in urls if site.match(url)}
        for url in filter(wiki.match, urls):
            if len(new) == 1:
                assert {successor(url)} == new, facts["slug"]
                checked += 1
    assert checked > 50


def test_each_single_page_has_its_evidence_in_a_record(shipped):
    for row in yaml.safe_load(FILE.read_text())["pages"]:
        facts = shipped[row["record"]]
        urls = {urldefrag(link["url"]).url for link in facts["links"]}
        assert row["from"] in urls, row
        doi = row["to"].removeprefix("https://doi.org/")
        assert row["to"] in urls or doi.casefold() == str(facts["doi"]).casefold(), row


def test_a_page_of_the_wiki_without_a_successor_is_one_that_no_record_knows_better(shipped):
    wiki = re.compile(r"https?://wiki\.cancerimagingarchive\.net/")
    left = set()
    for facts in shipped.values():
        for url in {urldefrag(link["url"]).url for link in facts["links"]}:
            if wiki.match(url) and not successor(url):
                assert not str(facts["doi"]).startswith("10.7937/"), facts["slug"]
                left.add(url)
    assert len(left) <= 8


def test_one_failure_less_than_the_cap_is_not_broken():
    answer = Answer(None, error="ConnectTimeout")

    assert judge("https://a.example/", answer, 1) == ("failing", "ConnectTimeout")
    assert judge("https://a.example/", answer, 2) == ("broken", "ConnectTimeout")


@pytest.mark.django_db
def test_the_command_checks_a_dataset_now_and_lists_what_is_broken(web: Web, capsys: Any):
    web.put("/gone", (410, {}, b""))
    web.put("/x", PAGE)
    dataset(f"{web.url}/gone", slug="alpha")
    dataset(f"{web.url}/x", slug="beta")

    call_command("check_links", "alpha")
    call_command("check_links", list=True)

    said = capsys.readouterr().out
    assert "1 checked: 1 broken" in said
    assert f"broken {web.url}/gone: answered 410: alpha" in said
    assert web.paths() == ["HEAD /gone", "GET /gone"]


@pytest.mark.django_db
def test_pages_and_api_show_checks(web: Web, client: Any):
    web.put("/gone", (410, {}, b""))
    web.put("/a", (301, {"Location": "/new"}, b""))
    web.put("/new", PAGE)
    dataset(f"{web.url}/gone", f"{web.url}/a")
    check()

    page = client.get("/datasets/alpha/").content.decode()
    assert "Its addresses, as last checked" in page
    assert f"301 to {web.url}/new" in page
    broken = client.get("/links/").content.decode()
    assert f"{web.url}/gone" in broken
    assert f"{web.url}/a" not in broken
    assert "Alpha" in broken
    assert f"{web.url}/a" in client.get("/links/?state=moved").content.decode()
    (row,) = client.get("/api/v1/catalog/links/?state=broken").json()["results"]
    assert (row["url"], row["datasets"], row["status"]) == (f"{web.url}/gone", ["alpha"], 410)
    rows = client.get("/api/v1/datasets/alpha/links/").json()["results"]
    assert [one["checks"][0]["state"] for one in rows] == ["moved", "broken"]
