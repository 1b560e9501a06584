"""The contract of a dialect: what the events of one API mean, and how that API says an error or a ping.

A dialect does no I/O, reads no clock, and does not know where the bytes come from: the same dialect serves every
provider that speaks it.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from aibridge import jsontext
from aibridge.body import Body
from aibridge.content import ContentPolicy
from aibridge.errors import PayloadError
from aibridge.faults import ErrorKind
from aibridge.lifecycle import Signal
from aibridge.values import Event, Thought, ToolUse, Usage, UsageSource

MAX_FACTS = 1024
"""Tool uses and thoughts of one answer. Real ones have some ten at most."""


class Telling(NamedTuple):
    """An error as a client is told it. `request_id` is the interception's id, or empty where there is none."""

    kind: ErrorKind
    message: str
    request_id: str


class Observer(Protocol):
    """Learns from the events of one answer, and changes nothing."""

    message_id: str
    response_model: str
    stop_reason: str
    error: str
    facts: list[ToolUse | Thought]
    """What has completed; whoever tells it takes it out."""
    invocation_latency: float | None
    """Seconds that the provider says it took, from the request to the last word; None where it does not say."""
    first_byte_latency: float | None
    """The same, to the first event."""

    @property
    def usage(self) -> Usage:
        """The provider's counts so far."""

    def observe(self, event: Event) -> Signal | None:
        """Learn from one event. Returns `LAST_WORD` or `ERROR_EVENT` where the event is one."""

    def observe_body(self, body: bytes) -> Signal:
        """Learn from a whole non-streaming answer.

        Returns:
            `LAST_WORD`, `ERROR_EVENT` for an error object, `BAD_PAYLOAD` where it is not the JSON promised.
        """

    def observe_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Learn from what the provider tells of usage and time beside the answer. Comes after the answer."""

    def usage_source(self) -> UsageSource:
        """Say where `usage` comes from, as far as the answer came."""

    @property
    def finished(self) -> bool:
        """Whether the answer is whole, though the API's last word has not come: some servers never say it."""

    def closing(self) -> bytes:
        """Return what the client gets last of an answer that is `finished` without the last word; mostly nothing."""

    def error_event(self, telling: Telling) -> bytes:
        """Return an error as the last event of this stream."""


class Dialect(Protocol):
    """One API."""

    @property
    def name(self) -> str:
        """The dialect's name."""

    def quiet(self, policy: ContentPolicy) -> tuple[bytes, ...]:
        """Return templates of the events that carry no fact (see `aibridge.wire.SSEScanner`)."""

    @property
    def quiet_event(self) -> str:
        """The type of the events that `quiet` describes."""

    @property
    def ping(self) -> bytes:
        """A whole event that keeps a client waiting and says nothing."""

    def prompt(self, body: Body) -> str:
        """Return the user's words in a request; empty where nobody asked. What is of odd shape says nothing."""

    def tool_call_id(self, body: Body) -> str:
        """Return the tool call that a request answers; empty where it answers none."""

    def user_id(self, body: Body) -> str:
        """Return what in a request's body may tell the caller's session, or the empty string."""

    def observer(self, policy: ContentPolicy) -> Observer:
        """Return a new observer for one answer. It assembles what the policy keeps, and no more."""

    def error_body(self, telling: Telling) -> bytes:
        """Return an error as a JSON body."""


def dumped(value: Any) -> str:
    """Return the JSON text of a value; empty where there is none, or it has none."""
    try:
        return "" if value is None else jsontext.dumps(value).decode()
    except PayloadError:
        return ""


def fields_of(data: bytes) -> dict[str, Any]:
    """Return the object that an event holds; empty where it is none: no data, `[DONE]`, another value."""
    try:
        fields = jsontext.loads(data)
    except PayloadError:
        return {}
    return fields if isinstance(fields, dict) else {}


def words_of(body: bytes) -> str:
    """Return the message in an error body of any known shape, or the empty string.

    The shapes: `{"error": {"type", "message"}}`, `{"error": "…"}`, `{"message": "…"}`, `{"Message": "…"}`; of ChatGPT's
    backend `{"detail": "…"}`; any of them in an array, as Gemini has it.
    """
    try:
        fields = jsontext.loads(body)
    except PayloadError:
        return ""
    if isinstance(fields, list) and fields:
        fields = fields[0]
    if not isinstance(fields, dict):
        return ""
    detail = fields.get("detail")
    error = fields.get("error", detail if isinstance(detail, str) else fields)
    if isinstance(error, dict):
        words = [error.get("type"), error.get("message", error.get("Message"))]
        return ": ".join(word for word in words if isinstance(word, str) and word != "error")
    return error if isinstance(error, str) else ""
