"""Tar shards in WebDataset order, written with both hashes in one pass over the bytes.

Members are stored, never compressed again: PNG and .nii.gz gain nothing. The offset of each
member's data is returned, so that a reader needs no scan.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from fusion.bundle import ustar
from fusion.bundle.errors import BundleError
from fusion.bundle.text import CHUNK

CAP_BYTES = 256 << 20
THREADS = 2


@dataclass(frozen=True)
class Item:
    """One member to write: a file on disk or bytes at hand.

    `sha256` is what the bytes must hash to; empty: not known beforehand.
    """

    name: str
    source: Path | bytes
    sha256: str = ""

    @property
    def size_bytes(self) -> int:
        return len(self.source) if isinstance(self.source, bytes) else self.source.stat().st_size


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
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(lambda job: write_shard(*job), planned))


def write_shard(path: Path, samples: Sequence[Sample]) -> Shard:
    """Write one shard in the order of `samples`, and wait for the disk."""
    with path.open("wb") as out:
        tape = _Tape(out)
        members = [_write(tape, sample.key, item) for sample in samples for item in sample.items]
        tape.write(ustar.END)
        out.flush()
        os.fsync(out.fileno())
    return Shard(path.name, tape.position, tape.digest.hexdigest(), tuple(members))


class _Tape:
    """A file that hashes what is written to it and knows where it stands."""

    def __init__(self, out: IO[bytes]) -> None:
        self.out, self.digest, self.position = out, hashlib.sha256(), 0

    def write(self, data: bytes) -> None:
        self.out.write(data)
        self.digest.update(data)
        self.position += len(data)


def _write(tape: _Tape, key: str, item: Item) -> Member:
    size = item.size_bytes
    tape.write(ustar.header(item.name, size))
    offset, digest = tape.position, hashlib.sha256()
    if isinstance(item.source, bytes):
        digest.update(item.source)
        tape.write(item.source)
    else:
        with item.source.open("rb") as source:
            while chunk := source.read(CHUNK):
                digest.update(chunk)
                tape.write(chunk)
    found, written = digest.hexdigest(), tape.position - offset
    if written != size or (item.sha256 and found != item.sha256):
        raise BundleError(
            "file_changed",
            f"{item.name}: found {written} bytes with SHA-256 {found}, "
            f"expected {size} bytes with SHA-256 {item.sha256 or 'any'}",
        )
    tape.write(bytes(ustar.padding(size)))
    return Member(key, item.name, offset, size, found)
