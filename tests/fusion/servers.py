"""Local servers that speak what the real ones speak: files over HTTP, the Hub, repositories."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl

COMMIT = "a" * 40


@dataclass
class Site:
    """What a server holds, does wrong, and was asked.

    answers: path -> JSON, or a function of the query and the posted JSON that gives it.
    faults: path -> what happens at the next requests of it, in order: a status with headers, or
    how many bytes of a body are sent before the connection ends.
    needs: path prefix -> token, or a whole Authorization header.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    answers: dict[str, Any] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    faults: dict[str, list[Any]] = field(default_factory=dict)
    etags: dict[str, str] = field(default_factory=dict)
    needs: dict[str, str] = field(default_factory=dict)
    headers: dict[str, dict[str, str]] = field(default_factory=dict)  # path -> sent with its file
    no_length: set[str] = field(default_factory=set)
    stored: dict[str, bytes] = field(default_factory=dict)  # what was put, by its path
    slow: float = 0.0  # seconds for each 64 KiB, sent or taken
    coming: dict[str, int] = field(default_factory=dict)  # path -> bytes of a body being taken
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    busiest: int = 0
    now: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def gets(self, path: str) -> list[dict[str, str]]:
        """Headers of each GET of a path."""
        return [
            headers for method, there, headers in self.asked if (method, there) == ("GET", path)
        ]

    def etag(self, path: str) -> str:
        made = hashlib.sha256(self.files[path]).hexdigest()[:20]
        return self.etags.get(path, f'"{made}"')


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: Site

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.answer()

    def do_POST(self):
        self.answer()

    def do_PUT(self):
        self.answer()

    def answer(self) -> None:
        path, _, query = self.path.partition("?")
        self.query = dict(parse_qsl(query))
        self.body = self.take(path, int(self.headers.get("Content-Length") or 0))
        if self.body is None:  # who sent it is gone: half a body is none
            self.close_connection = True
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        with self.site.lock:
            self.site.asked.append((self.command, path, headers))
            self.site.now += 1
            self.site.busiest = max(self.site.busiest, self.site.now)
        try:
            self.route(path, headers)
        finally:
            with self.site.lock:
                self.site.now -= 1

    def take(self, path: str, length: int) -> bytes | None:
        body = b""
        while len(body) < length:
            block = self.rfile.read(min(1 << 16, length - len(body)))
            if not block:
                return None
            body += block
            self.site.coming[path] = len(body)
            if length > 1 << 16:
                time.sleep(self.site.slow)
        return body

    def route(self, path: str, headers: dict[str, str]) -> None:
        for prefix, token in self.site.needs.items():
            wanted = token if " " in token else f"Bearer {token}"
            if path.startswith(prefix) and headers.get("authorization") != wanted:
                return self.reply(401, b"{}")
        fault = self.fault(path)
        if isinstance(fault, tuple):
            return self.reply(fault[0], b"{}", fault[1])
        if path in self.site.redirects:
            return self.reply(302, b"", {"Location": self.site.redirects[path]})
        if path in self.site.answers:
            said = self.site.answers[path]
            if callable(said):
                said = said(self.query, json.loads(self.body or b"null"))
            return self.reply(200, json.dumps(said).encode())
        if path in self.site.files:
            return self.file(path, headers, fault)
        return self.reply(404, b"{}", self.not_found())

    def not_found(self) -> dict[str, str]:
        return {}

    def fault(self, path: str) -> Any:
        with self.site.lock:
            waiting = None if self.command == "HEAD" else self.site.faults.get(path)
            return waiting.pop(0) if waiting else None

    def file(self, path: str, headers: dict[str, str], cut: int | None) -> None:
        data, etag, start, status = self.site.files[path], self.site.etag(path), 0, 200
        extra = {"ETag": etag, "Accept-Ranges": "bytes", **self.more(path)}
        if headers.get("if-none-match") == etag:
            self.reply(304, b"", extra)
            return
        wanted = headers.get("range", "")
        if wanted and headers.get("if-range", etag) == etag:
            start, status = int(wanted.removeprefix("bytes=").partition("-")[0]), 206
            if start >= len(data):
                self.reply(416, b"", {"Content-Range": f"bytes */{len(data)}"})
                return
            extra["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self.reply(status, data[start:], extra, cut, length=path not in self.site.no_length)

    def more(self, path: str) -> dict[str, str]:
        return self.site.headers.get(path, {})

    def reply(
        self,
        status: int,
        body: bytes,
        headers: dict[str, str] | None = None,
        cut: int | None = None,
        *,
        length: bool = True,
    ) -> None:
        self.send_response(status)
        sent = {"Content-Length": str(len(body))} if length else {"Connection": "close"}
        for name, value in {**sent, **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD" or status == 304:
            return
        try:
            if self.site.slow:
                for at in range(0, len(body), 1 << 16):
                    self.wfile.write(body[at : at + (1 << 16)])
                    time.sleep(self.site.slow)
            else:
                self.wfile.write(body if cut is None else body[:cut])
        except (BrokenPipeError, ConnectionResetError):
            cut = 0
        if cut is not None or not length:
            self.close_connection = True

    def log_message(self, *_: object) -> None: ...


class HubHandler(Handler):
    """The Hub's API of datasets, and files by resolve."""

    def not_found(self) -> dict[str, str]:
        known = any(one.startswith("/datasets/some/set/") for one in self.site.files)
        of_known = "/some/set/" in self.path
        return {"X-Error-Code": "RevisionNotFound" if known and of_known else "RepoNotFound"}

    def more(self, path: str) -> dict[str, str]:
        return {"X-Repo-Commit": COMMIT}

    def route(self, path: str, headers: dict[str, str]) -> None:
        kind = next((one for one in self.WRITES if re.fullmatch(one, path)), "")
        if self.command == "GET" or not kind:
            return super().route(path, headers)
        wanted = f"Bearer {self.site.needs.get('write', '')}"
        if not path.startswith("/lfs/") and headers.get("authorization") != wanted:
            return self.reply(403, b"{}", {"X-Error-Message": "no right to write"})
        fault = self.fault(path)
        if isinstance(fault, tuple):
            return self.reply(fault[0], b"{}", fault[1])
        return self.reply(200, json.dumps(getattr(self, self.WRITES[kind])(path)).encode())

    #: What is written, as huggingface-hub asks for it.
    WRITES = {
        "/api/repos/create": "create",
        "/api/validate-yaml": "validate",
        r"/api/datasets/.+/preupload/main": "preupload",
        r"/datasets/.+\.git/info/lfs/objects/batch": "batch",
        r"/lfs/[0-9a-f]{64}": "put",
        r"/api/datasets/.+/commit/main": "commit",
    }

    def create(self, path: str) -> dict[str, Any]:
        body = json.loads(self.body)
        self.site.answers["created"] = body
        return {"url": f"https://huggingface.co/datasets/{body['organization']}/{body['name']}"}

    def validate(self, path: str) -> dict[str, Any]:
        return {"errors": [], "warnings": []}

    def preupload(self, path: str) -> dict[str, Any]:
        rows = json.loads(self.body)["files"]
        modes = {True: "lfs", False: "regular"}
        return {
            "files": [
                {
                    "path": one["path"],
                    "uploadMode": modes[one["path"].endswith(".tar")],
                    "shouldIgnore": False,
                }
                for one in rows
            ]
        }

    def batch(self, path: str) -> dict[str, Any]:
        """Git LFS's batch: an object that is there has no action."""
        found = []
        for one in json.loads(self.body)["objects"]:
            row = {"oid": one["oid"], "size": one["size"]}
            if f"/lfs/{one['oid']}" not in self.site.stored:
                host = self.headers["Host"]
                row["actions"] = {"upload": {"href": f"http://{host}/lfs/{one['oid']}"}}
            found.append(row)
        return {"transfer": "basic", "objects": found}

    def commit(self, path: str) -> dict[str, Any]:
        """Lines of JSON: a header, files as base64, pointers to large ones."""
        for line in self.body.splitlines():
            row = json.loads(line)
            value = row["value"]
            if row["key"] == "file":
                self.site.stored[value["path"]] = base64.b64decode(value["content"])
            elif row["key"] == "lfsFile":
                self.site.stored[value["path"]] = self.site.stored[f"/lfs/{value['oid']}"]
        return {
            "commitUrl": f"https://huggingface.co/datasets/some/set/commit/{COMMIT}",
            "commitOid": COMMIT,
        }

    def put(self, path: str) -> dict[str, Any]:
        self.site.stored[path] = self.body
        return {}


class ZenodoHandler(Handler):
    """Zenodo's API of deposits: drafts, files by PUT into their bucket."""

    def route(self, path: str, headers: dict[str, str]) -> None:
        if headers.get("authorization") != f"Bearer {self.site.needs.get('write', '')}":
            return self.reply(401, b"{}")
        fault = self.fault(path)
        if isinstance(fault, tuple):
            return self.reply(fault[0], b"{}", fault[1])
        drafts: dict[str, Any] = self.site.answers
        base, (*_, last) = "/api/deposit/depositions", path.split("/")
        if self.command == "PUT" and path.startswith("/api/files/"):
            self.site.stored[last] = self.body
            checksum = hashlib.md5(self.body, usedforsecurity=False).hexdigest()
            row = {"filename": last, "filesize": len(self.body), "checksum": checksum}
            draft = drafts[path.split("/")[3]]
            draft["files"] = [*(o for o in draft["files"] if o["filename"] != last), row]
            return self.reply(201, json.dumps({"checksum": f"md5:{checksum}"}).encode())
        if self.command == "POST" and path == base:
            number = str(len(drafts) + 1)
            host = f"http://{self.headers['Host']}"
            links = {"bucket": f"{host}/api/files/{number}", "html": f"{host}/deposit/{number}"}
            doi = {"prereserve_doi": {"doi": f"10.5281/zenodo.{number}"}}
            drafts[number] = {
                "id": int(number), "links": links, "files": [], "submitted": False,
                "metadata": {**(json.loads(self.body or b"{}").get("metadata") or {}), **doi},
            }  # fmt: skip
            return self.reply(201, json.dumps(drafts[number]).encode())
        if self.command == "GET":
            said = list(drafts.values()) if path == base else drafts.get(last)
            return self.reply(404 if said is None else 200, json.dumps(said).encode())
        if self.command == "PUT":
            drafts[last]["metadata"] |= json.loads(self.body)["metadata"] | {
                "prereserve_doi": drafts[last]["metadata"]["prereserve_doi"]
            }
        return self.reply(200, json.dumps(drafts[last]).encode())


class S3Handler(Handler):
    """Objects of a bucket by PUT, and what is known of them by HEAD."""

    def route(self, path: str, headers: dict[str, str]) -> None:
        if self.command == "PUT":
            self.site.stored[path] = self.body
            self.site.headers[path] = {
                name: value for name, value in headers.items() if name.startswith("x-amz-meta-")
            }
        there = self.site.stored.get(path)
        if there is None or self.command == "PUT":
            return self.reply(404 if there is None else 200, b"")
        return self.reply(200, there, self.site.headers[path])


def hub(site: Site, files: dict[str, bytes], large: tuple[str, ...] = (), repo: str = "some/set"):
    """Put a repository of one commit on a hub."""
    tree = []
    for name, data in files.items():
        blob = hashlib.sha1(
            f"blob {len(data)}\0".encode() + data, usedforsecurity=False
        ).hexdigest()
        row = {"type": "file", "path": name, "size": len(data), "oid": blob}
        resolve, sha256 = f"/datasets/{repo}/resolve/{COMMIT}/{name}", hashlib.sha256(data)
        if name in large:
            digest = sha256.hexdigest()
            row["lfs"] = {"oid": digest, "size": len(data), "pointerSize": 130}
            site.etags[resolve] = f'"{digest}"'
        else:
            site.etags[resolve] = f'"{blob}"'
        site.files[resolve] = data
        tree.append(row)
    site.answers[f"/api/datasets/{repo}/tree/{COMMIT}"] = tree
    info = {"id": repo, "sha": COMMIT, "private": False, "gated": False, "tags": []}
    rest = {"downloads": 0, "likes": 0, "siblings": [{"rfilename": name} for name in files]}
    site.answers[f"/api/datasets/{repo}/revision/{COMMIT}"] = {**info, **rest}
    site.answers[f"/api/datasets/{repo}"] = {**info, **rest}
    site.answers[f"/api/datasets/{repo}/auth-check"] = {}


@contextmanager
def serving(site: Site, kind: type[Handler] = Handler) -> Iterator[str]:
    """Address of a running server."""
    handler = type("Bound", (kind,), {"site": site})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
