"""Repositories whose API states facts of what they hold, by the addresses of their pages. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

ZENODO = re.compile(r"(?:zenodo\.org/records?/|10\.5281/zenodo\.)(\d+)", re.IGNORECASE)
HUB = re.compile(r"huggingface\.co/datasets/([\w.-]+/[\w.-]+)", re.IGNORECASE)
FIGSHARE = re.compile(
    r"(?:figshare\.com/articles/(?:[\w.-]+/)*?|10\.6084/m9\.figshare\.)(\d+)(?:(?:/|\.v)(\d+))?(?![\w.])",
    re.IGNORECASE,
)
#: Source of claims -> the address of what it holds; the first group is its id there.
PLACES = {"zenodo": ZENODO, "figshare": FIGSHARE, "huggingface": HUB}


def place_of(url: str) -> tuple[str, str] | None:
    """Source and id of what a repository holds at an address; None for other addresses."""
    for source, pattern in PLACES.items():
        if found := pattern.search(url):
            return source, found[1]
    return None


def places_of(links: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """The places that are a dataset's own, by its links: no copies, no pages of papers."""
    own = (one["url"] for one in links if one["kind"] == "official" and not one["issue"])
    return list(dict.fromkeys(place for url in own if (place := place_of(url))))
