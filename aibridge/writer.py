"""The writer: a thread that brings journals into the store, in batches, and ends what dead processes left open.

It reads the journal's files, not a copy in memory, so that a store that is away costs disk and no memory. Where the
store cannot take a batch the thread waits, longer each time, and offers it again; one entry that the store will never
take is found, dropped and counted, and takes no other with it.

What is to be done is decided here. The step that does it, `carry`, is taken here too where there is little to do; from
the first large batch on a `Carrier` takes it, since the thread would fight with the event loop for the interpreter.

At its start, and from time to time, it looks for journals whose process is gone: these are read to their end, and then
every interception that such a process opened, and that has no end, is ended as crashed.
"""

import functools
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from aibridge.carrier import Carrier
from aibridge.journal import Extent, Journal, Reader, claimed, extent_of, names_in, remove_journal
from aibridge.stores.base import Rows, Store, StoreUnavailable
from aibridge.stores.carrying import Carried, carry
from aibridge.stores.entries import closed_parts, crashed, entry, rows_of
from aibridge.values import Interception, Outcome

_T = TypeVar("_T")

_logger = logging.getLogger(__name__)

GATHER_S = 0.05
"""How long entries gather after the first. A dashboard sees them within this time."""

BATCH_BYTES = 256 * 1024
"""Of entries in one transaction, about: some 300 interceptions, 5 ms of work. Larger ones cost more for each."""

ONE_ENTRY = 8
"""Bytes to read for the next entry alone: those that tell its length."""

LARGE_BYTES = 32 * 1024
"""What waits in a journal, at least, for the first batch of the `Carrier`. At 20 batches a second a steady load of some
700 interceptions a second; or what a dead process left."""

FIRST_BACKOFF_S = 0.1
MAX_BACKOFF_S = 10.0

TICK_S = 1.0
"""Between two signs of life in the journal, and two syncs: what a crash leaves unsure of the time of an end."""

LOOK_AGAIN_S = 60.0
"""Between two looks for journals of dead processes: a worker that died while its siblings live."""


OnCrashed = Callable[[Interception, Outcome, str], None]
"""Told an interception, its end, and the name of the journal that it stood in."""


class _GivesUp(Exception):
    """The store is away, and the gateway stops."""


