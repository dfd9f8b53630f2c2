"""Bytes in and out: bounded gzip reading, atomic and repeatable writing."""

from __future__ import annotations

import contextlib
import io
import os
import secrets
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from isal import igzip, isal_zlib

from fusion.imaging.errors import CaseError
from fusion.imaging.io.limits import Limits

_GZIP_MAGIC = b"\x1f\x8b"
_BLOCK = 1 << 20
# The package is hardly typed.
_igzip: Callable[..., BinaryIO] = cast("Any", igzip.IGzipFile)
_BROKEN: tuple[type[BaseException], ...] = (
    EOFError,
    OSError,
    zlib.error,
    cast("Any", isal_zlib.error),
)


@contextlib.contextmanager
def open_stream(path: Path, limits: Limits) -> Iterator[BinaryIO]:
    """The file's bytes; gzip is undone where the bytes (not the name) say so.

    Raises:
        CaseError: unreadable when the stream is truncated or damaged, here or inside the block.
    """
    limits.check_file(path)
    try:
        with path.open("rb") as raw:
            magic = raw.read(2)
            raw.seek(0)
            if magic != _GZIP_MAGIC:
                yield raw
                return
            with _igzip(fileobj=raw, mode="rb") as stream:
                yield stream
    except _BROKEN as error:
        raise CaseError("unreadable", f"{path.name}: {error or 'truncated'}") from error


def read_exactly(stream: IO[bytes], count: int, what: str) -> bytearray:
    """The next `count` bytes, read in blocks, so that a lying header costs no memory."""
    out = bytearray()
    while len(out) < count:
        block = stream.read(min(_BLOCK, count - len(out)))
        if not block:
            raise CaseError("unreadable", f"{what}: {len(out)} bytes, the header says {count}")
        out += block
    return out


def skip(stream: IO[bytes], count: int, what: str) -> None:
    """Pass over `count` bytes; nothing is kept."""
    left = count
    while left > 0:
        block = stream.read(min(_BLOCK, left))
        if not block:
            raise CaseError("unreadable", f"{what}: ends {left} bytes before its voxels do")
        left -= len(block)


def read_bounded(stream: IO[bytes], limit: int, name: str) -> io.BytesIO:
    """All bytes up to `limit`; one byte more is refused."""
    out = io.BytesIO()
    while block := stream.read(min(_BLOCK, limit + 1 - out.tell())):
        out.write(block)
        if out.tell() > limit:
            raise CaseError("size_limit", f"{name}: expands to more than {limit} bytes")
    out.seek(0)
    return out


def refuse_rest(stream: IO[bytes], what: str, expected: int) -> None:
    """The stream ends here; reads one byte past the end to know."""
    if stream.read(1):
        raise CaseError("unreadable", f"{what}: more than the {expected} bytes of its header")


def write_atomically(path: Path, content: bytes | memoryview) -> None:
    """Write beside the target, sync, rename: the name never stands for half a file."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        with partial.open("wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def gzip_bytes(*parts: bytes | memoryview) -> bytes:
    """Repeatable gzip: level 1 of ISA-L, no file name, time 0."""
    out = io.BytesIO()
    with _igzip(filename="", fileobj=out, mode="wb", compresslevel=1, mtime=0) as packed:
        for part in parts:
            packed.write(part)
    return out.getvalue()
