"""Prometheus metrics: names, labels, and above each metric its worst case. The door to prometheus_client.

Series are summed up with these bounds: P providers (as configured, say 3), M models (those that the configuration
names, `max_models` others, and `other`: say 211; 10 in use), R routes and H methods that are intercepted (1 each: only
POST /v1/messages is), C clients (15: `callers.CLIENT_NAMES`; say 5 in use), X causes (24; say 6 in use). A cause has
one termination, and a termination one status, so that those two labels multiply nothing. Worst cases are what hostile
clients could reach, in use is what to expect; `metrics.max_models` is the bound to lower.
"""

import threading
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Metric,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from aibridge.breaker import BreakerState
from aibridge.lifecycle import Cause, Termination
from aibridge.values import Attempt, Interception, Outcome

OTHER = "other"
"""The label of what is past a bound."""

STATUS_OF = {
    Termination.COMPLETED: "completed",
    Termination.UPSTREAM_ERROR: "failed",
    Termination.CLIENT_GONE: "client_gone",
    Termination.GATEWAY_ERROR: "failed",
}

_VALUE_OF = {BreakerState.CLOSED: 0.0, BreakerState.HALF_OPEN: 0.5, BreakerState.OPEN: 1.0}

MAX_MODEL_LENGTH = 128
"""Characters; a longer model name is `other`, since a client chooses it."""

MAX_FIELDS = 200
"""Names of fields that become labels, first come, first served; real ones are some twenty."""

MAX_FIELD_LENGTH = 80
"""Characters."""

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"})

# The successor's dashboards keep working: 0.5, 2, 5, 15, 30, 60 and 120 are there, others between and beyond.
_DURATION_BUCKETS = (0.1, 0.25, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800)
_BEYOND_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30)
_FIRST_EVENT_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 15, 30, 60, 120)

# A `_created` series beside each counter would double them all and tell what nobody asks.
disable_created_metrics()  # type: ignore[no-untyped-call]


class _Open:
    """The children of one (provider, model, route), looked up once."""

    __slots__ = ("duration", "first_event", "inflight", "started", "totals")

    def __init__(self, metrics: "Metrics", provider: str, model: str, route: str) -> None:
        self.started = metrics.started.labels(provider, model, route)
        self.inflight = metrics.inflight.labels(provider, model, route)
        self.duration = metrics.duration.labels(provider, model)
        self.first_event = metrics.first_event.labels(provider, model)
        self.totals: dict[tuple[str, str, Cause], Counter] = {}


