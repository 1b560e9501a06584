"""What a store is, and the tables, once for all stores. This file knows no database.

Times are UTC seconds since the epoch as REAL, which sorts, subtracts and needs no parser; durations are seconds. Text
that nobody said is NULL, and so is a count that nobody told. How a row is made of our values: `entries.py`.
"""

from collections.abc import Callable, Collection, Sequence
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

from aibridge.errors import AibridgeError
from aibridge.values import Evidence, Interception

SCHEMA_VERSION = 8
"""Raised with every change of `TABLES`; the change itself is a line of `MIGRATIONS` in `migrations.py`."""

OPEN_INDEX = "CREATE INDEX interceptions_open ON interceptions (journal) WHERE ended_at IS NULL"
"""Small at any time: what a dead process left open is found at once."""

BROWSED_INDEX = (
    "CREATE INDEX interceptions_browsed ON interceptions"
    " (started_at, actor_id, provider, model, client, termination, cause)"
)
"""In the order of time, with all that is filtered by: what does not fit is passed over without a look at its row."""
ENDED_INDEX = "CREATE INDEX interceptions_ended ON interceptions (ended_at) WHERE ended_at IS NOT NULL"


class StoreUnavailable(AibridgeError):
    """The store cannot take anything now: locked, full, away. What was not taken may be offered again."""


class StoreRefused(AibridgeError):
    """The store will never take this: offered again it is refused again."""


Row = list[Any]
"""Values in the order of a table's columns."""

Rows = dict[str, list[Row]]
"""Rows by the name of what they are written to."""

Fields = dict[str, Any]
"""A row that was read, by column."""

Query = Callable[[str, Sequence[Any]], list[Fields]]
"""Runs a query on the store with parameters, and gives its rows; see `aibridge.stores.sqlite.querying`."""


class LeftOpen(NamedTuple):
    """An interception without an end, and what is known that it had seen: as noted last, or at an attempt's end."""

    interception: Interception
    evidence: Evidence


class Store(Protocol):
    """Where records are kept. Called by one thread at a time, and may block it.

    All but `close` raise `StoreUnavailable` or `StoreRefused`.
    """

    def write(self, rows: Rows, journal: str, position: int, *, durable: bool = False) -> None:
        """Keep all of the rows or none, and how far the journal is read with them. A row already kept changes nothing.

        Args:
            rows: as `rows_of` made them.
            journal: where they come from.
            position: behind them.
            durable: they stay even if the machine loses its power now, and so does all that was written before.
        """

    def position(self, journal: str) -> int:
        """Return how far a journal is read; 0 where nothing is."""

    def forget_all_but(self, journals: Collection[str]) -> None:
        """Forget the positions of all other journals: they are gone."""

    def journals_left_open(self) -> list[str]:
        """Return the journals that interceptions without an end come from; empty text for those of an unknown one."""

    def left_open(self, journal: str) -> list[LeftOpen]:
        """Return the interceptions of a journal that have no end."""

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
    """A table; `key` names the columns that make a row the same row, an index its columns, with commas.

    `more` are statements of its own.
    """

    name: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    indexes: tuple[str, ...] = ()
    more: tuple[str, ...] = ()


EVIDENCE_VALUES = (
    Column("terminal_event_seen", Type.INTEGER, "terminal_event_seen"),
    Column("last_event", Type.TEXT, "last_event"),
    Column("events", Type.INTEGER, "events"),
    Column("bytes_in", Type.INTEGER, "bytes_in"),
    Column("bytes_out", Type.INTEGER, "bytes_out"),
    Column("http_status", Type.INTEGER, "http_status"),
    Column("upstream_request_id", Type.TEXT, "upstream_request_id"),
    Column("time_to_first_event", Type.REAL, "time_to_first_event"),
)

_NOTE = Column("note", Type.TEXT, "evidence.note")

_END = (
    Column("duration", Type.REAL, "duration"),
    Column("termination", Type.TEXT, "termination"),
    Column("cause", Type.TEXT, "cause"),
    Column("error", Type.TEXT, "error"),
    *(column._replace(path=f"evidence.{column.path}") for column in EVIDENCE_VALUES),
)

