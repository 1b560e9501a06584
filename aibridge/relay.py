"""One answer on its way from the upstream to the client: bytes in, bytes out, and at last a verdict.

The relay does no I/O and reads no clock. Its owner feeds it what the upstream sent and tells it what happened on the
three sides; it gives back what the client is to get, and says in `state`, `cause` and `error` where the answer stands.

Where `feed_data` or `feed_eof` lead to `FINISHED`, `last_words` holds the terminal event: its owner hands it to the
client's socket, once that has taken all before it, and says `DELIVERED`. Where they lead to `ENDED`, `last_words` holds
what the client still gets: the upstream's own error event, or an error event of ours.
"""

from aibridge.content import NOTHING, ContentPolicy
from aibridge.credentials import redact, redact_bytes, redact_cut
from aibridge.dialects import Dialect, Observer, Telling, words_of
from aibridge.errors import CorruptFrame, CorruptPayload, TruncatedEvent, TruncatedFrame, WireError
from aibridge.faults import FAULT_OF, KEYS_REFUSED, kind_of_exception, kind_of_status
from aibridge.lifecycle import TERMINATION_OF, Cause, Health, Signal, State, health_of, step
from aibridge.sums import together
from aibridge.values import (
    Attempt,
    Event,
    Evidence,
    Frame,
    Outcome,
    Scan,
    StreamDecoder,
    Thought,
    ToolUse,
    Usage,
    UsageSource,
)

MAX_ERROR_CHARACTERS = 1024
"""The upstream's words on a record: enough for every message seen, and no room for a hostile one."""

_GONE = "the client closed the connection"
MISSING_DONE = "missing_done"
"""The note on an answer that was whole, and whose server closed it without the API's last word."""


