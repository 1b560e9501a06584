"""OpenTelemetry's conventions for generative AI, as data: what attributes, metrics and buckets are called.

None of it is stable yet: all of it is "Development". `stable-now` is what was released last and what back ends read
(semantic-conventions 1.41); `next` is what its successor, the repository semantic-conventions-genai, has merged since
and not released: `cache_creation` becomes `cache_write`, and the histogram of tokens becomes counters and two
histograms. Docs/decisions/0016 says what is left out, and why.
"""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import NamedTuple

from aibridge.lifecycle import Cause, Termination
from aibridge.text import bounded
from aibridge.values import Attempt, Interception, Outcome, ToolRun, Usage

MAX_TEXT_BYTES = 256
"""Of an attribute that a client or an upstream chooses."""

FAILED = frozenset({Termination.UPSTREAM_ERROR, Termination.GATEWAY_ERROR})
"""Ends that are errors of a span."""

Attributes = dict[str, str | bool | int | float | list[str]]


class Semconv(StrEnum):
    """Which conventions are followed: the setting `tracing.semconv`."""

    STABLE_NOW = "stable-now"
    NEXT = "next"
    BOTH = "both"
    OFF = "off"

    @property
    def released(self) -> bool:
        """Whether the names of the last release are told."""
        return self in {Semconv.STABLE_NOW, Semconv.BOTH}

    @property
    def coming(self) -> bool:
        """Whether those of the next one are."""
        return self in {Semconv.NEXT, Semconv.BOTH}


PROVIDER_NAMES = {
    "anthropic": "anthropic",
    "bedrock": "aws.bedrock",
    "openai": "openai",
    "copilot": "github.copilot",
}
"""`gen_ai.provider.name` by the kind of a provider. Of a server compatible with OpenAI's the kind is all that is known;
the conventions have no word for Copilot."""

OPERATION_NAMES = {"messages": "chat", "chat": "chat", "responses": "chat"}
"""`gen_ai.operation.name` by dialect."""


class Instrument(NamedTuple):
    """A metric. Without `buckets` it is a counter, else a histogram."""

    name: str
    unit: str
    text: str
    buckets: tuple[float, ...] = ()


# The conventions' buckets; behind them those that agents need, whose answers take minutes.
_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 300.0, 900.0)
_FIRST_TOKEN = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 45.0,
    60.0,
)  # fmt: skip
_PER_TOKEN = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
_TOKENS = (
    1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864,
)  # fmt: skip

OPERATION_DURATION = Instrument(
    "gen_ai.client.operation.duration", "s", "Duration of a request to a provider.", _SECONDS
)
FIRST_CHUNK = Instrument(
    "gen_ai.client.operation.time_to_first_chunk", "s", "From a request to the first event of its answer.", _SECONDS
)
REQUEST_DURATION = Instrument("gen_ai.server.request.duration", "s", "Duration of an interception.", _SECONDS)
FIRST_TOKEN = Instrument(
    "gen_ai.server.time_to_first_token", "s", "From an interception's start to its first event.", _FIRST_TOKEN
)
PER_TOKEN = Instrument(
    "gen_ai.server.time_per_output_token", "s", "Mean time of an output token after the first.", _PER_TOKEN
)
TOKEN_USAGE = Instrument("gen_ai.client.token.usage", "{token}", "Input and output tokens used.", _TOKENS)

_USAGE = "gen_ai.client.inference.usage."
INPUT_TOKENS = Instrument(_USAGE + "input_tokens", "{token}", "Input tokens used, cached ones included.")
OUTPUT_TOKENS = Instrument(_USAGE + "output_tokens", "{token}", "Output tokens used.")
CACHE_READ = Instrument(_USAGE + "cache_read.input_tokens", "{token}", "Input tokens read from a cache.")
CACHE_WRITE = Instrument(_USAGE + "cache_write.input_tokens", "{token}", "Input tokens written to a cache.")
INPUT_OF_ONE = Instrument(
    "gen_ai.client.inference.operation.input_tokens", "{token}", "Input tokens of one request.", _TOKENS
)
OUTPUT_OF_ONE = Instrument(
    "gen_ai.client.inference.operation.output_tokens", "{token}", "Output tokens of one request.", _TOKENS
)

_ALWAYS = (OPERATION_DURATION, FIRST_CHUNK, REQUEST_DURATION, FIRST_TOKEN, PER_TOKEN)
_COMING = (INPUT_TOKENS, OUTPUT_TOKENS, CACHE_READ, CACHE_WRITE, INPUT_OF_ONE, OUTPUT_OF_ONE)


def instruments(semconv: Semconv) -> tuple[Instrument, ...]:
    """Return the metrics that a setting has."""
    if semconv is Semconv.OFF:
        return ()
    return _ALWAYS + ((TOKEN_USAGE,) if semconv.released else ()) + (_COMING if semconv.coming else ())


class Measure(NamedTuple):
    """A value of a metric, and the attributes beside those that all of an interception's have."""

    instrument: Instrument
    value: float
    more: Mapping[str, str] = {}


def of_attempt(interception: Interception, attempt: Attempt) -> Iterator[Measure]:
    """Yield what one request to a provider adds to the metrics."""
    yield Measure(
        OPERATION_DURATION, attempt.duration, _end(attempt.termination, attempt.cause, attempt.evidence.http_status)
    )
    first = first_chunk(interception, attempt)
    if first is not None:
        yield Measure(FIRST_CHUNK, first)


