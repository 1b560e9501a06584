"""Records, off the event loop: a bounded queue, and one thread that writes it into the store in batches.

A listener's call costs an append. The thread wakes at the first record, lets others gather for a moment, and writes
them in one transaction; where the store cannot take them it waits, longer each time, and offers them again. Past the
bound new records are dropped, counted, and spoken of once. This file is the only one that knows the store.
"""

import contextlib
import itertools
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence

from aibridge.stores.base import Attempted, Closed, Learned, Opened, Record, Store, StoreUnavailable
from aibridge.values import Attempt, Interception, Outcome
from aibridge.values import Learned as Fact

_logger = logging.getLogger(__name__)

GATHER_S = 0.05
"""How long records gather after the first. A dashboard sees them within this time."""

BATCH = 1000
"""Records in one transaction at most: some 10 ms of work."""

FIRST_BACKOFF_S = 0.1
MAX_BACKOFF_S = 10.0


class _Mark:
    """Stands in the queue behind the records that somebody waits for."""

    def __init__(self, *, last: bool = False) -> None:
        self.reached = threading.Event()
        self.last = last


def _ignore(count: int) -> None:
    pass


class Recorder:
    """A `Listener` that keeps what happened.

    Args:
        store: closed with the recorder.
        max_queued: records that wait at most.
        on_dropped: told how many records were lost; on any thread.
        gather: seconds that a batch gathers.
        first_backoff: seconds before the first new try; doubled at each, up to ten seconds.
    """

    def __init__(
        self,
        store: Store,
        *,
        max_queued: int = 50_000,
        on_dropped: Callable[[int], None] = _ignore,
        gather: float = GATHER_S,
        first_backoff: float = FIRST_BACKOFF_S,
    ) -> None:
        self._store = store
        self._max_queued = max_queued
        self._on_dropped = on_dropped
        self._gather = gather
        self._first_backoff = first_backoff
        self._queue: queue.SimpleQueue[Record | _Mark] = queue.SimpleQueue()
        self._numbers = itertools.count()
        self._held = 0  # records taken from the queue and not yet in the store
        self._losing = False
        self._store_away = False
        self._closed = False
        self._give_up_at = float("inf")
        self._gave_up = False
        self._urgent = threading.Event()  # do not gather, do not back off: somebody waits
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    def opened(self, interception: Interception) -> None:
        """Record that an interception began."""
        self._append(Opened(interception))

    def learned(self, interception: Interception, fact: Fact, message_id: str) -> None:
        """Record something of the content."""
        self._append(Learned(interception, fact, message_id, next(self._numbers), time.time()))

    def attempted(self, interception: Interception, attempt: Attempt) -> None:
        """Record an attempt."""
        self._append(Attempted(interception, attempt))

    def closed(self, interception: Interception, outcome: Outcome) -> None:
        """Record how an interception ended."""
        self._append(Closed(interception, outcome))

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait until everything recorded before this call is in the store. Blocks: not for the event loop.

        Args:
            timeout: seconds to wait at most.

        Returns:
            Whether it is.
        """
        if self._closed:
            return not self._thread.is_alive()
        mark = _Mark()
        self._queue.put(mark)
        self._urgent.set()
        return mark.reached.wait(timeout)

    def close(self, timeout: float = 5.0) -> None:
        """Write what is left, and close the store. Blocks: not for the event loop.

        Args:
            timeout: seconds for a store that does not take it; what is left then is dropped and counted.
        """
        if self._closed:
            return
        self._closed = True
        self._give_up_at = time.monotonic() + timeout
        self._queue.put(_Mark(last=True))
        self._urgent.set()
        self._thread.join(timeout + MAX_BACKOFF_S)

    def _append(self, record: Record) -> None:
        if self._closed:
            self._drop(1, "the recorder is closed")
        elif self._queue.qsize() + self._held >= self._max_queued:
            self._drop(1, "the store does not take them quickly enough")
        else:
            self._queue.put(record)

    def _drop(self, count: int, reason: object) -> None:
        self._on_dropped(count)
        if not self._losing:  # said once, until it is over
            self._losing = True
            _logger.error("records are being lost", extra={"fields": {"reason": str(reason)}})

    # --- the writer's thread ----------------------------------------------------------------------------------------

    def _run(self) -> None:
        last = False
        while not last:
            batch, marks = self._take()
            self._write(batch)
            self._held = 0
            for mark in marks:
                mark.reached.set()
                last = last or mark.last
        self._store.close()

    def _take(self) -> tuple[list[Record], list[_Mark]]:
        """Wait for a record or a mark, then take what gathers behind it."""
        items = [self._queue.get()]
        self._held = 1
        if not isinstance(items[0], _Mark) and self._queue.qsize() < BATCH:
            self._urgent.wait(self._gather)
        self._urgent.clear()
        with contextlib.suppress(queue.Empty):
            while len(items) < BATCH:
                items.append(self._queue.get_nowait())
                self._held = len(items)
        records = [item for item in items if not isinstance(item, _Mark)]
        return records, [item for item in items if isinstance(item, _Mark)]

    def _write(self, batch: Sequence[Record]) -> None:
        backoff = self._first_backoff
        while batch:
            if self._gave_up:
                self._drop(len(batch), "the store is away, and the gateway stops")
                return
            try:
                self._store.write(batch)
            except StoreUnavailable as error:
                self._away(error)
                self._gave_up = not self._wait(backoff)
                backoff = min(backoff * 2, MAX_BACKOFF_S)
            except Exception as error:  # noqa: BLE001 - StoreRefused, or a bug: the thread outlives both
                self._write_singly(batch, error)
                return
            else:
                self._back()
                return

    def _wait(self, seconds: float) -> bool:
        """Wait for the next try. Returns whether there is to be one."""
        left = self._give_up_at - time.monotonic()
        if left <= 0:
            return False
        self._urgent.wait(min(seconds, left))
        self._urgent.clear()
        return True

    def _write_singly(self, batch: Sequence[Record], error: Exception) -> None:
        """Find the record that the store refuses: the others must not be lost with it."""
        if len(batch) == 1:
            self._drop(1, error)
            return
        for record in batch:
            self._write([record])

    def _away(self, error: StoreUnavailable) -> None:
        if not self._store_away:
            self._store_away = True
            _logger.warning("the store is away", extra={"fields": {"error": str(error)}})

    def _back(self) -> None:
        if self._store_away:
            self._store_away = False
            _logger.warning("the store is back")
        if self._losing and self._queue.qsize() < self._max_queued // 2:
            self._losing = False
            _logger.warning("records are kept again")
