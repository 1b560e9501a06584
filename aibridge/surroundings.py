"""What all interceptions of one provider share: clocks, connections, books and bounds. Values only."""

import asyncio
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from aibridge.content import ContentRules
from aibridge.deadlines import Wheel
from aibridge.keypool import KeyPool
from aibridge.lifecycle import Cause
from aibridge.overhead import Relays, Spent
from aibridge.retries import RetryBudget, RetryPolicy, pause_before
from aibridge.telemetry.tracing import Tracing
from aibridge.upstream import Pool, Sink
from aibridge.values import Evidence, Interception, Listener, ResponseHead, UpstreamRequest


@dataclass(frozen=True, kw_only=True)
class Deadlines:
    """Seconds, each above zero."""

    connect: float
    response: float
    idle: float
    client_stall: float
    ping: float
    commit: float

    @cached_property
    def shortest(self) -> float:
        """The least of them."""
        return min(self.connect, self.response, self.idle, self.client_stall, self.ping, self.commit)


class RelayedDump(Protocol):
    """Writes down what passes for one request that is relayed only."""

    def tee(self, request: UpstreamRequest, sink: Sink) -> Sink:
        """Take the request as it is sent, and return what the answer has to go through on its way to `sink`."""

    def failed(self, error: str) -> None:
        """There is no whole answer."""


@dataclass(frozen=True, kw_only=True)
class Retrying:
    """How one provider's requests are tried again."""

    policy: RetryPolicy
    budget: RetryBudget

    def pause(self, made: int, cause: Cause, head: ResponseHead | None) -> float | None:
        """Return how long to wait before the next retry; None where there is none. Takes it from the budget."""
        pause = pause_before(self.policy, made, cause, head, random.random())  # noqa: S311 - no secret
        return pause if pause is not None and self.budget.take() else None


Tee = Callable[[Interception, int, UpstreamRequest, Sink], Sink]
"""Takes the request of an attempt as it is sent, and returns what the answer has to go through on its way."""


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What all exchanges of one provider share.

    `on_trailing` counts bytes behind a terminal event, `on_spent` the gateway's own work. `on_progress` is told now and
    then what a long answer has seen so far. `tracing` is there where spans are sent. `refused_for` is asked whether an
    interception may contact the upstream: None, or the seconds to wait; `on_left` is told of one that was let pass, and
    goes on elsewhere with nothing asked here since. Both are None where there is no circuit breaker, and `tee` and
    `new_dump` are where nothing is dumped. `read_on` are the seconds for which an answer is read on once its client has
    left, so that its tokens are known: 0 where it is not. `retrying` is there where requests are tried again, and where
    the provider is a fallback; `key_pool` where it has several keys, and `on_rotated` counts requests that go on with
    another one.
    """

    loop: asyncio.AbstractEventLoop
    wheel: Wheel
    pool: Pool
    listener: Listener
    deadlines: Deadlines
    content: ContentRules
    max_response_bytes: int
    on_trailing: Callable[[str, int], None]
    on_spent: Spent
    on_progress: Callable[[Interception, Evidence], None] | None
    relays: Relays
    tracing: Tracing | None
    read_on: float = 0.0
    retrying: Retrying | None = None
    key_pool: KeyPool | None = None
    on_rotated: Callable[[str, str], None]
    refused_for: Callable[[Interception], int | None] | None = None
    on_left: Callable[[Interception], None] | None = None
    tee: Tee | None = None
    new_dump: Callable[[], RelayedDump] | None = None

    @cached_property
    def shortest(self) -> float:
        """How many seconds a look at the wheel may be put off: no deadline that begins later can be due before."""
        return min(self.deadlines.shortest, self.read_on or math.inf)
