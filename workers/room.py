"""Is there room for a run: on the disks, and in what its owner may store."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from django.conf import settings
from django.core.files.storage import FileSystemStorage, storages
from django.db.models import Sum

from catalog.services import facts_of
from fusion.cases import find_cases
from fusion.errors import BuildError
from fusion.locations import place_of
from fusion.models import Bundle
from fusion.source import SourceDescription
from fusion.sources import listing
from fusion.sources.archive import is_archive
from fusion.sources.own import folder_of
from workers.models import Run

GB = 10**9
#: Bytes of a bundle for each byte of its source files, by how these are packed: the most that the
#: shipped recipes needed, rounded up (docs/operating.md has the figures).
GROWTH = {"lossy": 6.0, "packed": 2.5, "plain": 1.0}
LOSSY = frozenset({".jpg", ".jpeg", ".webp", ".mp4", ".avi", ".mov", ".mpg", ".mpeg"})
PLAIN = frozenset({".nii", ".img", ".raw", ".mhd", ".hdr", ".npy", ".bmp", ".ppm", ".pgm", ".mgh"})
MORE_ROOM = "an operator makes room (manage.py keep_bundle remove) or allows more"
OWN_ROOM = "bundles are removed on the page of one's account, or an operator allows more"
UNPACKED = 3  # what an archive grows by when it is unpacked


def asked_bytes(sources: Iterable[Mapping[str, Any]]) -> tuple[int, int]:
    """Bytes that a bundle of `sources` will have and those fetched or unpacked for it, about.

    A source that is not here and whose size nobody states counts as nothing, and so does a part of
    one, other than of Imaging Data Commons, whose index tells.
    """
    bundle = fetched = 0.0
    for source in sources:
        place = source["location"]
        if place["kind"] in {"local", "manual", "own"}:
            own = place["kind"] == "own"
            here = folder_of(place["sha256"]) if own else Path(settings.DATA_ROOT) / place["path"]
            if here.is_file() and is_archive(here):
                fetched += UNPACKED * here.stat().st_size
                bundle += UNPACKED * here.stat().st_size
            elif here.is_dir():
                bundle += _grown(_used_files(source, here))
        elif place["kind"] == "http" and all(one.get("bytes") for one in place["files"]):
            stated = sum(one["bytes"] for one in place["files"])
            fetched += stated * (1 + UNPACKED)
            bundle += UNPACKED * stated
        elif place["kind"] == "idc":
            with suppress(BuildError):  # what cannot be chosen is said by the build
                stated = listing(place_of(place)).known_bytes  # from the index: nobody is asked
                fetched += stated
                bundle += stated
        elif not any(place.get(key) for key in ("allow_patterns", "subjects", "datatypes")):
            slug = source["dataset"]
            size = facts_of([slug]).get(slug, {}).get("size_bytes") or 0
            fetched += size
            bundle += size
    return round(bundle), round(fetched)


def check_room(sources: Iterable[Mapping[str, Any]], owner: Any) -> int:
    """Refuse a run that there is no room for; returns the bytes that its bundle will have, about.

    Raises:
        BuildError: disk_full or storage_quota, with the figures found and allowed.
    """
    bundle, fetched = asked_bytes(sources)
    waiting = Run.objects.filter(state=Run.State.QUEUED)
    check_disks(bundle + _asked(waiting), fetched)
    taken, coming = _taken(Bundle.objects.kept(), Run.objects.all())
    _check_storage("all users", settings.BUNDLE_BYTES, taken, coming, bundle, MORE_ROOM)
    taken, coming = taken_by(owner)
    who = f"user {owner}" if owner else "visitors without an account"
    allowed, way = settings.BUNDLE_BYTES_PER_USER, OWN_ROOM if owner else MORE_ROOM
    _check_storage(who, allowed, taken, coming, bundle, way)
    return bundle


def taken_by(owner: Any) -> tuple[int, int]:
    """Bytes of a user's bundles, and of those that the runs under way will have, about."""
    runs = Run.objects.filter(owner=owner)
    made = runs.filter(given_up_at=None).exclude(bundle=None).values("bundle")
    return _taken(Bundle.objects.kept().filter(pk__in=made), runs)


