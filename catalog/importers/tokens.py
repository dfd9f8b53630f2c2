"""Upstream's tokens to vocabulary terms: modalities, anatomies, tasks, dimensions, diseases."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from types import MappingProxyType
from typing import Any

from catalog import vocab
from catalog.importers.tables import Tables

# A row that says "Multi" still stands in a section for one modality.
SECTION_MODALITY = MappingProxyType(
    {
        "Dermoscopy": "Dermoscopy",
        "OCT": "OCT",
        "CT Datasets": "CT",
        "X-ray Datasets": "X-ray",
        "MRI Datasets": "MR",
        "Fundus Photography": "Fundus photography",
        "Histopathology": "Histopathology",
        "Ultrasound": "Ultrasound",
        "Endoscopy": "Endoscopy",
        "Microscopy": "Microscopy",
        "PET": "PET",
    }
)
REG_TASK = MappingProxyType({"registration": "Registration", "regression": "Regression"})
DERIVED = "Derived object"
VIDEO_SECTION = "Video Datasets"


def terms_of(tables: Tables, group: list[int]) -> dict[str, list[str]]:
    """Canonical terms of a dataset's rows by record field, each list in vocabulary order."""
    found: dict[str, set[str]] = {key: set() for key in _READERS}
    for index in group:
        for key, read in _READERS.items():
            found[key].update(read(tables, index))
    return {key: [t for t in vocab.terms(_FACETS[key]) if t in found[key]] for key in _READERS}


def corrected(tables: Tables, index: int, field: str) -> str | None:
    """The value a review gives for a cell that it judged wrong."""
    for row in tables.suspects.get(index, []):
        if row["field"] == field and row["severity"] == "wrong":
            return row["likely"]
    return None


def split(text: str, marks: str = "/,+") -> list[str]:
    """Parts between the marks, without blanks."""
    return [part.strip() for part in re.split(f"[{re.escape(marks)}]", text) if part.strip()]


def _named(facet: str, text: str, marks: str = "/,+") -> Iterator[str]:
    """Terms that the parts of a text name through the vocabulary alone."""
    whole = vocab.resolve(facet, text)
    parts = [whole] if whole else [vocab.resolve(facet, part) for part in split(text, marks)]
    yield from (term.name for term in parts if term)


def _mapped(tables: Tables, facet: str, cell: str) -> str | None:
    """A cell's term: the exact name, else the reviewed map, else the vocabulary's synonyms."""
    known = vocab.terms(facet)
    if cell in known:
        return cell
    canonical = tables.token_maps[facet].get(cell)
    if canonical is not None:
        return canonical if canonical in known else None
    term = vocab.resolve(facet, cell)
    return term.name if term else None


def modalities(tables: Tables, index: int) -> Iterator[str]:
    row = tables.rows[index]
    section = str(row["section"]).strip("\u200d ")
    if (likely := corrected(tables, index, "modality")) is not None:
        yield from _named("modality", likely.removesuffix(" only"))
        return
    text = str(row["modality"])
    whole = _mapped(tables, "modality", text)
    for cell in [text] if whole else split(text):
        term = _mapped(tables, "modality", cell)
        if cell == "Multi":
            term = SECTION_MODALITY.get(section)
        elif section == VIDEO_SECTION and term == "Microscopy":
            term = "Surgical microscope video"
        if term and term != DERIVED:
            yield term


def anatomies(tables: Tables, index: int) -> Iterator[str]:
    row = tables.rows[index]
    if (likely := corrected(tables, index, "structure")) is not None:
        yield from _named("anatomy", re.sub(r"\(.*\)", "", likely))
        return
    special = tables.reviewed["anatomies"].get(row["name"], {})
    text = str(row["structure"])
    tokens = [text] if text in tables.token_maps["anatomy"] else split(text, "/,+;")
    for cell in tokens:
        if cell in special:
            yield from special[cell]
        elif term := _mapped(tables, "anatomy", cell):
            yield term


def tasks(tables: Tables, index: int) -> Iterator[str]:
    row = tables.rows[index]
    if (likely := corrected(tables, index, "task")) is not None:
        yield from _named("task", likely)
        return
    special = tables.reviewed["tasks"].get(row["name"], {})
    for cell in split(str(row["task"])):
        if cell in special:
            yield from special[cell]
        elif cell == "Reg":
            meaning = REG_TASK.get(tables.reg_means.get(row["name"], ""))
            yield from [meaning] if meaning else []
        elif cell == "Trk":
            yield "Tractography" if "Brain" in str(row["structure"]) else "Tracking"
        elif cell == "Surv":
            yield "Survival prediction"
        elif term := _mapped(tables, "task", cell):
            yield term


def dimensions(tables: Tables, index: int) -> Iterator[str]:
    for cell in split(str(tables.rows[index]["dim"])):
        if term := _mapped(tables, "dimension", cell):
            yield term


def diseases(tables: Tables, index: int) -> Iterator[str]:
    """Diseases that the vocabulary knows; label targets of the video section are none."""
    if any(
        row["field"] == "diseases" and row["severity"] == "semantic"
        for row in tables.suspects.get(index, [])
    ):
        return
    text = corrected(tables, index, "diseases") or str(tables.rows[index]["diseases"] or "")
    parts: Iterable[str] = re.split(r"[,/;&()]| and ", text)
    for part in parts:
        if part.strip() and (term := vocab.resolve("disease", part)):
            yield term.name


_READERS: dict[str, Any] = {
    "modalities": modalities,
    "anatomies": anatomies,
    "tasks": tasks,
    "diseases": diseases,
    "dimensions": dimensions,
}
_FACETS = MappingProxyType(
    {
        "modalities": "modality",
        "anatomies": "anatomy",
        "tasks": "task",
        "diseases": "disease",
        "dimensions": "dimension",
    }
)
