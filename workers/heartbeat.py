"""Workers say that they live: a row each, renewed by the thread that looks after lost runs."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import subprocess
from datetime import timedelta
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db.models import QuerySet

from workers.clock import now
from workers.identity import new_token
from workers.models import Run, RunChunk, WorkerProcess

PACKAGES = ("celery", "numpy", "torch", "monai")
MISSED_BEATS = 3  # so many, and a worker counts as gone
FORGOTTEN_HOURS = 24


def beat(queues: list[str], concurrency: int, children: list[int]) -> None:
    """Renew the row of this worker; rows of workers long gone are forgotten."""
    name = process_name()
    fields = {
        "host": socket.gethostname()[:80],
        "pid": os.getpid(),
        "queues": queues,
        "concurrency": concurrency,
        "children": children,
        "device": device(),
        "versions": versions(),
        "seen_at": now(),
    }
    WorkerProcess.objects.update_or_create(
        name=name, defaults=fields, create_defaults={**fields, "started_at": now()}
    )
    gone = now() - timedelta(hours=FORGOTTEN_HOURS)
    WorkerProcess.objects.filter(seen_at__lt=gone).delete()


def forget() -> None:
    """This worker ends by itself."""
    WorkerProcess.objects.filter(name=process_name()).delete()


def process_name() -> str:
    """Place, process id and start: of one process as long as it lives."""
    return new_token().rpartition("/")[0]


def alive() -> QuerySet[WorkerProcess]:
    """Workers that were heard of a few beats ago at most."""
    since = now() - timedelta(seconds=MISSED_BEATS * settings.RUN_WATCH_SECONDS)
    return WorkerProcess.objects.filter(seen_at__gte=since)


def work_of(workers: list[WorkerProcess]) -> dict[str, list[str]]:
    """What each worker does now, by its name: the runs and chunks that its processes hold."""
    runs = Run.objects.filter(lease_until__gte=now(), state=Run.State.RUNNING)
    held = [
        (run.worker, f"{run.stage}: {run.title}") for run in runs.only("worker", "stage", "title")
    ]
    chunks = RunChunk.objects.in_work().filter(lease_until__gte=now()).select_related("run")
    held += [(c.worker, f"{c.stage} {c.number}: {c.run.title}") for c in chunks.defer("cases")]
    found: dict[str, list[str]] = {worker.name: [] for worker in workers}
    for worker in workers:
        place = worker.name.rsplit("/", 2)[0]
        mine = {f"{place}/{pid}/" for pid in (worker.pid, *worker.children)}
        found[worker.name] = [what for token, what in held if _process(token) in mine]
    return found


def _process(token: str) -> str:
    """`place/pid/` of a claim's token."""
    return "/".join(token.rsplit("/", 3)[:2]) + "/"


@cache
def versions() -> dict[str, str]:
    """Of Python and of the packages that decide what a build gives."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


@cache
def device() -> str:
    """The GPU that baselines may use, as its driver names it, else the processor.

    Asked without torch: this process only hands out work.
    """
    if settings.DEVICE != "cpu" and (tool := shutil.which("nvidia-smi")):
        query = [tool, "--query-gpu=name,memory.total", "--format=csv,noheader"]
        told = subprocess.run(query, capture_output=True, text=True, check=False, timeout=10)
        if told.returncode == 0 and told.stdout.strip():
            return told.stdout.strip().splitlines()[0][:120]
    return f"CPU, {os.cpu_count()} cores"


def children_of(pid: int) -> list[int]:
    """Process ids of the children, where the system tells."""
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        found += [int(word) for word in _read(path).split()]
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def queues_of(consumer: Any) -> list[str]:
    """Names of the queues that a Celery worker consumes from."""
    return sorted(consumer.app.amqp.queues.consume_from)
