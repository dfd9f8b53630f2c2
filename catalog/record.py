"""The record of one dataset: every field with the claims of its sources, and the facts they give.

`DatasetRecord` is what a file under catalog/records/ holds; `Facts` is what pages, search and
fusion read. A field that nobody has stated is null or an empty list; it is never guessed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from catalog import vocab
from catalog.claims import (
    CURATION,
    Basis,
    Claim,
    Strict,
    chosen,
    conflicting,
    ordered,
    rank,
    sources,
)
from catalog.licences import LICENCES, nearest
from catalog.platforms import platform_of

SLUG = r"^[a-z0-9]+(?:-[a-z0-9]+)*$"
URL = r"^https?://\S+$"
AccessName = Literal["open", "registration", "application", "unknown"]
Tier = Literal["curated", "harvested"]
Annotation = Literal["manual", "corrected", "text-mined", "pseudo", "clinical", "mixed"]
Unit = Literal[
    "subject", "study", "series", "image", "volume", "slide", "frame", "video", "patch", "mask",
    "cell", "lesion", "question",
]  # fmt: skip
UNITS: tuple[Unit, ...] = get_args(Unit)
RelationKind = Literal[
    "part_of", "version_of", "subset", "superset", "derived", "relabelled", "shared_patients"
]
LinkKind = Literal["official", "download", "paper", "mirror", "retired", "other"]


def _canonical(facet: str) -> Any:
    """A validator that takes canonical names of `facet` alone."""

    def check(value: Any) -> Any:
        if value in vocab.terms(facet):
            return value
        close = vocab.nearest(facet, str(value))
        hint = f"; nearest: {close.name!r}" if close else ""
        msg = f"found {value!r}, expected a term of the {facet} vocabulary{hint}"
        raise ValueError(msg)

    return BeforeValidator(check)


def _licence(value: str) -> str:
    if value in LICENCES:
        return value
    close = nearest(value)
    hint = f"; nearest: {close.id!r}" if close else ""
    msg = f"found {value!r}, expected an SPDX id or LicenseRef of catalog.licences{hint}"
    raise ValueError(msg)


def _source(value: str) -> str:
    if value in sources():
        return value
    msg = f"found {value!r}, expected a source of sources.yaml: {', '.join(sources())}"
    raise ValueError(msg)


def _once(value: list[str]) -> list[str]:
    if len(set(value)) != len(value):
        msg = f"found {value!r}, expected each value once"
        raise ValueError(msg)
    return value


Modality = Annotated[str, _canonical("modality")]
Anatomy = Annotated[str, _canonical("anatomy")]
Task = Annotated[str, _canonical("task")]
Dimension = Annotated[str, _canonical("dimension")]
Disease = Annotated[str, _canonical("disease")]
Licence = Annotated[str, AfterValidator(_licence)]
SourceId = Annotated[str, AfterValidator(_source)]
Once = AfterValidator(_once)
Modalities = Annotated[list[Modality], Once]
Anatomies = Annotated[list[Anatomy], Once]
Tasks = Annotated[list[Task], Once]
Diseases = Annotated[list[Disease], Once]
Dimensions = Annotated[list[Dimension], Once]
Words = Annotated[list[str], Once]
Year = Annotated[int, Field(ge=1895, le=2100)]


class Count(Strict):
    """How many of what, as one source states it; `split` names a part, null is the whole.

    A null unit means that the source does not say of what: such a number is never shown as a size.
    """

    number: int = Field(ge=1)
    unit: Unit | None = None
    what: str | None = None
    split: str | None = None
    source: SourceId
    raw: str | None = None
    basis: Basis | None = None
    url: str | None = None
    reason: str | None = None
    curator: str | None = None


class Spacing(Strict):
    """Voxel size in mm of the smallest, median and largest image; None where not stated."""

    min_mm: list[float] | None = None
    median_mm: list[float] | None = None
    max_mm: list[float] | None = None


class Citation(Strict):
    """The work to cite."""

    title: str | None = None
    authors: list[str] = []
    year: int | None = None
    container: str | None = None
    doi: str | None = None
    url: str | None = None


class SourceRef(Strict):
    """A metadata source that lists this dataset, and its id there.

    `whole` is false where the source's entry describes more or other data than this record, so that
    its numbers do not fit.
    """

    id: SourceId
    ref: str | None = None
    whole: bool = True


class Link(Strict):
    """An address at which a source finds the dataset; `issue` says what is wrong with it."""

    url: str = Field(pattern=URL, max_length=1000)
    kind: LinkKind = "official"
    source: SourceId
    issue: str | None = None


class Relation(Strict):
    """How this dataset is connected with another record; `kind` describes this one.

    `trust`: the evidence was `read`, `computed` from files, `known` to a curator, or only `cited`.
    """

    to: str = Field(pattern=SLUG)
    kind: RelationKind
    evidence: str
    trust: Literal["read", "computed", "known", "cited"] = "read"


class DatasetRecord(Strict):
    """One distinct dataset with all that is claimed of it. Lists hold canonical terms."""

    slug: str = Field(pattern=SLUG, max_length=100)
    name: str = Field(min_length=1, max_length=300)
    aliases: Words = []
    family: str | None = None
    sources: list[SourceRef] = Field(min_length=1)
    links: list[Link] = []
    year: list[Claim[Year]] = []
    modalities: list[Claim[Modalities]] = []
    modality_details: list[Claim[Words]] = []
    anatomies: list[Claim[Anatomies]] = []
    tasks: list[Claim[Tasks]] = []
    diseases: list[Claim[Diseases]] = []
    dimensions: list[Claim[Dimensions]] = []
    counts: list[Count] = []
    labelled: list[Claim[bool]] = []
    annotation: list[Claim[Annotation]] = []
    classes: list[Claim[Words]] = []
    spacing: list[Claim[Spacing]] = []
    file_formats: list[Claim[Words]] = []
    size_bytes: list[Claim[int]] = []
    licence: list[Claim[Licence]] = []
    licence_labels: list[Claim[Licence]] = []
    access: list[Claim[AccessName]] = []
    publisher: list[Claim[str]] = []
    doi: list[Claim[str]] = []
    citation: list[Claim[Citation]] = []
    relations: list[Relation] = []

    @field_validator("links")
    @classmethod
    def _each_address_once(cls, value: list[Link]) -> list[Link]:
        _once([link.url for link in value])
        return value

    @model_validator(mode="after")
    def _claims_name_sources(self) -> DatasetRecord:
        for field, claim in self.claims():
            if claim.source not in sources():
                msg = f"{field}: {_message_of_source(claim.source)}"
                raise ValueError(msg)
        return self

    def claims(self) -> Iterator[tuple[str, Claim[Any]]]:
        """Field and claim, in the order of the fields; counts are not among them."""
        for field in CLAIMED:
            for claim in getattr(self, field):
                yield field, claim

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values, every key present, in the model's order."""
        return self.model_dump(mode="json")


