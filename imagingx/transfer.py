"""Bytes of files, there and back; what was interrupted goes on."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path, PurePosixPath

import httpx

from imagingx.connection import LONGEST_WAIT, TRIES, Json, ProblemError, problem_of

Progress = Callable[[int, int], None]  # bytes there, bytes in all

CHUNK_BYTES = 1 << 20
PART_BYTES, SEND_TRIES = 8 << 20, 8
GO_ON = frozenset({409, 429, 500, 502, 503, 504})  # after these an upload asks where it stands


class ChecksumError(Exception):
    """A file whose bytes are not those that the portal names."""


def fetch(
    http: httpx.Client, address: str, target: Path, sha256: str, told: Callable[[int], None]
) -> None:
    """Bring one file of a bundle to `target`, unless it is there with the right SHA-256 (hex).

    Args:
        told: gets the bytes that are there.

    Raises:
        ChecksumError: it is not what the portal says, even when fetched anew.
    """
    if target.is_file() and sha256_of(target) == sha256:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    for _ in range(2):  # what an interrupted download left may be spoilt
        resume(http, address, part, f'"{sha256}"', lambda done, _: told(done))
        found = sha256_of(part)
        if found == sha256:
            part.replace(target)
            return
        part.unlink()
    raise ChecksumError(f"{target}: found SHA-256 {found}, expected {sha256}")


def resume(
    http: httpx.Client, address: str, part: Path, tag: str, told: Progress,
    keep_tag: Path | None = None,
) -> None:  # fmt: skip
    """Append to `part` what it lacks; begin anew when the portal has other bytes by now."""
    for attempt in range(TRIES):
        have = part.stat().st_size if part.is_file() and tag else 0
        headers = {"Range": f"bytes={have}-", "If-Range": tag} if have else {}
        try:
            with http.stream("GET", address, headers=headers) as answer:
                if answer.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                    told(have, have)
                    return  # all there; or too much, which its hash tells
                if answer.is_error:
                    answer.read()
                    raise problem_of(answer)
                tag = answer.headers.get("ETag", tag)
                if keep_tag is not None:
                    keep_tag.write_text(tag, encoding="ascii")
                goes_on = answer.status_code == httpx.codes.PARTIAL_CONTENT
                done = have if goes_on else 0
                size = done + int(answer.headers.get("Content-Length", 0))
                with part.open("ab" if goes_on else "wb") as out:
                    for chunk in answer.iter_bytes(CHUNK_BYTES):
                        out.write(chunk)
                        done += len(chunk)
                        told(done, size)
                if done >= size:
                    return
        except httpx.TransportError:
            if attempt == TRIES - 1:
                raise
            time.sleep(2.0**attempt)
    raise ChecksumError(f"{part.name}: found {done} bytes, expected {size}")


def send(
    http: httpx.Client, file: Path, address: str, offset: int, told: Callable[[int], None]
) -> None:
    """Send a file on from `offset`; after a lost connection from where the portal is."""
    size, failed = file.stat().st_size, 0
    with file.open("rb") as content:
        while offset < size:
            content.seek(offset)
            headers = {
                "Content-Type": "application/offset+octet-stream",
                "Upload-Offset": str(offset),
                "Tus-Resumable": "1.0.0",
            }
            try:
                part = content.read(PART_BYTES)
                answer = http.patch(address, content=part, headers=headers)
                if answer.is_error:
                    raise problem_of(answer)
                offset, failed = int(answer.headers["Upload-Offset"]), 0
            except (httpx.TransportError, ProblemError) as error:
                failed += 1
                for_good = isinstance(error, ProblemError) and error.status not in GO_ON
                if for_good or failed == SEND_TRIES:
                    raise
                time.sleep(min(2.0**failed, LONGEST_WAIT))
                with suppress(httpx.TransportError):
                    answer = http.head(address)
                    offset = int(answer.headers.get("Upload-Offset", offset))
            told(offset)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_of(source: Path) -> list[Json]:
    """Each file with path, bytes and SHA-256; hidden ones stay behind.

    Raises:
        FileNotFoundError: nothing is there.
    """
    if source.is_dir():
        found = sorted(path for path in source.rglob("*") if path.is_file())
        inside = [(path, path.relative_to(source)) for path in found]
        named = [(p, to.as_posix()) for p, to in inside if not any(x[0] == "." for x in to.parts)]
    else:
        named = [(source, source.name)]
    return [
        {"file": file, "path": path, "bytes": file.stat().st_size, "sha256": sha256_of(file)}
        for file, path in named
    ]


def plain_name(source: Path) -> str:
    """The name of a file or folder as recipes may call it."""
    stem = source.resolve().name.partition(".")[0].lower()
    return re.sub(r"[^a-z0-9]+", "-", stem).strip("-")[:40]


def inside(path: str) -> Path:
    """A path that a portal names, which must stay in the folder.

    Raises:
        ChecksumError: it does not.
    """
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\\" in path or ":" in parts[0]:
        raise ChecksumError(f"{path!r}: found a path outside the bundle")
    return Path(*parts)
