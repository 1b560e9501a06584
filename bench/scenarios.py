"""The scenarios: what the upstream plays, and how many ask for it at once."""

from dataclasses import dataclass, replace
from typing import Literal

import traffic

Shape = Literal["json", "burst", "trickle", "memory"]


@dataclass(frozen=True)
class Scenario:
    """One row of the plan. Bursts and JSON answers are asked for in a closed loop; trickles once by each connection."""

    name: str
    says: str
    shape: Shape
    connections: int
    body: int = 1024  # bytes of the request's body
    ticks: int = 0  # text events of a burst
    period: float = 0.0  # seconds between two events of a trickle
    together: bool = False
    bedrock: bool = False

    def sentence(self) -> str:
        """What the scenario is, as a sentence."""
        return self.says.format(n=f"{self.connections:,}") + "."

    @property
    def streams(self) -> bool:
        """Whether each connection sends one request only, and holds its stream."""
        return self.period > 0


SCENARIOS = (
    Scenario("lone", "One connection, ten events at once: what the gateway alone adds", "burst", 1, ticks=10),
    Scenario("json", "A small JSON answer, {n} connections", "json", 32),
    Scenario("json-256k", "The same, the request's body 256 KB", "json", 32, body=256 * 1024),
    Scenario("json-1m", "The same, the request's body 1 MB", "json", 32, body=1024 * 1024),
    Scenario("burst", "200 text events at once, {n} connections", "burst", 32, ticks=200),
    Scenario(
        "trickle-together",
        "{n} streams, an event every 10 ms on each, all at the same moments",
        "trickle",
        200,
        period=0.01,
        together=True,
    ),
    Scenario(
        "trickle-apart", "{n} streams, an event every 10 ms on each, each for itself", "trickle", 100, period=0.01
    ),
    Scenario("bedrock-burst", "200 Bedrock frames at once, {n} connections", "burst", 32, ticks=200, bedrock=True),
    Scenario(
        "bedrock-trickle",
        "{n} streams, a Bedrock frame every 10 ms on each, all at the same moments",
        "trickle",
        200,
        period=0.01,
        together=True,
        bedrock=True,
    ),
    Scenario("memory", "{n} live streams, an event every second on each", "memory", 2000, period=1.0),
)


@dataclass(frozen=True)
class Times:
    """How long a cell runs, in seconds: up to `ramp` to open all streams, counting from `warm` on for `window`."""

    ramp: float
    warm: float
    window: float

    @property
    def stream(self) -> float:
        """How long a trickling stream lives: to a little after the window, whenever it was opened."""
        return self.warm + self.window + 0.2


def times(scenario: Scenario, seconds: float) -> Times:
    if scenario.shape == "memory":
        ramp = scenario.connections / 1000
        return Times(ramp, ramp + 1.0, 0.5)
    settle = min(0.5, seconds / 4)
    return Times(settle, 2 * settle, seconds) if scenario.streams else Times(0, settle, seconds)


def script(scenario: Scenario, seconds: float) -> traffic.Script:
    if scenario.shape == "json":
        return traffic.json_script()
    return traffic.stream_script(_ticks(scenario, seconds), bedrock=scenario.bedrock)


def marks(scenario: Scenario, seconds: float, *, decodes: bool) -> traffic.Marks:
    if scenario.shape == "json":
        return traffic.json_marks()
    how = traffic.frame_marks if scenario.bedrock and not decodes else traffic.sse_marks
    return how(_ticks(scenario, seconds))


def _ticks(scenario: Scenario, seconds: float) -> int:
    if not scenario.streams:
        return scenario.ticks
    return int(times(scenario, seconds).stream / scenario.period) + 2  # the first tick may come at once


def smaller(scenario: Scenario) -> Scenario:
    """The same for a smoke test: it proves that everything works, and measures little."""
    return replace(scenario, connections=min(scenario.connections, 300))
