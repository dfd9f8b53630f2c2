"""Remove what nobody needs any more: scratch, leftovers, caches, and bundles by rule.

Each thing that goes is logged with its reason. A bundle keeps its row, so that its page can say
why it is gone and by which recipe it is built again.
"""

from __future__ import annotations

import logging
import shutil
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from django.conf import settings
from django.core.files.storage import FileSystemStorage, Storage, storages
from django.db.models import Q, QuerySet
from django.utils.timezone import now

from fusion.bundle.names import SUMS
from fusion.models import Bundle, Upload
from fusion.sources.download import PEOPLE
from workers import uploads
from workers.models import Run
from workers.submit import digest, key_of

logger = logging.getLogger(__name__)
#: Leftovers younger than this may still be in somebody's hands.
GRACE_SECONDS = 6 * 3600
SHAREABLE = "shareable"
GIVEN_UP = "nobody holds it any more"
DAY = 86400


@dataclass(frozen=True)
class Leftover:
    """Something to remove: which, why, and the bytes that come free."""

    kind: str
    name: str
    why: str
    bytes: int
    path: Path | None = None
    bundle: Bundle | None = None
    upload: Upload | None = None


def tidy(*, dry_run: bool = False) -> list[Leftover]:
    """Remove every leftover, or only tell what would go."""
    found = [*_scratch(), *_partials(), *_messages(), *_cached(), *_bundles(), *_uploads()]
    for one in found:
        if not dry_run:
            if one.bundle is not None:
                remove_bundle(one.bundle, one.why)
            elif one.upload is not None:
                uploads.delete(one.upload)
            elif one.path is not None:
                _remove(one.path)
            logger.info("removed %s %s: %s, %d bytes", one.kind, one.name, one.why, one.bytes)
    return found


def holders(bundle: Bundle) -> QuerySet[Run]:
    """Runs whose owners have not given the bundle up, and those that are making it again."""
    again = Q(pk__in=Run.objects.unfinished(), idempotency_key__startswith=key_of(bundle.recipe))
    return Run.objects.filter(Q(bundle=bundle, given_up_at=None) | again)


def remove_bundle(bundle: Bundle, why: str) -> None:
    """Remove the files of a bundle; its row stays and says why. Safe to run twice.

    SHA256SUMS goes first: a bundle without it counts as not there.
    """
    storage = storages["bundles"]
    rows = Bundle.objects.filter(pk=bundle.pk, pinned=False)
    if not rows.update(removed_at=now(), removed_why=why[:300]):
        return
    with suppress(FileNotFoundError):
        storage.delete(f"{bundle.pk}/{SUMS}")
    if isinstance(storage, FileSystemStorage):
        _remove(Path(storage.path(bundle.pk)))
    else:
        for name in _names(storage, bundle.pk):
            storage.delete(name)


def sweep_work_folders() -> int:
    """Remove the scratch of runs that have ended; returns how many folders went."""
    root = Path(settings.WORK_DIR)
    if not root.is_dir():
        return 0
    ids = {name for path in root.iterdir() if (name := _uuid(path.name))}
    ended = Run.objects.filter(pk__in=ids).exclude(pk__in=Run.objects.unfinished())
    kept_from = now() - timedelta(hours=settings.KEEP_FAILED_HOURS)  # for another try
    ended = ended.exclude(state=Run.State.FAILED, finished_at__gt=kept_from)
    folders = [run.folder for run in ended.only("pk")]
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    return len(folders)


def _scratch() -> Iterator[Leftover]:
    """Work folders that no run has: its row was deleted, or the database is a new one."""
    root = Path(settings.WORK_DIR)
    found = {name: path for path in _entries(root) if (name := _uuid(path.name))}
    known = set(Run.objects.filter(pk__in=found).values_list("pk", flat=True))
    for name, path in found.items():
        if name not in known and _is_old(path, GRACE_SECONDS):
            yield Leftover("scratch", path.name, "no run has it", _bytes(path), path)


def _partials() -> Iterator[Leftover]:
    """Bundles whose copying or replacing was cut short."""
    storage = storages["bundles"]
    if isinstance(storage, FileSystemStorage):
        for path in Path(storage.location).glob(".*.partial"):
            if _is_old(path, GRACE_SECONDS):
                yield Leftover("partial", path.name, "was never finished", _bytes(path), path)


