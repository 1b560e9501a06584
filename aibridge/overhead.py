"""The gateway's own work, timed where it is done, once in sixteen times: a look at the clock is not free.

All ends in one function, `Spent`: a step of `telemetry.gateway_metrics.STEPS`, the provider's name, seconds. Connecting
is seldom, and timed each time, where it happens.
"""

import time
from collections.abc import Callable

from aibridge.content import ContentPolicy
from aibridge.dialects import Dialect
from aibridge.relay import Relay
from aibridge.values import Attempt, Evidence, Interception, Learned, Listener, Outcome

Spent = Callable[[str, str, float], None]
"""Told a step, a provider and seconds."""

EVERY = 16
"""Of so many times one is timed: what the clock and the histogram cost is a hundredth of a request."""


class Stopwatch:
    """Times one step, once in sixteen times, the first among them.

    Args:
        step: one of `telemetry.gateway_metrics.STEPS`.
        spent: told what was timed.
    """

    __slots__ = ("_spent", "_started", "_step")

    def __init__(self, step: str, spent: Spent) -> None:
        self._step = step
        self._spent = spent
        self._started = 0

    def start(self) -> float:
        """Begin; what is returned is for `stop`."""
        self._started += 1
        return time.perf_counter() if self._started % EVERY == 1 else 0.0

    def stop(self, provider: str, began: float) -> None:
        """End."""
        if began:
            self._spent(self._step, provider, time.perf_counter() - began)


class TimedBooks:
    """A `Listener` that tells another, and how long that took."""

    def __init__(self, books: Listener, spent: Spent) -> None:
        self._books = books
        self._of_opened, self._of_learned, self._of_closed = [Stopwatch("record", spent) for _ in range(3)]

    def opened(self, interception: Interception) -> None:
        """Tell that a request was accepted."""
        began = self._of_opened.start()
        self._books.opened(interception)
        self._of_opened.stop(interception.provider, began)

    def learned(self, interception: Interception, fact: Learned, message_id: str) -> None:
        """Tell a fact of the content."""
        began = self._of_learned.start()
        self._books.learned(interception, fact, message_id)
        self._of_learned.stop(interception.provider, began)

    def attempted(self, interception: Interception, attempt: Attempt) -> None:
        """Tell the end of an attempt."""
        self._books.attempted(interception, attempt)

    def closed(self, interception: Interception, outcome: Outcome) -> None:
        """Tell the end."""
        began = self._of_closed.start()
        self._books.closed(interception, outcome)
        self._of_closed.stop(interception.provider, began)


class Relays:
    """Makes the relays of one provider; every sixteenth is timed, the first among them.

    Args:
        provider: its name.
        spent: told the time that a timed one took for its stream.
    """

    def __init__(self, provider: str, spent: Spent) -> None:
        self._provider = provider
        self._spent = spent
        self._made = 0

    def make(self, dialect: Dialect, request_id: str, policy: ContentPolicy) -> Relay:
        """Return a relay for one attempt, which learns the content that the policy keeps."""
        self._made += 1
        if self._made % EVERY == 1:
            return TimedRelay(dialect, request_id, policy, self._took)
        return Relay(dialect, request_id, policy)

    def _took(self, seconds: float) -> None:
        self._spent("relay", self._provider, seconds)


class TimedRelay(Relay):
    """A relay that adds up what its stream's chunks take, and tells it at the outcome; nothing where no stream was."""

    __slots__ = ("_seconds", "_took")

    def __init__(self, dialect: Dialect, request_id: str, policy: ContentPolicy, took: Callable[[float], None]) -> None:
        super().__init__(dialect, request_id, policy)
        self._seconds = 0.0
        self._took = took

    def feed_data(self, data: bytes, now: float) -> bytes:
        """Take bytes; see `Relay`."""
        began = time.perf_counter()
        text = super().feed_data(data, now)
        self._seconds += time.perf_counter() - began
        return text

    def outcome(self, *, ended_at: float, duration: float, evidence: Evidence) -> Outcome:
        """Return the outcome; see `Relay`."""
        if self._seconds:
            self._took(self._seconds)
        return super().outcome(ended_at=ended_at, duration=duration, evidence=evidence)
