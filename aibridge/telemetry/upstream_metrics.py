"""Metrics of what is asked of upstreams: attempts, circuits, keys, and what is done where one fails.

Above each metric stands its worst case, in the bounds of `counting`.
"""

from collections.abc import Callable

from aibridge.breaker import BreakerState
from aibridge.telemetry.counting import Counting
from aibridge.telemetry.series import OTHER, AskedGauges, CounterFamily, GaugeFamily, HistogramFamily, Names
from aibridge.values import Attempt, Interception, address_of

MAX_FIELDS = 200
"""Names of fields that become labels, first come, first served; real ones are some twenty."""
_MAX_FIELD_LENGTH = 80

_VALUE_OF = {BreakerState.CLOSED: 0.0, BreakerState.HALF_OPEN: 0.5, BreakerState.OPEN: 1.0}
_BEYOND_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30)


class UpstreamMetrics(Counting):
    """Counts what passes between us and upstreams."""

    def __init__(self, models: Names, actors: Names | None) -> None:
        super().__init__(models, actors)
        self._fields = Names(MAX_FIELDS, max_length=_MAX_FIELD_LENGTH)
        self._ill: dict[tuple[str, str, str], dict[str, float]] = {}
        # P x X = 3 x 27 = 81.
        self.attempts = CounterFamily(
            "aibridge_upstream_attempts",
            "Requests to upstreams, by how they ended.",
            ("provider", "termination", "cause"),
        )
        # P x P x X = 3 x 3 x 27 = 243; in use 2 x 6 = 12.
        self.failovers = CounterFamily(
            "aibridge_failovers",
            "Requests that went on to another provider, or to another model at the same, by why.",
            ("provider", "to", "cause"),
        )
        # P x 2 moments x (12 buckets + 3) = 3 x 2 x 15 = 90. Bedrock and OpenAI tell their own time.
        self.beyond_provider = HistogramFamily(
            "aibridge_overhead_beyond_provider_seconds",
            "What an attempt took, less what the provider says that it took itself: gateway, network, client.",
            ("provider", "until"),
            _BEYOND_BUCKETS,
        )
        # P x (fields 200 + other) = 3 x 201 = 603, by an upstream that names fields without end; in use 3 x 10 = 30.
        self.stripped_fields = CounterFamily(
            "aibridge_stripped_fields",
            "Fields and betas left out of a request because the model does not take them.",
            ("provider", "field"),
        )
        # P providers: 3.
        self.trailing_bytes = CounterFamily(
            "aibridge_trailing_bytes",
            "Bytes that an upstream sent behind its last word; not relayed.",
            ("provider",),
        )
        self._define_circuits()
        self._define_key_pools()

    def _define_circuits(self) -> None:
        labels = ("provider", "endpoint", "model")
        # P x R x M = 3 x 3 x 211 = 1,899; in use as many as have ever tripped. `endpoint` is what the predecessor's
        # dashboards call the route.
        self.circuit_state = GaugeFamily(
            "aibridge_circuit_breaker_state",
            "0 closed, 0.5 half-open, 1 open; where models share a label, the worst of theirs.",
            labels,
        )
        # As above.
        self.circuit_trips = CounterFamily(
            "aibridge_circuit_breaker_trips", "Circuits that opened, from closed or half-open.", labels
        )
        # As above.
        self.circuit_rejects = CounterFamily(
            "aibridge_circuit_breaker_rejects",
            "Requests that were not sent because the circuit was open, or half-open with its probes under way.",
            labels,
        )

    def _define_key_pools(self) -> None:
        # P x 3 states = 9.
        self.pool_keys = AskedGauges(
            "aibridge_key_pool_keys", "Keys of a provider's pool, by what is known of them.", "provider", "state"
        )
        # P x (keys, 64 at most, say 5) x 4 kinds = 3 x 5 x 4 = 60, at most 768.
        self.pool_remaining = AskedGauges(
            "aibridge_key_ratelimit_remaining",
            "What is left of a key's limit, as its upstream told it last.",
            "provider",
            "key",
            "kind",
        )
        # P x 2 states = 6.
        self.rotations = CounterFamily(
            "aibridge_key_rotations",
            "Requests that went on with another key, by what became of the one before.",
            ("provider", "state"),
        )

    def attempted(self, interception: Interception, attempt: Attempt) -> None:
        """Count an ended request to an upstream, and what it took beyond the provider's own time."""
        with self._lock:
            if attempt.address is not None:
                interception = address_of(interception, attempt)
            self.attempts.child(interception.provider, attempt.termination, attempt.cause).value += 1
            evidence = attempt.evidence
            if evidence.invocation_latency is None:
                return
            self._observe_beyond(interception, "end", attempt.duration - evidence.invocation_latency)
            if evidence.first_byte_latency is not None and evidence.time_to_first_event is not None:
                before = attempt.started_at - interception.started_at
                beyond = evidence.time_to_first_event - before - evidence.first_byte_latency
                self._observe_beyond(interception, "first_event", beyond)

    def _observe_beyond(self, interception: Interception, until: str, seconds: float) -> None:
        # The provider's clock tells whole milliseconds: a little below nothing is nothing.
        self.beyond_provider.child(interception.provider, until).observe(max(0.0, seconds))

    def failed_over(self, provider: str, to: str, cause: str) -> None:
        """Count a request that went on to another provider, or for another model at the same."""
        with self._lock:
            self.failovers.child(provider, to, cause).value += 1

    def trailing(self, provider: str, size: int) -> None:
        """Count bytes behind an upstream's last word."""
        self.trailing_bytes.child(provider).value += size

    def stripped(self, provider: str, field: str) -> None:
        """Count a field or beta left out of a request. Names come from clients and upstreams: past a bound, `other`."""
        plain = field.isascii() and field.isprintable()
        self.stripped_fields.child(provider, self._fields.label(field) if plain else OTHER).value += 1

    def circuit_changed(self, provider: str, route: str, model: str, state: BreakerState) -> None:
        """Show a circuit's new state, and count it where it opened."""
        with self._lock:
            labels = (provider, route, self._models.label(model))
            ill = self._ill.setdefault(labels, {})  # bounded as circuits are: closed ones leave
            ill[model] = _VALUE_OF[state]
            if state is BreakerState.CLOSED:
                del ill[model]
            self.circuit_state.child(*labels).value = max(ill.values(), default=0.0)
            if state is BreakerState.OPEN:
                self.circuit_trips.child(*labels).value += 1

    def circuit_refused(self, provider: str, route: str, model: str) -> None:
        """Count a request that a circuit did not let pass."""
        with self._lock:
            self.circuit_rejects.child(provider, route, self._models.label(model)).value += 1

    def watch_key_pools(
        self,
        states: Callable[[], dict[tuple[str, ...], float]],
        remaining: Callable[[], dict[tuple[str, ...], float]],
    ) -> None:
        """Ask for the upstream keys by provider and state, and for what is left of each by kind, at each scrape."""
        self.pool_keys.ask = states
        self.pool_remaining.ask = remaining

    def rotated(self, provider: str, state: str) -> None:
        """Count a request that went on with another key, by what became of the one before."""
        self.rotations.child(provider, state).value += 1
