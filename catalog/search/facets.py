"""What can be asked for: facets, their closed lists, and what a word means in them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from catalog import vocab
from catalog.facet_values import FACT_OF, UNKNOWN
from catalog.faults import Fault, closest
from catalog.licences import LICENCES
from catalog.platforms import platforms
from catalog.record import NONE

TITLES: Mapping[str, str] = MappingProxyType(
    {
        "modality": "Modality",
        "anatomy": "Anatomy",
        "task": "Task",
        "dimension": "Dimension",
        "access": "Access",
        "licence": "Licence",
        "year": "Year",
        "disease": "Disease",
        "platform": "Platform",
        "allows": "Terms of use",
        "labelled": "Labels",
        "tier": "Record",
        "family": "Family",
        "count": "Size",
    }
)
FACETS = (
    "modality", "anatomy", "task", "dimension", "access", "allows", "licence", "platform", "year",
)  # fmt: skip
# What can be asked for, but is no list beside the results.
FILTERS = (*FACETS, "disease", "labelled", "tier", "family")
# Closed lists that no vocabulary file holds, with other words for their values.
CLOSED: Mapping[str, Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "allows": {
            "permissive": ("permissive licence",),
            "commercial": ("commercial use",),
            "redistribution": ("sharing", "redistributable"),
            "adaptation": ("adapt", "derivatives"),
        },
        "labelled": {"yes": ("true", "labelled", "labeled"), "no": ("false", "unlabelled")},
        "tier": {"curated": (), "harvested": ()},
        "platform": {name: row.synonyms for name, row in platforms().items()},
    }
)
OPEN_ENDED = frozenset({"family"})
FIRST_YEAR, LAST_YEAR = 1895, 2100


@cache
def known_values(facet: str) -> tuple[str, ...]:
    """Every canonical value of a facet with a closed list; years have none."""
    if facet == "licence":
        return (*LICENCES, UNKNOWN)
    if facet in CLOSED:
        return (*CLOSED[facet], UNKNOWN)
    return tuple(dict.fromkeys([*vocab.terms(facet), NONE, UNKNOWN]))


def resolve(facet: str, text: str) -> str | None:
    """The canonical value that `text` names; None when there is none."""
    wanted = text.strip().casefold()
    if wanted == UNKNOWN or (wanted == NONE and facet in FACT_OF):
        return wanted
    if facet == "year":
        is_year = wanted.isdecimal() and FIRST_YEAR <= int(wanted) <= LAST_YEAR
        return str(int(wanted)) if is_year else None
    if facet == "licence":
        return next((name for name in LICENCES if name.casefold() == wanted), None)
    if facet in OPEN_ENDED:
        return text.strip() or None
    if facet in CLOSED:
        return next(
            (
                name
                for name, others in CLOSED[facet].items()
                if wanted in {name.casefold(), *map(str.casefold, others)}
            ),
            None,
        )
    term = vocab.resolve(facet, text) if wanted else None
    return term.name if term else None


def unknown_value(facet: str, text: str) -> Fault:
    """A value that the facet does not have, with the nearest one."""
    if facet == "year":
        expected = f"a year from {FIRST_YEAR} to {LAST_YEAR}, or unknown"
        return Fault(facet, text, expected, closest(text, (UNKNOWN,)))
    words = {value.casefold(): value for value in known_values(facet)}
    if facet in vocab.FACETS:
        for term in vocab.terms(facet).values():
            words.update({word.casefold(): term.name for word in term.synonyms})
    close = closest(text.casefold(), tuple(words))
    nearest = words[close] if close else None
    return Fault(facet, text, f"a known {TITLES[facet].lower()} or {UNKNOWN}", nearest)
