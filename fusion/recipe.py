"""Recipes: what to fuse. Plain data, checked before anything is read or written."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from itertools import combinations
from pathlib import Path, PurePosixPath
from types import MappingProxyType, UnionType
from typing import Annotated, Any, Literal, Self, Union, cast, get_args, get_origin
from urllib.parse import unquote, urlsplit

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from rapidfuzz import fuzz, process

from catalog import concepts, vocab
from catalog.overlaps import OverlapGraph
from fusion.errors import Problem, RecipeError
from fusion.source import Part, SourceDescription

FactsOf = Callable[[Collection[str]], Mapping[str, Mapping[str, Any]]]
RECIPES = Path(__file__).resolve().parent / "recipes"
DEEPEST = 50  # levels of lists and mappings in a recipe's text
PROPOSED = "?"  # first character of what a draft proposes and nobody has confirmed
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


class Member(Part):
    """One source of a recipe.

    `convert: presence` declares that its masks, outlines or boxes are used as classes: present
    where a case shows any of a concept, absent where it was looked for and nothing is there.
    `convert: box` declares that the boxes around its masks and outlines are used: one around each
    connected part of a mask, each outline and each instance.
    """

    id: str
    dataset: str
    location: Location
    description: SourceDescription
    convert: Literal["presence", "box"] | None = None

    def uses(self, task: str) -> Literal["layers", "classes", "presence", "boxes", "bounds"]:
        """Which of the source's labels serve the task."""
        if task == "segmentation":
            return "layers"
        if task == "detection":
            return "bounds" if self.convert == "box" else "boxes"
        return "presence" if self.convert == "presence" else "classes"

    @field_validator("id")
    @classmethod
    def _safe(cls, value: str) -> str:
        if not SAFE_ID.fullmatch(value):
            raise ValueError("use 1-40 of a-z, 0-9, _ and -, a letter or digit first")
        return value


class Target(Part):
    """What the harmonised images look like; fusion.md's profiles."""

    profile: Literal["native", "canonical", "grid"] = "canonical"
    spacing_mm: tuple[float, float, float] | None = None

    @model_validator(mode="after")
    def _grid_has_spacing(self) -> Self:
        if (self.profile == "grid") != (self.spacing_mm is not None):
            raise ValueError("spacing_mm goes with profile grid, and only with it")
        if self.spacing_mm and not all(0.05 <= s <= 50 for s in self.spacing_mm):  # noqa: PLR2004
            raise ValueError("spacing_mm is in millimetres, 0.05 to 50")
        return self


class Splits(Part):
    """How groups become train, val and test."""

    protocol: Literal["holdout", "kfold", "loso"] = "holdout"
    train: float = 0.7
    val: float = 0.1
    test: float = 0.2
    official_val: bool = False  # official val data are val; else they are train

    @model_validator(mode="after")
    def _sum(self) -> Self:
        total = round(self.train + self.val + self.test, 6)
        if total != 1 or min(self.train, self.test) <= 0 or self.val < 0:
            raise ValueError("train, val and test are shares that sum to 1; train and test > 0")
        return self


class AcceptedOverlap(Part):
    """Two datasets of this recipe that share people, accepted with a reason.

    A dataset with itself stands for two sources that are parts of it.
    """

    datasets: tuple[str, str]
    reason: str


class AcceptedLooks(Part):
    """Images that look alike across splits, seen by somebody who says why they may stay.

    `cases` names two as source/name; without it the reason is given for every such pair.
    """

    cases: tuple[str, str] | None = None
    reason: str = Field(min_length=3)


class Accept(Part):
    """Risks the author accepts; each is printed on the first page of the bundle."""

    confounding: bool = False
    overlap: list[AcceptedOverlap] = []
    unknown_subjects: list[str] = []  # source ids whose cases count as one subject each
    protocol: dict[str, str] = {}  # concept -> why its different protocols may be joined
    leak_review: list[AcceptedLooks] = []


