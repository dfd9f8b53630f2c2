"""Search for pages: when the search server is away, the built-in index answers."""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path

from django.conf import settings

from catalog.search import Query, Results, SearchUnavailableError, search
from catalog.search.embedded import EmbeddedEngine
from catalog.search.index import current_documents, current_key

logger = logging.getLogger(__name__)


def find(query: Query) -> tuple[Results, bool]:
    """The answer, and whether the search server was away."""
    try:
        return search(query), False
    except SearchUnavailableError as error:
        logger.warning("search server: %s; the built-in index answers", error)
        return search(query, using=_built_in(Path(settings.SEARCH_DIR))), True


@cache
def _built_in(folder: Path) -> EmbeddedEngine:
    return EmbeddedEngine(folder, current_key, current_documents)
