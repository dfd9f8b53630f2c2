"""Each worker looks after lost runs by itself: no beat process, no message to wait behind."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from typing import Any

from celery.signals import worker_ready, worker_shutdown
from django.conf import settings
from django.db import connections

from workers import heartbeat
from workers.chunks import needed_results, requeue_lost_chunks
from workers.deposits import requeue_deposits
from workers.heartbeat import children_of, queues_of
from workers.models import Run
from workers.results import evict
from workers.submit import requeue_lost_runs, send_notices
from workers.tidy import sweep_work_folders, tidy
from workers.uploads import requeue_uploads

_LOOKING = threading.Lock()
logger = logging.getLogger(__name__)


def install() -> None:
    """Look when a worker is ready, then every RUN_WATCH_SECONDS."""
    worker_ready.connect(_start, dispatch_uid="workers.watch")
    worker_shutdown.connect(_stop, dispatch_uid="workers.watch")


def beat(consumer: Any) -> None:
    """Say that this worker lives."""
    try:
        children = children_of(os.getpid())
        heartbeat.beat(queues_of(consumer), _concurrency(consumer), children)
    except Exception:  # each client of a database or broker has errors of its own
        logger.warning("worker: could not say that it lives", exc_info=True)
    finally:
        connections.close_all()


def _concurrency(consumer: Any) -> int:
    return int(getattr(consumer.pool, "num_processes", 1) or 1)


def tidy_quietly() -> None:
    """Remove what nobody needs; what cannot be reached is left to the next time."""
    try:
        tidy()
        sweep_results()
    except Exception:  # an object store has errors of its own, and the thread must live
        logger.warning("could not tidy up", exc_info=True)
    finally:
        connections.close_all()


def sweep_results() -> int:
    """Keep the stores of finished cases at their size; returns how much went."""
    unfinished = {str(pk) for pk in Run.objects.unfinished().values_list("pk", flat=True)}
    return evict(needed_results(), unfinished)


def look(patience_seconds: float | None = None) -> None:
    """One round; a database or broker that is away is left to the next."""
    try:
        requeue_lost_runs(patience_seconds)
        requeue_lost_chunks(patience_seconds)
        requeue_uploads(patience_seconds)
        requeue_deposits(patience_seconds)
        sweep_work_folders()
        send_notices()
    except Exception:  # what is away may come back, and the thread must live to see it
        logger.warning("lost runs: could not look", exc_info=True)
    finally:
        # The pool forks from this process: no open connection may be handed down.
        connections.close_all()


def _start(sender: Any, **_: Any) -> None:
    beat(sender)
    look(patience_seconds=0)
    # The pool forks from this process: never in the middle of a look, whose locks the child
    # would inherit locked.
    os.register_at_fork(
        before=_LOOKING.acquire,
        after_in_parent=_LOOKING.release,
        after_in_child=_LOOKING.release,
    )
    threading.Thread(target=_look_for_ever, args=(sender,), name="watch", daemon=True).start()


def _stop(**_: Any) -> None:
    try:
        heartbeat.forget()
    except Exception:  # its row grows old by itself
        logger.warning("worker: could not sign off", exc_info=True)
    finally:
        connections.close_all()


def _look_for_ever(consumer: Any) -> None:
    tidied = -math.inf
    while True:
        with _LOOKING:
            if time.monotonic() - tidied > settings.TIDY_SECONDS:
                tidy_quietly()
                tidied = time.monotonic()
        time.sleep(settings.RUN_WATCH_SECONDS)
        with _LOOKING:
            beat(consumer)
            look()
