"""Where finished cases and lists of stages are kept, so that other runs and hosts find them."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

from django.conf import settings
from django.core.files import File
from django.core.files.storage import Storage, storages

from fusion.results import SUMS, ResultFolder, Results

SHARED = "work"  # name of the storage that the hosts share, where there is one


def shared_storage() -> Storage | None:
    """The storage that all hosts see; None where everything is in the state folder."""
    return storages[SHARED] if SHARED in settings.STORAGES else None


def case_results() -> Results | None:
    """This host's store, with the shared one behind it."""
    limit, shared = settings.RESULTS_BYTES, shared_storage()
    near = ResultFolder(settings.RESULTS_DIR, limit) if limit else None
    return StoredResults(shared, near) if shared else near


class StoredResults:
    """Results as one object each, in front of which lie those that this host has seen."""

    def __init__(self, storage: Storage, near: ResultFolder | None) -> None:
        self.storage, self.near = storage, near

    def fetch(self, key: str, folder: Path) -> bool:
        """As Results.fetch; what comes from afar stays near."""
        if self.near and self.near.fetch(key, folder):
            return True
        folder.parent.mkdir(parents=True, exist_ok=True)
        if not self._unpacked(key, folder):
            shutil.rmtree(folder, ignore_errors=True)
            return False
        if self.near:
            self.near.keep(key, folder)
        return True

    def keep(self, key: str, folder: Path) -> None:
        """As Results.keep; an object appears whole or not at all."""
        if self.near:
            self.near.keep(key, folder)
        if not self.storage.exists(_object(key)):
            self._save(key, folder)

    def _save(self, key: str, folder: Path) -> None:
        paths = sorted(path for path in folder.iterdir() if path.is_file())
        sums = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
        with packed(folder, paths, {SUMS: json.dumps(sums).encode()}) as file:
            self.storage.save(_object(key), File(file))

    def _unpacked(self, key: str, folder: Path) -> bool:
        """Every file is compared with its sum; a damaged object goes."""
        try:
            unpack(self.storage, _object(key), folder)
        except FileNotFoundError:
            return False
        except tarfile.TarError:
            self.storage.delete(_object(key))
            return False
        try:
            sums = json.loads((folder / SUMS).read_text("utf-8"))
            whole = all(
                hashlib.sha256((folder / name).read_bytes()).hexdigest() == expected
                for name, expected in sums.items()
            )
        except (ValueError, AttributeError, FileNotFoundError):
            whole = False
        if not whole:
            self.storage.delete(_object(key))
            return False
        (folder / SUMS).unlink()
        return True


def _object(key: str) -> str:
    return f"cases/{key[:2]}/{key}.tar"


class StageFiles:
    """What the stages of a run wrote, for another host that goes on with it."""

    def __init__(self, storage: Storage, run: str) -> None:
        self.storage, self.run = storage, run

    def save(self, stage: str, work: Path, names: Iterable[str]) -> None:
        """Store files and folders of the work folder."""
        found = [path for name in names if (path := work / name).exists()]
        with packed(work, found) as file:
            name = self._object(stage)
            if self.storage.exists(name):
                self.storage.delete(name)
            self.storage.save(name, File(file))

    def fetch(self, stage: str, work: Path) -> bool:
        """Bring them to the work folder; False where they are not (whole)."""
        try:
            unpack(self.storage, self._object(stage), work)
        except (FileNotFoundError, tarfile.TarError):
            return False
        return True

    def _object(self, stage: str) -> str:
        return f"runs/{self.run}/{stage}.tar"


@contextmanager
def packed(
    root: Path, paths: Iterable[Path], further: Mapping[str, bytes] = MappingProxyType({})
) -> Iterator[IO[bytes]]:
    """A tar file of `paths`, named from `root`, and of some more content."""
    with tempfile.TemporaryFile(dir=settings.STATE_DIR) as file:
        with tarfile.open(fileobj=file, mode="w") as tar:
            for path in paths:
                tar.add(path, path.relative_to(root).as_posix(), filter=_anonymous)
            for name, content in further.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        file.seek(0)
        yield file


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mtime = 0
    return member


def unpack(storage: Storage, name: str, folder: Path) -> None:
    """A tar file of the storage into `folder`.

    Raises:
        FileNotFoundError: there is none. TarError: it is damaged.
    """
    with storage.open(name) as stored, tarfile.open(fileobj=stored, mode="r:") as tar:
        folder.mkdir(parents=True, exist_ok=True)
        tar.extractall(folder, filter="data")


def evict(needed: Collection[str], unfinished: Collection[str]) -> int:
    """Bring both stores to the size that is set; returns how many results and lists went.

    Args:
        needed: keys of results that unfinished runs ask for.
        unfinished: ids of the runs whose lists stay.
    """
    limit, gone = settings.RESULTS_BYTES, 0
    if Path(settings.RESULTS_DIR).is_dir():
        gone += ResultFolder(settings.RESULTS_DIR, limit).evict(needed)
    bucket = getattr(shared_storage(), "bucket", None)
    if bucket is None:
        return gone
    prefix = f"{storages[SHARED].location.rstrip('/')}/"  # type: ignore[attr-defined]
    found: list[Any] = list(bucket.objects.filter(Prefix=f"{prefix}cases/"))
    excess = sum(one.size for one in found) - limit
    for one in sorted(found, key=lambda one: one.last_modified):
        if excess > 0 and Path(one.key).stem not in needed:
            one.delete()
            excess -= one.size
            gone += 1
    for one in bucket.objects.filter(Prefix=f"{prefix}runs/"):
        if one.key.removeprefix(f"{prefix}runs/").partition("/")[0] not in unfinished:
            with suppress(FileNotFoundError):
                one.delete()
            gone += 1
    return gone
