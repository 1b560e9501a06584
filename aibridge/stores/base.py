"""What a store is, and what is stored: the tables, once for all stores, and the rows from our values.

Times are UTC seconds since the epoch as REAL, which sorts, subtracts and needs no parser; durations are seconds. Text
that nobody said is NULL, and so is a count that nobody told. This file knows no database.
"""

import json
from collections.abc import Callable, Sequence
from enum import StrEnum
from operator import attrgetter
from typing import Any, NamedTuple, Protocol

from aibridge.errors import AibridgeError
from aibridge.text import CUT, bounded
from aibridge.values import MAX_CONTENT_BYTES, Attempt, Interception, Outcome, Thought, ToolUse, UsageSource, UserPrompt
from aibridge.values import Learned as Fact

SCHEMA_VERSION = 2
"""Raised with every change of `TABLES`; the change itself is a line of `MIGRATIONS`."""

MAX_TEXT_BYTES = 1024
"""Of any text in a row: clients and upstreams choose most of them."""

_MAX_INTEGER = 2**63 - 1


class StoreUnavailable(AibridgeError):
    """The store cannot take anything now: locked, full, away. What was not taken may be offered again."""


class StoreRefused(AibridgeError):
    """The store will never take this: offered again it is refused again."""


class Opened(NamedTuple):
    """An interception was accepted."""

    interception: Interception


class Learned(NamedTuple):
    """Something of an interception's content became known; `number` tells it from all others of the interception."""

    interception: Interception
    fact: Fact
    message_id: str
    number: int
    created_at: float


class Attempted(NamedTuple):
    """An attempt ended."""

    interception: Interception
    attempt: Attempt


class Closed(NamedTuple):
    """An interception ended."""

    interception: Interception
    outcome: Outcome


Record = Opened | Learned | Attempted | Closed
"""What is recorded, in the order in which it happened."""


class Store(Protocol):
    """Where records are kept. Called by one thread at a time, and may block it."""

    def write(self, records: Sequence[Record]) -> None:
        """Keep all of them or none. A record already kept changes nothing.

        Raises `StoreUnavailable` or `StoreRefused`.
        """

    def close(self) -> None:
        """Let go of the store. Never raises."""


class Type(StrEnum):
    """Type of a column, as SQLite and PostgreSQL both know it."""

    TEXT = "TEXT"
    INTEGER = "BIGINT"
    REAL = "DOUBLE PRECISION"


class Column(NamedTuple):
    """A column; `path` leads to its value from the object that the row is made of."""

    name: str
    type: Type
    path: str


class Table(NamedTuple):
    """A table; `key` names the columns that make a row the same row, an index its columns, with commas."""

    name: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    indexes: tuple[str, ...] = ()


Row = tuple[Any, ...]


def _row_of(columns: Sequence[Column]) -> Callable[[Any], Row]:
    """Return what makes a row, quickly: where all texts together are short and plain, none need be cut."""
    values = attrgetter(*(column.path for column in columns))
    texts = attrgetter(*(column.path for column in columns if column.type is Type.TEXT))

    def row(source: Any) -> Row:
        text = "".join(texts(source))
        if text.isascii() and len(text) <= MAX_TEXT_BYTES:
            return tuple([None if value == "" else value for value in values(source)])
        return tuple(map(_storable, values(source)))

    return row


def _storable(value: object) -> object:
    return (bounded(value, MAX_TEXT_BYTES) or None) if isinstance(value, str) else value


def _count(value: int | None) -> int | None:
    # An upstream may tell any number; a column holds 64 bits.
    return None if value is None else max(-_MAX_INTEGER, min(value, _MAX_INTEGER))


