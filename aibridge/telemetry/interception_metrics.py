"""Metrics of interceptions: how many, how they end, how long they take, what they use and what that costs.

Above each metric stands its worst case, in the bounds of `counting`.
"""

from aibridge.lifecycle import STATUS_OF, Cause
from aibridge.telemetry.counting import DURATION_BUCKETS, MANY, METHODS, Counting
from aibridge.telemetry.series import (
    OTHER,
    Bound,
    CounterFamily,
    GaugeFamily,
    HistogramFamily,
    Names,
    NanoFamily,
    Number,
)
from aibridge.values import Evidence, Interception, Outcome

TOKEN_TYPES = ("input", "output", "cache_read_input_tokens", "cache_write_input_tokens")
"""The label `type` of the first four counts of a `Usage`, in its order."""
MAX_EXTRAS = 8
"""Other kinds of usage that an upstream may name; then `other`."""

_FIRST_EVENT_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 15, 30, 60, 120)


class _Open:
    """The children of one (provider, model, route), looked up once."""

    __slots__ = ("callers", "duration", "events", "first_event", "inflight", "model", "started")

    def __init__(self, metrics: "InterceptionMetrics", provider: str, model: str, route: str) -> None:
        self.model = model
        self.callers: dict[tuple[str, ...], _Caller] = {}
        self.started = metrics.started.child(provider, model, route)
        self.inflight = metrics.inflight.child(provider, model, route)
        self.events = metrics.events.child(provider)
        self.duration = metrics.duration.child(provider, model)
        self.first_event = metrics.first_event.child(provider, model)


class _Caller:
    """Those of one client of it, and of one actor where actors are told apart."""

    __slots__ = ("tokens", "totals")

    def __init__(self, metrics: "InterceptionMetrics", provider: str, model: str, who: tuple[str, ...]) -> None:
        self.tokens = [metrics.tokens.child(provider, model, kind, *who) for kind in TOKEN_TYPES]
        self.totals: dict[tuple[str, Cause], Number] = {}


