"""Prometheus metrics: names, labels, and above each metric its worst case. A door to prometheus_client.

Series are summed up with these bounds: P providers (as configured, say 3), M models (those that the configuration
names, `max_models` others, and `other`: say 211; 10 in use), R routes that are intercepted at a provider (at most 3:
of OpenAI's APIs two and `compact`, of Copilot's three), H methods (1: POST), C clients (15: `callers.CLIENT_NAMES`;
say 5 in use), X causes (27; say 6 in use). A cause has one termination, and a termination one status, so that those two
labels multiply nothing. Worst cases are what hostile clients could reach, in use is what to expect;
`metrics.max_models` is the bound to lower.

Where the product is large the metric has a bound of its own: past `_MANY` series what is new there shares one series
for all clients, actors or tools, so that the worst case is that bound and the product without them. So it is no worse
with `metrics.actor_label`; in use that multiplies by the actors that are active.
"""

import math
import threading
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    GCCollector,
    Metric,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

from aibridge.breaker import BreakerState
from aibridge.lifecycle import STATUS_OF, Cause
from aibridge.telemetry.series import (
    OTHER,
    AskedGauge,
    AskedGauges,
    Bound,
    CounterFamily,
    Family,
    GaugeFamily,
    HistogramFamily,
    Names,
    NanoFamily,
    Number,
    Sample,
    samples,
)
from aibridge.telemetry.tally import SharedFamily, Tally
from aibridge.values import (
    Attempt,
    Evidence,
    Interception,
    Learned,
    Outcome,
    ToolRun,
    ToolUse,
    UserPrompt,
    address_of,
)

_VALUE_OF = {BreakerState.CLOSED: 0.0, BreakerState.HALF_OPEN: 0.5, BreakerState.OPEN: 1.0}

MAX_FIELDS = 200
"""Names of fields that become labels, first come, first served; real ones are some twenty."""
_MAX_FIELD_LENGTH = 80

TOKEN_TYPES = ("input", "output", "cache_read_input_tokens", "cache_write_input_tokens")
"""The label `type` of the first four counts of a `Usage`, in its order."""

STEPS = ("auth", "read", "rewrite", "connect", "relay", "record")
"""The gateway's own work, by the label `step`: see `Metrics.spent`."""

MAX_EXTRAS = 8
"""Other kinds of usage that an upstream may name; then `other`."""
MAX_ACTORS = 1000
MAX_TOOL_NAME = 64
"""Characters of a tool's name that its label shows."""
_MANY = 10_000
"""Series of one metric, before those of new clients, actors or tools are summed up."""

_NOT_SUMMED = {
    "aibridge_build_info": "highest",
    "aibridge_circuit_breaker_state": "highest",
    "aibridge_gateway_keys": "highest",
    "aibridge_issuer_keys_age_seconds": "highest",
    "aibridge_journal_age_seconds": "highest",
    "aibridge_key_ratelimit_remaining": "lowest",
    "aibridge_key_store_age_seconds": "highest",
    "aibridge_mcp_server_up": "lowest",
}
"""Gauges that are not summed up over workers, and which worker's tells."""

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"})

# The predecessor's dashboards keep working: 0.5, 2, 5, 15, 30, 60 and 120 are there, others between and beyond.
_DURATION_BUCKETS = (0.1, 0.25, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800)
_FIRST_EVENT_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 15, 30, 60, 120)
_BEYOND_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30)
# From what an addition costs to what a stuck disk does.
_OVERHEAD_BUCKETS = (1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 0.01, 0.05, 0.25, 1, 5)
_LAG_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)


class _Open:
    """The children of one (provider, model, route), looked up once."""

    __slots__ = ("callers", "duration", "events", "first_event", "inflight", "model", "started")

    def __init__(self, metrics: "Metrics", provider: str, model: str, route: str) -> None:
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

    def __init__(self, metrics: "Metrics", provider: str, model: str, who: tuple[str, ...]) -> None:
        self.tokens = [metrics.tokens.child(provider, model, kind, *who) for kind in TOKEN_TYPES]
        self.totals: dict[tuple[str, Cause], Number] = {}


