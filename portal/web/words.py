"""Licences, access and relations in plain words. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.template.defaultfilters import filesizeformat

from catalog.describe import count_text
from catalog.licences import CombinedLicence, Licence, licence
from catalog.record import NONE


@dataclass(frozen=True)
class Line:
    """One thing that is allowed (yes), forbidden (no) or asked for (must)."""

    mood: str
    text: str


ACCESS = {
    "open": "Open: the files can be fetched without an account.",
    "registration": "After registration: an account is needed, nobody decides on it.",
    "application": "On application: somebody decides who gets the files.",
    "unknown": "Unknown: no source says how to get the files.",
}
# kind -> what this dataset is to the other, and what the other is to this one
RELATIONS = {
    "part_of": ("this dataset belongs to it", "it belongs to this dataset"),
    "version_of": ("this dataset is a version of it", "it is a version of this dataset"),
    "subset": ("this dataset is a part of it", "it is a part of this dataset"),
    "superset": ("this dataset contains it", "it contains this dataset"),
    "derived": ("this dataset is made from it", "it is made from this dataset"),
    "relabelled": (
        "this dataset has other labels for its images",
        "it has other labels for the images of this dataset",
    ),
    "shared_patients": ("both hold images of the same people",) * 2,
}


def value_text(field: str, value: Any) -> str:
    """A value of a record as a person reads it; empty for an unknown one.

    An empty list is a statement: there is none.
    """
    if value is None:
        return ""
    if value == []:
        return NONE
    if field in _WRITERS:
        return _WRITERS[field](value)
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def texts(field: str, value: Any) -> list[str]:
    """A value as a list for people; empty for an unknown one."""
    parts = value if isinstance(value, list) and value else [value]
    return [text for part in parts if (text := value_text(field, part))]


def _count(value: dict[str, Any]) -> str:
    if value.get("unit"):
        return count_text(value)
    return f"{value['number']:,} of unknown unit"


def _citation(value: dict[str, Any]) -> str:
    return ". ".join(str(value[key]) for key in ("title", "year", "doi") if value.get(key))


def _spacing(value: dict[str, Any]) -> str:
    parts = [
        f"{name} {' x '.join(f'{mm:g}' for mm in value[key])} mm"
        for name, key in (("min", "min_mm"), ("median", "median_mm"), ("max", "max_mm"))
        if value.get(key)
    ]
    return ", ".join(parts)


_WRITERS: dict[str, Callable[[Any], str]] = {
    "counts": _count,
    "labelled": lambda value: "yes" if value else "no",
    "size_bytes": lambda value: str(filesizeformat(value)),
    "spacing": _spacing,
    "citation": _citation,
    "links": lambda value: f"{value['url']} ({value['kind']})",
}


def relation_words(kind: str, *, inverse: bool) -> str:
    """What two datasets are to each other, seen from the page of one."""
    return RELATIONS[kind][1 if inverse else 0]


def licence_lines(licence_id: str) -> list[Line]:
    """What a licence allows and asks for; an unknown one allows nothing."""
    terms = licence(licence_id or None)
    if not licence_id:
        return [
            Line("no", "No source states a licence: assume that all rights are reserved."),
            Line("must", "Ask the publisher before you pass anything on."),
        ]
    return _terms(terms)


def combined_lines(terms: CombinedLicence, unknown: int) -> list[Line]:
    """What several licences allow and ask for together; `unknown` parts have none stated."""
    lines = _terms(terms)
    if unknown:
        whose = "one dataset" if unknown == 1 else f"{unknown} datasets"
        lines.insert(0, Line("no", f"No source states the licence of {whose}."))
    if terms.one_file:
        return [*lines, Line("yes", "You may make one file from all of them.")]
    return [*lines, Line("no", "Not to make one file from all of them.")]


def _terms(terms: Licence | CombinedLicence) -> list[Line]:
    lines = [
        _allowed(terms.redistribute, "pass the files on"),
        _allowed(terms.adapt, "change them and pass the result on"),
        _allowed(terms.commercial, "use them commercially"),
    ]
    asked = {
        "Name the authors.": terms.attribution,
        "Put what you make from it under the same licence.": bool(terms.share_alike),
        "Keep the licence text with the files.": terms.notice,
        "Sign a data use agreement first.": terms.dua,
        "Do not combine it with other data.": terms.no_combination,
    }
    return [*lines, *(Line("must", text) for text, holds in asked.items() if holds)]


def _allowed(holds: bool, what: str) -> Line:
    return Line("yes", f"You may {what}.") if holds else Line("no", f"Not to {what}.")
