"""What is told of a recorded interception: its row in a list, and whole. One shape for commands, exports, admin API.

`aibridge/adminapi/openapi.json` describes it (`Row`, `Interception`). Read only; answers are ready for JSON.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from aibridge import jsontext
from aibridge.stores.base import (
    ADDRESS_VALUES,
    ATTEMPTS,
    COUNTS_VALUES,
    MODEL_THOUGHTS,
    TOKEN_USAGES,
    TOOL_USAGES,
    USER_PROMPTS,
    Fields,
    Query,
    Table,
)
from aibridge.text import CUT

ROW = (
    "id", "started_at", "ended_at", "duration", "actor_id", "actor_name", "provider", "answered_by", "model",
    "upstream_model", "client", "dialect", "route", "streaming", "termination", "cause", "error", "http_status",
    "time_to_first_event", "stop_reason", "input_tokens", "output_tokens", "cache_read_input_tokens",
    "cache_creation_input_tokens", "cost_nanodollars", "unpriced", "usage_source", "session_id", "thread_root_id",
)  # fmt: skip
"""What is told of an interception in a list."""

COUNTS = tuple(column.name for column in COUNTS_VALUES)
COSTED = (*COUNTS, "cost_nanodollars", "unpriced")
"""What a row tells of its tokens."""

FILTERED = {
    "actor": "actor_id",
    "provider": "provider",
    "model": "model",
    "client": "client",
    "termination": "termination",
    "cause": "cause",
}
"""What interceptions can be asked for by, and its column."""

WITH_USAGE = "interceptions LEFT JOIN token_usages ON token_usages.interception_id = id"
_COLUMNS = ", ".join("interceptions.usage_source" if name == "usage_source" else name for name in ROW)
SELECT_ROWS = f"SELECT {_COLUMNS} FROM {WITH_USAGE}"  # noqa: S608 - our own names
"""The beginning of a query for rows of a list; each is told by `told`."""

_ALL = -1
"""As SQLite's LIMIT has it."""
_WHO = tuple(column.name for column in ADDRESS_VALUES)
_FLAGS = ("streaming", "terminal_event_seen")
_PARTS = {
    "attempts": ATTEMPTS,
    "tools": TOOL_USAGES,
    "prompts": USER_PROMPTS,
    "thoughts": MODEL_THOUGHTS,
    "usage": TOKEN_USAGES,
}
"""What belongs to an interception, and its table."""


class Bounds(NamedTuple):
    """How much is told: rows of each kind that belong to interceptions, of all together, and characters of texts."""

    parts: int
    text: int
    prompt: int


def told(row: Fields) -> Fields:
    """Return a row of `interceptions` as it is told: it says who answered, also where that is whom it names anyway."""
    return {**_flagged(row), "answered_by": row["answered_by"] or row["provider"]}


def interception(query: Query, interception_id: str, bounds: Bounds | None = None) -> Fields | None:
    """Return one interception as `whole` tells it; None where there is none."""
    rows = query("SELECT * FROM interceptions WHERE id = ?", (interception_id,))
    return next(iter(whole(query, rows, bounds)), None)


def whole(query: Query, rows: Sequence[Fields], bounds: Bounds | None = None) -> list[Fields]:
    """Return rows of `interceptions`, of all their columns, with all that belongs to them, within bounds if any."""
    ids, most = [row["id"] for row in rows], _ALL if bounds is None else bounds.parts
    parts = {name: by_interception(query, table, ids, _columns(table, bounds), most) for name, table in _PARTS.items()}
    return [_whole(row, {name: of_all.get(row["id"], []) for name, of_all in parts.items()}) for row in rows]


def by_interception(
    query: Query, table: Table, ids: Sequence[str], columns: Iterable[str], most: int = _ALL
) -> dict[str, list[Fields]]:
    """Return columns of the rows that belong to interceptions, by their ids, each in its order; `most` of them all."""
    text = (
        f"SELECT interception_id, {', '.join(columns)} FROM {table.name}"  # noqa: S608 - our own names
        f" WHERE interception_id IN ({', '.join('?' for _ in ids)}) ORDER BY {', '.join(table.key)} LIMIT ?"
    )
    found: dict[str, list[Fields]] = {}
    for row in query(text, [*ids, most]):
        found.setdefault(row.pop("interception_id"), []).append(_flagged(row))
    return found


def _columns(table: Table, bounds: Bounds | None) -> Iterator[str]:
    texts = {} if bounds is None else {"prompt": bounds.prompt, "arguments": bounds.text, "thought": bounds.text}
    for name in (column.name for column in table.columns[1:]):
        most = texts.get(name)
        cut = f"CASE WHEN length({name}) > {most} THEN substr({name}, 1, {most}) || '{CUT}' ELSE {name} END AS {name}"
        yield name if most is None else cut


def _whole(row: Fields, parts: dict[str, list[Fields]]) -> Fields:
    usage = next(iter(parts["usage"]), None)
    for attempt in parts["attempts"]:
        if attempt["provider"] is None:  # it says nothing where its interception names who was asked
            attempt.update({name: row[name] for name in _WHO})
    return {
        **told(row),
        **{name: usage and usage[name] for name in COSTED},
        **parts,
        "usage": usage and _opened(usage),
    }


def _opened(usage: Fields) -> Fields:
    """Return a row of `token_usages` whose JSON is values."""
    return {
        **usage,
        "extras": jsontext.loads(usage["extras"].encode()) if usage["extras"] else {},
        "turns": jsontext.loads(usage["turns"].encode()) if usage["turns"] else None,
    }


def _flagged(row: Fields) -> Fields:
    """Return a row whose flags are true and false; a store has numbers."""
    return {**row, **{name: bool(row[name]) for name in _FLAGS if row.get(name) is not None}}
