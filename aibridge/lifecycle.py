"""How an answer moves from its request to its one end: states, signals, the table, and the words for the end.

Two rules for this file. Everything that decides *how a stream ended* lives here; and this file does not know bytes,
sockets, providers or clocks. The gateway sees facts in the order in which they happen and turns each into a `Signal`;
the table says what the fact means in the state we are in. The first decisive fact ends the story: in `ENDED` nothing
changes any more. `docs/architecture.md` draws its diagram from this table, and `tests/test_lifecycle.py` asserts that
no cell is missing.

The subtle column is `FINISHED`: the upstream has said its last word, but the client's socket does not have it yet.
Only `DELIVERED` makes it `COMPLETED`; a client that goes before is gone, a client that goes after has everything.
"""

from enum import Enum, StrEnum, auto
from typing import NamedTuple


class Termination(StrEnum):
    """How an interception or an attempt ended. The word is the metric label and the column's value."""

    __hash__ = str.__hash__  # that of the word it is equal to, and without a call in Python

    COMPLETED = "completed"
    """The upstream said its last word and the client's socket has it."""
    UPSTREAM_ERROR = "upstream_error"
    """The upstream failed, refused, or stopped before its last word."""
    CLIENT_GONE = "client_gone"
    """The client left, or stopped reading, before the last word."""
    GATEWAY_ERROR = "gateway_error"
    """Nobody's fault but ours: a bug, a drain deadline, a process that was killed, a record that cannot be written."""


STATUS_OF = {
    Termination.COMPLETED: "completed",
    Termination.UPSTREAM_ERROR: "failed",
    Termination.CLIENT_GONE: "client_gone",
    Termination.GATEWAY_ERROR: "failed",
}
"""The coarser word of the metrics' label `status`."""


class Cause(StrEnum):
    """The finer reason. Every cause belongs to exactly one termination (`TERMINATION_OF`).

    `CRASHED` is in no cell of the table: a process that was killed cannot decide. The next one finds what it left.
    """

    __hash__ = str.__hash__  # as `Termination`

    CLEAN = "clean"
    TRUNCATED = "truncated"
    INCOMPLETE_BODY = "incomplete_body"
    TRUNCATED_FRAME = "truncated_frame"
    CORRUPT_FRAME = "corrupt_frame"
    CORRUPT_PAYLOAD = "corrupt_payload"
    EXCEPTION_FRAME = "exception_frame"
    ERROR_FRAME = "error_frame"
    ERROR_EVENT = "error_event"
    CONNECTION_RESET = "connection_reset"
    IDLE_TIMEOUT = "idle_timeout"
    CONNECT_FAILED = "connect_failed"
    RESPONSE_TIMEOUT = "response_timeout"
    HTTP_STATUS = "http_status"
    UNEXPECTED_RESPONSE = "unexpected_response"
    PROTOCOL_ERROR = "protocol_error"
    CIRCUIT_OPEN = "circuit_open"
    KEYS_EXHAUSTED = "keys_exhausted"
    BEFORE_RESPONSE = "before_response"
    DISCONNECTED = "disconnected"
    STALLED = "stalled"
    DRAINING = "draining"
    INTERNAL = "internal"
    RECORDING_FAILED = "recording_failed"
    TOOL_LOOP_LIMIT = "tool_loop_limit"
    BUDGET_SPENT = "budget_spent"
    CRASHED = "crashed"


