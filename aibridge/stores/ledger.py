"""What an operator asks the records: sessions, usage, everything. Read only, and beside a gateway that writes.

Answers are plain values: dictionaries and lists, ready for JSON.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from aibridge import jsontext
from aibridge.stores.base import (
    ADDRESS_VALUES,
    ATTEMPTS,
    MODEL_THOUGHTS,
    TOKEN_USAGES,
    TOOL_USAGES,
    USER_PROMPTS,
    Table,
)

Fields = dict[str, Any]
Query = Callable[[str, Sequence[Any]], list[Fields]]
"""Runs a query on the store with parameters, and gives its rows by column; see `aibridge.stores.sqlite.querying`."""

GROUPS = ("day", "actor", "provider", "model", "client")
"""What usage can be summed by."""

_PAGE = 20
"""Interceptions read at once for an export, with all that is kept of them: some may have megabytes."""

_COUNTS = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
_SUMMED = (*_COUNTS, "cost_nanodollars")

# A client's own session; else its thread; else it stands for itself. Sessions of two actors are never one.
_SESSION = "coalesce(session_id, thread_root_id, id)"

_LATEST_SESSIONS = f"""
SELECT actor_id, {_SESSION} AS session FROM interceptions WHERE started_at >= ?
GROUP BY actor_id, session ORDER BY max(started_at) DESC LIMIT ?
"""  # noqa: S608 - our own names

_OF_A_SESSION = f"""
SELECT interceptions.*, {", ".join(_SUMMED)}, unpriced, prompt,
token_usages.interception_id IS NOT NULL AS counted FROM interceptions
LEFT JOIN token_usages ON token_usages.interception_id = id
LEFT JOIN user_prompts ON user_prompts.interception_id = id
WHERE actor_id IS ?1 AND started_at >= ?2 AND (
    session_id = ?3
    OR (+session_id IS NULL AND thread_root_id = ?3)
    OR (+session_id IS NULL AND +thread_root_id IS NULL AND id = ?3)
) ORDER BY id
"""  # noqa: S608 - our own names
# The same as above, spelt so that each line finds its index; a plus keeps a column's own index out of it.

_COLUMN_OF = {
    "day": "date(started_at, 'unixepoch')",
    "actor": "actor_id",
    "provider": "coalesce(answered_by, provider)",
    "model": "model",
    "client": "client",
}


def sessions(query: Query, since: float, limit: int) -> list[Fields]:
    """Return the latest sessions, the newest first, with their threads and interceptions.

    Args:
        query: asks the store.
        since: what began before is left out.
        limit: sessions at most.
    """
    return [
        _session(row["session"], query(_OF_A_SESSION, (row["actor_id"], since, row["session"])), query)
        for row in query(_LATEST_SESSIONS, (since, limit))
    ]


def usage(query: Query, since: float, by: Sequence[str]) -> list[Fields]:
    """Return requests, tokens and costs, summed.

    `partial` counts answers that broke off, and whose tokens and costs are too small; `unpriced` those whose tokens
    have no cost, which is missing from the sum. The sum is None where not one has a cost.

    Args:
        query: asks the store.
        since: what began before is left out.
        by: names of `GROUPS`.
    """
    # A sum of 64-bit numbers may not fit 64 bits: their halves are summed apart.
    halves = (f"sum({count} >> 32) AS {count}_high, sum({count} & 4294967295) AS {count}_low" for count in _SUMMED)
    columns = ", ".join(f"{_COLUMN_OF[name]} AS {name}" for name in by)
    places = ", ".join(str(place) for place in range(1, len(by) + 1))
    text = f"""
    SELECT {columns}, count(*) AS requests, sum(termination = 'completed') AS completed,
    sum(interceptions.usage_source = 'provider_partial') AS partial,
    sum(token_usages.interception_id IS NOT NULL AND cost_nanodollars IS NULL) AS unpriced, {", ".join(halves)}
    FROM interceptions LEFT JOIN token_usages ON token_usages.interception_id = id
    WHERE started_at >= ? GROUP BY {places} ORDER BY {places}
    """  # noqa: S608 - our own names
    return [_summed(row) for row in query(text, (since,))]


def export(query: Query, since: float) -> Iterator[Fields]:
    """Yield every interception with all that belongs to it, the oldest first."""
    at, last = since, ""
    while True:
        page = query(
            "SELECT * FROM interceptions WHERE started_at >= ? AND (started_at, id) > (?, ?)"
            " ORDER BY started_at, id LIMIT ?",
            (since, at, last, _PAGE),
        )
        ids = [row["id"] for row in page]
        parts = {
            "attempts": _by_id(query, ATTEMPTS, ids),
            "usage": _by_id(query, TOKEN_USAGES, ids),
            "prompts": _by_id(query, USER_PROMPTS, ids),
            "tools": _by_id(query, TOOL_USAGES, ids),
            "thoughts": _by_id(query, MODEL_THOUGHTS, ids),
        }
        for row in page:
            for attempt in parts["attempts"].get(row["id"], []):
                if attempt["provider"] is None:
                    attempt.update({name: row[name] for name in _WHO})
            usages = parts["usage"].get(row["id"], [])
            yield {
                **row,
                **{name: rows.get(row["id"], []) for name, rows in parts.items()},
                "usage": _with_extras(usages[0]) if usages else None,
            }
        if len(page) < _PAGE:
            return
        at, last = page[-1]["started_at"], page[-1]["id"]


_WHO = tuple(column.name for column in ADDRESS_VALUES)
"""Of an attempt, as of the interception where it says nothing else."""


def _by_id(query: Query, table: Table, ids: Sequence[str]) -> dict[str, list[Fields]]:
    """Return the rows of a table that belong to some interceptions."""
    found: dict[str, list[Fields]] = {}
    marks = ", ".join("?" for _ in ids)
    text = f"SELECT * FROM {table.name} WHERE interception_id IN ({marks}) ORDER BY {', '.join(table.key)}"  # noqa: S608
    for row in query(text, ids):
        found.setdefault(row.pop("interception_id"), []).append(row)
    return found


def _with_extras(row: Fields) -> Fields:
    return {**row, "extras": jsontext.loads(row["extras"].encode()) if row["extras"] else {}}


def _session(name: str, rows: list[Fields], query: Query) -> Fields:
    tools = _by_id(query, TOOL_USAGES, [row["id"] for row in rows]) if rows else {}
    threads: dict[str, list[Fields]] = {}
    for row in rows:
        threads.setdefault(row["thread_root_id"] or row["id"], []).append(row)
    return {
        "session": name,
        "actor": _first(rows, "actor_id"),
        "client": _first(rows, "client"),
        "providers": _distinct([{"by": row["answered_by"] or row["provider"]} for row in rows], "by"),
        "models": _distinct(rows, "model"),
        "started_at": _first(rows, "started_at"),
        "ended_at": max((row["ended_at"] for row in rows if row["ended_at"] is not None), default=None),
        "interceptions": len(rows),
        **{count: sum(row[count] or 0 for row in rows) for count in _COUNTS},
        **_costs(rows),
        "threads": [_thread(root, members, tools) for root, members in threads.items()],
    }


def _costs(rows: Sequence[Fields]) -> Fields:
    """Return the sum of the costs, None where not one is known, and how many are not."""
    costs = [row["cost_nanodollars"] for row in rows if row["cost_nanodollars"] is not None]
    unpriced = sum(row["counted"] for row in rows) - len(costs)
    return {"cost_nanodollars": None if unpriced and not costs else sum(costs), "unpriced": unpriced}


def _thread(root: str, rows: list[Fields], tools: Mapping[str, list[Fields]]) -> Fields:
    return {
        "thread": root,
        "prompt": _first(rows, "prompt"),
        "interceptions": [
            {
                **{name: row[name] for name in _SHOWN},
                "tools": [tool["tool"] for tool in tools.get(row["id"], [])],
            }
            for row in rows
        ],
    }


_SHOWN = (
    "id", "started_at", "duration", "provider", "answered_by", "model", "streaming", "termination", "cause",
    "stop_reason", "thread_parent_id", "usage_source", *_SUMMED, "unpriced",
)  # fmt: skip


def _first(rows: Iterable[Fields], name: str) -> Any:
    return next((row[name] for row in rows if row[name] is not None), None)


def _distinct(rows: Iterable[Fields], name: str) -> list[Any]:
    return list(dict.fromkeys(row[name] for row in rows if row[name] is not None))


def _summed(row: Fields) -> Fields:
    sums = {}
    for count in _SUMMED:
        high, low = row.pop(f"{count}_high"), row.pop(f"{count}_low")
        sums[count] = None if high is None else (high << 32) + low
    cost, unpriced = sums.pop("cost_nanodollars"), row.pop("unpriced") or 0
    return {
        **{name: 0 if value is None and name in _SUMS else value for name, value in row.items()},
        **{count: value or 0 for count, value in sums.items()},
        "cost_nanodollars": None if cost is None and unpriced else cost or 0,
        "unpriced": unpriced,
    }


_SUMS = frozenset({"completed", "partial"})
