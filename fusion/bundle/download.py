"""The whole bundle as one tar that is never written: any byte range can be served.

The layout follows from names and sizes alone, so a resumed download continues the same file.
"""

from __future__ import annotations

import hashlib
import io
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import IO, Any, cast

from fusion.bundle import ustar
from fusion.bundle.errors import BundleError
from fusion.bundle.manifest import FilePart, Manifest
from fusion.bundle.names import check_path
from fusion.bundle.text import CHUNK, dump_json
from fusion.bundle.views import make_view

Opener = Callable[[str], IO[bytes]]


class BundleTar:
    """A deterministic tar of `files` below the folder `root_name`, read in ranges.

    Args:
        files: `[{"path", "bytes", "sha256"?}]`; the order is the order in the tar.
        open_file: path -> a seekable binary file (a Django storage's `open`).
        root_name: the folder that the tar unpacks to.
    """

    def __init__(
        self, files: Sequence[Mapping[str, Any]], open_file: Opener, root_name: str
    ) -> None:
        check_path(root_name)
        self._open = open_file
        self._paths = [check_path(str(row["path"])) for row in files]
        self._sizes = [int(row["bytes"]) for row in files]
        if len(set(self._paths)) != len(self._paths):
            raise BundleError("name_unsafe", "files: found one path twice, expected each once")
        self._headers = [
            ustar.header(f"{root_name}/{path}", size)
            for path, size in zip(self._paths, self._sizes, strict=True)
        ]
        # starts[i] is where member i begins; the last entry is where the end blocks begin.
        self._starts = list(accumulate(map(ustar.member_bytes, self._sizes), initial=0))
        self.size = self._starts[-1] + len(ustar.END)
        facts = [root_name, [[r["path"], r["bytes"], r.get("sha256", "")] for r in files]]
        self.etag = '"' + hashlib.sha256(dump_json(facts, indent=None).encode()).hexdigest() + '"'

    def iter_range(self, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Bytes `start` up to, not including, `end` (default: the end), in chunks.

        An HTTP range `bytes=a-b` is `iter_range(a, b + 1)`.
        """
        end = self.size if end is None else end
        if not 0 <= start <= end <= self.size:
            raise BundleError(
                "range_unsatisfiable",
                f"range: found {start}-{end}, expected within 0-{self.size}",
            )
        index = bisect_right(self._starts, start) - 1
        while start < end and index < len(self._paths):
            stop = min(end, self._starts[index + 1])
            base = self._starts[index]
            yield from self._member(index, start - base, stop - base)
            start, index = stop, index + 1
        if start < end:
            yield bytes(end - start)

    def _member(self, index: int, start: int, end: int) -> Iterator[bytes]:
        """Bytes of one member, counted from its header."""
        if start < ustar.BLOCK:
            yield self._headers[index][start:end]
        data_end = ustar.BLOCK + self._sizes[index]
        first, last = max(start, ustar.BLOCK), min(end, data_end)
        if first < last:
            yield from self._data(index, first - ustar.BLOCK, last - ustar.BLOCK)
        if end > (pad := max(start, data_end)):
            yield bytes(end - pad)

    def _data(self, index: int, start: int, end: int) -> Iterator[bytes]:
        with self._open(self._paths[index]) as handle:
            handle.seek(start)
            while start < end:
                chunk = handle.read(min(CHUNK, end - start))
                if not chunk:
                    raise BundleError(
                        "file_changed",
                        f"{self._paths[index]}: found {start} bytes, expected {self._sizes[index]}",
                    )
                start += len(chunk)
                yield chunk


def view_tar(
    manifest: Manifest,
    name: str,
    files: Sequence[Mapping[str, Any]],
    open_file: Opener,
    root_name: str,
) -> BundleTar:
    """A view of a bundle as one tar: pixels are cut out of the shards while they are read.

    Args:
        manifest: of the bundle.
        name: nnunet, monai, bids or huggingface.
        files: every file of the bundle, for a view that holds some as they are.
        open_file: path -> a seekable binary file of the bundle.
        root_name: the folder that the tar unpacks to.

    Raises:
        BundleError: view_unknown, or view_omitted with why the format cannot hold this bundle.
    """
    view = make_view(name, manifest)
    if view.omitted:
        raise BundleError("view_omitted", f"{name}: {view.omitted}")
    small = dict(view.files)
    cut = {placed.path: placed.row for placed in view.pixels}
    small |= {
        placed.path: placed.change(placed.row.member, _cut(open_file, placed.row).read())
        for placed in view.pixels
        if placed.change is not None
    }
    rows: list[Mapping[str, Any]] = [{"path": path, "bytes": len(data), "sha256": _sha256(data)}
            for path, data in small.items()]  # fmt: skip
    rows += [{"path": path, "bytes": row.bytes, "sha256": row.sha256}
             for path, row in cut.items() if path not in small]  # fmt: skip
    rows += [row for row in files if row["path"] in set(view.whole)]

    def opened(path: str) -> IO[bytes]:
        if path in small:
            return io.BytesIO(small[path])
        return _cut(open_file, cut[path]) if path in cut else open_file(path)

    return BundleTar(sorted(rows, key=lambda row: str(row["path"])), opened, root_name)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _cut(open_file: Opener, row: FilePart) -> IO[bytes]:
    return cast("IO[bytes]", _Window(open_file(row.path), row.offset, row.bytes))


class _Window(io.RawIOBase):
    """One member of a shard as a file of its own."""

    def __init__(self, shard: IO[bytes], offset: int, size_bytes: int) -> None:
        super().__init__()
        self._shard, self._offset, self._size, self._at = shard, offset, size_bytes, 0

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = base + offset
        return self._at

    def read(self, size: int = -1) -> bytes:
        left = max(self._size - self._at, 0)
        self._shard.seek(self._offset + self._at)
        data = self._shard.read(left if size < 0 else min(size, left))
        self._at += len(data)
        return data

    def close(self) -> None:
        self._shard.close()
        super().close()
