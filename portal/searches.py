"""Searches that a person keeps: each is the query of an address, in one spelling."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.db.models import QuerySet
from django.http import QueryDict

from catalog.faults import Fault
from catalog.search import Query, QueryError
from catalog.search.facets import TITLES
from portal.access import SignInError, user_of
from portal.models import SavedSearch

MOST_SAVED = 200
LONGEST_QUERY, LONGEST_NAME = 2000, 80


def search_params(query: Query) -> list[tuple[str, str]]:
    """The search alone, without order and pages."""
    return query.replace(sort="relevance", page=1, limit=Query.limit).to_params()


def own_searches(request: Any) -> QuerySet[SavedSearch]:
    """What a user keeps; nobody else sees it, not even staff.

    Raises:
        SignInError: nobody is signed in.
    """
    user = user_of(request)
    if user is None:
        raise SignInError("Sign in, or send a token: a saved search belongs to somebody")
    return SavedSearch.objects.filter(owner=user)


def save(owner: Any, text: str, name: str = "") -> SavedSearch:
    """Keep a search; asked again, the one that is kept already, with the new name if one is given.

    Args:
        text: the query string of a search, as in its address.
        name: its own words where it is empty.

    Raises:
        QueryError: the query means nothing, is too long, or there are enough of them.
    """
    query = Query.from_params(QueryDict(text.removeprefix("?")))
    kept = urlencode(search_params(query))
    if len(kept) > LONGEST_QUERY:
        expected = f"at most {LONGEST_QUERY}"
        raise QueryError([Fault("query", f"{len(kept)} characters", expected)])
    mine = SavedSearch.objects.filter(owner=owner)
    found = mine.filter(query=kept).first()
    if found is None:
        if mine.count() >= MOST_SAVED:
            expected = f"fewer than {MOST_SAVED}: delete one first"
            raise QueryError([Fault("searches", f"{MOST_SAVED} searches", expected)])
        found, _ = mine.get_or_create(
            owner=owner, query=kept, defaults={"name": _name(name, query)}
        )
    elif name.strip():
        rename(found, name)
    return found


def rename(search: SavedSearch, name: str) -> None:
    """Call it something else; its own words where the name is empty."""
    search.name = _name(name, Query.from_params(QueryDict(search.query)))
    search.save(update_fields=["name"])


def in_words(query: Query) -> str:
    """What a search asks for, for people."""
    said = [
        value if name == "q" else f"{_title(name)}: {value}" for name, value in search_params(query)
    ]
    return ", ".join(said) or "all"


def _name(text: str, query: Query) -> str:
    return " ".join((text.strip() or in_words(query)).split())[:LONGEST_NAME]


def _title(name: str) -> str:
    plain = name.removeprefix("not_")
    title = TITLES.get(plain, name.replace("_", " ").capitalize())
    return title if plain == name else f"Not {title.lower()}"
