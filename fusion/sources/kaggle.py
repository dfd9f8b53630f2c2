"""Datasets of Kaggle in one version, by the HTTP API that its own clients use."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from fusion.errors import BuildError
from fusion.locations import Kaggle, plain_path
from fusion.sources.base import Check, Hit, Listing, RemoteFile, hits_of
from fusion.sources.download import fetch_chosen, get_json
from fusion.sources.safety import FetchRules

CREDENTIAL = "KAGGLE_API_TOKEN"


def endpoint() -> str:
    """Kaggle itself, or a server like it."""
    from django.conf import settings

    return str(settings.KAGGLE_URL).rstrip("/")


def whoami(rules: FetchRules) -> str:
    """Name of the account.

    Raises:
        BuildError: access_denied; source_failed.
    """
    found = get_json(f"{endpoint()}/api/v1/hello", rules, credential=CREDENTIAL)
    return str(found.get("userName") or "accepted")


def search(words: str, most: int, rules: FetchRules) -> list[Hit]:
    """Datasets that Kaggle finds, the best first; it gives them in pages of 20."""
    url = f"{endpoint()}/api/v1/datasets/list?{urlencode({'search': words})}"
    return hits_of("Kaggle", get_json(url, rules, credential=CREDENTIAL)[:most], _hit)


def _hit(row: Mapping[str, Any]) -> Hit:
    name = str(row["ref"])
    place, page = {"kind": "kaggle", "dataset": name}, f"https://www.kaggle.com/datasets/{name}"
    return Hit(str(row["title"]), page, place, str(row.get("licenseName") or ""))


def newest(place: Mapping[str, Any], rules: FetchRules) -> dict[str, Any]:
    """The location with the version that is newest now."""
    url = f"{endpoint()}/api/v1/datasets/view/{place['dataset']}"
    answer = get_json(url, rules, credential=CREDENTIAL)
    try:
        return {**place, "version": int(answer["currentVersionNumber"])}
    except (KeyError, TypeError, ValueError) as error:
        where = f"Kaggle dataset {place['dataset']}"
        raise BuildError("source_failed", f"{where}: not understood: {error!r}") from error


def listing(place: Kaggle, rules: FetchRules) -> Listing:
    """Files of the version with their sizes: Kaggle states no checksum before it sends a file."""
    where, base = f"Kaggle dataset {place.dataset}", f"{endpoint()}/api/v1/datasets"
    about = get_json(f"{base}/view/{place.dataset}", rules, credential=CREDENTIAL)
    rows: list[Any] = []
    token = ""
    try:
        while True:
            query = {"datasetVersionNumber": place.version, "pageSize": 200}
            page = get_json(
                f"{base}/list/{place.dataset}?"
                + urlencode({**query, **({"pageToken": token} if token else {})}),
                rules,
                credential=CREDENTIAL,
            )
            rows += page["datasetFiles"]
            token = str(page.get("nextPageToken") or "")
            if not token or not page["datasetFiles"]:
                break
        return Listing(
            title=str(about.get("title") or place.dataset),
            version=str(place.version),
            files=tuple(_file(one, place, base) for one in rows),
            licence=str(about.get("licenseName") or ""),
            access="account" if about.get("isPrivate") else "open",
            credential=CREDENTIAL,
            terms_url=f"https://www.kaggle.com/datasets/{place.dataset}",
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BuildError("source_failed", f"{where}: not understood: {error!r}") from error


def _file(one: Mapping[str, Any], place: Kaggle, base: str) -> RemoteFile:
    path = plain_path(str(one.get("ref") or one["name"]))
    return RemoteFile(
        path=path,
        # "raw": as it was uploaded, never packed into a zip on the way
        url=f"{base}/download-raw/{place.dataset}/{quote(path, safe='')}"
        f"?datasetVersionNumber={place.version}",
        bytes=int(one["totalBytes"]),
        credential=CREDENTIAL,
    )


def fetch(place: Kaggle, cache: Path, rules: FetchRules, check: Check) -> Path:
    """Folder with the files of the version that the patterns take."""
    where, found = f"Kaggle dataset {place.dataset}", listing(place, rules)
    patterns = place.allow_patterns
    return fetch_chosen(found, patterns, where, cache, rules, check, unpacked=place.unpack)
