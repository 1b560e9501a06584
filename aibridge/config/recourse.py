"""What is done about an attempt that fails: `retries`, `failover`, `fallbacks`, `circuit_breaker` of a provider."""

from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field

from aibridge.config.values import Count, Seconds, Section, Text, mistake

_ErrorStatus = Annotated[int, Field(ge=400, le=599)]
_RetriedCause = Literal["connect_failed", "connection_reset", "protocol_error", "unexpected_response"]


class Retries(Section):
    """When a request is sent again that has failed before its client got anything."""

    max: Annotated[int, Field(ge=0, le=10)] = 0
    """For one request. None by default: most clients retry by themselves."""
    causes: tuple[_RetriedCause, ...] = ("connect_failed", "connection_reset")
    """Ends without an answer. No response in time is none of them: the upstream may still work on it."""
    statuses: tuple[_ErrorStatus, ...] = (408, 429, 500, 502, 503, 504, 529)
    """Of answers. The upstream's own `x-should-retry` stands above them."""
    backoff: Seconds = 0.5
    """Before the first retry; doubled with each."""
    max_backoff: Seconds = 8.0
    """A `retry-after` up to here is waited for; a longer one goes to the client."""
    budget: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Retries for each request of the provider, in the long run: an outage is not to be made worse."""


_FailoverCause = Literal[
    "connect_failed",
    "connection_reset",
    "response_timeout",
    "protocol_error",
    "unexpected_response",
    "circuit_open",
    "keys_exhausted",
]
_NO_FAILOVER = frozenset({400, 404, 413, 422})


def _check_failover_status(status: int) -> int:
    if status in _NO_FAILOVER:
        raise mistake(f"{status} says what is wrong with the request, and so would the next provider")
    return status


class Failover(Section):
    """When a request goes on to the next of the provider's `fallbacks`."""

    causes: tuple[_FailoverCause, ...] = get_args(_FailoverCause)
    """Ends without an answer."""
    statuses: tuple[Annotated[_ErrorStatus, AfterValidator(_check_failover_status)], ...] | None = None
    """Of answers; none: those that count against an upstream's health, 408, 429 and from 500."""


class Fallback(Section):
    """Where a request goes on: another provider of the same API, or the same one for another model."""

    provider: Text
    model: Text | None = None
    """Its name there; none: as the client wrote it."""


class CircuitBreaker(Section):
    """When an upstream that keeps failing is left alone: for each route and model, all clients together."""

    enabled: bool = False
    failures: Count = 5
    """In a row, that open the circuit."""
    interval: Seconds = 10.0
    """In which they happen."""
    timeout: Seconds = 30.0
    """How long the circuit stays open."""
    probes: Count = 3
    """Requests that pass while it is half-open; as many successes in a row close it."""
