"""The API of a portal as Python calls; what it answers is plain JSON."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlencode

import httpx

Json = dict[str, Any]
Progress = Callable[[int, int], None]  # bytes there, bytes in all

URL, TOKEN = "IMAGINGX_URL", "IMAGINGX_TOKEN"
DEFAULT_URL = "http://127.0.0.1:8000"
ENDED = frozenset({"succeeded", "failed", "cancelled"})
TRIES, LONGEST_WAIT = 4, 30.0
BUSY = frozenset({429, 503})
CHUNK_BYTES = 1 << 20
PART_BYTES, SEND_TRIES = 8 << 20, 8
GO_ON = frozenset({409, 429, 500, 502, 503, 504})  # after these an upload asks where it stands


class ProblemError(Exception):
    """What the portal refused (RFC 9457): `status`, `code`, `title`, `detail`, `errors`."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        self.status = status
        self.code = str(problem.get("code", ""))
        self.title = str(problem.get("title", ""))
        self.detail = str(problem.get("detail", ""))
        self.errors: list[Json] = list(problem.get("errors", ()))
        super().__init__(f"{status} {self.code}: {self.detail or self.title}")


class ChecksumError(Exception):
    """A file whose bytes are not those that the portal names."""


class Client:
    """One portal. Keeps connections open; use it as a context manager, or `close()` it."""

    def __init__(
        self, url: str | None = None, token: str | None = None, *, timeout_s: float = 60
    ) -> None:
        """By default `IMAGINGX_URL` and `IMAGINGX_TOKEN`, else a portal on this machine."""
        self.url = (url or os.environ.get(URL) or DEFAULT_URL).rstrip("/")
        token = token or os.environ.get(TOKEN, "")
        self._http = httpx.Client(
            base_url=f"{self.url}/api/v1/",
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=timeout_s,
            transport=httpx.HTTPTransport(retries=2),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    # Find

    def search(self, text: str = "", **filters: Any) -> Json:
        """`understood`, `results` (strict), `near`, `total`, `facets`, `did_you_mean`.

        Args:
            text: words, conditions, "phrases" and -exclusions, as in the search box.
            filters: of the API: modality, anatomy, task, licence, not_modality, year_from, sort,
                page, limit ...; a list gives several values of one facet.
        """
        return self._get("datasets/", {"q": text, **filters})

    def search_all(self, text: str = "", **filters: Any) -> Iterator[Json]:
        """Every strict result, page after page."""
        page, seen = 1, 0
        while True:
            found = self.search(text, **{"limit": 100, **filters, "page": page})
            yield from found["results"]
            seen += len(found["results"])
            if not found["results"] or seen >= found["total"]:
                return
            page += 1

    def dataset(self, slug: str, fields: Iterable[str] = ()) -> Json:
        """One dataset with its record (every claim with its source), or these fields of it."""
        address = f"datasets/{quote(slug, safe='')}/"
        return self._get(address, {"fields": ",".join(fields)})

    def citation(self, slug: str, style: str = "text") -> str:
        """How to cite it: `text`, `bibtex` or `csl`."""
        address = f"datasets/{quote(slug, safe='')}/citation/"
        return self._answer("GET", address, params={"style": style}).text

    def acquisition(self, slug: str, **part: Any) -> Json:
        """How a dataset is got: connector, location, bytes, time, terms, account, steps.

        Args:
            part: subjects, modality, body_part choose a part; mbit states a speed; ask="true" and
                pattern (a list of them) ask the place for files and bytes.
        """
        return self._get(f"datasets/{quote(slug, safe='')}/acquisition/", part)

    def accept_terms(self, slug: str, digest: str) -> Json:
        """Accept a dataset's terms, on record: `accept_digest` of the acquisition plan."""
        return self._post(f"datasets/{quote(slug, safe='')}/terms/", {"digest": digest})

    def compare(self, *slugs: str) -> Json:
        """Two to six datasets side by side."""
        return self._get("datasets/compare/", {"slug": list(slugs)})

    def similar(self, slug: str) -> Json:
        """More like this one, with what they share."""
        return self._get(f"datasets/{quote(slug, safe='')}/similar/")

    def partners(self, slug: str, limit: int = 10) -> Json:
        """The datasets that can be fused with it best."""
        return self._get(f"datasets/{quote(slug, safe='')}/partners/", {"limit": limit})

    def statistics(self) -> Json:
        """Figures of the catalog; `catalog` is its version."""
        return self._get("catalog/statistics/")

    def figure(self, name: str, kind: str = "csv") -> str:
        """One figure: all its numbers as `csv`, or drawn as `svg`."""
        address = f"catalog/statistics/{quote(name, safe='')}/"
        return self._answer("GET", address, params={"format": kind}).text

    def export(self, kind: str = "jsonl", **search: Any) -> bytes:
        """The catalog, or what a search finds: `jsonl`, `csv`, `parquet`, `bibtex`, `dcat` ..."""
        return self._answer("GET", "catalog/export/", params={"format": kind, **search}).content

    def concepts(self, text: str = "") -> list[Json]:
        """What a label may mean: every concept, or those whose names look like `text`."""
        return list(self._get("catalog/concepts/", {"q": text})["results"])

    def suggest(self, text: str, limit: int = 8) -> Json:
        """What the search box offers while somebody types."""
        return self._get("suggest/", {"q": text, "limit": limit})

    def versions(self) -> Iterator[Json]:
        """The catalog's versions, the newest first."""
        return self._pages("catalog/versions/", {})

    def rules(self) -> Json:
        """The published rules, and what each key means."""
        return self._get("rules/")

    def apply_rules(self, rules: Mapping[str, Any], profile: str = "stated") -> Json:
        """The datasets that a rule file keeps and drops, with reasons."""
        return dict(
            self._answer("POST", "rules/", json=dict(rules), params={"profile": profile}).json()
        )

    def corrections(self, slug: str = "", **filters: Any) -> Iterator[Json]:
        """Corrections that one may see, of one dataset or of all."""
        address = f"datasets/{quote(slug, safe='')}/corrections/" if slug else "corrections/"
        return self._pages(address, filters)

    def correction(self, correction_id: str) -> Json:
        """One correction with its history."""
        return self._get(f"corrections/{quote(correction_id, safe='')}/")

    def correct(
        self, slug: str, field: str, value: Any, url: str, quoted: str, reason: str = ""
    ) -> Json:
        """Suggest a value of a dataset's fact; curators decide.

        Args:
            url, quoted: a page that states it, and in which words.
        """
        body = {"field": field, "value": value, "url": url, "quote": quoted, "reason": reason}
        return self._post(f"datasets/{quote(slug, safe='')}/corrections/", body)

    # Saved searches

    def saved_searches(self) -> Iterator[Json]:
        """One's own, the newest first: `name`, `query`, `page`, `feed`, `results`."""
        return self._pages("searches/", {})

    def save_search(self, name: str = "", **search: Any) -> Json:
        """Keep a search: `q`, and filters as of `search`. The same one is kept once."""
        return self._post("searches/", {"query": urlencode(search, doseq=True), "name": name})

    def rename_search(self, search_id: int, name: str) -> Json:
        """Give a saved search another name."""
        return dict(self._answer("PATCH", f"searches/{search_id}/", json={"name": name}).json())

    def delete_search(self, search_id: int) -> None:
        """Forget a saved search."""
        self._answer("DELETE", f"searches/{search_id}/")

    # Fuse

    def blueprint(
        self, *slugs: str, own: Iterable[str] = (),
        described: Mapping[str, Mapping[str, Any]] | None = None, mode: str = "",
        profile: str = "", task: str = "", accept_confounding: bool = False,
    ) -> Json:  # fmt: skip
        """What a fusion would be: eligibility rules, score, overlaps, licence, labels, splits.

        Args:
            slugs: datasets of the catalog.
            own: names of data that one has uploaded.
            described: name -> source description of a folder.
        """
        asked: Json = {"slug": list(slugs), "mode": mode, "profile": profile, "task": task}
        more: Json = {"own": list(own), "described": dict(described or {})}
        if any(more.values()):
            body = {**asked, **more, "accept_confounding": accept_confounding}
            return self._post("blueprint/", body)
        asked["accept_confounding"] = "true" if accept_confounding else ""
        return self._get("blueprint/", asked)

    def goal(self, modality: str, anatomy: str, task: str) -> Json:
        """The datasets that fit each other best for a goal: `slugs`, `pool`."""
        asked = {"modality": modality, "anatomy": anatomy, "task": task}
        return self._get("blueprint/goal/", asked)

    def best_of_rules(self, rules: Mapping[str, Any]) -> Json:
        """The datasets that fit each other best of those that a rule file keeps."""
        return self._post("blueprint/rules/", dict(rules))

    def draft(
        self, *slugs: str, own: Iterable[str] = (),
        described: Mapping[str, Mapping[str, Any]] | None = None,
        recipe: Mapping[str, Any] | None = None, mode: str = "", profile: str = "",
        task: str = "", accept_confounding: bool = False,
    ) -> Json:  # fmt: skip
        """The recipe of a blueprint as far as it goes: `recipe`, `problems`, `next_step`, `gates`.

        Args:
            slugs, own, described: as for `blueprint`.
            recipe: an earlier draft; what it says of datasets that stay is kept.
        """
        body: Json = {
            "slug": list(slugs), "own": list(own), "described": dict(described or {}),
            "mode": mode, "profile": profile, "task": task,
            "accept_confounding": accept_confounding,
        }  # fmt: skip
        return self._post("recipes/draft/", body | ({"recipe": dict(recipe)} if recipe else {}))

    def labels(
        self, recipe: Mapping[str, Any], meanings: Mapping[str, Mapping[str, str]] | None = None
    ) -> Json:
        """What each label of a draft means, with proposals, and what comes of it in each mode.

        Args:
            meanings: source -> key of a label -> what it shall mean; `recipe` of the answer has it.
        """
        body = {"recipe": dict(recipe), "meanings": dict(meanings or {})}
        return self._post("recipes/labels/", body)

    def recipes(self) -> list[Json]:
        """The shipped example recipes."""
        return list(self._get("recipes/")["results"])

    def validate(self, recipe: Mapping[str, Any] | str) -> Json:
        """The resolved recipe; ProblemError lists all that is wrong with it."""
        return self._post("recipes/validate/", _recipe(recipe))

    def start(
        self, recipe: Mapping[str, Any] | str, *, priority: str = "normal", key: str = ""
    ) -> Json:
        """Start a fusion, or find the run that does it already.

        Args:
            recipe: a recipe, or the name of a shipped one.
            priority: `low`, `normal` or `high`.
            key: of your own (Idempotency-Key): the same one gives the same run, even a failed one.
        """
        headers = {"Idempotency-Key": key} if key else {}
        return self._post("runs/", {**_recipe(recipe), "priority": priority}, headers)

    def runs(self, **filters: Any) -> Iterator[Json]:
        """Every run that one may see, the newest first."""
        return self._pages("runs/", filters)

    def run(self, run_id: str) -> Json:
        """One run with its stages."""
        return self._get(f"runs/{quote(run_id, safe='')}/")

    def steer(self, run_id: str, action: str) -> Json:
        """`pause`, `resume`, `retry` or `cancel` a run."""
        return self._post(f"runs/{quote(run_id, safe='')}/{quote(action, safe='')}/", None)

    def set_priority(self, run_id: str, priority: str) -> Json:
        """Let a run go before others or after them: `low`, `normal` or `high`."""
        address = f"runs/{quote(run_id, safe='')}/priority/"
        return self._post(address, {"priority": priority})

    def notices(self, run_id: str) -> list[Json]:
        """Who is told when a run has ended, and what came of it; one's own alone."""
        return list(self._get(f"runs/{quote(run_id, safe='')}/notices/")["results"])

    def notify(self, run_id: str, url: str = "") -> Json:
        """Be told when a run has ended: by a signed POST to `url`, else by mail."""
        body = {"kind": "hook", "url": url} if url else {"kind": "mail"}
        return self._post(f"runs/{quote(run_id, safe='')}/notices/", body)

    def forget_notice(self, run_id: str, notice_id: int) -> None:
        """Not to be told any more."""
        self._answer("DELETE", f"runs/{quote(run_id, safe='')}/notices/{notice_id}/")

    def follow(self, run_id: str, every_s: float = 2.0) -> Iterator[Json]:
        """The run, whenever something about it has changed, until it has ended."""
        tag, address = "", f"runs/{quote(run_id, safe='')}/"
        while True:
            headers = {"If-None-Match": tag} if tag else {}
            answer = self._answer("GET", address, headers=headers)
            if answer.status_code != httpx.codes.NOT_MODIFIED:
                tag, run = answer.headers.get("ETag", ""), answer.json()
                yield run
                if run["state"] in ENDED:
                    return
            time.sleep(every_s)

    # Bundles

    def bundles(self, **filters: Any) -> Iterator[Json]:
        """Every bundle that one may see, the newest first."""
        return self._pages("bundles/", filters)

    def bundle(self, bundle_id: str) -> Json:
        """One bundle: recipe, summary, baseline."""
        return self._get(f"bundles/{quote(bundle_id, safe='')}/")

    def baseline(self, bundle_id: str) -> Json:
        """What its baseline found: metrics, verdict, findings."""
        return self._get(f"bundles/{quote(bundle_id, safe='')}/baseline/")

    def deposits(self, bundle_id: str) -> list[Json]:
        """Where a bundle was sent, and how far that is."""
        return list(self._get(f"bundles/{quote(bundle_id, safe='')}/deposits/")["results"])

    def withdraw(self, bundle_id: str) -> Json:
        """Hide a published bundle again."""
        return self._post(f"bundles/{quote(bundle_id, safe='')}/withdraw/", None)

    def deposit(self, bundle_id: str, place: str, target: str = "", *, send: bool = False) -> Json:
        """Send a bundle to `huggingface`, `zenodo` or `s3`; without `send`: what would be sent."""
        asked = {"place": place, "target": target, "dry_run": not send}
        return self._post(f"bundles/{bundle_id}/deposits/", asked)

    def publish(self, bundle_id: str) -> Json:
        """Show a bundle of one's own to everybody."""
        return self._post(f"bundles/{quote(bundle_id, safe='')}/publish/", None)

    def download(
        self, bundle_id: str, folder: Path | str, progress: Progress | None = None
    ) -> Path:
        """Every file of a bundle below `folder`; goes on where it was interrupted.

        What is there with the right SHA-256 is not fetched again; what was fetched is checked.

        Raises:
            ChecksumError: a file is not what the portal says, even when fetched anew.
        """
        root = Path(folder)
        files = self._get(f"bundles/{quote(bundle_id, safe='')}/files/")["results"]
        size, there = sum(file["bytes"] for file in files), 0
        for file in files:
            target = root / _inside(file["path"])
            before = there

            def told(done: int, before: int = before) -> None:
                if progress is not None:
                    progress(before + done, size)

            self._fetch(file, target, told)
            there += file["bytes"]
        if progress is not None:
            progress(size, size)
        return root

    def download_view(
        self, bundle_id: str, view: str, target: Path | str, progress: Progress | None = None
    ) -> Path:
        """A bundle as one tar, cut for another tool (`nnunet`, `monai`, `bids`, ...; "": whole)."""
        target = Path(target)
        tag = Path(f"{target}.part.etag")
        address = f"bundles/{quote(bundle_id, safe='')}/download/"

        def told(done: int, size: int) -> None:
            if progress is not None:
                progress(done, size)

        params = {"view": view} if view else {}
        known = tag.read_text(encoding="ascii") if tag.is_file() else ""
        self._resume(address, Path(f"{target}.part"), known, tag, told, params)
        Path(f"{target}.part").replace(target)
        tag.unlink(missing_ok=True)
        return target

    def _fetch(self, file: Json, target: Path, told: Callable[[int], None]) -> None:
        if target.is_file() and sha256_of(target) == file["sha256"]:
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f"{target.name}.part")
        address = f"{self.url}{file['url']}"
        for _ in range(2):  # what an interrupted download left may be spoilt
            self._resume(address, part, f'"{file["sha256"]}"', None, lambda done, _: told(done), {})
            found = sha256_of(part)
            if found == file["sha256"]:
                part.replace(target)
                return
            part.unlink()
        raise ChecksumError(f"{file['path']}: found SHA-256 {found}, expected {file['sha256']}")

    def _resume(
        self, address: str, part: Path, tag: str, keep_tag: Path | None, told: Progress,
        params: Mapping[str, str],
    ) -> None:  # fmt: skip
        """Append to `part` what it lacks; begin anew when the portal has other bytes by now."""
        for attempt in range(TRIES):
            have = part.stat().st_size if part.is_file() and tag else 0
            headers = {"Range": f"bytes={have}-", "If-Range": tag} if have else {}
            try:
                with self._http.stream("GET", address, headers=headers, params=params) as answer:
                    if answer.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                        told(have, have)
                        return  # all there; or too much, which its hash tells
                    if answer.is_error:
                        answer.read()
                        raise _problem(answer)
                    tag = answer.headers.get("ETag", tag)
                    if keep_tag is not None:
                        keep_tag.write_text(tag, encoding="ascii")
                    goes_on = answer.status_code == httpx.codes.PARTIAL_CONTENT
                    done = have if goes_on else 0
                    size = done + int(answer.headers.get("Content-Length", 0))
                    with part.open("ab" if goes_on else "wb") as out:
                        for chunk in answer.iter_bytes(CHUNK_BYTES):
                            out.write(chunk)
                            done += len(chunk)
                            told(done, size)
                    if done >= size:
                        return
            except httpx.TransportError:
                if attempt == TRIES - 1:
                    raise
                time.sleep(2.0**attempt)
        raise ChecksumError(f"{part.name}: found {done} bytes, expected {size}")

    # Own data

    def uploads(self) -> Iterator[Json]:
        """One's own data, the newest first."""
        return self._pages("uploads/", {})

    def upload(self, source: Path | str, name: str = "", progress: Progress | None = None) -> Json:
        """Send a file, an archive or a folder; the same call again goes on where it stopped.

        Args:
            source: a .zip, .tar, .tar.gz or .tgz is unpacked there.
            name: by which recipes call the data; default: that of the file or folder.

        Returns:
            the upload, whose checks are under way.

        Raises:
            ChecksumError: what was begun under this name are other files.
        """
        source = Path(source)
        name = name or _plain_name(source)
        rows = _rows(source)
        begun = next((one for one in self.uploads() if one["name"] == name), None)
        if begun is None:
            files = [{key: row[key] for key in ("path", "bytes", "sha256")} for row in rows]
            upload = self._post("uploads/", {"name": name, "files": files})
        else:
            upload = self.upload_state(begun["id"])
        sent = [(row["path"], row["bytes"], row["sha256"]) for row in upload["files"]]
        if sent != [(row["path"], row["bytes"], row["sha256"]) for row in rows]:
            raise ChecksumError(f"{name!r}: found other files under this name, expected the same")
        there, size = 0, sum(row["bytes"] for row in rows)
        for row, file in zip(rows, upload["files"], strict=True):
            before = there

            def told(done: int, before: int = before) -> None:
                if progress is not None:
                    progress(before + done, size)

            if upload["state"] == "receiving":
                self._send(row["file"], f"{self.url}{file['url']}", file["offset"], told)
            there += row["bytes"]
        if progress is not None:
            progress(size, size)
        return self.upload_state(upload["id"])

    def upload_state(self, upload_id: str) -> Json:
        """One upload: its files, what the checks found, its description."""
        return self._get(f"uploads/{quote(upload_id, safe='')}/")

    def follow_upload(self, upload_id: str, every_s: float = 2.0) -> Iterator[Json]:
        """The upload, until its checks have ended."""
        while True:
            upload = self.upload_state(upload_id)
            yield upload
            if upload["state"] not in {"waiting", "checking"}:
                return
            time.sleep(every_s)

    def keep_upload(self, upload_id: str, *, accept: bool = False) -> Json:
        """Keep checked data; `accept`: you have seen the findings and may keep them there."""
        return self._post(f"uploads/{quote(upload_id, safe='')}/keep/", {"accept": accept})

    def describe_upload(self, upload_id: str, description: str) -> Json:
        """Replace the drafted source description (YAML)."""
        address = f"uploads/{quote(upload_id, safe='')}/"
        body = {"description": description}
        return dict(self._answer("PATCH", address, json=body).json())

    def delete_upload(self, upload_id: str) -> None:
        """Remove an upload with all its files."""
        self._answer("DELETE", f"uploads/{quote(upload_id, safe='')}/")

    def _send(self, file: Path, address: str, offset: int, told: Callable[[int], None]) -> None:
        """Send a file on from `offset`; after a lost connection from where the portal is."""
        size, failed = file.stat().st_size, 0
        with file.open("rb") as content:
            while offset < size:
                content.seek(offset)
                headers = {
                    "Content-Type": "application/offset+octet-stream",
                    "Upload-Offset": str(offset),
                    "Tus-Resumable": "1.0.0",
                }
                try:
                    part = content.read(PART_BYTES)
                    answer = self._http.patch(address, content=part, headers=headers)
                    if answer.is_error:
                        raise _problem(answer)
                    offset, failed = int(answer.headers["Upload-Offset"]), 0
                except (httpx.TransportError, ProblemError) as error:
                    failed += 1
                    for_good = isinstance(error, ProblemError) and error.status not in GO_ON
                    if for_good or failed == SEND_TRIES:
                        raise
                    time.sleep(min(2.0**failed, LONGEST_WAIT))
                    with suppress(httpx.TransportError):
                        answer = self._http.head(address)
                        offset = int(answer.headers.get("Upload-Offset", offset))
                told(offset)

    # Requests

    def _get(self, address: str, params: Mapping[str, Any] | None = None) -> Json:
        given = {name: value for name, value in (params or {}).items() if value not in ("", None)}
        return dict(self._answer("GET", address, params=given).json())

    def _post(self, address: str, body: Any, headers: Mapping[str, str] | None = None) -> Json:
        return dict(self._answer("POST", address, json=body, headers=headers).json())

    def _pages(self, address: str, filters: Mapping[str, Any]) -> Iterator[Json]:
        page = 1
        while True:
            found = self._get(address, {"page_size": 100, **filters, "page": page})
            yield from found["results"]
            if not found["next"]:
                return
            page += 1

    def _answer(self, method: str, address: str, **request: Any) -> httpx.Response:
        """One answer; a read waits as long as a busy portal asks, a few times."""
        for attempt in range(TRIES):
            answer = self._http.request(method, address, **request)
            last = method != "GET" or attempt == TRIES - 1
            if answer.status_code not in BUSY or last:
                break
            asked = answer.headers.get("Retry-After", "")
            time.sleep(min(float(asked) if asked.isdigit() else 2.0**attempt, LONGEST_WAIT))
        if answer.is_error:
            raise _problem(answer)
        return answer


