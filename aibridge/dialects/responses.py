"""OpenAI Responses: response.created … response.completed, and the whole object where it is not streamed.

Source: https://platform.openai.com/docs/api-reference/responses-streaming, the types of OpenAI's SDKs, and recorded
traffic. Of an event's two names the `type` in its data counts: clients go by it, and some proxies leave out the line
`event:`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from aibridge import jsontext
from aibridge.body import Body
from aibridge.content import NOTHING, ContentPolicy, Keep
from aibridge.dialects.base import Telling, fields_of
from aibridge.dialects.counts import seconds_of, word_in
from aibridge.dialects.openai_errors import error_body, error_object
from aibridge.dialects.responses_asking import read_prompt, read_prompt_cache_key, read_tool_call_id
from aibridge.dialects.responses_items import Items
from aibridge.dialects.responses_usage import read_usage
from aibridge.errors import PayloadError
from aibridge.faults import ErrorKind
from aibridge.lifecycle import Signal
from aibridge.values import Event, Thought, ToolUse, Usage, UsageSource
from aibridge.wire import encode_event

_ITEM_DONE = "response.output_item.done"
_BEGINNINGS = frozenset({"response.created", "response.queued", "response.in_progress"})
_ENDS = {
    "response.completed": Signal.LAST_WORD,
    "response.incomplete": Signal.LAST_WORD,
    "response.cancelled": Signal.LAST_WORD,
    "response.failed": Signal.ERROR_EVENT,
}
"""The last events of streams. `response.cancelled` is that of a background response which its client called off."""

_TOLD = _BEGINNINGS | _ENDS.keys() | {_ITEM_DONE}
"""Of the events `response.…` those that carry facts."""

_FAILURES = {
    ErrorKind.INVALID_REQUEST: "invalid_prompt",
    ErrorKind.TOO_LARGE: "invalid_prompt",
    ErrorKind.RATE_LIMIT: "rate_limit_exceeded",
    ErrorKind.BUDGET: "insufficient_quota",
}
"""Codes of a failed response that clients act upon: Codex asks again at `server_error` and `rate_limit_exceeded`, and
gives up at `invalid_prompt` and `insufficient_quota`. For the other kinds of error the API has no code: they are the
server's."""

_LAST_SEQUENCE_NUMBER = 2**31 - 1
"""Of our own error: no client can have seen a higher one. The last event's is not known, as quiet events are not read;
and what is lower than `starting_after` is dropped by OpenAI's Python SDK."""


