"""Sources on the Hugging Face Hub, through its own client."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from fusion.errors import BuildError
from fusion.imaging.hashes import file_sha256
from fusion.recipe import HuggingFace
from fusion.sources.base import Check, Listing, RemoteFile
from fusion.sources.safety import FetchRules

# The client is imported in functions: it costs a second that web pages need not pay.
CREDENTIAL = "HF_TOKEN"
HUB = "https://huggingface.co"
ATTEMPTS = 4
LONGEST_WAIT = 300.0
_T = TypeVar("_T")


def listing(place: HuggingFace, rules: FetchRules) -> Listing:
    """Files of one commit: SHA-256 of large ones, git's own hash of the others."""
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    token = rules.secret(CREDENTIAL)
    api = HfApi(endpoint=endpoint(), token=token or False)
    repo, commit = place.repo_id, place.revision
    info = _asked(place, lambda: api.dataset_info(repo, revision=commit), has_token=bool(token))
    tree = _asked(
        place,
        lambda: list(
            api.list_repo_tree(repo, repo_type="dataset", revision=commit, recursive=True)
        ),
        has_token=bool(token),
    )
    card = getattr(info, "card_data", None) or {}
    gated = bool(getattr(info, "gated", False))
    return Listing(
        title=repo,
        version=commit,
        files=tuple(
            RemoteFile(
                path=one.path,
                bytes=one.size,
                sha256=one.lfs.sha256 if one.lfs else "",
                git_sha1="" if one.lfs else one.blob_id,
            )
            for one in tree
            if isinstance(one, RepoFile)
        ),
        licence=str(card.get("license") or ""),
        access="terms" if gated else "account" if info.private else "open",
        credential=CREDENTIAL if gated or info.private else "",
        terms_url=_page(place) if gated else "",
    )


def whoami(rules: FetchRules) -> str:
    """Name of the account that the token belongs to; empty without one.

    Raises:
        BuildError: access_denied, where the token is refused; source_failed.
    """
    import httpx2
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    token = rules.secret(CREDENTIAL)
    if not token:
        return ""
    try:
        return str(HfApi(endpoint=endpoint(), token=token).whoami()["name"])
    except HfHubHTTPError as error:
        if error.response.status_code in {401, 403}:
            raise BuildError(
                "access_denied", f"Hugging Face Hub: {CREDENTIAL} is refused"
            ) from error
        status = error.response.status_code
        raise BuildError("source_failed", f"Hugging Face Hub: answered {status}") from error
    except (httpx2.HTTPError, OSError) as error:
        raise BuildError("source_failed", f"Hugging Face Hub: not reached: {error}") from error


def fetch(place: HuggingFace, cache: Path, rules: FetchRules, check: Check) -> Path:
    """Folder with the wanted files of one commit, each as large and with the hash that it states.

    The client keeps what it has of a file and goes on from there; finished files are not fetched
    again. A file that is not what the Hub says is removed.

    Raises:
        BuildError: access_denied, upstream_changed, download_too_large, source_failed.
    """
    from huggingface_hub import snapshot_download

    home = cache / "huggingface"
    seen = home / f"datasets--{place.repo_id.replace('/', '--')}" / f"checked-{place.revision}.json"
    wanted = _known(seen, place.allow_patterns)
    if wanted is None:
        wanted = listing(place, rules).matching(place.allow_patterns)
        if not wanted:
            patterns = ", ".join(place.allow_patterns)
            raise BuildError("source_failed", f"{_where(place)}: no file matches {patterns}")
        for one in wanted:
            if (one.bytes or 0) > rules.largest_bytes:
                raise BuildError(
                    "download_too_large",
                    f"{_where(place)}: {one.path} has {one.bytes} bytes, "
                    f"expected at most {rules.largest_bytes}",
                )
    check()
    folder = Path(
        _asked(
            place,
            lambda: snapshot_download(
                place.repo_id,
                repo_type="dataset",
                revision=place.revision,
                allow_patterns=place.allow_patterns or None,
                cache_dir=home,
                endpoint=endpoint(),
                token=rules.secret(CREDENTIAL) or False,
                max_workers=rules.pace(urlsplit(endpoint()).hostname or "")[0],
            ),
            check,
            has_token=bool(rules.secret(CREDENTIAL)),
        )
    )
    _verify(place, folder, wanted, seen)
    return folder


