"""Every operation of the API has a method of the client, or its reason in docs/client.md."""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from drf_spectacular.generators import SchemaGenerator

from imagingx import Client
from tests.conftest import ROOT

EMPTY = hashlib.sha256(b"").hexdigest()
PART = {"path": "a.json", "bytes": 2, "offset": 0, "url": "/api/v1/uploads/x/files/0/",
        "sha256": hashlib.sha256(b"{}").hexdigest()}  # fmt: skip
ANSWER = {"results": [], "next": None, "total": 0, "state": "succeeded", "id": "x"}
#: How the client finds out, after a break, where an upload stands: tests/client/test_upload.py.
AFTER_A_BREAK = {"uploads_file"}


def _operations() -> dict[str, tuple[str, re.Pattern[str]]]:
    """Operation id -> method, and the pattern of its path."""
    schema = SchemaGenerator(api_version="v1").get_schema(request=None, public=True)
    return {
        operation["operationId"]: (
            method.upper(),
            re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(path))),
        )
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
    }


def _asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What is sent when every method of the client is called, with and without what is optional."""
    asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append((request.method, request.url.path))
        if request.url.path == "/api/v1/bundles/x/files/":
            file = {"path": "b", "bytes": 0, "sha256": EMPTY, "url": "/api/v1/bundles/x/files/b"}
            return httpx.Response(200, json={"results": [file]})
        if request.url.path.startswith("/api/v1/bundles/x/files/"):
            return httpx.Response(200)
        if request.url.path.endswith("/uploads/") and request.method == "POST":
            return httpx.Response(201, json={"id": "x", "state": "receiving", "files": [PART]})
        if request.method == "PATCH" and "/files/" in request.url.path:
            return httpx.Response(204, headers={"Upload-Offset": "2"})
        return httpx.Response(200, json=ANSWER)

    monkeypatch.setattr("time.sleep", lambda _: None)
    source = tmp_path / "a.json"
    source.write_text("{}")
    with Client("http://portal") as client:
        client._http = httpx.Client(
            base_url="http://portal/api/v1/", transport=httpx.MockTransport(answer)
        )
        for name, method in inspect.getmembers(client, inspect.ismethod):
            if name.startswith("_") or name == "close":
                continue
            for is_full in (False, True):
                target = source if name == "upload" else tmp_path / name
                words = _words(method, target, is_full=is_full)
                with suppress(KeyError, TypeError, ValueError):  # of an answer that says nothing
                    found = method(*words.pop("args"), **words)
                    if isinstance(found, Iterator):
                        list(found)
    return asked


def _words(method: Any, target: Path, *, is_full: bool) -> dict[str, Any]:
    args: list[Any] = []
    named: dict[str, Any] = {}
    for one in inspect.signature(method).parameters.values():
        value: Any = "x"
        if "Mapping" in str(one.annotation):
            value = {"x": {}}
        elif one.name in {"folder", "target", "source"}:
            value = target
        elif one.name == "action":
            value = "cancel"
        if one.kind is one.VAR_POSITIONAL:
            args += ["x", "y"]
        elif one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD:
            args.append(value)
        elif is_full and one.kind is one.KEYWORD_ONLY and "Mapping" in str(one.annotation):
            named[one.name] = value
        elif is_full and one.name == "slug":
            args.append(value)
    return {"args": args, **named}


def test_every_operation_is_asked_or_left_out_with_a_reason(tmp_path, monkeypatch):
    page = (ROOT / "docs" / "client.md").read_text(encoding="utf-8")
    table = page.split("## Left out")[1].split("\n## ")[0]
    left_out = {
        name
        for row in re.findall(r"^\| (`.+?) \| \S", table, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", row)
    }
    operations = _operations()
    sent = _asked(tmp_path, monkeypatch)
    # The four ways to steer a run are one method.
    sent += [("POST", f"/api/v1/runs/x/{way}/") for way in ("pause", "resume", "retry")]

    reached = {
        name
        for name, (method, path) in operations.items()
        if any(method == how and path.fullmatch(where) for how, where in sent)
    }

    assert left_out - set(operations) == set()
    assert left_out & reached == set()
    assert set(operations) - reached - left_out == AFTER_A_BREAK
    nowhere = {
        (how, where)
        for how, where in sent
        if not any(method == how and path.fullmatch(where) for method, path in operations.values())
    }
    assert nowhere == set()
