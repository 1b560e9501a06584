"""One coarse wheel for all deadlines: no timer per stream, none per event.

An entry says when it next wants to be looked at; the wheel looks, less than two ticks late. An entry that moves its own
deadlines back (every byte does) need not tell the wheel: it is looked at in vain now and then, and says the new time.
"""

from collections.abc import Callable
from typing import Protocol

TICK = 0.1
"""Seconds. Deadlines are seconds to minutes; a tenth late is nothing, and ten wake-ups a second cost nothing."""


class Timed(Protocol):
    """What stands on the wheel."""

    def check(self, now: float) -> float | None:
        """Act on what is due. Returns the time of the next look, or None to leave the wheel."""


class Wheel:
    """Looks at its entries when they are due.

    Args:
        call_later: as `loop.call_later`.
        now: a monotonic clock in seconds, as `loop.time`.
    """

    def __init__(self, call_later: Callable[[float, Callable[[], None]], object], now: Callable[[], float]) -> None:
        self._call_later = call_later
        self._now = now
        self._slots: dict[int, dict[Timed, None]] = {}
        self._slot_of: dict[Timed, int] = {}
        self._turned = 0
        self._running = False

    def add(self, entry: Timed, at: float) -> None:
        """Look at `entry` at the time `at`. It must not stand on the wheel already."""
        if not self._running:
            self._running = True
            self._turned = int(self._now() / TICK)
            self._call_later(TICK, self._turn)
        slot = max(int(at / TICK) + 1, self._turned + 1)
        self._slots.setdefault(slot, {})[entry] = None
        self._slot_of[entry] = slot

    def remove(self, entry: Timed) -> None:
        """Look at `entry` no more. Does nothing where it does not stand on the wheel."""
        slot = self._slots.get(self._slot_of.pop(entry, -1))
        if slot is not None:
            slot.pop(entry, None)

    def _turn(self) -> None:
        now = self._now()
        until = int(now / TICK)
        due: list[Timed] = []
        while self._turned < until and self._slots:
            self._turned += 1
            due += self._slots.pop(self._turned, ())
        self._turned = until
        waiting = iter(due)
        try:
            for entry in waiting:
                if self._slot_of.pop(entry, None) is None:
                    continue  # removed by the check of one before it
                at = entry.check(now)
                if at is not None:
                    self.add(entry, at)
        finally:
            # Also behind an entry that raised: it leaves the wheel, and the others keep their deadlines.
            for entry in waiting:
                if entry in self._slot_of:
                    self.add(entry, now)
            if self._slots:
                self._call_later(TICK, self._turn)
            else:
                self._running = False