# The journal's rows are these columns, in this order. A new one goes last in its row: so a journal that an older
# program left can be read, whose rows are shorter.

OPENED_VALUES = (
    Column("id", Type.TEXT, "id"),
    Column("started_at", Type.REAL, "started_at"),
    Column("actor_id", Type.TEXT, "actor.id"),
    Column("actor_name", Type.TEXT, "actor.name"),
    Column("credential_kind", Type.TEXT, "credential.kind"),
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

CLOSED_VALUES = (
    Column("ended_at", Type.REAL, "ended_at"),
    *_END,
    Column("message_id", Type.TEXT, "message_id"),
    Column("response_model", Type.TEXT, "response_model"),
    Column("stop_reason", Type.TEXT, "stop_reason"),
    Column("usage_source", Type.TEXT, "usage_source"),
    _NOTE,
)

# Of an `Address`:
ANSWERED_VALUES = (
    Column("answered_by", Type.TEXT, "provider"),
    Column("answered_kind", Type.TEXT, "provider_kind"),
    Column("answered_model", Type.TEXT, "upstream_model"),
)

ADDRESS_VALUES = (
    Column("provider", Type.TEXT, "provider"),
    Column("provider_kind", Type.TEXT, "provider_kind"),
    Column("upstream_model", Type.TEXT, "upstream_model"),
    Column("credential_kind", Type.TEXT, "credential.kind"),
    Column("credential_hint", Type.TEXT, "credential.hint"),
)

COUNTS_VALUES = (
    Column("input_tokens", Type.INTEGER, "usage.input_tokens"),
    Column("output_tokens", Type.INTEGER, "usage.output_tokens"),
    Column("cache_read_input_tokens", Type.INTEGER, "usage.cache_read_input_tokens"),
    Column("cache_creation_input_tokens", Type.INTEGER, "usage.cache_creation_input_tokens"),
)

ATTEMPT_VALUES = (
    Column("number", Type.INTEGER, "number"),
    Column("origin", Type.TEXT, "origin"),
    Column("started_at", Type.REAL, "started_at"),
    *_END,
    _NOTE,
    Column("message_id", Type.TEXT, "message_id"),
    Column("usage_source", Type.TEXT, "usage_source"),
)

USAGE_VALUES = (
    Column("created_at", Type.REAL, "ended_at"),
    Column("message_id", Type.TEXT, "message_id"),
    Column("usage_source", Type.TEXT, "usage_source"),
)

_INTERCEPTION_ID = Column("interception_id", Type.TEXT, "id")
_EXTRAS = Column("extras", Type.TEXT, "usage.extras")

RATED_VALUES = (
    Column("service_tier", Type.TEXT, "usage.service_tier"),
    Column("region", Type.TEXT, "usage.region"),
    Column("turns", Type.TEXT, "turns"),
    Column("cost_nanodollars", Type.INTEGER, "cost.nanodollars"),
    Column("price_version", Type.TEXT, "cost.version"),
    Column("unpriced", Type.TEXT, "cost.unpriced"),
)

_JOURNAL = Column("journal", Type.TEXT, "")
"""Which process held it: the name of its journal. Added by `rows_of`."""

INTERCEPTIONS = Table(
    "interceptions",
    ("id",),
    (*OPENED_VALUES, _JOURNAL, *CLOSED_VALUES, *ANSWERED_VALUES, *_LINEAGE),
    indexes=("session_id", "thread_root_id"),
    more=(OPEN_INDEX, BROWSED_INDEX, ENDED_INDEX),
)
"""One row each. `ended_at` is null while it runs, and its evidence then is what was noted last, or null. `error` is
null for a completed one. `answered_by` and what follows it is who was asked last, with its own name for the model;
null where that is whom the row names anyway.

An interception that answers a tool call belongs to a thread: its parent is the one that called the tool, its root the
first of them. Both are null for a root, and where the parent is not known.
"""

ATTEMPTS = Table(
    "attempts",
    ("interception_id", "number"),
    (_INTERCEPTION_ID, *ATTEMPT_VALUES, *COUNTS_VALUES, *ADDRESS_VALUES),
)
"""One row for each request to an upstream. The tokens of an interception are the sum of those of its attempts; where
there was one alone they are null here, and stand in `token_usages`. Who was asked, for what and with which credential
is null where it is as the interception's row says."""

TOKEN_USAGES = Table(
    "token_usages",
    ("interception_id",),
    (_INTERCEPTION_ID, *USAGE_VALUES, *COUNTS_VALUES, _EXTRAS, *RATED_VALUES),
)
"""The provider's own counts; no row where it told none. `extras` is a JSON object of further counts.

They are a sum where the model was asked in several turns: `turns` has the counts of each then, a JSON array of `Usage`.
The counts are what is known; the cost is made of them, by the prices that `price_version` names, and may be made anew.
Where it is null, `unpriced` says why; where that is null too, nobody has asked for the price yet.
"""

EXTRAS, TURNS = (
    [column.name for column in TOKEN_USAGES.columns].index(name) for name in (_EXTRAS.name, "turns")
)  # fmt: skip
"""Their places in a row of `TOKEN_USAGES`."""

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
        Column("server", Type.TEXT, ""),
        Column("latency", Type.REAL, ""),
        Column("error", Type.TEXT, ""),
        Column("arguments_bytes", Type.INTEGER, ""),
        Column("result_bytes", Type.INTEGER, ""),
    ),
    indexes=("tool_call_id, created_at",),
)
"""The tools that the model called, in the order of `number`. `arguments` is null where they are not kept; what stands
behind it is null but for the tools that the gateway ran itself, `server` also where there was no such tool."""

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