TERMINATION_OF: dict[Cause, Termination] = {
    Cause.CLEAN: Termination.COMPLETED,
    Cause.TRUNCATED: Termination.UPSTREAM_ERROR,
    Cause.INCOMPLETE_BODY: Termination.UPSTREAM_ERROR,
    Cause.TRUNCATED_FRAME: Termination.UPSTREAM_ERROR,
    Cause.CORRUPT_FRAME: Termination.UPSTREAM_ERROR,
    Cause.CORRUPT_PAYLOAD: Termination.UPSTREAM_ERROR,
    Cause.EXCEPTION_FRAME: Termination.UPSTREAM_ERROR,
    Cause.ERROR_FRAME: Termination.UPSTREAM_ERROR,
    Cause.ERROR_EVENT: Termination.UPSTREAM_ERROR,
    Cause.CONNECTION_RESET: Termination.UPSTREAM_ERROR,
    Cause.IDLE_TIMEOUT: Termination.UPSTREAM_ERROR,
    Cause.CONNECT_FAILED: Termination.UPSTREAM_ERROR,
    Cause.RESPONSE_TIMEOUT: Termination.UPSTREAM_ERROR,
    Cause.HTTP_STATUS: Termination.UPSTREAM_ERROR,
    Cause.UNEXPECTED_RESPONSE: Termination.UPSTREAM_ERROR,
    Cause.PROTOCOL_ERROR: Termination.UPSTREAM_ERROR,
    Cause.CIRCUIT_OPEN: Termination.UPSTREAM_ERROR,
    Cause.KEYS_EXHAUSTED: Termination.UPSTREAM_ERROR,
    Cause.BEFORE_RESPONSE: Termination.CLIENT_GONE,
    Cause.DISCONNECTED: Termination.CLIENT_GONE,
    Cause.STALLED: Termination.CLIENT_GONE,
    Cause.DRAINING: Termination.GATEWAY_ERROR,
    Cause.INTERNAL: Termination.GATEWAY_ERROR,
    Cause.RECORDING_FAILED: Termination.GATEWAY_ERROR,
    Cause.TOOL_LOOP_LIMIT: Termination.GATEWAY_ERROR,
    Cause.BUDGET_SPENT: Termination.GATEWAY_ERROR,
    Cause.CRASHED: Termination.GATEWAY_ERROR,
}


class Health(StrEnum):
    """What an outcome says of the upstream's health: the circuit breaker's only input."""

    SUCCESS = "success"
    FAILURE = "failure"
    NEITHER = "neither"


_SERVER_ERROR = 500
_UNHEALTHY_STATUSES = frozenset({408, 429})
NOT_ASKED = frozenset({Cause.CIRCUIT_OPEN, Cause.KEYS_EXHAUSTED})
"""An upstream that was not asked says nothing of its health, and what bars our keys is theirs."""


def health_of(cause: Cause, http_status: int | None, error_type: str | None) -> Health:
    """Say what an end means for the upstream's health (outcomes.md, the marks ⚡).

    Args:
        cause: why the interception ended.
        http_status: the upstream's status, where a head came.
        error_type: the exception's name, for `exception_frame`.
    """
    termination = TERMINATION_OF[cause]
    if termination is Termination.COMPLETED:
        return Health.SUCCESS
    if termination is not Termination.UPSTREAM_ERROR or cause in NOT_ASKED:
        return Health.NEITHER
    if cause is Cause.HTTP_STATUS:
        unhealthy = http_status is not None and (http_status >= _SERVER_ERROR or http_status in _UNHEALTHY_STATUSES)
        return Health.FAILURE if unhealthy else Health.NEITHER
    if cause is Cause.EXCEPTION_FRAME and error_type == "validationException":
        return Health.NEITHER
    return Health.FAILURE


class State(Enum):
    """Where an answer stands."""

    __hash__ = object.__hash__  # members are single: the table is looked up by identity, many times a request

    CONNECTING = auto()
    """The first attempt's request is on its way; no response head has come."""
    BETWEEN = auto()
    """An attempt has ended, and a further one is to come: nothing is on its way. Tools may run meanwhile."""
    RECONNECTING = auto()
    """A further attempt's request is on its way; no response head of its answer has come."""
    STREAMING = auto()
    """A good head came and was passed on; events flow."""
    COLLECTING = auto()
    """A good head of a non-streaming answer came; its body is gathered, the client has nothing yet."""
    REFUSED = auto()
    """An error status came: the end is decided, its body is still gathered."""
    FINISHED = auto()
    """The last word came; the client's socket does not have it yet."""
    ENDED = auto()
    """Decided. Later facts change nothing."""


