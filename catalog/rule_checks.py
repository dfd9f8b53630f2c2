"""The rules about one dataset: what each asks, and what a dataset has instead. Pure.

A dataset passes a rule about modalities, tasks or anatomies when one of its terms is an asked one
or narrower; what is unknown passes no rule that asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any

from catalog import vocab
from catalog.facet_values import UNKNOWN
from catalog.rules import TEXT, Profile, Rules
from catalog.statistics import images_of

Facts = Mapping[str, Any]
VOLUMES = ("3D", "4D")
# Other names under which publishers stand in the catalog, as `vocab.normalise` writes them.
SAME_ORGANISATION: Mapping[str, str] = MappingProxyType(
    {
        "tcia": "the cancer imaging archive",
        "rsna": "radiological society of north america",
        "u s national library of medicine": "national library of medicine",
        "us national library of medicine": "national library of medicine",
        "radboud umc": "radboud university medical center",
        "radboudumc": "radboud university medical center",
        "indi": "international neuroimaging data sharing initiative",
        "simula": "simula research laboratory",
        "university of strasbourg camma": "camma university of strasbourg",
        "university of warwick tia centre": "tia centre university of warwick",
        "the hamlyn centre imperial college london": "hamlyn centre imperial college london",
        "imaging data commons": "nci imaging data commons",
        "national library of medicine open i": "national library of medicine",
        "shanghai ai laboratory opengvlab": "shanghai ai laboratory",
        "vingroup big data institute": "vinbigdata",
        "dkfz mic dkfz": "german cancer research center dkfz",
    }
)


@dataclass(frozen=True)
class Check:
    """A rule about one dataset.

    `asks` says it in words, empty when it asks nothing; `found` says what a dataset has instead,
    None when it passes.
    """

    rule: str
    phase: int
    asks: Callable[[Rules], str]
    found: Callable[[Rules, Facts], str | None]


def organisation_of(facts: Facts) -> str | None:
    """The publisher as a key: other spellings and abbreviations of one organisation are equal."""
    name = vocab.normalise(facts["publisher"] or "")
    return SAME_ORGANISATION.get(name, name) or None


@cache
def _broader(facet: str, name: str) -> tuple[str, ...]:
    """A term and its parents, the nearest first."""
    return (name, *vocab.ancestors(facet, name)) if name in vocab.terms(facet) else (name,)


def _within(facet: str, name: str, asked: Sequence[str]) -> str | None:
    """The nearest asked term that is `name` or broader."""
    return next((term for term in _broader(facet, name) if term in asked), None)


def group_of(rules: Rules, modality: str, profile: Profile) -> str | None:
    """The asked modality that a dataset's modality counts in."""
    if not rules.modalities:
        return modality
    if profile == "compatibility":
        return modality if modality in rules.modalities else None
    return _within("modality", modality, rules.modalities)


def dimensions(rules: Rules) -> tuple[str, ...]:
    """The dimensions that pass."""
    if rules.dimension is None:
        return ()
    volumes = VOLUMES if rules.allow_3d_as_2d_sources and rules.dimension == "2D" else ()
    return (rules.dimension, *volumes)


def _list(values: Iterable[str]) -> str:
    return ", ".join(values) or UNKNOWN


def _asks_dimension(rules: Rules) -> str:
    if rules.dimension is None:
        return ""
    words = " or ".join(dimensions(rules))
    return f"{words}, alone or beside others" if rules.include_mixed else f"{words} alone"


def _dimension(rules: Rules, facts: Facts) -> str | None:
    found = [name for name in facts["dimensions"] if name != TEXT]
    passing = [name in dimensions(rules) for name in found]
    holds = any(passing) if rules.include_mixed else bool(found) and all(passing)
    return None if holds else _list(found)


def _any_of(key: str, facet: str, asked: Sequence[str], facts: Facts) -> str | None:
    """None when a value of the dataset is an asked one or narrower, else what it has."""
    holds = any(_within(facet, value, asked) is not None for value in facts[key])
    return None if holds else _list(facts[key])


def _labels(_rules: Rules, facts: Facts) -> str | None:
    if facts["labelled"]:
        return None
    return UNKNOWN if facts["labelled"] is None else "unlabelled"


def _images(rules: Rules, facts: Facts) -> str | None:
    number = images_of(facts)
    if number is None:
        return UNKNOWN
    return None if number >= (rules.min_valid_image_n_per_dataset or 0) else str(number)


def _released(rules: Rules, facts: Facts) -> str | None:
    if facts["year"] is None:
        return UNKNOWN
    return None if facts["year"] >= (rules.year_min or 0) else str(facts["year"])


def _licence(rules: Rules, facts: Facts) -> str | None:
    allowed = rules.license_allowlist or ()
    if facts["licence"] not in allowed:
        return facts["licence"] or UNKNOWN
    of_labels = facts["licence_labels"]
    return None if of_labels is None or of_labels in allowed else f"labels: {of_labels}"


STATED = (
    Check("dimension", 1, _asks_dimension, _dimension),
    Check(
        "modalities",
        1,
        lambda rules: " or ".join(rules.modalities),
        lambda rules, facts: _any_of("modalities", "modality", rules.modalities, facts),
    ),
    Check(
        "task_types",
        2,
        lambda rules: " or ".join(rules.task_types),
        lambda rules, facts: _any_of("tasks", "task", rules.task_types, facts),
    ),
)
COMMON = (
    Check(
        "anatomy_whitelist",
        1,
        lambda rules: " or ".join(rules.anatomy_whitelist),
        lambda rules, facts: _any_of("anatomies", "anatomy", rules.anatomy_whitelist, facts),
    ),
    Check(
        "include_unlabeled", 2, lambda rules: "" if rules.include_unlabeled else "labelled", _labels
    ),
    Check(
        "min_valid_image_n_per_dataset",
        3,
        lambda rules: (
            f"at least {rules.min_valid_image_n_per_dataset} images"
            if rules.min_valid_image_n_per_dataset
            else ""
        ),
        _images,
    ),
    Check(
        "release_date_min",
        3,
        lambda rules: f"{rules.year_min} or later" if rules.year_min else "",
        _released,
    ),
    Check(
        "license_allowlist",
        3,
        lambda rules: " or ".join(rules.license_allowlist or ()),
        _licence,
    ),
)
COMPATIBILITY = (
    Check(
        "dimension",
        1,
        lambda rules: f"exactly {rules.dimension}" if rules.dimension else "",
        lambda rules, facts: (
            None if facts["dimensions"] == [rules.dimension] else _list(facts["dimensions"])
        ),
    ),
    Check(
        "modalities",
        1,
        lambda rules: " or ".join(rules.modalities),
        lambda rules, facts: (
            None
            if set(rules.modalities).intersection(facts["modalities"])
            else _list(facts["modalities"])
        ),
    ),
    Check(
        "compatibility.one_modality",
        1,
        lambda _: "exactly one modality",
        lambda _, facts: None if len(facts["modalities"]) == 1 else _list(facts["modalities"]),
    ),
    Check(
        "compatibility.organisation",
        1,
        lambda _: "a known organisation",
        lambda _, facts: None if organisation_of(facts) else UNKNOWN,
    ),
)


def _by_phase(checks: Iterable[Check]) -> tuple[Check, ...]:
    return tuple(sorted(checks, key=lambda check: check.phase))


CHECKS: Mapping[Profile, tuple[Check, ...]] = MappingProxyType(
    {
        "stated": _by_phase((*STATED, *COMMON)),
        "compatibility": _by_phase((*COMPATIBILITY, *COMMON)),
    }
)
