"""Values to entries of the journal, and entries to rows.

An entry is `[time, table, row, table, row, ...]` as JSON. The recorder makes it of some parts, on the event loop, with
`entry`; the writer takes many apart, on its thread, with `rows_of`. A new table needs a function here that returns its
name and a row; nothing else changes on the way to the store.
"""

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any

from aibridge.jsontext import dumps, reload
from aibridge.lifecycle import TERMINATION_OF, Cause, Health
from aibridge.stores.base import (
    ADDRESS_VALUES,
    ANSWERED_VALUES,
    ATTEMPT_VALUES,
    ATTEMPTS,
    CLOSED_COLUMNS,
    CLOSED_VALUES,
    COUNTS_VALUES,
    ENDS,
    EVIDENCE_VALUES,
    EXTRAS,
    INTERCEPTIONS,
    MODEL_THOUGHTS,
    OF_INTERCEPTIONS,
    OPENED_VALUES,
    PROGRESS,
    RATED_VALUES,
    TABLES,
    TOKEN_USAGES,
    TOOL_USAGES,
    TURNS,
    USAGE_VALUES,
    USER_PROMPTS,
    WHOLE,
    Column,
    LeftOpen,
    Rows,
)
from aibridge.text import CUT, bounded
from aibridge.values import (
    MAX_CONTENT_BYTES,
    Actor,
    Attempt,
    Credential,
    CredentialKind,
    Evidence,
    Interception,
    Learned,
    Outcome,
    ToolRun,
    ToolUse,
    Usage,
    UsageSource,
    UserPrompt,
)

MAX_TEXT_BYTES = 1024
"""Of any text in a row: clients and upstreams choose most of them."""

_MAX_INTEGER = 2**63 - 1
_NO_COUNTS = (None,) * len(COUNTS_VALUES)


def _row_of(columns: Sequence[Column]) -> Callable[[Any], tuple[Any, ...]]:
    """Return what makes a row of an object, quickly."""
    return attrgetter(*[column.path for column in columns])


_opened_row = _row_of(OPENED_VALUES)
_closed_row = _row_of(CLOSED_VALUES)
_evidence_row = _row_of(EVIDENCE_VALUES)
_attempt_row = _row_of(ATTEMPT_VALUES)
_address_row = _row_of(ADDRESS_VALUES)
_answered_row = _row_of(ANSWERED_VALUES)
_usage_row = _row_of(USAGE_VALUES)
_counts = _row_of(COUNTS_VALUES)
_rated_row = _row_of(RATED_VALUES)


# --- values to entries, on the event loop ---------------------------------------------------------------------------

Part = str | tuple[Any, ...]
"""Of an entry: the name of a table, and behind it a row."""


def opened_parts(interception: Interception) -> tuple[Part, ...]:
    """Return what an entry says of an interception that began."""
    return INTERCEPTIONS.name, _opened_row(interception)


def progressed_parts(interception: Interception, evidence: Evidence) -> tuple[Part, ...]:
    """Return what an entry says of what an interception that runs has seen."""
    return PROGRESS, (interception.id, *_evidence_row(evidence))


def attempted_parts(interception: Interception, attempt: Attempt) -> tuple[Part, ...]:
    """Return what an entry says of an attempt that ended; of the only one the interception's tokens are told apart."""
    row = (interception.id, *_attempt_row(attempt))
    address = attempt.address
    if attempt.last and attempt.number == 1:
        return ATTEMPTS.name, row if address is None else (*row, *_NO_COUNTS, *_address_row(address))
    row = (*row, *_bounded_counts(_counts(attempt)))
    return ATTEMPTS.name, row if address is None else (*row, *_address_row(address))


