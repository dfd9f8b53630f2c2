"""Where the files of a recipe's source are: one model for each kind of place."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self, cast
from urllib.parse import unquote, urlsplit

from pydantic import Field, field_validator, model_validator

from fusion.source import Part

SAFE_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")


def plain_path(value: str) -> str:
    """A relative path that leads nowhere else.

    Raises:
        ValueError: absolute, with '..', a backslash, NUL, or no name at all.
    """
    path = PurePosixPath(value)
    if path.is_absolute() or ".." in path.parts or "\\" in value or "\0" in value:
        raise ValueError("give a path without '..' or a leading '/'")
    if not path.parts:
        raise ValueError(f"found {value!r}, expected the name of a file: give a path")
    return str(path)


class LocalFolder(Part):
    """A folder below the data root, or a .zip, .tar, .tar.gz or .tgz there."""

    kind: Literal["local"]
    path: str

    @field_validator("path")
    @classmethod
    def _inside(cls, value: str) -> str:
        path = PurePosixPath(value)
        if path.is_absolute() or ".." in path.parts or "\\" in value or "\0" in value:
            raise ValueError("give a path below the data root, without '..' or a leading '/'")
        return str(path)


class HuggingFace(Part):
    """A dataset repository on the Hugging Face Hub, at one commit."""

    kind: Literal["huggingface"]
    repo_id: str = Field(pattern=r"^[\w.-]+/[\w.-]+$")
    revision: str = Field(
        pattern=r"^[0-9a-f]{40}$", description="a full commit hash: a branch may move"
    )
    allow_patterns: list[str] = []


class ExpectedFile(Part):
    """One file among the source's files; what is declared of it is checked."""

    path: str
    sha256: str = Field(default="", pattern=r"^([0-9a-f]{64})?$")
    md5: str = Field(default="", pattern=r"^([0-9a-f]{32})?$")
    bytes: int | None = Field(default=None, ge=0)

    @field_validator("path")
    @classmethod
    def _inside(cls, value: str) -> str:
        return plain_path(value) if value else ""


class Manual(Part):
    """Files that a person gets at `page` and puts below the data root: a folder or an archive."""

    kind: Literal["manual"]
    path: str
    page: str = Field(default="", pattern=r"^(https?://\S+)?$", max_length=2000)
    files: list[ExpectedFile] = Field(default=[], max_length=100_000)

    @field_validator("path")
    @classmethod
    def _inside(cls, value: str) -> str:
        return plain_path(value)


class HttpFile(ExpectedFile):
    """The same at an address; `path` is by default the last part of the address."""

    url: str = Field(pattern=r"^https?://[^\s/?#]+/\S*$", max_length=2000)
    path: str = ""

    @field_validator("url")
    @classmethod
    def _without_password(cls, value: str) -> str:
        if "@" in urlsplit(value).netloc:
            raise ValueError("an address holds no user name or password: recipes are shown")
        return value

    @property
    def name(self) -> str:
        """Path among the source's files."""
        return self.path or plain_path(unquote(PurePosixPath(urlsplit(self.url).path).name))

    @model_validator(mode="after")
    def _named(self) -> Self:
        if not self.name:
            raise ValueError("give a path")
        return self


class Http(Part):
    """Files at addresses; archives among them are unpacked unless `unpack` is false.

    One archive alone is the source's folder; of several, each is a folder of its name.
    """

    kind: Literal["http"]
    files: list[HttpFile] = Field(min_length=1, max_length=10_000)
    unpack: bool = True

    @model_validator(mode="after")
    def _each_name_once(self) -> Self:
        names = [one.name.casefold() for one in self.files]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two files are called {twice[0]!r}: give each a path of its own")
        return self


class Zenodo(Part):
    """A record of Zenodo: the number of one version, never that of all versions."""

    kind: Literal["zenodo"]
    record: int = Field(ge=1)
    allow_patterns: list[str] = []
    unpack: bool = True


class Figshare(Part):
    """An article of figshare in one version."""

    kind: Literal["figshare"]
    article: int = Field(ge=1)
    version: int = Field(ge=1)
    allow_patterns: list[str] = []
    unpack: bool = True