def _message_of_source(found: str) -> str:
    return f"found source {found!r}, expected one of {', '.join(sources())}"


CLAIMED = tuple(
    name
    for name in DatasetRecord.model_fields
    if name not in {"slug", "name", "aliases", "family", "sources", "links", "counts", "relations"}
)
LISTS = frozenset(
    {"modalities", "modality_details", "anatomies", "tasks", "diseases", "dimensions"}
    | {"classes", "file_formats"}
)


def resolve(record: DatasetRecord, tier: Tier = "curated") -> dict[str, Any]:
    """The facts of a record as plain JSON values: one value a field, and the claims behind it.

    Keys are the record's, with `tier`, `homepage`, `platform`, `conflicts` (names of fields whose
    claims exclude each other) and `claims` (each with `field` and `used`).
    """
    facts: dict[str, Any] = {
        "slug": record.slug,
        "name": record.name,
        "aliases": record.aliases,
        "tier": tier,
        "family": record.family,
    }
    rows: list[dict[str, Any]] = []
    conflicts: list[str] = []
    for field in CLAIMED:
        claims = ordered(getattr(record, field), field)
        used = chosen(claims, field)
        value = used.value if used else None
        facts[field] = _plain(value) if value is not None else ([] if field in LISTS else None)
        rows += [_row(field, claim, used=claim is used) for claim in claims]
        if conflicting(claims):
            conflicts.append(field)
    facts["access"] = facts["access"] or "unknown"
    counts, count_rows, disagree = _counts(record.counts)
    links = sorted(record.links, key=_link_order)
    homepage = next((link.url for link in links if link.kind != "paper"), None)
    platform = platform_of(homepage)
    facts |= {
        "counts": counts,
        "homepage": homepage,
        "platform": platform.name if platform else None,
        "links": [link.model_dump(mode="json") for link in links],
        "relations": [row.model_dump(mode="json") for row in record.relations],
        "sources": [ref.model_dump(mode="json") for ref in record.sources],
        "conflicts": [*conflicts, *(["counts"] if disagree else [])],
        "claims": [*rows, *count_rows],
    }
    return facts


