"""What happens now, as server-sent events: the numbers each second, and each interception that has ended.

One task asks for all who listen, and only while somebody does. Ends are found in the store, so that those of all
workers are told; they get there in no strict order, so that the last seconds are looked at again each time.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from aibridge import jsontext
from aibridge.adminapi.answers import NOT_STORED, STRICT
from aibridge.adminapi.asking import Store
from aibridge.adminapi.figures import Snapshot, stats
from aibridge.adminapi.flow import Flow
from aibridge.adminapi.problems import Problem
from aibridge.clientstream import ClientStream
from aibridge.headers import EVENT_STREAM
from aibridge.stores import browsing
from aibridge.stores.base import Fields, Query

MAX_LISTENERS = 32
MAX_TOLD = 100
"""Ends that are told one by one in a second."""
TICK_SECONDS = 1.0
_PATIENCE_SECONDS = 0.3
"""With the store, until the numbers are told without what has ended."""
LIFE_SECONDS = 3600.0
"""Of one stream: a browser opens the next by itself, and is asked again who it is."""
_OVERLAP_SECONDS = 15.0
"""By which an end may be late in the store, and is told all the same."""
_MAX_LOOKED_AT = 20_000
_RATES = ("started", "ended", "events")
_RATES_OVER = 10
"""Seconds: events of an answer that goes on are counted now and then."""
_MAX_QUEUED = 600
"""Events that wait for one who takes them slowly; older ones make place."""


class Ends:
    """Finds what has ended since it was asked last.

    Args:
        now: from when on ends are told; UTC seconds.
    """

    def __init__(self, now: float) -> None:
        self._horizon = self._from = now
        self._told: set[int] = set()

    def new(self, query: Query) -> tuple[list[Fields], int]:
        """Return rows that have ended, `MAX_TOLD` at most, and how many more there were. Called on a thread."""
        found = browsing.ended_since(query, max(self._horizon - _OVERLAP_SECONDS, self._from), _MAX_LOOKED_AT)
        fresh = [place for place, _ in found if place not in self._told]
        self._told = {place for place, _ in found}
        if found:
            self._horizon = found[-1][1]
        if len(found) == _MAX_LOOKED_AT:  # what is late must not keep back what comes
            self._from = self._horizon
        return browsing.rows_at(query, fresh[:MAX_TOLD]) if fresh else [], len(fresh[MAX_TOLD:])


class Live:
    """Tells all who listen. Built on a running event loop.

    Args:
        store: where ends are found, its own, so that no other question is waited for; without one, numbers are told.
        snapshot: asks the metrics.
    """

    def __init__(self, store: Store, snapshot: Snapshot) -> None:
        self._store = store
        self._snapshot = snapshot
        self._listeners: dict[Flow, deque[bytes]] = {}
        self._task: asyncio.Task[None] | None = None

    async def answer(self, client: ClientStream, may_stay: Callable[[], bool]) -> None:
        """Tell one client until it leaves, or may not stay. Raises `Problem` where too many listen."""
        if len(self._listeners) >= MAX_LISTENERS:
            raise Problem(503, "too_many_listeners", f"{MAX_LISTENERS} listen already")
        flow, now = Flow(client), self._stats()
        client.start(200, (*EVENT_STREAM, *NOT_STORED, *STRICT))
        client.write(b"retry: 2000\n\n" + _event("stats", {**now, **_rates(now, now)}))
        self._listeners[flow] = deque(maxlen=_MAX_QUEUED)
        if self._task is None:
            self._task = asyncio.create_task(self._tell())
        try:
            await self._relay(client, flow, may_stay)
        finally:
            del self._listeners[flow]

    async def _relay(self, client: ClientStream, flow: Flow, may_stay: Callable[[], bool]) -> None:
        queue, end_at = self._listeners[flow], time.monotonic() + LIFE_SECONDS
        while await flow.ready() and time.monotonic() < end_at and may_stay():
            if queue:
                client.write(b"".join(queue))
                queue.clear()
            await flow.woken()
        if client.paused or client.lost:
            client.abort()
        else:
            client.end()

    async def _tell(self) -> None:
        look: asyncio.Task[list[bytes]] | None = None
        try:
            ends, before = Ends(time.time()), deque([self._stats()], maxlen=_RATES_OVER)
            while self._listeners:
                await asyncio.sleep(TICK_SECONDS)
                look = look or asyncio.create_task(self._look(ends))
                await asyncio.wait([look], timeout=_PATIENCE_SECONDS)
                now = self._stats()
                pieces = [_event("stats", {**now, **_rates(before[0], now)})]
                if look.done():
                    pieces += look.result()
                    look = None
                before.append(now)
                for flow, queue in self._listeners.items():
                    queue.extend(pieces)
                    flow.wake()
        finally:
            if look is not None:
                look.cancel()
            self._task = None

    async def _look(self, ends: Ends) -> list[bytes]:
        try:
            return await self._store.ask(lambda query: _ended(ends, query))
        except Problem as problem:  # busy, away, off: the numbers go on, and this says why there is nothing else
            return [_event("problem", {"code": problem.code, "detail": problem.detail})]

    def _stats(self) -> Fields:
        return stats(self._snapshot, time.time())

    def close(self) -> None:
        """Tell nobody any more."""
        if self._task is not None:
            self._task.cancel()
        self._store.close()


def _ended(ends: Ends, query: Query) -> list[bytes]:
    """Return the events of what has ended. Called on a thread."""
    rows, skipped = ends.new(query)
    pieces = [_event("ended", row) for row in rows]
    if skipped:
        pieces.append(_event("ended", {"skipped": skipped}))
    return pieces


def _rates(before: Fields, now: Fields) -> Fields:
    seconds = max(now["at"] - before["at"], 0.001)
    return {f"{name}_per_second": round((now[name] - before[name]) / seconds, 3) for name in _RATES}


def _event(name: str, data: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), jsontext.dumps(data))
