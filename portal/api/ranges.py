"""Byte ranges and entity tags of downloads (RFC 9110, sections 8.8.3, 13 and 14). Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from django.utils.http import parse_etags

_ONE_RANGE = re.compile(r"bytes\s*=\s*(\d{0,19})\s*-\s*(\d{0,19})\s*", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class Span:
    """Bytes `start` up to, not including, `stop` of `size`."""

    start: int
    stop: int
    size: int

    @property
    def length(self) -> int:
        return self.stop - self.start

    @property
    def content_range(self) -> str:
        return f"bytes {self.start}-{self.stop - 1}/{self.size}"


@dataclass(frozen=True)
class Answer:
    """What to send: the status, and which bytes (None: no content)."""

    status: int
    span: Span | None


def decide(headers: Mapping[str, str], etag: str, size: int) -> Answer:
    """How to answer a GET or HEAD for `size` bytes with the strong tag `etag` (with its quotes).

    Several ranges in one request are answered with the whole, which the standard allows.
    """
    if (wanted := headers.get("If-Match")) is not None and not _matches(wanted, etag, weak=False):
        return Answer(412, None)
    if (known := headers.get("If-None-Match")) is not None and _matches(known, etag, weak=True):
        return Answer(304, None)
    whole = Answer(200, Span(0, size, size))
    asked = headers.get("Range")
    if asked is None:
        return whole
    condition = headers.get("If-Range")
    if condition is not None and condition.strip() != etag:
        return whole
    return _ranged(asked, size) or whole


def _matches(header: str, etag: str, *, weak: bool) -> bool:
    tags = parse_etags(header)
    if weak:
        tags = [tag.removeprefix("W/") for tag in tags]
    return "*" in tags or etag in tags


def _ranged(header: str, size: int) -> Answer | None:
    found = _ONE_RANGE.fullmatch(header.strip())
    if found is None or not (found[1] or found[2]):
        return None
    if not found[1]:
        length = min(int(found[2]), size)
        start, stop = size - length, size
    else:
        start = int(found[1])
        stop = min(int(found[2]) + 1, size) if found[2] else size
        if found[2] and int(found[2]) < start:
            return None
    if start >= stop:
        return Answer(416, None)
    return Answer(206, Span(start, stop, size))
