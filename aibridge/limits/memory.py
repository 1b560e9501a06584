"""Counters in memory, of one process."""

import math
from collections.abc import Sequence

from aibridge.limits.values import Claim, Lease, Refusal

_SWEEP_EVERY_S = 60.0


class _Counter:
    """The entries of one counter: amount and end by slot."""

    __slots__ = ("entries", "expires", "total")

    def __init__(self) -> None:
        self.entries: dict[str, tuple[int, float]] = {}
        self.total = 0
        self.expires = math.inf
        """When the first of them ends, or earlier."""

    def forget(self, now: float) -> None:
        """Forget what no longer counts."""
        self.entries = {slot: entry for slot, entry in self.entries.items() if entry[1] > now}
        self.total = sum(amount for amount, _ in self.entries.values())
        self.expires = min((until for _, until in self.entries.values()), default=math.inf)

    def room_at(self, amount: int, limit: int) -> float:
        """Return when there is room for an amount that does not fit now."""
        total = self.total + amount
        for held, until in sorted(self.entries.values(), key=lambda entry: entry[1]):
            total -= held
            if total <= limit:
                return until
        return math.inf

    def put(self, slot: str, amount: int, until: float) -> None:
        """Set an entry."""
        before = self.entries.get(slot)
        self.total += amount if before is None else amount - before[0]
        if amount:
            self.entries[slot] = (amount, until)
            self.expires = min(self.expires, until)
        elif before is not None:
            del self.entries[slot]

    def add(self, claim: Claim) -> int:
        """Add, and return what stands there."""
        amount, until = claim.amount, claim.until
        before = self.entries.get(claim.slot)
        if before is not None:
            amount, until = amount + before[0], max(until, before[1])
        amount = max(amount, 0)
        self.put(claim.slot, amount, until)
        return amount


class MemoryStore:
    """A `CounterStore` that answers at once, and forgets all when its process ends."""

    def __init__(self) -> None:
        self._counters: dict[str, _Counter] = {}
        self._sweep_at = 0.0

    def reserve(self, now: float, claims: Sequence[Claim]) -> Refusal | None:
        """Take all or nothing; see `CounterStore`."""
        if now >= self._sweep_at:
            self._sweep(now)
        taken: list[_Counter] = []
        for place, claim in enumerate(claims):
            counter = self._counter(claim.counter, now)
            limit = claim.limit
            if limit is not None and counter.total + claim.amount > limit:
                return Refusal(place, counter.room_at(claim.amount, limit))
            taken.append(counter)
        for place, counter in enumerate(taken):
            counter.add(claims[place])
        return None

    def settle(self, now: float, leases: Sequence[Lease], adds: Sequence[Claim]) -> list[int]:
        """Set and add; see `CounterStore`."""
        for lease in leases:
            self._counter(lease.counter, now).put(lease.slot, lease.amount, lease.until)
        return [self._counter(claim.counter, now).add(claim) for claim in adds]

    async def start(self) -> None:
        """Nothing is opened."""

    async def close(self) -> None:
        """Nothing is closed."""

    def __len__(self) -> int:
        return len(self._counters)

    def _counter(self, name: str, now: float) -> _Counter:
        found = self._counters.get(name)
        if found is None:
            found = self._counters[name] = _Counter()
        if now >= found.expires:
            found.forget(now)
        return found

    def _sweep(self, now: float) -> None:
        """Forget counters without entries: clients may choose their names."""
        self._sweep_at = now + _SWEEP_EVERY_S
        for counter in self._counters.values():
            counter.forget(now)
        self._counters = {name: counter for name, counter in self._counters.items() if counter.entries}