class InterceptionMetrics(Counting):
    """Counts interceptions as they begin and end.

    At any scrape, and for any choice of labels, `aibridge_interceptions_started_total` is the sum of the statuses of
    `aibridge_interceptions_total` and `aibridge_interceptions_inflight`.
    """

    def __init__(self, models: Names, actors: Names | None) -> None:
        super().__init__(models, actors)
        self._extras = Names(MAX_EXTRAS)
        self._open: dict[tuple[str, str, str], _Open] = {}
        self._kept = 0
        self._noted: dict[str, int] = {}
        many = Bound(MANY, frozenset({"client", "actor"}))
        self._define_interceptions(many)
        self._define_costs(many)

    def _define_interceptions(self, many: Bound) -> None:
        # P x M x R = 3 x 211 x 3 = 1,899; in use 30, since a client keeps to one route.
        self.started = CounterFamily(
            "aibridge_interceptions_started", "Interceptions accepted.", ("provider", "model", "route")
        )
        # MANY + P x M x R x H x X = 10,000 + 3 x 211 x 3 x 1 x 27 = 61,273, by a client that tries everything; in use
        # 3 x 10 x 1 x 1 x 5 x 6 = 900, fewer since a client keeps to its provider.
        self.total = CounterFamily(
            "aibridge_interceptions",
            "Interceptions ended, by how.",
            ("provider", "model", "status", "route", "method", "termination", "cause", *self._who_labels),
            many,
        )
        # P x M x R = 1,899; in use 30.
        self.inflight = GaugeFamily(
            "aibridge_interceptions_inflight",
            "Interceptions accepted and not ended.",
            ("provider", "model", "route"),
        )
        # P providers: 3.
        self.events = CounterFamily(
            "aibridge_events", "Events of answers; those of an answer that goes on as last noted.", ("provider",)
        )
        # P x M x (14 buckets + 3) = 3 x 211 x 17 = 10,761; in use 510.
        self.duration = HistogramFamily(
            "aibridge_interceptions_duration_seconds",
            "From an interception's acceptance to its end.",
            ("provider", "model"),
            DURATION_BUCKETS,
        )
        # P x M x (12 buckets + 3) = 3 x 211 x 15 = 9,495; in use 450.
        self.first_event = HistogramFamily(
            "aibridge_time_to_first_event_seconds",
            "From an interception's acceptance to the first event of its answer.",
            ("provider", "model"),
            _FIRST_EVENT_BUCKETS,
        )

    def _define_costs(self, many: Bound) -> None:
        # MANY + P x M x (4 types + MAX_EXTRAS + other) = 10,000 + 3 x 211 x 13 = 18,229; in use 3 x 10 x 5 x 5 = 750.
        self.tokens = CounterFamily(
            "aibridge_tokens",
            "Tokens that providers reported, also of answers that broke off.",
            ("provider", "model", "type", *self._who_labels),
            many,
        )
        # MANY + P x M x 2 = 10,000 + 3 x 211 x 2 = 11,266; in use 3 x 10 x 2 x 5 = 300. Nano-dollars are summed as
        # whole numbers, and divided at the scrape.
        self.cost = NanoFamily(
            "aibridge_cost_dollars",
            "What tokens cost by the price lists, also of answers that broke off (`provider_partial`: too little).",
            ("provider", "model", "usage_source", *self._who_labels),
            many,
        )
        # P x 3 sources = 9. What share of the tokens is no final count follows from it.
        self.usage_sources = CounterFamily(
            "aibridge_interceptions_usage",
            "Interceptions ended, by where their tokens come from: a final word, what came before it, nowhere.",
            ("provider", "usage_source"),
        )
        # P x M x reasons 8 = 3 x 211 x 8 = 5,064; in use 3 x 10 = 30.
        self.unpriced_requests = CounterFamily(
            "aibridge_unpriced_requests",
            "Interceptions whose tokens have no cost, by why.",
            ("provider", "model", "reason"),
        )
        # As above.
        self.unpriced_tokens = CounterFamily(
            "aibridge_unpriced_tokens",
            "Tokens that have no cost, by why.",
            ("provider", "model", "reason"),
        )

    def opened(self, interception: Interception) -> None:
        """Count an accepted interception."""
        with self._lock:
            children = self._children(interception)
            children.started.value += 1
            children.inflight.value += 1

    def progressed(self, interception: Interception, evidence: Evidence) -> None:
        """Count the events of an answer that goes on; told now and then."""
        with self._lock:
            self._count_events(self._children(interception), interception.id, evidence)
            self._noted[interception.id] = evidence.events

    def _count_events(self, children: _Open, interception_id: str, evidence: Evidence) -> None:
        children.events.value += max(0, evidence.events - self._noted.pop(interception_id, 0))

    def closed(self, interception: Interception, outcome: Outcome) -> None:
        """Count an interception's end."""
        first_event = outcome.evidence.time_to_first_event
        who = self._who(interception)
        with self._lock:
            # The labels are those of `opened`: a name that was `other` then met a full set, which stays full.
            children = self._children(interception)
            caller = children.callers.get(who) or self._caller(interception.provider, children, who)
            children.inflight.value -= 1
            key = (interception.method, outcome.cause)
            total = caller.totals.get(key)
            if total is None:
                total = self._total(interception, outcome, children.model, who)
                if interception.method in METHODS:
                    caller.totals[key] = total
            total.value += 1
            self._count_events(children, interception.id, outcome.evidence)
            children.duration.observe(outcome.duration)
            if first_event is not None:
                children.first_event.observe(
                    max(0.0, first_event)
                )  # two clocks, one of whole milliseconds: a sum only grows
            provider, model = interception.provider, children.model
            if outcome.address is not None:  # whoever answered has the tokens
                provider, model = outcome.address.provider, self._models.label(outcome.address.model)
                caller = _Caller(self, provider, model, who)
            self.usage_sources.child(provider, outcome.usage_source.value).value += 1
            for tokens, count in zip(caller.tokens, outcome.usage[:4], strict=True):
                if count:
                    tokens.value += count
            for name, count in outcome.usage.extras:
                self.tokens.child(provider, model, self._extras.label(name), *who).value += count
            if outcome.cost.version:
                self._count_cost(provider, model, outcome, who)

    def _count_cost(self, provider: str, model: str, outcome: Outcome, who: tuple[str, ...]) -> None:
        nanodollars, _, unpriced = outcome.cost
        if nanodollars is not None:
            self.cost.child(provider, model, outcome.usage_source.value, *who).value += nanodollars
        elif unpriced is not None:
            self.unpriced_requests.child(provider, model, unpriced.value).value += 1
            self.unpriced_tokens.child(provider, model, unpriced.value).value += sum(
                count or 0 for count in outcome.usage[:4]
            )

    def _caller(self, provider: str, children: _Open, who: tuple[str, ...]) -> _Caller:
        caller = _Caller(self, provider, children.model, who)
        if self._kept < MANY:  # past it each is looked up anew, and counts into series that are shared
            self._kept += 1
            children.callers[who] = caller
        return caller

    def _total(self, interception: Interception, outcome: Outcome, model: str, who: tuple[str, ...]) -> Number:
        return self.total.child(
            interception.provider,
            model,
            STATUS_OF[outcome.termination],
            interception.route,
            interception.method if interception.method in METHODS else OTHER,
            outcome.termination.value,
            outcome.cause.value,
            *who,
        )

    def _children(self, interception: Interception) -> _Open:
        key = (interception.provider, interception.model, interception.route)
        children = self._open.get(key)
        if children is None:
            provider, model, route = key
            label = self._models.label(model)
            if label == OTHER:  # not kept under the client's name: the dict would grow without a bound
                key = (provider, OTHER, route)
                children = self._open.get(key)
            if children is None:
                children = self._open[key] = _Open(self, provider, label, route)
        return children
