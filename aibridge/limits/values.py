"""What is counted, and the contract of who counts it. Pure.

A counter is a sum of entries that count until a time each. So one contract serves all that is limited: a request and
its tokens count for a minute, what was spent counts until its day or month ends, and what is under way counts as a
lease, which its owner prolongs: of a process that was killed nothing counts for longer than its leases last.
"""

from collections.abc import Awaitable, Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol


class Scope(StrEnum):
    """Whose a limit is."""

    KEY = "key"
    ACTOR = "actor"
    TEAM = "team"
    MODEL = "model"
    ALL = "all"


class Measure(StrEnum):
    """What is limited."""

    __hash__ = str.__hash__  # that of the word it is equal to, and without a call in Python

    REQUESTS = "requests_per_minute"
    TOKENS = "tokens_per_minute"
    CONCURRENT = "concurrent"
    DAY = "dollars_per_day"
    MONTH = "dollars_per_month"


class Entry:
    """A part of a counter. Not a tuple with names: several are made for each request, and of these each costs 0.3 µs.

    Args:
        counter: whose sum it goes into.
        slot: its name there.
        amount: requests, tokens, interceptions or nano-dollars.
        until: UTC seconds, when it no longer counts.
    """

    __slots__ = ("amount", "counter", "slot", "until")

    def __init__(self, counter: str, slot: str, amount: int, until: float) -> None:
        self.counter = counter
        self.slot = slot
        self.amount = amount
        self.until = until


class Claim(Entry):
    """An amount that is asked for, or added: what stands in the slot already stays there.

    Args:
        limit: the sum may not be above it, with this amount; None: counted only.
    """

    __slots__ = ("limit",)

    def __init__(self, counter: str, slot: str, amount: int, until: float, limit: int | None = None) -> None:
        super().__init__(counter, slot, amount, until)
        self.limit = limit


class Lease(Entry):
    """An entry of something that is under way: as it shall be, whatever it was. An amount of 0 ends it."""

    __slots__ = ()


class Refusal(NamedTuple):
    """What a counter answers that has no room: the place of its claim, and when it has, in UTC seconds."""

    place: int
    until: float


Reserved = Refusal | Awaitable[Refusal | None] | None
Settled = list[int] | Awaitable[list[int]]


class CounterStore(Protocol):
    """Counts, for one process or for many. Times are those of the caller's clock.

    What is answered at once is a value; what has to be waited for raises `LimitStoreUnavailable` where the store is
    away.
    """

    def reserve(self, now: float, claims: Sequence[Claim]) -> Reserved:
        """Take all that is claimed, or nothing: then say which claim has no room. One step for everybody who asks."""

    def settle(self, now: float, leases: Sequence[Lease], adds: Sequence[Claim]) -> Settled:
        """Set leases, and add to entries, which never become less than 0; no limit is asked.

        Returns:
            What stands in each entry that was added to.
        """

    async def start(self) -> None:
        """Open what it needs. Raises `LimitStoreUnavailable`."""

    async def close(self) -> None:
        """Close it. Never raises."""