def _messages() -> Iterator[Leftover]:
    """Messages of the embedded broker whose writer or taker died in between."""
    for path in _entries(Path(settings.STATE_DIR) / "queue"):
        if path.suffix in {".part", ".taken"} and _is_old(path, GRACE_SECONDS):
            yield Leftover("message", path.name, "nobody has it in hand", _bytes(path), path)


def _cached() -> Iterator[Leftover]:
    """Fetched and unpacked sources that no run has used for long."""
    days = settings.KEEP_CACHE_DAYS
    if not days or Run.objects.unfinished().exists():  # they may be read just now
        return
    state = Path(settings.STATE_DIR)
    groups = ("archives", "huggingface", "blobs", "fetched", "partial", "sets")
    people = _entries(state / "cache" / PEOPLE)
    for cache in (state / "cache", *people, *_entries(state / "harvest")):
        for path in (one for group in groups for one in _entries(cache / group)):
            if _is_old(path, days * DAY):
                why = f"not used for {days} days"
                name = path.relative_to(cache).as_posix()
                yield Leftover("cache", name, why, _bytes(path), path)


def _bundles() -> Iterator[Leftover]:
    """Bundles that nobody holds any more, beyond the newest of their recipe, or too old.

    Pinned ones, shareable ones (others may have been told of them), those of runs under way and
    those that are being downloaded stay.
    """
    rows = Bundle.objects.kept().filter(pinned=False).exclude(read_until__gt=now())
    rows = rows.defer("summary", "files", "baseline")
    given_up = rows.filter(pk__in=Run.objects.exclude(given_up_at=None).values("bundle"))
    lost = {bundle.pk: bundle for bundle in given_up if not holders(bundle).exists()}
    for bundle in lost.values():
        yield Leftover("bundle", bundle.pk, GIVEN_UP, bundle.size_bytes, bundle=bundle)
    most, days = settings.KEEP_BUNDLES, settings.KEEP_BUNDLE_DAYS
    if not (most or days):
        return
    rows = rows.exclude(build=SHAREABLE).exclude(pk__in=lost)
    rows = rows.exclude(Q(runs__in=Run.objects.unfinished()))
    newer: Counter[str] = Counter()
    for bundle in rows.order_by("-created_at", "-bundle_id").iterator():
        recipe = digest(bundle.recipe)
        newer[recipe] += 1
        if most and newer[recipe] > most:
            why = f"{most} newer bundles of its recipe are kept"
        elif days and bundle.created_at < now() - timedelta(days=days):
            why = f"older than {days} days"
        else:
            continue
        yield Leftover("bundle", bundle.pk, why, bundle.size_bytes, bundle=bundle)


def _uploads() -> Iterator[Leftover]:
    """Own data that nobody sent to the end or decided on, and folders that no upload has."""
    for row in uploads.expired():
        why = f"{row.get_state_display()} for {settings.KEEP_UPLOAD_DAYS} days"
        yield Leftover("upload", str(row.pk), why, row.size_bytes, upload=row)
    for path in _entries(Path(settings.STATE_DIR) / "forms"):
        if _is_old(path, GRACE_SECONDS):
            yield Leftover("upload", path.name, "its form was cut short", _bytes(path), path)
    root = Path(settings.UPLOAD_DIR)
    found = {name: path for path in _entries(root) if (name := _uuid(path.name))}
    known = set(Upload.objects.filter(pk__in=found).values_list("pk", flat=True))
    kept = set(Upload.objects.kept().values_list("sha256", flat=True))
    lost = [path for name, path in found.items() if name not in known]
    lost += [path for path in _entries(root / "kept") if path.name not in kept]
    for path in lost:
        if _is_old(path, GRACE_SECONDS):
            yield Leftover("upload", path.name, "no upload has it", _bytes(path), path)


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _is_old(path: Path, seconds: float) -> bool:
    """Neither the thing itself nor what lies directly in it was touched for so long."""
    try:
        times = [path.stat().st_mtime, *(one.stat().st_mtime for one in _entries(path))]
    except FileNotFoundError:
        return False
    return time.time() - max(times) > seconds


def _bytes(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(one.lstat().st_size for one in path.rglob("*") if one.is_file())


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _names(storage: Storage, folder: str) -> Iterator[str]:
    folders, files = storage.listdir(folder)
    for name in files:
        yield f"{folder}/{name}"
    for name in folders:
        yield from _names(storage, f"{folder}/{name}")


def _uuid(name: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(name)
    except ValueError:
        return None
