"""Rules by which datasets are chosen for fusion: the published rule JSON, checked. Pure; no Django.

Every key of the rule file of the MDFP paper's portal is read, by its own spelling, and two keys are
added (`include_mixed`, `selection.include_unknown_size`). Words become canonical terms and licence
ids. A key that is left out has the published default. `catalog.rule_selection` applies the rules.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError
from rapidfuzz import fuzz, process

from catalog import vocab
from catalog.faults import Fault, FaultsError
from catalog.licences import from_text
from catalog.licences import nearest as nearest_licence

Profile = Literal["stated", "compatibility"]
PROFILES: Mapping[Profile, str] = MappingProxyType(
    {
        "stated": "every key as the recipe states it",
        "compatibility": (
            "the logic behind Table 6 of the paper: the dimension alone, exactly one modality by "
            "its own name, an organisation that is known, and no task filter; other keys as stated"
        ),
    }
)
TEXT = "Text"  # a dimension of the vocabulary that no image has
LARGEST_BYTES = 64 * 1024
GB = 1_000_000_000
FIRST_YEAR, LAST_YEAR = 1895, 2100
MOST = 10**12
SHOWN = 200  # characters of a wrong value that an error repeats
_NEAR_ENOUGH = 55.0  # rapidfuzz ratio, 0-100
_SURE = 70.0  # from here the first part of a dotted key is not compared

# As the paper's portal publishes it.
DEFAULT: Mapping[str, Any] = MappingProxyType(
    {
        "dimension": "2D",
        "modalities": ["CT", "MR", "Fundus"],
        "task_types": ["classification", "segmentation", "detection", "regression"],
        "license_allowlist": None,
        "include_unlabeled": True,
        "prefer_labeled": True,
        "min_valid_image_n_per_dataset": 100,
        "anatomy_whitelist": [],
        "release_date_min": None,
        "allow_3d_as_2d_sources": False,
        "selection": {
            "enable": False,
            "min_datasets_per_modality": 2,
            "min_orgs_per_modality": 2,
            "storage_budget_gb": None,
        },
    }
)


@dataclass(frozen=True)
class Key:
    """One key in words: what it takes (`item`: each entry of its list) and what it does.

    `published` says what the published code did with it, where that differs.
    """

    name: str
    expects: str
    meaning: str
    published: str = ""
    item: str = ""


_LIST = "a list of {}, or null; empty and null: no restriction"
KEYS = (
    Key(
        "dimension",
        "2D, 3D, 4D, Video or a synonym; null: no restriction",
        "The images of the dataset have this dimension and no other; text beside images does not "
        "count as one. Unknown dimensions do not pass.",
        "a part of the text: a set that is 2D and 3D passed as 2D",
    ),
    Key(
        "include_mixed",
        "true or false",
        "Whether datasets pass that have other dimensions beside the one asked for.",
        "no such key; mixed sets always passed",
    ),
    Key(
        "modalities",
        _LIST.format("modalities"),
        "At least one modality of the dataset is one of these or a narrower one (X-ray keeps "
        "mammography). Figures are given for each of these.",
        "exact spelling alone",
        "a modality of the vocabulary or a synonym",
    ),
    Key(
        "task_types",
        _LIST.format("tasks"),
        "At least one task of the dataset is one of these or a narrower one. Unknown tasks do not "
        "pass.",
        "exact spelling alone, so that “Seg” was not “Segmentation”",
        "a task of the vocabulary or a synonym",
    ),
    Key(
        "license_allowlist",
        "a list of licences with at least one entry, or null for no restriction",
        "The licence of the images is one of these, and so is the licence of the labels where they "
        "have their own. An unknown licence does not pass.",
        "the exact text in lower case",
        "an SPDX id, a LicenseRef of the catalog or its plain wording, such as CC BY 4.0",
    ),
    Key(
        "include_unlabeled",
        "true or false",
        "false: only datasets pass of which a source says that they are labelled.",
        "dropped sets without a task and kept sets without labels",
    ),
    Key(
        "prefer_labeled",
        "true or false",
        "The order of preference: labelled first, then unknown, then unlabelled. Always after "
        "that: more images, newer, by name.",
        "not read",
    ),
    Key(
        "min_valid_image_n_per_dataset",
        "a whole number from 0, or null for no restriction",
        "The largest number of images, volumes, slides, frames or patches that a source states for "
        "the whole dataset is at least this. An unknown number does not pass a number above 0.",
        "compared the data volume, which is null for two in five rows",
    ),
    Key(
        "anatomy_whitelist",
        _LIST.format("anatomies"),
        "At least one anatomy of the dataset is one of these or lies within it (abdomen keeps "
        "liver). Unknown anatomies do not pass.",
        "a part of the text",
        "an anatomy of the vocabulary or a synonym",
    ),
    Key(
        "release_date_min",
        "YYYY, YYYY-MM or YYYY-MM-DD, or null for no restriction",
        "The year of release is this year or later; the catalog knows years alone. An unknown year "
        "does not pass.",
    ),
    Key(
        "allow_3d_as_2d_sources",
        "true or false",
        "With dimension 2D: volumes (3D, 4D) pass too, to be cut into slices. The number of images "
        "is then the number of volumes, not of slices.",
    ),
    Key(
        "selection.enable",
        "true or false",
        "Whether the other keys of selection are applied.",
        "ignored: selection was always applied",
    ),
    Key(
        "selection.min_datasets_per_modality",
        "a whole number from 0",
        "A modality with fewer datasets is left out. A dataset stays while one of its modalities "
        "does.",
    ),
    Key(
        "selection.min_orgs_per_modality",
        "a whole number from 0",
        "A modality with fewer organisations (publishers) is left out; an unknown publisher is no "
        "organisation.",
    ),
    Key(
        "selection.storage_budget_gb",
        "a number above 0 (GB of 10^9 bytes), or null for no restriction",
        "Datasets are taken in the order of preference, each that still fits. Modalities that are "
        "too small afterwards are left out, and their space is given to the others.",
        "not read",
    ),
    Key(
        "selection.include_unknown_size",
        "true or false",
        "Whether datasets without a stated size are taken although nobody knows if they fit; their "
        "number is reported either way.",
        "no such key",
    ),
)
_KEY: Mapping[str, Key] = MappingProxyType({key.name: key for key in KEYS})


class RuleFault(Fault):
    """A fault whose `found` is JSON as it stands in the file; the whole file has no path."""

    @property
    def message(self) -> str:
        hint = f"; nearest: {self.nearest!r}" if self.nearest else ""
        place = f"{self.path}: " if self.path else ""
        return f"{place}found {self.found}, expected {self.expected}{hint}"


class RulesError(FaultsError):
    """Rules that cannot be used."""


def _refuse(nearest: str | None = None) -> PydanticCustomError:
    return PydanticCustomError("rule", "not valid", {"nearest": nearest})


def _term(facet: str) -> AfterValidator:
    """The canonical name of a term, or an error that carries the nearest."""

    def canonical(text: str) -> str:
        term = vocab.resolve(facet, text)
        if term is None or term.name == TEXT:
            close = vocab.nearest(facet, text)
            raise _refuse(close.name if close and close.name != TEXT else None)
        return term.name

    return AfterValidator(canonical)


def _licence(text: str) -> str:
    found = from_text(text)
    if found is None:
        close = nearest_licence(text)
        raise _refuse(close.id if close else None)
    return found.id


def _date(value: Any) -> Any:
    """ISO text as given; a bare year may be a number."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise _refuse()
    text = str(value)
    match = re.fullmatch(r"([0-9]{4})(?:-([0-9]{2})(?:-([0-9]{2}))?)?", text)
    if match is None or not FIRST_YEAR <= int(match[1]) <= LAST_YEAR:
        raise _refuse()
    try:
        dt.date(int(match[1]), int(match[2] or 1), int(match[3] or 1))
    except ValueError as error:
        raise _refuse() from error
    return text


