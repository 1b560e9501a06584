"""OpenAI's Chat Completions: events without a type, and `[DONE]`; as OpenAI sends them, and servers compatible with it.

Source: https://platform.openai.com/docs/api-reference/chat-streaming and the recorded traffic of several servers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aibridge import jsontext
from aibridge.body import Body
from aibridge.content import NOTHING, ContentPolicy, Keep
from aibridge.dialects.asking import read_user_id
from aibridge.dialects.base import Telling, fields_of, words_of
from aibridge.dialects.chat_asking import read_prompt, read_tool_call_id
from aibridge.dialects.chat_calls import Calls
from aibridge.dialects.chat_quiet import quiet_templates
from aibridge.dialects.chat_usage import read_usage, usage_in
from aibridge.dialects.counts import is_count, seconds_of, word_in
from aibridge.dialects.openai_errors import error_body
from aibridge.errors import PayloadError
from aibridge.lifecycle import Signal
from aibridge.values import Event, Thought, ToolUse, Usage, UsageSource
from aibridge.wire import encode_event

MAX_CHOICES = 128
"""Of one answer; the API gives no more. Of others nothing is learned, and they are not waited for."""

_DONE = b"[DONE]"
_FAILED = "error"
"""No reason of a model to stop, but OpenRouter's and Mistral's word for an answer that broke off; OpenRouter tells why
in the choice. Other choices may still come whole, and the client gets them."""


class ChatObserver:
    """Learns ids, usage, the stop reason, errors, tool calls and thoughts from one answer."""

    first_byte_latency: float | None = None

    __slots__ = (
        "_begun", "_calls", "_failed", "_final", "_repair_done", "_stopped", "error", "facts", "invocation_latency",
        "message_id", "response_model", "stop_reason", "usage",
    )  # fmt: skip

    def __init__(self, policy: ContentPolicy = NOTHING, *, repair_done: bool = False) -> None:
        self._calls = Calls(
            arguments=policy.arguments is not Keep.OFF,
            thoughts=policy.thoughts is not Keep.OFF,
        )
        self.facts: list[ToolUse | Thought] = self._calls.facts
        self.message_id = ""
        self.response_model = ""
        self.stop_reason = ""
        self.error = ""
        self.usage = Usage()
        self.invocation_latency: float | None = None
        self._final = False
        self._failed = False
        self._begun = {0}  # every answer has the first choice, though its events may be quiet
        self._stopped: set[int] = set()
        self._repair_done = repair_done

    def observe(self, event: Event) -> Signal | None:
        """Learn from one event; see `Observer`."""
        if event.data == _DONE:
            self._calls.stop_all()
            return Signal.ERROR_EVENT if self._failed else Signal.LAST_WORD
        if not event.type and self._calls.take_usual(event.data):
            return None
        fields = fields_of(event.data)
        if event.type == "error" or is_error(fields):
            self.error = words_of(event.data)
            return Signal.ERROR_EVENT
        self._learn_names(fields)
        for index, choice in _choices_of(fields):
            delta = choice.get("delta")
            if isinstance(delta, dict):
                self._begun.add(index)
                self._calls.take(index, delta)
            self._learn_stop(index, choice)
        self._learn_usage(fields)
        return Signal.ERROR_EVENT if self._failed and self.finished else None

    def observe_body(self, body: bytes) -> Signal:
        """Learn from a whole answer; see `Observer`."""
        try:
            answer = jsontext.loads(body)
        except PayloadError:
            return Signal.BAD_PAYLOAD
        if not isinstance(answer, dict):
            return Signal.BAD_PAYLOAD
        if is_error(answer):
            self.error = words_of(body)
            return Signal.ERROR_EVENT
        self._learn_names(answer)
        for index, choice in _choices_of(answer):
            message = choice.get("message")
            if isinstance(message, dict):
                self._calls.take_whole(message)
            self._learn_stop(index, choice)
        self._learn_usage(answer)
        self._final = self.usage != Usage()
        return Signal.ERROR_EVENT if self._failed else Signal.LAST_WORD

    def observe_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Learn how long OpenAI says that it took; see `Observer`."""
        self.invocation_latency = seconds_of(metrics.get("invocationLatency"))

    def usage_source(self) -> UsageSource:
        """Say where the counts come from; see `Observer`. Counts from before the end may be less than the whole."""
        if self._final:
            return UsageSource.PROVIDER_FINAL
        return UsageSource.PROVIDER_PARTIAL if self.usage != Usage() else UsageSource.NONE

    @property
    def finished(self) -> bool:
        """Whether every choice has a finish reason; see `Observer`."""
        return self._begun <= self._stopped

    def closing(self) -> bytes:
        """Return the last word where it is to be repaired; see `Observer`."""
        return encode_event("", _DONE) if self._repair_done else b""

    def error_event(self, telling: Telling) -> bytes:
        """Return an error as the last event of a stream: no `[DONE]` comes behind it, which would mean success."""
        return encode_event("", error_body(telling))

    def _learn_names(self, answer: dict[str, Any]) -> None:
        # Azure's first event has empty ones.
        self.message_id = self.message_id or jsontext.text_of(answer.get("id"))
        self.response_model = self.response_model or jsontext.text_of(answer.get("model"))

    def _learn_stop(self, index: int, choice: dict[str, Any]) -> None:
        # Old Ollama's may be empty.
        reason = _FAILED if choice.get("error") else jsontext.text_of(choice.get("finish_reason"))
        if reason:
            self._stopped.add(index)
            self._calls.stop(index)
            if index == 0 or not self.stop_reason:
                self.stop_reason = reason
        if reason == _FAILED:
            self._failed = True
            self.error = self.error or words_of(jsontext.dumps({"error": choice.get("error")}))

    def _learn_usage(self, answer: dict[str, Any]) -> None:
        # Where several events have usage it is cumulative: the last one wins.
        said = usage_in(answer)
        usage = read_usage(said) if said else None
        if usage is not None:
            self.usage = usage._replace(service_tier=word_in(answer, "service_tier"))
            self._final = self.finished


