"""Tar shards in WebDataset order, written with both hashes in one pass over the bytes.

Members are stored, never compressed again: PNG and .nii.gz gain nothing. The offset of each
member's data is returned, so that a reader needs no scan.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import IO

from fusion.bundle import ustar
from fusion.bundle.errors import BundleError
from fusion.bundle.text import CHUNK
from fusion.imaging.parallel import beside, in_order, thread_count

CAP_BYTES = 256 << 20
#: Small members are read and hashed together, about so many bytes at a time.
BATCH = 2 << 20


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


def distribute(samples: Sequence[Sample], cap_bytes: int = CAP_BYTES) -> list[list[Sample]]:
    """Cut samples, sorted by key, into shards of at most `cap_bytes`; a larger sample is alone."""
    shards: list[list[Sample]] = []
    filled = 0
    for sample in sorted(samples, key=lambda one: one.key):
        size = sample.size_bytes
        if not shards or filled + size + len(ustar.END) > cap_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(sample)
        filled += size
    return shards


def write_shards(
    folder: Path, prefix: str, samples: Sequence[Sample], cap_bytes: int = CAP_BYTES
) -> list[Shard]:
    """Write `<prefix>-000000.tar` and so on, one thread per shard.

    Raises:
        BundleError: a file changed since its hash was noted, or a name does not fit.
    """
    folder.mkdir(parents=True, exist_ok=True)
    planned = [
        (folder / f"{prefix}-{number:06d}.tar", part)
        for number, part in enumerate(distribute(samples, cap_bytes))
    ]
    # Each shard keeps two threads busy: one hashes files, one the shard.
    with ThreadPoolExecutor(max(1, thread_count() // 2)) as pool:
        return list(pool.map(lambda job: write_shard(*job), planned))


def write_shard(path: Path, samples: Sequence[Sample]) -> Shard:
    """Write one shard in the order of `samples`, and wait for the disk."""
    batches = _batches([(sample.key, item) for sample in samples for item in sample.items])
    with path.open("wb") as out:
        tape, members = _Tape(out), list[Member]()
        for batch, packed in zip(
            batches, in_order(lambda n: _pack(batches[n]), len(batches)), strict=True
        ):
            if packed is None:
                members.append(_stream(tape, *batch[0]))
                continue
            members += [replace(one, offset=tape.position + one.offset) for one in packed.members]
            tape.write(packed.data)
        tape.write(ustar.END)
        out.flush()
        os.fsync(out.fileno())
    return Shard(path.name, tape.position, tape.digest.hexdigest(), tuple(members))


class _Tape:
    """A file that hashes what is written to it and knows where it stands."""

    def __init__(self, out: IO[bytes]) -> None:
        self.out, self.digest, self.position = out, hashlib.sha256(), 0

    def write(self, data: bytes | bytearray) -> None:
        self.out.write(data)
        self.digest.update(data)
        self.position += len(data)


@dataclass(frozen=True)
class _Packed:
    """Some members as they lie in the archive; offsets count from the first byte."""

    data: bytearray
    members: list[Member]


def _batches(items: Sequence[_Keyed]) -> list[list[_Keyed]]:
    """Small members together, up to about BATCH bytes; a larger member is alone."""
    batches: list[list[_Keyed]] = []
    room = 0
    for key, item in items:
        size = ustar.member_bytes(item.size_bytes)
        if not batches or size > room:
            batches.append([])
            room = BATCH
        batches[-1].append((key, item))
        room -= size
    return batches


def _pack(batch: Sequence[_Keyed]) -> _Packed | None:
    """The members of a batch, read and hashed; None: too large to be held in memory."""
    if batch[0][1].size_bytes > BATCH:
        return None
    # Zeros, as padding wants them; files are read to their places.
    packed = _Packed(bytearray(sum(ustar.member_bytes(item.size_bytes) for _, item in batch)), [])
    view, offset = memoryview(packed.data), 0
    for key, item in batch:
        size = item.size_bytes
        view[offset : offset + ustar.BLOCK] = ustar.header(item.name, size)
        data = view[offset + ustar.BLOCK :][:size]
        written = _read_into(data, item.source)
        found = hashlib.sha256(data).hexdigest()
        _check(item, written, size, found)
        packed.members.append(Member(key, item.name, offset + ustar.BLOCK, size, found))
        offset += ustar.member_bytes(size)
    return packed


def _read_into(data: memoryview, source: Path | bytes) -> int:
    """Fill `data` from the source; returns the size of the source, if it is not larger by much."""
    if isinstance(source, bytes):
        data[:] = source
        return len(source)
    handle = os.open(source, os.O_RDONLY)
    try:
        filled = os.readv(handle, [data])
        while filled < len(data) and (more := os.readv(handle, [data[filled:]])):
            filled += more
        return filled + len(os.read(handle, 1))
    finally:
        os.close(handle)


def _stream(tape: _Tape, key: str, item: Item) -> Member:
    """A large member, chunk by chunk; its hash grows beside the shard's."""
    size = item.size_bytes
    tape.write(ustar.header(item.name, size))
    offset, digest = tape.position, hashlib.sha256()
    source = io.BytesIO(item.source) if isinstance(item.source, bytes) else item.source.open("rb")
    with source:
        while chunk := source.read(CHUNK):
            hashed = beside(partial(digest.update, chunk))
            tape.write(chunk)
            hashed()
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