class KnownOverlap(Part):
    """Two datasets of this recipe that the catalog connects; written when the recipe is checked."""

    datasets: tuple[str, str]
    certainty: Literal["certain", "likely", "possible"]
    kind: str
    path: list[str]
    evidence: str


class KnownDifference(Part):
    """What the catalog says of a source's dataset and its description does not.

    Written when the recipe is checked.
    """

    source: str
    field: str
    catalog: str
    described: str


class CatalogCount(Part):
    """How many of a unit the catalog counts."""

    number: int
    unit: str
    what: str | None = None
    split: str | None = None

    model_config = ConfigDict(extra="ignore", frozen=True)


class CatalogSpacing(Part):
    """Voxel sizes that the catalog states, mm per axis."""

    min_mm: list[float] | None = None
    median_mm: list[float] | None = None
    max_mm: list[float] | None = None


class CatalogFacts(Part):
    """What the catalog states of a dataset and files can confirm; written when it is checked."""

    modalities: list[str] = []
    modality_details: list[str] = []
    anatomies: list[str] = []
    dimensions: list[str] = []
    classes: list[str] = []
    spacing: CatalogSpacing | None = None
    counts: list[CatalogCount] = []
    annotation: str | None = None

    model_config = ConfigDict(extra="ignore", frozen=True)

    @field_validator("anatomies", "modalities")
    @classmethod
    def _known(cls, value: list[str], info: ValidationInfo) -> list[str]:
        facet = "anatomy" if info.field_name == "anatomies" else "modality"
        return [name for name in value if name in vocab.terms(facet)]


class BaselineChoice(Part):
    """Which baseline check runs."""

    tier: Literal["none", "smoke", "small", "standard"] = "smoke"


class Recipe(Part):
    """A fusion recipe, complete: source descriptions are inside."""

    schema_: Literal["imaging-x/recipe/1"] = Field(alias="schema")
    title: str = Field(min_length=3, max_length=200)
    about: str = ""
    task: Literal["segmentation", "classification", "detection"]
    mode: Literal["intersection", "union"] = "intersection"
    build: Literal["private", "shareable"] = "private"
    seed: int = 20260101
    target: Target = Target()
    concepts: list[str] = []
    channels: list[str] | None = None  # in order; default: those that all sources have
    sources: list[Member] = Field(min_length=1)
    splits: Splits = Splits()
    overlap_plan: Literal["drop_child_copies", "keep_relabelled", "refuse"] | None = None
    accept: Accept = Accept()
    known_overlaps: list[KnownOverlap] = []
    known_differences: list[KnownDifference] = []
    known_facts: dict[str, CatalogFacts] = {}  # by source id
    views: list[Literal["nnunet", "monai", "bids", "huggingface"]] = ["nnunet", "monai"]
    baseline: BaselineChoice = BaselineChoice()

    @model_validator(mode="after")
    def _unique_ids(self) -> Self:
        ids = [source.id for source in self.sources]
        if twice := sorted({i for i in ids if ids.count(i) > 1}):
            raise ValueError(f"source ids are used twice: {', '.join(twice)}")
        return self

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data; `check_recipe` takes it back."""
        return self.model_dump(mode="json", by_alias=True)


def example_recipes() -> dict[str, Path]:
    """Recipes shipped with the portal: name -> file."""
    return {path.stem: path for path in sorted(RECIPES.glob("*.yaml"))}


@cache
def shipped_recipes() -> Mapping[str, dict[str, Any]]:
    """What `load_recipe` makes of them, by name. Read once, so nobody may change them."""
    return MappingProxyType({name: load_recipe(path) for name, path in example_recipes().items()})


@cache
def shipped_descriptions() -> Mapping[str, SourceDescription]:
    """Source descriptions shipped with the portal, by the name that recipes use."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return MappingProxyType(
        {
            path.stem: SourceDescription.model_validate(
                yaml.load(path.read_text("utf-8"), Loader=loader)  # noqa: S506 - a safe loader
            )
            for path in _description_files()
        }
    )


