"""Anthropic Messages: message_start … message_stop, as Anthropic sends it and as Bedrock wraps it.

Source: https://docs.anthropic.com/en/docs/build-with-claude/streaming and the recorded traffic of both providers.
"""

from collections.abc import Mapping
from typing import Any

from aibridge import jsontext
from aibridge.body import Body
from aibridge.content import NOTHING, ContentPolicy, Keep
from aibridge.dialects.asking import read_prompt, read_tool_call_id, read_user_id
from aibridge.dialects.base import Telling, fields_of, words_of
from aibridge.dialects.blocks import Blocks
from aibridge.dialects.counts import COUNT_NAME, MOST_COUNTS, is_count, seconds_of, word_in
from aibridge.errors import PayloadError
from aibridge.faults import ErrorKind
from aibridge.lifecycle import Signal
from aibridge.values import Event, Thought, ToolUse, Usage, UsageSource
from aibridge.wire import encode_event

_ERROR_TYPES = {
    ErrorKind.INVALID_REQUEST: "invalid_request_error",
    ErrorKind.AUTHENTICATION: "authentication_error",
    ErrorKind.PERMISSION: "permission_error",
    ErrorKind.NOT_FOUND: "not_found_error",
    ErrorKind.MODEL_NOT_FOUND: "not_found_error",
    ErrorKind.TOO_LARGE: "request_too_large",
    ErrorKind.RATE_LIMIT: "rate_limit_error",
    ErrorKind.BUDGET: "permission_error",
    ErrorKind.API: "api_error",
    ErrorKind.OVERLOADED: "overloaded_error",
    ErrorKind.TIMEOUT: "timeout_error",
    ErrorKind.NOT_SUPPORTED: "not_supported",
}

_DELTA = "content_block_delta"
_TEXT = b'{"type":"content_block_delta","index":#,"delta":{"type":"text_delta","text":$}}'
_ARGUMENTS = b'{"type":"content_block_delta","index":#,"delta":{"type":"input_json_delta","partial_json":$}}'
_THOUGHTS = b'{"type":"content_block_delta","index":#,"delta":{"type":"thinking_delta","thinking":$}}'
_QUIET = {
    (True, True): (_TEXT, _ARGUMENTS, _THOUGHTS),
    (True, False): (_TEXT, _ARGUMENTS),
    (False, True): (_TEXT, _THOUGHTS),
    (False, False): (_TEXT,),
}
"""Templates of quiet events, by what is not wanted: arguments, thoughts."""


class MessagesObserver:
    """Learns ids, usage, the stop reason, errors, tool uses and thoughts from one answer."""

    finished = False  # every server of this API says its last word

    __slots__ = (
        "_blocks", "_counts", "_final", "_region", "_service_tier", "error", "facts", "first_byte_latency",
        "invocation_latency", "message_id", "response_model", "stop_reason",
    )  # fmt: skip

    def __init__(self, policy: ContentPolicy = NOTHING) -> None:
        self._blocks = Blocks(
            arguments=policy.arguments is not Keep.OFF,
            thoughts=policy.thoughts is not Keep.OFF,
        )
        self.facts: list[ToolUse | Thought] = self._blocks.facts
        self.message_id = ""
        self.response_model = ""
        self.stop_reason = ""
        self.error = ""
        self.invocation_latency: float | None = None
        self.first_byte_latency: float | None = None
        self._counts: dict[str, int] = {}
        self._service_tier = ""
        self._region = ""
        self._final = False

    def observe(self, event: Event) -> Signal | None:
        """Learn from one event; see `Observer`."""
        if event.type == _DELTA:
            self._blocks.delta(event.data)
            return None
        fields = fields_of(event.data)
        kind = event.type or fields.get("type")
        if kind == "content_block_start":
            self._blocks.start(fields.get("index"), fields.get("content_block"))
        elif kind == _DELTA:
            self._blocks.delta(event.data)
        elif kind == "content_block_stop":
            self._blocks.stop(fields.get("index"))
        elif kind == "message_start":
            self._learn_message(fields.get("message"))
        elif kind == "message_delta":
            self._learn_delta(fields)
        elif kind == "message_stop":
            self._blocks.stop_all()
            metrics = fields.get("amazon-bedrock-invocationMetrics")
            if isinstance(metrics, dict):
                self.observe_metrics(metrics)
            return Signal.LAST_WORD
        elif kind == "error":
            self.error = words_of(event.data)
            return Signal.ERROR_EVENT
        return None

    def observe_body(self, body: bytes) -> Signal:
        """Learn from a whole answer; see `Observer`."""
        try:
            fields = jsontext.loads(body)
        except PayloadError:
            return Signal.BAD_PAYLOAD
        if not isinstance(fields, dict):
            return Signal.BAD_PAYLOAD
        if fields.get("type") == "error":
            self.error = words_of(body)
            return Signal.ERROR_EVENT
        self._learn_message(fields)
        self._blocks.take_whole(body)
        self.stop_reason = jsontext.text_of(fields.get("stop_reason"))
        self._final = bool(self._counts)
        return Signal.LAST_WORD

    def observe_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Learn from Bedrock's invocation metrics; see `Observer`.

        They are what AWS meters and bills, and win over the message's own counts. Where these said otherwise they are
        kept beside, as `message_input_tokens` and so on.
        """
        told = {ours: metrics[theirs] for theirs, ours in _BEDROCK_COUNTS.items() if is_count(metrics.get(theirs))}
        self._final = self._final or bool(told)
        said = self._counts
        if _is_whole_input(told, said):
            del told["input_tokens"]
        for name, count in told.items():
            if said.get(name, count) != count:
                said[f"message_{name}"] = said[name]
            said[name] = count
        self.invocation_latency = seconds_of(metrics.get("invocationLatency"))
        self.first_byte_latency = seconds_of(metrics.get("firstByteLatency"))

    @property
    def usage(self) -> Usage:
        """The provider's counts so far."""
        counts = self._counts
        return Usage(
            input_tokens=counts.get("input_tokens"),
            output_tokens=counts.get("output_tokens"),
            cache_read_input_tokens=counts.get("cache_read_input_tokens"),
            cache_creation_input_tokens=counts.get("cache_creation_input_tokens"),
            extras=tuple(sorted([item for item in counts.items() if item[0] not in _AT_THE_TOP])),
            service_tier=self._service_tier,
            region=self._region,
        )

    def usage_source(self) -> UsageSource:
        """Say where the counts come from; see `Observer`."""
        if self._final:
            return UsageSource.PROVIDER_FINAL
        return UsageSource.PROVIDER_PARTIAL if self._counts else UsageSource.NONE

    def closing(self) -> bytes:
        """Return nothing; see `finished`."""
        return b""

    def error_event(self, telling: Telling) -> bytes:
        """Return an error as the last event of a stream."""
        return encode_event("error", _error_body(telling))

    def _learn_message(self, message: Any) -> None:
        if isinstance(message, dict):
            self.message_id = jsontext.text_of(message.get("id"))
            self.response_model = jsontext.text_of(message.get("model"))
            self._learn_usage(message.get("usage"))

    def _learn_delta(self, fields: dict[str, Any]) -> None:
        delta = fields.get("delta")
        if isinstance(delta, dict) and isinstance(delta.get("stop_reason"), str):
            self.stop_reason = delta["stop_reason"]
        if self._learn_usage(fields.get("usage")):
            self._final = True

    def _learn_usage(self, usage: Any) -> bool:
        # The counts of message_delta are cumulative: the last one wins, nothing is added up.
        if not isinstance(usage, dict):
            return False
        counts = dict(_flat_counts(usage))
        self._counts.update(counts)
        for name in list(self._counts)[MOST_COUNTS:]:
            del self._counts[name]
        # Told at the start alone. Fast mode, which has prices of its own, is a tier to us.
        if usage.get("speed") == _FAST:
            self._service_tier = _FAST
        elif self._service_tier != _FAST:
            self._service_tier = word_in(usage, "service_tier") or self._service_tier
        self._region = word_in(usage, "inference_geo") or self._region
        return bool(counts)


