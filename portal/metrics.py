"""Figures for Prometheus, read from the database when they are asked for.

Any number of web and worker processes give the same figures: none of them counts by itself.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db.models import Count, Max, Min, Q, Sum
from django.utils.timezone import now
from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from catalog.models import CatalogRevision
from catalog.search.engine import engine
from fusion.models import Bundle
from workers import broker
from workers.heartbeat import alive
from workers.models import Run, RunCase, RunChunk, RunStage
from workers.process import QUEUES
from workers.room import existing

logger = logging.getLogger(__name__)
#: Seconds of a stage: from a sample to the largest collections.
BUCKETS = (0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 24 * 3600)


class Figures(Collector):
    """Everything that an operator may want to draw or be woken by."""

    def collect(self) -> Iterator[Metric]:
        yield from _queues()
        yield from _runs()
        yield _stages()
        yield from _cases()
        yield from _bundles()
        yield from _workers()
        yield from _index()
        yield _disk()


def registry() -> CollectorRegistry:
    """A registry with the figures; made for each answer, it keeps nothing."""
    made = CollectorRegistry(auto_describe=False)
    made.register(Figures())
    return made


def _gauge(name: str, about: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(f"imagingx_{name}", about, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _count(name: str, about: str, value: float | None) -> Metric:
    return CounterMetricFamily(f"imagingx_{name}", about, value=value or 0)


def _queues() -> Iterator[Metric]:
    is_up = GaugeMetricFamily("imagingx_broker_up", "The broker answers", labels=["broker"])
    depth = GaugeMetricFamily(
        "imagingx_queue_messages", "Messages that wait for a worker", labels=["broker", "queue"]
    )
    try:
        waiting = broker.depths(QUEUES)
    except Exception:
        logger.warning("metrics: the broker does not answer", exc_info=True)
        is_up.add_metric([broker.kind()], 0)
    else:
        is_up.add_metric([broker.kind()], 1)
        for queue, number in waiting.items():
            depth.add_metric([broker.kind(), queue], number)
    yield is_up
    yield depth


def _runs() -> Iterator[Metric]:
    states: dict[str, float] = dict.fromkeys(Run.State.values, 0)
    states |= dict(Run.objects.order_by().values_list("state").annotate(n=Count("pk")))
    yield _gauge("runs", "Runs by state", "state", states)
    failed = Run.objects.filter(state=Run.State.FAILED).order_by()
    codes = dict(failed.values_list("error_code").annotate(n=Count("pk")))
    yield _gauge("runs_failed", "Failed runs by code", "code", codes)
    chunks = RunChunk.objects.filter(run__in=Run.objects.unfinished()).order_by()
    open_ = dict(chunks.values_list("state").annotate(n=Count("pk")))
    yield _gauge("chunks", "Chunks of cases of runs under way, by state", "state", open_)
    totals = Run.objects.aggregate(
        lost=Sum("lost_leases"),
        retries=Sum("retries"),
        read=Sum("bytes_in"),
        oldest=Min("created_at", filter=Q(state=Run.State.QUEUED)),
    )
    yield _count("lost_leases", "Holds that ended by death or silence", totals["lost"])
    yield _count("retries", "Stages tried again after a fault", totals["retries"])
    yield _count("source_bytes", "Bytes of source files that runs have read", totals["read"])
    waited = (now() - totals["oldest"]).total_seconds() if totals["oldest"] else 0.0
    yield GaugeMetricFamily("imagingx_oldest_wait_seconds", "Age of the oldest waiting run", waited)


def _stages() -> Metric:
    done = RunStage.objects.filter(state=RunStage.State.DONE).exclude(seconds=None).order_by()
    within = {f"at{n}": Count("pk", filter=Q(seconds__lte=top)) for n, top in enumerate(BUCKETS)}
    rows: Iterable[Any] = done.values("name").annotate(n=Count("pk"), sum=Sum("seconds"), **within)
    family = HistogramMetricFamily(
        "imagingx_stage_seconds", "How long stages took, the last attempt", labels=["stage"]
    )
    for row in rows:
        buckets = [(str(float(top)), row[f"at{n}"]) for n, top in enumerate(BUCKETS)]
        family.add_metric([row["name"]], [*buckets, ("+Inf", row["n"])], row["sum"])
    return family


def _cases() -> Iterator[Metric]:
    family = CounterMetricFamily(
        "imagingx_cases", "Cases of all runs by state and code", labels=["state", "code"]
    )
    rows = RunCase.objects.order_by().values_list("state", "code").annotate(n=Count("pk"))
    for state, code, number in rows:
        family.add_metric([state, code], number)
    yield family


def _bundles() -> Iterator[Metric]:
    kept = Bundle.objects.kept().aggregate(n=Count("pk"), size=Sum("size_bytes"))
    made = Bundle.objects.aggregate(n=Count("pk"), size=Sum("size_bytes"))
    removed = made["n"] - kept["n"]
    yield _gauge("bundles", "Bundles by state", "state", {"kept": kept["n"], "removed": removed})
    yield _count("bundle_bytes", "Bytes of all bundles that were built", made["size"])
    storage = kept["size"] or 0
    yield GaugeMetricFamily("imagingx_bundle_storage_bytes", "Bytes of the bundles kept", storage)


def _workers() -> Iterator[Metric]:
    serving: dict[str, float] = dict.fromkeys(QUEUES, 0)
    for worker in alive():
        for queue in worker.queues:
            serving[queue] = serving.get(queue, 0) + 1
    yield _gauge("workers", "Workers that live, by the queue they serve", "queue", serving)


def _index() -> Iterator[Metric]:
    try:
        is_current = float(engine().is_current())
    except Exception:
        logger.warning("metrics: the search engine does not answer", exc_info=True)
        is_current = float("nan")
    about = "1: the search index is of the catalog as it is; NaN: the engine does not answer"
    yield GaugeMetricFamily("imagingx_index_is_current", about, is_current)
    loaded = CatalogRevision.objects.aggregate(at=Max("loaded_at"))["at"]
    about = "When the catalog was loaded, as Unix time"
    at = loaded.timestamp() if loaded else 0
    yield GaugeMetricFamily("imagingx_catalog_loaded_timestamp_seconds", about, at)


def _disk() -> Metric:
    places: dict[str, Any] = {"state": settings.STATE_DIR, "work": settings.WORK_DIR}
    free = {name: shutil.disk_usage(existing(Path(place))).free for name, place in places.items()}
    return _gauge("disk_free_bytes", "Bytes free on the disk of a folder", "folder", free)
