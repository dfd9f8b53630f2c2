"""Tar shards in WebDataset order, written with both hashes in one pass over the bytes.

Members are stored, never compressed again: PNG and .nii.gz gain nothing. The offset of each
member's data is returned, so that a reader needs no scan.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import IO

import numpy as np

from fusion.bundle import ustar
from fusion.bundle.errors import BundleError
from fusion.bundle.text import CHUNK
from fusion.imaging.parallel import beside, in_order, thread_count

CAP_BYTES = 256 << 20
#: Small members are read and hashed together, about so many bytes at a time.
BATCH = 2 << 20
#: Batches of a shard that are read before they are written: they bound the memory.
AHEAD = 4


@dataclass(frozen=True)
class Item:
    """One member to write: a file on disk or bytes at hand.

    `sha256` is what the bytes must hash to; empty: not known beforehand.
    """

    name: str
    source: Path | bytes
    sha256: str = ""

    @cached_property
    def size_bytes(self) -> int:
        return len(self.source) if isinstance(self.source, bytes) else self.source.stat().st_size


_Keyed = tuple[str, Item]


@dataclass(frozen=True)
class Sample:
    """The members of one case; they are adjacent in the shard."""

    key: str
    items: tuple[Item, ...]

    @property
    def size_bytes(self) -> int:
        return sum(ustar.member_bytes(item.size_bytes) for item in self.items)


@dataclass(frozen=True)
class Member:
    """One written member; `offset` is where its data begin in the shard."""

    key: str
    name: str
    offset: int
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Shard:
    name: str
    size_bytes: int
    sha256: str
    members: tuple[Member, ...]


def distribute(samples: Sequence[Sample], cap_bytes: int = CAP_BYTES) -> Iterator[list[Sample]]:
    """Cut samples, sorted by key, into shards of at most `cap_bytes`; a larger sample is alone."""
    part: list[Sample] = []
    filled = 0
    for sample in sorted(samples, key=lambda one: one.key):
        size = sample.size_bytes
        if part and filled + size + len(ustar.END) > cap_bytes:
            yield part
            part, filled = [], 0
        part.append(sample)
        filled += size
    if part:
        yield part


def write_shards(
    folder: Path, prefix: str, samples: Sequence[Sample], cap_bytes: int = CAP_BYTES
) -> list[Shard]:
    """Write `<prefix>-000000.tar` and so on, one thread per shard.

    Raises:
        BundleError: a file changed since its hash was noted, or a name does not fit.
    """
    folder.mkdir(parents=True, exist_ok=True)
    planned = (
        (folder / f"{prefix}-{number:06d}.tar", part)
        for number, part in enumerate(distribute(samples, cap_bytes))
    )
    # The first shard is begun before the sizes of all files are known. Each has two threads, one
    # for its files and one for itself; neither is always busy.
    with ThreadPoolExecutor(thread_count()) as pool:
        return list(pool.map(lambda job: write_shard(*job), planned))


def write_shard(path: Path, samples: Sequence[Sample]) -> Shard:
    """Write one shard in the order of `samples`, and wait for the disk."""
    batches = _batches([(sample.key, item) for sample in samples for item in sample.items])
    with path.open("wb") as out:
        tape, members = _Tape(out), list[Member]()
        packed = in_order(lambda n: _pack(*batches[n]), len(batches), ahead=AHEAD)
        for (_, batch), held in zip(batches, packed, strict=True):
            if held is None:
                members.append(_stream(tape, *batch[0]))
                continue
            members += held.members
            tape.write(held.data)
        tape.write(ustar.END)
        out.flush()
        os.fsync(out.fileno())
    return Shard(path.name, tape.position, tape.digest.hexdigest(), tuple(members))


class _Tape:
    """A file that hashes what is written to it and knows where it stands."""

    def __init__(self, out: IO[bytes]) -> None:
        self.out, self.digest, self.position = out, hashlib.sha256(), 0

    def write(self, data: bytes | memoryview) -> None:
        self.out.write(data)
        self.digest.update(data)
        self.position += len(data)


@dataclass(frozen=True)
class _Packed:
    """Some members as they lie in the archive."""

    data: memoryview
    members: list[Member]


def _batches(items: Sequence[_Keyed]) -> list[tuple[int, list[_Keyed]]]:
    """Small members together, up to about BATCH bytes; a larger member is alone.

    Each batch comes with its place in the shard.
    """
    batches: list[tuple[int, list[_Keyed]]] = []
    room = position = 0
    for key, item in items:
        size = ustar.member_bytes(item.size_bytes)
        if not batches or size > room:
            batches.append((position, []))
            room = BATCH
        batches[-1][1].append((key, item))
        room -= size
        position += size
    return batches


def _pack(position: int, batch: Sequence[_Keyed]) -> _Packed | None:
    """The members of a batch, read and hashed; None: too large to be held in memory."""
    if batch[0][1].size_bytes > BATCH:
        return None
    # Files are read to their places.
    total = sum(ustar.member_bytes(item.size_bytes) for _, item in batch)
    view, members, start = np.empty(total, np.uint8).data, list[Member](), 0
    for key, item in batch:
        size = item.size_bytes
        begin = start + ustar.BLOCK
        view[start:begin] = ustar.header(item.name, size)
        end = begin + size
        data = view[begin:end]
        written = _read_into(data, item.source)
        found = hashlib.sha256(data).hexdigest()
        _check(item, written, size, found)
        members.append(Member(key, item.name, position + begin, size, found))
        start += ustar.member_bytes(size)
        view[end:start] = bytes(start - end)
    return _Packed(view, members)


def _read_into(data: memoryview, source: Path | bytes) -> int:
    """Fill `data` from the source; returns the size of the source, if it is not larger by much."""
    if isinstance(source, bytes):
        data[:] = source
        return len(source)
    handle, beyond = os.open(source, os.O_RDONLY), bytearray(1)
    try:
        filled = os.readv(handle, [data, beyond])
        while filled < len(data) and (more := os.readv(handle, [data[filled:], beyond])):
            filled += more
        return filled
    finally:
        os.close(handle)


def _stream(tape: _Tape, key: str, item: Item) -> Member:
    """A large member, chunk by chunk; it is read and hashed beside the shard."""
    size = item.size_bytes
    tape.write(ustar.header(item.name, size))
    offset, digest = tape.position, hashlib.sha256()
    given = item.source
    source = io.BytesIO(given) if isinstance(given, bytes) else given.open("rb", buffering=0)
    with source:

        def after(chunk: bytes) -> bytes:
            """The chunk behind this one, which is hashed."""
            digest.update(chunk)
            return source.read(CHUNK)

        chunk = source.read(CHUNK)
        while chunk:
            following = beside(partial(after, chunk))
            tape.write(chunk)
            chunk = following()
    _check(item, tape.position - offset, size, digest.hexdigest())
    tape.write(bytes(ustar.padding(size)))
    return Member(key, item.name, offset, size, digest.hexdigest())


def _check(item: Item, written: int, size: int, found: str) -> None:
    if written != size or (item.sha256 and found != item.sha256):
        raise BundleError(
            "file_changed",
            f"{item.name}: found {written} bytes with SHA-256 {found}, "
            f"expected {size} bytes with SHA-256 {item.sha256 or 'any'}",
        )
