"""How to cite a dataset: as text, BibTeX and CSL-JSON, from what its claims state. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

Facts = Mapping[str, Any]
_ESCAPES = {
    **{mark: f"\\{mark}" for mark in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}


def citation(facts: Facts) -> dict[str, Any]:
    """The stated work to cite; where none is stated, the dataset itself."""
    stated = facts["citation"] or {}
    return {
        "title": stated.get("title") or facts["name"],
        "authors": stated.get("authors") or [],
        "year": stated.get("year") or facts["year"],
        "container": stated.get("container") or facts["publisher"],
        "doi": stated.get("doi") or facts["doi"],
        "url": stated.get("url") or facts["homepage"],
        "work": "article" if stated.get("title") else "dataset",
    }


def text_of(cited: Mapping[str, Any]) -> str:
    """One line: authors (year). title. container. address. Without authors the title is first."""
    place = f"https://doi.org/{cited['doi']}" if cited["doi"] else cited["url"]
    who = ", ".join(cited["authors"])
    year = f"({cited['year'] or 'n.d.'})"
    named = [f"{who} {year}", cited["title"]] if who else [f"{cited['title']} {year}"]
    parts = [*named, cited["container"], place]
    return ". ".join(part for part in parts if part)


def to_bibtex(datasets: Iterable[Facts]) -> str:
    """One @misc entry a dataset; the key is its slug."""
    return "\n".join(_entry(facts) for facts in datasets)


def _entry(facts: Facts) -> str:
    cited = citation(facts)
    fields = {
        "title": f"{{{_tex(cited['title'])}}}",
        "author": " and ".join(f"{{{_tex(name)}}}" for name in cited["authors"]) or None,
        "year": cited["year"],
        "howpublished": _tex(cited["container"]) if cited["container"] else None,
        "doi": cited["doi"],
        "url": cited["url"],
        "note": _tex(f"Dataset: {facts['name']}"),
    }
    lines = [f"  {key} = {{{value}}}" for key, value in fields.items() if value]
    return f"@misc{{{facts['slug']},\n" + ",\n".join(lines) + "\n}\n"


def _tex(text: str) -> str:
    return re.sub(r"[&%$#_{}\\~^]", lambda match: _ESCAPES[match[0]], text)


def to_csl(datasets: Iterable[Facts]) -> list[dict[str, Any]]:
    """CSL-JSON items of type dataset, as reference managers import them."""
    return [_item(facts) for facts in datasets]


def _item(facts: Facts) -> dict[str, Any]:
    cited = citation(facts)
    item = {
        "id": facts["slug"],
        "type": "dataset",
        "title": cited["title"],
        "author": [{"literal": name} for name in cited["authors"]] or None,
        "issued": {"date-parts": [[cited["year"]]]} if cited["year"] else None,
        "container-title": cited["container"],
        "DOI": cited["doi"],
        "URL": cited["url"],
    }
    return {key: value for key, value in item.items() if value is not None}