def descriptions_of(dataset: str) -> list[tuple[str, SourceDescription]]:
    """The shipped descriptions of a dataset, by name."""
    return [(name, one) for name, one in shipped_descriptions().items() if one.dataset == dataset]


def _description_files() -> list[Path]:
    return sorted((RECIPES / "sources").glob("*.yaml"))


def load_recipe(path: Path) -> dict[str, Any]:
    """Read a recipe file and put its source descriptions in place of their file names.

    Raises:
        RecipeError: no such file, no YAML or JSON, a description that is not there.
    """
    return resolve(parse(_read(path, "recipe")), folder=path.parent)


def load_description(name: str) -> dict[str, Any]:
    """A source description: of a shipped name, or in a file.

    Raises:
        RecipeError: no such file, no YAML or JSON.
    """
    path = _shipped().get(name, Path(name))
    return parse(_read(path, "description"))


def _shipped() -> dict[str, Path]:
    return {path.stem: path for path in _description_files()}


def parse(text: str) -> dict[str, Any]:
    """YAML or JSON text as a mapping.

    Raises:
        RecipeError: broken text, with line and column.
    """
    try:
        _refuse_bombs(text)
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "the text"
        raise _one("", where, "YAML or JSON", f"recipe: {where}: {error}") from error
    if not isinstance(data, dict):
        raise _one("", type(data).__name__, "a mapping", "recipe: expected a mapping of keys")
    return data


def _refuse_bombs(text: str) -> None:
    """Aliases and deep nesting, a few bytes of which could fill the memory; reads events only."""
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            message = "recipe: found a YAML alias (*name), expected the value written out"
            raise _one("recipe", "a YAML alias", "the value written out", message)
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > DEEPEST:
            message = f"recipe: nested too deeply, expected at most {DEEPEST} levels"
            raise _one("recipe", "deep nesting", f"at most {DEEPEST} levels", message)


def resolve(data: Mapping[str, Any], folder: Path | None = None) -> dict[str, Any]:
    """Replace `description: file.yaml` by the file's content, and a shipped name by ours.

    Args:
        data: recipe as read.
        folder: where description files are looked up; None (a recipe from the network) allows the
            names of shipped descriptions only.
    """
    data = dict(data)
    sources = data.get("sources")
    if isinstance(sources, list):
        data["sources"] = [
            _with_description(dict(source), i, folder) if isinstance(source, dict) else source
            for i, source in enumerate(sources)
        ]
    return data


def check_recipe(
    data: Mapping[str, Any],
    known_datasets: Collection[str],
    overlaps: OverlapGraph | None = None,
    facts_of: FactsOf | None = None,
) -> Recipe:
    """Check a resolved recipe against the schema, the catalog and the concept table.

    With `overlaps` and `facts_of`, what the catalog knows of its datasets becomes part of the
    recipe: who shares images, and where a source description says something else.

    Raises:
        RecipeError: with every problem found; each names the place, the value and the nearest
            valid one.
    """
    try:
        recipe = Recipe.model_validate(data)
    except ValidationError as error:
        raise RecipeError([_problem(dict(one)) for one in error.errors()]) from error
    problems = [*_unknown_datasets(recipe, known_datasets), *_unknown_concepts(recipe)]
    if problems:
        raise RecipeError(problems)
    if overlaps is not None:
        recipe = _with_overlaps(recipe, overlaps)
    if facts_of is not None:
        recipe = _with_facts(recipe, facts_of)
    return recipe


def check_description(data: Mapping[str, Any], name: str) -> SourceDescription:
    """Check one source description by itself; `name` stands before the place of each problem.

    Raises:
        RecipeError: with every problem found.
    """
    inside = ("sources", 0, "description")
    try:
        description = SourceDescription.model_validate(data)
    except ValidationError as error:
        found = [_problem({**one, "loc": (*inside, *one["loc"])}) for one in error.errors()]
        raise RecipeError([_named(problem, name) for problem in found]) from error
    if unknown := _not_in_table(name, [*description.concepts(), *description.covers]):
        raise RecipeError(unknown)
    return description


