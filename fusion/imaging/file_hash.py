"""Hashes of a file's bytes; importing this loads no library of arrays or images."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

_BLOCK = 1 << 18  # bytes hashed at a time


def _nothing(_bytes_read: int) -> None:
    pass


def file_sha256(path: Path | str, told: Callable[[int], None] = _nothing) -> str:
    """T0: SHA-256 of the file's bytes, as hex; `told` as in `file_hash`."""
    return file_hash(path, "sha256", told)


def file_hash(path: Path | str, kind: str, told: Callable[[int], None] = _nothing) -> str:
    """A hash of the file's bytes, as hex.

    Args:
        kind: its name in hashlib.
        told: called after each block with the bytes read so far; what it raises ends the reading.
    """
    digest, size = hashlib.new(kind, usedforsecurity=False), 0
    block = memoryview(bytearray(_BLOCK))
    with Path(path).open("rb", buffering=0) as stream:
        while read := stream.readinto(block):
            digest.update(block[:read])
            size += read
            told(size)
    return digest.hexdigest()