def check_disks(bundle: int, fetched: int = 0) -> None:
    """Refuse what the disks cannot hold beside their reserve.

    A build keeps each case once in its scratch and once in the bundle that it packs there.

    Raises:
        BuildError: disk_full.
    """
    needed = {Path(settings.WORK_DIR): 2 * bundle, Path(settings.STATE_DIR) / "cache": fetched}
    storage = storages["bundles"]
    if isinstance(storage, FileSystemStorage):
        target = Path(storage.location)
        if _disk(target) != _disk(Path(settings.WORK_DIR)):  # else a bundle is only renamed
            needed[target] = bundle
    by_disk: dict[int, list[Path]] = {}
    for place in needed:
        by_disk.setdefault(_disk(place), []).append(place)
    for places in by_disk.values():
        sum_needed = sum(needed[place] for place in places)
        free = shutil.disk_usage(existing(places[0])).free
        if sum_needed and sum_needed + settings.DISK_RESERVE_BYTES > free:
            raise BuildError(
                "disk_full",
                f"found {size(free)} free on the disk of {places[0].name!r}, needed about "
                f"{size(sum_needed)} and a reserve of {size(settings.DISK_RESERVE_BYTES)}",
            )


def size(number: float) -> str:
    """Bytes for people: 0.2 GB, 12.5 GB, 640 kB."""
    for unit, name in ((GB, "GB"), (10**6, "MB"), (10**3, "kB")):
        if number >= unit / 10:
            return f"{number / unit:.1f} {name}"
    return f"{number:.0f} bytes"


def existing(place: Path) -> Path:
    """The folder itself, or the one above it in which it will be made."""
    return next(one for one in (place, *place.parents) if one.exists())


def _disk(place: Path) -> int:
    return existing(place).stat().st_dev


def _asked(runs: Any) -> int:
    return runs.aggregate(n=Sum("bytes_asked"))["n"] or 0


def _taken(bundles: Any, runs: Any) -> tuple[int, int]:
    return bundles.aggregate(n=Sum("size_bytes"))["n"] or 0, _asked(runs.unfinished())


def _check_storage(who: str, allowed: int, taken: int, coming: int, asked: int, way: str) -> None:
    if allowed and taken + coming + asked > allowed:
        raise BuildError(
            "storage_quota",
            f"bundles of {who}: {size(taken)} used, {size(coming)} on their way, about "
            f"{size(asked)} asked, {size(allowed)} allowed; {way}",
        )


def _used_files(source: Mapping[str, Any], root: Path) -> dict[str, int]:
    """Size of each file of a folder that belongs to a case; of all where tables say which."""
    sizes = {
        (Path(folder) / name).relative_to(root).as_posix(): (Path(folder) / name).stat().st_size
        for folder, _, names in os.walk(root)
        for name in names
        if (Path(folder) / name).is_file()
    }
    description = SourceDescription.model_validate(source["description"])
    if description.cases.arrays:
        return sizes
    named: set[str] = set()
    for case in find_cases(description, sizes):
        named.update(path for files in case.layers for path in files)
        named.update(path for path, _ in case.channels)
        named.add(case.image)
    stems = {_stem(path) for path in named if path}  # a header and its data have one stem
    return {path: n for path, n in sizes.items() if _stem(path) in stems or _folder(path) in named}


def _stem(path: str) -> str:
    name = PurePosixPath(path)
    return (name.parent / name.name.partition(".")[0]).as_posix()


def _folder(path: str) -> str:
    return f"{PurePosixPath(path).parent.as_posix()}/"


def _grown(sizes: Mapping[str, int]) -> float:
    total = 0.0
    for path, number in sizes.items():
        end = PurePosixPath(path).suffix.lower()
        kind = "lossy" if end in LOSSY else "plain" if end in PLAIN else "packed"
        total += GROWTH[kind] * number
    return total
