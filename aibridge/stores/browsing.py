"""What the admin API asks the records: pages of interceptions and of sessions, and one whole.

Read only, as `ledger.py`, and each answer within a bound. Nothing that a request says becomes part of a statement: it
chooses among conditions that stand here, and its values are parameters.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from aibridge import jsontext
from aibridge.stores import ledger
from aibridge.stores.base import ATTEMPTS, COUNTS_VALUES, MODEL_THOUGHTS, TOKEN_USAGES, TOOL_USAGES, USER_PROMPTS, Table
from aibridge.stores.ledger import Fields, Query
from aibridge.text import CUT

MAX_PARTS = 200
"""Attempts, tools and thoughts of one interception that are told."""
MAX_PART_TEXT = 16_384
"""Characters of each."""
MAX_PROMPT = 262_144
MAX_FACETS = 200
SESSION_SHOWN = 100
"""Interceptions of each session in a list."""
PROMPT_SHOWN = 500
"""Characters of a prompt there."""
MAX_SESSION = 2000
"""Interceptions of a session that is looked at alone."""

_ANSWERED_BY = "coalesce(answered_by, provider)"

_COUNTS = ", ".join(column.name for column in COUNTS_VALUES)

ROW = (
    "id", "started_at", "ended_at", "duration", "actor_id", "actor_name", "provider", "answered_by", "model",
    "upstream_model", "client", "dialect", "route", "streaming", "termination", "cause", "error", "http_status",
    "time_to_first_event", "stop_reason", "input_tokens", "output_tokens", "cache_read_input_tokens",
    "cache_creation_input_tokens", "cost_nanodollars", "unpriced", "usage_source", "session_id", "thread_root_id",
)  # fmt: skip
"""What is told of an interception in a list."""

_FROM_BOTH = {"answered_by": f"{_ANSWERED_BY} AS answered_by", "usage_source": "interceptions.usage_source"}
_COLUMNS = ", ".join(_FROM_BOTH.get(name, name) for name in ROW)
WITH_USAGE = "interceptions LEFT JOIN token_usages ON token_usages.interception_id = id"
_FLAGS = ("streaming", "terminal_event_seen")


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


_EQUALS = {
    "actor": "actor_id",
    "provider": "provider",
    "model": "model",
    "client": "client",
    "termination": "termination",
    "cause": "cause",
}
_OF_A_SESSION = (
    "(session_id = ? OR (+session_id IS NULL AND thread_root_id = ?)"
    " OR (+session_id IS NULL AND +thread_root_id IS NULL AND id = ?))"
)
"""As `ledger.SESSION` has it, spelt so that each part finds its index; a plus keeps a column's own index out of it."""


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
    for name, column in _EQUALS.items():
        if said[name] is not None:
            conditions.append(f"{column} = ?")
            values.append(said[name])
    if filters.session is not None:
        conditions.append(_OF_A_SESSION)
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
    conditions, values, time = where(filters)
    if after is not None:
        conditions += f" AND ({time}, id) < (?, ?)"
        values += after
    text = f"SELECT {_COLUMNS} FROM {WITH_USAGE} WHERE {conditions} ORDER BY {time} DESC, id DESC LIMIT ?"  # noqa: S608 - our own names
    rows = [_flagged(row) for row in query(text, [*values, limit + 1])]
    page = rows[:limit]
    return page, Place(page[-1]["started_at"], page[-1]["id"]) if len(rows) > limit else None


def interception(query: Query, interception_id: str) -> Fields | None:
    """Return one interception with all that is kept of it, long texts cut; None where there is none."""
    rows = query(
        f"SELECT interceptions.*, {_COUNTS}, cost_nanodollars, unpriced"  # noqa: S608 - our own names
        f" FROM {WITH_USAGE} WHERE id = ?",
        (interception_id,),
    )
    if not rows:
        return None
    row = _flagged(rows[0])
    attempts = _parts(query, ATTEMPTS, interception_id)
    for attempt in attempts:
        ledger.name_who_was_asked(attempt, row)
    usage = _parts(query, TOKEN_USAGES, interception_id)
    return {
        **row,
        "answered_by": row["answered_by"] or row["provider"],
        "attempts": attempts,
        "tools": _parts(query, TOOL_USAGES, interception_id, arguments=MAX_PART_TEXT),
        "prompts": _parts(query, USER_PROMPTS, interception_id, prompt=MAX_PROMPT),
        "thoughts": _parts(query, MODEL_THOUGHTS, interception_id, thought=MAX_PART_TEXT),
        "usage": _opened(usage[0]) if usage else None,
    }