class Mendeley(Part):
    """A dataset of Mendeley Data in one version."""

    kind: Literal["mendeley"]
    dataset: str = Field(pattern=r"^[a-z0-9]{6,20}$")
    version: int = Field(ge=1)
    allow_patterns: list[str] = []
    unpack: bool = True


class Kaggle(Part):
    """A dataset of Kaggle in one version; competitions have rules of their own and are none."""

    kind: Literal["kaggle"]
    dataset: str = Field(pattern=r"^[\w.-]+/[\w.-]+$")
    version: int = Field(ge=1)
    allow_patterns: list[str] = []
    unpack: bool = True


class Synapse(Part):
    """A file, folder or project of Synapse, with what lies below it."""

    kind: Literal["synapse"]
    entity: str = Field(pattern=r"^syn\d+$")
    allow_patterns: list[str] = []
    unpack: bool = True


class PhysioNet(Part):
    """A project of PhysioNet in one version."""

    kind: Literal["physionet"]
    project: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    version: str = Field(pattern=r"^\d+(\.\d+)*$")
    allow_patterns: list[str] = []
    unpack: bool = True


class S3(Part):
    """Objects below a prefix of a bucket; `endpoint`: of another store than the operator's."""

    kind: Literal["s3"]
    bucket: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")
    prefix: str = Field(default="", max_length=1000)
    endpoint: str = Field(default="", pattern=r"^(https?://[^\s/?#@]+/?)?$")
    allow_patterns: list[str] = []
    unpack: bool = True


class Idc(Part):
    """Series of Imaging Data Commons: those that are all that is asked for.

    `subjects` takes those of the first so many people, in the order of collection and subject id.
    Values are spelled as IDC does: MR, BREAST, "CC BY 4.0".
    """

    kind: Literal["idc"]
    release: int = Field(ge=1)
    collections: list[str] = []
    modalities: list[str] = []
    body_parts: list[str] = []
    licences: list[str] = []
    series: list[str] = []
    subjects: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _chooses(self) -> Self:
        if not self.collections and not self.series:
            raise ValueError("give collections or series: all of IDC is too much")
        return self


class OpenNeuro(Part):
    """A dataset of OpenNeuro, in the newest version; `version` refuses any other.

    `subjects` takes the first so many by name, `datatypes` BIDS folders: anat, func, dwi.
    """

    kind: Literal["openneuro"]
    dataset: str = Field(pattern=r"^ds\d{6}$")
    version: str = Field(default="", pattern=r"^(\d+\.\d+\.\d+)?$")
    subjects: int | None = Field(default=None, ge=1)
    datatypes: list[str] = []
    allow_patterns: list[str] = []


class OwnData(Part):
    """Data that whoever starts the run has uploaded; `sha256` is written when it is checked."""

    kind: Literal["own"]
    name: str = Field(pattern=SAFE_ID.pattern)
    sha256: str = Field(default="", pattern=r"^([0-9a-f]{64})?$")


LOCATIONS: Mapping[str, type[Part]] = MappingProxyType(
    {
        "local": LocalFolder,
        "own": OwnData,
        "huggingface": HuggingFace,
        "http": Http,
        "zenodo": Zenodo,
        "figshare": Figshare,
        "idc": Idc,
        "openneuro": OpenNeuro,
        "mendeley": Mendeley,
        "kaggle": Kaggle,
        "synapse": Synapse,
        "physionet": PhysioNet,
        "s3": S3,
        "manual": Manual,
    }
)
Place = (
    LocalFolder
    | OwnData
    | HuggingFace
    | Http
    | Zenodo
    | Figshare
    | Idc
    | OpenNeuro
    | Mendeley
    | Kaggle
    | Synapse
    | PhysioNet
    | S3
    | Manual
)
Location = Annotated[Place, Field(discriminator="kind")]


def place_of(location: Mapping[str, Any]) -> Place:
    """A checked recipe's `location`, read back."""
    return cast("Place", LOCATIONS[location["kind"]].model_validate(location))
