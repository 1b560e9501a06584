"""What the project wants of its speed, beside what the committed results say."""

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Results = dict[str, Any]
OURS, FLOOR, NOTHING = "aibridge", "nginx", "direct"
REQUEST, EVENT = "cpu_us_per_request", "cpu_us_per_event"


@dataclass(frozen=True)
class Books:
    """The committed results: ours, the peers', the wire's."""

    gateway: Results | None
    peers: Results | None
    kernel: Results | None

    def pairs(self, scenario: str, mine: str, other: str, key: str) -> list[tuple[float, float]]:
        """The figures of two subjects, of each round of the first results that have both."""
        for results in (self.gateway, self.peers):
            cells = [cell for cell in (results or {"cells": ()})["cells"] if cell["scenario"] == scenario]
            figures = [
                {cell["round"]: cell[key] for cell in cells if cell["subject"] == name and cell.get(key) is not None}
                for name in (mine, other)
            ]
            if both := [(figures[0][number], figures[1][number]) for number in figures[0] if number in figures[1]]:
                return both
        return []


Measure = Callable[[Books], float | None]


@dataclass(frozen=True)
class Goal:
    """One line of the plan; `more` says that a higher figure is the better one."""

    says: str
    unit: str
    target: float
    stretch: float
    measure: Measure
    more: bool = False


def _middle(values: list[float]) -> float | None:
    return statistics.median(values) if values else None


def times(scenario: str, key: str, mine: str = OURS, other: str = FLOOR) -> Measure:
    """How many times the other's figure one is, round by round."""
    return lambda books: _middle([a / b for a, b in books.pairs(scenario, mine, other, key) if b])


def added(scenario: str, key: str) -> Measure:
    """What we add to the direct way, round by round."""
    return lambda books: _middle([a - b for a, b in books.pairs(scenario, OURS, NOTHING, key)])


def plain(scenario: str, key: str) -> Measure:
    """Our own figure."""
    return lambda books: _middle([a for a, _ in books.pairs(scenario, OURS, OURS, key)])


def big_body(books: Books) -> float | None:
    """CPU ms that a request body of 1 MB costs on top of one of 1 KB."""
    big, small = plain("json-1m", REQUEST)(books), plain("json", REQUEST)(books)
    return (big - small) / 1e3 if big and small else None


def kernel(other: str) -> Measure:
    """CPU of the compiled wire a Bedrock frame, 64 a chunk, as a part of another's."""

    def measure(books: Books) -> float | None:
        rows = (books.kernel or {"results": ()})["results"]
        costs = {row["name"]: row["cpu_us"] for row in rows if row["group"] == "frames to text, 64 a chunk"}
        return costs["compiled"] / costs[other] if {"compiled", other} <= costs.keys() else None

    return measure


GOALS = (
    Goal("Bedrock frame to text, CPU, against botocore's decoder", "times", 1 / 40, 1 / 40, kernel("botocore")),
    Goal("Bedrock frame to text, CPU, against a plain C loop", "times", math.inf, 1.5, kernel("plain C")),
    Goal("trickle, 100 streams, CPU an event, against nginx", "times", 1.4, 1.1, times("trickle-apart", EVENT)),
    Goal("trickle, 200 streams together, against nginx", "times", 1.4, 1.1, times("trickle-together", EVENT)),
    Goal("the same over TLS, against nginx over TLS", "times", 1.4, 1.1, times("trickle-tls", EVENT)),
    Goal("burst, CPU an event, against nginx", "times", 2.5, 1.5, times("burst", EVENT)),
    Goal("JSON request, CPU, against nginx", "times", 6, 4, times("json", REQUEST)),
    Goal("JSON request, CPU, against TensorZero (Rust)", "times", 1, 1, times("json", REQUEST, OURS, "tensorzero")),
    Goal(
        "OpenAI chat, JSON, CPU, against SGLang's router (Rust)",
        "times",
        1,
        1,
        times("chat-json", REQUEST, OURS, "sglang"),
    ),
    Goal(
        "LiteLLM's CPU a JSON request, against ours",
        "times",
        120,
        200,
        times("json", REQUEST, "litellm", OURS),
        more=True,
    ),
    Goal(
        "LiteLLM's CPU a burst event, against ours",
        "times",
        150,
        400,
        times("burst", EVENT, "litellm", OURS),
        more=True,
    ),
    Goal(
        "LiteLLM's CPU a trickle event, against ours",
        "times",
        30,
        50,
        times("trickle-10", EVENT, "litellm", OURS),
        more=True,
    ),
    Goal("added to the first event, 32 connections, p50", "ms", 0.4, 0.2, added("paced", "first_event_p50_ms")),
    Goal("added to the first event, 32 connections, p99", "ms", 3, 1.5, added("paced", "first_event_p99_ms")),
    Goal("CPU of a 1 MB body on top of a 1 KB one", "ms", 1.5, 0.7, big_body),
    Goal("memory of a live stream, 2,000 of them", "KB", 20, 12, plain("idle-2000", "rss_kb_per_stream")),
    Goal("memory of a live stream, 9,000 of them", "KB", 20, 12, plain("idle-9000", "rss_kb_per_stream")),
    Goal("9,000 live streams, lateness of an event, p99", "ms", 50, 10, plain("idle-9000", "late_p99_ms")),
    Goal("records on against off, JSON, CPU", "times", 1.10, 1.05, times("json", REQUEST, OURS, "aibridge-unrecorded")),
    Goal("records on against off, burst, CPU", "times", 1.10, 1.05, times("burst", EVENT, OURS, "aibridge-unrecorded")),
    Goal(
        "records on against off, trickle, CPU",
        "times",
        1.10,
        1.05,
        times("trickle-apart", EVENT, OURS, "aibridge-unrecorded"),
    ),
    Goal(
        "a key, limits and a budget on, JSON, CPU",
        "times",
        1.10,
        1.05,
        times("json", REQUEST, "aibridge-limited", OURS),
    ),
    Goal(
        "pure wire against compiled, trickle, CPU",
        "times",
        1.4,
        1.2,
        times("trickle-apart", EVENT, "aibridge-pure", OURS),
    ),
    Goal(
        "two workers against one, requests a second (all on one machine: see below)",
        "times",
        1.85,
        1.95,
        times("json", "requests_per_second", "aibridge-two", OURS),
        more=True,
    ),
)


def rows(books: Books) -> list[list[str]]:
    """A line for each goal: what, target, stretch, measured, verdict."""
    return [_row(goal, goal.measure(books)) for goal in GOALS]


def _row(goal: Goal, figure: float | None) -> list[str]:
    sign = "≥" if goal.more else "≤"
    bounds = (goal.target, goal.stretch)
    wanted = [f"{sign} {bound:.3g} {goal.unit}" if math.isfinite(bound) else "-" for bound in bounds]
    if figure is None:
        return [goal.says, *wanted, "-", "not measured"]
    verdict = "**missed**"
    for bound, word in ((goal.target, "met"), (goal.stretch, "met, stretch too")):
        if figure >= bound if goal.more else figure <= bound:
            verdict = word
    return [goal.says, *wanted, f"{figure:.3g} {goal.unit}", verdict]
