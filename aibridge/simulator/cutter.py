"""Where the TCP writes of an answer begin and end, whatever its HTTP chunks are. Pure: bytes in, writes out."""

import random
from collections.abc import Iterator

from aibridge.simulator.faults import Play, Word

_LONGEST_RANDOM_WRITE = 61


class Cutter:
    """Holds bytes until the next place to cut. Steps that are played on the socket flush it first."""

    def __init__(self, play: Play) -> None:
        self._held = bytearray()
        self._drips = Word.DRIP in play
        self._holds_all = Word.ONE_WRITE in play
        seed = play.get(Word.SPLIT_RANDOM)
        self._draw = random.Random(seed.number) if seed else None  # noqa: S311 - a reproducible draw is the point
        self._wanted = self._next_size()

    @property
    def cuts(self) -> bool:
        """Whether each write must leave on its own."""
        return self._drips or self._draw is not None

    def feed(self, wire: bytes) -> Iterator[bytes]:
        """Yield the writes that are due."""
        if not self.cuts and not self._holds_all:
            yield wire
            return
        self._held += wire
        while not self._holds_all and len(self._held) >= self._wanted:
            part = bytes(self._held[: self._wanted])
            del self._held[: self._wanted]
            self._wanted = self._next_size()
            yield part

    def flush(self) -> bytes:
        """Return what is held."""
        held = bytes(self._held)
        self._held.clear()
        return held

    def _next_size(self) -> int:
        return 1 if self._draw is None else self._draw.randint(1, _LONGEST_RANDOM_WRITE)
