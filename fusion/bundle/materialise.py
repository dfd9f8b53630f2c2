"""A view as files: pixels are cut out of the shards, and shared between views by hard links."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from fusion.bundle.errors import BundleError
from fusion.bundle.manifest import FilePart, Manifest, manifest_of
from fusion.bundle.names import check_path
from fusion.bundle.text import write_bytes
from fusion.bundle.views import make_view
from fusion.bundle.views.view import Placed, View
from fusion.bundle.write import list_files


def read_manifest(bundle: Path) -> Manifest:
    """The manifest of a bundle folder.

    Raises:
        BundleError: not_found.
    """
    path = bundle / "manifest.json"
    if not path.is_file():
        raise BundleError("not_found", f"{bundle.name}: found no manifest.json, expected a bundle")
    return manifest_of(json.loads(path.read_bytes()))


def write_views(
    bundle: Path, names: Sequence[str], out: Path, *, lossy: bool = False
) -> dict[str, View]:
    """Write each view to `out`, or to `out`/<name> when there are several.

    Every pixel file is checked against its SHA-256. Files of equal content are one file with
    several names where the file system can do that: do not edit them in place.

    Raises:
        BundleError: view_unknown, view_omitted, file_changed, or `out` is not empty.
    """
    manifest = read_manifest(bundle)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BundleError("not_empty", f"--out {out.name}: found files, expected a new folder")
    views = {name: make_view(name, manifest, lossy=lossy and name == "nnunet") for name in names}
    if lossy and "nnunet" not in views:
        make_view(names[0], manifest, lossy=True)  # says why not
    for name, view in views.items():
        if view.omitted:
            raise BundleError("view_omitted", f"{name}: {view.omitted}")
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    cutter = _Cutter(bundle)
    for name, view in views.items():
        cutter.write(view, partial if len(views) == 1 else partial / name)
    if out.exists():
        out.rmdir()
    partial.rename(out)
    return views


class _Cutter:
    def __init__(self, bundle: Path) -> None:
        self.bundle = bundle
        self._written: dict[str, Path] = {}  # SHA-256 -> a file with that content

    def write(self, view: View, folder: Path) -> None:
        folder.mkdir(parents=True)
        for path, data in view.files.items():
            write_bytes(folder / check_path(path), data)
        for placed in view.pixels:
            self._pixels(placed, folder / check_path(placed.path))
        if view.whole:
            for path in list_files(self.bundle):
                target = folder / path
                target.parent.mkdir(parents=True, exist_ok=True)
                _link_or_copy(self.bundle / path, target)

    def _pixels(self, placed: Placed, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        known = self._written.get(placed.row.sha256)
        if placed.change is None and known is not None:
            _link_or_copy(known, target)
            return
        data = self._read(placed.row)
        if placed.change is None:
            self._written[placed.row.sha256] = target
        else:
            data = placed.change(placed.row.member, data)
        target.write_bytes(data)

    def _read(self, row: FilePart) -> bytes:
        with (self.bundle / check_path(row.path)).open("rb") as shard:
            data = os.pread(shard.fileno(), row.bytes, row.offset)
        if (found := hashlib.sha256(data).hexdigest()) != row.sha256:
            raise BundleError(
                "file_changed", f"{row.member}: found SHA-256 {found}, expected {row.sha256}"
            )
        return data


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)