def _named(problem: Problem, name: str) -> Problem:
    there = "sources[0].description"
    path, message = (t.replace(there, name, 1) for t in (problem.path, problem.message))
    return replace(problem, path=path, message=message)


def _with_facts(recipe: Recipe, facts_of: FactsOf) -> Recipe:
    """The recipe with the catalog's facts, and its differences beside those already stated."""
    stated = {(row.source, row.field) for row in recipe.known_differences}
    facts = facts_of([source.dataset for source in recipe.sources])
    found = [
        row
        for source in recipe.sources
        if source.dataset in facts
        for row in differences(source, facts[source.dataset])
        if (row.source, row.field) not in stated
    ]
    known = {
        source.id: CatalogFacts.model_validate(facts[source.dataset])
        for source in recipe.sources
        if source.dataset in facts
    }
    return recipe.model_copy(
        update={
            "known_differences": [*recipe.known_differences, *found],
            "known_facts": {**recipe.known_facts, **known},
        }
    )


def differences(member: Member, facts: Mapping[str, Any]) -> Iterator[KnownDifference]:
    """Fields that both state and state differently; what the catalog does not know is silent."""
    described = member.description
    terms = vocab.terms("modality")
    families = {terms[name].family for name in facts["modalities"]}
    own = vocab.resolve("modality", described.family)
    family = own.family if own and own.family in families else described.family
    licences = {"images": facts["licence"], "labels": facts["licence_labels"] or facts["licence"]}
    # Planes are a declared derivation from videos and volumes.
    dimensions = set() if described.cases.planes else set(facts["dimensions"])
    rows = [
        ("dimension", dimensions, described.dimension),
        ("modality family", {name for name in families if name}, family),
        ("labelled how", {facts["annotation"]} - {None}, described.annotation),
        *(
            (f"licence of {part}", {stated} - {None, ""}, getattr(described.licence, part) or "")
            for part, stated in licences.items()
        ),
    ]
    for field, known, said in rows:
        if known and said not in known and said != "unknown":
            catalog = ", ".join(sorted(known))
            yield KnownDifference(
                source=member.id, field=field, catalog=catalog, described=said or "unknown"
            )


def _with_overlaps(recipe: Recipe, graph: OverlapGraph) -> Recipe:
    """The recipe with the catalog's overlaps beside those that it already states."""
    stated = {frozenset(row.datasets) for row in recipe.known_overlaps}
    slugs = list(dict.fromkeys(source.dataset for source in recipe.sources))
    pairs = (graph.between(a, b) for a, b in combinations(slugs, 2))
    found = [
        KnownOverlap(
            datasets=(row.a, row.b),
            certainty=row.certainty,
            kind=row.kind,
            path=list(row.path),
            evidence=row.evidence,
        )
        for row in pairs
        if row is not None and frozenset((row.a, row.b)) not in stated
    ]
    return recipe.model_copy(update={"known_overlaps": [*recipe.known_overlaps, *found]})


def nearest(word: str, valid: Collection[str]) -> str:
    """The valid value that looks most like `word`, as a hint; empty when none does."""
    hit = process.extractOne(word, sorted(valid), scorer=fuzz.ratio, score_cutoff=60)
    return f"; did you mean {hit[0]!r}?" if hit else ""


