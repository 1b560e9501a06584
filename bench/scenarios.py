"""The scenarios: what the upstream plays, and how many ask for it at once."""

from dataclasses import dataclass, replace
from typing import Literal

import traffic
from doors import Route
from traffic import Api

Shape = Literal["json", "burst", "paced", "trickle", "idle"]
CORE, FULL, PEERS = "core", "full", "peers"  # the runs; the full one has every scenario
MS_10 = 0.01


@dataclass(frozen=True)
class Scenario:
    """One row of the plan.

    `json`, `burst` and `paced` are asked for in a closed loop: a connection's next request follows its last answer.
    `trickle` and `idle` streams are opened once by each connection, and live through the whole window.
    """

    name: str
    says: str
    shape: Shape
    connections: int
    api: Api = "messages"
    body: int = 1024  # bytes of the request's body
    ticks: int = 0  # pieces of text in an answer of a closed loop
    period: float = 0.0  # seconds between two pieces; 0: all at once
    together: bool = False
    tls: bool = False
    sets: tuple[str, ...] = ()

    def sentence(self) -> str:
        """What the scenario is, as a sentence."""
        return self.says.format(n=f"{self.connections:,}") + "."

    @property
    def held(self) -> bool:
        """Whether each connection sends one request only, and holds its stream."""
        return self.shape in {"trickle", "idle"}


APART = "{n} streams, an event every 10 ms on each, each for itself"
TOGETHER = "{n} streams, an event every 10 ms on each, all at the same moments"
IDLE = "{n} live streams, an event every second on each, each for itself"

SCENARIOS = (
    Scenario("lone", "One connection, ten events at once: what the gateway alone adds", "burst", 1, ticks=10),
    Scenario(
        "paced",
        "{n} connections, each asking for one stream after the other: ten events, 10 ms apart; nothing is saturated",
        "paced",
        32,
        ticks=10,
        period=MS_10,
        sets=(CORE, PEERS),
    ),
    Scenario("json", "A small JSON answer, {n} connections", "json", 32, sets=(CORE, PEERS)),
    Scenario("json-256k", "The same, the request's body 256 KB", "json", 32, body=256 << 10),
    Scenario("json-1m", "The same, the request's body 1 MB", "json", 32, body=1 << 20, sets=(CORE,)),
    Scenario("burst", "200 text events at once, {n} connections", "burst", 32, ticks=200, sets=(CORE, PEERS)),
    Scenario("trickle-10", APART, "trickle", 10, period=MS_10, sets=(PEERS,)),
    Scenario("trickle-50", APART, "trickle", 50, period=MS_10, sets=(PEERS,)),
    Scenario("trickle-apart", APART, "trickle", 100, period=MS_10, sets=(CORE, PEERS)),
    Scenario("trickle-500", APART, "trickle", 500, period=MS_10),
    Scenario("trickle-2000", APART, "trickle", 2000, period=MS_10),
    Scenario("trickle-together", TOGETHER, "trickle", 200, period=MS_10, together=True, sets=(CORE, PEERS)),
    Scenario("json-tls", "A small JSON answer, TLS to the upstream, {n} connections", "json", 32, tls=True),
    Scenario(
        "burst-tls", "200 text events at once, TLS to the upstream, {n} connections", "burst", 32, ticks=200, tls=True
    ),
    Scenario(
        "trickle-tls",
        TOGETHER + ", TLS to the upstream",
        "trickle",
        200,
        period=MS_10,
        together=True,
        tls=True,
        sets=(CORE,),
    ),
    Scenario("bedrock-json", "A small JSON answer of Bedrock, {n} connections", "json", 32, "bedrock", sets=(PEERS,)),
    Scenario(
        "bedrock-burst",
        "200 Bedrock frames at once, {n} connections",
        "burst",
        32,
        "bedrock",
        ticks=200,
        sets=(CORE, PEERS),
    ),
    Scenario("bedrock-trickle-10", APART + ", Bedrock", "trickle", 10, "bedrock", period=MS_10, sets=(PEERS,)),
    Scenario(
        "bedrock-trickle",
        TOGETHER + ", Bedrock",
        "trickle",
        200,
        "bedrock",
        period=MS_10,
        together=True,
        sets=(CORE, PEERS),
    ),
    Scenario("chat-json", "A small JSON answer of OpenAI's chat, {n} connections", "json", 32, "chat", sets=(PEERS,)),
    Scenario(
        "chat-burst",
        "200 text events of OpenAI's chat at once, {n} connections",
        "burst",
        32,
        "chat",
        ticks=200,
        sets=(CORE, PEERS),
    ),
    Scenario("chat-trickle-10", APART + ", OpenAI's chat", "trickle", 10, "chat", period=MS_10, sets=(PEERS,)),
    Scenario(
        "chat-trickle",
        TOGETHER + ", OpenAI's chat",
        "trickle",
        200,
        "chat",
        period=MS_10,
        together=True,
        sets=(PEERS,),
    ),
    Scenario(
        "responses-burst",
        "200 text events of OpenAI's Responses at once, {n} connections",
        "burst",
        32,
        "responses",
        ticks=200,
    ),
    Scenario(
        "responses-trickle",
        TOGETHER + ", OpenAI's Responses",
        "trickle",
        200,
        "responses",
        period=MS_10,
        together=True,
    ),
    Scenario("idle-2000", IDLE, "idle", 2000, period=1.0, sets=(CORE,)),
    Scenario("idle-9000", IDLE, "idle", 9000, period=1.0),
)


@dataclass(frozen=True)
class Times:
    """How long a cell runs, in seconds: up to `ramp` to open all streams, counting from `warm` on for `window`."""

    ramp: float
    warm: float
    window: float

    @property
    def stream(self) -> float:
        """How long a held stream lives: to a little after the window, whenever it was opened."""
        return self.warm + self.window + 0.2


def times(scenario: Scenario, seconds: float) -> Times:
    """Idle streams are opened 1,000 a second, then tick twice, so that it is known when the next ones are due."""
    if scenario.shape == "idle":
        ramp = scenario.connections / 1000
        return Times(ramp, ramp + 2 * scenario.period, max(seconds, 3 * scenario.period))
    settle = min(0.5, seconds / 4)
    return Times(settle, 2 * settle, seconds) if scenario.held else Times(0, settle, seconds)


def script(scenario: Scenario, seconds: float) -> traffic.Script:
    if scenario.shape == "json":
        return traffic.json_script(scenario.api)
    return traffic.stream_script(scenario.api, _ticks(scenario, seconds))


def marks(scenario: Scenario, seconds: float, route: Route) -> traffic.Marks:
    """What the load generator looks for in an answer that came on `route`."""
    if scenario.shape == "json":
        return traffic.json_marks(route.speaks, exact=route.exact)
    usual = traffic.stream_marks(route.speaks, _ticks(scenario, seconds), exact=route.exact)
    return replace(usual, end=route.ends or usual.end)


def _ticks(scenario: Scenario, seconds: float) -> int:
    if not scenario.held:
        return scenario.ticks
    return int(times(scenario, seconds).stream / scenario.period) + 2  # the first tick may come at once


def smaller(scenario: Scenario) -> Scenario:
    """The same for a smoke test: it proves that everything works, and measures little."""
    return replace(scenario, connections=min(scenario.connections, 300), period=min(scenario.period, 0.25))
