"""Is what the portal needs there: each part asked within a time limit, with the reason if not."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from django.conf import settings
from django.core.files.storage import storages
from django.db import connection

from catalog.search.engine import engine
from workers import broker
from workers.logs import as_one_line, without_secrets
from workers.process import QUEUES
from workers.room import existing, size

LIMIT_SECONDS = 3.0
LONGEST_REASON = 200


@dataclass(frozen=True)
class Part:
    """One thing that the portal needs: what was found, or why it cannot be used."""

    name: str
    ok: bool
    detail: str
    seconds: float


def look(limit: float = LIMIT_SECONDS) -> list[Part]:
    """Every part, all asked at the same time; one that does not answer in time is away."""
    answers: SimpleQueue[Part] = SimpleQueue()
    for name, question in PARTS.items():
        threading.Thread(target=_ask, args=(name, question, answers), daemon=True).start()
    found: dict[str, Part] = {}
    end = time.monotonic() + limit
    while len(found) < len(PARTS) and (left := end - time.monotonic()) > 0:
        try:
            part = answers.get(timeout=left)
        except Empty:
            break
        found[part.name] = part
    late = f"no answer within {limit:g} s"
    return [found.get(name) or Part(name, ok=False, detail=late, seconds=limit) for name in PARTS]


def _ask(name: str, question: Callable[[], str], answers: SimpleQueue[Part]) -> None:
    started = time.monotonic()
    try:
        ok, detail = True, question()
    except Exception as error:  # noqa: BLE001 - whatever it is, the part cannot be used
        reason = without_secrets(f"{type(error).__name__}: {error}")
        ok, detail = False, as_one_line(reason)[:LONGEST_REASON]
    finally:
        connection.close()  # of this thread alone
    answers.put(Part(name, ok, detail, round(time.monotonic() - started, 3)))


def _database() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return str(connection.vendor)


def _broker() -> str:
    waiting = broker.depths(QUEUES, seconds=2)
    told = ", ".join(f"{number} in {queue}" for queue, number in waiting.items())
    return f"{broker.kind()}: {told}"


def _search() -> str:
    kind = "elasticsearch" if settings.SEARCH_URL else "tantivy"
    return f"{kind}: {'current' if engine().is_current() else 'built at the next search'}"


def _storage() -> str:
    storage: Any = storages["bundles"]
    storage.exists("SHA256SUMS")
    return type(storage).__name__


def _disk() -> str:
    place = existing(Path(settings.STATE_DIR))
    free = shutil.disk_usage(place).free
    if free < settings.DISK_RESERVE_BYTES:
        least = size(settings.DISK_RESERVE_BYTES)
        raise OSError(f"found {size(free)} free, expected at least {least}")
    return f"{size(free)} free"


PARTS: dict[str, Callable[[], str]] = {
    "database": _database,
    "broker": _broker,
    "search": _search,
    "storage": _storage,
    "disk": _disk,
}
