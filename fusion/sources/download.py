"""Files over HTTP(S) into a cache by content, shared by all runs and resumed after any break.

cache/blobs/<sha256>       finished files
cache/fetched/<key>.json   which blob an address gave, and what it declared
cache/partial/<key>        a file on its way, beside <key>.json (its validator) and <key>.lock
cache/sets/<digest>/       the files of one source, links to blobs; whole or not at all
cache/slots/<host>.<n>     locks: how many files come from one host at once
cache/slots/<host>.rate    when the next bytes of the host are due, where its pace is limited
cache/speeds/<host>.json   how fast the host was lately
"""

from __future__ import annotations

import base64
import contextlib
import errno
import fcntl
import hashlib
import json
import os
import random
import re
import secrets
import shutil
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import httpx2

from fusion.errors import BuildError
from fusion.imaging.file_hash import file_hash, file_sha256
from fusion.sources.archive import SUFFIXES, is_archive, unpack
from fusion.sources.base import Check, Listing, RemoteFile
from fusion.sources.credentials import headers_of
from fusion.sources.safety import FetchRules, client

ATTEMPTS = 5  # in a row without a byte more
LONGEST_WAIT = 300.0  # seconds; a server that asks for more is asked by the next run
FIRST_WAIT = 1.0
LARGEST_ANSWER = 64 * 1024**2  # of an API
THREADS = 8
_BLOCK = 1 << 20
PEOPLE = "people"  # cache/people/<person>: what was fetched with a person's own credential
SLOWEST_BYTES = 1 << 20  # what is less tells no speed
_BUSY = {408, 425, 429}
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


class StoppedError(Exception):
    """Another file of the same source failed, or the user asked."""


def fetch_files(
    files: Sequence[RemoteFile], cache: Path, rules: FetchRules, check: Check, *, unpacked: bool
) -> Path:
    """Folder with the files of one source; finished ones are not fetched again.

    Args:
        unpacked: archives become folders; a single one is the folder itself.

    Raises:
        BuildError: see fusion.sources.base.Connector.
    """
    for one in files:
        _check_size(shown(one.url), one.bytes or 0, rules.largest_bytes)
    blobs = _Downloads(cache, rules).run(files, check)
    return _assembled(blobs, cache, check, unpacked=unpacked)


def fetch_chosen(
    found: Listing,
    patterns: Sequence[str],
    where: str,
    cache: Path,
    rules: FetchRules,
    check: Check,
    *,
    unpacked: bool,
) -> Path:
    """The same for the files of a listing that the patterns take."""
    files = found.matching(patterns)
    if not files:
        raise BuildError("source_failed", f"{where}: no file matches {', '.join(patterns)}")
    return fetch_files(files, cache, rules, check, unpacked=unpacked)


def get_json(url: str, rules: FetchRules, *, credential: str = "", body: Any = None) -> Any:
    """The JSON answer of an API.

    Args:
        body: JSON that is posted; None: a GET.

    Raises:
        BuildError: access_denied, url_refused, source_failed.
    """
    try:
        return json.loads(get_bytes(url, rules, credential=credential, body=body))
    except ValueError as error:
        raise BuildError("source_failed", f"{shown(url)}: found no JSON: {error}") from error


def get_bytes(url: str, rules: FetchRules, *, credential: str = "", body: Any = None) -> bytes:
    """A short answer as it is; raises as `get_json` does."""
    said, method = shown(url), "GET" if body is None else "POST"
    secret = rules.secret(credential)
    with client(rules) as http:
        for attempt in range(1, rules.attempts + 1):
            headers = headers_of(credential, secret, method, url)
            try:
                with http.stream(method, url, headers=headers, json=body) as answer:
                    if not is_busy(answer.status_code) or attempt == rules.attempts:
                        refuse(answer, said, credential, had=bool(secret))
                        found = b""
                        for block in answer.iter_bytes():
                            found += block
                            if len(found) > LARGEST_ANSWER:
                                raise BuildError(
                                    "source_failed", f"{said}: an answer of > {LARGEST_ANSWER} B"
                                )
                        return found
                    asked = pause_of(answer)
                    pause = backoff(attempt) if asked is None else asked
            except httpx2.HTTPError as error:
                if attempt == rules.attempts:
                    raise _unreachable(said, error, attempt) from error
                pause = backoff(attempt)
            time.sleep(pause)
    raise AssertionError


