"""Archives as sources: unpacked once, under bounds, with no name that leads anywhere else."""

from __future__ import annotations

import errno
import logging
import os
import secrets
import shutil
import stat
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from isal import igzip, isal_zlib

from fusion.errors import BuildError
from fusion.imaging.errors import CaseError
from fusion.imaging.file_hash import file_sha256

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")
# The package is hardly typed.
_DAMAGED: tuple[type[Exception], ...] = (
    tarfile.TarError,
    zipfile.BadZipFile,
    EOFError,
    zlib.error,
    cast("Any", isal_zlib.error),
)
_log = logging.getLogger(__name__)
_BLOCK = 1 << 20
_PART_BYTES, _NAME_BYTES = 255, 1_000
_ENCRYPTED = 0x1
_GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class ArchiveLimits:
    """How much an archive may become. A ratio above `ratio` is only worth a warning: raw masks."""

    expanded_bytes: int = 200 * 1024**3
    members: int = 200_000
    ratio: float = 100.0


def is_archive(path: Path) -> bool:
    """Whether the name says so; `scan.nii.gz` is none."""
    return path.name.lower().endswith(SUFFIXES)


def unpack(
    archive: Path,
    cache: Path,
    limits: ArchiveLimits | None = None,
    check: Callable[[], None] = lambda: None,
) -> Path:
    """Folder below `cache` with the archive's files; one that is there is used again.

    The folder is named by the archive's SHA-256 and appears whole or not at all. An archive
    inside the archive stays a file.

    Args:
        check: called now and then; what it raises ends the unpacking, and nothing is left of it.

    Raises:
        BuildError: archive_unsafe for a name, link, device or size that no honest archive has;
            source_failed where it is damaged.
    """
    folder = cache / "archives" / file_sha256(archive, lambda _: check())
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name[:16]}.{secrets.token_hex(4)}.partial")
    partial.mkdir()
    try:
        _Unpacking(archive, partial, limits or ArchiveLimits(), check).run()
        if not folder.is_dir():  # another build may have been faster
            partial.replace(folder)
    except _DAMAGED as error:
        raise BuildError("source_failed", f"{archive.name} is damaged: {error}") from error
    except OSError as error:
        # A wrong checksum has no number, a wrong offset is invalid; else it is a full disk, say.
        if error.errno not in {None, errno.EINVAL}:
            raise
        raise BuildError("source_failed", f"{archive.name} is damaged: {error}") from error
    except (NotImplementedError, RuntimeError, ValueError) as error:
        if isinstance(error, BuildError):
            raise
        raise BuildError("source_failed", f"{archive.name} cannot be read: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def unpack_checked(archive: Path, name: str, folder: Path, limits: ArchiveLimits) -> None:
    """Unpack what somebody has sent; for the guarded child, which passes codes of cases on.

    Args:
        archive: its bytes, under whatever name.
        name: the name it was sent by, which tells its kind.
        folder: to be made; whole or not at all.
        limits: how much it may become.

    Raises:
        CaseError: archive_unsafe or source_failed.
    """
    named = archive.with_name(f"{archive.name}-{PurePosixPath(name).name}")
    os.link(archive, named)
    try:
        found = unpack(named, folder.parent, limits)
        found.replace(folder)
    except BuildError as error:
        raise CaseError(error.code, str(error).replace(named.name, name)) from error
    finally:
        named.unlink()


@dataclass
class Names:
    """Paths that are plain, lie inside one folder and differ on any file system."""

    folded: dict[str, tuple[str, bool]] = field(default_factory=dict)  # -> name, is a file

    def checked(self, name: str, *, is_folder: bool = False) -> PurePosixPath:
        """The name as a path.

        Raises:
            ValueError: says what is wrong with it.
        """
        path = PurePosixPath(name)
        odd = any(ord(c) < 32 or ord(c) == 127 for c in name)  # noqa: PLR2004
        if odd or "\\" in name or path.is_absolute() or ".." in path.parts or ":" in name[1:2]:
            raise ValueError(f"{name!r} leads out of the folder or is no plain name")
        longest = max((len(part.encode()) for part in path.parts), default=0)
        if not path.parts or longest > _PART_BYTES or len(name.encode()) > _NAME_BYTES:
            raise ValueError(f"{name[:80]!r} has no name, or one too long")
        for depth in range(1, len(path.parts) + 1):
            here = "/".join(path.parts[:depth])
            is_file = depth == len(path.parts) and not is_folder
            folded = unicodedata.normalize("NFC", here).casefold()
            is_new = folded not in self.folded
            known = self.folded.setdefault(folded, (here, is_file))
            if known != (here, is_file) or (is_file and not is_new):
                raise ValueError(f"{known[0]!r} and {name!r} are one name, or file and folder")
        return path


@dataclass
class _Unpacking:
    archive: Path
    folder: Path
    limits: ArchiveLimits
    check: Callable[[], None]
    written: int = 0
    names: Names = field(default_factory=Names)

    def run(self) -> None:
        count = 0
        members = self._zip() if self.archive.name.lower().endswith(".zip") else self._tar()
        with closing(members):
            for name, is_folder, size, content in members:
                count += 1
                if count > self.limits.members:
                    raise self._unsafe(f"more than {self.limits.members} members")
                target = self.folder / self._checked(name, is_folder=is_folder)
                if is_folder:
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                self._copy(content, target, name, size)
        packed = max(self.archive.stat().st_size, 1)
        if self.written > self.limits.ratio * packed:
            _log.warning("%s grew %d times", self.archive.name, self.written // packed)

    def _unsafe(self, what: str) -> BuildError:
        return BuildError("archive_unsafe", f"{self.archive.name}: {what}")

    def _checked(self, name: str, *, is_folder: bool) -> PurePosixPath:
        try:
            return self.names.checked(name, is_folder=is_folder)
        except ValueError as error:
            raise self._unsafe(f"member {error}") from error

    def _copy(self, content: IO[bytes], target: Path, name: str, size: int) -> None:
        """Write one file, counting; a header's size is not believed."""
        left = size
        with target.open("xb") as out:
            while block := content.read(_BLOCK):
                self.check()
                left -= len(block)
                self.written += len(block)
                if self.written > self.limits.expanded_bytes:
                    raise self._unsafe(f"expands to more than {self.limits.expanded_bytes} bytes")
                if left < 0:
                    raise self._unsafe(f"member {name!r} is larger than its header says")
                out.write(block)
        if left:
            raise BuildError("source_failed", f"{self.archive.name}: {name!r} ends too early")

    def _zip(self) -> Generator[tuple[str, bool, int, Any]]:
        with zipfile.ZipFile(self.archive) as opened:
            infos = opened.infolist()
            if len(infos) > self.limits.members:
                raise self._unsafe(f"{len(infos)} members, limit {self.limits.members}")
            total = sum(info.file_size for info in infos)
            if total > self.limits.expanded_bytes:
                raise self._unsafe(f"expands to {total} bytes, limit {self.limits.expanded_bytes}")
            if sum(info.compress_size for info in infos) > self.archive.stat().st_size:
                raise self._unsafe("its members overlap")
            if total > shutil.disk_usage(self.folder).free:
                raise BuildError("source_failed", f"{self.archive.name}: no room for {total} bytes")
            for info in infos:
                kind = stat.S_IFMT(info.external_attr >> 16)
                if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
                    raise self._unsafe(f"member {info.orig_filename!r} is a link or a device")
                if info.flag_bits & _ENCRYPTED:
                    raise BuildError("source_failed", f"{self.archive.name} is encrypted")
                name = info.orig_filename  # as stored: a NUL in it would cut `filename` short
                if not info.filename:
                    raise self._unsafe(f"member {name!r} has no name")
                if info.is_dir():
                    yield name, True, 0, None
                    continue
                with opened.open(info) as content:
                    yield name, False, info.file_size, content

    def _tar(self) -> Generator[tuple[str, bool, int, Any]]:
        with self.archive.open("rb") as raw:
            packed = raw.read(2) == _GZIP_MAGIC
            raw.seek(0)
            plain = cast("Any", igzip.IGzipFile)(fileobj=raw, mode="rb") if packed else raw
            counted = _Counted(plain, self.limits.expanded_bytes + 4096 * self.limits.members, self)
            with tarfile.open(fileobj=cast("Any", counted), mode="r|") as opened:
                for member in opened:
                    if not (member.isreg() or member.isdir()):
                        raise self._unsafe(f"member {member.name!r} is a link or a device")
                    name = member.name
                    self._filter(member)
                    if member.isdir():
                        if name not in {".", "./"}:
                            yield name, True, 0, None
                        continue
                    yield name, False, member.size, opened.extractfile(member)
            while counted.read(_BLOCK):
                pass  # what pads the end, and the checksum of gzip
            if counted.tail.strip(b"\0") or not counted.tail:
                raise BuildError("source_failed", f"{self.archive.name} ends too early")

    def _filter(self, member: tarfile.TarInfo) -> None:
        """The standard library's own "data" filter, on top of the checks here."""
        try:
            tarfile.data_filter(member, str(self.folder))
        except tarfile.FilterError as error:
            raise self._unsafe(str(error)) from error


@dataclass
class _Counted:
    """A stream that ends in an error where headers and padding alone outgrow the limit."""

    stream: Any
    left: int
    unpacking: _Unpacking
    tail: bytes = b""

    def read(self, size: int = -1) -> bytes:
        block: bytes = self.stream.read(size)
        self.left -= len(block)
        self.tail = (self.tail + block)[-tarfile.BLOCKSIZE :] if block else self.tail
        if self.left < 0:
            raise self.unpacking._unsafe("its tar stream is longer than its limit")  # noqa: SLF001
        return block