def record_of(facts: Mapping[str, Any]) -> DatasetRecord:
    """The record that gives these facts; relations that other records hold are left out."""
    claims: dict[str, list[dict[str, Any]]] = {}
    for row in facts["claims"]:
        claim = {key: value for key, value in row.items() if key not in {"field", "used"}}
        if row["field"] == "counts":
            claim = {**claim.pop("value"), **{key: claim[key] for key in EVIDENCE}}
        claims.setdefault(row["field"], []).append(claim)
    kept = {key: facts[key] for key in ("slug", "name", "aliases", "family", "sources", "links")}
    relations = [row for row in facts["relations"] if not row.get("inverse")]
    return DatasetRecord.model_validate({**kept, **claims, "relations": relations})


NONE = "none"  # how an empty list is shown that a source states


def states_none(facts: Mapping[str, Any], field: str) -> bool:
    """Whether the followed claim is an empty list: there is none, as of diseases in the healthy."""
    return facts.get(field) == [] and any(
        claim["field"] == field and claim["used"] and claim["value"] == []
        for claim in facts.get("claims", ())
    )


_LINK_KINDS = ("official", "download", "other", "mirror", "retired", "paper")


def _link_order(link: Link) -> tuple[int, bool, int]:
    return _LINK_KINDS.index(link.kind), link.issue is not None, rank(link.source, "links") or 0


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, Strict) else value


def _row(field: str, claim: Claim[Any], *, used: bool) -> dict[str, Any]:
    row = claim.model_dump(mode="json")
    return {"field": field, **row, "used": used}


COUNTED = ("number", "unit", "what", "split")
EVIDENCE = ("source", "raw", "basis", "url", "reason", "curator")


def _counts(counts: list[Count]) -> tuple[list[dict[str, Any]], list[dict[str, Any]], bool]:
    """Counts to show, the claim rows of all, and whether sources give a unit different numbers.

    For each unit the best-ranked source is followed. Its first whole number comes first.
    """
    by_rank = sorted(counts, key=lambda count: rank(count.source, "counts") or 0)
    leader: dict[str, str] = {}
    for count in by_rank:
        if count.unit:
            leader.setdefault(count.unit, count.source)
    used: list[Count] = []
    weighed: set[tuple[str | None, ...]] = set()  # of two claims of curation the first one counts
    for count in by_rank:
        same = (count.unit, count.what, count.split)
        if count.unit and leader[count.unit] == count.source and same not in weighed:
            used.append(count)
        if count.source == CURATION:
            weighed.add(same)
    rows = [
        {
            "field": "counts",
            "value": {key: getattr(count, key) for key in COUNTED},
            **{key: getattr(count, key) for key in EVIDENCE},
            "date": None,
            "used": count in used,
        }
        for count in by_rank
    ]
    shown = [{key: getattr(count, key) for key in (*COUNTED, "source", "raw")} for count in used]
    wholes: dict[str, set[int]] = {}
    for count in by_rank:
        if count.unit and not count.split and not count.what:
            wholes.setdefault(count.unit, set()).add(count.number)
    return shown, rows, any(len(numbers) > 1 for numbers in wholes.values())


def digest_of(value: Any) -> str:
    """SHA-256 of JSON with sorted keys and no spaces."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
