"""Sources on the Hugging Face Hub: asked through its own client, fetched as all others are.

The client downloads, too, but keeps nothing of a file that breaks off with its process, and knows
neither the operator's pace nor which addresses may be reached.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

from fusion.errors import BuildError
from fusion.locations import HuggingFace, plain_path
from fusion.sources.base import Check, Hit, Listing, RemoteFile, hits_of
from fusion.sources.download import fetch_chosen, get_json
from fusion.sources.safety import FetchRules

# The client is imported in functions: it costs a second that web pages need not pay.
CREDENTIAL = "HF_TOKEN"
HUB = "https://huggingface.co"
ATTEMPTS = 4
LONGEST_WAIT = 300.0
_T = TypeVar("_T")


def client_of(rules: FetchRules, seconds: float = 60.0) -> Any:
    """The Hub's client with the token, if there is one.

    Args:
        seconds: that an answer may take; by itself the client waits for ever.
    """
    import httpx2
    from huggingface_hub import HfApi, get_session

    get_session().timeout = httpx2.Timeout(seconds, connect=20.0)
    return HfApi(endpoint=endpoint(), token=rules.secret(CREDENTIAL) or False)


def search(words: str, most: int, rules: FetchRules) -> list[Hit]:
    """Datasets that the Hub finds, in its own order."""
    query = urlencode({"search": words, "limit": most})
    rows = get_json(f"{endpoint()}/api/datasets?{query}", rules, credential=CREDENTIAL)
    return hits_of("Hugging Face Hub", rows, _hit)


def _hit(row: Mapping[str, Any]) -> Hit:
    tags = (str(one).partition(":") for one in row.get("tags") or ())
    licence = next((value for key, _, value in tags if key == "license"), "")
    repo = str(row["id"])
    return Hit(repo, f"{HUB}/datasets/{repo}", {"kind": "huggingface", "repo_id": repo}, licence)


def newest(place: Mapping[str, Any], rules: FetchRules) -> dict[str, Any]:
    """The location with the last commit of the main branch."""
    repo = str(place["repo_id"])
    answer = get_json(f"{endpoint()}/api/datasets/{repo}", rules, credential=CREDENTIAL)
    try:
        return {**place, "revision": str(answer["sha"])}
    except (KeyError, TypeError) as error:
        said = f"Hugging Face dataset {repo}: not understood: {error!r}"
        raise BuildError("source_failed", said) from error


def listing(place: HuggingFace, rules: FetchRules) -> Listing:
    """Files of one commit: SHA-256 of large ones, git's own hash of the others."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.hf_api import RepoFile

    token, api = rules.secret(CREDENTIAL), client_of(rules)
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
                path=plain_path(one.path),
                url=hf_hub_url(
                    repo, one.path, repo_type="dataset", revision=commit, endpoint=endpoint()
                ),
                bytes=one.size,
                sha256=one.lfs.sha256 if one.lfs else "",
                git_sha1="" if one.lfs else one.blob_id,
                credential=CREDENTIAL,
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
    from huggingface_hub.errors import HfHubHTTPError

    if not rules.secret(CREDENTIAL):
        return ""
    try:
        return str(client_of(rules).whoami()["name"])
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

    Raises:
        BuildError: access_denied, upstream_changed, download_too_large, source_failed.
    """
    found = _kept(place, cache, rules)
    patterns = place.allow_patterns
    return fetch_chosen(found, patterns, _where(place), cache, rules, check, unpacked=False)


def _kept(place: HuggingFace, cache: Path, rules: FetchRules) -> Listing:
    """The listing, asked for once: a commit never changes."""
    kept = cache / "huggingface" / f"{place.repo_id.replace('/', '--')}-{place.revision}.json"
    try:
        known = json.loads(kept.read_text("utf-8"))
        return Listing(**{**known, "files": tuple(RemoteFile(**one) for one in known["files"])})
    except (OSError, ValueError):
        found = listing(place, rules)
    if found.access == "terms":  # all may read what a gated repository holds, not the files
        api, has_token = client_of(rules), bool(rules.secret(CREDENTIAL))
        _asked(
            place,
            lambda: api.auth_check(place.repo_id, repo_type="dataset"),
            has_token=has_token,
        )
    kept.parent.mkdir(parents=True, exist_ok=True)
    partial = kept.with_suffix(f".{os.getpid()}.part")
    partial.write_text(json.dumps(found.as_dict()), "utf-8")
    partial.replace(kept)
    return found


def endpoint() -> str:
    """The Hub itself, or a server like it."""
    return os.environ.get("HF_ENDPOINT") or HUB


def _where(place: HuggingFace) -> str:
    return f"Hugging Face dataset {place.repo_id} at {place.revision[:12]}"


def _page(place: HuggingFace) -> str:
    return f"{HUB}/datasets/{place.repo_id}"


def _asked(place: HuggingFace, ask: Callable[[], _T], *, has_token: bool) -> _T:
    """The client's answer; a busy or failing Hub is asked again, a refusal is put into words."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError

    for attempt in range(1, ATTEMPTS + 1):
        pause = float(2 ** (attempt - 1))
        try:
            return ask()
        except HfHubHTTPError as error:
            if attempt == ATTEMPTS or not _is_busy(error.response):
                raise _refusal(place, error, has_token=has_token) from error
            pause = _pause(error.response, attempt)
        except (OSError, httpx2.HTTPError) as error:
            if attempt == ATTEMPTS:
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                raise BuildError(
                    "source_failed", f"{_where(place)}: not asked: {reason}"
                ) from error
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