def sha256_of(path: Path) -> str:
    """SHA-256 of a file as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _rows(source: Path) -> list[Json]:
    """Each file with path, bytes and SHA-256; hidden ones stay behind.

    Raises:
        FileNotFoundError: nothing is there.
    """
    if source.is_dir():
        found = sorted(path for path in source.rglob("*") if path.is_file())
        inside = [(path, path.relative_to(source)) for path in found]
        named = [(p, to.as_posix()) for p, to in inside if not any(x[0] == "." for x in to.parts)]
    else:
        named = [(source, source.name)]
    return [
        {"file": file, "path": path, "bytes": file.stat().st_size, "sha256": sha256_of(file)}
        for file, path in named
    ]


def _plain_name(source: Path) -> str:
    """The name of a file or folder as recipes may call it."""
    stem = source.resolve().name.partition(".")[0].lower()
    return re.sub(r"[^a-z0-9]+", "-", stem).strip("-")[:40]


def _recipe(recipe: Mapping[str, Any] | str) -> Json:
    return {"example": recipe} if isinstance(recipe, str) else {"recipe": dict(recipe)}


def _problem(answer: httpx.Response) -> ProblemError:
    try:
        problem = answer.json()
    except ValueError:
        problem = {}
    if not isinstance(problem, dict) or "title" not in problem:
        problem = {"title": answer.reason_phrase, "detail": answer.text[:200]}
    return ProblemError(answer.status_code, problem)


def _inside(path: str) -> Path:
    """A path that a portal names, which must stay in the folder.

    Raises:
        ChecksumError: it does not.
    """
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\\" in path or ":" in parts[0]:
        raise ChecksumError(f"{path!r}: found a path outside the bundle")
    return Path(*parts)