def _read(path: Path, what: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        siblings = [p.name for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        hint = nearest(path.name, siblings)
        message = f"{what} {path}: {getattr(error, 'strerror', None) or error}{hint}"
        raise _one(what, str(path), "a readable file", message) from error


def _with_description(source: dict[str, Any], index: int, folder: Path | None) -> dict[str, Any]:
    name = source.get("description")
    if not isinstance(name, str):
        return source
    shipped = _shipped()
    path = shipped.get(name)
    if path is None and folder is not None:
        path = folder / name
    if path is None:
        where = f"sources[{index}].description"
        message = f"{where}: found {name!r}, expected the description itself or a shipped name"
        raise _one(where, name, "a shipped description", message + nearest(name, shipped))
    source["description"] = parse(_read(path, f"sources[{index}].description"))
    return source


def _unknown_datasets(recipe: Recipe, known: Collection[str]) -> list[Problem]:
    return [
        Problem(
            path=f"sources[{i}].dataset",
            found=source.dataset,
            expected="a dataset of the catalog",
            message=f"sources[{i}].dataset: found {source.dataset!r}, expected the slug of a "
            f"dataset in the catalog{nearest(source.dataset, known)}",
        )
        for i, source in enumerate(recipe.sources)
        if source.dataset not in known
    ]


def _unknown_concepts(recipe: Recipe) -> list[Problem]:
    problems = _not_in_table("concepts", recipe.concepts)
    for i, source in enumerate(recipe.sources):
        for key in ("modality", "family"):
            if (value := getattr(source.description, key)).startswith(PROPOSED):
                problems.append(_unconfirmed(f"sources[{i}].description.{key}", value))
        used = [*source.description.concepts(), *source.description.covers]
        problems += _not_in_table(f"sources[{i}].description", used)
    return problems


def _unconfirmed(where: str, value: str) -> Problem:
    message = f"{where}: found {value!r}, which is proposed, not confirmed: write what it is"
    return Problem(where, value, "a value that a person confirmed", message)


def _not_in_table(where: str, used: Iterable[str]) -> list[Problem]:
    known = concepts.concepts()
    return [
        _unconfirmed(where, concept)
        if concept.startswith(PROPOSED)
        else Problem(
            path=where,
            found=concept,
            expected="a concept of the concept table",
            message=f"{where}: found concept {concept!r}{nearest(concept, known)}",
        )
        for concept in used
        if concept not in known
    ]


def _one(path: str, found: str, expected: str, message: str) -> RecipeError:
    return RecipeError([Problem(path, found, expected, message)])


def _problem(error: Mapping[str, Any]) -> Problem:
    """Turn one pydantic error into a problem with the nearest valid value."""
    # A discriminated union puts its tag into the location; it is no key of the data.
    steps = [s for s in error["loc"] if s not in LOCATIONS]
    path = "".join(f"[{s}]" if isinstance(s, int) else f".{s}" for s in steps).lstrip(".")
    kind, value = error["type"], error.get("input")
    found = "nothing" if kind == "missing" else json.dumps(value, default=str)[:120]
    if kind == "extra_forbidden":
        valid = _keys_at(steps[:-1], error["loc"])
        hint = nearest(str(steps[-1]), valid)
        expected = f"one of {', '.join(sorted(valid))}"
        return Problem(
            path, str(steps[-1]), expected, f"{path}: unknown key{hint or '; ' + expected}"
        )
    expected = str(error.get("ctx", {}).get("expected", "")) or str(error["msg"])
    hint = ""
    if kind == "literal_error" and isinstance(value, str):
        hint = nearest(value, re.findall(r"'([^']+)'", expected))
    what = "is missing" if kind == "missing" else f"found {found}, {error['msg']}"
    return Problem(path or "recipe", found, expected, f"{path or 'recipe'}: {what}{hint}")


def _keys_at(steps: list[Any], loc: tuple[Any, ...]) -> set[str]:
    """Valid keys of the model at a place in a recipe."""
    model: Any = Recipe
    for step in steps:
        if isinstance(step, int):
            continue
        field = next((f for n, f in model.model_fields.items() if (f.alias or n) == step), None)
        if field is None:
            return set()
        model = _model_of(field.annotation, loc)
        if model is None:
            return set()
    return {f.alias or name for name, f in model.model_fields.items()}


def _model_of(annotation: Any, loc: tuple[Any, ...]) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    models = [m for arg in get_args(annotation) if (m := _model_of(arg, loc))]
    if get_origin(annotation) in {Union, UnionType, Annotated} and len(models) > 1:
        return next((LOCATIONS[tag] for tag in loc if tag in LOCATIONS), LocalFolder)
    return models[0] if models else None