def shown(url: str) -> str:
    """An address without its query, which may hold a signature."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}{parts.path}"


@dataclass
class _Speeds:
    """What came from each host in this fetch, from its first byte to its last."""

    hosts: dict[str, tuple[int, float, float]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, host: str, size: int, began: float) -> None:
        """So many bytes came since `began`, of time.monotonic()."""
        with self.lock:
            before, first, _ = self.hosts.get(host, (0, began, began))
            self.hosts[host] = before + size, min(first, began), time.monotonic()

    def note(self, cache: Path) -> None:
        """Keep it for estimates; half of what was known before counts along."""
        for host, (size, first, last) in self.hosts.items():
            if size < SLOWEST_BYTES:
                continue
            path = cache / "speeds" / f"{_file_name(host)}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            known = _read(path)
            _write(
                path,
                {
                    "bytes": size + known.get("bytes", 0) / 2,
                    "seconds": max(last - first, 0.001) + known.get("seconds", 0) / 2,
                },
            )


@dataclass
class _Downloads:
    cache: Path
    rules: FetchRules
    stop: threading.Event = field(default_factory=threading.Event)
    quiet: dict[str, float] = field(default_factory=dict)  # host -> when it may be asked again
    speeds: _Speeds = field(default_factory=_Speeds)

    def run(self, files: Sequence[RemoteFile], check: Check) -> dict[str, Path]:
        """Path -> blob. The first error stops what is under way; its bytes so far are kept."""
        for name in ("blobs", "fetched", "partial", "sets"):
            (self.cache / name).mkdir(parents=True, exist_ok=True)
        (common(self.cache) / "slots").mkdir(parents=True, exist_ok=True)
        with (
            client(self.rules) as http,
            ThreadPoolExecutor(min(THREADS, len(files)) or 1) as threads,
        ):
            jobs = {one.path: threads.submit(self._one, one, http) for one in files}
            try:
                self._watch(list(jobs.values()), check)
            finally:
                self.stop.set()
                for job in jobs.values():
                    job.cancel()
        self.speeds.note(common(self.cache))
        return {path: job.result() for path, job in jobs.items()}

    @staticmethod
    def _watch(jobs: list[Future[Path]], check: Check) -> None:
        waiting: Iterable[Future[Path]] = jobs
        while waiting:
            done, waiting = wait(waiting, timeout=0.5, return_when=FIRST_EXCEPTION)
            for job in done:
                job.result()
            check()

    def _one(self, file: RemoteFile, http: httpx2.Client) -> Path:
        said = [file.url, file.sha256, file.md5, file.bytes]
        said += [file.git_sha1] if file.git_sha1 else []
        key = hashlib.sha256(json.dumps(said).encode()).hexdigest()
        if file.sha256 and (blob := self.cache / "blobs" / file.sha256).is_file():
            os.utime(blob)
            return blob
        with _locked(self.cache / "partial" / f"{key}.lock", self.stop):
            job = _Download(
                file, key, self.cache, self.rules, self.stop, http, self.quiet, self.speeds
            )
            return job.run()


@dataclass
class _Download:
    """One file on its way; alone with its key."""

    file: RemoteFile
    key: str
    cache: Path
    rules: FetchRules
    stop: threading.Event
    http: httpx2.Client
    quiet: dict[str, float]
    speeds: _Speeds
    validator: str = ""
    resumed: bool = False
    sent_md5: str = ""  # as the store says of what it sends

    def __post_init__(self) -> None:
        self.partial = self.cache / "partial" / self.key
        self.note = self.partial.with_suffix(".json")
        self.known = self.cache / "fetched" / f"{self.key}.json"
        self.slots = common(self.cache) / "slots"
        self.at_once, self.rate = self.rules.pace(self.file.host)
        self.said = shown(self.file.url)
        self.declared = bool(self.file.sha256 or self.file.md5 or self.file.git_sha1)

    def run(self) -> Path:
        known = _read(self.known)
        blob = self.cache / "blobs" / str(known.get("sha256", "none"))
        if not blob.is_file():
            known = {}
        elif self.declared or not known.get("etag"):
            os.utime(blob)
            return blob
        self.validator = str(_read(self.note).get("validator", ""))
        empty = wrong = 0
        while True:
            self._sleep(max(self.quiet.get(self.file.host, 0.0) - time.monotonic(), 0.0))
            before = self._have()
            try:
                if not self._ask(str(known.get("etag", ""))):
                    os.utime(blob)
                    return blob
                return self._finished()
            except _AgainError as again:
                if isinstance(again.__cause__, _WrongError):
                    self.partial.unlink(missing_ok=True)
                    wrong += 1
                else:
                    empty = 1 if self._have() > before else empty + 1
                if ATTEMPTS in {empty, wrong}:
                    raise _unreachable(self.said, again.__cause__ or again) from again.__cause__
                pause = again.pause if again.pause is not None else backoff(empty)
                self.quiet[self.file.host] = time.monotonic() + pause

    def _have(self) -> int:
        return self.partial.stat().st_size if self.partial.is_file() else 0

    def _sleep(self, seconds: float) -> None:
        if self.stop.is_set() or (seconds and self.stop.wait(seconds)):
            raise StoppedError

    def _ask(self, etag: str) -> bool:
        """One request; False where the server says that `etag`'s content is as it was."""
        secret = self.rules.secret(self.file.credential)
        headers = headers_of(self.file.credential, secret, "GET", self.file.url)
        start = self._have()
        if self.file.bytes is not None and start == self.file.bytes and start:
            return True  # whole, and a break came before it was taken
        if start and (self.validator or self.declared):
            headers["Range"] = f"bytes={start}-"
            if self.validator:
                headers["If-Range"] = self.validator
        elif etag:
            headers["If-None-Match" if etag.startswith('"') else "If-Modified-Since"] = etag
        try:
            with (
                _slot(self.slots, self.file.host, self.at_once, self.stop),
                self.http.stream("GET", self.file.url, headers=headers) as answer,
            ):
                if is_busy(answer.status_code):
                    raise _AgainError(pause_of(answer)) from _status_error(answer)
                if answer.status_code == 304:  # noqa: PLR2004
                    return False
                if answer.status_code == 416 and start:  # noqa: PLR2004
                    raise _AgainError(0.0) from _WrongError("its range")
                refuse(answer, self.said, self.file.credential, had=bool(secret))
                self._take(answer, start if "Range" in headers else 0)
        except (httpx2.TooManyRedirects, httpx2.InvalidURL) as error:
            raise BuildError("source_failed", f"{self.said}: {error}") from error
        except httpx2.TransportError as error:
            raise _AgainError(None) from error
        return True

    def _take(self, answer: httpx2.Response, start: int) -> None:
        total, start = self._extent(answer, start)
        limit = self.rules.largest_bytes
        _check_size(self.said, total or 0, limit)
        if self.file.bytes is not None and total is not None and total != self.file.bytes:
            raise BuildError(
                "upstream_changed",
                f"{self.said}: found {total} bytes, expected {self.file.bytes}",
            )
        most = min(limit, self.file.bytes if self.file.bytes is not None else limit)
        self.resumed = start > 0
        validator, self.sent_md5 = _validator(answer), _sent_md5(answer)
        if start == 0:
            self.validator = validator
            _write(self.note, {"validator": validator})
        elif validator and self.validator and validator != self.validator:
            raise _AgainError(0.0) from _WrongError("its validator")
        size, began = start, time.monotonic()
        with self.partial.open("r+b" if start else "wb") as out:
            out.seek(start)
            out.truncate()
            for block in answer.iter_raw():  # as it comes: what a chunker holds is lost at a break
                size += len(block)
                if size > most:
                    code = "upstream_changed" if most < limit else "download_too_large"
                    raise BuildError(
                        code, f"{self.said}: found more than {most} bytes, expected at most {most}"
                    )
                out.write(block)
                if self.rate:
                    self._sleep(paced(self.slots, self.file.host, len(block) / self.rate))
                self._go_on()
            out.flush()
            os.fsync(out.fileno())
        self.speeds.add(self.file.host, size - start, began)
        if total is not None and size < total:
            raise _AgainError(None)

    def _extent(self, answer: httpx2.Response, start: int) -> tuple[int | None, int]:
        """Bytes of the whole file, and where this answer begins in it."""
        if answer.headers.get("Content-Encoding", "identity") != "identity":
            raise BuildError("source_failed", f"{self.said}: sent packed, though asked as it is")
        if answer.status_code == 206:  # noqa: PLR2004
            found = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
            if found is None or int(found[1]) != start:
                raise _AgainError(0.0) from _WrongError("its range")
            return (None if found[3] == "*" else int(found[3])), start
        length = answer.headers.get("Content-Length", "")
        return (int(length) if length.isdigit() else None), 0

    def _go_on(self) -> None:
        if self.stop.is_set():
            raise StoppedError

    def _finished(self) -> Path:
        """The partial file checked and taken among the blobs."""
        sha256, md5 = _digests(self.partial, self._go_on)
        size = self._have()
        rows = [("sha256", self.file.sha256, sha256), ("md5", self.file.md5 or self.sent_md5, md5)]
        if self.file.git_sha1:
            rows.append(("git sha1", self.file.git_sha1, git_sha1(self.partial, self._go_on)))
        if self.file.bytes is not None:
            rows.append(("bytes", str(self.file.bytes), str(size)))
        for kind, expected, found in rows:
            if expected and expected != found:
                self.note.unlink(missing_ok=True)
                if self.resumed:  # two versions may have been joined: once more, from the start
                    self.resumed = False
                    raise _AgainError(0.0) from _WrongError(kind)
                self.partial.unlink(missing_ok=True)
                raise BuildError(
                    "upstream_changed",
                    f"{self.said}: found {kind} {found}, expected {expected}",
                )
        blob = self.cache / "blobs" / sha256
        self.partial.replace(blob)
        _write(self.known, {"sha256": sha256, "md5": md5, "bytes": size, "etag": self.validator})
        self.note.unlink(missing_ok=True)
        return blob


