"""How one gets a dataset: from what the catalog knows, before anything is fetched.

Nobody is asked but by `asked`. A link tells the connector and the address; where no connector fits,
the steps are a person's. What nobody states (files, bytes, a commit) is None or in `to_pin`, and
never guessed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

from catalog.licences import licence
from catalog.places import FIGSHARE, HUB, ZENODO
from catalog.platforms import ELSEWHERE, platform_of
from fusion.errors import BuildError
from fusion.locations import Idc, place_of
from fusion.recipe_files import shipped_descriptions
from fusion.sources import CONNECTORS, configured_rules, connector, listing
from fusion.sources.archive import SUFFIXES
from fusion.sources.credentials import KINDS, kind_of
from fusion.sources.download import measured_speed
from fusion.sources.safety import FetchRules

UNPACKED = 3  # what archives grow by
#: Places whose files are used as they come.
PLAIN = frozenset({"idc", "huggingface", "openneuro"})
MANUAL = "manual"
MBIT = 125_000  # bytes
#: Places that let the account of whoever was granted access fetch by itself.
GRANTED = frozenset({"physionet", "synapse"})
#: Places that give files to signed-in accounts alone, whatever the catalog says of their access.
SIGNED_IN = frozenset({"synapse"})
_OPENNEURO = re.compile(r"openneuro\.org/datasets/(ds\d{6})", re.IGNORECASE)
_MENDELEY = re.compile(
    r"(?:data\.mendeley\.com/(?:public-api/)?datasets/|10\.17632/)([a-z0-9]{10})(?:[/.](\d+))?",
    re.IGNORECASE,
)
_KAGGLE = re.compile(
    r"kaggle\.com/(?:datasets/)?(?!(?:c|competitions|code|datasets|organizations|learn|docs)/)"
    r"([\w.-]+/[\w.-]+)(?:/versions/(\d+))?",
    re.IGNORECASE,
)
_SYNAPSE = re.compile(r"synapse\.org/.*?(syn\d+)", re.IGNORECASE)
_PHYSIONET = re.compile(
    r"physionet\.org/(?:content|files)/([a-z0-9][a-z0-9-]*)(?:/(\d+(?:\.\d+)*))?", re.IGNORECASE
)
_S3 = re.compile(r"https?://s3\.amazonaws\.com/([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/?(.*)")
_S3_HOST = re.compile(
    r"https?://([a-z0-9][a-z0-9.-]{1,61})\.(s3(?:[.-][a-z0-9-]+)?\.amazonaws\.com)/?$"
)
#: Kinds of links that files may be behind; a copy elsewhere comes after the publisher's own.
LINKS = ("download", "official", "mirror")
Need = Literal["none", "account", "application", "unknown"]
Speed = Literal["", "measured", "stated", "limit"]
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
        variable: name of the credential, where the portal can use one.
        accept: terms that a person accepts, on record, before a build fetches anything.
        expects: names, as patterns, of the files that a shipped source description reads.
        seconds: that fetching takes, about, and `speed` where that is known from: measured, stated,
            or the operator's limit, which makes it the least that it takes.
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
    accept: tuple[str, ...] = ()
    expects: tuple[str, ...] = ()
    seconds: int | None = None
    speed: Speed = ""
    selected: bool = False
    subjects: int | None = None
    series: int | None = None
    steps: tuple[str, ...] = ()

    @property
    def is_automatic(self) -> bool:
        """A build can fetch it by itself."""
        return self.connector != MANUAL

    @property
    def accept_digest(self) -> str:
        """Names these terms: an acceptance holds for them alone. Empty without any."""
        text = json.dumps([self.address, *self.accept], ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest() if self.accept else ""

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        more = {"is_automatic": self.is_automatic, "accept_digest": self.accept_digest}
        return {**asdict(self), **more}


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
    # Whoever must be asked first is asked first: no connector has what a person grants, but some
    # take the account that it was granted to.
    asks = access == "application"
    found = next((one for one in _found(facts) if not asks or one[0]["kind"] in GRANTED), None)
    expects = _expected(facts["slug"])
    if found is None:
        page = {"page": common.address} if common.address.startswith("http") else {}
        location = {"kind": MANUAL, "path": facts["slug"], **page}
        steps = tuple(_by_hand(facts, location["path"], expects))
        return replace(common, location=location, disk_bytes=size, expects=expects, steps=steps)
    location, address, to_pin = found
    kind = location["kind"]
    needs = "account" if kind in SIGNED_IN and common.needs in {"none", "unknown"} else common.needs
    grows = 1 if kind in PLAIN else 1 + UNPACKED
    credential = kind_of(kind)
    variable = credential.name if credential and needs != "none" else ""
    return replace(
        common,
        connector=kind,
        address=address,
        location=location,
        to_pin=to_pin,
        needs=needs,
        disk_bytes=None if size is None else grows * size,
        variable=variable,
        accept=tuple(_to_accept(facts, needs, address)),
        expects=expects,
        steps=tuple(_by_build(kind, address, to_pin, variable, needs)),
    )


def _expected(slug: str) -> tuple[str, ...]:
    """Names of the files that shipped descriptions of a dataset read, as patterns."""
    found = [
        template
        for described in shipped_descriptions().values()
        if described.dataset == slug and (template := described.cases.template())
    ]
    return tuple(dict.fromkeys(found))


def _to_accept(facts: Mapping[str, Any], needs: Need, address: str) -> Iterator[str]:
    if facts["licence"] and licence(facts["licence"]).dua:
        yield f"the data use agreement of {facts['licence']}"
    if needs in {"account", "application"}:
        yield f"the terms at {address}"


def _found(facts: Mapping[str, Any]) -> Iterator[Found]:
    """Locations that the links and source ids give, the best first."""
    usable = [one for one in facts["links"] if one["kind"] in LINKS and not one["issue"]]
    links = [one["url"] for kind in LINKS for one in usable if one["kind"] == kind]
    whole = [one["ref"] for one in facts["sources"] if one["id"] == "idc" and one["whole"]]
    named = sorted({one for url in links for one in _collection(url)}) or whole[:1]
    if collections := _known(named):
        where = "https://portal.imaging.datacommons.cancer.gov/explore/?collection_id="
        yield _idc(collections), where + collections[0], ()
    data = [*links, *([f"https://doi.org/{facts['doi']}"] if facts["doi"] else [])]
    reads = (_openneuro, _hub, _zenodo, _figshare, _mendeley, _physionet, _synapse, _kaggle, _s3)
    for read in (*reads, _archive):
        yield from (found for url in data if (found := read(url)))


def _openneuro(url: str) -> Found | None:
    hit = _OPENNEURO.search(url)
    return ({"kind": "openneuro", "dataset": hit[1].lower()}, url, ()) if hit else None


def _hub(url: str) -> Found | None:
    hit = HUB.search(url)
    return ({"kind": "huggingface", "repo_id": hit[1]}, url, ("revision",)) if hit else None


def _zenodo(url: str) -> Found | None:
    if not (hit := ZENODO.search(url)):
        return None
    return {"kind": "zenodo", "record": int(hit[1])}, f"https://zenodo.org/records/{hit[1]}", ()


def _figshare(url: str) -> Found | None:
    hit = FIGSHARE.search(url)
    if not hit or "/collections/" in url:
        return None
    version = {"version": int(hit[2])} if hit[2] else {}
    pin = () if version else ("version",)
    return {"kind": "figshare", "article": int(hit[1]), **version}, url, pin


def _mendeley(url: str) -> Found | None:
    if not (hit := _MENDELEY.search(url)):
        return None
    version = {"version": int(hit[2])} if hit[2] else {}
    where = f"https://data.mendeley.com/datasets/{hit[1].lower()}"
    place = {"kind": "mendeley", "dataset": hit[1].lower(), **version}
    return place, where, () if version else ("version",)


def _physionet(url: str) -> Found | None:
    if not (hit := _PHYSIONET.search(url)):
        return None
    version = {"version": hit[2]} if hit[2] else {}
    place = {"kind": "physionet", "project": hit[1].lower(), **version}
    return (
        place,
        f"https://physionet.org/content/{hit[1].lower()}/",
        () if version else ("version",),
    )


def _synapse(url: str) -> Found | None:
    if not (hit := _SYNAPSE.search(url)):
        return None
    entity = hit[1].lower()
    return {"kind": "synapse", "entity": entity}, f"https://www.synapse.org/Synapse:{entity}", ()


def _kaggle(url: str) -> Found | None:
    if not (hit := _KAGGLE.search(url)):
        return None
    version = {"version": int(hit[2])} if hit[2] else {}
    place = {"kind": "kaggle", "dataset": hit[1], **version}
    return place, f"https://www.kaggle.com/datasets/{hit[1]}", () if version else ("version",)


def _s3(url: str) -> Found | None:
    if hit := _S3_HOST.match(url):
        region = {"endpoint": f"https://{hit[2]}"} if hit[2] != "s3.amazonaws.com" else {}
        return {"kind": "s3", "bucket": hit[1], **region}, url, ()
    if not (hit := _S3.match(url)) or url.lower().endswith(SUFFIXES):
        return None
    prefix = {"prefix": hit[2].strip("/")} if hit[2].strip("/") else {}
    return {"kind": "s3", "bucket": hit[1], **prefix}, url, ()


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


def _by_build(
    kind: str, address: str, to_pin: Sequence[str], variable: str, needs: Need
) -> Iterator[str]:
    if needs == "application":
        yield f"Apply at {address}: a person decides, and terms are signed."
    elif variable:
        yield f"Sign in at {address}, and accept the terms there if it asks."
    if variable:
        shape = KINDS[variable].shape
        yield f"Give {shape} of that account as {variable} on your account page."
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
    if kind not in {"idc", "openneuro", "http"}:
        yield "The place may hold more than this dataset: choose files with allow_patterns."
    yield "Write the location into a recipe: a build fetches the files, once for all runs."


def _by_hand(facts: Mapping[str, Any], folder: str, expects: Sequence[str]) -> Iterator[str]:
    if not facts["homepage"]:
        yield "No source gives an address: look for the publication that describes it."
    else:
        platform = platform_of(facts["homepage"])
        yield platform.steps if platform else ELSEWHERE
    if facts["access"] == "application":
        yield "Apply there: a person decides, and terms are signed before files are sent."
    yield f"Put the files (a folder or an archive) below the portal's data root as {folder}."
    if expects:
        yield f"A shipped source description expects them as {', '.join(expects)}."
    yield (
        "No source states checksums: where you know them, list the files under files: in the "
        "location, and a run names each that is missing or differs. It notes those that it finds."
    )


def narrowed(
    plan: Plan, *, subjects: int | None = None, modality: str = "", body_part: str = ""
) -> Plan:
    """The plan for a part of it, with exact files and bytes; offline, from the index.

    Raises:
        BuildError: source_failed, where no index tells which files these are.
    """
    place = plan.location or {}
    if place.get("kind") == "openneuro" and subjects and not (modality or body_part):
        part = replace(plan, location={**place, "subjects": subjects}, subjects=subjects)
        return replace(part, selected=True, files=None, bytes=None, disk_bytes=None)  # no index
    if place.get("kind") != "idc":
        raise BuildError(
            "source_failed",
            "only series of Imaging Data Commons can be chosen by subject, modality or body part "
            "before they are fetched, and subjects of OpenNeuro; elsewhere use allow_patterns in "
            "the location",
        )
    from fusion.sources.idc import cohort

    location = {
        **place,
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


def asked(plan: Plan, rules: FetchRules, patterns: Sequence[str] = ()) -> Plan:
    """The plan with files and bytes as the place states them now; the newest version is named.

    Args:
        patterns: of the paths that are wanted; none: what the location says.

    Raises:
        BuildError: what the place or the operator refuses; source_failed, where there is no place
            to ask, it does not tell its newest version, or it knows no patterns.
    """
    place = dict(plan.location or {})
    kind = str(place["kind"])
    if not plan.is_automatic:
        raise BuildError("source_failed", "a person gets these files: there is no place to ask")
    if kind == "idc" and not patterns:
        return narrowed(plan) if not plan.selected else plan  # its index tells
    if plan.to_pin:
        newest = getattr(connector(kind), "newest", None)
        if newest is None:
            pin = ", ".join(plan.to_pin)
            raise BuildError("source_failed", f"{plan.address}: add {pin} to the location first")
        place = newest(place, rules)
    if patterns:
        place["allow_patterns"] = list(patterns)
    try:
        wanted = place_of(place)
    except ValueError as error:
        said = f"{plan.address}: its files cannot be chosen by patterns"
        raise BuildError("source_failed", said) from error
    found = listing(wanted, rules)
    files = found.matching(patterns)
    known = all(one.bytes is not None for one in files)
    size = sum(one.bytes or 0 for one in files) if known else None
    grows = 1 if kind in PLAIN else 1 + UNPACKED
    return replace(
        plan,
        location=place,
        to_pin=(),
        files=len(files),
        bytes=size,
        disk_bytes=None if size is None else grows * size,
        licence=plan.licence or found.licence,
        selected=plan.selected or bool(patterns),
        steps=tuple(_by_build(kind, plan.address, (), plan.variable, plan.needs)),
    )


def timed(plan: Plan, mbit: float | None = None) -> Plan:
    """The plan with the time that fetching takes, about; unknown where nothing tells the speed.

    Builds note in the cache of this machine how fast each host was.

    Args:
        mbit: megabits a second, as stated by who asks; it goes before what was measured.
    """
    from django.conf import settings

    if not plan.is_automatic or not plan.bytes:
        return plan
    host = _host_of(plan.location or {})
    limit = configured_rules().pace(host)[1]
    measured = measured_speed(Path(settings.STATE_DIR) / "cache", host)
    known: Speed = "stated" if mbit else "measured"
    speed = mbit * MBIT if mbit else measured
    if limit and (speed is None or speed > limit):
        speed, known = limit, "limit"
    if not speed:
        return plan
    return replace(plan, seconds=round(plan.bytes / speed), speed=known)


def _host_of(location: Mapping[str, Any]) -> str:
    """The host that files come from."""
    if location["kind"] == "http":
        address = location["files"][0]["url"]
    else:
        address = location.get("endpoint") or connector(location["kind"]).endpoint()
    return urlsplit(address).hostname or ""


def count_by_connector(
    records: Sequence[Mapping[str, Any]], needs: Sequence[Need] = ()
) -> dict[str, int]:
    """How many records each connector can fetch, most first; manual ones last.

    Args:
        needs: count only those that need one of these; all by default.
    """
    counts = dict.fromkeys([*CONNECTORS, MANUAL], 0)
    for facts in records:
        plan = plan_of(facts)
        counts[plan.connector] += not needs or plan.needs in needs
    return dict(sorted(counts.items(), key=lambda row: (row[0] == MANUAL, -row[1], row[0])))
