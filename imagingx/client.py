"""The API of a portal as Python calls; what it answers is plain JSON."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import httpx

from imagingx.connection import Connection, Json
from imagingx.transfer import (
    ChecksumError,
    Progress,
    fetch,
    files_of,
    inside,
    plain_name,
    resume,
    send,
)

ENDED = frozenset({"succeeded", "failed", "cancelled"})


class Client(Connection):
    """One portal, call by call. A context manager; else `close()` it."""

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

    def remove_bundle(self, bundle_id: str, why: str = "") -> None:
        """Remove a bundle of one's own; its files go when nobody else holds it.

        Args:
            why: what its page will say; asked for where it is published or was sent elsewhere.
        """
        address = f"bundles/{quote(bundle_id, safe='')}/"
        self._answer("DELETE", address + (f"?{urlencode({'why': why})}" if why else ""))

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
            target = root / inside(file["path"])
            before = there

            def told(done: int, before: int = before) -> None:
                if progress is not None:
                    progress(before + done, size)

            fetch(self._http, f"{self.url}{file['url']}", target, file["sha256"], told)
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
        address += f"?view={quote(view, safe='')}" if view else ""
        part = Path(f"{target}.part")
        known = tag.read_text(encoding="ascii") if tag.is_file() else ""
        resume(self._http, address, part, known, progress or (lambda *_: None), tag)
        part.replace(target)
        tag.unlink(missing_ok=True)
        return target

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
        name = name or plain_name(source)
        rows = files_of(source)
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
                send(self._http, row["file"], f"{self.url}{file['url']}", file["offset"], told)
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


def _recipe(recipe: Mapping[str, Any] | str) -> Json:
    return {"example": recipe} if isinstance(recipe, str) else {"recipe": dict(recipe)}
