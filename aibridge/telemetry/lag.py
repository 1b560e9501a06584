"""How late the event loop is: one timer, that looks how much later than asked it is called.

Whatever runs on the loop for too long, a big body, a slow book, makes every stream wait as long.
"""

import asyncio
import time
from collections.abc import Callable

INTERVAL = 0.25
"""Seconds between two looks: four a second cost nothing, and a stall of half a second meets one."""


class LoopLag:
    """Tells how late the loop was, at each look.

    Args:
        lagged: told seconds.
        interval: seconds between two looks.
    """

    def __init__(self, lagged: Callable[[float], None], interval: float = INTERVAL) -> None:
        self._lagged = lagged
        self._interval = interval
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0

    def start(self) -> None:
        """Begin to look, on the running loop."""
        self._due = time.perf_counter() + self._interval
        self._timer = asyncio.get_running_loop().call_later(self._interval, self._look)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        # A loop whose clock counts milliseconds may call a moment early.
        self._lagged(max(time.perf_counter() - self._due, 0.0))
        self.start()
