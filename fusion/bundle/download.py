"""The whole bundle as one tar that is never written: any byte range can be served.

The layout follows from names and sizes alone, so a resumed download continues the same file.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import IO, Any

from fusion.bundle import ustar
from fusion.bundle.errors import BundleError
from fusion.bundle.names import check_path
from fusion.bundle.text import CHUNK, dump_json

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