def _known(seen: Path, patterns: list[str]) -> tuple[RemoteFile, ...] | None:
    """What an earlier fetch checked, if it was of the same patterns."""
    try:
        found = json.loads(seen.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    if found["patterns"] != patterns:
        return None
    return tuple(RemoteFile(**row) for row in found["files"])


def _verify(place: HuggingFace, folder: Path, wanted: tuple[RemoteFile, ...], seen: Path) -> None:
    checked = {one.path for one in _known(seen, place.allow_patterns) or ()}
    for one in wanted:
        path = folder / one.path
        if one.path in checked and path.is_file():
            continue
        kind, expected = ("sha256", one.sha256) if one.sha256 else ("git sha1", one.git_sha1)
        found = file_sha256(path) if one.sha256 else git_sha1(path)
        if expected and found != expected:
            path.resolve().unlink()
            path.unlink(missing_ok=True)
            raise BuildError(
                "upstream_changed",
                f"{_where(place)}: {one.path}: found {kind} {found}, expected {expected}",
            )
    if not checked:
        rows = [
            {"path": one.path, "bytes": one.bytes, "sha256": one.sha256, "git_sha1": one.git_sha1}
            for one in wanted
        ]
        partial = seen.with_suffix(f".{os.getpid()}.part")
        partial.write_text(json.dumps({"patterns": place.allow_patterns, "files": rows}), "utf-8")
        partial.replace(seen)


def git_sha1(path: Path) -> str:
    """The hash that git gives a file's content."""
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def endpoint() -> str:
    """The Hub itself, or a server like it."""
    return os.environ.get("HF_ENDPOINT") or HUB


def _where(place: HuggingFace) -> str:
    return f"Hugging Face dataset {place.repo_id} at {place.revision[:12]}"


def _page(place: HuggingFace) -> str:
    return f"{HUB}/datasets/{place.repo_id}"


def _asked(
    place: HuggingFace, ask: Callable[[], _T], check: Check = lambda: None, *, has_token: bool
) -> _T:
    """The client's answer; a busy or failing Hub is asked again, a refusal is put into words."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    for attempt in range(1, ATTEMPTS + 1):
        try:
            return ask()
        except HfHubHTTPError as error:
            if attempt == ATTEMPTS or not _is_busy(error.response):
                raise _refusal(place, error, has_token=has_token) from error
            pause = _pause(error.response, attempt)
        except (LocalEntryNotFoundError, OSError, httpx2.HTTPError) as error:
            # The client says "not in the cache" and keeps the reason as the cause.
            cause = error.__cause__
            if isinstance(cause, HfHubHTTPError):
                if attempt == ATTEMPTS or not _is_busy(cause.response):
                    raise _refusal(place, cause, has_token=has_token) from cause
                pause = _pause(cause.response, attempt)
            elif attempt == ATTEMPTS or (isinstance(error, OSError) and error.errno):
                reason = (str(cause or error).splitlines() or [type(error).__name__])[0]
                raise BuildError(
                    "source_failed", f"{_where(place)}: not fetched: {reason}"
                ) from error
            else:
                pause = float(2 ** (attempt - 1))
        check()
        time.sleep(pause)
    raise AssertionError


def _is_busy(answer: Any) -> bool:
    status = getattr(answer, "status_code", 0)
    return status in {408, 429} or status >= 500  # noqa: PLR2004


def _pause(answer: Any, attempt: int) -> float:
    asked = str(answer.headers.get("Retry-After", ""))
    return min(float(asked), LONGEST_WAIT) if asked.isdigit() else float(2 ** (attempt - 1))


def _refusal(place: HuggingFace, error: Any, *, has_token: bool) -> BuildError:
    """The Hub's refusal and what a person must do."""
    from huggingface_hub import errors

    status = getattr(error.response, "status_code", 0)
    terms = f"accept its terms on {_page(place)} (some authors grant each request by hand)"
    code = "access_denied"
    if isinstance(error, errors.GatedRepoError):
        what = f"is gated: {terms} and set {CREDENTIAL} to a token of that account"
        if has_token and status != 401:  # noqa: PLR2004
            what = f"is gated, and the account of {CREDENTIAL} has no access yet: {terms}"
    elif isinstance(error, errors.DisabledRepoError):
        what = "was disabled by the Hub"
    elif isinstance(error, errors.RepositoryNotFoundError):
        code, private = "source_failed", f"private and {CREDENTIAL} is not set"
        if has_token:
            private = f"the account of {CREDENTIAL} may not see it"
        what = f"no such repository, or {private}"
    elif isinstance(error, errors.RevisionNotFoundError):
        code, what = "source_failed", "no such commit"
    elif isinstance(error, errors.RemoteEntryNotFoundError):
        code, what = "source_failed", "no such file"
    elif status in {401, 403}:
        what = f"the token in {CREDENTIAL} is refused (answered {status})"
        if not has_token:
            what = f"set {CREDENTIAL} (answered {status})"
    else:
        code, what = "source_failed", f"not fetched: {(str(error).splitlines() or [''])[0]}"
    return BuildError(code, f"{_where(place)}: {what}")
