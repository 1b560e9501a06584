"""What an operator asks the records: a session, and usage. Read only, and beside a gateway that writes.

Answers are plain values: dictionaries and lists, ready for JSON.
"""

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from aibridge.stores.base import TOOL_USAGES, Fields, Query
from aibridge.stores.recorded import COUNTS, WITH_USAGE, by_interception, told

GROUPS = ("day", "actor", "provider", "model", "client", "tool")
"""What usage can be summed by. By tool an interception counts under each that its model called, and not without one."""

_SUMMED = (*COUNTS, "cost_nanodollars")

SESSION = "coalesce(session_id, thread_root_id, id)"
"""A client's own session; else its thread; else it stands for itself. Sessions of two actors are never one."""

OF_A_SESSION = (
    "(session_id = ? OR (+session_id IS NULL AND thread_root_id = ?)"
    " OR (+session_id IS NULL AND +thread_root_id IS NULL AND id = ?))"
)
"""The condition for the interceptions of one, its name three times; spelt so that each part finds its index: a plus
keeps a column's own index out of it."""

_OF_ACTORS = f"actor_id IS ? AND started_at >= ? AND {OF_A_SESSION}"
_OF_A_SESSION = f"""
SELECT interceptions.*, {", ".join(_SUMMED)}, unpriced, substr(prompt, 1, ?) AS prompt,
token_usages.interception_id IS NOT NULL AS counted FROM {WITH_USAGE}
LEFT JOIN user_prompts ON user_prompts.interception_id = id
WHERE {_OF_ACTORS} ORDER BY id LIMIT ?
"""  # noqa: S608 - our own names

_TOTALS = ", ".join(f"total({name}) AS {name}" for name in _SUMMED)
_SUMS_OF_A_SESSION = f"""
SELECT count(*) AS interceptions, max(ended_at) AS ended_at, {_TOTALS},
count(token_usages.interception_id) AS counted, count(cost_nanodollars) AS priced
FROM {WITH_USAGE} WHERE {_OF_ACTORS}
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


class Shown(NamedTuple):
    """How much of a session is shown: interceptions, the oldest, and characters of their prompts. Sums are of all."""

    interceptions: int = _ALL
    prompt: int = _LONGEST


ALL_SHOWN = Shown()


def session(query: Query, actor: str, name: str, since: float, shown: Shown = ALL_SHOWN) -> Fields:
    """Return one session with its threads and interceptions; without any where there is none.

    Args:
        query: asks the store.
        actor: whose it is.
        name: as the list of sessions has it.
        since: what began before is left out.
        shown: how much of it.
    """
    of_it = (actor, since, name, name, name)
    rows = [told(row) for row in query(_OF_A_SESSION, (shown.prompt, *of_it, shown.interceptions))]
    found = _session(name, rows, query)
    if len(rows) < shown.interceptions:
        return found
    return {**found, **_sums(query(_SUMS_OF_A_SESSION, of_it)[0])}


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
    FROM {WITH_USAGE} {called}
    WHERE started_at >= ?1 AND started_at < ?2 GROUP BY {places} ORDER BY {places} LIMIT ?3
    """  # noqa: S608 - our own names
    return [_summed(row) for row in query(text, (since, _FOR_EVER if until is None else until, most))]


def _session(name: str, rows: list[Fields], query: Query) -> Fields:
    tools = by_interception(query, TOOL_USAGES, [row["id"] for row in rows], ["tool"])
    threads: dict[str, list[Fields]] = {}
    for row in rows:
        threads.setdefault(row["thread_root_id"] or row["id"], []).append(row)
    return {
        "session": name,
        "actor": _first(rows, "actor_id"),
        "client": _first(rows, "client"),
        "providers": _distinct(rows, "answered_by"),
        "models": _distinct(rows, "model"),
        "started_at": _first(rows, "started_at"),
        "ended_at": max((row["ended_at"] for row in rows if row["ended_at"] is not None), default=None),
        "interceptions": len(rows),
        **{count: sum(row[count] or 0 for row in rows) for count in COUNTS},
        **_costs(rows),
        "threads": [_thread(root, members, tools) for root, members in threads.items()],
    }


def _sums(row: Fields) -> Fields:
    """Return the sums of a session of which not all is shown."""
    unpriced = row["counted"] - row["priced"]
    return {
        "ended_at": row["ended_at"],
        "interceptions": row["interceptions"],
        **{count: int(row[count]) for count in COUNTS},
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
