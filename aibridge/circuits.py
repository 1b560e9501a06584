"""The circuit breakers of all providers: one circuit for each provider, route and model, fed by outcomes.

Asked before an upstream is contacted, told when an interception has ended. Only circuits of which something is known
are kept: a healthy model costs a lookup that finds nothing, and a model name that a client made up leaves no trace
unless the upstream fails at it.
"""

import logging
import math
import time
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple, Protocol

from aibridge.breaker import BreakerState, Circuit, Fact, Limits, Request, step
from aibridge.lifecycle import Health, health_of
from aibridge.text import bounded
from aibridge.values import Attempt, CredentialKind, Evidence, Interception, Learned, Outcome, address_of

_logger = logging.getLogger(__name__)

MAX_CIRCUITS = 1000
"""Kept at most. Beyond it the oldest closed one is forgotten, or else one whose timeout is over and that nobody tries.
Were there none, a new one would not be begun."""

MAX_MODEL_CHARACTERS = 512
"""Of a model's name: those that are longer and begin alike share a circuit. A client chooses it."""

_MAX_NAME_BYTES = 256
_TOO_MANY_REQUESTS = 429
_FACT_OF = {Health.SUCCESS: Fact.SUCCEEDED, Health.FAILURE: Fact.FAILED, Health.NEITHER: Fact.LEFT}


class Place(NamedTuple):
    """What a circuit guards: an upstream may be well for one model, and ill for another."""

    provider: str
    route: str
    model: str


class CircuitCounters(Protocol):
    """What is counted of circuits."""

    def circuit_changed(self, provider: str, route: str, model: str, state: BreakerState) -> None:
        """A circuit has a new state."""

    def circuit_refused(self, provider: str, route: str, model: str) -> None:
        """A request was refused."""


class Circuits:
    """A `Listener` that may be asked whether a request passes.

    Args:
        limits: of the providers that have a circuit breaker, by name.
        counters: told of changes and refusals.
        clock: monotonic seconds.
    """

    def __init__(
        self, limits: Mapping[str, Limits], counters: CircuitCounters, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limits = limits
        self._counters = counters
        self._clock = clock
        self._circuits: dict[Place, Circuit] = {}

    def __len__(self) -> int:
        """How many circuits are kept."""
        return len(self._circuits)

    def ask(self, interception: Interception) -> int | None:
        """Return None where the request passes; else whole seconds after which it may, at least one.

        Whoever is let pass is told to `closed`, `attempted` or `left`, or else would hold its place as a probe for
        ever.
        """
        place = _place_of(interception)
        circuit = self._circuits.get(place)
        if circuit is None:
            return None
        now = self._clock()
        taken = step(circuit, Fact.ASKED, Request(interception.id, now), now, self._limits[place.provider])
        self._keep(place, circuit, taken.circuit)
        if taken.refused_for is None:
            return None
        self._counters.circuit_refused(*place)
        return max(1, math.ceil(taken.refused_for))

    def renew(self, limits: Mapping[str, Limits], same: Collection[str]) -> None:
        """Take other limits, and forget the circuits of all providers but those that are the same as before."""
        for place, circuit in list(self._circuits.items()):
            if place.provider not in same:
                self._keep(place, circuit, _UNKNOWN)
        self._limits = limits

    def opened(self, interception: Interception) -> None:
        """Nothing is known of the upstream yet."""

    def learned(self, interception: Interception, fact: Learned, message_id: str) -> None:
        """Content says nothing of an upstream's health."""

    def attempted(self, interception: Interception, attempt: Attempt) -> None:
        """An attempt does not count: what the client got does. But this is all that whoever is left hears of it."""
        if attempt.left:
            health = health_of(attempt.cause, attempt.evidence.http_status, None)
            since = attempt.started_at + attempt.duration - interception.started_at
            self._feed(address_of(interception, attempt), health, attempt.evidence, since)

    def closed(self, interception: Interception, outcome: Outcome) -> None:
        """Feed the circuit with what the outcome says of the upstream's health."""
        self._feed(address_of(interception, outcome), outcome.health, outcome.evidence, outcome.duration)

    def left(self, interception: Interception) -> None:
        """Forget a request that was let pass, and goes on elsewhere with nothing asked here since."""
        place = _place_of(interception)
        circuit, limits = self._circuits.get(place), self._limits.get(place.provider)
        if circuit is not None and limits is not None:
            now = self._clock()
            self._keep(place, circuit, step(circuit, Fact.LEFT, Request(interception.id, now), now, limits).circuit)

    def _feed(self, asked: Interception, health: Health, evidence: Evidence, since: float) -> None:
        """Tell a circuit what became of a request that was let pass `since` seconds ago, or a little later."""
        limits = self._limits.get(asked.provider)
        if limits is None:
            return
        place, fact = _place_of(asked), _fact_of(asked, health, evidence)
        circuit = self._circuits.get(place)
        if circuit is None:
            if fact is not Fact.FAILED:
                return
            circuit = Circuit()
        now = self._clock()
        self._keep(place, circuit, step(circuit, fact, Request(asked.id, now - since), now, limits).circuit)

    def _keep(self, place: Place, before: Circuit, after: Circuit) -> None:
        if after == _UNKNOWN:
            self._circuits.pop(place, None)
        elif place in self._circuits or self._make_room():
            self._circuits[place] = after
        else:
            return
        if after.state is not before.state:
            self._counters.circuit_changed(*place, after.state)
            _tell_change(place, before.state, after.state)

    def _make_room(self) -> bool:
        """Forget a circuit where there are too many. Returns whether there is room."""
        if len(self._circuits) < MAX_CIRCUITS:
            return True
        closed = (place for place, circuit in self._circuits.items() if circuit.state is BreakerState.CLOSED)
        oldest = next(closed, None) or self._deserted()
        if oldest is None:
            return False
        self._keep(oldest, self._circuits[oldest], _UNKNOWN)
        return True

    def _deserted(self) -> Place | None:
        """Return where the next request would pass, and nobody asks: names that were made up once."""
        now = self._clock()
        for place, circuit in self._circuits.items():
            if not circuit.probes and now >= circuit.since + self._limits[place.provider].timeout:
                return place
        return None


_UNKNOWN = Circuit()


def _place_of(interception: Interception) -> Place:
    return Place(interception.provider, interception.route, interception.model[:MAX_MODEL_CHARACTERS])


def _fact_of(asked: Interception, health: Health, evidence: Evidence) -> Fact:
    # The limit of a client's own key is its own: it must not close the road to those who have another.
    limited = evidence.http_status == _TOO_MANY_REQUESTS
    if limited and asked.credential.kind is CredentialKind.BYOK:
        return Fact.LEFT
    return _FACT_OF[health]


def _tell_change(place: Place, before: BreakerState, after: BreakerState) -> None:
    level = logging.WARNING if after is BreakerState.OPEN else logging.INFO
    fields = {
        "provider": place.provider,
        "endpoint": place.route,
        "model": bounded(place.model, _MAX_NAME_BYTES),
        "from": before.value,
        "to": after.value,
    }
    _logger.log(level, "circuit breaker state change", extra={"fields": fields})