class ResponsesObserver:
    """Learns ids, usage, the stop reason, errors, tool uses and thoughts from one answer."""

    finished = False  # a response without its last event is no whole one: no server is known that leaves it out

    __slots__ = (
        "_created_at", "_final", "_items", "error", "facts", "first_byte_latency", "invocation_latency", "message_id",
        "response_model", "stop_reason", "usage",
    )  # fmt: skip

    def __init__(self, policy: ContentPolicy = NOTHING) -> None:
        self._items = Items(arguments=policy.arguments is not Keep.OFF, thoughts=policy.thoughts is not Keep.OFF)
        self.facts: list[ToolUse | Thought] = self._items.facts
        self.message_id = ""
        self.response_model = ""
        self.stop_reason = ""
        self.error = ""
        self.invocation_latency: float | None = None
        self.first_byte_latency: float | None = None
        self.usage = Usage()
        self._created_at: float = 0
        self._final = False

    def observe(self, event: Event) -> Signal | None:
        """Learn from one event; see `Observer`."""
        if event.type.startswith("response.") and (
            event.type not in _TOLD or (event.type in _BEGINNINGS and self.message_id)
        ):
            return None
        fields = fields_of(event.data)
        kind = jsontext.text_of(fields.get("type")) or event.type
        response = fields.get("response")
        if kind in _ENDS:
            return self._end(response if isinstance(response, dict) else {}, kind)
        if kind == "error" or fields.get("error"):
            self.error = _words_of(fields.get("error") or fields)
            return Signal.ERROR_EVENT
        if kind == _ITEM_DONE:
            self._items.take(fields.get("item"), fields.get("output_index"))
        elif kind in _BEGINNINGS and isinstance(response, dict):
            self._learn(response)
        return None

    def observe_body(self, body: bytes) -> Signal:
        """Learn from a whole answer; see `Observer`. A response that goes on in the background is one as well."""
        try:
            response = jsontext.loads(body)
        except PayloadError:
            return Signal.BAD_PAYLOAD
        if not isinstance(response, dict):
            return Signal.BAD_PAYLOAD
        return self._end(response, "response.failed" if response.get("error") else "")

    def observe_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Learn how long OpenAI says that it took; see `Observer`."""
        self.invocation_latency = seconds_of(metrics.get("invocationLatency"))

    def usage_source(self) -> UsageSource:
        """Say where the counts come from; see `Observer`."""
        if self._final:
            return UsageSource.PROVIDER_FINAL
        return UsageSource.NONE if self.usage == Usage() else UsageSource.PROVIDER_PARTIAL

    def closing(self) -> bytes:
        """Return nothing; see `finished`."""
        return b""

    def error_event(self, telling: Telling) -> bytes:
        """Return `response.failed`, with an `error` of its own beside the response.

        Clients that know the events of this API, as Codex does, know no other end that is an error; of `error` some
        take none. OpenAI's SDKs hand out `response.failed` as they do any event, and raise where an event has a member
        `error`. The response is the one that began, with all members that the API requires; where none began, one of
        our own.
        """
        error = {"code": _FAILURES.get(telling.kind, "server_error"), "message": telling.message}
        if telling.request_id:
            error["request_id"] = telling.request_id
        response = {
            "id": self.message_id or f"resp_{telling.request_id}",
            "object": "response",
            "created_at": self._created_at,
            "status": "failed",
            "error": error,
            "incomplete_details": None,
            "instructions": None,
            "metadata": {},
            "model": self.response_model,
            "output": [],
            "parallel_tool_calls": True,
            "temperature": None,
            "tool_choice": "auto",
            "tools": [],
            "top_p": None,
            "usage": None,
        }
        fields = {
            "type": "response.failed",
            "sequence_number": _LAST_SEQUENCE_NUMBER,
            "response": response,
            "error": error_object(telling),
        }
        return encode_event("response.failed", jsontext.dumps(fields))

    def _learn(self, response: dict[str, Any]) -> bool:
        """Learn what a response says of itself, and return whether it tells usage."""
        self.message_id = self.message_id or jsontext.text_of(response.get("id"))
        self.response_model = jsontext.text_of(response.get("model")) or self.response_model
        created_at = response.get("created_at")
        if isinstance(created_at, int | float):
            self._created_at = created_at
        usage = read_usage(response.get("usage"))
        if usage is not None:
            self.usage = usage._replace(service_tier=word_in(response, "service_tier"))
        return usage is not None

    def _end(self, response: dict[str, Any], kind: str) -> Signal:
        """Learn from a response that ends with an event of this kind; "" where its status tells."""
        self._final = self._learn(response)
        self._items.take_output(response.get("output"))
        failed = response.get("status") == "failed"
        signal = Signal.ERROR_EVENT if failed else _ENDS.get(kind, Signal.LAST_WORD)
        if signal is Signal.ERROR_EVENT:
            self.error = _words_of(response.get("error"))
        else:
            details = response.get("incomplete_details")
            reason = jsontext.text_of(details.get("reason")) if isinstance(details, dict) else ""
            self.stop_reason = reason or kind.removeprefix("response.") or jsontext.text_of(response.get("status"))
        return signal


class ResponsesDialect:
    """The Responses API."""

    name = "responses"
    quiet_event = "response.*.delta"
    ping = b": ping\n\n"

    def quiet(self, policy: ContentPolicy) -> tuple[bytes, ...]:  # noqa: ARG002  facts come whole, whatever is kept
        """Return templates of all deltas: what they bring comes once more, whole."""
        return _QUIET

    def prompt(self, body: Body) -> str:
        """Return the user's words in a request."""
        return read_prompt(body)

    def tool_call_id(self, body: Body) -> str:
        """Return the tool call that a request answers."""
        return read_tool_call_id(body)

    def user_id(self, body: Body) -> str:
        """Return `prompt_cache_key`."""
        return read_prompt_cache_key(body)

    def observer(self, policy: ContentPolicy) -> ResponsesObserver:
        """Return a new observer for one answer."""
        return ResponsesObserver(policy)

    def error_body(self, telling: Telling) -> bytes:
        """Return an error as a JSON body."""
        return error_body(telling)


_DELTAS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("output_text", ('"content_index":#', '"logprobs":[]')),
    ("output_text", ('"content_index":#',)),
    ("function_call_arguments", ()),
    ("custom_tool_call_input", ()),
    ("reasoning_summary_text", ('"summary_index":#',)),
    ("reasoning_text", ('"content_index":#',)),
)
"""Deltas by kind, and the members that they have beside those of all."""


def _templates() -> Iterator[bytes]:
    """Yield the deltas as servers write them.

    OpenAI writes the type first and the rest by the alphabet, with `obfuscation` where it is not switched off; vLLM and
    Ollama all by the alphabet; others in the order of OpenAI's documentation.
    """
    place, delta, number = ('"item_id":$', '"output_index":#'), '"delta":$', '"sequence_number":#'
    for name, own in _DELTAS:
        kind = f'"type":"response.{name}.delta"'
        plain = sorted((*place, *own, delta, number))
        obfuscated = sorted((*plain, '"obfuscation":$'))
        orders = [kind, *obfuscated], [kind, *plain], sorted((kind, *plain)), [kind, *place, *own, delta, number]
        yield from (f"{{{','.join(members)}}}".encode() for members in orders)


_QUIET = tuple(_templates())


def _words_of(error: Any) -> str:
    """Return the words of an error: a string, or an object with a code (or type) and a message."""
    if not isinstance(error, dict):
        return jsontext.text_of(error)
    code = error.get("code") or error.get("type")
    words = ["" if code in (None, "error") else str(code), jsontext.text_of(error.get("message"))]
    return ": ".join(filter(None, words))