class Signal(Enum):
    """A fact, as one of the three sides sees it."""

    __hash__ = object.__hash__  # as `State`

    # upstream
    STREAM_HEAD = auto()
    BODY_HEAD = auto()
    ERROR_HEAD = auto()
    UNEXPECTED_HEAD = auto()
    LAST_WORD = auto()
    ERROR_EVENT = auto()
    EXCEPTION_FRAME = auto()
    ERROR_FRAME = auto()
    BODY_END = auto()
    BODY_END_IN_FRAME = auto()
    BAD_FRAME = auto()
    BAD_PAYLOAD = auto()
    BAD_HTTP = auto()
    CUT = auto()
    RESET = auto()
    UNREACHABLE = auto()
    NO_HEAD_IN_TIME = auto()
    SILENT = auto()
    # client
    DELIVERED = auto()
    CLIENT_LOST = auto()
    CLIENT_STALLED = auto()
    # gateway
    SENT = auto()
    CIRCUIT_OPEN = auto()
    KEYS_EXHAUSTED = auto()
    TOOL_LOOP_LIMIT = auto()
    UNRECORDED = auto()
    BUDGET_SPENT = auto()
    DRAINED = auto()
    BUG = auto()


class Step(NamedTuple):
    """One cell of the table: the next state and, where it ends the story, why."""

    state: State
    cause: Cause | None = None


def _end(cause: Cause) -> Step:
    return Step(State.ENDED, cause)


_IMPOSSIBLE = _end(Cause.INTERNAL)
"""A signal that cannot come in this state. Should it come all the same, the fault is ours, and is told as ours."""

_STAY = {state: Step(state) for state in State}

_REFUSED = _end(Cause.HTTP_STATUS)

