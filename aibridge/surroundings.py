"""What all interceptions of one provider share: clocks, connections, books and bounds. Values only."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from aibridge.content import ContentRules
from aibridge.deadlines import Wheel
from aibridge.upstream import Pool
from aibridge.values import Listener


@dataclass(frozen=True, kw_only=True)
class Deadlines:
    """Seconds, each above zero."""

    connect: float
    response: float
    idle: float
    client_stall: float
    ping: float

    @property
    def shortest(self) -> float:
        """How long a look at the wheel may be put off: no deadline that begins later can be due before."""
        return min(self.connect, self.response, self.idle, self.client_stall, self.ping)


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What all exchanges of one provider share. `on_trailing` counts bytes behind a terminal event."""

    loop: asyncio.AbstractEventLoop
    wheel: Wheel
    pool: Pool
    listener: Listener
    deadlines: Deadlines
    content: ContentRules
    max_response_bytes: int
    on_trailing: Callable[[str, int], None]
