"""Interceptions and sessions by what they are asked for: pages of them, exports, values to filter by.

Read only, as `ledger.py`. Nothing that is asked for becomes part of a statement: it chooses among conditions that stand
here, and its values are parameters.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from aibridge.stores import ledger
from aibridge.stores.base import Fields, Query
from aibridge.stores.recorded import FILTERED, SELECT_ROWS, told, whole

MAX_FACETS = 200
WHOLE_AT_ONCE = 20
"""Interceptions read at once with all that is kept of them: some may have megabytes."""


class Filters(NamedTuple):
    """Which interceptions; None: any. `since` and `until` are of their beginning, in UTC seconds."""

    since: float = 0.0
    until: float | None = None
    actor: str | None = None
    provider: str | None = None
    model: str | None = None
    client: str | None = None
    termination: str | None = None
    cause: str | None = None
    session: str | None = None
    running: bool | None = None


class Place(NamedTuple):
    """Where a page ends: the next one begins behind it."""

    started_at: float
    id: str


def where(filters: Filters) -> tuple[str, list[Any], str]:
    """Return the conditions, the values of their parameters, and the time to sort by.

    The interceptions of a session, and those that run, are few, and found by indexes of their own; for all others the
    index over time knows what is asked for.
    """
    few = filters.session is not None or filters.running is True
    time = "+started_at" if few else "started_at"
    conditions: list[str] = [f"{time} >= ?"]
    values: list[Any] = [filters.since]
    said = filters._asdict()
    if filters.until is not None:
        conditions.append(f"{time} < ?")
        values.append(filters.until)
    for name, column in FILTERED.items():
        if said[name] is not None:
            conditions.append(f"{column} = ?")
            values.append(said[name])
    if filters.session is not None:
        conditions.append(ledger.OF_A_SESSION)
        values += [filters.session] * 3
    if filters.running is not None:
        conditions.append("ended_at IS NULL" if filters.running else "termination IS NOT NULL")
    return " AND ".join(conditions), values, time


def interceptions(query: Query, filters: Filters, after: Place | None, limit: int) -> tuple[list[Fields], Place | None]:
    """Return a page of interceptions, the newest first, and where it ends; None where nothing is behind it.

    Args:
        query: asks the store.
        filters: which.
        after: where the page before ended.
        limit: rows at most.
    """
    if after is not None and filters.until is not None and after.started_at < filters.until:
        filters = filters._replace(until=None)  # of two upper bounds SQLite walks from either
    rows, end = _page(query, SELECT_ROWS, filters, after, limit, descending=True)
    return [told(row) for row in rows], end


def exported(
    query: Query, filters: Filters, after: Place | None, limit: int, *, in_full: bool
) -> tuple[list[Fields], Place | None]:
    """Return a page, the oldest first, of rows as in a list, or of interceptions with all that is kept of them."""
    if after is not None:
        filters = filters._replace(since=max(filters.since, after.started_at))
    select = "SELECT * FROM interceptions" if in_full else SELECT_ROWS
    rows, end = _page(query, select, filters, after, limit, descending=False)
    return whole(query, rows) if in_full else [told(row) for row in rows], end


def export(query: Query, filters: Filters) -> Iterator[Fields]:
    """Yield interceptions with all that is kept of them, the oldest first."""
    end, more = None, True
    while more:
        rows, end = exported(query, filters, end, WHOLE_AT_ONCE, in_full=True)
        yield from rows
        more = end is not None


def count(query: Query, filters: Filters) -> int:
    """Return how many interceptions there are."""
    conditions, values, _ = where(filters)
    return int(query(f"SELECT count(*) AS number FROM interceptions WHERE {conditions}", values)[0]["number"])  # noqa: S608 - our own names


def _page(
    query: Query, select: str, filters: Filters, after: Place | None, limit: int, *, descending: bool
) -> tuple[list[Fields], Place | None]:
    conditions, values, time = where(filters)
    behind, order = ("<", " DESC") if descending else (">", "")
    if after is not None:
        conditions += f" AND ({time}, id) {behind} (?, ?)"
        values += after
    text = f"{select} WHERE {conditions} ORDER BY {time}{order}, id{order} LIMIT ?"
    rows = query(text, [*values, limit + 1])
    page = rows[:limit]
    return page, Place(page[-1]["started_at"], page[-1]["id"]) if len(rows) > limit else None


def facets(query: Query, since: float) -> Fields:
    """Return the values that interceptions can be filtered by, of each the most frequent first."""
    return {
        f"{name}s": [
            row["value"]
            for row in query(
                f"SELECT {column} AS value FROM interceptions WHERE started_at >= ? AND {column} IS NOT NULL"  # noqa: S608 - our own names
                f" GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT {MAX_FACETS}",
                (since,),
            )
        ]
        for name, column in FILTERED.items()
    }


def ended_since(query: Query, horizon: float, most: int) -> list[tuple[int, float]]:
    """Return what ended behind a moment, the oldest first: numbers of rows, and when each ended."""
    rows = query(
        "SELECT rowid AS place, ended_at FROM interceptions WHERE ended_at > ? ORDER BY ended_at LIMIT ?",
        (horizon, most),
    )
    return [(row["place"], row["ended_at"]) for row in rows]


def rows_at(query: Query, places: Sequence[int]) -> list[Fields]:
    """Return rows by their numbers, in the order of their ends."""
    marks = ", ".join("?" for _ in places)
    text = f"{SELECT_ROWS} WHERE interceptions.rowid IN ({marks}) ORDER BY ended_at"
    return [told(row) for row in query(text, places)]


class SessionPlace(NamedTuple):
    """Where a page of sessions ends."""

    latest: float
    session: str
    actor: str


def sessions(
    query: Query,
    since: float,
    actor: str | None,
    after: SessionPlace | None,
    limit: int,
    shown: ledger.Shown = ledger.ALL_SHOWN,
) -> tuple[list[Fields], SessionPlace | None]:
    """Return a page of sessions, those with the latest interceptions first, and where it ends, as `interceptions`."""
    conditions = "started_at >= ?" + ("" if actor is None else " AND actor_id = ?")
    having = "" if after is None else "HAVING (max(started_at), session, actor_id) < (?, ?, ?)"
    text = f"""
    SELECT actor_id, {ledger.SESSION} AS session, max(started_at) AS latest FROM interceptions WHERE {conditions}
    GROUP BY 1, 2 {having} ORDER BY 3 DESC, 2 DESC, 1 DESC LIMIT ?
    """  # noqa: S608 - our own names
    found = query(text, [since, *([] if actor is None else [actor]), *(after or ()), limit + 1])
    page = found[:limit]
    items = [ledger.session(query, row["actor_id"], row["session"], since, shown) for row in page]
    if len(found) == len(page):
        return items, None
    return items, SessionPlace(page[-1]["latest"], page[-1]["session"], page[-1]["actor_id"])


def actors_of(query: Query, session: str) -> list[str]:
    """Return whose sessions have this name."""
    text = f"SELECT DISTINCT actor_id FROM interceptions WHERE {ledger.OF_A_SESSION} ORDER BY 1 LIMIT 10"  # noqa: S608 - our own names
    return [row["actor_id"] for row in query(text, [session] * 3)]