# Rows are signals; columns are the states of one attempt's answer. In ENDED every signal stays.
_ROWS: dict[Signal, tuple[Step, Step, Step, Step, Step]] = {
    #                          CONNECTING                       STREAMING                      COLLECTING                     REFUSED     FINISHED
    Signal.STREAM_HEAD:       (Step(State.STREAMING),           _IMPOSSIBLE,                   _IMPOSSIBLE,                   _IMPOSSIBLE, _IMPOSSIBLE),
    Signal.BODY_HEAD:         (Step(State.COLLECTING),          _IMPOSSIBLE,                   _IMPOSSIBLE,                   _IMPOSSIBLE, _IMPOSSIBLE),
    Signal.ERROR_HEAD:        (Step(State.REFUSED),             _IMPOSSIBLE,                   _IMPOSSIBLE,                   _IMPOSSIBLE, _IMPOSSIBLE),
    Signal.UNEXPECTED_HEAD:   (_end(Cause.UNEXPECTED_RESPONSE), _IMPOSSIBLE,                   _IMPOSSIBLE,                   _IMPOSSIBLE, _IMPOSSIBLE),
    Signal.LAST_WORD:         (_IMPOSSIBLE,                     Step(State.FINISHED),          Step(State.FINISHED),          _IMPOSSIBLE, _STAY[State.FINISHED]),
    Signal.ERROR_EVENT:       (_IMPOSSIBLE,                     _end(Cause.ERROR_EVENT),       _end(Cause.ERROR_EVENT),       _IMPOSSIBLE, _STAY[State.FINISHED]),
    Signal.EXCEPTION_FRAME:   (_IMPOSSIBLE,                     _end(Cause.EXCEPTION_FRAME),   _IMPOSSIBLE,                   _IMPOSSIBLE, _STAY[State.FINISHED]),
    Signal.ERROR_FRAME:       (_IMPOSSIBLE,                     _end(Cause.ERROR_FRAME),       _IMPOSSIBLE,                   _IMPOSSIBLE, _STAY[State.FINISHED]),
    Signal.BODY_END:          (_IMPOSSIBLE,                     _end(Cause.TRUNCATED),         _IMPOSSIBLE,                   _REFUSED,    _STAY[State.FINISHED]),
    Signal.BODY_END_IN_FRAME: (_IMPOSSIBLE,                     _end(Cause.TRUNCATED_FRAME),   _IMPOSSIBLE,                   _IMPOSSIBLE, _STAY[State.FINISHED]),
    Signal.BAD_FRAME:         (_IMPOSSIBLE,                     _end(Cause.CORRUPT_FRAME),     _IMPOSSIBLE,                   _IMPOSSIBLE, _STAY[State.FINISHED]),
    Signal.BAD_PAYLOAD:       (_IMPOSSIBLE,                     _end(Cause.CORRUPT_PAYLOAD),   _end(Cause.CORRUPT_PAYLOAD),   _IMPOSSIBLE, _STAY[State.FINISHED]),
    Signal.BAD_HTTP:          (_end(Cause.PROTOCOL_ERROR),      _end(Cause.PROTOCOL_ERROR),    _end(Cause.PROTOCOL_ERROR),    _REFUSED,    _STAY[State.FINISHED]),
    Signal.CUT:               (_end(Cause.CONNECTION_RESET),    _end(Cause.INCOMPLETE_BODY),   _end(Cause.INCOMPLETE_BODY),   _REFUSED,    _STAY[State.FINISHED]),
    Signal.RESET:             (_end(Cause.CONNECTION_RESET),    _end(Cause.CONNECTION_RESET),  _end(Cause.CONNECTION_RESET),  _REFUSED,    _STAY[State.FINISHED]),
    Signal.UNREACHABLE:       (_end(Cause.CONNECT_FAILED),      _IMPOSSIBLE,                   _IMPOSSIBLE,                   _IMPOSSIBLE, _IMPOSSIBLE),
    Signal.NO_HEAD_IN_TIME:   (_end(Cause.RESPONSE_TIMEOUT),    _IMPOSSIBLE,                   _IMPOSSIBLE,                   _IMPOSSIBLE, _IMPOSSIBLE),
    Signal.SILENT:            (_IMPOSSIBLE,                     _end(Cause.IDLE_TIMEOUT),      _end(Cause.IDLE_TIMEOUT),      _REFUSED,    _STAY[State.FINISHED]),
    Signal.DELIVERED:         (_IMPOSSIBLE,                     _IMPOSSIBLE,                   _IMPOSSIBLE,                   _IMPOSSIBLE, _end(Cause.CLEAN)),
    Signal.CLIENT_LOST:       (_end(Cause.BEFORE_RESPONSE),     _end(Cause.DISCONNECTED),      _end(Cause.BEFORE_RESPONSE),   _REFUSED,    _end(Cause.DISCONNECTED)),
    Signal.CLIENT_STALLED:    (_end(Cause.STALLED),             _end(Cause.STALLED),           _end(Cause.STALLED),           _REFUSED,    _end(Cause.STALLED)),
    Signal.SENT:              (_IMPOSSIBLE,                     _IMPOSSIBLE,                   _IMPOSSIBLE,                   _IMPOSSIBLE, _IMPOSSIBLE),
    Signal.CIRCUIT_OPEN:      (_end(Cause.CIRCUIT_OPEN),        _IMPOSSIBLE,                   _IMPOSSIBLE,                   _IMPOSSIBLE, _IMPOSSIBLE),
    Signal.KEYS_EXHAUSTED:    (_end(Cause.KEYS_EXHAUSTED),      _IMPOSSIBLE,                   _IMPOSSIBLE,                   _IMPOSSIBLE, _IMPOSSIBLE),
    Signal.UNRECORDED:        (_end(Cause.RECORDING_FAILED),    _IMPOSSIBLE,                   _IMPOSSIBLE,                   _IMPOSSIBLE, _IMPOSSIBLE),
    Signal.TOOL_LOOP_LIMIT:   (_IMPOSSIBLE,                     _IMPOSSIBLE,                   _IMPOSSIBLE,                   _IMPOSSIBLE, _IMPOSSIBLE),
    Signal.BUDGET_SPENT:      (_end(Cause.BUDGET_SPENT),        _end(Cause.BUDGET_SPENT),      _end(Cause.BUDGET_SPENT),      _REFUSED,    _STAY[State.FINISHED]),
    Signal.DRAINED:           (_end(Cause.DRAINING),            _end(Cause.DRAINING),          _end(Cause.DRAINING),          _REFUSED,    _end(Cause.DRAINING)),
    Signal.BUG:               (_end(Cause.INTERNAL),            _end(Cause.INTERNAL),          _end(Cause.INTERNAL),          _REFUSED,    _end(Cause.INTERNAL)),
}  # fmt: skip

