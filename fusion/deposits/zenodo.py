"""A bundle as a draft of Zenodo with a reserved DOI: its first page, and all of it in one tar.

A person looks at the draft and publishes it there; the portal never does.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from html import escape
from typing import Any

import httpx2

from catalog.licences import licence
from fusion.bundle.download import BundleTar
from fusion.deposits.base import Parcel, Sent, Told
from fusion.errors import BuildError
from fusion.sources.download import backoff, is_busy, pause_of, refuse, shown
from fusion.sources.safety import FetchRules, client
from fusion.sources.zenodo import CREDENTIAL, endpoint

__all__ = ["CREDENTIAL", "check_target", "send", "sent_files"]
FIRST_PAGE = "README.md"
DRAFTS = 100  # of the account, that are looked through for the bundle's


def check_target(target: str) -> None:
    """A draft of the account: there is nothing to name."""
    if target:
        raise BuildError("deposit_refused", f"found {target!r}, expected no target for a draft")


def sent_files(parcel: Parcel) -> list[tuple[str, int]]:
    """The first page, to be read there, and the tar."""
    pages = [(one["path"], one["bytes"]) for one in parcel.files if one["path"] == FIRST_PAGE]
    return [*pages, (f"{parcel.short}.tar", _tar(parcel).size)]


def send(
    parcel: Parcel,
    target: str,  # noqa: ARG001 - the protocol's
    rules: FetchRules,
    told: Told,
    *,
    remote: str = "",
    begun: Callable[[str], Any] = lambda _: None,
    **_: Any,
) -> Sent:
    """A draft, or the rest of the one that an earlier try made; a file goes whole or again."""
    with client(rules) as http:
        http.timeout = httpx2.Timeout(600.0, connect=20.0)
        draft = _draft(http, rules, parcel, remote)
        where, bucket = str(draft["id"]), str(draft["links"]["bucket"])
        begun(where)
        there = {one["filename"]: one for one in draft.get("files") or ()}
        done = 0
        for name, size in sent_files(parcel):
            known = there.get(name)
            whole = known and int(known["filesize"]) == size
            if not (whole and known and known["checksum"] == _md5(_content(parcel, name))):
                _put(http, rules, f"{bucket}/{name}", parcel, name, size)
            done += size
            told(done)
        address = f"{endpoint()}/api/deposit/depositions/{where}"
        draft = _ask(http, rules, "PUT", address, json={"metadata": metadata_of(parcel)}).json()
    doi = (draft["metadata"].get("prereserve_doi") or {}).get("doi", "")
    return Sent(str(draft["links"]["html"]), remote=where, doi=str(doi))


def metadata_of(parcel: Parcel) -> dict[str, Any]:
    """What Zenodo asks of a record. Pure."""
    names = sorted(set(parcel.licences))
    each = ", ".join(names) or "unknown"
    if len(names) == 1 and licence(names[0]).known:
        whole = names[0].lower()
    else:
        whole = "other-at" if all(licence(one).commercial for one in names) else "other-nc"
    return {
        "title": parcel.title,
        "upload_type": "dataset",
        "description": f"<p>{escape(parcel.title)}: bundle {parcel.bundle_id} of Imaging-X Portal."
        f" Every file keeps the licence of its source: {escape(each)}; see {FIRST_PAGE}.</p>",
        "creators": [{"name": parcel.creator}],
        "access_right": "open",
        "license": whole,
        "version": parcel.short,
        "prereserve_doi": True,
    }


def _draft(http: httpx2.Client, rules: FetchRules, parcel: Parcel, remote: str) -> dict[str, Any]:
    """The draft of an earlier try, by its number or by the bundle that it names; else a new one."""
    base = f"{endpoint()}/api/deposit/depositions"
    if remote:
        try:
            found = dict(_ask(http, rules, "GET", f"{base}/{remote}").json())
        except BuildError as error:
            if error.code != "source_failed":
                raise
        else:
            if not found.get("submitted"):
                return found
    newest = f"{base}?status=draft&sort=mostrecent&size={DRAFTS}"
    for one in _ask(http, rules, "GET", newest).json():
        about = str((one.get("metadata") or {}).get("description", ""))
        if parcel.bundle_id in about and not one.get("submitted"):  # its answer was lost
            return dict(_ask(http, rules, "GET", f"{base}/{one['id']}").json())
    return dict(_ask(http, rules, "POST", base, json={"metadata": metadata_of(parcel)}).json())


def _put(
    http: httpx2.Client, rules: FetchRules, url: str, parcel: Parcel, name: str, size: int
) -> None:
    sent = _ask(http, rules, "PUT", url, size=size, content=lambda: _content(parcel, name)).json()
    if str(sent["checksum"]).removeprefix("md5:") != (ours := _md5(_content(parcel, name))):
        raise BuildError(
            "source_failed", f"{shown(url)}: found {sent['checksum']}, expected md5 {ours}"
        )


def _ask(
    http: httpx2.Client, rules: FetchRules, method: str, url: str, *, size: int = 0, **sent: Any
) -> httpx2.Response:
    """One answer; a busy place is asked again, what is sent being made anew."""
    headers = {"Authorization": f"Bearer {rules.secret(CREDENTIAL)}"}
    content = sent.pop("content", None)
    if content:
        headers |= {"Content-Length": str(size), "Content-Type": "application/octet-stream"}
    for attempt in range(1, rules.attempts + 1):
        try:
            body = {"content": content()} if content else {}
            answer = http.request(method, url, headers=headers, **sent, **body)
            if not is_busy(answer.status_code) or attempt == rules.attempts:
                refuse(answer, shown(url), CREDENTIAL, had=True)
                return answer
            wanted = pause_of(answer)
        except httpx2.TransportError as error:
            if attempt == rules.attempts or method == "POST":  # it may have been done: no second
                raise BuildError("source_failed", f"{shown(url)}: not reached: {error}") from error
            wanted = None
        time.sleep(backoff(attempt) if wanted is None else wanted)
    raise AssertionError


def _tar(parcel: Parcel) -> BundleTar:
    return BundleTar(parcel.files, parcel.opened, parcel.short)


def _content(parcel: Parcel, name: str) -> Iterator[bytes]:
    if name == f"{parcel.short}.tar":
        yield from _tar(parcel).iter_range()
        return
    with parcel.opened(name) as file:
        while block := file.read(1 << 20):
            yield block


def _md5(blocks: Iterator[bytes]) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    for block in blocks:
        digest.update(block)
    return digest.hexdigest()