class Writer:
    """The thread, and what others ask of it.

    Args:
        store: closed with the writer.
        journal: of this process; closed with the writer.
        on_dropped: told how many entries were lost; on the thread.
        on_crashed: told each interception that a dead process left, with its end and
            that process's journal; on the thread.
        carrier: takes large batches; closed with the writer. None: the thread takes all of them.
        gather: seconds that a batch gathers.
        first_backoff: seconds before the first new try; doubled at each, up to ten seconds.
    """

    def __init__(
        self,
        store: Store,
        journal: Journal,
        *,
        on_dropped: Callable[[int], None],
        on_crashed: OnCrashed,
        carrier: Carrier | None = None,
        gather: float = GATHER_S,
        first_backoff: float = FIRST_BACKOFF_S,
    ) -> None:
        self._store = store
        self._journal = journal
        self._on_dropped = on_dropped
        self._on_crashed = on_crashed
        self._carrier = carrier
        self._gather = gather
        self._first_backoff = first_backoff
        self._own = Reader(journal.folder, journal.name)
        self._oldest = time.time()  # no entry that is not in the store is older
        self._store_away = False
        self._trouble = ""
        self._next_tick = 0.0
        self._next_look = 0.0
        self._news = threading.Event()
        self._urgent = threading.Event()  # do not gather, do not back off: somebody waits
        self._progress = threading.Condition()
        self._stopping = False
        self._give_up_at = float("inf")
        self._thread = threading.Thread(target=self._run, name="records", daemon=True)
        self._thread.start()

    @property
    def backlog(self) -> int:
        """Bytes of this process's journal that are not in the store."""
        return self._journal.end - self._own.position

    @property
    def age(self) -> float:
        """Seconds since the oldest entry that is not in the store; 0 where all is there. A second more at most."""
        return time.time() - self._oldest if self.backlog else 0.0

    def wake(self) -> None:
        """Say that something was appended."""
        if not self._news.is_set():
            self._news.set()

    def flush(self, timeout: float) -> bool:
        """Wait until all that was appended before this call is in the store; returns whether it is."""
        end = self._journal.end
        self._urgent.set()
        self._news.set()
        with self._progress:
            return self._progress.wait_for(lambda: self._own.position >= end, timeout)

    def close(self, timeout: float) -> None:
        """Write what is left, and close journal and store. What a store does not take stays in the journal."""
        self._give_up_at = time.monotonic() + timeout
        self._stopping = True
        self._urgent.set()
        self._news.set()
        self._thread.join()

    # --- the thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        kept = False
        try:
            while not self._stopping:
                self._work()
                self._news.wait(max(0.0, self._next_tick - time.monotonic()))
                self._urgent.wait(self._gather if self._news.is_set() else 0)
            self._work()
            self._write({}, self._journal.name, self._own.position, durable=True)
            kept = not self.backlog
        except _GivesUp:
            _logger.warning("records wait in the journal for the next start", extra={"fields": {"bytes": self.backlog}})
        finally:
            if self._carrier is not None:
                self._carrier.close()
            self._journal.close(remove=kept)
            self._store.close()

    def _work(self) -> None:
        self._news.clear()
        self._urgent.clear()
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + LOOK_AGAIN_S
            self._outlive(self._take_over)
        if self._carrier is not None:
            self._carrier.look()
        self._outlive(lambda: self._drain(self._own, self._journal.extent))
        if not self.backlog:
            self._oldest = time.time()

    def _outlive(self, step: Callable[[], None]) -> None:
        """Do it; a disk that fails, or a bug, ends neither the thread nor what comes next."""
        try:
            step()
        except _GivesUp:
            raise
        except Exception as error:
            if str(error) != self._trouble:  # said once, not at every try
                self._trouble = str(error)
                _logger.exception("a journal cannot be brought into the store")

    def _tick(self) -> None:
        now = time.monotonic()
        if now >= self._next_tick:
            self._next_tick = now + TICK_S
            self._outlive(self._journal.say_alive)
            self._outlive(self._journal.sync)

    def _drain(self, reader: Reader, extent: Extent) -> None:
        """Bring into the store what a journal holds up to now. What comes meanwhile gathers for the next time."""
        singly_until = 0
        while True:
            self._tick()
            singly = reader.position < singly_until
            step = self._carry_one if singly else self._carry
            carried = self._patiently(functools.partial(step, reader, extent), StoreUnavailable)
            if carried.position == reader.position:
                return
            if carried.refused and not singly:  # one of them is: the others must not be lost with it
                singly_until = carried.position
                continue
            if carried.refused:
                self._drop(reader, carried)
            if carried.lost:
                fields = {"journal": reader.name, "position": reader.position, "bytes": carried.lost}
                _logger.error("a journal has entries that cannot be read", extra={"fields": fields})
                self._on_dropped(1)  # one at least: how many there were nobody knows
            if carried.position < reader.position:
                fields = {"journal": reader.name, "bytes": extent.end - carried.position}
                _logger.warning(
                    "the store's file is another: what its journal still has is written again", extra={"fields": fields}
                )
            with self._progress:
                reader.position = carried.position
                self._progress.notify_all()
            if reader is self._own:
                self._oldest = self._oldest if carried.at is None else carried.at
                self._journal.remove_before(reader.position)

    def _carry(self, reader: Reader, extent: Extent) -> Carried:
        waiting = extent.end - reader.position
        if self._carrier is not None and waiting and (self._carrier.running or waiting >= LARGE_BYTES):
            carried = self._carrier.carry(reader, extent, BATCH_BYTES, self._meanwhile)
            if carried is not None:
                return carried
        return carry(self._store, reader, extent, BATCH_BYTES)

    def _carry_one(self, reader: Reader, extent: Extent) -> Carried:
        return carry(self._store, reader, extent, ONE_ENTRY)

    def _meanwhile(self) -> None:
        self._tick()
        if time.monotonic() >= self._give_up_at:
            raise _GivesUp

    def _drop(self, reader: Reader, carried: Carried) -> None:
        """Go on behind an entry that is refused."""
        # A store that refuses this too is broken, and nothing is dropped.
        self._write({}, reader.name, carried.position, durable=True)
        self._on_dropped(1)
        _logger.error("a record is refused", extra={"fields": {"journal": reader.name, "error": carried.refused}})

    def _write(self, rows: Rows, journal: str, position: int, *, durable: bool) -> None:
        """Offer rows to the store until it takes them. Raises what it says of rows that it will never take."""
        patience = StoreUnavailable if rows else Exception
        self._patiently(lambda: self._store.write(rows, journal, position, durable=durable), patience)

    def _patiently(self, call: Callable[[], _T], patience: type[Exception] = Exception) -> _T:
        """Call until there is no error of a kind that may pass."""
        backoff = self._first_backoff
        while True:
            try:
                result = call()
            except patience as error:
                self._away(error)
                self._wait(backoff)
                backoff = min(backoff * 2, MAX_BACKOFF_S)
            else:
                self._back()
                return result

    def _wait(self, seconds: float) -> None:
        """Wait for the next try, with a sign of life at its time."""
        until = min(time.monotonic() + seconds, self._give_up_at)
        while (left := until - time.monotonic()) > 0 and not self._urgent.wait(min(left, TICK_S)):
            self._tick()
        self._urgent.clear()
        if time.monotonic() >= self._give_up_at:
            raise _GivesUp

    def _away(self, error: Exception) -> None:
        if not self._store_away:
            self._store_away = True
            fields = {"error": str(error), "journal_bytes": self.backlog}
            _logger.warning("the store is away", extra={"fields": fields})

    def _back(self) -> None:
        if self._store_away:
            self._store_away = False
            _logger.warning("the store is back", extra={"fields": {"journal_bytes": self.backlog}})

    # --- what dead processes left -----------------------------------------------------------------------------------

    def _take_over(self) -> None:
        folder = self._journal.folder
        for name in sorted(names_in(folder) - {self._journal.name}):
            self._outlive(functools.partial(self._take_journal, folder, name))
        left_open = self._patiently(self._store.journals_left_open)
        there = names_in(folder)  # asked for later: whoever has written a row has had its lock before
        for name in left_open:
            if name not in there:
                self._end_crashed(name, 0, 0.0)
        self._patiently(lambda: self._store.forget_all_but(there | {self._journal.name}))

    def _take_journal(self, folder: Path, name: str) -> None:
        with claimed(folder, name) as last_sign:
            if last_sign is None:
                return
            extent = extent_of(folder, name)
            reader = Reader(folder, name, self._patiently(lambda: self._store.position(name)))
            self._drain(reader, extent)
            ended = self._end_crashed(name, reader.position, last_sign)
            remove_journal(folder, name)
        fields = {"journal": name, "bytes": extent.end, "crashed": ended}
        _logger.warning("the journal of a dead process is in the store", extra={"fields": fields})

    def _end_crashed(self, name: str, position: int, at: float) -> int:
        """End what a dead process left open, durably: its journal may go then. Returns how many these are."""
        left = self._patiently(lambda: self._store.left_open(name))
        ends = [(one.interception, crashed(one, at)) for one in left]
        entries = [entry(outcome.ended_at, closed_parts(interception, outcome)) for interception, outcome in ends]
        self._write(rows_of(entries, name)[0] if entries else {}, name, position, durable=True)
        for interception, outcome in ends:
            self._on_crashed(interception, outcome, name)
        return len(ends)
