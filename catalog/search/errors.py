"""What can go wrong in a search. No HTTP here: the portal gives each error its status."""

from __future__ import annotations

from catalog.faults import FaultsError


class QueryError(FaultsError):
    """A query has a parameter or a value that does not exist: never the same as no results."""


class SearchUnavailableError(Exception):
    """The search server does not answer."""
