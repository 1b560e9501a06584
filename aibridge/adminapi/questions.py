"""The endpoints that the store answers: from what a request said to plain values. Each runs on a thread."""

from typing import Any

from aibridge.adminapi.parameters import Arguments, cursor, filters
from aibridge.adminapi.problems import Problem
from aibridge.stores import browsing
from aibridge.stores.ledger import Query

_PAGE = 50


def interceptions(query: Query, said: Arguments) -> Any:
    """Return a page of interceptions."""
    place = said.get("cursor")
    after = None if place is None else browsing.Place(*place)
    rows, end = browsing.interceptions(query, filters(said), after, said.get("limit", _PAGE))
    return {"items": rows, "next": None if end is None else cursor(end)}


def interception(query: Query, said: Arguments) -> Any:
    """Return one interception."""
    found = browsing.interception(query, said["id"])
    if found is None:
        raise Problem(404, "not_found", "no such interception is recorded")
    return found


def facets(query: Query, said: Arguments) -> Any:
    """Return what can be filtered by."""
    return browsing.facets(query, said.get("since", 0.0))
