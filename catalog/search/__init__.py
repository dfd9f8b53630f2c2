"""Search over the catalog: one query object, two engines, one answer."""

from catalog.search.engine import reindex, search
from catalog.search.errors import QueryError, SearchUnavailableError
from catalog.search.query import Query
from catalog.search.results import Facet, Hit, NearHit, Option, Results

__all__ = [
    "Facet",
    "Hit",
    "NearHit",
    "Option",
    "Query",
    "QueryError",
    "Results",
    "SearchUnavailableError",
    "reindex",
    "search",
]
