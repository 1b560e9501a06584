"""Prometheus metrics: names, labels, and above each metric its worst case. The door to prometheus_client.

Series are summed up with these bounds: P providers (as configured, say 3), M models (those that the configuration
names, `max_models` others, and `other`: say 211; 10 in use), R routes and H methods that are intercepted (1 each: only
POST /v1/messages is), C clients (15: `callers.CLIENT_NAMES`; say 5 in use), X causes (21; say 6 in use). A cause has
one termination, and a termination one status, so that those two labels multiply nothing. Worst cases are what hostile
clients could reach, in use is what to expect; `metrics.max_models` is the bound to lower.
"""

import threading
from collections.abc import Iterable, Iterator

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

from aibridge.lifecycle import Cause, Termination
from aibridge.values import Attempt, Interception, Learned, Outcome

OTHER = "other"
"""The label of what is past a bound."""

STATUS_OF = {
    Termination.COMPLETED: "completed",
    Termination.UPSTREAM_ERROR: "failed",
    Termination.CLIENT_GONE: "client_gone",
    Termination.GATEWAY_ERROR: "failed",
}

MAX_MODEL_LENGTH = 128
"""Characters; a longer model name is `other`, since a client chooses it."""

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"})

# The successor's dashboards keep working: 0.5, 2, 5, 15, 30, 60 and 120 are there, others between and beyond.
_DURATION_BUCKETS = (0.1, 0.25, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800)
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
        self._open: dict[tuple[str, str, str], _Open] = {}
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
        # P x M x R x H x C x X = 3 x 211 x 1 x 1 x 15 x 21 = 199,395, by a client that tries everything; in use
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
            "Records lost because the store was away for too long, or refused them.",
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

    def learned(self, interception: Interception, fact: Learned, message_id: str) -> None:
        """Count nothing."""

    def attempted(self, interception: Interception, attempt: Attempt) -> None:
        """Count nothing: attempts have no metric yet."""

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

    def dropped(self, count: int) -> None:
        """Count lost records. May be called on any thread."""
        self.records_dropped.inc(count)

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


def _method(method: str) -> str:
    return method if method in _METHODS else OTHER
