"""The log: one JSON object a line on standard error; exactly one line at an interception's end.

No line holds a secret: of a credential only its kind and its masked hint are known here. Lines are
written on the event loop, a moment late and many at once; who reads standard error is expected to read it.
"""

import asyncio
import contextlib
import functools
import logging
import sys
import time
import traceback
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple, TextIO

from aibridge.errors import AibridgeError
from aibridge.jsontext import dumps
from aibridge.lifecycle import Termination
from aibridge.text import bounded
from aibridge.values import Address, Attempt, Interception, Learned, Outcome, address_of

LOGGER = "aibridge"
"""The name of the logger above all of ours."""

_INTERCEPTIONS = f"{LOGGER}.interceptions"

_PIPE_BYTES = 4096
"""What a pipe takes whole, from each of several processes (`PIPE_BUF` of Linux)."""

MAX_ERROR_BYTES = 1024
MAX_USER_AGENT_BYTES = 256
MAX_NAME_BYTES = 256
_MAX_CHAIN = 8
_QUOTES_SECRETS = "opentelemetry.util.re"
"""A library's logger that quotes whatever it cannot read of `OTEL_EXPORTER_OTLP_HEADERS`, which hold a key."""

# JSON lets these stand in a string as they are; to some readers they end a line, to a terminal they are commands.
_ESCAPES = {code: f"\\u{code:04x}" for code in (*range(0x7F, 0xA0), 0x2028, 0x2029)}


def setup(level: str = "info", stream: TextIO | None = None, *, whole_lines: bool = False) -> None:
    """Send the log to `stream` as JSON lines; of other libraries, warnings and errors only.

    May be called again: the last call counts.

    Args:
        level: the least that is written: debug, info, warning or error.
        stream: standard error by default.
        whole_lines: other processes write to it too.
    """
    handler = LineHandler(sys.stderr if stream is None else stream, _PIPE_BYTES if whole_lines else sys.maxsize)
    handler.setFormatter(JSONFormatter())
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old.formatter, JSONFormatter)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    set_level(level)
    logging.getLogger(_QUOTES_SECRETS).addFilter(_without_quotes)
    # What no line shows need not be found out for each (see "Optimization" in the library's documentation).
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


def set_level(level: str) -> None:
    """Write what is of this level and above from now on."""
    logging.getLogger(LOGGER).setLevel(level.upper())


def _without_quotes(record: logging.LogRecord) -> bool:
    record.args = ("...",)
    return True


class LineHandler(logging.Handler):
    """Writes lines to a stream: those of ordinary life together, a moment later, all others at once.

    On an event loop a line below `warning` waits up to `DELAY` for others, so that a busy gateway makes one system
    call of many lines. What waits is written at the next warning, and at the process's end.

    Args:
        stream: where to.
        at_once: bytes of a system call at most, but for a line that is longer.
    """

    DELAY = 0.05
    """Seconds."""

    def __init__(self, stream: TextIO, at_once: int = sys.maxsize) -> None:
        super().__init__()
        self._stream = stream
        self._at_once = at_once
        self._lines: list[str] = []
        self._asked: asyncio.AbstractEventLoop | None = None
        """The loop that will flush."""

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record."""
        try:
            self._lines.append(self.format(record))
            if record.levelno >= logging.WARNING or not self._flushes_later():
                self.flush()
        except Exception:  # noqa: BLE001 - the library's contract: a log must not break who logs
            self.handleError(record)

    def flush(self) -> None:
        """Write what waits."""
        with self.lock or contextlib.nullcontext():
            self._asked = None
            lines, self._lines = self._lines, []
            while lines:
                some = len(lines) if self._at_once == sys.maxsize else _fitting(lines, self._at_once)
                self._stream.write("\n".join(lines[:some]) + "\n")
                self._stream.flush()
                del lines[:some]

    def _flushes_later(self) -> bool:
        if self._asked is None or self._asked.is_closed():
            try:
                self._asked = asyncio.get_running_loop()
            except RuntimeError:
                return False
            self._asked.call_later(self.DELAY, self.flush)
        return True


def _fitting(lines: Sequence[str], size: int) -> int:
    """Return how many of the lines, which are ASCII, fit into so many bytes; one at least."""
    ends = accumulate(len(line) + 1 for line in lines)
    return max(1, sum(end <= size for end in ends))


class JSONFormatter(logging.Formatter):
    """Writes a record as one JSON object: time, level, message, logger, and what `extra={"fields": ...}` holds."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        line: dict[str, Any] = {
            "time": _utc(record.created),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            "logger": record.name,
        }
        line.update(getattr(record, "fields", ()))
        if record.exc_info:
            line["exception"] = _traceback(record.exc_info[1])
        text = dumps(line).decode()
        return text if text.isascii() and "\x7f" not in text else text.translate(_ESCAPES)


def _traceback(error: BaseException | None) -> str:
    """Return where an error was raised, then where those behind it were: an account without foreign words.

    The text of an error that is not ours may hold anything it was given, secrets too: of such a one only its kind is
    told, and of the system's errors what the system calls them.
    """
    told: list[str] = []
    while error is not None and len(told) < _MAX_CHAIN:
        words = str(error) if isinstance(error, AibridgeError) else (getattr(error, "strerror", None) or "")
        kind = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
        told.append("".join(traceback.format_tb(error.__traceback__)) + (f"{kind}: {words}" if words else kind) + "\n")
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "behind it:\n".join(f"Traceback (most recent call last):\n{one}" for one in told)


