"""Search the finished bundle for what should not have come along. Pure."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path

SHORTEST_NAME = 6  # letters; a shorter one would be found in ordinary words
_NO_NAME = re.compile(
    r"anon|de-?ident|removed|unknown|patient|subject|none|null|test", re.IGNORECASE
)
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


def find_names(text: str, names: Iterable[str]) -> Iterator[str]:
    """Names of people from the sources' headers, in the ways in which they get into file names.

    A name with digits is a pseudonym, and words such as "anonymous" are no name. What was found
    is not repeated.
    """
    for name in names:
        parts = [part for part in re.split(r"[\^=,\s]+", name) if part]
        has_digits = any(letter.isdigit() for letter in name)
        if sum(map(len, parts)) < SHORTEST_NAME or has_digits or _NO_NAME.search(name):
            continue
        for order in {tuple(parts), tuple(reversed(parts))}:
            words = r"[\W_]{1,2}".join(map(re.escape, order))
            if re.search(rf"(?<![^\W_]){words}(?![^\W_])", text, re.IGNORECASE):
                yield "the name of a person in a source's header"
                break


def _machine() -> list[tuple[str, str]]:
    words = [("home folder", str(Path.home())), ("host name", socket.gethostname())]
    return [
        (kind, word)
        for kind, word in words
        if len(word) >= SHORTEST_WORD and word.lower() not in ("localhost", "localhost.localdomain")
    ]
