"""Where data are missing: what the search finds by modality and body region. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from catalog import vocab
from catalog.facet_values import UNKNOWN
from catalog.record import NONE
from catalog.search.query import Query
from catalog.search.results import Results
from catalog.statistics import Matrix

RULE = (
    "Each number is what a search for the two finds: a dataset counts in every cell of which it "
    "has both, or something narrower."
)


def gaps(ask: Callable[[Query], Results]) -> Matrix:
    """One search for each broadest anatomy; regions and modalities with the most datasets first."""
    regions = [term.name for term in vocab.terms("anatomy").values() if term.parent is None]
    columns: dict[str, Mapping[str, int]] = {}
    for region in regions:
        columns[region] = _modalities(ask(Query(filters={"anatomy": (region,)}, limit=1)))
    whole = ask(Query(limit=1))
    down = tuple(_modalities(whole))
    across = tuple(sorted(columns, key=lambda name: (-sum(columns[name].values()), name)))
    cells = tuple(tuple(columns[name].get(kind, 0) for name in across) for kind in down)
    title = "Datasets by modality and body region"
    return Matrix("modality-anatomy", title, RULE, whole.total, down, across, cells)


def _modalities(found: Results) -> dict[str, int]:
    """Datasets by modality, the most frequent first."""
    options = next((facet.options for facet in found.facets if facet.name == "modality"), ())
    return {
        one.value: one.count for one in options if one.count and one.value not in {UNKNOWN, NONE}
    }
