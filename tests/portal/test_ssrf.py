"""Addresses that users give lead to public hosts alone: in notices, recipes and corrections."""
# ruff: noqa: RUF001, S104 - addresses that look like others

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator

import pytest
from django.contrib.auth.models import User

from fusion.errors import BuildError
from fusion.locations import S3, Http, HttpFile, place_of
from fusion.sources import acquire
from fusion.sources.safety import FetchRules
from fusion.sources.safety import client as guarded
from tests.factories import make_run
from tests.fusion.made import member, recipe
from tests.fusion.servers import Site, serving
from workers.links import probe
from workers.models import RunNotice
from workers.notices import NoticeError, check_address, deliver

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("datasets")]
INNER_HOSTS = [
    "127.0.0.1", "localhost", "LOCALHOST", "localhost.", "127.1", "127.0.1", "0", "0.0.0.0",
    "2130706433", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1", "017700000001", "127.0.0.1.",
    "１２７.0.0.1", "127。0。0。1", "ⓛocalhost", "[::1]", "[::]", "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]",
    "[64:ff9b:1::7f00:1]", "[2002:7f00:1::]", "[2001:0:7f00:1::]", "[fe80::1]", "[fe80::1%25lo]",
    "[fc00::1]", "[fd00:ec2::254]", "[fec0::1]", "[ff02::1]", "[2001:db8::1]", "10.0.0.1",
    "172.16.0.1", "192.168.1.1", "169.254.169.254", "2852039166", "100.64.0.1", "192.0.0.8",
    "192.0.2.1", "198.18.0.1", "203.0.113.1", "224.0.0.1", "240.0.0.1", "255.255.255.255",
    "loopback.test", "mixed.test",
]  # fmt: skip
OTHER_ADDRESSES = [
    "file:///etc/passwd", "ftp://127.0.0.1/", "gopher://127.0.0.1/", "dict://127.0.0.1/",
    "ldap://127.0.0.1/", "unix:///var/run/docker.sock", "data:text/plain,x", "javascript:alert(1)",
    "//127.0.0.1/x", "http:/127.0.0.1/x", "http://user@127.0.0.1/x",
    "http://example.org@127.0.0.1/x", "http://127.0.0.1\\@example.org/x", "http:///x", "http://",
    "http://[::1/x", "", " ", "http://127.0.0.1/x\r\nHost: example.org",
]  # fmt: skip


@pytest.fixture
def port(monkeypatch) -> Iterator[int]:
    """Of a server on all loopback addresses that nobody may reach; some names lead there."""
    real = socket.getaddrinfo

    def named(host, *args, **named):
        known = {"loopback.test": ["127.0.0.1"], "mixed.test": ["8.8.8.8", "127.0.0.1"]}
        name = host.decode() if isinstance(host, bytes) else host
        if name not in known:
            return real(host, *args, **named)
        return [row for one in known[name] for row in real(one, *args, **named)]

    monkeypatch.setattr(socket, "getaddrinfo", named)
    reached = []
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server:

        def accept() -> None:
            while True:
                try:
                    reached.append(server.accept()[0])
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
    assert reached == []


def refused(place: Http | S3, folder, rules: FetchRules | None = None) -> BuildError:
    with pytest.raises(BuildError) as caught:
        acquire(place, data_root=folder, cache=folder / "cache", rules=rules or FetchRules())
    return caught.value


@pytest.mark.parametrize("host", INNER_HOSTS)
def test_no_inner_host_is_asked_for_anything(host, port, tmp_path, monkeypatch):
    monkeypatch.setattr("fusion.sources.download.FIRST_WAIT", 0)
    url = f"http://{host}:{port}"
    with pytest.raises(NoticeError, match="url: "):
        check_address(f"{url}/hook")
    try:
        file = HttpFile(url=f"{url}/a.zip")
    except ValueError:
        pass  # refused before that
    else:
        error = refused(Http(kind="http", files=[file]), tmp_path)
        assert error.code in {"url_refused", "source_failed"}
    with guarded(FetchRules(attempts=1)) as http:
        answer = probe(http, f"{url}/page")
    assert answer.status is None


