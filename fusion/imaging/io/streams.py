"""Bytes in and out: bounded gzip reading, atomic and repeatable writing."""

from __future__ import annotations

import contextlib
import io
import os
import secrets
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import numpy as np
from isal import igzip, isal_zlib

from fusion.imaging.errors import CaseError
from fusion.imaging.io.limits import Limits
from fusion.imaging.parallel import in_order

Buffer = bytes | memoryview

_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_HEADER = _GZIP_MAGIC + b"\x08\0\0\0\0\0\0\xff"  # deflate, no name, time 0, no system
_BLOCK = 1 << 20
# The package is hardly typed.
_igzip: Callable[..., BinaryIO] = cast("Any", igzip.IGzipFile)
_packer: Callable[..., Any] = cast("Any", isal_zlib.compressobj)
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


def read_exactly(stream: IO[bytes], count: int, what: str) -> memoryview:
    """The next `count` bytes; a lying header costs address space, but no memory."""
    out = np.empty(count, np.uint8).data
    filled = 0
    while filled < count:
        found = stream.readinto(out[filled : filled + _BLOCK])  # type: ignore[attr-defined]
        if not found:
            raise CaseError("unreadable", f"{what}: {filled} bytes, the header says {count}")
        filled += found
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


def write_atomically(path: Path, content: Buffer | Iterable[Buffer]) -> None:
    """Write beside the target, sync, rename: the name never stands for half a file."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        with partial.open("wb") as out:
            out.writelines([content] if isinstance(content, Buffer) else content)
            out.flush()
            os.fsync(out.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def gzip_blocks(block: Callable[[int], Buffer], count: int) -> Iterator[bytes]:
    """One gzip stream of the bytes of `block(0)` to `block(count - 1)`, in pieces.

    Repeatable: level 1 of ISA-L, no file name, time 0. Each block is packed for itself, on
    whichever thread is free, so the stream depends on the blocks alone.
    """

    def pack(number: int) -> tuple[bytes, int, int]:
        data = block(number)
        packer = _packer(level=1, wbits=-15)
        end = isal_zlib.Z_FINISH if number == count - 1 else isal_zlib.Z_SYNC_FLUSH
        return packer.compress(data) + packer.flush(end), isal_zlib.crc32(data), len(data)

    yield _GZIP_HEADER
    check = size = 0
    for packed, one, length in in_order(pack, count):
        yield packed
        check, size = isal_zlib.crc32_combine(check, one, length), size + length
    yield struct.pack("<II", check, size & 0xFFFFFFFF)