class MessagesDialect:
    """The Messages API."""

    name = "messages"
    quiet_event = "content_block_delta"
    ping = b'event: ping\ndata: {"type": "ping"}\n\n'

    def quiet(self, policy: ContentPolicy) -> tuple[bytes, ...]:
        """Return what the policy needs no look into; text is never looked into."""
        return _QUIET[policy.arguments is Keep.OFF, policy.thoughts is Keep.OFF]

    def prompt(self, body: Body) -> str:
        """Return the user's words in a request."""
        return read_prompt(body.raw, body.members)

    def tool_call_id(self, body: Body) -> str:
        """Return the tool call that a request answers."""
        return read_tool_call_id(body.raw, body.members)

    def user_id(self, body: Body) -> str:
        """Return `metadata.user_id`."""
        return read_user_id(body)

    def observer(self, policy: ContentPolicy) -> MessagesObserver:
        """Return a new observer for one answer."""
        return MessagesObserver(policy)

    def error_body(self, telling: Telling) -> bytes:
        """Return an error as a JSON body."""
        return _error_body(telling)


def _error_body(telling: Telling) -> bytes:
    error = {"type": _ERROR_TYPES[telling.kind], "message": telling.message}
    body: dict[str, Any] = {"type": "error", "error": error}
    if telling.request_id:
        body["request_id"] = telling.request_id
    return jsontext.dumps(body)


_BEDROCK_COUNTS = {
    "inputTokenCount": "input_tokens",
    "outputTokenCount": "output_tokens",
    "cacheReadInputTokenCount": "cache_read_input_tokens",
    "cacheWriteInputTokenCount": "cache_creation_input_tokens",
}

_FAST = "fast"

_AT_THE_TOP = frozenset(_BEDROCK_COUNTS.values())


def _is_whole_input(told: dict[str, int], said: dict[str, int]) -> bool:
    """Whether the metrics tell one number for what the message splits into fresh and cached tokens."""
    cached = said.get("cache_read_input_tokens", 0) + said.get("cache_creation_input_tokens", 0)
    split = "cache_read_input_tokens" in told or "cache_creation_input_tokens" in told
    return cached > 0 and not split and told.get("input_tokens") == said.get("input_tokens", 0) + cached


def _flat_counts(usage: dict[str, Any]) -> list[tuple[str, int]]:
    """List the counts of a usage object; nested ones (cache_creation, server_tool_use) under their own names.

    A nested one that has the name of one at the top is a part of something, and never stands for it: also where the
    one at the top was told by another event.
    """
    nested = [fields for fields in usage.values() if isinstance(fields, dict)]
    parts = [item for fields in nested for item in fields.items() if item[0] not in _AT_THE_TOP]
    counts = [item for item in (*parts, *usage.items()) if is_count(item[1])]
    return [(name, count) for name, count in counts if name in _AT_THE_TOP or COUNT_NAME.fullmatch(name)]
