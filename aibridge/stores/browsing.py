"""What the admin API asks the records: pages of interceptions, one whole, and how many ended how and how quickly.

Read only, as `ledger.py`, and each answer within a bound. Nothing that a request says becomes part of a statement: it
chooses among conditions that stand here, and its values are parameters.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from aibridge import jsontext
from aibridge.stores.base import ATTEMPTS, COUNTS_VALUES, MODEL_THOUGHTS, TOKEN_USAGES, TOOL_USAGES, USER_PROMPTS, Table
from aibridge.stores.ledger import Fields, Query
from aibridge.text import CUT

BUCKETS = {"minute": 60, "hour": 3600, "day": 86_400}
"""Seconds by which answers over time are cut."""

MAX_PARTS = 200
"""Attempts, tools and thoughts of one interception that are told."""
MAX_PART_TEXT = 16_384
"""Characters of each."""
MAX_PROMPT = 262_144
MAX_FACETS = 200

_ANSWERED_BY = "provider"

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
_WITH_USAGE = "interceptions LEFT JOIN token_usages ON token_usages.interception_id = id"
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
_ENDED = {True: "ended_at IS NULL", False: "ended_at IS NOT NULL"}


def _where(filters: Filters) -> tuple[str, list[Any]]:
    """Return the conditions, and the values of their parameters."""
    conditions: list[str] = ["started_at >= ?"]
    values: list[Any] = [filters.since]
    said = filters._asdict()
    if filters.until is not None:
        conditions.append("started_at < ?")
        values.append(filters.until)
    for name, column in _EQUALS.items():
        if said[name] is not None:
            conditions.append(f"{column} = ?")
            values.append(said[name])
    if filters.session is not None:
        conditions.append(_OF_A_SESSION)
        values += [filters.session] * 3
    if filters.running is not None:
        conditions.append(_ENDED[filters.running])
    return " AND ".join(conditions), values


def interceptions(query: Query, filters: Filters, after: Place | None, limit: int) -> tuple[list[Fields], Place | None]:
    """Return a page of interceptions, the newest first, and where it ends; None where nothing is behind it.

    Args:
        query: asks the store.
        filters: which.
        after: where the page before ended.
        limit: rows at most.
    """
    where, values = _where(filters)
    if after is not None:
        where += " AND (started_at, id) < (?, ?)"
        values += after
    order = "started_at DESC, id DESC"
    text = f"SELECT {_COLUMNS} FROM {_WITH_USAGE} WHERE {where} ORDER BY {order} LIMIT ?"  # noqa: S608 - our own names
    rows = [_flagged(row) for row in query(text, [*values, limit + 1])]
    page = rows[:limit]
    return page, Place(page[-1]["started_at"], page[-1]["id"]) if len(rows) > limit else None


def interception(query: Query, interception_id: str) -> Fields | None:
    """Return one interception with all that is kept of it, long texts cut; None where there is none."""
    rows = query(
        f"SELECT interceptions.*, {_ANSWERED_BY} AS answered_by, {_COUNTS}, cost_nanodollars, unpriced"  # noqa: S608 - our own names
        f" FROM {_WITH_USAGE} WHERE id = ?",
        (interception_id,),
    )
    if not rows:
        return None
    usage = _parts(query, TOKEN_USAGES, interception_id)
    return {
        **_flagged(rows[0]),
        "attempts": _parts(query, ATTEMPTS, interception_id),
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
    text = f"SELECT {_COLUMNS} FROM {_WITH_USAGE} WHERE interceptions.rowid IN ({marks}) ORDER BY ended_at"  # noqa: S608 - our own names
    return [_flagged(row) for row in query(text, places)]
