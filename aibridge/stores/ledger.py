"""What an operator asks the records: sessions, usage, everything. Read only, and beside a gateway that writes.

Answers are plain values: dictionaries and lists, ready for JSON.
"""

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from aibridge import jsontext
from aibridge.stores.base import (
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

GROUPS = ("day", "actor", "provider", "model", "client", "tool")
"""What usage can be summed by. By tool an interception counts under each that its model called, and not without one."""

_PAGE = 20
"""Interceptions read at once for an export, with all that is kept of them: some may have megabytes."""

_COUNTS = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
_SUMMED = (*_COUNTS, "cost_nanodollars")

SESSION = "coalesce(session_id, thread_root_id, id)"
"""A client's own session; else its thread; else it stands for itself. Sessions of two actors are never one."""

_LATEST_SESSIONS = f"""
SELECT actor_id, {SESSION} AS session FROM interceptions WHERE started_at >= ?
GROUP BY actor_id, session ORDER BY max(started_at) DESC LIMIT ?
"""  # noqa: S608 - our own names

_OF_IT = """
actor_id IS ?1 AND started_at >= ?2 AND (
    session_id = ?3
    OR (+session_id IS NULL AND thread_root_id = ?3)
    OR (+session_id IS NULL AND +thread_root_id IS NULL AND id = ?3)
)
"""
# The same as above, spelt so that each line finds its index; a plus keeps a column's own index out of it.

_OF_A_SESSION = f"""
SELECT interceptions.*, {", ".join(_SUMMED)}, unpriced, substr(prompt, 1, ?4) AS prompt,
token_usages.interception_id IS NOT NULL AS counted FROM interceptions
LEFT JOIN token_usages ON token_usages.interception_id = id
LEFT JOIN user_prompts ON user_prompts.interception_id = id
WHERE {_OF_IT} ORDER BY id LIMIT ?5
"""  # noqa: S608 - our own names

_TOTALS = ", ".join(f"total({name}) AS {name}" for name in _SUMMED)
_SUMS_OF_A_SESSION = f"""
SELECT count(*) AS interceptions, max(ended_at) AS ended_at, {_TOTALS},
count(token_usages.interception_id) AS counted, count(cost_nanodollars) AS priced
FROM interceptions LEFT JOIN token_usages ON token_usages.interception_id = id WHERE {_OF_IT}
"""  # noqa: S608 - our own names

_COLUMN_OF = {
    "day": "date(started_at, 'unixepoch')",
    "actor": "actor_id",
    "provider": "coalesce(answered_by, provider)",
    "model": "model",
    "client": "client",
    "tool": "tool",
}
_CALLED = """
JOIN (
    SELECT interception_id AS caller, tool, count(*) AS calls FROM tool_usages
    WHERE interception_id IN (SELECT id FROM interceptions WHERE started_at >= ?1 AND started_at < ?2) GROUP BY 1, 2
) ON caller = id
"""
_ALL = sys.maxsize
_LONGEST = 10**9
"""Characters that a text of SQLite's can have."""
_FOR_EVER = math.inf


def sessions(query: Query, since: float, limit: int) -> list[Fields]:
    """Return the latest sessions, the newest first, with their threads and interceptions.

    Args:
        query: asks the store.
        since: what began before is left out.
        limit: sessions at most.
    """
    return [session(query, row["actor_id"], row["session"], since) for row in query(_LATEST_SESSIONS, (since, limit))]


def session(query: Query, actor: str, name: str, since: float, most: int = _ALL, prompt: int = _LONGEST) -> Fields:
    """Return one session with its threads and interceptions; without any where there is none.

    Args:
        query: asks the store.
        actor: whose it is.
        name: as the list of sessions has it.
        since: what began before is left out.
        most: interceptions that are shown, the oldest; the sums are of all.
        prompt: characters of each that are shown.
    """
    rows = query(_OF_A_SESSION, (actor, since, name, prompt, most))
    found = _session(name, rows, query)
    if len(rows) < most:
        return found
    return {**found, **_sums(query(_SUMS_OF_A_SESSION, (actor, since, name))[0])}


def usage(query: Query, since: float, by: Sequence[str], until: float | None = None, most: int = _ALL) -> list[Fields]:
    """Return requests, tokens and costs, summed.

    `partial` counts answers that broke off, and whose tokens and costs are too small; `unpriced` those whose tokens
    have no cost, which is missing from the sum. The sum is None where not one has a cost.

    Args:
        query: asks the store.
        since: what began before is left out.
        by: names of `GROUPS`.
        until: what began then, or later, is left out.
        most: rows at most.
    """
    # A sum of 64-bit numbers may not fit 64 bits: their halves are summed apart.
    halves = (f"sum({count} >> 32) AS {count}_high, sum({count} & 4294967295) AS {count}_low" for count in _SUMMED)
    columns = ", ".join(f"{_COLUMN_OF[name]} AS {name}" for name in by)
    calls, called = ("sum(calls) AS calls,", _CALLED) if "tool" in by else ("", "")
    places = ", ".join(str(place) for place in range(1, len(by) + 1))
    text = f"""
    SELECT {columns}, {calls} count(*) AS requests, sum(termination = 'completed') AS completed,
    sum(interceptions.usage_source = 'provider_partial') AS partial,
    sum(token_usages.interception_id IS NOT NULL AND cost_nanodollars IS NULL) AS unpriced, {", ".join(halves)}
    FROM interceptions LEFT JOIN token_usages ON token_usages.interception_id = id {called}
    WHERE started_at >= ?1 AND started_at < ?2 GROUP BY {places} ORDER BY {places} LIMIT ?3
    """  # noqa: S608 - our own names
    return [_summed(row) for row in query(text, (since, _FOR_EVER if until is None else until, most))]


def count(query: Query, since: float) -> int:
    """Return how many interceptions an export has."""
    return int(query("SELECT count(*) AS number FROM interceptions WHERE started_at >= ?", (since,))[0]["number"])


def export(query: Query, since: float) -> Iterator[Fields]:
    """Yield every interception with all that belongs to it, the oldest first."""
    at, last = since, ""
    while True:
        page = query(
            "SELECT * FROM interceptions WHERE started_at >= ? AND (started_at, id) > (?, ?)"
            " ORDER BY started_at, id LIMIT ?",
            (since, at, last, _PAGE),
        )
        yield from whole(query, page)
        if len(page) < _PAGE:
            return
        at, last = page[-1]["started_at"], page[-1]["id"]


_WHO = ("provider", "provider_kind", "upstream_model", "credential_kind", "credential_hint")
"""Columns that attempts and interceptions have in common."""


def name_who_was_asked(attempt: Fields, row: Fields) -> None:
    """Complete a row of `attempts`, which says nothing where its interception's names who was asked."""
    if attempt["provider"] is None:
        attempt.update({name: row[name] for name in _WHO})


def one(query: Query, interception_id: str) -> Fields | None:
    """Return an interception as an export has it; None where there is none."""
    return next(iter(whole(query, query("SELECT * FROM interceptions WHERE id = ?", (interception_id,)))), None)


def whole(query: Query, rows: Sequence[Fields]) -> list[Fields]:
    """Return rows of `interceptions` with all that belongs to them."""
    ids = [row["id"] for row in rows]
    parts = {
        "attempts": _by_id(query, ATTEMPTS, ids),
        "usage": _by_id(query, TOKEN_USAGES, ids),
        "prompts": _by_id(query, USER_PROMPTS, ids),
        "tools": _by_id(query, TOOL_USAGES, ids),
        "thoughts": _by_id(query, MODEL_THOUGHTS, ids),
    }
    found = []
    for row in rows:
        for attempt in parts["attempts"].get(row["id"], []):
            name_who_was_asked(attempt, row)
        usages = parts["usage"].get(row["id"], [])
        found.append(
            {
                **row,
                **{name: of_all.get(row["id"], []) for name, of_all in parts.items()},
                "usage": _with_extras(usages[0]) if usages else None,
            }
        )
    return found


def _by_id(query: Query, table: Table, ids: Sequence[str], columns: str = "*") -> dict[str, list[Fields]]:
    """Return the rows of a table that belong to some interceptions; `columns` begin with `interception_id`."""
    found: dict[str, list[Fields]] = {}
    marks = ", ".join("?" for _ in ids)
    text = f"SELECT {columns} FROM {table.name} WHERE interception_id IN ({marks}) ORDER BY {', '.join(table.key)}"  # noqa: S608
    for row in query(text, ids):
        found.setdefault(row.pop("interception_id"), []).append(row)
    return found


def _with_extras(row: Fields) -> Fields:
    return {**row, "extras": jsontext.loads(row["extras"].encode()) if row["extras"] else {}}


def _session(name: str, rows: list[Fields], query: Query) -> Fields:
    tools = _by_id(query, TOOL_USAGES, [row["id"] for row in rows], "interception_id, tool") if rows else {}
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


def _sums(row: Fields) -> Fields:
    """Return the sums of a session of which not all is shown."""
    unpriced = row["counted"] - row["priced"]
    return {
        "ended_at": row["ended_at"],
        "interceptions": row["interceptions"],
        **{count: int(row[count]) for count in _COUNTS},
        "cost_nanodollars": None if unpriced and not row["priced"] else int(row["cost_nanodollars"]),
        "unpriced": unpriced,
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
