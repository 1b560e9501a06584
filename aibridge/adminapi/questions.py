"""The endpoints that the store answers: from what a request said to plain values. Each runs on a thread."""

import math
import time
from typing import Any

from aibridge.adminapi.parameters import Arguments, cursor, filters
from aibridge.adminapi.problems import Problem
from aibridge.stores import browsing, ledger, recorded, summaries
from aibridge.stores.base import Query
from aibridge.stores.ledger import Shown
from aibridge.stores.recorded import Bounds

BOUNDS = Bounds(parts=200, text=16_384, prompt=262_144)
"""Of one interception that is told whole."""
_PAGE = 50
_SESSIONS = 20
IN_A_LIST = Shown(interceptions=100, prompt=500)
ALONE = Shown(interceptions=2000, prompt=2000)
"""Of a session."""
_MAX_USAGE = 5000
_DAY = 86_400.0
_GROUPS = ("day", "actor", "provider", "model")


def interceptions(query: Query, said: Arguments) -> Any:
    """Return a page of interceptions."""
    rows, end = browsing.interceptions(query, filters(said), said.get("cursor"), said.get("limit", _PAGE))
    return {"items": rows, "next": None if end is None else cursor(end)}


def interception(query: Query, said: Arguments) -> Any:
    """Return one interception."""
    found = recorded.interception(query, said["id"], BOUNDS)
    if found is None:
        raise Problem(404, "not_found", "no such interception is recorded")
    return found


def sessions(query: Query, said: Arguments) -> Any:
    """Return a page of sessions; of the last day, where nothing else is said."""
    limit = said.get("limit", _SESSIONS)
    rows, end = browsing.sessions(query, _since(said, _DAY), said.get("actor"), said.get("cursor"), limit, IN_A_LIST)
    return {"items": rows, "next": None if end is None else cursor(end)}


def session(query: Query, said: Arguments) -> Any:
    """Return one session."""
    name = said["session"]
    actors = [said["actor"]] if "actor" in said else browsing.actors_of(query, name)
    if len(actors) > 1:
        detail = f"is needed: sessions of this name have {', '.join(actors)}"
        raise Problem(400, "bad_parameter", f"actor {detail}", errors=[("actor", detail)])
    for actor in actors:
        found = ledger.session(query, actor, name, 0.0, ALONE)
        if found["interceptions"]:
            return found
    raise Problem(404, "not_found", "no such session is recorded")


def outcomes(query: Query, said: Arguments) -> Any:
    """Return how many ended how over time; of the last day, where nothing else is said."""
    asked = filters({**said, "since": _since(said, _DAY)})
    bucket = _bucket(query, asked, said.get("bucket"))
    return {"bucket": bucket, "items": summaries.outcomes(query, asked, bucket)}


def latency(query: Query, said: Arguments) -> Any:
    """Return quantiles of latency; of the last day, where nothing else is said."""
    asked = filters({**said, "since": _since(said, _DAY)})
    by = said.get("by", "model")
    bucket = _bucket(query, asked, said["bucket"]) if "bucket" in said else None
    items, size = summaries.latency(query, asked, by, bucket)
    return {"by": by, "bucket": bucket, "sampled": size == summaries.MAX_SAMPLE, "items": items}


def usage(query: Query, said: Arguments) -> Any:
    """Return sums of requests, tokens and costs; of the last 30 days, where nothing else is said."""
    by = said.get("by", _GROUPS)
    rows = ledger.usage(query, _since(said, 30 * _DAY), by, said.get("until"), _MAX_USAGE + 1)
    return {"by": by, "truncated": len(rows) > _MAX_USAGE, "items": rows[:_MAX_USAGE]}


def facets(query: Query, said: Arguments) -> Any:
    """Return what can be filtered by; of the last day, where nothing else is said."""
    return browsing.facets(query, _since(said, _DAY))


def _since(said: Arguments, default: float) -> float:
    since: float = said["since"] if "since" in said else time.time() - default
    return since


def _bucket(query: Query, asked: browsing.Filters, said: str | None) -> str:
    until = min(time.time(), asked.until or math.inf)
    try:
        return summaries.bucket_for(query, asked, until, said)
    except summaries.TooFine as error:
        raise Problem(400, "bad_parameter", f"bucket {error}", errors=[("bucket", str(error))]) from None
