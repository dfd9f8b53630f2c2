"""What a connector is: it lists what a place holds and fetches it. Plain data, no I/O."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from fusion.errors import BuildError
from fusion.sources.safety import FetchRules

Check = Callable[[], None]


@dataclass(frozen=True)
class RemoteFile:
    """One file elsewhere. What is not stated of it is empty or None.

    Args:
        path: among the files of its source.
        url: without credentials; empty where a client of its own fetches.
        credential: name of the environment variable whose token is sent along; never its value.
    """

    path: str
    url: str = ""
    bytes: int | None = None
    sha256: str = ""
    md5: str = ""
    git_sha1: str = ""
    credential: str = ""

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""


@dataclass(frozen=True)
class Listing:
    """What a place holds in one version.

    Args:
        access: open; account: a token is needed; terms: they must be accepted first.
        credential: name of the environment variable that holds the token; empty for none.
        terms_url: where a person reads and accepts them.
    """

    title: str
    version: str
    files: tuple[RemoteFile, ...]
    licence: str = ""
    access: str = "open"
    credential: str = ""
    terms_url: str = ""

    @property
    def known_bytes(self) -> int:
        """Together, of the files whose size is stated."""
        return sum(one.bytes or 0 for one in self.files)

    def matching(self, patterns: Sequence[str]) -> tuple[RemoteFile, ...]:
        """Files that one of the patterns takes, in order of their paths; all without patterns."""
        taken = [
            one
            for one in self.files
            if not patterns or any(fnmatch.fnmatchcase(one.path, p) for p in patterns)
        ]
        return tuple(sorted(taken, key=lambda one: one.path))

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {**asdict(self), "files": [asdict(one) for one in self.files]}


@dataclass(frozen=True)
class Hit:
    """What a place found: `location` may lack the version; the licence as the place spells it."""

    title: str
    url: str
    location: Mapping[str, Any]
    licence: str = ""


def hits_of(
    place: str, rows: Iterable[Mapping[str, Any]], read: Callable[[Mapping[str, Any]], Hit]
) -> list[Hit]:
    """What an answer's rows stand for.

    Raises:
        BuildError: source_failed, where they are none of a search.
    """
    try:
        return [read(row) for row in rows]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        said = f"{place}: its answer to a search is not understood: {error!r}"
        raise BuildError("source_failed", said) from error


class Connector(Protocol):
    """A module of fusion.sources; its functions raise BuildError with a stable code.

    access_denied says what a person must do, url_refused and download_too_large what the operator
    does not allow, upstream_changed both checksums, source_failed the rest.
    """

    def endpoint(self) -> str:
        """Address of the place, or of a server like it; all but `http` have one."""

    def search(self, words: str, most: int, rules: FetchRules) -> Sequence[Hit]:
        """The first that the place finds; only of places that can be searched by a program.

        Raises:
            BuildError: as for `listing`.
        """

    def newest(self, place: Mapping[str, Any], rules: FetchRules) -> dict[str, Any]:
        """The location with the version that is newest now; only of places that tell it.

        Raises:
            BuildError: as for `listing`.
        """

    def whoami(self, rules: FetchRules) -> str:
        """Whose the credential is; "" where the place does not tell. Only of those that send one.

        Raises:
            BuildError: access_denied, where it is refused.
        """

    def listing(self, place: Any, rules: FetchRules) -> Listing:
        """What the place holds, and on which terms; nothing is fetched."""

    def fetch(self, place: Any, cache: Path, rules: FetchRules, check: Check) -> Path:
        """Folder with the wanted files; what is there already is not fetched again."""