def _once(values: list[str]) -> list[str]:
    return list(dict.fromkeys(values))


def _no_null(value: Any) -> Any:
    return [] if value is None else value


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


Once = AfterValidator(_once)
NullIsEmpty = BeforeValidator(_no_null)
Number = Annotated[int, Field(ge=0, le=MOST)]


class SelectionRules(_Part):
    """Rules over the whole pool, not over one dataset."""

    enable: bool = False
    min_datasets_per_modality: Number = 2
    min_orgs_per_modality: Number = 2
    storage_budget_gb: Annotated[float, Field(gt=0, le=MOST)] | None = None
    include_unknown_size: bool = False


class Rules(_Part):
    """A rule file with canonical terms and licence ids; `KEYS` says what each key does."""

    dimension: Annotated[str, _term("dimension")] | None = "2D"
    include_mixed: bool = False
    modalities: Annotated[list[Annotated[str, _term("modality")]], NullIsEmpty, Once] = [
        "CT",
        "MR",
        "Fundus photography",
    ]
    task_types: Annotated[list[Annotated[str, _term("task")]], NullIsEmpty, Once] = [
        "Classification",
        "Segmentation",
        "Detection",
        "Regression",
    ]
    license_allowlist: (
        Annotated[list[Annotated[str, AfterValidator(_licence)]], Field(min_length=1), Once] | None
    ) = None
    include_unlabeled: bool = True
    prefer_labeled: bool = True
    min_valid_image_n_per_dataset: Number | None = 100
    anatomy_whitelist: Annotated[list[Annotated[str, _term("anatomy")]], NullIsEmpty, Once] = []
    release_date_min: Annotated[str | None, BeforeValidator(_date)] = None
    allow_3d_as_2d_sources: bool = False
    selection: SelectionRules = SelectionRules()

    @property
    def year_min(self) -> int | None:
        """The year of `release_date_min`."""
        return int(self.release_date_min[:4]) if self.release_date_min else None

    @property
    def poses_table_6(self) -> bool:
        """Whether these are the paper's published rules, so that its Table 6 can be compared."""
        return self == Rules()

    def as_dict(self) -> dict[str, Any]:
        """Every key with canonical values, in the published order; valid as a rule file."""
        return self.model_dump(mode="json")

    def differences(self) -> dict[str, Any]:
        """The keys whose values are not the published defaults: enough to make these rules."""
        return self.model_dump(mode="json", exclude_defaults=True)