_EVIDENCE = (
    Column("terminal_event_seen", Type.INTEGER, "evidence.terminal_event_seen"),
    Column("last_event", Type.TEXT, "evidence.last_event"),
    Column("events", Type.INTEGER, "evidence.events"),
    Column("bytes_in", Type.INTEGER, "evidence.bytes_in"),
    Column("bytes_out", Type.INTEGER, "evidence.bytes_out"),
    Column("http_status", Type.INTEGER, "evidence.http_status"),
    Column("upstream_request_id", Type.TEXT, "evidence.upstream_request_id"),
    Column("time_to_first_event", Type.REAL, "evidence.time_to_first_event"),
)

_END = (
    Column("duration", Type.REAL, "duration"),
    Column("termination", Type.TEXT, "termination.value"),
    Column("cause", Type.TEXT, "cause.value"),
    Column("error", Type.TEXT, "error"),
    *_EVIDENCE,
)

_OPENED = (
    Column("id", Type.TEXT, "id"),
    Column("started_at", Type.REAL, "started_at"),
    Column("actor_id", Type.TEXT, "actor.id"),
    Column("actor_name", Type.TEXT, "actor.name"),
    Column("credential_kind", Type.TEXT, "credential.kind.value"),
    Column("credential_hint", Type.TEXT, "credential.hint"),
    Column("provider", Type.TEXT, "provider"),
    Column("provider_kind", Type.TEXT, "provider_kind"),
    Column("dialect", Type.TEXT, "dialect"),
    Column("route", Type.TEXT, "route"),
    Column("request_path", Type.TEXT, "request_path"),
    Column("method", Type.TEXT, "method"),
    Column("model", Type.TEXT, "model"),
    Column("upstream_model", Type.TEXT, "upstream_model"),
    Column("streaming", Type.INTEGER, "streaming"),
    Column("client", Type.TEXT, "client"),
    Column("user_agent", Type.TEXT, "user_agent"),
    Column("request_bytes", Type.INTEGER, "request_bytes"),
    Column("traceparent", Type.TEXT, "traceparent"),
    Column("session_id", Type.TEXT, "session_id"),
    Column("correlating_tool_call_id", Type.TEXT, "correlating_tool_call_id"),
)

_LINEAGE = (
    Column("thread_parent_id", Type.TEXT, ""),
    Column("thread_root_id", Type.TEXT, ""),
)
"""Found by the store itself: `LINEAGE`."""

_CLOSED = (
    Column("ended_at", Type.REAL, "ended_at"),
    *_END,
    Column("message_id", Type.TEXT, "message_id"),
    Column("response_model", Type.TEXT, "response_model"),
    Column("stop_reason", Type.TEXT, "stop_reason"),
    Column("usage_source", Type.TEXT, "usage_source.value"),
)

_ATTEMPT = (
    Column("number", Type.INTEGER, "number"),
    Column("origin", Type.TEXT, "origin"),
    Column("started_at", Type.REAL, "started_at"),
    *_END,
)

_USAGE = (
    Column("created_at", Type.REAL, "ended_at"),
    Column("message_id", Type.TEXT, "message_id"),
    Column("usage_source", Type.TEXT, "usage_source.value"),
)

_COUNTS = (
    Column("input_tokens", Type.INTEGER, "usage.input_tokens"),
    Column("output_tokens", Type.INTEGER, "usage.output_tokens"),
    Column("cache_read_input_tokens", Type.INTEGER, "usage.cache_read_input_tokens"),
    Column("cache_creation_input_tokens", Type.INTEGER, "usage.cache_creation_input_tokens"),
)

_INTERCEPTION_ID = Column("interception_id", Type.TEXT, "id")
_EXTRAS = Column("extras", Type.TEXT, "usage.extras")

INTERCEPTIONS = Table(
    "interceptions", ("id",), _OPENED + _CLOSED + _LINEAGE, indexes=("started_at", "session_id", "thread_root_id")
)
"""One row each. `ended_at` is null while it runs. `error` is null for a completed one.

An interception that answers a tool call belongs to a thread: its parent is the one that called the tool, its root the
first of them. Both are null for a root, and where the parent is not known.
"""

