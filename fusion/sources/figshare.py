"""Articles of figshare, by its REST API."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fusion.errors import BuildError
from fusion.locations import Figshare, plain_path
from fusion.sources.base import Check, Hit, Listing, RemoteFile, hits_of
from fusion.sources.download import fetch_chosen, get_json
from fusion.sources.safety import FetchRules

CREDENTIAL = "FIGSHARE_TOKEN"
DATASET = 3  # figshare's number of that type


def endpoint() -> str:
    """Figshare's API itself, or a server like it."""
    from django.conf import settings

    return str(settings.FIGSHARE_URL).rstrip("/")


def whoami(rules: FetchRules) -> str:
    """Address of the account.

    Raises:
        BuildError: access_denied; source_failed.
    """
    found = get_json(f"{endpoint()}/v2/account", rules, credential=CREDENTIAL)
    return str(found.get("email") or "accepted")


def search(words: str, most: int, rules: FetchRules) -> list[Hit]:
    """Articles of data that figshare finds, in its own order."""
    asked = {"search_for": words, "item_type": DATASET, "page_size": most}
    return hits_of(
        "figshare", get_json(f"{endpoint()}/v2/articles/search", rules, body=asked), _hit
    )


def _hit(row: Mapping[str, Any]) -> Hit:
    place = {"kind": "figshare", "article": int(row["id"])}
    return Hit(str(row["title"]), str(row["url_public_html"]), place)


def newest(place: Mapping[str, Any], rules: FetchRules) -> dict[str, Any]:
    """The location with the version that is newest now."""
    answer = get_json(f"{endpoint()}/v2/articles/{place['article']}", rules)
    try:
        return {**place, "version": int(answer["version"])}
    except (KeyError, TypeError, ValueError) as error:
        where = f"figshare article {place['article']}"
        raise BuildError("source_failed", f"{where}: not understood: {error!r}") from error


def listing(place: Figshare, rules: FetchRules) -> Listing:
    """Files of one version with their MD5, and its licence."""
    credential = CREDENTIAL if rules.secret(CREDENTIAL) else ""
    url = f"{endpoint()}/v2/articles/{place.article}/versions/{place.version}"
    return parse(get_json(url, rules, credential=credential), place)


def parse(answer: Mapping[str, Any], place: Figshare) -> Listing:
    """Read the API's answer. Pure.

    Raises:
        BuildError: source_failed.
    """
    where = f"figshare article {place.article}, version {place.version}"
    try:
        files = tuple(
            RemoteFile(
                path=plain_path(str(one["name"])),
                url=str(one["download_url"]),
                bytes=int(one["size"]),
                md5=str(one.get("computed_md5") or one.get("supplied_md5") or ""),
            )
            for one in answer["files"]
            if not one.get("is_link_only")
        )
        if not files:
            raise BuildError("source_failed", f"{where} has no files, only links")
        return Listing(
            title=str(answer["title"]),
            version=str(answer.get("version") or place.version),
            files=files,
            licence=str((answer.get("license") or {}).get("name") or ""),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BuildError("source_failed", f"{where}: not understood: {error!r}") from error


def fetch(place: Figshare, cache: Path, rules: FetchRules, check: Check) -> Path:
    """Folder with the article's files that the patterns take."""
    where = f"figshare article {place.article}"
    found = listing(place, rules)
    patterns = place.allow_patterns
    return fetch_chosen(found, patterns, where, cache, rules, check, unpacked=place.unpack)