class Metrics:
    """A `Listener` that counts.

    At any scrape, and for any choice of labels, `aibridge_interceptions_started_total` is the sum of the statuses of
    `aibridge_interceptions_total` and `aibridge_interceptions_inflight`.

    Args:
        models: names that always are labels of their own.
        max_models: other names that become labels, first come, first served; then `other`.
        actor_label: whether interceptions, prompts and tokens are told apart by actor.
        version: of the program, for `aibridge_build_info`.
        wire: which implementation decodes, `compiled` or `pure`.
        modules: which typed modules run, the same two words.
        tally: where a worker counts, for its supervisor; it renders nothing itself.
    """

    def __init__(
        self,
        *,
        models: Iterable[str] = (),
        max_models: int = 200,
        actor_label: bool = False,
        version: str = "",
        wire: str = "",
        modules: str = "",
        tally: Tally | None = None,
    ) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self._lock = threading.Lock()
        self._models = Names(max_models, known=frozenset(models))
        self._extras = Names(MAX_EXTRAS)
        self._fields = Names(MAX_FIELDS, max_length=_MAX_FIELD_LENGTH)
        self._ill: dict[tuple[str, str, str], dict[str, float]] = {}
        self._actors = Names(MAX_ACTORS) if actor_label else None
        self._open: dict[tuple[str, str, str], _Open] = {}
        self._kept = 0
        self._noted: dict[str, int] = {}
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self._define(("client", "actor") if actor_label else ("client",))
        self._define_circuits()
        self._asked: list[tuple[AskedGauge | AskedGauges, SharedFamily]] = []
        if tally is not None:
            self._share(tally)
        for family in vars(self).values():
            if isinstance(family, Family):
                self.registry.register(family)
        for never_labelled in (self.dumps_lost, self.records_dropped):  # there from the start: 0 is a number too
            never_labelled.child()
        self.build_info.child(version, wire, modules).value = 1

    def _define(self, who: tuple[str, ...]) -> None:
        many = Bound(_MANY, frozenset({"client", "actor"}))
        # P x M x R = 3 x 211 x 3 = 1,899; in use 30, since a client keeps to one route.
        self.started = CounterFamily(
            "aibridge_interceptions_started", "Interceptions accepted.", ("provider", "model", "route")
        )
        # _MANY + P x M x R x H x X = 10,000 + 3 x 211 x 3 x 1 x 27 = 61,273, by a client that tries everything; in use
        # 3 x 10 x 1 x 1 x 5 x 6 = 900, fewer since a client keeps to its provider.
        self.total = CounterFamily(
            "aibridge_interceptions",
            "Interceptions ended, by how.",
            ("provider", "model", "status", "route", "method", "termination", "cause", *who),
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
            _DURATION_BUCKETS,
        )
        # P x M x (12 buckets + 3) = 3 x 211 x 15 = 9,495; in use 450.
        self.first_event = HistogramFamily(
            "aibridge_time_to_first_event_seconds",
            "From an interception's acceptance to the first event of its answer.",
            ("provider", "model"),
            _FIRST_EVENT_BUCKETS,
        )
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
        self._define_content(who, many)
        self._define_costs(who, many)
        self._define_own_work()
        self._define_keys()
        self._define_key_pools()
        self._define_limits()
        self._define_others()

    def _define_content(self, who: tuple[str, ...], many: Bound) -> None:
        # _MANY + P x M = 10,000 + 3 x 211 = 10,633, and below P x M x C = 9,495 without actors; in use 150.
        self.prompts = CounterFamily("aibridge_prompts", "Prompts of users.", ("provider", "model", *who), many)
        # _MANY + P x M x (4 types + MAX_EXTRAS + other) = 10,000 + 3 x 211 x 13 = 18,229; in use 3 x 10 x 5 x 5 = 750.
        self.tokens = CounterFamily(
            "aibridge_tokens",
            "Tokens that providers reported, also of answers that broke off.",
            ("provider", "model", "type", *who),
            many,
        )
        # _MANY + P x M = 10,633: a client chooses the names of its tools; in use 3 x 10 x 20 = 600.
        self.tools = CounterFamily(
            "aibridge_non_injected_tool_selections",
            "Tools of the client that models called.",
            ("provider", "model", "name"),
            Bound(_MANY, frozenset({"name"})),
        )

        # _MANY + P x M x (servers, say 5) x 9 outcomes = 10,000 + 3 x 211 x 5 x 9 = 38,485, by servers that rename
        # their tools without end; in use 3 x 10 x 20 tools x 2 = 1,200.
        self.injected_tools = CounterFamily(
            "aibridge_injected_tool_invocations",
            "Calls of tools that the gateway offered and ran, by how they ended.",
            ("provider", "model", "server", "name", "outcome"),
            Bound(_MANY, frozenset({"name"})),
        )
        # (servers, say 5, and none) x (14 buckets + 3) = 6 x 17 = 102.
        self.tool_duration = HistogramFamily(
            "aibridge_injected_tool_duration_seconds",
            "What such a call took, the wait for its turn included.",
            ("server",),
            _DURATION_BUCKETS,
        )
        # Servers whose session all actors share: 5.
        self.tool_servers = GaugeFamily(
            "aibridge_mcp_server_up", "Whether a tool server is there with its tools: 1, else 0.", ("server",)
        )

    def _define_costs(self, who: tuple[str, ...], many: Bound) -> None:
        # _MANY + P x M x 2 = 10,000 + 3 x 211 x 2 = 11,266; in use 3 x 10 x 2 x 5 = 300. Nano-dollars are summed as
        # whole numbers, and divided at the scrape.
        self.cost = NanoFamily(
            "aibridge_cost_dollars",
            "What tokens cost by the price lists, also of answers that broke off (`provider_partial`: too little).",
            ("provider", "model", "usage_source", *who),
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

    def _define_own_work(self) -> None:
        # P x 6 steps x (13 buckets + 3) = 3 x 6 x 16 = 288.
        self.overhead = HistogramFamily(
            "aibridge_overhead_seconds",
            "The gateway's own work for one request, by step.",
            ("provider", "step"),
            _OVERHEAD_BUCKETS,
        )
        # 11 buckets + 3 = 14.
        self.loop_lag = HistogramFamily(
            "aibridge_event_loop_lag_seconds",
            "How late a timer of the event loop is: what every stream waits for the others.",
            (),
            _LAG_BUCKETS,
        )

        # P x 2 moments x (12 buckets + 3) = 3 x 2 x 15 = 90. Bedrock and OpenAI tell their own time.
        self.beyond_provider = HistogramFamily(
            "aibridge_overhead_beyond_provider_seconds",
            "What an attempt took, less what the provider says that it took itself: gateway, network, client.",
            ("provider", "until"),
            _BEYOND_BUCKETS,
        )

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

    def _define_keys(self) -> None:
        # 3 states.
        self.gateway_keys = AskedGauges(
            "aibridge_gateway_keys",
            "Secrets of gateway keys in the store, by state; a rotated key has several.",
            "state",
        )
        # 1.
        self.key_store_age = AskedGauge(
            "aibridge_key_store_age_seconds", "Since the gateway keys were last read from their store; 0 without one."
        )

        # 1.
        self.issuer_keys_age = AskedGauge(
            "aibridge_issuer_keys_age_seconds", "Since the keys of the tokens' issuer were fetched; 0 without one."
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

    def _define_limits(self) -> None:
        # 5 scopes x 5 measures = 25.
        self.limit_refusals = CounterFamily(
            "aibridge_limit_refusals", "Requests that met a limit or a budget without room.", ("scope", "measure")
        )
        # 5 scopes x 2 measures x 2 marks = 20.
        self.budgets_reached = CounterFamily(
            "aibridge_budgets_reached",
            "Budgets that have spent so many per cent of themselves, or at 100 had no room for a request.",
            ("scope", "measure", "percent"),
        )
        # 4 operations.
        self.limit_store_failures = CounterFamily(
            "aibridge_limit_store_failures",
            "Questions to the store of limits that were not answered, or not asked while it was away.",
            ("operation",),
        )

    def _define_others(self) -> None:
        # P x (fields 200 + other) = 3 x 201 = 603, by an upstream that names fields without end; in use 3 x 10 = 30.
        self.stripped_fields = CounterFamily(
            "aibridge_stripped_fields",
            "Fields and betas left out of a request because the model does not take them.",
            ("provider", "field"),
        )
        # 1.
        self.dumps_lost = CounterFamily(
            "aibridge_dumps_lost", "Files of the API dump that could not be written, or not whole.", ()
        )
        # The reasons of `RequestRejected`, a closed set: 31.
        self.rejections = CounterFamily(
            "aibridge_rejections", "Requests refused before they became an interception.", ("reason",)
        )
        # P, routers too, x 15 patterns with their methods at most = 3 x 15 = 45. Patterns, never concrete paths.
        self.passthrough = CounterFamily(
            "aibridge_passthrough", "Requests relayed and not intercepted.", ("provider", "route", "method")
        )
        # P providers: 3.
        self.trailing_bytes = CounterFamily(
            "aibridge_trailing_bytes",
            "Bytes that an upstream sent behind its last word; not relayed.",
            ("provider",),
        )
        # 1.
        self.records_dropped = CounterFamily(
            "aibridge_records_dropped",
            "Entries lost because the journal could not be written, or the store refused them.",
            (),
        )
        # 1.
        self.journal_bytes = AskedGauge(
            "aibridge_journal_bytes", "Bytes of this process's journal that are not in the store."
        )
        # 1.
        self.journal_age = AskedGauge(
            "aibridge_journal_age_seconds",
            "Age of the oldest entry of the journal that is not in the store; 0 where all is there.",
        )
        # 1.
        self.build_info = GaugeFamily(
            "aibridge_build_info",
            "Which program runs, with which wire and modules; always 1.",
            ("version", "wire", "modules"),
        )

    def _share(self, tally: Tally) -> None:
        """Count in memory that others see. What is in flight they know without being told: started less ended."""
        for name, family in list(vars(self).items()):
            if not isinstance(family, Family) or family is self.inflight:
                continue
            shared = SharedFamily(family, tally, kind=_NOT_SUMMED.get(family.name, ""))
            if isinstance(family, AskedGauge | AskedGauges):
                self._asked.append((family, shared))
            else:
                setattr(self, name, shared)

    def publish(self) -> None:
        """Write down what is asked for at a scrape where others are asked."""
        for asked, shared in self._asked:
            told = {(): asked.ask()} if isinstance(asked, AskedGauge) else asked.ask()
            for labels, value in told.items():
                shared.child(*labels).value = value
            shared.forget_others(told.keys())

    def opened(self, interception: Interception) -> None:
        """Count an accepted interception."""
        with self._lock:
            children = self._children(interception)
            children.started.value += 1
            children.inflight.value += 1

    def learned(self, interception: Interception, fact: Learned, message_id: str) -> None:  # noqa: ARG002 - the contract's
        """Count a prompt, a tool that a model called, and one that was run for it."""
        with self._lock:
            model = self._children(interception).model
            if isinstance(fact, UserPrompt):
                self.prompts.child(interception.provider, model, *self._who(interception)).value += 1
            elif isinstance(fact, ToolUse):
                name = fact.name[:MAX_TOOL_NAME].encode("utf-8", "replace").decode()
                self.tools.child(interception.provider, model, name).value += 1
            elif isinstance(fact, ToolRun):
                self._tool_ran(interception.provider, model, fact)

    def _tool_ran(self, provider: str, model: str, run: ToolRun) -> None:
        server = run.server or OTHER
        # A name that no server has is the model's invention.
        name = run.use.name if run.server else OTHER
        self.injected_tools.child(provider, model, server, name, run.outcome).value += 1
        if run.outcome != "not_run":
            self.tool_duration.child(server).observe(run.latency)

    def tool_server_is(self, server: str, up: bool) -> None:  # noqa: FBT001 - it is what is told
        """Show whether a tool server is up."""
        self.tool_servers.child(server).value = float(up)

    def tool_server_gone(self, server: str) -> None:
        """Show that a tool server is no longer one: neither up nor down."""
        self.tool_servers.child(server).value = math.nan

    def know(self, models: Iterable[str]) -> None:
        """Let names of models be labels of their own."""
        self._models.know(models)

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
                if interception.method in _METHODS:
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
        if self._kept < _MANY:  # past it each is looked up anew, and counts into series that are shared
            self._kept += 1
            children.callers[who] = caller
        return caller

    def _total(self, interception: Interception, outcome: Outcome, model: str, who: tuple[str, ...]) -> Number:
        return self.total.child(
            interception.provider,
            model,
            STATUS_OF[outcome.termination],
            interception.route,
            interception.method if interception.method in _METHODS else OTHER,
            outcome.termination.value,
            outcome.cause.value,
            *who,
        )

    def spent(self, step: str, provider: str, seconds: float) -> None:
        """Count the gateway's own work.

        Args:
            step: `auth` is the check of a gateway key; `read` learning from the request; `rewrite` rewriting and
                signing; `connect` a new connection, TLS included; `relay` all chunks of one streamed answer, decoded,
                observed and decided upon, of every sixteenth stream; `record` telling all books once.
            provider: for whom.
            seconds: of one request.
        """
        self.overhead.child(provider, step).observe(seconds)

    def lagged(self, seconds: float) -> None:
        """Count how late the event loop was."""
        self.loop_lag.child().observe(seconds)

    def rejected(self, reason: str) -> None:
        """Count a request refused before it became an interception."""
        self.rejections.child(reason).value += 1

    def limit_refused(self, scope: str, measure: str) -> None:
        """Count a request for which a limit had no room."""
        self.limit_refusals.child(scope, measure).value += 1

    def budget_reached(self, scope: str, measure: str, percent: int) -> None:
        """Count a budget that has reached a mark."""
        self.budgets_reached.child(scope, measure, str(percent)).value += 1

    def limit_store_failed(self, operation: str) -> None:
        """Count a question to the store of limits that was not answered."""
        self.limit_store_failures.child(operation).value += 1

    def passed_through(self, provider: str, route: str, method: str) -> None:
        """Count a request relayed only; `route` is the pattern, never the concrete path."""
        self.passthrough.child(provider, route, method if method in _METHODS else OTHER).value += 1

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

    def failed_over(self, provider: str, to: str, cause: str) -> None:
        """Count a request that went on to another provider, or for another model at the same."""
        with self._lock:
            self.failovers.child(provider, to, cause).value += 1

    def dump_lost(self) -> None:
        """Count a file of the dump that is not whole. May be called on any thread."""
        with self._lock:
            self.dumps_lost.child().value += 1

    def dropped(self, count: int) -> None:
        """Count lost records. May be called on any thread."""
        with self._lock:
            self.records_dropped.child().value += count

    def watch_journal(self, size: Callable[[], float], age: Callable[[], float]) -> None:
        """Ask for the journal's bytes, and for the age of its oldest entry not in the store, at each scrape."""
        self.journal_bytes.ask = size
        self.journal_age.ask = age

    def watch_keys(self, states: Callable[[], dict[str, float]], age: Callable[[], float]) -> None:
        """Ask for the gateway keys by state, and for the seconds since they were read, at each scrape."""
        self.gateway_keys.ask = lambda: {(state,): count for state, count in states().items()}
        self.key_store_age.ask = age

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

    def watch_issuer(self, age: Callable[[], float]) -> None:
        """Ask for the seconds since the issuer's keys were fetched, at each scrape."""
        self.issuer_keys_age.ask = age

    def render(self) -> tuple[bytes, str]:
        """Return the text for a scrape and its content type. May be called on any thread.

        The numbers are taken at one moment, so that they add up; writing them down happens outside of the lock.
        """
        with self._lock:
            families = list(self.registry.collect())
        return generate_latest(_Taken(families)), CONTENT_TYPE_LATEST

    def snapshot(self, wanted: Callable[[str], bool]) -> list[Sample]:
        """Return the samples of the families whose names are wanted, taken at one moment. For any thread."""
        with self._lock:
            return samples([family for family in vars(self).values() if isinstance(family, Family)], wanted)

    def _who(self, interception: Interception) -> tuple[str, ...]:
        if self._actors is None:
            return (interception.client,)
        return (interception.client, self._actors.label(interception.actor.id))

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


class _Taken:
    """Numbers taken at one moment, in the shape of a registry."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        return iter(self._families)
