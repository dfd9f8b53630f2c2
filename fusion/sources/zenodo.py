"""Records of Zenodo, by its REST API."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from fusion.errors import BuildError
from fusion.locations import Zenodo, plain_path
from fusion.sources.base import Check, Hit, Listing, RemoteFile, hits_of
from fusion.sources.download import fetch_chosen, get_json
from fusion.sources.safety import FetchRules

CREDENTIAL = "ZENODO_TOKEN"


def endpoint() -> str:
    """Zenodo itself, or a server like it."""
    from django.conf import settings

    return str(settings.ZENODO_URL).rstrip("/")


def whoami(rules: FetchRules) -> str:
    """That the token is accepted: Zenodo does not tell whose it is.

    Raises:
        BuildError: access_denied; source_failed.
    """
    get_json(f"{endpoint()}/api/deposit/depositions?size=1", rules, credential=CREDENTIAL)
    return "accepted"


def search(words: str, most: int, rules: FetchRules) -> list[Hit]:
    """Records of data that Zenodo finds, the best first."""
    query = urlencode({"q": words, "type": "dataset", "size": most})
    answer = get_json(f"{endpoint()}/api/records?{query}", rules)
    rows = answer.get("hits", {}).get("hits") if isinstance(answer, Mapping) else None
    return hits_of("Zenodo", rows or [], _hit)


def _hit(row: Mapping[str, Any]) -> Hit:
    meta, record = row["metadata"], int(row["id"])
    return Hit(
        str(meta["title"]),
        f"https://zenodo.org/records/{record}",
        {"kind": "zenodo", "record": record},
        str((meta.get("license") or {}).get("id") or ""),
    )


def listing(place: Zenodo, rules: FetchRules) -> Listing:
    """Files of one version with their MD5, its licence and who may have it."""
    credential = CREDENTIAL if rules.secret(CREDENTIAL) else ""
    url = f"{endpoint()}/api/records/{place.record}"
    return parse(get_json(url, rules, credential=credential), place.record)


def parse(answer: Mapping[str, Any], record: int) -> Listing:
    """Read the API's answer. Pure.

    Raises:
        BuildError: access_denied for a record whose files are closed; source_failed for the number
            of all versions, or where something is missing.
    """
    where = f"Zenodo record {record}"
    try:
        meta, found = answer["metadata"], int(answer["id"])
        if found != record:
            raise BuildError(
                "source_failed",
                f"{where} stands for all versions, the newest is {found}: name the one you mean",
            )
        right = str(meta.get("access_right", "open"))
        files = tuple(_file(one, right) for one in answer.get("files") or ())
        if not files:
            raise BuildError(
                "access_denied" if right != "open" else "source_failed",
                f"{where}: its files are {right}: ask on {endpoint()}/records/{record} for access"
                if right != "open"
                else f"{where} has no files",
            )
        return Listing(
            title=str(meta["title"]),
            version=str(meta.get("version") or record),
            files=files,
            licence=str((meta.get("license") or {}).get("id") or ""),
            access="open" if right == "open" else "terms",
            credential="" if right == "open" else CREDENTIAL,
            terms_url=f"{endpoint()}/records/{record}",
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BuildError("source_failed", f"{where}: not understood: {error!r}") from error


def _file(one: Mapping[str, Any], right: str) -> RemoteFile:
    kind, _, value = str(one.get("checksum", "")).partition(":")
    return RemoteFile(
        path=plain_path(str(one["key"])),
        url=str(one["links"]["self"]),
        bytes=int(one["size"]),
        md5=value if kind == "md5" else "",
        credential="" if right == "open" else CREDENTIAL,
    )


def fetch(place: Zenodo, cache: Path, rules: FetchRules, check: Check) -> Path:
    """Folder with the record's files that the patterns take."""
    where = f"Zenodo record {place.record}"
    found = listing(place, rules)
    patterns = place.allow_patterns
    return fetch_chosen(found, patterns, where, cache, rules, check, unpacked=place.unpack)