def _parts(query: Query, table: Table, interception_id: str, **cut: int) -> list[Fields]:
    """Return the rows of a table that belong to an interception; `cut` says how long the texts of a column may be."""
    columns = ", ".join(
        _cut(column.name, cut[column.name]) if column.name in cut else column.name for column in table.columns[1:]
    )
    text = (
        f"SELECT {columns} FROM {table.name} WHERE interception_id = ?"  # noqa: S608 - our own names
        f" ORDER BY {', '.join(table.key)} LIMIT {MAX_PARTS}"
    )
    return [_flagged(row) for row in query(text, (interception_id,))]


def _cut(column: str, most: int) -> str:
    cut = f"substr({column}, 1, {most}) || '{CUT}'"
    return f"CASE WHEN length({column}) > {most} THEN {cut} ELSE {column} END AS {column}"


def _opened(usage: Fields) -> Fields:
    """Return a row of `token_usages` whose JSON is values."""
    return {
        **usage,
        "extras": jsontext.loads(usage["extras"].encode()) if usage["extras"] else {},
        "turns": jsontext.loads(usage["turns"].encode()) if usage["turns"] else None,
    }


def _flagged(row: Fields) -> Fields:
    for name in _FLAGS:
        if row.get(name) is not None:
            row[name] = bool(row[name])
    return row


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
        for name, column in _EQUALS.items()
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
    text = f"SELECT {_COLUMNS} FROM {WITH_USAGE} WHERE interceptions.rowid IN ({marks}) ORDER BY ended_at"  # noqa: S608 - our own names
    return [_flagged(row) for row in query(text, places)]


def exported(query: Query, filters: Filters, after: Place | None, limit: int, *, whole: bool) -> list[Fields]:
    """Return a page of interceptions, the oldest first: rows as in a list, or with all that is kept of them."""
    if after is not None:
        filters = filters._replace(since=max(filters.since, after.started_at))
    conditions, values, time = where(filters)
    if after is not None:
        conditions += f" AND ({time}, id) > (?, ?)"
        values += after
    columns, tables = ("*", "interceptions") if whole else (_COLUMNS, WITH_USAGE)
    text = f"SELECT {columns} FROM {tables} WHERE {conditions} ORDER BY {time}, id LIMIT ?"  # noqa: S608 - our own names
    rows = query(text, [*values, limit])
    return ledger.whole(query, rows) if whole else [_flagged(row) for row in rows]


class SessionPlace(NamedTuple):
    """Where a page of sessions ends."""

    latest: float
    session: str
    actor: str


def sessions(
    query: Query, since: float, actor: str | None, after: SessionPlace | None, limit: int
) -> tuple[list[Fields], SessionPlace | None]:
    """Return a page of sessions, those with the latest interceptions first, and where it ends, as `interceptions`.

    Of each `SESSION_SHOWN` interceptions are told, the oldest; the sums are of all.
    """
    conditions = "started_at >= ?" + ("" if actor is None else " AND actor_id = ?")
    having = "" if after is None else "HAVING (max(started_at), session, actor_id) < (?, ?, ?)"
    text = f"""
    SELECT actor_id, {ledger.SESSION} AS session, max(started_at) AS latest FROM interceptions WHERE {conditions}
    GROUP BY 1, 2 {having} ORDER BY 3 DESC, 2 DESC, 1 DESC LIMIT ?
    """  # noqa: S608 - our own names
    found = query(text, [since, *([] if actor is None else [actor]), *(after or ()), limit + 1])
    page = found[:limit]
    items = [ledger.session(query, row["actor_id"], row["session"], since, SESSION_SHOWN, PROMPT_SHOWN) for row in page]
    if len(found) == len(page):
        return items, None
    return items, SessionPlace(page[-1]["latest"], page[-1]["session"], page[-1]["actor_id"])


def actors_of(query: Query, session: str) -> list[str]:
    """Return whose sessions have this name."""
    text = f"SELECT DISTINCT actor_id FROM interceptions WHERE {_OF_A_SESSION} ORDER BY 1 LIMIT 10"  # noqa: S608 - our own names
    return [row["actor_id"] for row in query(text, [session] * 3)]