@dataclass(frozen=True, slots=True)
class ChatDialect:
    """The Chat Completions API.

    `repair_done`: an answer that is whole, and whose server closed it without `[DONE]`, gets one.
    """

    repair_done: bool = False

    @property
    def name(self) -> str:
        """The dialect's name."""
        return "chat"

    @property
    def quiet_event(self) -> str:
        """Chunks have no type."""
        return ""

    @property
    def ping(self) -> bytes:
        """A comment: the API has no event that says nothing."""
        return b": ping\n\n"

    def quiet(self, policy: ContentPolicy) -> tuple[bytes, ...]:
        """Return what the policy needs no look into."""
        return quiet_templates(policy)

    def prompt(self, body: Body) -> str:
        """Return the user's words in a request."""
        return read_prompt(body)

    def tool_call_id(self, body: Body) -> str:
        """Return the tool call that a request answers."""
        return read_tool_call_id(body)

    def user_id(self, body: Body) -> str:
        """Return `metadata.user_id`: where callers are known to tell their session in a body, it is there."""
        return read_user_id(body)

    def observer(self, policy: ContentPolicy) -> ChatObserver:
        """Return a new observer for one answer."""
        return ChatObserver(policy, repair_done=self.repair_done)

    def error_body(self, telling: Telling) -> bytes:
        """Return an error as a JSON body."""
        return error_body(telling)


def is_error(answer: dict[str, Any]) -> bool:
    """Whether an object is an error: `{"error": …}`, or older vLLM's `{"object": "error", "message": …}`."""
    return bool(answer.get("error")) or answer.get("object") == "error"


def _choices_of(answer: dict[str, Any]) -> list[tuple[int, dict[str, Any]]]:
    """List the choices, each with its index; one without is the first."""
    choices = answer.get("choices")
    listed = [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []
    indexed = [(choice.get("index"), choice) for choice in listed]
    known = [(index if is_count(index) else 0, choice) for index, choice in indexed]
    return [(index, choice) for index, choice in known if index < MAX_CHOICES]