def closed_parts(interception: Interception, outcome: Outcome) -> tuple[Part, ...]:
    """Return what an entry says of an interception that ended: its end, and the tokens where any were told."""
    end = (interception.id, *_closed_row(outcome))
    if outcome.address is not None:
        end = (*end, *_answered_row(outcome.address))
    if outcome.usage_source is UsageSource.NONE:
        return ENDS, end
    counts, extras = _bounded_counts(_counts(outcome)), outcome.usage.extras
    if extras and not _fit([count for _, count in extras]):
        extras = tuple((name, _count(count) or 0) for name, count in extras)
    usage = (interception.id, *_usage_row(outcome), *counts, extras or None, *_rated_row(outcome))
    return ENDS, end, TOKEN_USAGES.name, usage


def entry(at: float, parts: Sequence[Part]) -> bytes:
    """Return an entry of the journal, its texts cut to `MAX_TEXT_BYTES`. Raises `PayloadError`.

    Where all of it together is short and plain, no text need be looked at.
    """
    text = dumps((at, *parts))
    if len(text) <= MAX_TEXT_BYTES and b"\\" not in text:
        return text
    return dumps((at, *[part if isinstance(part, str) else [_storable(value) for value in part] for part in parts]))


def learned_parts(
    interception: Interception, fact: Learned, message_id: str, number: int, at: float
) -> tuple[Part, ...]:
    """Return what an entry says of a fact of the content. `number` tells it from the interception's others."""
    head = (interception.id, number, at, _storable(message_id))
    if isinstance(fact, UserPrompt):
        return USER_PROMPTS.name, (interception.id, at, _content(fact.text))
    if isinstance(fact, ToolUse):
        return TOOL_USAGES.name, (*head, *_call(fact))
    if isinstance(fact, ToolRun):
        ran = (fact.server, fact.latency, _storable(fact.error), fact.arguments_bytes, fact.result_bytes)
        return TOOL_USAGES.name, (*head, *_call(fact.use), *ran)
    return MODEL_THOUGHTS.name, (*head, _storable(fact.source), _content(fact.text))


def content_entry(at: float, parts: Sequence[Part]) -> bytes:
    """Return an entry of the journal whose texts have their bounds already. Raises `PayloadError`."""
    return dumps((at, *parts))


def _call(use: ToolUse) -> tuple[Any, ...]:
    return _storable(use.id), _storable(use.name), _content(use.arguments)


def _content(text: str) -> str:
    return bounded(text, MAX_CONTENT_BYTES + len(CUT.encode()))


def _bounded_counts(counts: tuple[int | None, ...]) -> tuple[int | None, ...]:
    """Return counts that columns can hold: an upstream may tell any number, and a column has 64 bits."""
    return counts if _fit([count for count in counts if count]) else tuple(map(_count, counts))


def _fit(counts: Sequence[int]) -> bool:
    return not counts or (max(counts) <= _MAX_INTEGER and min(counts) >= -_MAX_INTEGER)


def _count(value: int | None) -> int | None:
    return None if value is None else max(-_MAX_INTEGER, min(value, _MAX_INTEGER))


def _storable(value: object) -> object:
    return bounded(value, MAX_TEXT_BYTES) if isinstance(value, str) else value


# --- entries to rows, on the writer's thread ------------------------------------------------------------------------


def rows_of(entries: Sequence[bytes], journal: str) -> tuple[Rows, float]:
    """Return the rows of a journal's entries, and the time of the last. What opens and closes is one row.

    Raises `PayloadError`, or what Python says of such a thing, where an entry is none of ours.
    """
    text = b"[" + b",".join(entries) + b"]"
    # Nobody said it: NULL. Such a quotation mark stands nowhere inside a text, where it would have a backslash.
    read = reload(text.replace(b',""', b",null"))
    rows: Rows = {name: [] for name in (*[table.name for table in TABLES], ENDS, WHOLE, PROGRESS)}
    for parts in read:
        for at in range(1, len(parts), 2):
            rows[parts[at]].append(parts[at + 1])
    for name, width in _WIDTHS.items():
        for row in rows[name]:
            if len(row) < width:
                row.extend([None] * (width - len(row)))
    _join(rows, journal)
    return rows, float(read[-1][0])


