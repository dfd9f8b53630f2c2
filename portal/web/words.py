"""Licences, access and relations in plain words. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from catalog.licences import licence


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
RELATIONS = {
    "subset": "this dataset is a part of it",
    "superset": "this dataset contains it",
    "derived": "this dataset is made from it",
    "relabelled": "this dataset has other labels for its images",
    "shared_patients": "both hold images of the same people",
}


def licence_lines(licence_id: str) -> list[Line]:
    """What a licence allows and asks for; an unknown one allows nothing."""
    terms = licence(licence_id or None)
    if not licence_id:
        return [
            Line("no", "No source states a licence: assume that all rights are reserved."),
            Line("must", "Ask the publisher before you pass anything on."),
        ]
    lines = [
        _allowed(terms.redistribute, "pass the files on"),
        _allowed(terms.adapt, "change them and pass the result on"),
        _allowed(terms.commercial, "use them commercially"),
    ]
    asked = {
        "Name the authors.": terms.attribution,
        "Put what you make from it under the same licence.": terms.share_alike,
        "Keep the licence text with the files.": terms.notice,
        "Sign a data use agreement first.": terms.dua,
        "Do not combine it with other data.": terms.no_combination,
    }
    return [*lines, *(Line("must", text) for text, holds in asked.items() if holds)]


def _allowed(holds: bool, what: str) -> Line:
    return Line("yes", f"You may {what}.") if holds else Line("no", f"Not to {what}.")
