"""What a page weighs on the wire: its HTML and the styles and scripts that it names, gzipped."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

from django.contrib.staticfiles import finders

NAMED = re.compile(r'(?:<link rel="stylesheet" href|<script src)="/static/([^"?]+)"')


def weight(html: str) -> int:
    """Bytes; pictures are left out."""
    return _gzipped(html.encode()) + sum(_of_file(name) for name in NAMED.findall(html))


def _of_file(name: str) -> int:
    path = finders.find(re.sub(r"\.[0-9a-f]{12}(?=\.\w+$)", "", name))
    assert isinstance(path, str), name
    return _gzipped(Path(path).read_bytes())


def _gzipped(data: bytes) -> int:
    return len(gzip.compress(data, 6))