@pytest.mark.parametrize("host", ["127.0.0.1", "0x7f000001", "[::1]", "loopback.test"])
def test_no_inner_store_is_asked_for_anything(host, port, tmp_path):
    store = S3(kind="s3", bucket="bucket", endpoint=f"http://{host}:{port}")

    assert refused(store, tmp_path).code == "url_refused"


def test_a_store_that_is_not_reached_is_no_fault_of_ours(tmp_path, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)  # of botocore, between its attempts
    store = S3(kind="s3", bucket="bucket", endpoint="http://nowhere.invalid")

    assert refused(store, tmp_path).code == "source_failed"


@pytest.mark.parametrize("url", OTHER_ADDRESSES)
def test_no_other_kind_of_address_is_taken(url, client):
    with pytest.raises(NoticeError, match="url: "):
        check_address(url)
    with pytest.raises(ValueError, match="validation error"):
        HttpFile(url=url)
    if url:  # none: the operator's own store
        with pytest.raises(ValueError, match="validation error"):
            S3(kind="s3", bucket="bucket", endpoint=url)
    if not url.startswith("http://"):
        body = {"field": "year", "value": 2001, "url": url, "quote": "2001"}
        kind = "application/json"
        answer = client.post("/api/v1/datasets/first-fundus/corrections/", body, kind)
        assert answer.status_code in {400, 422}


def test_notices_are_refused_on_the_page_and_by_the_api(port, client):
    user = User.objects.create_user("ada")
    client.force_login(user)
    run = make_run(owner=user)
    for url in (f"http://127.0.0.1:{port}/", f"http://loopback.test:{port}/", "file:///etc/passwd"):
        body = json.dumps({"kind": "hook", "url": url})
        answer = client.post(f"/api/v1/runs/{run.pk}/notices/", body, "application/json")
        assert answer.status_code == 422
        answer = client.post(f"/runs/{run.pk}/notices/", {"kind": "hook", "url": url})
        assert answer.status_code == 422

    assert not RunNotice.objects.exists()


def test_recipes_with_inner_addresses_fetch_nothing(port, client, tmp_path):
    """What a recipe may name is decided when it is fetched: networks are the operator's choice."""
    for place in (
        {"kind": "http", "files": [{"url": f"http://127.0.0.1:{port}/a.zip"}]},
        {"kind": "s3", "bucket": "bucket", "endpoint": f"http://127.0.0.1:{port}"},
    ):
        made = recipe({**member("a"), "dataset": "first-fundus", "location": place})
        answer = client.post("/api/v1/recipes/validate/", {"recipe": made}, "application/json")
        assert answer.status_code == 200, answer.text
        assert refused(place_of(place), tmp_path).code == "url_refused"


@pytest.mark.parametrize("there", ["http://127.0.0.2:{port}/", "http://[::1]:{port}/"])
def test_a_redirect_inside_is_not_followed(port, tmp_path, there, settings):
    target = there.format(port=port)
    outer = ("127.0.0.1/32",)
    site = Site()
    with serving(site) as url:
        site.redirects |= dict.fromkeys(("/a.zip", "/page", "/bucket", "/bucket/"), target)
        rules = FetchRules(networks=outer, attempts=1)
        file = Http(kind="http", files=[HttpFile(url=f"{url}/a.zip")])
        assert refused(file, tmp_path, rules).code == "url_refused"
        store = S3(kind="s3", bucket="bucket", endpoint=url)
        assert refused(store, tmp_path, rules).code == "url_refused"
        with guarded(rules) as http:
            assert probe(http, f"{url}/page").refused
        settings.FETCH_NETWORKS = list(outer)
        owner = User.objects.create_user("ada")
        run = make_run(owner=owner, state="succeeded")
        hook = RunNotice.objects.create(run=run, owner=owner, kind="hook", target=f"{url}/page")
        deliver(hook.pk)
    hook.refresh_from_db()
    assert hook.state == "waiting"
    assert len({path for _, path, _ in site.asked}) >= 3