ATTEMPTS = Table("attempts", ("interception_id", "number"), (_INTERCEPTION_ID, *_ATTEMPT))

TOKEN_USAGES = Table("token_usages", ("interception_id",), (_INTERCEPTION_ID, *_USAGE, *_COUNTS, _EXTRAS))
"""The provider's own counts; no row where it told none. `extras` is a JSON object of further counts."""

USER_PROMPTS = Table(
    "user_prompts",
    ("interception_id",),
    (
        _INTERCEPTION_ID,
        Column("created_at", Type.REAL, ""),
        Column("prompt", Type.TEXT, ""),
    ),
)
"""What the user asked; no row where nobody did, or it is not kept."""

TOOL_USAGES = Table(
    "tool_usages",
    ("interception_id", "number"),
    (
        _INTERCEPTION_ID,
        Column("number", Type.INTEGER, ""),
        Column("created_at", Type.REAL, ""),
        Column("message_id", Type.TEXT, ""),
        Column("tool_call_id", Type.TEXT, ""),
        Column("tool", Type.TEXT, ""),
        Column("arguments", Type.TEXT, ""),
    ),
    indexes=("tool_call_id, created_at",),
)
"""The tools that the model called, in the order of `number`. `arguments` is null where they are not kept."""

MODEL_THOUGHTS = Table(
    "model_thoughts",
    ("interception_id", "number"),
    (
        _INTERCEPTION_ID,
        Column("number", Type.INTEGER, ""),
        Column("created_at", Type.REAL, ""),
        Column("message_id", Type.TEXT, ""),
        Column("source", Type.TEXT, ""),
        Column("thought", Type.TEXT, ""),
    ),
)
"""What the model thought aloud, in the order of `number`."""

TABLES = (INTERCEPTIONS, ATTEMPTS, TOKEN_USAGES, USER_PROMPTS, TOOL_USAGES, MODEL_THOUGHTS)

LINEAGE = """
UPDATE interceptions SET (thread_parent_id, thread_root_id) = (
    SELECT parent.id, coalesce(parent.thread_root_id, parent.id)
    FROM tool_usages JOIN interceptions AS parent ON parent.id = tool_usages.interception_id
    WHERE tool_usages.tool_call_id = interceptions.correlating_tool_call_id
    AND parent.actor_id = interceptions.actor_id AND parent.id < interceptions.id
    ORDER BY tool_usages.created_at DESC LIMIT 1
) WHERE id = ? AND thread_parent_id IS NULL
"""
"""Gives an interception its place in a thread: behind the latest one of the same actor that called the tool.

Only one that began earlier can be its parent, so that threads never close a circle: ids sort by time. Nobody gets into
another's thread by naming a tool call of theirs.
"""

OPENED_COLUMNS = tuple(column.name for column in _OPENED)
CLOSED_COLUMNS = tuple(column.name for column in _CLOSED)

_opened_row = _row_of(_OPENED)
_closed_row = _row_of(_CLOSED)
_attempt_row = _row_of(_ATTEMPT)
_usage_row = _row_of(_USAGE)
_counts = attrgetter(*(column.path for column in _COUNTS))


class Rows(NamedTuple):
    """The rows of some records, table by table, each in the order of its table's columns."""

    opened: list[Row]
    """Of `INTERCEPTIONS`, the first columns only: those of `OPENED_COLUMNS`."""
    closed: list[Row]
    """Of `INTERCEPTIONS`, whole: should the opening have been lost, nothing is missing."""
    attempts: list[Row]
    token_usages: list[Row]
    user_prompts: list[Row]
    tool_usages: list[Row]
    model_thoughts: list[Row]
    answering: list[str]
    """Ids of interceptions that answer a tool call, in the order in which they began; see `LINEAGE`."""


