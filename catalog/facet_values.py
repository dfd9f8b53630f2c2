"""Under which values of a facet a dataset is found: stated terms, labelled organs, broader ones.

Search and statistics both ask here, so that a figure says what its search finds. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from catalog import vocab
from catalog.record import NONE, states_none

UNKNOWN = "unknown"
MULTI_ORGAN = "Multi-organ"
_CAVITIES = frozenset({"Chest", "Abdomen", "Pelvis"})
_SEVERAL = 3  # organs
#: Facets of the vocabulary, and the facts that hold their terms.
FACT_OF = {
    "dimension": "dimensions",
    "modality": "modalities",
    "task": "tasks",
    "anatomy": "anatomies",
    "disease": "diseases",
}
_SIDES = re.compile(r"\b(?:left|right|l|r|upper|lower|middle|lobe|normal)\b")
_NO_ORGAN = re.compile(r"tumou?r|lesion|cancer|cyst|nodule|metasta|oedema|edema|no |non|background")


def found_under(facts: Mapping[str, Any], facet: str) -> tuple[str, ...]:
    """Terms with their parents; "none" where a source states that, else "unknown", without any."""
    key = FACT_OF[facet]
    stated = terms_of(facet, facts[key], facts.get("classes", ()))
    return with_parents(facet, stated) or (NONE if states_none(facts, key) else UNKNOWN,)


def terms_of(facet: str, stated: Iterable[str], classes: Iterable[str]) -> tuple[str, ...]:
    """The terms that are stated, and the organs that are labelled."""
    organs = labelled_organs(classes) if facet == "anatomy" else ()
    return tuple(dict.fromkeys([*stated, *organs]))


def with_parents(facet: str, terms: Iterable[str]) -> tuple[str, ...]:
    """Each term, and everything broader; several organs of the trunk are multi-organ, too."""
    known = vocab.terms(facet)
    found: dict[str, None] = {}
    organs = set()
    for term in terms:
        above = vocab.ancestors(facet, term) if term in known else ()
        found.update(dict.fromkeys((term, *above)))
        if facet == "anatomy" and above and above[-1] in _CAVITIES:
            organs.add((term, *above)[-2])
    if len(organs) >= _SEVERAL:
        found[MULTI_ORGAN] = None
    return tuple(found)


def labelled_organs(classes: Iterable[str]) -> list[str]:
    """Body parts among the names of a dataset's labels: "kidney_left" is a kidney."""
    found: dict[str, None] = {}
    for name in classes:
        plain = vocab.normalise(name)
        if _NO_ORGAN.search(plain):
            continue
        term = vocab.resolve("anatomy", plain) or vocab.resolve(
            "anatomy", " ".join(_SIDES.sub(" ", plain).split())
        )
        if term:
            found[term.name] = None
    return list(found)