def _check_size(said: str, size: int, limit: int) -> None:
    if size > limit:
        raise BuildError(
            "download_too_large", f"{said}: found {size} bytes, expected at most {limit}"
        )


def common(cache: Path) -> Path:
    """The cache that all share, also of a person's own one."""
    return cache.parents[1] if cache.parent.name == PEOPLE else cache


def measured_speed(cache: Path, host: str) -> float | None:
    """Bytes a second that came from a host lately; None where nothing was fetched from it."""
    known = _read(cache / "speeds" / f"{_file_name(host)}.json")
    return known["bytes"] / known["seconds"] if known else None


class _AgainError(Exception):
    """Worth another try after `pause` seconds (None: a growing time)."""

    def __init__(self, pause: float | None) -> None:
        super().__init__("the connection ended too early")
        self.pause = pause


class _WrongError(Exception):
    """What is here does not fit what the server has: from the start again."""


def _assembled(blobs: Mapping[str, Path], cache: Path, check: Check, *, unpacked: bool) -> Path:
    rows = sorted((path, blob.name, unpacked) for path, blob in blobs.items())
    digest = hashlib.sha256(json.dumps(rows).encode()).hexdigest()
    folder = cache / "sets" / digest
    if folder.is_dir():
        return _single(folder, cache, rows, check, unpacked=unpacked)
    partial = folder.with_name(f".{digest[:16]}.{secrets.token_hex(4)}.partial")
    try:
        for path, blob in sorted(blobs.items()):
            target = partial / path
            target.parent.mkdir(parents=True, exist_ok=True)
            _link(blob, target)
            if unpacked and len(blobs) > 1 and is_archive(target):
                inside = unpack(target, cache, check=check)
                target.unlink()
                bare = next(s for s in SUFFIXES if target.name.lower().endswith(s))
                into = target.with_name(target.name[: -len(bare)])
                shutil.copytree(inside, into, copy_function=_link, dirs_exist_ok=False)
        if not folder.is_dir():  # another build may have been faster
            partial.replace(folder)
    except FileExistsError as error:
        name = Path(str(error.filename)).name
        raise BuildError("source_failed", f"two files of the source are called {name}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return _single(folder, cache, rows, check, unpacked=unpacked)


def _single(
    folder: Path, cache: Path, rows: list[tuple[str, str, bool]], check: Check, *, unpacked: bool
) -> Path:
    """The folder; of a single archive, what is in it."""
    only = folder / rows[0][0]
    if not unpacked or len(rows) > 1 or not is_archive(only):
        return folder
    os.utime(folder)
    return unpack(only, cache, check=check)


def _link(source: Any, target: Any) -> Any:
    """A second name for the same bytes; a copy where the disk has no such thing."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in {errno.EXDEV, errno.EMLINK, errno.EPERM, errno.ENOTSUP}:
            raise
        shutil.copyfile(source, target)
    return target


def is_busy(status: int) -> bool:
    return status in _BUSY or status >= 500  # noqa: PLR2004


def refuse(answer: httpx2.Response, said: str, credential: str, *, had: bool) -> None:
    """Turn an answer that is no success into an error that says what to do."""
    status = answer.status_code
    if status < 300:  # noqa: PLR2004
        return
    if status == 401:  # noqa: PLR2004
        todo = "it asks for an account, which this portal has no way to give"
        if credential:
            todo = f"what is in {credential} is refused" if had else f"set {credential}"
        raise BuildError("access_denied", f"{said}: answered 401: {todo}")
    if status == 403:  # noqa: PLR2004
        todo = "access is not granted; its page may say how one gets it"
        raise BuildError("access_denied", f"{said}: answered 403: {todo}")
    if status in {404, 410}:
        raise BuildError("source_failed", f"{said}: answered {status}: there is no such file")
    raise BuildError("source_failed", f"{said}: answered {status}") from _status_error(answer)


def _status_error(answer: httpx2.Response) -> httpx2.HTTPStatusError:
    message = f"answered {answer.status_code}"
    return httpx2.HTTPStatusError(message, request=answer.request, response=answer)


def _unreachable(said: str, error: BaseException, tries: int = ATTEMPTS) -> BuildError:
    why = str(error) or type(error).__name__
    return BuildError("source_failed", f"{said}: not fetched after {tries} tries: {why}")


def pause_of(answer: httpx2.Response) -> float | None:
    """Seconds that a busy server asks to wait, as a number or a date; None where it does not."""
    asked = answer.headers.get("Retry-After", "").strip()
    if asked.isdigit():
        return min(float(asked), LONGEST_WAIT)
    with contextlib.suppress(ValueError, TypeError):
        ahead = (parsedate_to_datetime(asked) - datetime.now(UTC)).total_seconds()
        return min(max(ahead, 0.0), LONGEST_WAIT)
    return None


def backoff(attempt: int) -> float:
    spread: float = random.uniform(0.75, 1.25)  # noqa: S311 - so that runs do not come together
    return float(FIRST_WAIT * 2 ** (attempt - 1) * spread)


def _validator(answer: httpx2.Response) -> str:
    """A strong ETag, else the date of the last change."""
    etag: str = answer.headers.get("ETag", "")
    if etag.startswith('"'):
        return etag
    return str(answer.headers.get("Last-Modified", ""))


def _sent_md5(answer: httpx2.Response) -> str:
    """The MD5 that Google's store states of the whole file; "" elsewhere."""
    found = re.search(r"\bmd5=([A-Za-z0-9+/]{22}==)", answer.headers.get("x-goog-hash", ""))
    return base64.b64decode(found[1]).hex() if found else ""


def _digests(path: Path, check: Check) -> tuple[str, str]:
    """SHA-256 and MD5 (as repositories declare it) of a file."""
    md5 = file_hash(path, "md5", lambda _: check())
    return file_sha256(path, lambda _: check()), md5


def git_sha1(path: Path, check: Check) -> str:
    """The hash that git gives a file's content."""
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            check()
            digest.update(block)
    return digest.hexdigest()


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(path: Path, value: Mapping[str, Any]) -> None:
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    partial.write_text(json.dumps(value), "utf-8")
    partial.replace(path)


@contextlib.contextmanager
def _locked(path: Path, stop: threading.Event) -> Iterator[None]:
    """The lock of one file; a process that dies lets go of it."""
    with path.open("w") as lock:
        while not _taken(lock):
            if stop.wait(0.1):
                raise StoppedError
        yield


@contextlib.contextmanager
def _slot(folder: Path, host: str, slots: int, stop: threading.Event) -> Iterator[None]:
    """One of the few places that a host has."""
    while True:
        for n in range(slots):
            with (folder / f"{_file_name(host)}.{n}").open("w") as lock:
                if _taken(lock):
                    yield
                    return
        if stop.wait(0.05):
            raise StoppedError


def paced(folder: Path, host: str, seconds: float) -> float:
    """Seconds to wait after bytes that should take `seconds`, for all processes together."""
    with (folder / f"{_file_name(host)}.rate").open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        now, text = time.time(), file.read()
        due = max(float(text) if text else now, now)
        if due > now + LONGEST_WAIT:  # the clock was turned back
            due = now
        file.truncate(0)
        file.write(str(due + seconds))
        return due + seconds - now


def _file_name(host: str) -> str:
    return host.replace(":", "_")


def _taken(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in {errno.EACCES, errno.EAGAIN}:
            raise
        return False
    return True