def of_outcome(interception: Interception, outcome: Outcome, semconv: Semconv) -> Iterator[Measure]:
    """Yield what an ended interception adds to the metrics."""
    http_status = outcome.evidence.http_status
    yield Measure(REQUEST_DURATION, outcome.duration, _end(outcome.termination, outcome.cause, http_status))
    first = outcome.evidence.time_to_first_event
    if interception.streaming and first is not None and outcome.termination is Termination.COMPLETED:
        yield Measure(FIRST_TOKEN, max(first, 0.0))
        later = (outcome.usage.output_tokens or 0) - 1
        if later > 0:
            yield Measure(PER_TOKEN, max(outcome.duration - first, 0.0) / later)
    if semconv.released:
        yield from _released_tokens(outcome.usage)
    if semconv.coming:
        yield from _coming_tokens(outcome.usage)


def _released_tokens(usage: Usage) -> Iterator[Measure]:
    for kind, count in (("input", all_input(usage)), ("output", usage.output_tokens)):
        if count is not None:  # what is not known must not be reported
            yield Measure(TOKEN_USAGE, count, {"gen_ai.token.type": kind})


def _coming_tokens(usage: Usage) -> Iterator[Measure]:
    """Counters for every interception, a 0 where nothing was said; distributions of what was."""
    whole = all_input(usage)
    for instrument, count in (
        (INPUT_TOKENS, whole),
        (OUTPUT_TOKENS, usage.output_tokens),
        (CACHE_READ, usage.cache_read_input_tokens),
        (CACHE_WRITE, usage.cache_creation_input_tokens),
    ):
        yield Measure(
            instrument, count or 0, {"gen_ai.token.modality": "unknown"}
        )  # Anthropic does not tell them apart
    if whole is not None:
        yield Measure(INPUT_OF_ONE, whole)
    if usage.output_tokens is not None:
        yield Measure(OUTPUT_OF_ONE, usage.output_tokens)


def all_input(usage: Usage) -> int | None:
    """Return the input tokens as the conventions count them, cached ones included, which Anthropic counts apart."""
    if usage.input_tokens is None:
        return None
    return usage.input_tokens + (usage.cache_read_input_tokens or 0) + (usage.cache_creation_input_tokens or 0)


def first_chunk(interception: Interception, attempt: Attempt) -> float | None:
    """Return the seconds from an attempt's start to the first event of its stream."""
    first = attempt.evidence.time_to_first_event
    if first is None or not interception.streaming:
        return None
    return max(interception.started_at + first - attempt.started_at, 0.0)


def error_type(termination: Termination, cause: Cause, http_status: int | None) -> str | None:
    """Return `error.type`: the status where the upstream refused, else the cause; None where it is no error."""
    if termination not in FAILED:
        return None
    return str(http_status) if cause is Cause.HTTP_STATUS and http_status is not None else cause.value


def _end(termination: Termination, cause: Cause, http_status: int | None) -> dict[str, str]:
    error = error_type(termination, cause, http_status)
    end = {"aibridge.termination": termination.value}
    return end if error is None else end | {"error.type": error}


def identity(interception: Interception) -> dict[str, str]:
    """Return the attributes that spans and metrics of an interception share."""
    return {
        "gen_ai.operation.name": OPERATION_NAMES[interception.dialect],
        "gen_ai.provider.name": PROVIDER_NAMES[interception.provider_kind],
    }


def request_attributes(interception: Interception) -> Attributes:
    """Return what is known of a request to a provider as it is made."""
    attributes: Attributes = {
        **identity(interception),
        "gen_ai.request.model": bounded(interception.upstream_model, MAX_TEXT_BYTES),
        "gen_ai.request.stream": interception.streaming,
    }
    if interception.session_id:
        attributes["gen_ai.conversation.id"] = bounded(interception.session_id, MAX_TEXT_BYTES)
    return attributes


def attempt_attributes(attempt: Attempt, semconv: Semconv) -> Attributes:
    """Return what an attempt's answer told: its id and its tokens, which are its own."""
    usage = attempt.usage
    created = usage.cache_creation_input_tokens
    known: dict[str, str | int | None] = {
        "gen_ai.response.id": bounded(attempt.message_id, MAX_TEXT_BYTES) or None,
        "gen_ai.usage.input_tokens": all_input(usage),
        "gen_ai.usage.output_tokens": usage.output_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage.cache_read_input_tokens,
        "gen_ai.usage.cache_creation.input_tokens": created if semconv.released else None,
        "gen_ai.usage.cache_write.input_tokens": created if semconv.coming else None,
        # The conventions have no word for counts of an answer that broke off.
        "aibridge.usage_source": attempt.usage_source.value,
    }
    return {name: value for name, value in known.items() if value is not None}


def answer_attributes(outcome: Outcome) -> Attributes:
    """Return what is known of an interception's answer; told by its last attempt."""
    told: Attributes = {}
    if outcome.response_model:
        told["gen_ai.response.model"] = bounded(outcome.response_model, MAX_TEXT_BYTES)
    if outcome.stop_reason:
        told["gen_ai.response.finish_reasons"] = [bounded(outcome.stop_reason, MAX_TEXT_BYTES)]
    return told


def tool_attributes(run: ToolRun) -> Attributes:
    """Return what the conventions tell of a tool that was run."""
    return {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": bounded(run.use.name, MAX_TEXT_BYTES),
        "gen_ai.tool.call.id": bounded(run.use.id, MAX_TEXT_BYTES),
        "gen_ai.tool.type": "function",
        "mcp.method.name": "tools/call",
    }
