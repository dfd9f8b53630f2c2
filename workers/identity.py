"""Who holds a run: a name that tells whether the process behind it still lives."""

from __future__ import annotations

import os
import socket
import uuid
from pathlib import Path

PROC = Path("/proc")


def new_token() -> str:
    """A name for one claim of this process: place, process id, its start, a nonce."""
    return f"{_place()}/{os.getpid()}/{_started(os.getpid())}/{uuid.uuid4().hex[:12]}"


def is_gone(token: str) -> bool:
    """The process that made `token` ran in this very place and has ended.

    False when it ran elsewhere: only the end of its lease tells then.
    """
    try:
        place, pid, started, _ = token.rsplit("/", 3)
        number = int(pid)
    except ValueError:
        return False
    if place != _place():
        return False
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return _started(number) != started


def _place() -> str:
    """Host and process-id namespace: process ids mean the same inside one place."""
    try:
        namespace = (PROC / "self/ns/pid").readlink().name.strip("pid:[]")
    except OSError:
        namespace = "0"
    return f"{socket.gethostname()[:80]}/{namespace}"


def _started(pid: int) -> str:
    """Start of a process in clock ticks since boot; "" where the system does not tell.

    A zombie counts as ended.
    """
    try:
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]
