"""From a finished bundle folder to the bundle storage and its row."""

from __future__ import annotations

import errno
import hashlib
import shutil
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.core.files import File
from django.core.files.storage import FileSystemStorage, Storage, storages
from django.db import transaction

from fusion.bundle.names import BASELINE, SUMS
from fusion.errors import BuildError
from fusion.models import Bundle

if TYPE_CHECKING:
    from fusion.plan import Plan

OUTSIDE_SUMS = ("SHA256SUMS", "build_info.json", "baseline/SHA256SUMS")


def outside_sums(bundle: Bundle) -> list[dict[str, Any]]:
    """The small files that no SHA256SUMS can name, read for their size and hash."""
    storage, found = storages["bundles"], []
    for path in OUTSIDE_SUMS:
        name = f"{bundle.bundle_id}/{path}"
        if not storage.exists(name):
            continue
        with storage.open(name) as opened:
            content = opened.read()
        sha256 = hashlib.sha256(content).hexdigest()
        found.append({"path": path, "bytes": len(content), "sha256": sha256})
    return found


def is_published(bundle_id: str) -> bool:
    """The files of a bundle are in the storage."""
    return storages["bundles"].exists(f"{bundle_id}/{SUMS}")


def publish(
    finished: Path, plan: Plan, recipe: Mapping[str, Any], *, public: bool = True
) -> Bundle:
    """Bring a verified bundle folder into the storage and write its row; safe to run twice.

    A private build of what is public already leaves it public.

    Raises:
        BuildError: `finished` is not there and was not published before either.
    """
    from fusion.bundle.summary import summarise

    storage = storages["bundles"]
    if isinstance(storage, FileSystemStorage):
        folder = Path(storage.path(plan.bundle_id))
        _move(finished, folder)
    else:
        folder = finished
        _upload(finished, storage, plan.bundle_id)
    summary = summarise(folder)
    files = list_files(folder)
    values = {
        "title": plan.title,
        "build": plan.build,
        "recipe": recipe,
        "summary": summary,
        "baseline": summary.get("baseline"),
        "files": files,
        "size_bytes": sum(file["bytes"] for file in files),
        "removed_at": None,
        "removed_why": "",
    }
    with transaction.atomic():
        # What was removed belongs to whoever builds it again, as if it had never been there.
        Bundle.objects.filter(pk=plan.bundle_id).exclude(removed_at=None).update(public=False)
        bundle, _ = Bundle.objects.update_or_create(
            bundle_id=plan.bundle_id,
            defaults=values | ({"public": True} if public else {}),
            create_defaults=values | {"public": public},
        )
    return bundle


def list_files(folder: Path) -> list[dict[str, Any]]:
    """The files that SHA256SUMS names, in its order, as {path, bytes, sha256}.

    Those of the baseline, which have sums of their own, come last.
    """
    found, lines = [], (folder / SUMS).read_text(encoding="utf-8").splitlines()
    if (sums := folder / BASELINE / SUMS).is_file():
        lines += sums.read_text(encoding="utf-8").splitlines()
    for line in lines:
        sha256, path = line.split(maxsplit=1)
        path = path.removeprefix("*")
        found.append({"path": path, "bytes": (folder / path).stat().st_size, "sha256": sha256})
    return found


def _move(finished: Path, target: Path) -> None:
    """Rename `finished` to `target`; an older bundle there gives way to the new one."""
    if not (finished / SUMS).is_file():
        if (target / SUMS).is_file():
            return
        raise BuildError("bundle_missing", f"{finished}: no {SUMS}, nothing to publish")
    target.parent.mkdir(parents=True, exist_ok=True)
    whole = finished
    if finished.stat().st_dev != target.parent.stat().st_dev:
        whole = _beside(target)
        shutil.copytree(finished, whole)
    old = _beside(target)
    with suppress(FileNotFoundError):
        target.rename(old)
    _rename_into(whole, target)
    shutil.rmtree(old, ignore_errors=True)
    shutil.rmtree(finished, ignore_errors=True)


def _rename_into(whole: Path, target: Path) -> None:
    """A second worker that published the same bundle meanwhile has won: its files stay."""
    try:
        whole.rename(target)
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
            raise
        shutil.rmtree(whole, ignore_errors=True)


def _beside(target: Path) -> Path:
    return target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.partial")


def _upload(finished: Path, storage: Storage, prefix: str) -> None:
    """Save each file under `prefix/`, SHA256SUMS last."""
    if not (finished / SUMS).is_file():
        if storage.exists(f"{prefix}/{SUMS}"):
            return
        raise BuildError("bundle_missing", f"{finished}: no {SUMS}, nothing to publish")
    paths = sorted(path for path in finished.rglob("*") if path.is_file())
    paths.sort(key=lambda path: path == finished / SUMS)
    for path in paths:
        name = f"{prefix}/{path.relative_to(finished).as_posix()}"
        if storage.exists(name):
            storage.delete(name)
        with path.open("rb") as file:
            saved = storage.save(name, File(file))
        if saved != name:
            raise BuildError("bundle_storage", f"storage: saved {saved!r}, expected {name!r}")
