"""What is sent, and what a place to send to is. Plain data, no I/O."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any, Protocol

from fusion.sources.safety import FetchRules

Told = Callable[[int], None]


@dataclass(frozen=True)
class Parcel:
    """A bundle on its way.

    Args:
        files: [{path, bytes, sha256}], every file of it.
        opened: path -> a seekable binary file.
        licences: of each part of each source, as SPDX says.
        creator: who is named as the one who made it.
    """

    bundle_id: str
    title: str
    files: tuple[dict[str, Any], ...]
    opened: Callable[[str], IO[bytes]]
    licences: tuple[str, ...]
    creator: str

    @property
    def short(self) -> str:
        return self.bundle_id[:12]


@dataclass(frozen=True)
class Sent:
    """Where it is. `remote`: by what the next try finds it; `doi`: reserved, not yet registered."""

    url: str
    remote: str = ""
    doi: str = ""


class Place(Protocol):
    """A module of fusion.deposits; `CREDENTIAL` names what it asks for."""

    CREDENTIAL: str

    def check_target(self, target: str) -> None:
        """Raises BuildError deposit_refused for a target that the place cannot have."""

    def sent_files(self, parcel: Parcel) -> list[tuple[str, int]]:
        """Names and bytes of the files there."""

    def send(self, parcel: Parcel, target: str, rules: FetchRules, told: Told, **more: Any) -> Sent:
        """Send what is not there yet."""