JOURNALS = Table(
    "journals", ("name",), (Column("name", Type.TEXT, ""), Column("position", Type.INTEGER, "")),
)  # fmt: skip
"""How far each journal is in the store."""

OF_INTERCEPTIONS = (INTERCEPTIONS, ATTEMPTS, TOKEN_USAGES, USER_PROMPTS, TOOL_USAGES, MODEL_THOUGHTS)
"""Tables whose first column is an interception's id."""

TABLES = (*OF_INTERCEPTIONS, JOURNALS)

LINEAGE = """
UPDATE interceptions SET (thread_parent_id, thread_root_id) = (
    SELECT parent.id, coalesce(parent.thread_root_id, parent.id)
    FROM tool_usages JOIN interceptions AS parent ON parent.id = tool_usages.interception_id
    WHERE tool_usages.tool_call_id = interceptions.correlating_tool_call_id
    AND parent.actor_id = interceptions.actor_id AND parent.id < interceptions.id
    ORDER BY tool_usages.created_at DESC LIMIT 1
) WHERE id = ? AND thread_parent_id IS NULL AND correlating_tool_call_id IS NOT NULL
"""
"""Gives an interception its place in a thread: behind the latest one of the same actor that called the tool.

Only one that began earlier can be its parent, so that threads never close a circle: ids sort by time. Nobody gets into
another's thread by naming a tool call of theirs.
"""

# Three more names that rows are written under: interceptions whose beginning is in the store already, such whose
# beginning and end are written at once, and what those that run have seen: a row is an id, and `EVIDENCE_COLUMNS`.
ENDS = "ends"
WHOLE = "whole"
PROGRESS = "progress"

CORRELATING = [column.name for column in OPENED_VALUES].index("correlating_tool_call_id")
"""Its place in a row of `OPENED_COLUMNS`."""

OPENED_COLUMNS = (*(column.name for column in OPENED_VALUES), _JOURNAL.name)
CLOSED_COLUMNS = tuple(column.name for column in (*CLOSED_VALUES, *ANSWERED_VALUES))
EVIDENCE_COLUMNS = tuple(column.name for column in EVIDENCE_VALUES)


def create_statements(table: Table) -> list[str]:
    """Return the SQL that creates a table and its indexes."""
    columns = [f"{column.name} {column.type}" for column in table.columns]
    primary = f"PRIMARY KEY ({', '.join(table.key)})"
    create = f"CREATE TABLE {table.name} ({', '.join([*columns, primary])})"
    names = {columns: f"{table.name}_{columns.replace(', ', '_')}" for columns in table.indexes}
    indexes = [f"CREATE INDEX {name} ON {table.name} ({columns})" for columns, name in names.items()]
    return [create, *indexes, *table.more]
