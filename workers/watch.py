"""Each worker looks after lost runs by itself: no beat process, no message to wait behind."""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
import uuid
from pathlib import Path
from typing import Any

from celery.signals import worker_ready
from django.conf import settings
from django.db import DatabaseError, connections

from workers.models import Run
from workers.submit import requeue_lost_runs

_LOOKING = threading.Lock()
logger = logging.getLogger(__name__)


def install() -> None:
    """Look when a worker is ready, then every RUN_WATCH_SECONDS."""
    worker_ready.connect(_start, dispatch_uid="workers.watch")


def sweep_work_folders() -> int:
    """Remove the scratch of runs that have ended; returns how many folders went."""
    root = Path(settings.WORK_DIR)
    if not root.is_dir():
        return 0
    ids = {name for path in root.iterdir() if (name := _uuid(path.name))}
    ended = Run.objects.filter(pk__in=ids).exclude(pk__in=Run.objects.unfinished())
    folders = [run.folder for run in ended]
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    return len(folders)


def look(patience_seconds: float | None = None) -> None:
    """One round; a database or broker that is away is left to the next."""
    try:
        requeue_lost_runs(patience_seconds)
        sweep_work_folders()
    except (DatabaseError, OSError):
        logger.warning("lost runs: could not look", exc_info=True)
    finally:
        # The pool forks from this process: no open connection may be handed down.
        connections.close_all()


def _start(**_: Any) -> None:
    look(patience_seconds=0)
    # The pool forks from this process: never in the middle of a look, whose locks the child
    # would inherit locked.
    os.register_at_fork(
        before=_LOOKING.acquire,
        after_in_parent=_LOOKING.release,
        after_in_child=_LOOKING.release,
    )
    threading.Thread(target=_look_for_ever, name="watch", daemon=True).start()


def _look_for_ever() -> None:
    while True:
        time.sleep(settings.RUN_WATCH_SECONDS)
        with _LOOKING:
            look()


def _uuid(name: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(name)
    except ValueError:
        return None
