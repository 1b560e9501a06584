"""The circuit breaker's state machine: when an upstream that keeps failing is left alone, and when it is tried again.

    CLOSED ──(failures in a row)──► OPEN ──(timeout, next request)──► HALF_OPEN ──(successes in a row)──► CLOSED
                                      ▲                                   │
                                      └─────────────(a failure)───────────┘

One circuit is one value, and `step` is its only way to change. This file knows no clock and no names of providers:
times come in as monotonic seconds, and what belongs to which circuit is the business of `aibridge/circuits.py`.

Two rules keep old news out. A request counts in the period that admitted it: a stream that began before the circuit
last changed says nothing of the upstream of today. And while the circuit is half-open only its probes count.
"""

from enum import Enum, StrEnum, auto
from typing import NamedTuple


class BreakerState(StrEnum):
    """Where a circuit stands. The word is the log's."""

    CLOSED = "closed"
    """Requests pass; failures in a row are counted."""
    OPEN = "open"
    """Requests are refused until the timeout is over."""
    HALF_OPEN = "half_open"
    """A few requests pass, as probes; the others are refused."""


class Fact(Enum):
    """What happens to a circuit."""

    ASKED = auto()
    """A request wants to pass."""
    SUCCEEDED = auto()
    """A request has ended, and the upstream did well."""
    FAILED = auto()
    """A request has ended, and the upstream did not."""
    LEFT = auto()
    """A request has ended, and says nothing of the upstream: its client left, say."""


class Limits(NamedTuple):
    """How much a circuit bears; times in seconds."""

    failures: int
    """In a row, within `interval` of the first, that open it."""
    interval: float
    timeout: float
    """How long it stays open."""
    probes: int
    """Requests that pass while it is half-open, and successes in a row that close it."""


class Request(NamedTuple):
    """One request, for a circuit: who it is, and when it was admitted."""

    id: str
    began: float


class Circuit(NamedTuple):
    """One circuit. The default is one of which nothing is known, and as good as none."""

    state: BreakerState = BreakerState.CLOSED
    since: float = float("-inf")
    """When the state began."""
    failures: int = 0
    first_failure: float = 0.0
    successes: int = 0
    probes: frozenset[str] = frozenset()
    """Requests under way while it is half-open."""


class Step(NamedTuple):
    """What a fact has led to. `refused_for` is None where the request passes, else the seconds that remain."""

    circuit: Circuit
    refused_for: float | None = None


def step(circuit: Circuit, fact: Fact, request: Request, now: float, limits: Limits) -> Step:
    """Return what a fact makes of a circuit.

    Args:
        circuit: as it stands.
        fact: what happened.
        request: whom it concerns.
        now: monotonic seconds.
        limits: how much the circuit bears.
    """
    return _STEP_IN[circuit.state](circuit, fact, request, now, limits)


def _step_closed(circuit: Circuit, fact: Fact, request: Request, now: float, limits: Limits) -> Step:
    if fact in _SAY_NOTHING or request.began < circuit.since:
        return Step(circuit)
    if fact is Fact.SUCCEEDED:
        return Step(Circuit(since=circuit.since))
    if not circuit.failures or now - circuit.first_failure > limits.interval:
        circuit = circuit._replace(failures=0, first_failure=now)
    failures = circuit.failures + 1
    return Step(_opened(now) if failures >= limits.failures else circuit._replace(failures=failures))


def _step_open(circuit: Circuit, fact: Fact, request: Request, now: float, limits: Limits) -> Step:
    if fact is not Fact.ASKED:
        return Step(circuit)
    remaining = circuit.since + limits.timeout - now
    if remaining > 0:
        return Step(circuit, remaining)
    return Step(Circuit(BreakerState.HALF_OPEN, now, probes=frozenset({request.id})))


def _step_half_open(circuit: Circuit, fact: Fact, request: Request, now: float, limits: Limits) -> Step:
    probes = circuit.probes
    if fact is Fact.ASKED:
        if len(probes) + circuit.successes >= limits.probes:
            return Step(circuit, 0.0)  # how long the probes take nobody knows
        return Step(circuit._replace(probes=probes | {request.id}))
    if request.id not in probes:
        return Step(circuit)
    if fact is Fact.FAILED:
        return Step(_opened(now))
    successes = circuit.successes + (fact is Fact.SUCCEEDED)
    if successes >= limits.probes:
        return Step(Circuit(since=now))
    return Step(circuit._replace(successes=successes, probes=probes - {request.id}))


def _opened(now: float) -> Circuit:
    return Circuit(BreakerState.OPEN, now)


_SAY_NOTHING = frozenset({Fact.ASKED, Fact.LEFT})
_STEP_IN = {
    BreakerState.CLOSED: _step_closed,
    BreakerState.OPEN: _step_open,
    BreakerState.HALF_OPEN: _step_half_open,
}
