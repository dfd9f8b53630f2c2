"""One way to look at a bundle, whether it is a folder or a tar of it."""

from __future__ import annotations

import hashlib
import re
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Protocol

from fusion.bundle.errors import BundleError
from fusion.bundle.names import is_safe_path
from fusion.bundle.write import list_files

#: What Python leaves in a folder when its tools are used, in which it writes down where that lies.
_LEFT_BY_PYTHON = re.compile(r"tools/__pycache__/(\w+)\.[\w-]+\.pyc")


class Opened(Protocol):
    """Files of a bundle by relative path; `refused` names those that cannot be trusted."""

    refused: list[str]

    def names(self) -> list[str]: ...
    def size(self, name: str) -> int: ...
    def open(self, name: str) -> IO[bytes]: ...


class Folder:
    """A bundle as a folder; what Python keeps of tools that were used is no part of it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        there = set(list_files(root))
        found = sorted(name for name in there if not _is_left_by_python(name, there))
        linked = [name for name in found if (root / name).is_symlink()]
        self.refused = [f"{name}: is a link, expected a file" for name in linked]
        self._names = [name for name in found if name not in set(linked)]

    def names(self) -> list[str]:
        return self._names

    def size(self, name: str) -> int:
        return (self.root / name).stat().st_size

    def open(self, name: str) -> IO[bytes]:
        return (self.root / name).open("rb")


def _is_left_by_python(name: str, there: set[str]) -> bool:
    cached = _LEFT_BY_PYTHON.fullmatch(name)
    return cached is not None and f"tools/{cached[1]}.py" in there


class Archive:
    """A bundle as an uncompressed tar; one top folder is stripped."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self.refused: list[str] = []
        self._root = ""
        self._members: dict[str, tarfile.TarInfo] = {}
        for member in tar:
            self._add(member)

    def _add(self, member: tarfile.TarInfo) -> None:
        if member.isdir():
            return
        root, _, name = member.name.partition("/")
        if not is_safe_path(member.name) or not name:
            self.refused.append(f"{member.name!r}: expected a path inside one top folder")
        elif not member.isreg():
            self.refused.append(f"{member.name}: is no regular file")
        elif name in self._members:
            self.refused.append(f"{member.name}: stands twice in the tar")
        elif self._members and root != self._root:
            self.refused.append(f"{member.name}: expected the top folder {self._root}")
        else:
            self._root = root
            self._members[name] = member

    def names(self) -> list[str]:
        return sorted(self._members)

    def size(self, name: str) -> int:
        return self._members[name].size

    def open(self, name: str) -> IO[bytes]:
        handle = self._tar.extractfile(self._members[name])
        if handle is None:
            raise BundleError("unreadable", f"{name}: cannot be read from the tar")
        return handle


@contextmanager
def open_bundle(path: Path) -> Iterator[Opened]:
    """Open a folder, or a tar of it.

    Raises:
        BundleError: `path` is neither.
    """
    if path.is_dir():
        yield Folder(path)
        return
    if not path.is_file():
        raise BundleError("not_found", f"{path.name}: found nothing, expected a folder or a .tar")
    try:
        with tarfile.open(path, "r:") as tar:
            yield Archive(tar)
    except tarfile.TarError as error:
        raise BundleError("unreadable", f"{path.name}: no readable tar: {error}") from error


def sha256_at(opened: Opened, name: str) -> str:
    """SHA-256 of one file of the bundle."""
    with opened.open(name) as handle:
        digest = hashlib.sha256()
        while chunk := handle.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
