"""Files, folders and projects of Synapse, by its REST API."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from fusion.errors import BuildError
from fusion.locations import Synapse, plain_path
from fusion.sources.base import Check, Listing, RemoteFile
from fusion.sources.download import THREADS, fetch_chosen, get_json
from fusion.sources.safety import FetchRules

CREDENTIAL = "SYNAPSE_AUTH_TOKEN"
FILE = "org.sagebionetworks.repo.model.FileEntity"
DEEPEST = 20  # folders within each other


def endpoint() -> str:
    """Synapse's repository service, or a server like it."""
    from django.conf import settings

    return str(settings.SYNAPSE_URL).rstrip("/")


def whoami(rules: FetchRules) -> str:
    """Name of the account.

    Raises:
        BuildError: access_denied; source_failed.
    """
    return str(_get("userProfile", rules).get("userName") or "accepted")


def listing(place: Synapse, rules: FetchRules) -> Listing:
    """The files that the patterns take, each in its newest version with size and MD5.

    Raises:
        BuildError: access_denied, where terms of the entity are not yet accepted; source_failed.
    """
    where = f"Synapse {place.entity}"
    page = f"https://www.synapse.org/Synapse:{place.entity}"
    try:
        entity = _get(f"entity/{place.entity}", rules)
        asked = {"objectId": place.entity, "restrictableObjectType": "ENTITY"}
        terms = _get("restrictionInformation", rules, asked)
        if terms.get("hasUnmetAccessRequirement"):
            raise BuildError(
                "access_denied",
                f"{where}: its terms are not accepted by the account of {CREDENTIAL}: see {page}",
            )
        if entity["concreteType"] == FILE:
            found = [(plain_path(str(entity["name"])), entity)]
        else:
            found = list(_below(place.entity, "", rules, 0))
        wanted = {one.path for one in _bare(found).matching(place.allow_patterns)}
        rows = [row for row in found if row[0] in wanted]
        with ThreadPoolExecutor(THREADS) as threads:
            files = tuple(threads.map(lambda row: _file(row[0], row[1], rules), rows))
        return Listing(
            title=str(entity["name"]),
            version=str(entity.get("versionNumber") or ""),
            files=files,
            access="terms" if terms.get("restrictionLevel", "OPEN") != "OPEN" else "account",
            credential=CREDENTIAL,
            terms_url=page,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BuildError("source_failed", f"{where}: not understood: {error!r}") from error


def _below(
    entity: str, folder: str, rules: FetchRules, depth: int
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Path and header of each file below a folder or project."""
    if depth > DEEPEST:
        raise BuildError("source_failed", f"Synapse {entity}: more than {DEEPEST} folders deep")
    asked: dict[str, Any] = {"parentId": entity, "includeTypes": ["file", "folder"]}
    while True:
        page = _get("entity/children", rules, asked)
        for one in page["page"]:
            path = plain_path(f"{folder}{one['name']}")
            if one["type"] == FILE:
                yield path, one
            else:
                yield from _below(str(one["id"]), f"{path}/", rules, depth + 1)
        asked["nextPageToken"] = page.get("nextPageToken")
        if not asked["nextPageToken"]:
            return


def _bare(found: list[tuple[str, Mapping[str, Any]]]) -> Listing:
    return Listing("", "", tuple(RemoteFile(path) for path, _ in found))


def _file(path: str, header: Mapping[str, Any], rules: FetchRules) -> RemoteFile:
    """The same with size, MD5 and address; one request."""
    version = f"entity/{header['id']}/version/{header['versionNumber']}"
    handles = [
        one for one in _get(f"{version}/filehandles", rules)["list"] if not one.get("isPreview")
    ]
    size = handles[0].get("contentSize")
    return RemoteFile(
        path=path,
        url=f"{endpoint()}/repo/v1/{version}/file?redirect=true",
        bytes=None if size is None else int(size),
        md5=str(handles[0].get("contentMd5") or ""),
        credential=CREDENTIAL,
    )


def _get(path: str, rules: FetchRules, body: Any = None) -> Any:
    url = f"{endpoint()}/repo/v1/{path}"
    return get_json(url, rules, credential=CREDENTIAL, body=body)


def fetch(place: Synapse, cache: Path, rules: FetchRules, check: Check) -> Path:
    """Folder with the files that the patterns take."""
    where, found = f"Synapse {place.entity}", listing(place, rules)
    patterns = place.allow_patterns
    return fetch_chosen(found, patterns, where, cache, rules, check, unpacked=place.unpack)