def parse_rules(text: str | bytes) -> Rules:
    """Rules from JSON text.

    Raises:
        RulesError: no JSON, a key twice, an unknown key or a value that cannot be used.
    """
    if len(text) > LARGEST_BYTES:
        raise RulesError([RuleFault("", f"{len(text)} characters", f"at most {LARGEST_BYTES}")])
    try:
        words = text.decode("utf-8-sig") if isinstance(text, bytes) else text
        data = json.loads(words, object_pairs_hook=_each_once, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        near = words[error.pos : error.pos + 20]
        found = _shown(near) if near.strip() else "the end of the text"
        raise RulesError([RuleFault(place, found, f"JSON ({error.msg.lower()})")]) from error
    except UnicodeDecodeError as error:
        raise RulesError([RuleFault("", f"no UTF-8 at byte {error.start}", "JSON")]) from error
    except RecursionError as error:
        raise RulesError([RuleFault("", "deep nesting", "an object of keys")]) from error
    except RulesError:
        raise
    except ValueError as error:  # a number of thousands of digits
        raise RulesError([RuleFault("", str(error).split(";")[0], "JSON")]) from error
    return check_rules(data)


def check_rules(data: Any) -> Rules:
    """Rules from plain JSON values.

    Raises:
        RulesError: an unknown key or a value that cannot be used.
    """
    if not isinstance(data, Mapping):
        raise RulesError([RuleFault("", _shown(data), "an object of keys, { … }")])
    try:
        return Rules.model_validate(data)
    except ValidationError as error:
        raise RulesError(map(_fault, error.errors(include_url=False))) from error


def nearest_key(name: str) -> str | None:
    """The key spelled most like `name`, with its path: "min_orgs" is found within selection."""
    known = [key.name for key in KEYS]
    last = name.rpartition(".")[2].lower()
    tails = {key: key.rpartition(".")[2] for key in known} | {"selection": "selection"}
    hit = process.extractOne(last, tails, scorer=fuzz.ratio, score_cutoff=_NEAR_ENOUGH)
    if hit is None or hit[1] < _SURE:
        within = process.extractOne(last, tails, scorer=fuzz.partial_ratio, score_cutoff=90.0)
        hit = within or hit
    return str(hit[2]) if hit else None


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise RulesError([RuleFault(_word(key), "the key twice", "each key once")])
        found[key] = value
    return found


def _no_constant(word: str) -> Any:
    raise RulesError([RuleFault("", word, "JSON, which has no such number")])


def _fault(item: Any) -> RuleFault:
    steps: tuple[int | str, ...] = item["loc"]
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{_word(step)}" for step in steps)
    path = path.removeprefix(".")
    name = ".".join(step for step in steps if isinstance(step, str))
    if name in {"", "selection"}:
        return RuleFault(path, _shown(item["input"]), "an object of keys, { … }")
    key = _KEY.get(name)
    if key is None:
        inside = "selection." if name.startswith("selection.") else ""
        known = ", ".join(row.name for row in KEYS if row.name.startswith(inside))
        found = f"the unknown key {_shown(steps[-1])}"
        return RuleFault(path, found, f"one of {known}", nearest_key(name))
    expected = key.item if isinstance(steps[-1], int) else key.expects
    return RuleFault(path, _shown(item["input"]), expected, item.get("ctx", {}).get("nearest"))


def _word(text: str) -> str:
    return text[:SHOWN] if text.isprintable() else ascii(text)[1:-1][:SHOWN]


def _shown(value: Any) -> str:
    """A wrong value as JSON writes it, cut where it is long."""
    text = json.dumps(value, ensure_ascii=True, default=repr)
    try:
        plain = json.dumps(value, ensure_ascii=False, default=repr)
        text = plain if plain.isprintable() else text
    except ValueError:
        pass
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