_COLUMNS = (State.CONNECTING, State.STREAMING, State.COLLECTING, State.REFUSED, State.FINISHED)

_BETWEEN = {
    Signal.SENT: Step(State.RECONNECTING),
    Signal.CLIENT_LOST: _end(Cause.DISCONNECTED),
    Signal.CLIENT_STALLED: _end(Cause.STALLED),
    Signal.KEYS_EXHAUSTED: _end(Cause.KEYS_EXHAUSTED),
    Signal.TOOL_LOOP_LIMIT: _end(Cause.TOOL_LOOP_LIMIT),
    Signal.BUDGET_SPENT: _end(Cause.BUDGET_SPENT),
    Signal.DRAINED: _end(Cause.DRAINING),
    Signal.BUG: _end(Cause.INTERNAL),
}
"""Between two attempts only the client and we ourselves can say anything."""

_RECONNECTING = {Signal.CLIENT_LOST: _end(Cause.DISCONNECTED)}
"""A further attempt is as the first one, but for a client that leaves: it has waited for more than a response."""

TRANSITIONS: dict[tuple[State, Signal], Step] = {
    **{(state, signal): cell for signal, row in _ROWS.items() for state, cell in zip(_COLUMNS, row, strict=True)},
    **{(State.BETWEEN, signal): _BETWEEN.get(signal, _IMPOSSIBLE) for signal in Signal},
    **{(State.RECONNECTING, signal): _RECONNECTING.get(signal, row[0]) for signal, row in _ROWS.items()},
    **{(State.ENDED, signal): _STAY[State.ENDED] for signal in Signal},
}
"""The machine, total: every state and every signal."""

OF_THE_NETWORK = (
    Signal.UNREACHABLE, Signal.RESET, Signal.CUT, Signal.NO_HEAD_IN_TIME, Signal.SILENT, Signal.BAD_HTTP,
)  # fmt: skip
"""What the network does to an answer; its bytes do not show it."""

NOT_THEIRS = (Signal.CLIENT_LOST, Signal.CLIENT_STALLED, Signal.BUDGET_SPENT, Signal.DRAINED, Signal.BUG)
"""What the client or we ourselves end any answer with. Nothing is tried again behind it, whatever the upstream said."""


def ends_by(*signals: Signal) -> dict[Cause, Signal]:
    """Return the causes of the ends that these signals bring by themselves, each with the first that brings it."""
    found: dict[Cause, Signal] = {}
    for signal in signals:
        for cell in _ROWS[signal]:
            if cell.cause is not None and cell is not _IMPOSSIBLE and cell is not _REFUSED:
                found.setdefault(cell.cause, signal)
    return found


def step(state: State, signal: Signal) -> Step:
    """Return what `signal` means in `state`."""
    return TRANSITIONS[state, signal]
