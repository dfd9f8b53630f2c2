"""Text files of a bundle: equal content gives equal bytes on every machine."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

CHUNK = 1 << 20


def dump_json(value: Any, *, indent: int | None = 2) -> str:
    """JSON with sorted keys, LF, shortest exact floats; NaN and infinity are refused."""
    separators = (",", ": ") if indent else (",", ":")
    return json.dumps(
        value,
        sort_keys=True,
        ensure_ascii=False,
        allow_nan=False,
        indent=indent,
        separators=separators,
    )


def json_bytes(value: Any) -> bytes:
    """A JSON file's content."""
    return (dump_json(value) + "\n").encode("utf-8")


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 with LF line ends, and wait for the disk."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file, and wait for the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())


def write_json(path: Path, value: Any) -> None:
    write_bytes(path, json_bytes(value))


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """One compact JSON object per line."""
    write_text(path, "".join(dump_json(row, indent=None) + "\n" for row in rows))


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, hex."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sha256_text(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
