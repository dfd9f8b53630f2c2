"""Search the finished bundle for what should not have come along. Pure."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path

SHORTEST_WORD = 6  # shorter machine names would be found in ordinary words
_ROOTS = "home|Users|root|tmp|var|mnt|data|srv|opt|private|media|usr|etc|workspace|scratch"
_PATTERNS = {
    "absolute path": re.compile(
        rf"(?<![\w.:/\-])/(?:{_ROOTS})/[\w.\-]+|(?<![A-Za-z])[A-Za-z]:\\+\w|file://"
    ),
    "DICOM identifier": re.compile(
        r"Patient(?:'s )?(?:Name|ID|BirthDate|Address|TelephoneNumbers)|\(0010,(?:0010|0020|0030)\)"
    ),
}


def find_private(text: str) -> Iterator[str]:
    """Absolute paths, this machine's name and home, and names of DICOM identifiers."""
    for kind, pattern in _PATTERNS.items():
        for match in list(pattern.finditer(text))[:3]:
            yield f"{kind} {match[0]!r}"
    for kind, word in _machine():
        if re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text):
            yield f"{kind} {word!r}"


def _machine() -> list[tuple[str, str]]:
    words = [("home folder", str(Path.home())), ("host name", socket.gethostname())]
    return [
        (kind, word)
        for kind, word in words
        if len(word) >= SHORTEST_WORD and word.lower() not in ("localhost", "localhost.localdomain")
    ]
