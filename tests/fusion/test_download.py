"""Files over HTTP into the shared cache, from a server with every fault that servers have."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import signal
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from fusion.errors import BuildError, CancelledError
from fusion.locations import place_of
from fusion.sources import acquire
from fusion.sources.safety import FetchRules
from tests.conftest import ROOT
from tests.fusion.servers import Site, serving

RULES = FetchRules(networks=("127.0.0.0/8",))
BODY = os.urandom(300_000)


@pytest.fixture
def site():
    return Site(files={"/a/scan.bin": BODY, "/b.txt": b"words"})


@pytest.fixture
def url(site):
    with serving(site) as address:
        yield address


def fetch(cache: Path, *files, rules=RULES, check=lambda: None, **more):
    rows = [{"url": one} if isinstance(one, str) else one for one in files]
    place = place_of({"kind": "http", "files": rows, **more})
    return acquire(place, data_root=cache, cache=cache, rules=rules, check=check)


def refusal(cache: Path, *files, **more) -> BuildError:
    with pytest.raises(BuildError) as caught:
        fetch(cache, *files, **more)
    return caught.value


def test_files_come_once_and_are_shared_by_all_that_want_the_same(site, url, tmp_path):
    sha256 = hashlib.sha256(BODY).hexdigest()
    scan = {"url": f"{url}/a/scan.bin", "sha256": sha256}

    folder = fetch(tmp_path, scan, {"url": f"{url}/b.txt", "path": "docs/b.txt"})

    assert (folder / "scan.bin").read_bytes() == BODY
    assert (folder / "docs" / "b.txt").read_bytes() == b"words"
    other = fetch(tmp_path, {**scan, "url": f"{url}/elsewhere.bin", "path": "x.bin"})
    assert (other / "x.bin").samefile(folder / "scan.bin")
    assert len(site.gets("/a/scan.bin")) == 1
    assert site.gets("/elsewhere.bin") == []


def test_a_file_without_declared_hash_is_asked_after_and_only_new_content_is_sent(
    site, url, tmp_path
):
    first = fetch(tmp_path, f"{url}/b.txt")
    again = fetch(tmp_path, f"{url}/b.txt")

    assert again == first
    assert site.gets("/b.txt")[1]["if-none-match"] == site.etag("/b.txt")
    site.files["/b.txt"] = b"other words"
    assert (fetch(tmp_path, f"{url}/b.txt") / "b.txt").read_bytes() == b"other words"
    assert (first / "b.txt").read_bytes() == b"words"


def test_a_broken_connection_goes_on_where_it_broke(site, url, tmp_path):
    site.faults["/a/scan.bin"] = [100_000, 50_000]

    folder = fetch(tmp_path, f"{url}/a/scan.bin")

    assert (folder / "scan.bin").read_bytes() == BODY
    asked = site.gets("/a/scan.bin")
    assert [one.get("range") for one in asked] == [None, "bytes=100000-", "bytes=150000-"]
    assert asked[1]["if-range"] == site.etag("/a/scan.bin")


def test_a_file_that_changed_in_between_is_never_joined_with_its_old_half(site, url, tmp_path):
    site.faults["/a/scan.bin"] = [100_000, (503, {"Retry-After": "1"})]
    other = os.urandom(200_000)

    def change() -> None:
        if len(site.gets("/a/scan.bin")) >= 2:
            site.files["/a/scan.bin"] = other

    folder = fetch(tmp_path, f"{url}/a/scan.bin", check=change)

    assert (folder / "scan.bin").read_bytes() in {BODY, other}


@pytest.mark.parametrize("fault", [(503, {}), (429, {"Retry-After": "1"}), (500, {}), (408, {})])
def test_a_busy_server_is_asked_again_after_the_time_it_wants(site, url, tmp_path, fault):
    site.faults["/b.txt"] = [fault]

    assert (fetch(tmp_path, f"{url}/b.txt") / "b.txt").read_bytes() == b"words"
    assert len(site.gets("/b.txt")) == 2


@pytest.mark.parametrize(
    ("status", "code", "says"),
    [(401, "access_denied", "asks for an account"), (403, "access_denied", "not granted"),
     (404, "source_failed", "no such file"), (410, "source_failed", "no such file")],
)  # fmt: skip
def test_a_refusal_is_said_at_once_and_in_words(site, url, tmp_path, status, code, says):
    site.faults["/b.txt"] = [(status, {})]

    error = refusal(tmp_path, f"{url}/b.txt?signature=s3cr3t")

    assert error.code == code
    assert says in str(error)
    assert "s3cr3t" not in str(error)
    assert len(site.gets("/b.txt")) == 1


@pytest.mark.parametrize("kind", ["sha256", "md5"])
def test_another_checksum_than_declared_names_both(url, tmp_path, kind):
    found, declared = hashlib.new(kind, BODY).hexdigest(), hashlib.new(kind, b"").hexdigest()

    error = refusal(tmp_path, {"url": f"{url}/a/scan.bin", kind: declared})

    assert error.code == "upstream_changed"
    assert found in str(error)
    assert declared in str(error)


def test_another_size_than_declared_is_noticed_before_it_is_fetched(url, tmp_path):
    error = refusal(tmp_path, {"url": f"{url}/a/scan.bin", "bytes": 5})

    assert error.code == "upstream_changed"
    assert "300000" in str(error)


@pytest.mark.parametrize("stated", [True, False])
def test_no_file_outgrows_the_limit_whether_its_size_is_stated_or_not(site, url, tmp_path, stated):
    if not stated:
        site.no_length.add("/a/scan.bin")

    error = refusal(tmp_path, f"{url}/a/scan.bin", rules=FetchRules(RULES.networks, 1000))

    assert error.code == "download_too_large"
    assert "1000" in str(error)


def test_archives_become_folders(site, url, tmp_path):
    for name in ("one", "two"):
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w") as archive:
            archive.writestr("images/1.txt", name)
        site.files[f"/{name}.zip"] = made.getvalue()

    alone = fetch(tmp_path, f"{url}/one.zip")
    both = fetch(tmp_path, f"{url}/one.zip", f"{url}/two.zip", f"{url}/b.txt")
    packed = fetch(tmp_path, f"{url}/one.zip", unpack=False)

    assert (alone / "images" / "1.txt").read_text() == "one"
    assert (both / "two" / "images" / "1.txt").read_text() == "two"
    assert (both / "b.txt").is_file()
    assert (packed / "one.zip").is_file()


def test_a_name_in_an_archive_that_leads_out_is_refused_over_http_too(site, url, tmp_path):
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("../../evil.txt", "x")
    site.files["/bad.zip"] = made.getvalue()

    assert refusal(tmp_path, f"{url}/bad.zip").code == "archive_unsafe"
    assert not list(tmp_path.rglob("evil.txt"))


def test_one_host_gets_no_more_connections_than_allowed(site, url, tmp_path):
    site.slow = 0.02
    for n in range(6):
        site.files[f"/{n}"] = os.urandom(150_000)

    fetch(tmp_path, *[f"{url}/{n}" for n in range(6)], rules=FetchRules(RULES.networks, 10**9, 2))

    assert site.busiest == 2


def test_a_cancelled_run_keeps_what_it_has(site, url, tmp_path):
    site.files["/big"] = os.urandom(4 << 20)
    site.slow = 0.05

    def cancelled() -> None:
        if any(one.stat().st_size for one in (tmp_path / "partial").glob("*") if not one.suffix):
            raise CancelledError

    with pytest.raises(CancelledError):
        fetch(tmp_path, f"{url}/big", check=cancelled)
    site.slow = 0.0
    folder = fetch(tmp_path, f"{url}/big")

    assert (folder / "big").read_bytes() == site.files["/big"]
    assert "range" in site.gets("/big")[-1]


CHILD = """
import sys; from pathlib import Path; from fusion.locations import place_of
from fusion.sources import acquire; from fusion.sources.safety import FetchRules
cache, *urls = sys.argv[1:]
place = place_of({"kind": "http", "files": [{"url": one} for one in urls]})
acquire(place, data_root=Path(cache), cache=Path(cache), rules=FetchRules(("127.0.0.0/8",)))
"""


def test_a_process_killed_in_mid_download_leaves_what_the_next_one_goes_on_from(
    site, url, tmp_path
):
    site.files["/big"] = os.urandom(6 << 20)
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path), f"{url}/b.txt", f"{url}/big"], cwd=ROOT
    )
    site.slow = 0.05
    give_up = time.monotonic() + 120
    while not any(
        one.stat().st_size > 1 << 20 for one in tmp_path.glob("partial/*") if not one.suffix
    ):
        assert child.poll() is None
        assert time.monotonic() < give_up
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    site.slow = 0.0

    folder = fetch(tmp_path, f"{url}/b.txt", f"{url}/big")

    assert (folder / "big").read_bytes() == site.files["/big"]
    start = int(site.gets("/big")[-1]["range"].removeprefix("bytes=").rstrip("-"))
    assert start > 1 << 20
    assert "if-none-match" in site.gets("/b.txt")[-1]  # finished: asked after, not sent again


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.0.1", "169.254.169.254", "0.0.0.1",
     "100.64.0.1", "224.0.0.1", "::1", "fe80::1", "fd00::1", "::ffff:127.0.0.1",
     "64:ff9b::7f00:1", "2002:7f00:1::"],
)  # fmt: skip
def test_inner_addresses_are_none_to_fetch_from(address):
    assert not FetchRules().allows(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "188.185.48.194", "2606:4700::1111"])
def test_public_addresses_are(address):
    assert FetchRules().allows(address)


def test_the_operators_networks_alone_open_the_way_inside(url, tmp_path):
    error = refusal(tmp_path, f"{url}/b.txt", rules=FetchRules())

    assert error.code == "url_refused"
    assert "IMAGINGX_FETCH_NETWORKS" in str(error)


def test_a_redirect_inside_is_refused(site, url, tmp_path):
    with socket.create_server(("127.0.0.2", 0)) as inner:
        site.redirects["/b.txt"] = f"http://127.0.0.2:{inner.getsockname()[1]}/"

        error = refusal(tmp_path, f"{url}/b.txt", rules=FetchRules(networks=("127.0.0.1/32",)))

        assert error.code == "url_refused"
        inner.settimeout(0.1)
        with pytest.raises(TimeoutError):
            inner.accept()


def test_a_redirect_to_another_scheme_is_refused(site, url, tmp_path):
    site.redirects["/b.txt"] = "file:///etc/passwd"

    assert refusal(tmp_path, f"{url}/b.txt").code in {"url_refused", "source_failed"}


def test_the_name_is_resolved_once_so_that_no_second_answer_counts(url, tmp_path, monkeypatch):
    asked: list[str] = []
    real = socket.getaddrinfo
    port = url.rpartition(":")[2]

    def rebinding(host, *args, **named):
        """A name server that gives an allowed address first and an inner one after that."""
        if host != "rebinding.test":
            return real(host, *args, **named)
        asked.append(host)
        return real("127.0.0.1" if len(asked) == 1 else "127.0.0.9", *args, **named)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    rules = FetchRules(networks=("127.0.0.1/32",))

    folder = fetch(tmp_path, f"http://rebinding.test:{port}/b.txt", rules=rules)

    assert (folder / "b.txt").read_bytes() == b"words"
    assert asked == ["rebinding.test"]


CANARY = "canary-0b5e7d2f-token"


def test_a_token_is_sent_to_its_host_alone_and_written_nowhere(
    site, tmp_path, monkeypatch, settings, caplog
):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("ZENODO_TOKEN", CANARY)
    store = Site(files={"/store/scan.bin": BODY})
    site.needs["/api/"] = CANARY
    with serving(site) as url, serving(store) as elsewhere:
        settings.ZENODO_URL = url
        other = elsewhere.replace("127.0.0.1", "localhost")
        site.redirects["/api/records/7/files/scan.bin/content"] = f"{other}/store/scan.bin"
        site.answers["/api/records/7"] = {
            "id": 7,
            "metadata": {"title": "T", "access_right": "restricted"},
            "files": [
                {
                    "key": "scan.bin",
                    "size": len(BODY),
                    "checksum": f"md5:{hashlib.md5(BODY, usedforsecurity=False).hexdigest()}",
                    "links": {"self": f"{url}/api/records/7/files/scan.bin/content"},
                }
            ],
        }
        place = place_of({"kind": "zenodo", "record": 7})
        folder = acquire(
            place,
            data_root=tmp_path,
            cache=tmp_path,
            rules=FetchRules(networks=("127.0.0.0/8", "::1/128")),
        )
        monkeypatch.setenv("ZENODO_TOKEN", CANARY + "x")
        with pytest.raises(BuildError) as caught:
            acquire(place, data_root=tmp_path, cache=tmp_path / "new", rules=RULES)

    assert (folder / "scan.bin").read_bytes() == BODY
    assert caught.value.code == "access_denied"
    assert "ZENODO_TOKEN is refused" in str(caught.value)
    assert all(CANARY not in str(headers) for _, _, headers in store.asked)
    assert CANARY not in str(caught.value)
    assert CANARY not in caplog.text
    assert CANARY not in place.model_dump_json()
    written = [one for one in tmp_path.rglob("*") if one.is_file()]
    assert written
    assert not any(CANARY.encode() in one.read_bytes() for one in written)
