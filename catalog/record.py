"""The record of one dataset, as its YAML file under catalog/records/ holds it.

A field that nobody has stated is null or an empty list; it is never guessed.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from catalog import vocab
from catalog.licences import LICENCES, nearest

SLUG = r"^[a-z0-9]+(?:-[a-z0-9]+)*$"
AccessName = Literal["open", "registration", "application", "unknown"]
Unit = Literal[
    "subject", "study", "series", "image", "volume", "slide", "frame", "video", "question"
]
RelationKind = Literal["subset", "superset", "derived", "relabelled", "shared_patients"]


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


Modality = Annotated[str, _canonical("modality")]
Anatomy = Annotated[str, _canonical("anatomy")]
Task = Annotated[str, _canonical("task")]
Dimension = Annotated[str, _canonical("dimension")]
Disease = Annotated[str, _canonical("disease")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


class Count(_Strict):
    """A number as a source states it; a null unit means that the source does not say of what."""

    number: int = Field(ge=1)
    unit: Unit | None = None
    what: str | None = None
    raw: str
    source: str


class SourceRef(_Strict):
    """A metadata source that vouches for the record: its id, version and place within it."""

    id: str
    version: str | None = None
    ref: str | None = None


class Claim(_Strict):
    """What one source says about one field; `applied` when the record's value follows it."""

    field: str
    value: str | int | bool | None = None
    source: str
    reason: str | None = None
    applied: bool = False


class Link(_Strict):
    """An address at which a source finds the dataset; `issue` says what is wrong with it."""

    url: str
    issue: str | None = None


class Relation(_Strict):
    """How this dataset overlaps with another record; `kind` describes this one."""

    to: str = Field(pattern=SLUG)
    kind: RelationKind
    evidence: str


class DatasetRecord(_Strict):
    """One distinct dataset. Lists hold canonical terms; `raw` holds sources' own words."""

    slug: str = Field(pattern=SLUG, max_length=100)
    name: str = Field(min_length=1, max_length=300)
    aliases: list[str] = []
    year: int | None = Field(default=None, ge=1895, le=2100)
    modalities: list[Modality] = []
    anatomies: list[Anatomy] = []
    tasks: list[Task] = []
    diseases: list[Disease] = []
    dimensions: list[Dimension] = []
    counts: list[Count] = []
    labelled: bool | None = None
    licence: str | None = None
    access: AccessName = "unknown"
    access_basis: str | None = None
    homepage: str | None = Field(default=None, max_length=1000, pattern=r"^https?://\S+$")
    links: list[Link] = []
    relations: list[Relation] = []
    sources: list[SourceRef] = Field(min_length=1)
    claims: list[Claim] = []
    raw: list[dict[str, str | int | bool | None]] = []

    @field_validator("licence")
    @classmethod
    def _licence_in_table(cls, value: str | None) -> str | None:
        if value is None or value in LICENCES:
            return value
        close = nearest(value)
        hint = f"; nearest: {close.id!r}" if close else ""
        msg = f"found {value!r}, expected an SPDX id or LicenseRef of catalog.licences{hint}"
        raise ValueError(msg)

    @field_validator("modalities", "anatomies", "tasks", "diseases", "dimensions", "aliases")
    @classmethod
    def _no_repeats(cls, value: list[str]) -> list[str]:
        if len(set(value)) != len(value):
            msg = f"found {value!r}, expected each value once"
            raise ValueError(msg)
        return value

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values, every key present, in the model's order."""
        return self.model_dump(mode="json")

    def digest(self) -> str:
        """SHA-256 of the canonical JSON."""
        return digest_of(self.as_dict())


def digest_of(value: Any) -> str:
    """SHA-256 of JSON with sorted keys and no spaces."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
