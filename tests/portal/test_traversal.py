"""Paths that users give stay where they belong: in bundles, uploads, recipes and static files."""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from fusion.locations import ExpectedFile, HttpFile, LocalFolder, Manual

CANARY = b"canary-71c0d9-outside"
UPS = ["..", "%2e%2e", "%252e%252e", ".%2e", "%c0%ae%c0%ae", "..;", "%uff0e%uff0e"]
SLASHES = ["/", "%2f", "%252f", "\\", "%5c", "%255c", "%c0%af"]
PATHS = [
    *(f"{up}{slash}{up}{slash}canary" for up in UPS for slash in SLASHES),
    "/etc/passwd", "//etc/passwd", "%2fetc%2fpasswd", "%2Fcanary", "file:///etc/passwd",
    "README.md/../../canary", "README.md%00.png", "%00", "..%00/canary", "canary%0a", "C:\\canary",
    "shards/./../../canary", "~/canary", "....//....//canary",
]  # fmt: skip
NAMES = [
    "../a.dcm", "a/../../b.dcm", "/etc/a.dcm", "..\\a.dcm", "C:\\a.dcm", "a\x00.dcm", "", ".", "..",
    "a/\x01/b", "a\nb", "//a", "../../../../etc/cron.d/x",
]  # fmt: skip


def raw(url: str, path: str) -> tuple[int, bytes]:
    """The answer to exactly this path: nothing is tidied on the way."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    connection._validate_path = lambda _: None  # what no tidy client would send
    connection.request("GET", path)
    answer = connection.getresponse()
    return answer.status, answer.read()


@pytest.mark.django_db(transaction=True)
def test_no_address_leads_out_of_a_bundle_or_static_files(make_world, live_server, tmp_path):
    world = make_world(public=True)
    for folder in (tmp_path, tmp_path / "bundles", tmp_path / "data", tmp_path / "uploads"):
        (folder / "canary").parent.mkdir(exist_ok=True)
        (folder / "canary").write_bytes(CANARY)
    bundle = f"/bundles/{world.there['bundle_id']}"
    before = [f"/api/v1{bundle}/files/", f"/api/v1{bundle}/cases/", f"{bundle}/cases/"]

    for start in before:
        for path in PATHS:
            status, body = raw(live_server.url, start + path)
            assert CANARY not in body, start + path
            assert b"root:" not in body
            assert 400 <= status < 405, (start + path, status)
    assert raw(live_server.url, f"/api/v1{bundle}/files/README.md")[0] == 200
    for path in PATHS:  # the test server has a way of its own to static files: past it
        answer = world.browser.get("/", PATH_INFO="/static/" + unquote(path, "latin-1"))
        assert answer.status_code in {400, 404}, path


@pytest.mark.django_db
@pytest.mark.parametrize("name", NAMES)
def test_no_upload_lies_elsewhere(make_world, name, tmp_path):
    client = make_world().client("owner")
    before = {path for path in tmp_path.rglob("*") if "uploads" not in path.parts}
    body = json.dumps({"name": "more", "files": [{"path": name, "bytes": 1}]})

    answer = client.post("/api/v1/uploads/", body, "application/json")

    assert answer.status_code in {400, 422}
    body = json.dumps({"name": name, "files": [{"path": "a.dcm", "bytes": 1}]})
    assert client.post("/api/v1/uploads/", body, "application/json").status_code in {400, 422}
    assert {path for path in tmp_path.rglob("*") if "uploads" not in path.parts} == before


@pytest.mark.parametrize("path", ["../a", "a/../../b", "/etc/passwd", "..\\a", "a\x00b", "a/.."])
def test_no_recipe_names_a_path_elsewhere(path):
    for make in (
        lambda: LocalFolder(kind="local", path=path),
        lambda: Manual(kind="manual", path=path),
        lambda: ExpectedFile(path=path),
        lambda: HttpFile(url="https://example.org/a", path=path),
    ):
        with pytest.raises(ValueError, match="give a path"):
            make()


@pytest.mark.parametrize("last", ["..", "%2e%2e", "..%2fa", "%2fetc%2fpasswd", "a%00", "..%5ca"])
def test_the_name_of_a_file_at_an_address_leads_nowhere(last):
    with pytest.raises(ValueError, match=r"give a path|1 validation"):
        _ = HttpFile(url=f"https://example.org/a/{last}").name


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["../x", "..", "a/b", "\x00", "first-fundus/../x", "%2e%2e"])
def test_an_example_is_one_of_the_shipped(client, name):
    answer = client.post("/recipes/start/", {"example": name})

    assert answer.status_code == 422
    body = json.dumps({"example": name})
    answer = client.post("/api/v1/recipes/validate/", body, "application/json")
    assert answer.status_code in {400, 422}


def test_links_in_the_data_root_are_not_followed_out_of_it(tmp_path: Path):
    from fusion.errors import BuildError
    from fusion.sources import acquire

    root, outside = tmp_path / "data", tmp_path / "outside"
    outside.mkdir()
    root.mkdir()
    (root / "link").symlink_to(outside)
    place = LocalFolder(kind="local", path="link")
    with pytest.raises(BuildError):
        acquire(place, data_root=root, cache=tmp_path / "cache")
