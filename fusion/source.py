"""Source description: where images, labels and subject ids are in one distribution of a dataset.

Declarative, so that a new source needs no code. `docs/fusing-your-data.md` explains it by example.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)

BACKGROUND = "background"  # a mapped value that is no concept: told apart from a forgotten one
IGNORE = "ignore"  # a mapped value where nobody looked, or nobody could tell: neither of the two
BOTH = "+"  # between concepts: a value that means several of them at once
OTHER = "*"  # in label_map values: every value that is not listed


def _as_text(value: object) -> object:
    return [str(v) for v in value] if isinstance(value, list) else value


def _keys_as_text(value: object) -> object:
    return {str(k): v for k, v in value.items()} if isinstance(value, dict) else value


#: YAML reads 1 as a number; what stands in files is compared as text.
Words = Annotated[list[str], BeforeValidator(_as_text)]
KEYS_AS_TEXT = BeforeValidator(_keys_as_text)
FIELD = re.compile(r"\{(\w+)\}|(\*)")  # of a path template


def parts_of(meaning: str) -> list[str]:
    """The concepts of a value: one, or several for "a+b"."""
    return [part.strip() for part in meaning.split(BOTH)]


def concepts_in(meanings: Iterable[str]) -> list[str]:
    """Every concept that values mean, in order of first mention, without BACKGROUND and IGNORE."""
    named = (part for meaning in meanings for part in parts_of(meaning))
    return [concept for concept in dict.fromkeys(named) if concept not in {BACKGROUND, IGNORE}]


def template_fields(template: str) -> list[str]:
    """Fields of a path template, in order of first mention."""
    return list(dict.fromkeys(match[1] for match in FIELD.finditer(template) if match[1]))


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


Split = Literal["train", "val", "test", "hidden"]
Protocol = dict[str, bool | int | str]
State = Literal[1, 0, -1]  # present, absent, uncertain; None is unannotated


class ArraysOfSplit(Part):
    """Cases that are rows of an array of .npz, .h5 or .npy files.

    images: key of (N, H, W[, C]), or of (N, I, J, K) where the description says 3D. labels: key of
    (N,) or (N, 1), one class each, or of (N, K), one column per class; words are read, too. masks:
    key of (N, H, W) or of (N, H, W, K), whose K the layers name by `channel`. subjects: key of (N,)
    ids. A .npy file has no keys. `labels_file` and `masks_file` are where labels and masks are,
    when that is another file.
    """

    file: str
    images: str = ""
    labels: str = ""
    labels_file: str = ""
    masks: str = ""
    masks_file: str = ""
    subjects: str = ""
    split: Literal["train", "val", "test"] | None = None

    def files(self) -> list[str]:
        """The files that hold these arrays."""
        return list(dict.fromkeys(f for f in (self.file, self.labels_file, self.masks_file) if f))

    @property
    def has_masks(self) -> bool:
        return bool(self.masks or self.masks_file)


class Table(Part):
    r"""Rows of tables, found by the case that they speak of.

    table: .csv, .tsv, .txt, .xlsx, .json or .jsonl; several are read as one.
    key: the column that names the case. match: how the fields of a path name it there.
    pattern: a regular expression; where a name fits it, its first group (or all of it) counts, in
    the table and in `match` alike: "0*(\d+)" lets image 001 find row 1.
    header: names of the columns of a table without a head line. sheet: of an .xlsx.
    records: where the list of rows is in a .json: "images" or "data.items".
    """

    table: list[str] = []
    key: str = "name"
    match: str = "{name}"
    pattern: str = ""
    header: list[str] = []
    sheet: str = ""
    records: str = ""

    @field_validator("table", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        return [value] if isinstance(value, str) and value else value or []

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, value: str) -> str:
        return _regular(value)


class Column(Table):
    """One column of a table."""

    column: str


class SplitFrom(Table):
    """Where the publisher's split is written: a field of the path, a column, or lists of names.

    lists: {file: split}, one name a line (the first column, if there are more). values: the
    publisher's word -> train, val, test or hidden; a word that is not listed is no split.
    """

    field: str = ""
    column: str = ""
    lists: dict[str, Split] = {}
    values: dict[str, Split] = {"train": "train", "val": "val", "test": "test"}

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if sum(map(bool, (self.field, self.column, self.lists))) != 1:
            raise ValueError("give one of field, column (of a table) and lists")
        if bool(self.column) != bool(self.table):
            raise ValueError("column goes with table")
        return self


class Planes(Table):
    """Planes of one image that are cases of their own: frames of a video, slices of a volume.

    All planes of one image stay in one split. table, key, match and column: the planes that a
    table lists for the image, counted from `first`; else every `every`-th. axis: how a volume is
    cut, seen in the patient. window: lowest and highest value of a volume that the grey levels 0
    and 255 stand for; without it, values must be whole numbers from 0 on.
    """

    column: str = ""
    first: int = Field(default=0, ge=0, le=1)
    every: int = Field(default=0, ge=0)
    axis: Literal["", "axial", "coronal", "sagittal"] = ""
    window: tuple[float, float] | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if bool(self.column) == bool(self.every):
            raise ValueError("give either column (of a table), or every: 1 or more")
        if bool(self.column) != bool(self.table):
            raise ValueError("column goes with table")
        if self.window and (not self.axis or not self.window[0] < self.window[1]):
            raise ValueError("window goes with axis: lowest value first")
        return self


class Channel(Part):
    """One channel of a case: a file of its own, or one step along a file's fourth axis."""

    path: str = ""  # default: cases.image
    channel: int | None = Field(default=None, ge=0, lt=1000)