_WIDTHS = {
    INTERCEPTIONS.name: len(OPENED_VALUES),
    ENDS: 1 + len(CLOSED_COLUMNS),
    **{table.name: len(table.columns) for table in OF_INTERCEPTIONS if table is not INTERCEPTIONS},
}
"""How many values a row has. One of an older program has fewer: what it knew nothing of is NULL."""


def _join(rows: Rows, journal: str) -> None:
    """Bring each end to its beginning, where that is among the rows; name the journal; write extras as text.

    Of what one has seen meanwhile the latest is left, and nothing where its end tells all.
    """
    for usage in rows[TOKEN_USAGES.name]:
        if usage[EXTRAS] is not None:
            usage[EXTRAS] = dumps(dict(usage[EXTRAS])).decode()
        if usage[TURNS] is not None:
            usage[TURNS] = dumps(usage[TURNS]).decode() if usage[TURNS] else None
    if rows[PROGRESS]:
        latest = {row[0]: row for row in rows[PROGRESS]}
        for end in rows[ENDS]:
            latest.pop(end[0], None)
        rows[PROGRESS] = list(latest.values())
    opened = {}
    for row in rows[INTERCEPTIONS.name]:
        row.append(journal)
        opened[row[0]] = row
    ends = []
    for end in rows[ENDS]:
        beginning = opened.pop(end[0], None)
        if beginning is None:
            ends.append(end)
        else:
            beginning += end[1:]
            rows[WHOLE].append(beginning)
    rows[INTERCEPTIONS.name] = list(opened.values())
    rows[ENDS] = ends


# --- what a dead process left ---------------------------------------------------------------------------------------


def crashed(left: LeftOpen, at: float) -> Outcome:
    """Return the outcome of an interception whose process was killed.

    Args:
        left: what is known of it.
        at: when the process was last known to live, UTC.
    """
    interception, evidence = left
    ended_at = max(at, interception.started_at)
    return Outcome(
        termination=TERMINATION_OF[Cause.CRASHED],
        cause=Cause.CRASHED,
        error="the gateway's process ended before the answer did",
        ended_at=ended_at,
        duration=ended_at - interception.started_at,
        evidence=evidence,
        health=Health.NEITHER,
        usage=Usage(),
        usage_source=UsageSource.NONE,
        message_id="",
        response_model="",
        stop_reason="",
    )


def left_open(row: Mapping[str, Any]) -> LeftOpen:
    """Return an interception from its row, and the evidence in the same row. NULL is what nobody said."""
    said: dict[str, Any] = {name: "" if value is None else value for name, value in row.items()}
    return LeftOpen(
        Interception(
            id=said["id"],
            started_at=said["started_at"] or 0.0,
            actor=Actor(said["actor_id"], said["actor_name"]),
            credential=Credential(
                CredentialKind(said["credential_kind"] or CredentialKind.CENTRALIZED), said["credential_hint"]
            ),
            provider=said["provider"],
            provider_kind=said["provider_kind"],
            dialect=said["dialect"],
            route=said["route"],
            request_path=said["request_path"],
            method=said["method"],
            model=said["model"],
            upstream_model=said["upstream_model"],
            streaming=bool(said["streaming"]),
            client=said["client"],
            user_agent=said["user_agent"],
            request_bytes=said["request_bytes"] or 0,
            traceparent=said["traceparent"],
            session_id=said["session_id"],
            correlating_tool_call_id=said["correlating_tool_call_id"],
        ),
        Evidence(
            terminal_event_seen=bool(said["terminal_event_seen"]),
            last_event=said["last_event"],
            events=said["events"] or 0,
            bytes_in=said["bytes_in"] or 0,
            bytes_out=said["bytes_out"] or 0,
            http_status=row["http_status"],
            upstream_request_id=said["upstream_request_id"],
            time_to_first_event=row["time_to_first_event"],
        ),
    )
