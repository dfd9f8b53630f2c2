"""How a worker process and beat are started: command lines and environment."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping

from django.conf import settings

from fusion.imaging.parallel import KEEP_MEMORY

QUEUES = ("cpu", "gpu", "io")


def worker_command(queues: str = ",".join(QUEUES), concurrency: int = 1) -> list[str]:
    """The command line of a worker in the foreground."""
    return [
        *(sys.executable, "-m", "celery", "--quiet", "--app", "portal", "worker"),
        *("--queues", queues, "--concurrency", str(concurrency), "--pool", "prefork"),
        *("--without-gossip", "--without-mingle", "--without-heartbeat"),
        *("--loglevel", logging.getLevelName(logging.getLogger().level)),
    ]


def beat_command() -> list[str]:
    """The command line of Celery's beat, which sends what is due to the workers."""
    return [
        *(sys.executable, "-m", "celery", "--quiet", "--app", "portal", "beat"),
        *("--pidfile", "", "--loglevel", logging.getLevelName(logging.getLogger().level)),
    ]


def worker_environment(base: Mapping[str, str] = os.environ) -> dict[str, str]:
    """`base`, memory kept, and the threads of the compute libraries bounded; set values stay."""
    threads = str(settings.THREADS)
    bounds = {"OMP_NUM_THREADS": threads, "NUMBA_NUM_THREADS": threads}
    return {**KEEP_MEMORY, **(bounds if settings.THREADS else {}), **base}