class Cases(Part):
    """How files become cases.

    `image` is a path with {fields}: `images/{name}.png`. A path that ends in `/` is a folder that
    holds one DICOM series. A field matches one path component unless `fields` gives a regular
    expression. `subject` is a template over the fields, `subject_column` a column of a table;
    neither says that subject ids are unknown.

    `channels` names several images of one case in their order, each a path, or {path, channel}
    with the index on a file's fourth axis; without path it is in `image`. `channel` names the only
    channel of a source that has one. `array` names the array of a .mat, .npz or .h5 file that is
    the image. `planes` makes cases of the frames of videos or the slices of volumes.
    """

    image: str = ""
    array: str = ""
    planes: Planes | None = None
    channel: str = ""
    channels: dict[str, Channel] = {}
    arrays: list[ArraysOfSplit] = []
    fields: dict[str, str] = {}
    subject: str | None = None
    subject_column: Column | None = None
    split: dict[str, Split] = {}  # regex over the name
    split_from: SplitFrom | None = None

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, data: Any) -> Any:
        """`npz: {file, arrays}` states the file once; a channel may be its path alone."""
        if not isinstance(data, dict):
            return data
        data = dict(data)
        if isinstance(npz := data.get("npz"), dict) and isinstance(npz.get("arrays"), list):
            rows = [{"file": npz.get("file"), **row} for row in data.pop("npz")["arrays"]]
            data["arrays"] = [*data.get("arrays", []), *rows]
        if isinstance(channels := data.get("channels"), dict):
            data["channels"] = {
                name: {"path": one} if isinstance(one, str) else one
                for name, one in channels.items()
            }
        return data

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        files = bool(self.image or self.channels)
        if files == bool(self.arrays):
            raise ValueError("give either image or channels (paths with {fields}), or arrays")
        if self.channel and self.channels:
            raise ValueError("channel names the only channel; channels has the names already")
        homeless = [name for name, one in self.channels.items() if not one.path]
        if homeless and not self.image:
            raise ValueError(f"channel {homeless[0]} has no path, and there is no image")
        if self.channels and self.image and not homeless:
            raise ValueError("every channel has a path of its own; image would not be read")
        if (self.array or self.planes) and (not self.image or self.channels):
            raise ValueError("array and planes go with image, and not with channels")
        return self

    @field_validator("fields", "split")
    @classmethod
    def _regular_expressions(cls, value: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        for pattern in value.values() if info.field_name == "fields" else value:
            _regular(pattern)
        return value

    @property
    def has_subjects(self) -> bool:
        """Somebody published who is who."""
        return (
            self.subject is not None
            or self.subject_column is not None
            or (bool(self.arrays) and all(one.subjects for one in self.arrays))
        )

    def template(self) -> str:
        """The path that every case has: its image, or its first channel."""
        return self.image or next((one.path for one in self.channels.values()), "")

    def channel_names(self) -> list[str]:
        """Names of the channels in their order; empty when one channel has no name."""
        return list(self.channels) or ([self.channel] if self.channel else [])

    def tables(self) -> list[str]:
        """Files that say who is who and which split is which."""
        found = [*self.subject_column.table] if self.subject_column else []
        found += self.planes.table if self.planes else []
        if self.split_from:
            found += [*self.split_from.table, *self.split_from.lists]
        return found


def _regular(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
    return pattern


LAYER_KINDS = Literal[
    "mask", "label_map", "probability", "instances", "colour_map", "shapes", "segments"
]  # fmt: skip


class CrossId(Table):
    """An id by which cases of other datasets (or of this one) are the same person, lesion or slide.

    Cases with one `scheme` and one value stay together, whatever source they are of. The value is
    the `column` of the case's row in a table, else the case's subject, else its name; `cut` takes a
    part of it: the first group, else the whole match. What does not fit `cut` is unknown.
    """

    scheme: str = Field(min_length=1)  # the same word in every source: "TCGA", "BraTS21 ID"
    column: str = ""
    cut: str = ""

    @field_validator("cut")
    @classmethod
    def _cuts(cls, value: str) -> str:
        return _regular(value)

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if bool(self.table) != bool(self.column):
            raise ValueError("a table goes with a column")
        if not self.table and not self.cut:
            raise ValueError("give cut (a regular expression), or a table with its column")
        return self


class Rows(Table):
    """Where the shapes of a case are in the rows of a table; the layer's path is the table.

    name: the column with the class; without it, every row is of class "*". One of these says what
    a row draws: `runs`, a column with run lengths; `box`, the columns of two corners [x0, y0, x1,
    y1]; `extent`, those of a corner and a size [x, y, width, height]; `chords`, those of the ends
    [x1, y1, x2, y2] of lines across one outline, whose first row is the long axis.
    coding of run lengths: pairs (pairs of start and length), relative (each start counts from the
    end of the run before), or coco (background and foreground by turns, numbers or text). first:
    number of the first pixel. down: pixels run down the columns, else along the rows.
    nothing: words (in `name` or in what is drawn) which say that nothing is there. plane: the
    column with the number of the frame or slice.
    """

    name: str = ""
    runs: str = ""
    coding: Literal["pairs", "relative", "coco"] = "pairs"
    first: int = Field(default=1, ge=0, le=1)
    down: bool = True
    box: tuple[str, str, str, str] | None = None
    extent: tuple[str, str, str, str] | None = None
    chords: tuple[str, str, str, str] | None = None
    nothing: Words = []
    plane: str = ""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if sum(map(bool, (self.runs, self.box, self.extent, self.chords))) != 1:
            raise ValueError("give one of runs, box, extent and chords")
        if self.table:
            raise ValueError("the table is the layer's path")
        return self

    @property
    def draws_outlines(self) -> bool:
        return bool(self.runs or self.chords)

    def columns(self) -> list[str]:
        """The columns that hold what is drawn."""
        return [self.runs] if self.runs else list(self.box or self.extent or self.chords or ())


class SpaceRows(Table):
    """Where things in space are in the rows of a table; the layer's path is the table.

    name: the column with the class; without it, every row is of class "*". centre: the columns
    with x, y and z of the middle, in mm of the world; with `diameter`, the column of a ball's, or
    `size`, the columns of a box's sides. box: those of two corners [x0, y0, z0, x1, y1, z1].
    space: which way x, y and z grow: LPS (DICOM, ITK, MetaImage: to the patient's left, back and
    head) or RAS (NIfTI). nothing: words in `name` which say that nothing is there.
    """

    name: str = ""
    centre: tuple[str, str, str] | None = None
    diameter: str = ""
    size: tuple[str, str, str] | None = None
    box: tuple[str, str, str, str, str, str] | None = None
    space: Literal["LPS", "RAS"]
    nothing: Words = []

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if bool(self.centre) == bool(self.box):
            raise ValueError("give either centre or box")
        if sum(map(bool, (self.box, self.diameter, self.size))) != 1:
            raise ValueError("centre goes with diameter or size, and box with neither")
        if self.table:
            raise ValueError("the table is the layer's path")
        return self

    @property
    def draws_outlines(self) -> bool:
        return False

    def columns(self) -> list[str]:
        """The columns that hold what is drawn."""
        sides = [self.diameter] if self.diameter else self.size or ()
        return list(self.box or (*(self.centre or ()), *sides))


def _kind_of_rows(data: Any) -> str:
    is_space = "space" in data if isinstance(data, dict) else isinstance(data, SpaceRows)
    return "in space" if is_space else "in pictures"


AnyRows = Annotated[
    Annotated[Rows, Tag("in pictures")] | Annotated[SpaceRows, Tag("in space")],
    Discriminator(_kind_of_rows),
]


class Layer(Part):
    """One label file (or several, united) of a case.

    A path that ends in `/` is a folder of pictures, one a slice of the DICOM series that is the
    image, in the same order of names. `array` names the array of a .mat, .npz or .h5 file. Where
    cases are rows of arrays, the masks are there, and a layer has no path.

    kind mask: foreground where channel > threshold, all of it is `concept`.
    kind label_map: integer values mapped by `values`; "100-207" is a range, "*" says what all
    other values are (without it, a value that is not listed excludes the case).
    kind probability: a map of `concept`, 0..`scale`; several such layers compete by argmax, the
    remainder being background.
    kind instances: each thing has a number or a colour of its own, all of them are `concept`.
    kind colour_map: colours of a picture mapped by `values`, {"#ff0000": concept}; black is
    background, and a colour counts as the nearest one within `tolerance` per channel.
    kind shapes: outlines, boxes and run lengths of COCO, LabelMe, SuperAnnotate, VIA, GeoJSON,
    Pascal VOC, ImageScope and YOLO files, or of a table's `rows` (of pictures; with `space`, of
    volumes), mapped by `values`, {class name: concept}; a box is no outline unless `boxes: fill`
    says that it may stand for one.
    kind segments: named structures of a DICOM SEG, an RTSTRUCT or a .seg.nrrd, mapped by `values`.

    missing: what a case without this file means: exclude it, absent (somebody looked and found
    nothing: no file was written) or unknown (nobody looked). priority: where two layers claim one
    voxel, the higher wins; equal ones are a collision. ignore_values: values that are left out on
    purpose and become background.

    A value, or the concept of a mask, may be `ignore`: voxels that nobody annotated. They are no
    background: losses and metrics leave them out. Where another layer of the same priority claims
    such a voxel, it stays ignored.

    A value that means several concepts at once is written "a+b". protocol: how the outlines were
    drawn, such as includes_lesion: true; sources that state different things for one concept do
    not mean the same by it.
    """

    path: str = ""
    kind: LAYER_KINDS
    array: str = ""
    rows: AnyRows | None = None
    concept: str = ""
    threshold: float = 0.5
    channel: int = 0
    values: Annotated[dict[str, str], KEYS_AS_TEXT] = {}
    ignore_values: Words = []
    scale: float = 1.0
    tolerance: int = Field(default=0, ge=0, le=127)
    boxes: Literal["refuse", "fill"] = "refuse"
    missing: Literal["exclude", "absent", "unknown"] = "exclude"
    priority: int = 0
    protocol: Protocol = {}

    @model_validator(mode="after")
    def _complete(self) -> Self:
        is_mapped = self.kind in {"label_map", "colour_map", "shapes", "segments"}
        if is_mapped and (not self.values or self.concept):
            raise ValueError(f"{self.kind} needs values: {{value: concept}}, and no concept")
        if not is_mapped and (not self.concept or self.values):
            raise ValueError(f"{self.kind} needs a concept, and no values")
        if self.rows and self.kind != "shapes":
            raise ValueError("rows (of a table) are shapes")
        if self.array and (self.path.endswith("/") or self.kind in {"shapes", "segments"}):
            raise ValueError("array names the array of one file")
        if self.kind == "colour_map":
            self.colours()
        if any(IGNORE in (parts := parts_of(m)) and len(parts) > 1 for m in self.meanings()):
            raise ValueError(f"a value that is {IGNORE} is nothing else besides")
        return self

    def colours(self) -> dict[tuple[int, int, int], str]:
        """Red, green and blue of a colour_map -> concept id (or BACKGROUND)."""
        table: dict[tuple[int, int, int], str] = {(0, 0, 0): BACKGROUND}
        for key in [*self.values, *self.ignore_values]:
            if key == OTHER:
                continue
            if not (match := re.fullmatch("#" + "([0-9a-fA-F]{2})" * 3, key)):
                raise ValueError(f"{key!r} is no colour, expected #rrggbb")
            red, green, blue = (int(part, 16) for part in match.groups())
            table[red, green, blue] = self.values.get(key, BACKGROUND)
        return table

    def table(self) -> dict[int, str]:
        """Label value -> concept id (or BACKGROUND), ranges written out."""
        table: dict[int, str] = {}
        for key, concept in self.values.items():
            for part in key.split(",") if key != OTHER else ():
                first, _, last = part.strip().partition("-")
                for value in range(int(first), int(last or first) + 1):
                    if value in table:
                        raise ValueError(f"label value {value} is mapped twice")
                    table[value] = concept
        for value in map(int, self.ignore_values):
            if value in table:
                raise ValueError(f"label value {value} is mapped and ignored")
            table[value] = BACKGROUND
        return table

    @property
    def may_hold_boxes(self) -> bool:
        """Things are drawn one by one, and not only as outlines."""
        return self.kind == "shapes" and (self.rows is None or not self.rows.draws_outlines)

    def concepts(self) -> list[str]:
        """The concepts this layer speaks of, in order of first mention."""
        return concepts_in(self.meanings())

    @property
    def ignores(self) -> bool:
        """It may say that voxels were not annotated."""
        return IGNORE in self.meanings()

    def meanings(self) -> list[str]:
        """What its values mean, as written."""
        return [self.concept] if self.concept else list(self.values.values())


class ClassLabels(Table):
    """The classes of a case: from a table, a field of the path (class folders), or an array.

    column or field: one cell that names the class, or several with `sep` between them; `values`
    says which concept each word is. A key of `values` may also be a number or a range of numbers:
    "0", "1-4", ">=2", "<0.5"; "*" is every other word. columns: one column per finding, {column:
    concept}, whose cells are states; `states` adds to 1, 0, -1 and blank (unannotated), and
    `threshold` reads numbers: above it is present. An array (N, K) is K columns "0", "1", ...

    exclusive: a case has one class, which says that the others are absent. It must be stated for
    `sep`, `columns` and arrays (N, K). Where it is false, `unlisted` says what a class is that
    `sep` or `many_rows` does not list: unknown, or absent because all were looked for.
    """

    column: str = ""
    columns: dict[str, str] = {}
    field: str = ""
    sep: str = ""
    values: Annotated[dict[str, str], KEYS_AS_TEXT] = {}
    ignore_values: Words = []  # such cases are left out
    states: Annotated[dict[str, State | None], KEYS_AS_TEXT] = {}
    threshold: float | None = None
    exclusive: bool | None = None
    unlisted: Literal["unknown", "absent"] = "unknown"
    protocol: Protocol = {}  # how classes were told apart, such as {grading: ICDR}
    many_rows: bool = False  # a case may have several rows: the classes of all of them
    majority: bool = False  # rows are readers: what more than half of them say
    blank: Literal["exclude"] = "exclude"  # an empty cell is never a normal finding

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if sum(map(bool, (self.column, self.columns, self.field))) > 1:
            raise ValueError("give one of column, columns and field")
        if (self.column or self.columns) and not self.table:
            raise ValueError("column and columns go with table")
        if bool(self.columns) == bool(self.values):
            raise ValueError("give columns: {column: concept}, or values: {word: concept}")
        if (self.sep or self.columns or self.many_rows) and self.exclusive is None:
            raise ValueError("several classes may be named: state exclusive: true or false")
        if IGNORE in self.meanings():
            raise ValueError(f"{IGNORE} is of masks; list classes to leave out in ignore_values")
        if self.majority and not (self.columns and self.many_rows):
            raise ValueError("majority goes with columns and many_rows: true")
        return self

    @property
    def is_exclusive(self) -> bool:
        return self.exclusive is not False

    def concepts(self) -> list[str]:
        """The concepts that these classes are."""
        return concepts_in(self.meanings())

    def meanings(self) -> list[str]:
        """What its words or columns mean, as written."""
        return [*self.values.values(), *self.columns.values()]


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
    #: documentation: written from what is published of the layout, never tried on the files.
    checked: Literal["", "documentation", "files"] = ""
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
    cross_ids: list[CrossId] = []
    covers: list[str] = []  # parent concepts whose parts are all annotated here
    adjust: list[Adjustment] = []
    #: none: the files say nothing of place and voxel size; such volumes serve classification.
    geometry: Literal["sform", "qform", "none"] | None = None
    intensity: Intensity | None = None
    faces: Literal["none", "removed", "present", "unknown"] = "unknown"
    overlaps: list[Overlap] = []
    known_limits: list[str] = []

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    @model_validator(mode="after")
    def _fields_exist(self) -> Self:
        """Templates over the fields of the path name such fields only."""
        known = {"name", *template_fields(self.cases.template())}
        known |= {"image", "plane"} if self.cases.planes else set()
        if self.cases.arrays:
            known |= {"row", "split"}
        tables: list[Column | SplitFrom | Planes | Rows | SpaceRows | ClassLabels | None]
        tables = [self.cases.subject_column, self.cases.split_from, self.classes]
        tables += [self.cases.planes, *(layer.rows for layer in self.layers)]
        asked = {f: f"{{{f}}}" for t in tables if t for f in template_fields(t.match)}
        asked |= {f: f"{{{f}}}" for f in template_fields(self.cases.subject or "")}
        ruled = (self.cases.split_from, self.classes)
        asked |= {t.field: t.field for t in ruled if t and t.field}
        for field, text in asked.items():
            if field not in known:
                raise ValueError(f"{text} is no field of {self.cases.template()!r}")
        return self

    @model_validator(mode="after")
    def _layers_agree(self) -> Self:
        kinds = {layer.kind for layer in self.layers}
        if "probability" in kinds and len(kinds) > 1:
            raise ValueError("probability layers cannot be mixed with other kinds")
        if self.layers and self.cases.arrays and not all(a.has_masks for a in self.cases.arrays):
            raise ValueError("layers of rows of arrays need masks in every one of the arrays")
        if any(bool(layer.path) == bool(self.cases.arrays) for layer in self.layers):
            raise ValueError("a layer has a path, unless cases are rows of arrays")
        for layer in self.layers:
            if layer.kind == "label_map":
                layer.table()
            if isinstance(layer.rows, SpaceRows) and (self.dimension == "2D" or self.cases.planes):
                raise ValueError("rows with space are of volumes, and not of their planes")
        return self

    def concepts(self, task: str = "") -> list[str]:
        """Concepts that this source's labels speak of directly; those of one task, if given."""
        named = [c for layer in self.layers for c in layer.concepts()]
        if task == "classification":
            named = []
        if self.classes and task != "segmentation":
            named += self.classes.concepts()
        return list(dict.fromkeys(named))

    @property
    def ignores(self) -> bool:
        """Its label maps may say that voxels were not annotated."""
        return any(layer.ignores for layer in self.layers)

    @property
    def has_boxes(self) -> bool:
        """Its files may hold boxes."""
        return any(layer.may_hold_boxes for layer in self.layers)

    def meanings(self) -> list[str]:
        """What values of its layers and classes mean, as written: concepts, or "a+b"."""
        layers = [meaning for layer in self.layers for meaning in layer.meanings()]
        return list(dict.fromkeys([*layers, *(self.classes.meanings() if self.classes else ())]))

    def tables(self) -> list[str]:
        """Tables that the cases and their classes are looked up in."""
        found = [*self.cases.tables(), *(self.classes or Table()).table]
        found += [table for rule in self.cross_ids for table in rule.table]
        return list(dict.fromkeys(found))

    def tables_of_cases(self) -> list[str]:
        """Those that are read while a case is harmonised, not only when cases are found."""
        found = list((self.classes or Table()).table)
        return found + [table for rule in self.cross_ids for table in rule.table]

    def in_use(self, uses: str, channels: Sequence[str]) -> SourceDescription:
        """With only what a plan takes: one kind of labels, and some channels in their order.

        Args:
            uses: layers, classes, presence (classes that are made from layers), boxes (of files
                that hold boxes), or bounds (boxes around what layers show).
            channels: names; empty where the one channel has none.
        """
        cases, layers = self.cases, self.layers if uses != "classes" else []
        if channels and cases.channels:
            chosen = {name: cases.channels[name] for name in channels}
            cases = cases.model_copy(update={"channels": chosen})
        if uses == "boxes":
            layers = [layer for layer in layers if layer.may_hold_boxes]
        if uses == "presence":
            layers = [layer.model_copy(update={"boxes": "fill"}) for layer in layers]
        classes = self.classes if uses == "classes" else None
        return self.model_copy(update={"cases": cases, "layers": layers, "classes": classes})
