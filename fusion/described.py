"""A described source as facts for a blueprint: folders that nobody has catalogued. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from catalog import concepts, vocab
from fusion.recipe_check import PROPOSED
from fusion.recipe_draft import check_shape
from fusion.source import SourceDescription

_UNKNOWN: Mapping[str, Any] = {
    "aliases": [],
    "modality_details": [],
    "counts": [],
    "spacing": None,
    "size_bytes": None,
    "access": "unknown",
    "relations": [],
}


def described_facts(
    name: str, description: Mapping[str, Any] | SourceDescription, catalog: Mapping[str, Any] = {}
) -> dict[str, Any]:
    """Facts as of a catalog record; `catalog` fills what a description cannot say.

    Args:
        name: stands for the slug; no dataset of the catalog has it.
        description: a source description, checked here when it is plain data; labels whose concept
            is still undecided count for nothing.
        catalog: facts of the dataset that it is a copy of, if that is catalogued.

    Raises:
        RecipeError: the description is not valid.
    """
    one = (
        description
        if isinstance(description, SourceDescription)
        else check_shape(description, name)
    )
    family = vocab.resolve("modality", one.family)
    spoken = {c for c in (*one.concepts(), *one.covers) if not c.startswith(PROPOSED)}
    tasks = ["Segmentation"] * bool(one.layers) + ["Classification"] * bool(one.classes)
    return {
        **_UNKNOWN,
        **{key: value for key, value in catalog.items() if value},
        "slug": name,
        "name": one.name,
        "modalities": [family.name if family else one.family],
        "dimensions": [one.dimension],
        "tasks": tasks,
        "anatomies": catalog.get("anatomies") or anatomies_of(spoken),
        "classes": sorted(concepts.concept(c).label for c in spoken),
        "annotation": "" if one.annotation == "unknown" else one.annotation,
        "licence": one.licence.images or "",
        "licence_labels": one.licence.labels or "",
        "homepage": one.homepage,
        "species": one.species + (" (synthetic)" if one.synthetic else ""),
        "subjects_known": one.cases.subject is not None,
        "faces": one.faces,
        "unit": one.intensity.unit if one.intensity else "",
    }


def anatomies_of(spoken: Iterable[str]) -> list[str]:
    """Regions of the anatomy vocabulary that these concepts are or lie in."""
    wide = {up for concept in spoken for up in (concept, *concepts.ancestors(concept))}
    terms = (vocab.resolve("anatomy", concepts.concept(one).label) for one in wide)
    return sorted({term.name for term in terms if term})