class Relay:
    """The answer to one attempt.

    Args:
        dialect: the client's API.
        request_id: the interception's id, told to the client with errors of ours.
        policy: what is kept of the content.
    """

    __slots__ = (
        "_decoder", "_dialect", "_earlier", "_ended_with", "_gone", "_request_id", "barred", "bytes_in", "bytes_out",
        "cause", "committed", "error", "error_type", "events", "first_event_at", "http_status", "last_event",
        "last_words", "late", "note", "observer", "said", "secrets", "state", "terminal_event_seen", "trailing_bytes",
        "upstream_request_id",
    )  # fmt: skip

    def __init__(self, dialect: Dialect, request_id: str, policy: ContentPolicy = NOTHING) -> None:
        self._dialect = dialect
        self._decoder: StreamDecoder | None = None
        self._request_id = request_id
        self._earlier: Outcome | None = None
        self._gone: Cause | None = None
        self._ended_with: tuple[Usage, UsageSource, str] | None = None
        self.committed = False
        """Whether the client has the head of a stream: whatever comes is told in that stream."""
        self.observer: Observer = dialect.observer(policy)
        self.state = State.CONNECTING
        self.secrets: tuple[str, ...] = ()
        """Taken out of the upstream's words: it may echo what it was sent."""
        self.cause: Cause | None = None
        self.error = ""
        self.error_type: str | None = None
        self.said = ""
        """The words of an exception or error frame, without its name: clients match on them, whole."""
        self.last_words = b""
        self.late = False
        """Whether the connection failed for want of time."""
        self.barred = False
        """Whether all keys are refused, where there is none to ask with."""
        self.note = ""
        self.terminal_event_seen = False
        self.last_event = ""
        self.events = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.trailing_bytes = 0
        self.http_status: int | None = None
        self.upstream_request_id = ""
        self.first_event_at: float | None = None

    def follow(self, before: "Relay", answered: Outcome | None) -> None:
        """Be the answer to a further attempt, which is still to be sent.

        Args:
            before: the last attempt's, which has ended.
            answered: what it and the turns before have given, where its answer is a part of what the client gets.
        """
        self.state = State.BETWEEN
        self.secrets = before.secrets
        self.committed = before.committed
        self._earlier = before._earlier if answered is None else answered  # noqa: SLF001 - its own kind

    def on(self, signal: Signal, error: str = "") -> None:
        """Take a fact. The first decisive one sets `cause` and `error`; later ones change nothing."""
        if self.state is State.ENDED:
            return
        self.state, cause = step(self.state, signal)
        if cause is not None and self._gone is not None:
            cause, error = self._gone, _GONE
        if cause is not None:
            self.cause = cause
            if cause is not Cause.CLEAN:
                ours = FAULT_OF[cause].message if cause in FAULT_OF else cause.value
                self.error = redact(error or ours, self.secrets)[:MAX_ERROR_CHARACTERS]

    def lose_client(self) -> None:
        """The client has left, which is how this answer ends; it is listened to on for what it costs."""
        self._gone = step(self.state, Signal.CLIENT_LOST).cause

    def begin_stream(self, decoder: StreamDecoder) -> None:
        """Take the good head of a stream; `decoder` turns what follows into the client's text."""
        self._decoder = decoder
        self.on(Signal.STREAM_HEAD)

    def feed_data(self, data: bytes, now: float) -> bytes:
        """Take bytes of a streaming answer's body. Returns what the client gets now; see the module for the rest."""
        self.bytes_in += len(data)
        if self.state is not State.STREAMING or self._decoder is None:
            self.trailing_bytes += len(data)
            return b""
        try:
            scan = self._decoder.feed_data(data)
        except WireError as error:
            return self._break(error, now)
        return self._take(scan, now)

    def feed_eof(self, now: float) -> bytes:
        """Take the end of a streaming answer's body, complete by the framing of HTTP."""
        if self.state is not State.STREAMING or self._decoder is None:
            return b""
        try:
            scan = self._decoder.feed_eof()
        except WireError as error:
            return self._break(error, now)
        text = self._take(scan, now)
        if self.state is State.STREAMING:
            self._meet_end_of_body()
        return text

    def take_body(self, signal: Signal, error: str = "") -> None:
        """Take what the observer says of an answer that is not a stream; `error` is ours, where it has none."""
        self.terminal_event_seen = signal is Signal.LAST_WORD
        self.on(signal, error or self.observer.error or "the answer is not the JSON promised")

    def fail(self, signal: Signal, error: str = "") -> None:
        """Take a fact that ends the answer, and keep an error event of ours as `last_words` where a stream is open."""
        before = self.cause
        if before is not None:
            return
        streaming = self.committed or self.state in _OPEN
        held, self.last_words = self.last_words, b""
        self.on(signal, error)
        if self.state is not State.ENDED:
            self.last_words = held
        elif streaming and (self.cause in FAULT_OF or self.cause is Cause.HTTP_STATUS):
            self.last_words = self.observer.error_event(self.telling())

    def telling(self) -> Telling:
        """Return what the client is told of the end. Only for a cause in `FAULT_OF`, and for an error status."""
        cause = self.cause or Cause.INTERNAL
        if cause is Cause.HTTP_STATUS:
            return Telling(kind_of_status(self.http_status or 0), self.error, self._request_id)
        fault = KEYS_REFUSED if self.barred else FAULT_OF[cause]
        kind = kind_of_exception(self.error_type or "") if cause in _THEIR_WORDS else None
        if self._timed_out:
            kind = FAULT_OF[Cause.RESPONSE_TIMEOUT].kind
        message = (self.said or self.error) if cause in _THEIR_WORDS else ""
        return Telling(kind or fault.kind, message or fault.message, self._request_id)

    def refusal(self) -> tuple[int, Telling]:
        """Return status and words of our own error, where no head was sent to the client yet."""
        if self.cause is Cause.HTTP_STATUS:
            # Its body did not come whole; else the upstream's own words would be passed on.
            status = self.http_status or FAULT_OF[Cause.UNEXPECTED_RESPONSE].status
            return status, Telling(
                kind_of_status(status), f"the upstream answered with status {status}", self._request_id
            )
        cause = Cause.RESPONSE_TIMEOUT if self._timed_out else self.cause or Cause.INTERNAL
        return (KEYS_REFUSED if self.barred else FAULT_OF[cause]).status, self.telling()

    @property
    def _timed_out(self) -> bool:
        return self.late and self.cause is Cause.CONNECT_FAILED

    @property
    def message_id(self) -> str:
        """The id of the message that is under way; between two turns that of the last one."""
        own = redact(self.observer.message_id, self.secrets)
        return self._earlier.message_id if not own and self._earlier is not None else own

    def take_facts(self) -> list[tuple[ToolUse | Thought, str]]:
        """Return the tool uses and thoughts that completed since the last call, each with its message's id.

        What the upstream echoes in them of the request's secrets is taken out.
        """
        told: list[tuple[ToolUse | Thought, str]] = []
        for fact in self.observer.facts:
            parts = [redact_cut(part, self.secrets) for part in fact]
            kept = ToolUse(*parts) if isinstance(fact, ToolUse) else Thought(*parts)
            told.append((kept, redact(self.observer.message_id, self.secrets)))
        self.observer.facts.clear()
        return told

    def attempt(self, *, number: int, origin: str, started_at: float, duration: float, evidence: Evidence) -> Attempt:
        """Return the attempt that has ended."""
        cause = self.cause or Cause.INTERNAL
        usage, source, message_id = self._answer(cause)
        return Attempt(
            number=number,
            origin=origin,
            started_at=started_at,
            duration=duration,
            termination=TERMINATION_OF[cause],
            cause=cause,
            error=self.error,
            evidence=evidence,
            usage=usage,
            usage_source=source,
            message_id=message_id,
        )

    def outcome(self, *, ended_at: float, duration: float, evidence: Evidence) -> Outcome:
        """Return the one outcome of an interception whose last attempt has ended, with what earlier turns gave."""
        cause = self.cause or Cause.INTERNAL
        observer = self.observer
        usage, source, message_id = self._answer(cause)
        outcome = Outcome(
            termination=TERMINATION_OF[cause],
            cause=cause,
            error=self.error,
            ended_at=ended_at,
            duration=duration,
            evidence=evidence,
            health=health_of(cause, self.http_status, self.error_type),
            usage=usage,
            usage_source=source,
            message_id=message_id,
            response_model=redact(observer.response_model, self.secrets),
            stop_reason=redact(observer.stop_reason, self.secrets),
        )
        return outcome if self._earlier is None else together(self._earlier, outcome)

    def give_up(self, error: str, *, ended_at: float, duration: float) -> Outcome:
        """End as `internal`, whatever was decided, and return the plainest outcome.

        For an owner whom the telling of the end has failed: nothing is asked here that may have been what failed.
        """
        self.state, self.cause, self.error = State.ENDED, Cause.INTERNAL, error
        return Outcome(
            termination=TERMINATION_OF[Cause.INTERNAL],
            cause=Cause.INTERNAL,
            error=error,
            ended_at=ended_at,
            duration=duration,
            evidence=Evidence(
                terminal_event_seen=self.terminal_event_seen,
                events=self.events,
                bytes_in=self.bytes_in,
                bytes_out=self.bytes_out,
                http_status=self.http_status,
            ),
            health=Health.NEITHER,
            usage=Usage(),
            usage_source=UsageSource.NONE,
            message_id="",
            response_model="",
            stop_reason="",
        )

    def _answer(self, cause: Cause) -> tuple[Usage, UsageSource, str]:
        """Return the tokens of an answer that has ended, where they come from, and its message's id. Asked twice."""
        if self._ended_with is None:
            self._ended_with = self._usage(), self._usage_source(cause), redact(self.observer.message_id, self.secrets)
        return self._ended_with

    def _usage_source(self, cause: Cause) -> UsageSource:
        source = self.observer.usage_source()
        heard_out = cause is Cause.CLEAN or (self._gone is not None and self.terminal_event_seen)
        if source is UsageSource.PROVIDER_FINAL and not heard_out:
            return UsageSource.PROVIDER_PARTIAL
        return source

    def _usage(self) -> Usage:
        usage = self.observer.usage
        if not self.secrets or usage[4:] == ((), "", ""):
            return usage
        tier, region = redact(usage.service_tier, self.secrets), redact(usage.region, self.secrets)
        extras = tuple([(redact(name, self.secrets), count) for name, count in usage.extras])
        return usage._replace(extras=extras, service_tier=tier, region=region)

    def evidence(self, started: float) -> Evidence:
        """Return what the decision was made from. `started` and the relay's times share one monotonic clock."""
        return Evidence(
            terminal_event_seen=self.terminal_event_seen,
            last_event=redact(self.last_event, self.secrets),
            events=self.events,
            bytes_in=self.bytes_in,
            bytes_out=self.bytes_out,
            http_status=self.http_status,
            upstream_request_id=self.upstream_request_id,
            time_to_first_event=None if self.first_event_at is None else self.first_event_at - started,
            invocation_latency=self.observer.invocation_latency,
            first_byte_latency=self.observer.first_byte_latency,
            note=self.note,
        )

    def _take(self, scan: Scan, now: float) -> bytes:
        text, events, count = scan
        if count:
            self.events += count
            if self.first_event_at is None:
                self.first_event_at = now
        if not events:
            if count:
                self.last_event = self._dialect.quiet_event
            return text
        return self._observe(scan)

    def _observe(self, scan: Scan) -> bytes:
        text, events, quiet = scan
        start = 0
        for event in events:
            if isinstance(event, Frame):
                self._meet_frame(event)
                return text
            quiet -= 1
            self.last_event = event.type
            signal = self.observer.observe(event)
            if signal is not None:
                return self._meet_end(signal, text, start, event.end)
            start = event.end
        if quiet and isinstance(events[-1], Event) and events[-1].end < len(text):
            self.last_event = self._dialect.quiet_event
        return text

    def _meet_end(self, signal: Signal, text: bytes, start: int, end: int) -> bytes:
        """The last word, or an error event: it is relayed byte for byte, less secrets of ours, and nothing behind it.

        What stands between the event before it and its end are the last words; the text before that is returned.
        """
        held = self.bytes_in - self._decoder.taken if self._decoder is not None else 0
        self.trailing_bytes += len(text) - end + held
        self.terminal_event_seen = signal is Signal.LAST_WORD
        self.on(signal, self.observer.error)
        last = text[start:end]
        self.last_words = last if signal is Signal.LAST_WORD else redact_bytes(last, self.secrets)
        return text[:start]

    def _meet_end_of_body(self, error: str = "") -> None:
        """The body is complete, and the last word was not in it: it is missing, or (`error`) half an event."""
        if not self.observer.finished:
            self.fail(Signal.BODY_END, error)
            return
        self.note = MISSING_DONE
        self.last_words = self.observer.closing()
        self.on(Signal.LAST_WORD)

    def _meet_frame(self, frame: Frame) -> None:
        """An exception or error frame: AWS ends the stream."""
        exception = frame.headers.get(":message-type") == "exception"
        name = str(frame.headers.get(":exception-type" if exception else ":error-code", ""))
        self.error_type = name
        self.last_event = f"{'exception' if exception else 'error'}:{name}"
        words = words_of(frame.payload) or str(frame.headers.get(":error-message", ""))
        self.said = redact(words, self.secrets)[:MAX_ERROR_CHARACTERS]
        signal = Signal.EXCEPTION_FRAME if exception else Signal.ERROR_FRAME
        self.fail(signal, ": ".join(part for part in (name, words) if part))

    def _break(self, error: WireError, now: float) -> bytes:
        """The bytes broke their framing, or ended inside it. What came before the break still counts."""
        text = self._take(error.before, now)
        if self.state is not State.STREAMING:
            return text
        if isinstance(error, TruncatedEvent):
            self._meet_end_of_body(str(error))
        else:
            self.fail(_SIGNAL_OF[type(error)], str(error))
        return text


_OPEN = frozenset({State.STREAMING, State.FINISHED})
"""States in which the client may have a stream open, that must not end as if it were complete."""

_THEIR_WORDS = frozenset({Cause.EXCEPTION_FRAME, Cause.ERROR_FRAME})
"""Causes that come with the upstream's own message, which the client gets."""

_SIGNAL_OF = {
    CorruptFrame: Signal.BAD_FRAME,
    CorruptPayload: Signal.BAD_PAYLOAD,
    TruncatedFrame: Signal.BODY_END_IN_FRAME,
}
