"""Sources from the Hugging Face Hub: its own client against a server that speaks its protocol."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.conftest import ROOT

COMMIT = "a" * 40
CONTENT = {"images/1.png": b"one", "images/2.png": b"two", "README.md": b"card"}


class Hub(BaseHTTPRequestHandler):
    """The parts of the Hub's API that a download asks for; gated/set answers 403."""

    asked: list[str] = []

    def do_HEAD(self):
        self.answer(head=True)

    def do_GET(self):
        self.answer(head=False)

    def answer(self, *, head: bool) -> None:
        path = self.path.partition("?")[0]
        self.asked.append(f"{self.command} {path}")
        if "/gated/set" in path:
            self.reply(403, b"{}", {"X-Error-Code": "GatedRepo"}, head=head)
        elif path.startswith("/api/datasets/some/set") and COMMIT not in path:
            self.reply(404, b"{}", {"X-Error-Code": "RevisionNotFound"}, head=head)
        elif "/tree/" in path:
            entries = [
                {"type": "file", "path": name, "size": len(data), "oid": "0" * 40}
                for name, data in CONTENT.items()
            ]
            self.reply(200, json.dumps(entries).encode(), {}, head=head)
        elif path.startswith("/api/datasets/some/set"):
            info = {
                "id": "some/set",
                "sha": COMMIT,
                "private": False,
                "tags": [],
                "downloads": 0,
                "likes": 0,
                "siblings": [{"rfilename": name} for name in CONTENT],
            }
            self.reply(200, json.dumps(info).encode(), {}, head=head)
        elif path.startswith("/datasets/some/set/resolve/"):
            data = CONTENT[path.split(f"{COMMIT}/")[1]]
            etag = hashlib.sha1(data).hexdigest()  # noqa: S324 - git's own
            headers = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
            self.reply(200, data, headers, head=head)
        else:
            self.reply(404, b"{}", {"X-Error-Code": "RepoNotFound"}, head=head)

    def reply(self, status: int, body: bytes, headers: dict[str, str], *, head: bool) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if not head:
            self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def hub() -> Iterator[str]:
    Hub.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def fetch(hub: str, cache: Path, repo: str, revision: str = COMMIT) -> subprocess.CompletedProcess:
    """In a process of its own: the client reads its endpoint once, when it is imported."""
    code = (
        "from pathlib import Path; from fusion.errors import BuildError\n"
        "from fusion.sources.huggingface import acquire\n"
        f"try: print(acquire({repo!r}, {revision!r}, ['images/*'], Path({str(cache)!r})))\n"
        "except BuildError as error: print('refused', error.code, error)\n"
    )
    environment = {**os.environ, "HF_ENDPOINT": hub, "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "*"}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment | {"HF_HUB_OFFLINE": "0"},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )


def test_only_the_wanted_files_of_the_pinned_commit_are_fetched_and_only_once(hub, tmp_path):
    folder = Path(fetch(hub, tmp_path, "some/set").stdout.strip())

    assert sorted(p.name for p in folder.rglob("*") if p.is_file()) == ["1.png", "2.png"]
    assert (folder / "images" / "1.png").read_bytes() == b"one"
    Hub.asked.clear()
    again = Path(fetch(hub, tmp_path, "some/set").stdout.strip())
    assert again == folder
    assert not [line for line in Hub.asked if line.startswith("GET") and "/resolve/" in line]


@pytest.mark.parametrize(
    ("repo", "revision", "says"),
    [
        ("gated/set", COMMIT, "is gated"),
        ("no/set", COMMIT, "no such repository"),
        ("some/set", "b" * 40, "no such commit"),
    ],
)
def test_what_the_hub_refuses_is_said_in_words(hub, tmp_path, repo, revision, says):
    out = fetch(hub, tmp_path, repo, revision).stdout

    assert out.startswith("refused source_failed")
    assert says in out