class Metrics:
    """A `Listener` that counts.

    At any scrape, and for any choice of labels, `aibridge_interceptions_started_total` is the sum of the statuses of
    `aibridge_interceptions_total` and `aibridge_interceptions_inflight`.

    Args:
        models: names that always are labels of their own.
        max_models: other names that become labels, first come, first served; then `other`.
        version: of the program, for `aibridge_build_info`.
        wire: which implementation decodes, `compiled` or `pure`.
    """

    def __init__(self, *, models: Iterable[str] = (), max_models: int = 200, version: str = "", wire: str = "") -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self._lock = threading.Lock()
        self._models = set(models)
        self._slots = max_models
        self._fields: set[str] = set()
        self._open: dict[tuple[str, str, str], _Open] = {}
        self._ill: dict[tuple[str, str, str], dict[str, float]] = {}
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self._define()
        self.build_info.labels(version, wire).set(1)

    def _define(self) -> None:
        registry = self.registry
        # P x M x R = 3 x 211 x 1 = 633; in use 30.
        self.started = Counter(
            "aibridge_interceptions_started",
            "Interceptions accepted.",
            ("provider", "model", "route"),
            registry=registry,
        )
        # P x M x R x H x C x X = 3 x 211 x 1 x 1 x 15 x 24 = 227,880, by a client that tries everything; in use
        # 3 x 10 x 1 x 1 x 5 x 6 = 900, fewer since a client keeps to its provider.
        self.total = Counter(
            "aibridge_interceptions",
            "Interceptions ended, by how.",
            ("provider", "model", "status", "route", "method", "client", "termination", "cause"),
            registry=registry,
        )
        # P x M x R = 633; in use 30.
        self.inflight = Gauge(
            "aibridge_interceptions_inflight",
            "Interceptions accepted and not ended.",
            ("provider", "model", "route"),
            registry=registry,
        )
        # P x M x (14 buckets + 3) = 3 x 211 x 17 = 10,761; in use 510.
        self.duration = Histogram(
            "aibridge_interceptions_duration_seconds",
            "From an interception's acceptance to its end.",
            ("provider", "model"),
            buckets=_DURATION_BUCKETS,
            registry=registry,
        )
        # P x M x (12 buckets + 3) = 3 x 211 x 15 = 9,495; in use 450.
        self.first_event = Histogram(
            "aibridge_time_to_first_event_seconds",
            "From an interception's acceptance to the first event of its answer.",
            ("provider", "model"),
            buckets=_FIRST_EVENT_BUCKETS,
            registry=registry,
        )
        # P x 2 moments x (12 buckets + 3) = 3 x 2 x 15 = 90. Only Bedrock tells its own time.
        self.beyond_provider = Histogram(
            "aibridge_overhead_beyond_provider_seconds",
            "What an attempt took, less what the provider says that it took itself: gateway, network, client.",
            ("provider", "until"),
            buckets=_BEYOND_BUCKETS,
            registry=registry,
        )
        # P x (fields 200 + other) = 3 x 201 = 603, by an upstream that names fields without end; in use 3 x 10 = 30.
        self.stripped_fields = Counter(
            "aibridge_stripped_fields",
            "Fields and betas left out of a request because the model does not take them.",
            ("provider", "field"),
            registry=registry,
        )
        # The reasons of `RequestRejected`, a closed set: 20.
        self.rejections = Counter(
            "aibridge_rejections",
            "Requests refused before they became an interception.",
            ("reason",),
            registry=registry,
        )
        # P x 4 patterns, each with its one method = 3 x 4 = 12. Patterns, never concrete paths.
        self.passthrough = Counter(
            "aibridge_passthrough",
            "Requests relayed and not intercepted.",
            ("provider", "route", "method"),
            registry=registry,
        )
        # P providers: 3.
        self.trailing_bytes = Counter(
            "aibridge_trailing_bytes",
            "Bytes that an upstream sent behind its last word; not relayed.",
            ("provider",),
            registry=registry,
        )
        # 1.
        self.records_dropped = Counter(
            "aibridge_records_dropped",
            "Entries lost because the journal could not be written, or the store refused them.",
            registry=registry,
        )
        # 1.
        self.journal_bytes = Gauge(
            "aibridge_journal_bytes",
            "Bytes of this process's journal that are not in the store.",
            registry=registry,
        )
        # 1.
        self.journal_age = Gauge(
            "aibridge_journal_age_seconds",
            "Age of the oldest entry of the journal that is not in the store; 0 where all is there.",
            registry=registry,
        )
        # P x R x M = 3 x 1 x 211 = 633; in use as many as have ever tripped. `endpoint` is what the predecessor's
        # dashboards call the route.
        self.circuit_state = Gauge(
            "aibridge_circuit_breaker_state",
            "0 closed, 0.5 half-open, 1 open; where models share a label, the worst of theirs.",
            ("provider", "endpoint", "model"),
            registry=registry,
        )
        # As above.
        self.circuit_trips = Counter(
            "aibridge_circuit_breaker_trips",
            "Circuits that opened, from closed or half-open.",
            ("provider", "endpoint", "model"),
            registry=registry,
        )
        # As above.
        self.circuit_rejects = Counter(
            "aibridge_circuit_breaker_rejects",
            "Interceptions ended because the circuit was open, or half-open with its probes under way.",
            ("provider", "endpoint", "model"),
            registry=registry,
        )
        # 1.
        self.dumps_lost = Counter(
            "aibridge_dumps_lost",
            "Files of the API dump that could not be written, or not whole.",
            registry=registry,
        )
        # 1.
        self.build_info = Gauge(
            "aibridge_build_info",
            "Which program runs, and which wire it uses; always 1.",
            ("version", "wire"),
            registry=registry,
        )

    def opened(self, interception: Interception) -> None:
        """Count an accepted interception."""
        with self._lock:
            children = self._children(interception)
            children.started.inc()
            children.inflight.inc()

    def attempted(self, interception: Interception, attempt: Attempt) -> None:
        """Observe what an attempt took beyond what its provider says that it took itself."""
        evidence = attempt.evidence
        if evidence.invocation_latency is None:
            return
        beyond = {"end": attempt.duration - evidence.invocation_latency}
        if evidence.first_byte_latency is not None and evidence.time_to_first_event is not None:
            before = attempt.started_at - interception.started_at
            beyond["first_event"] = evidence.time_to_first_event - before - evidence.first_byte_latency
        for until, seconds in beyond.items():
            # The provider's clock tells whole milliseconds: a little below nothing is nothing.
            self.beyond_provider.labels(interception.provider, until).observe(max(0.0, seconds))

    def closed(self, interception: Interception, outcome: Outcome) -> None:
        """Count an interception's end."""
        first_event = outcome.evidence.time_to_first_event
        with self._lock:
            # The labels are those of `opened`: a name that was `other` then met a full set, which stays full.
            children = self._children(interception)
            children.inflight.dec()
            key = (_method(interception.method), interception.client, outcome.cause)
            total = children.totals.get(key)
            if total is None:
                total = children.totals[key] = self._total(interception, outcome)
            total.inc()
            children.duration.observe(outcome.duration)
            if first_event is not None:
                children.first_event.observe(first_event)

    def rejected(self, reason: str) -> None:
        """Count a request refused before it became an interception."""
        self.rejections.labels(reason).inc()

    def passed_through(self, provider: str, route: str, method: str) -> None:
        """Count a request relayed only; `route` is the pattern, never the concrete path."""
        self.passthrough.labels(provider, route, _method(method)).inc()

    def trailing(self, provider: str, size: int) -> None:
        """Count bytes behind an upstream's last word."""
        self.trailing_bytes.labels(provider).inc(size)

    def stripped(self, provider: str, field: str) -> None:
        """Count a field or beta left out of a request. Names come from clients and upstreams: past a bound, `other`."""
        if field not in self._fields:
            if len(self._fields) >= MAX_FIELDS or not _is_plain(field):
                field = OTHER
            else:
                self._fields.add(field)
        self.stripped_fields.labels(provider, field).inc()

    def dropped(self, count: int) -> None:
        """Count lost records. May be called on any thread."""
        self.records_dropped.inc(count)

    def dump_lost(self) -> None:
        """Count a file of the dump that is not whole. May be called on any thread."""
        self.dumps_lost.inc()

    def circuit_changed(self, provider: str, route: str, model: str, state: BreakerState) -> None:
        """Show a circuit's new state, and count it where it opened."""
        with self._lock:
            labels = (provider, route, self._model_label(model))
            ill = self._ill.setdefault(labels, {})  # bounded as circuits are: closed ones leave
            ill[model] = _VALUE_OF[state]
            if state is BreakerState.CLOSED:
                del ill[model]
            self.circuit_state.labels(*labels).set(max(ill.values(), default=0.0))
            if state is BreakerState.OPEN:
                self.circuit_trips.labels(*labels).inc()

    def circuit_refused(self, provider: str, route: str, model: str) -> None:
        """Count a request that a circuit did not let pass."""
        with self._lock:
            self.circuit_rejects.labels(provider, route, self._model_label(model)).inc()

    def watch_journal(self, size: Callable[[], float], age: Callable[[], float]) -> None:
        """Ask for the journal's bytes, and for the age of its oldest entry not in the store, at each scrape."""
        self.journal_bytes.set_function(size)
        self.journal_age.set_function(age)

    def render(self) -> tuple[bytes, str]:
        """Return the text for a scrape and its content type. May be called on any thread.

        The numbers are taken at one moment, so that they add up; writing them down happens outside of the lock.
        """
        with self._lock:
            families = list(self.registry.collect())
        return generate_latest(_Taken(families)), CONTENT_TYPE_LATEST

    def _children(self, interception: Interception) -> _Open:
        key = (interception.provider, interception.model, interception.route)
        children = self._open.get(key)
        if children is None:
            provider, model, route = key
            label = self._model_label(model)
            if label == OTHER:  # not kept under the client's name: the dict would grow without a bound
                key = (provider, OTHER, route)
                children = self._open.get(key)
            if children is None:
                children = self._open[key] = _Open(self, provider, label, route)
        return children

    def _model_label(self, model: str) -> str:
        if model in self._models:
            return model
        if self._slots <= 0 or not model or len(model) > MAX_MODEL_LENGTH:
            return OTHER
        self._slots -= 1
        self._models.add(model)
        return model

    def _total(self, interception: Interception, outcome: Outcome) -> Counter:
        return self.total.labels(
            interception.provider,
            self._model_label(interception.model),
            STATUS_OF[outcome.termination],
            interception.route,
            _method(interception.method),
            interception.client,
            outcome.termination.value,
            outcome.cause.value,
        )


class _Taken:
    """Numbers taken at one moment, in the shape of a registry."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        return iter(self._families)


def _is_plain(field: str) -> bool:
    """Whether a name that a client may have chosen can be a label."""
    return len(field) <= MAX_FIELD_LENGTH and field.isascii() and field.isprintable()


def _method(method: str) -> str:
    return method if method in _METHODS else OTHER
