"""How one gets a dataset: from what the catalog knows, before anything is fetched. No network.

A link tells the connector and the address; where no connector fits, the steps are a person's. What
nobody states (files, bytes, a commit) is None or in `to_pin`, and never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

from catalog.licences import licence
from catalog.platforms import ELSEWHERE, platform_of
from fusion.errors import BuildError
from fusion.recipe import Idc
from fusion.sources import CONNECTORS
from fusion.sources.archive import SUFFIXES

UNPACKED = 3  # what archives grow by
MANUAL = "manual"
CREDENTIALS = {
    "huggingface": "HF_TOKEN",
    "zenodo": "ZENODO_TOKEN",
}
_ZENODO = re.compile(r"(?:zenodo\.org/records?/|10\.5281/zenodo\.)(\d+)", re.IGNORECASE)
_HUB = re.compile(r"huggingface\.co/datasets/([\w.-]+/[\w.-]+)", re.IGNORECASE)
_FIGSHARE = re.compile(
    r"(?:figshare\.com/articles/(?:[\w.-]+/)*?|10\.6084/m9\.figshare\.)(\d+)(?:(?:/|\.v)(\d+))?(?![\w.])",
    re.IGNORECASE,
)
_OPENNEURO = re.compile(r"openneuro\.org/datasets/(ds\d{6})", re.IGNORECASE)
#: Kinds of links that files may be behind; a copy elsewhere comes after the publisher's own.
KINDS = ("download", "official", "mirror")
Need = Literal["none", "account", "application", "unknown"]
NEEDS: Mapping[str, Need] = {
    "open": "none", "registration": "account", "application": "application",
}  # fmt: skip
Found = tuple[dict[str, Any], str, tuple[str, ...]]  # location, address, keys to add


@dataclass(frozen=True)
class Plan:
    """What getting a dataset takes.

    Args:
        connector: a key of fusion.sources.CONNECTORS, or "manual".
        location: for a recipe; incomplete while `to_pin` names keys that only its page tells.
        files, bytes: as the catalog or the index states them; None is unknown.
        disk_bytes: that fetching takes, archives unpacked; about.
        needs: none; account: sign in and perhaps accept terms; application: a person decides.
        variable: environment variable of the token, where the portal can use one.
        subjects, series: of what is chosen, where an index tells.
        steps: what a person does, in order.
    """

    connector: str
    address: str
    location: dict[str, Any] | None
    to_pin: tuple[str, ...] = ()
    files: int | None = None
    bytes: int | None = None
    disk_bytes: int | None = None
    licence: str = ""
    terms: tuple[str, ...] = ()
    needs: Need = "unknown"
    variable: str = ""
    selected: bool = False
    subjects: int | None = None
    series: int | None = None
    steps: tuple[str, ...] = ()

    @property
    def is_automatic(self) -> bool:
        """A build can fetch it by itself."""
        return self.connector != MANUAL

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {**asdict(self), "is_automatic": self.is_automatic}


def plan_of(facts: Mapping[str, Any]) -> Plan:
    """The plan for a catalog record; pure.

    Args:
        facts: of one dataset, as catalog.record gives them.
    """
    access, size = facts["access"], facts["size_bytes"]
    common = Plan(
        connector=MANUAL,
        address=facts["homepage"] or "",
        location=None,
        bytes=size,
        licence=facts["licence"] or "",
        terms=tuple(_terms(facts)),
        needs=NEEDS.get(access, "unknown"),
    )
    # Whoever must be asked first is asked first: no connector has what a person grants.
    found = next(_found(facts), None) if access != "application" else None
    if found is None:
        local = {"kind": "local", "path": facts["slug"]}
        return replace(
            common, location=local, disk_bytes=size, steps=tuple(_by_hand(facts, local["path"]))
        )
    location, address, to_pin = found
    kind = location["kind"]
    grows = 1 if kind in {"idc", "huggingface", "openneuro"} else 1 + UNPACKED
    variable = CREDENTIALS.get(kind, "") if common.needs != "none" else ""
    return replace(
        common,
        connector=kind,
        address=address,
        location=location,
        to_pin=to_pin,
        disk_bytes=None if size is None else grows * size,
        variable=variable,
        steps=tuple(_by_build(kind, address, to_pin, variable)),
    )


def _found(facts: Mapping[str, Any]) -> Iterator[Found]:
    """Locations that the links and source ids give, the best first."""
    usable = [one for one in facts["links"] if one["kind"] in KINDS and not one["issue"]]
    links = [one["url"] for kind in KINDS for one in usable if one["kind"] == kind]
    whole = [one["ref"] for one in facts["sources"] if one["id"] == "idc" and one["whole"]]
    named = sorted({one for url in links for one in _collection(url)}) or whole[:1]
    if collections := _known(named):
        where = "https://portal.imaging.datacommons.cancer.gov/explore/?collection_id="
        yield _idc(collections), where + collections[0], ()
    data = [*links, *([f"https://doi.org/{facts['doi']}"] if facts["doi"] else [])]
    for read in (_openneuro, _hub, _zenodo, _figshare, _archive):
        yield from (found for url in data if (found := read(url)))


def _openneuro(url: str) -> Found | None:
    hit = _OPENNEURO.search(url)
    return ({"kind": "openneuro", "dataset": hit[1].lower()}, url, ()) if hit else None


def _hub(url: str) -> Found | None:
    hit = _HUB.search(url)
    return ({"kind": "huggingface", "repo_id": hit[1]}, url, ("revision",)) if hit else None


def _zenodo(url: str) -> Found | None:
    if not (hit := _ZENODO.search(url)):
        return None
    return {"kind": "zenodo", "record": int(hit[1])}, f"https://zenodo.org/records/{hit[1]}", ()


def _figshare(url: str) -> Found | None:
    hit = _FIGSHARE.search(url)
    if not hit or "/collections/" in url:
        return None
    version = {"version": int(hit[2])} if hit[2] else {}
    pin = () if version else ("version",)
    return {"kind": "figshare", "article": int(hit[1]), **version}, url, pin


def _archive(url: str) -> Found | None:
    parts = urlsplit(url)
    if parts.query or not parts.path.lower().endswith(SUFFIXES):
        return None
    return {"kind": "http", "files": [{"url": url}]}, url, ("sha256",)


def _collection(url: str) -> list[str]:
    parts = urlsplit(url)
    if not (parts.hostname or "").endswith("imaging.datacommons.cancer.gov"):
        return []
    return parse_qs(parts.query).get("collection_id", [])


def _known(names: Sequence[str]) -> list[str]:
    """Those that are collections: annotations of others have names of their own."""
    from fusion.sources.idc import collection_ids

    return [one for one in names if one in collection_ids()] if names else []


def _idc(collections: Sequence[str]) -> dict[str, Any]:
    from fusion.sources.idc import release

    return {"kind": "idc", "release": release(), "collections": list(collections)}


def _terms(facts: Mapping[str, Any]) -> Iterator[str]:
    stated = facts["licence"]
    if not stated:
        yield "No source states a licence: assume that all rights are reserved."
        return
    terms = licence(stated)
    yield f"Images: {stated}"
    if facts["licence_labels"] and facts["licence_labels"] != stated:
        yield f"Labels: {facts['licence_labels']}"
    if terms.dua:
        yield "A data use agreement must be signed."
    if terms.no_combination:
        yield "The terms forbid joining the data with others."


def _by_build(kind: str, address: str, to_pin: Sequence[str], variable: str) -> Iterator[str]:
    if variable:
        yield f"Sign in at {address}, accept the terms there if it asks, and set {variable}."
    if to_pin:
        what = {
            "revision": "the commit (its full hash, from the page's history)",
            "version": "the number of the version",
            "sha256": "the SHA-256 of the file, so that another one is noticed",
        }
        yield f"Add {', '.join(what[key] for key in to_pin)} to the location."
    if kind == "zenodo":
        yield "Should the number stand for all versions, the build names the newest: write that."
    if kind == "openneuro":
        yield "For a part: subjects (the first so many) and datatypes (anat, func) in the location."
    if kind in {"huggingface", "zenodo", "figshare"}:
        yield "The place may hold more than this dataset: choose files with allow_patterns."
    yield "Write the location into a recipe: a build fetches the files, once for all runs."


def _by_hand(facts: Mapping[str, Any], folder: str) -> Iterator[str]:
    if not facts["homepage"]:
        yield "No source gives an address: look for the publication that describes it."
    else:
        platform = platform_of(facts["homepage"])
        yield platform.steps if platform else ELSEWHERE
    if facts["access"] == "application":
        yield "Apply there: a person decides, and terms are signed before files are sent."
    yield (
        f"Put the files (a folder or an archive) below the portal's data root as {folder}; no "
        "source states checksums, so the first build notes those that it finds."
    )


def narrowed(
    plan: Plan, *, subjects: int | None = None, modality: str = "", body_part: str = ""
) -> Plan:
    """The plan for a part of it, with exact files and bytes; offline, from the index.

    Raises:
        BuildError: source_failed, where no index tells which files these are.
    """
    if not plan.location or plan.location["kind"] != "idc":
        raise BuildError(
            "source_failed",
            "only series of Imaging Data Commons can be chosen by subject, modality or body part "
            "before they are fetched; elsewhere use allow_patterns in the location",
        )
    from fusion.sources.idc import cohort

    location = {
        **plan.location,
        **({"modalities": [modality]} if modality else {}),
        **({"body_parts": [body_part]} if body_part else {}),
        **({"subjects": subjects} if subjects else {}),
    }
    chosen = cohort(Idc.model_validate(location))
    size = sum(one.bytes for one in chosen)
    return replace(
        plan,
        location=location,
        selected=True,
        files=sum(one.instances for one in chosen),
        bytes=size,
        disk_bytes=size,
        subjects=len({(one.collection, one.subject) for one in chosen}),
        series=len(chosen),
        terms=tuple(f"Series under {name}" for name in sorted({one.licence for one in chosen})),
    )


def count_by_connector(records: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """How many records each connector can fetch, most first; manual ones last."""
    counts = dict.fromkeys([*CONNECTORS, MANUAL], 0)
    for facts in records:
        counts[plan_of(facts).connector] += 1
    return dict(sorted(counts.items(), key=lambda row: (row[0] == MANUAL, -row[1], row[0])))
