"""Source description: where images, labels and subject ids are in one distribution of a dataset.

Declarative, so that a new source needs no code. `docs/fusing-your-data.md` explains it by example.
"""

from __future__ import annotations

import re
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

IGNORE = "background"  # a mapped value that is no concept: told apart from a forgotten one
OTHER = "*"  # in label_map values: every value that is not listed


class Part(BaseModel):
    """Base of every part: unknown keys are refused, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class LicenceOfParts(Part):
    """SPDX id or LicenseRef- of images and labels; null is unknown and is shown as unknown."""

    images: str | None = None
    labels: str | None = None
    url: str = ""
    note: str = ""


class Overlap(Part):
    """Another dataset that shares people or images with this one."""

    dataset: str
    kind: Literal["subset", "superset", "derived", "relabelled", "shared_patients"]
    evidence: str


class ArraysOfSplit(Part):
    """Two arrays of an .npz file: images (N, H, W[, C]) and labels (N,) or (N, 1)."""

    images: str
    labels: str
    split: Literal["train", "val", "test"] | None = None


class Npz(Part):
    """Cases that are rows of arrays in one .npz file."""

    file: str
    arrays: list[ArraysOfSplit]


class Cases(Part):
    """How files become cases.

    `image` is a path with {fields}: `images/{name}.png`. A path that ends in `/` is a folder that
    holds one DICOM series. A field matches one path component unless `fields` gives a regular
    expression. `subject` is a template over the fields; null says that subject ids are unknown.
    """

    image: str = ""
    npz: Npz | None = None
    fields: dict[str, str] = {}
    subject: str | None = None
    split: dict[str, Literal["train", "val", "test", "hidden"]] = {}  # regex over the name

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if bool(self.image) == (self.npz is not None):
            raise ValueError("give either image (a path with {fields}) or npz")
        return self

    @field_validator("fields", "split")
    @classmethod
    def _regular_expressions(cls, value: dict[str, str]) -> dict[str, str]:
        patterns = list(value.values()) if value and "{" not in "".join(value) else []
        for pattern in [*patterns, *value]:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
        return value


class Layer(Part):
    """One label file (or several, united) of a case.

    kind mask: foreground where channel > threshold, all of it is `concept`.
    kind label_map: integer values mapped by `values`; "100-207" is a range, "*" says what all
    other values are (without it, a value that is not listed excludes the case).
    kind probability: a map of `concept`, 0..`scale`; several such layers compete by argmax, the
    remainder being background.
    """

    path: str
    kind: Literal["mask", "label_map", "probability"]
    concept: str = ""
    threshold: float = 0.5
    channel: int = 0
    values: dict[str, str] = {}
    scale: float = 1.0

    @field_validator("values", mode="before")
    @classmethod
    def _keys_as_text(cls, value: object) -> object:
        return {str(k): v for k, v in value.items()} if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.kind == "label_map" and not self.values:
            raise ValueError("a label_map needs values: {value: concept}")
        if self.kind != "label_map" and not self.concept:
            raise ValueError(f"a {self.kind} needs a concept")
        return self

    def table(self) -> dict[int, str]:
        """Label value -> concept id (or IGNORE), ranges written out."""
        table: dict[int, str] = {}
        for key, concept in self.values.items():
            for part in key.split(",") if key != OTHER else ():
                first, _, last = part.strip().partition("-")
                for value in range(int(first), int(last or first) + 1):
                    if value in table:
                        raise ValueError(f"label value {value} is mapped twice")
                    table[value] = concept
        return table

    def concepts(self) -> list[str]:
        """The concepts this layer speaks of, in order of first mention."""
        named = self.values.values() if self.kind == "label_map" else [self.concept]
        return [c for c in dict.fromkeys(named) if c != IGNORE]


class ClassLabels(Part):
    """One class per case: from a table's column, or from a field of the path (class folders)."""

    table: str = ""
    key: str = "name"  # column that holds the case name
    column: str = ""
    field: str = ""
    values: dict[str, str]  # text -> concept id; text not listed blocks the case
    blank: Literal["exclude"] = "exclude"  # an empty cell is never a normal finding

    @field_validator("values", mode="before")
    @classmethod
    def _keys_as_text(cls, value: object) -> object:
        return {str(k): v for k, v in value.items()} if isinstance(value, dict) else value


class Adjustment(Part):
    """What a host did to this copy, so that it can be undone. `only` is a regex over names."""

    only: str = ".*"
    enlarged_by: int | None = Field(default=None, ge=2, le=16)
    native_size: tuple[int, int] | None = None  # rows, columns
    reason: str

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.enlarged_by is None) == (self.native_size is None):
            raise ValueError("give either enlarged_by or native_size")
        return self


class Intensity(Part):
    """What the stored numbers mean, where the files do not say it.

    `unit` settles the unit; `slope` and `intercept` take the stored values to it (a CT that is
    stored from 0 on needs intercept -1024). arbitrary: a scale that no one else shares.
    """

    unit: Literal["hu", "suv", "windowed", "arbitrary"]
    slope: float = Field(default=1.0, allow_inf_nan=False)
    intercept: float = Field(default=0.0, allow_inf_nan=False)
    reason: str = ""

    @model_validator(mode="after")
    def _not_flat(self) -> Self:
        if self.slope == 0:
            raise ValueError("slope is 0: every voxel would be the same")
        return self


class SourceDescription(Part):
    """One distribution of a dataset, described."""

    schema_: Literal["imaging-x/source/1"] = Field(alias="schema", default="imaging-x/source/1")
    name: str
    dataset: str = ""  # slug of the catalog record
    version: str = ""
    year: int | None = None
    publisher: str = ""
    homepage: str = ""
    doi: str = ""
    citation: str = ""
    documented: str = ""  # where the publisher, or code that reads these files, shows the layout
    checked: Literal["", "documentation", "files"] = ""  # held against the one or the other
    licence: LicenceOfParts = LicenceOfParts()
    modality: str  # DICOM (0008,0060)
    family: str  # modality family, as in catalog/vocabulary/modalities.yaml
    dimension: Literal["2D", "3D"]
    species: str = "human"
    synthetic: bool = False
    annotation: Literal["manual", "corrected", "text-mined", "pseudo", "unknown"] = "unknown"
    cases: Cases
    layers: list[Layer] = []
    classes: ClassLabels | None = None
    covers: list[str] = []  # parent concepts whose parts are all annotated here
    adjust: list[Adjustment] = []
    geometry: Literal["sform", "qform"] | None = None
    intensity: Intensity | None = None
    faces: Literal["none", "removed", "present", "unknown"] = "unknown"
    overlaps: list[Overlap] = []
    known_limits: list[str] = []

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    @model_validator(mode="after")
    def _layers_agree(self) -> Self:
        kinds = {layer.kind for layer in self.layers}
        if "probability" in kinds and len(kinds) > 1:
            raise ValueError("probability layers cannot be mixed with other kinds")
        for layer in self.layers:
            if layer.kind == "label_map":
                layer.table()
        return self

    def concepts(self, task: str = "") -> list[str]:
        """Concepts that this source's labels speak of directly; those of one task, if given."""
        named = [c for layer in self.layers for c in layer.concepts()]
        if task == "classification":
            named = []
        if self.classes and task != "segmentation":
            named += [c for c in self.classes.values.values() if c != IGNORE]
        return list(dict.fromkeys(named))