def rows_of(records: Sequence[Record]) -> Rows:
    """Return the rows for some records. One that opens and closes among them is written once, at its end."""
    closed = {record.interception.id for record in records if isinstance(record, Closed)}
    rows = Rows([], [], [], [], [], [], [], [])
    answering = set()
    for record in records:
        if isinstance(record, Attempted):
            rows.attempts.append((record.interception.id, *_attempt_row(record.attempt)))
            continue
        if isinstance(record, Learned):
            _learn(record, rows)
            continue
        if record.interception.correlating_tool_call_id:
            answering.add(record.interception.id)
        if isinstance(record, Closed):
            _close(record, rows)
        elif record.interception.id not in closed:
            rows.opened.append(_opened_row(record.interception))
    rows.answering.extend(sorted(answering))
    return rows


def _learn(record: Learned, rows: Rows) -> None:
    interception, fact, message_id, number, created_at = record
    head = (interception.id, number, created_at, _storable(message_id))
    if isinstance(fact, UserPrompt):
        rows.user_prompts.append((interception.id, created_at, _content(fact.text)))
    elif isinstance(fact, ToolUse):
        rows.tool_usages.append((*head, _storable(fact.id), _storable(fact.name), _content(fact.arguments)))
    elif isinstance(fact, Thought):
        rows.model_thoughts.append((*head, _storable(fact.source), _content(fact.text)))


def _content(text: str) -> str | None:
    return bounded(text, MAX_CONTENT_BYTES + len(CUT.encode())) or None


def _close(record: Closed, rows: Rows) -> None:
    interception, outcome = record
    rows.closed.append(_opened_row(interception) + _closed_row(outcome))
    if outcome.usage_source is not UsageSource.NONE:
        extras = json.dumps(dict(outcome.usage.extras)) if outcome.usage.extras else None
        rows.token_usages.append((interception.id, *_usage_row(outcome), *map(_count, _counts(outcome)), extras))


def create_statements(table: Table) -> list[str]:
    """Return the SQL that creates a table and its indexes."""
    columns = [f"{column.name} {column.type}" for column in table.columns]
    primary = f"PRIMARY KEY ({', '.join(table.key)})"
    create = f"CREATE TABLE {table.name} ({', '.join([*columns, primary])})"
    names = {columns: f"{table.name}_{columns.replace(', ', '_')}" for columns in table.indexes}
    return [create, *(f"CREATE INDEX {name} ON {table.name} ({columns})" for columns, name in names.items())]


_ADDED_IN_2 = ("session_id", "correlating_tool_call_id", "thread_parent_id", "thread_root_id")
_ID_2, _TIME_2 = "interception_id TEXT", "DOUBLE PRECISION"
_HEAD_2 = f"{_ID_2}, number BIGINT, created_at {_TIME_2}, message_id TEXT"
_KEY_2 = "PRIMARY KEY (interception_id, number)"

MIGRATIONS: dict[int, tuple[str, ...]] = {
    1: (
        *(f"ALTER TABLE interceptions ADD COLUMN {name} TEXT" for name in _ADDED_IN_2),
        "CREATE INDEX interceptions_session_id ON interceptions (session_id)",
        "CREATE INDEX interceptions_thread_root_id ON interceptions (thread_root_id)",
        f"CREATE TABLE user_prompts ({_ID_2}, created_at {_TIME_2}, prompt TEXT, PRIMARY KEY (interception_id))",
        f"CREATE TABLE tool_usages ({_HEAD_2}, tool_call_id TEXT, tool TEXT, arguments TEXT, {_KEY_2})",
        "CREATE INDEX tool_usages_tool_call_id_created_at ON tool_usages (tool_call_id, created_at)",
        f"CREATE TABLE model_thoughts ({_HEAD_2}, source TEXT, thought TEXT, {_KEY_2})",
    ),
}
"""The statements that bring a store from version n to n + 1. Written out: `TABLES` goes on, what they did does not."""
