"""Recipes: what to fuse. Plain data."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, ValidationInfo, field_validator, model_validator

from catalog import vocab
from fusion.locations import SAFE_ID, Location
from fusion.source import Part, SourceDescription


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