def _utc(seconds: float) -> str:
    return f"{_whole_second(int(seconds))}.{int(seconds % 1 * 1000):03d}Z"


@functools.lru_cache(maxsize=2)
def _whole_second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


class Log:
    """A `Listener` that writes each interception's one line.

    Args:
        loop: where it is given, lines of ordinary ends are made a moment later, many at once: what is done for one
            after the other costs half of what it does in between. `flush` makes them now.
    """

    DELAY = 0.05
    """Seconds."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._logger = logging.getLogger(_INTERCEPTIONS)
        self._loop = loop
        self._ended: list[tuple[float, Interception, Outcome]] = []

    def opened(self, interception: Interception) -> None:
        """Write a debug line."""
        if self._logger.isEnabledFor(logging.DEBUG):
            self._logger.debug("interception started", extra={"fields": _identity(interception)})

    def learned(self, interception: Interception, fact: Learned, message_id: str) -> None:
        """Write nothing: content is no business of the log."""

    def attempted(self, interception: Interception, attempt: Attempt) -> None:
        """Write a debug line."""
        if self._logger.isEnabledFor(logging.DEBUG):
            fields = {
                "interception_id": interception.id,
                "attempt": attempt.number,
                "provider": address_of(interception, attempt).provider,
                "origin": attempt.origin,
                "termination": attempt.termination.value,
                "cause": attempt.cause.value,
                "error": bounded(attempt.error, MAX_ERROR_BYTES),
                "duration_s": round(attempt.duration, 6),
            }
            self._logger.debug("attempt ended", extra={"fields": fields})

    def closed(self, interception: Interception, outcome: Outcome) -> None:
        """Write the line: its level and message follow from the termination."""
        self._ended.append((time.time(), interception, outcome))
        if self._loop is None or outcome.termination in _AT_ONCE:
            self.flush()
        elif len(self._ended) == 1:
            self._loop.call_later(self.DELAY, self.flush)

    def flush(self) -> None:
        """Write the lines that wait."""
        ended, self._ended = self._ended, []
        logger = self._logger
        for at, interception, outcome in ended:
            ending = _ENDS[outcome.termination]
            if logger.isEnabledFor(ending.level):
                fields = _identity(interception)
                if outcome.address is not None:
                    fields.update(_answered(outcome.address))
                fields.update(_ending(outcome))
                logger.handle(_record(at, ending, fields))


_AT_ONCE = frozenset({Termination.UPSTREAM_ERROR, Termination.GATEWAY_ERROR})


class _End(NamedTuple):
    """What the lines of one termination have in common: `plain` is a record less its time and fields."""

    level: int
    plain: dict[str, Any]


def _end(level: int, message: str) -> _End:
    return _End(level, logging.LogRecord(_INTERCEPTIONS, level, "", 0, message, (), None).__dict__)


_ENDS = {
    Termination.COMPLETED: _end(logging.INFO, "interception ended"),
    Termination.UPSTREAM_ERROR: _end(logging.WARNING, "interception failed"),
    Termination.CLIENT_GONE: _end(logging.INFO, "client gone"),
    Termination.GATEWAY_ERROR: _end(logging.ERROR, "gateway failed"),
}


def _record(at: float, end: _End, fields: dict[str, Any]) -> logging.LogRecord:
    """Return a record without what no line shows: finding caller, path, thread and process costs more than the line."""
    record = logging.LogRecord.__new__(logging.LogRecord)
    record.__dict__.update(end.plain, created=at, fields=fields)
    return record


def _identity(interception: Interception) -> dict[str, Any]:
    return {
        "interception_id": interception.id,
        "actor": bounded(interception.actor.id, MAX_NAME_BYTES),
        "provider": interception.provider,
        "model": bounded(interception.model, MAX_NAME_BYTES),
        "route": interception.route,
        "streaming": interception.streaming,
        "client": interception.client,
        "user_agent": bounded(interception.user_agent, MAX_USER_AGENT_BYTES),
        "credential_kind": interception.credential.kind.value,
        "credential_hint": interception.credential.hint,
    }


def _answered(address: Address) -> dict[str, Any]:
    return {
        "answered_by": address.provider,
        "answered_model": bounded(address.upstream_model, MAX_NAME_BYTES),
        "answered_credential_kind": address.credential.kind.value,
        "answered_credential_hint": address.credential.hint,
    }


def _ending(outcome: Outcome) -> dict[str, Any]:
    evidence, usage = outcome.evidence, outcome.usage
    first_event = evidence.time_to_first_event
    return {
        "termination": outcome.termination.value,
        "cause": outcome.cause.value,
        "error": bounded(outcome.error, MAX_ERROR_BYTES),
        "http_status": evidence.http_status,
        "upstream_request_id": bounded(evidence.upstream_request_id, MAX_NAME_BYTES),
        "duration_s": round(outcome.duration, 6),
        "time_to_first_event_s": None if first_event is None else round(first_event, 6),
        "events": evidence.events,
        "bytes_in": evidence.bytes_in,
        "bytes_out": evidence.bytes_out,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read_input_tokens": usage.cache_read_input_tokens,
        "cache_creation_input_tokens": usage.cache_creation_input_tokens,
        "usage_source": outcome.usage_source.value,
        "cost_nanodollars": outcome.cost.nanodollars,
        "unpriced": outcome.cost.unpriced,
        "stop_reason": bounded(outcome.stop_reason, MAX_NAME_BYTES),
    }
