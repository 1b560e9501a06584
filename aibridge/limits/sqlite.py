"""Counters in a SQLite file, for all processes of one host. A door to sqlite3.

All that waits is done in one transaction, on a thread of its own: so a burst of requests costs a few commits. The file
has a write-ahead log without a sync for each commit: counters outlive a process that is killed; of a machine that loses
its power the last moments may be lost.
"""

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from aibridge.errors import LimitStoreUnavailable
from aibridge.limits.values import Claim, Lease, Refusal
from aibridge.stores.writeahead import write_ahead

_APPLICATION_ID = 0x61696C31
"""Says what file this is ("ail1")."""
_VERSION = 1
_PRUNE_EVERY_S = 1.0

_SCHEMA = (
    """CREATE TABLE entries (
        counter TEXT, slot TEXT, amount INTEGER NOT NULL, until REAL NOT NULL, PRIMARY KEY (counter, slot)
    ) WITHOUT ROWID""",
    "CREATE INDEX entries_by_end ON entries (until)",
    f"PRAGMA application_id = {_APPLICATION_ID}",
    f"PRAGMA user_version = {_VERSION}",
)
_PUT = (
    "INSERT INTO entries VALUES (?, ?, ?, ?)"
    " ON CONFLICT (counter, slot) DO UPDATE SET amount = excluded.amount, until = excluded.until"
)
_ENTRY = "SELECT amount, until FROM entries WHERE counter = ? AND slot = ? AND until > ?"


class _Job(NamedTuple):
    """What somebody waits for."""

    work: Callable[[sqlite3.Connection], Any]
    done: asyncio.Future[Any]


class SQLiteStore:
    """A `CounterStore` in a file.

    Args:
        path: the file; made where it is not there.
        patience: seconds to wait for other processes.
    """

    def __init__(self, path: Path, patience: float) -> None:
        self._path = path
        self._patience = patience
        self._db: sqlite3.Connection | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="limits")
        self._waiting: list[_Job] = []
        self._busy = False
        self._prune_at = 0.0

    def reserve(self, now: float, claims: Sequence[Claim]) -> Awaitable[Refusal | None]:
        """Take all or nothing; see `CounterStore`."""
        return self._ask(lambda db: _reserve(db, now, claims))

    def settle(self, now: float, leases: Sequence[Lease], adds: Sequence[Claim]) -> Awaitable[list[int]]:
        """Set and add; see `CounterStore`."""
        return self._ask(lambda db: _settle(db, now, leases, adds))

    async def start(self) -> None:
        """Open the file."""
        await self._ask(lambda _: None)

    async def close(self) -> None:
        """Close it, once all that waits is done."""
        await asyncio.to_thread(self._thread.shutdown)
        if self._db is not None:
            with suppress(sqlite3.Error):
                self._db.close()

    def _ask(self, work: Callable[[sqlite3.Connection], Any]) -> Awaitable[Any]:
        loop = asyncio.get_running_loop()
        job = _Job(work, loop.create_future())
        self._waiting.append(job)
        if not self._busy:
            self._begin(loop)
        return job.done

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self._busy = True
        jobs, self._waiting = self._waiting, []
        doing = loop.run_in_executor(self._thread, self._do, [job.work for job in jobs])
        doing.add_done_callback(lambda done: self._done(loop, jobs, done))

    def _done(self, loop: asyncio.AbstractEventLoop, jobs: list[_Job], doing: "asyncio.Future[list[Any]]") -> None:
        self._busy = False
        failure = doing.exception()
        for place, job in enumerate(jobs):
            if job.done.done():
                continue  # nobody waits any more
            if failure is None:
                job.done.set_result(doing.result()[place])
            else:
                job.done.set_exception(failure)
        if self._waiting:
            self._begin(loop)

    def _do(self, works: list[Callable[[sqlite3.Connection], Any]]) -> list[Any]:
        """Do all of it in one transaction, on the thread."""
        try:
            if self._db is None:
                self._db = self._opened()
            db = self._db
            db.execute("BEGIN IMMEDIATE")
            answers = [work(db) for work in works]
            now = time.monotonic()
            if now >= self._prune_at:
                self._prune_at = now + _PRUNE_EVERY_S
                db.execute("DELETE FROM entries WHERE until <= ?", (time.time(),))
            db.execute("COMMIT")
        except Exception as error:
            self._give_up()
            raise LimitStoreUnavailable(f"{self._path}: {error}") from error
        return answers

    def _opened(self) -> sqlite3.Connection:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path.touch(mode=0o600)
        db = sqlite3.connect(self._path, timeout=self._patience, isolation_level=None, check_same_thread=False)
        try:
            db.execute("BEGIN IMMEDIATE")
            if db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
                for statement in _SCHEMA:
                    db.execute(statement)
            _refuse_others(db)
            db.execute("COMMIT")
            write_ahead(db, self._patience)
            db.execute("PRAGMA synchronous = NORMAL")
        except BaseException:
            db.close()
            raise
        return db

    def _give_up(self) -> None:
        """Undo, and open the file anew the next time: it may have been replaced."""
        db, self._db = self._db, None
        if db is not None:
            with suppress(sqlite3.Error):
                db.close()


def _refuse_others(db: sqlite3.Connection) -> None:
    found = [db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
    if found != [_APPLICATION_ID, _VERSION]:
        raise sqlite3.DatabaseError("is no file of limits that this program knows")


def _reserve(db: sqlite3.Connection, now: float, claims: Sequence[Claim]) -> Refusal | None:
    for place, claim in enumerate(claims):
        if claim.limit is None:
            continue
        held = db.execute(
            "SELECT coalesce(sum(amount), 0) FROM entries WHERE counter = ? AND until > ?", (claim.counter, now)
        ).fetchone()[0]
        over = held + claim.amount - claim.limit
        if over > 0:
            return Refusal(place, _room_at(db, now, claim.counter, over))
    for claim in claims:
        _add(db, now, claim)
    return None


def _room_at(db: sqlite3.Connection, now: float, counter: str, over: int) -> float:
    """Return when so much no longer counts."""
    entries = db.execute(
        "SELECT amount, until FROM entries WHERE counter = ? AND until > ? ORDER BY until", (counter, now)
    )
    freed_at = now
    for amount, until in entries:
        over, freed_at = over - amount, until
        if over <= 0:
            break
    return freed_at


def _settle(db: sqlite3.Connection, now: float, leases: Sequence[Lease], adds: Sequence[Claim]) -> list[int]:
    for lease in leases:
        if lease.amount:
            db.execute(_PUT, (lease.counter, lease.slot, lease.amount, lease.until))
        else:
            db.execute("DELETE FROM entries WHERE counter = ? AND slot = ?", (lease.counter, lease.slot))
    return [_add(db, now, claim) for claim in adds]


def _add(db: sqlite3.Connection, now: float, claim: Claim) -> int:
    had, end = db.execute(_ENTRY, (claim.counter, claim.slot, now)).fetchone() or (0, claim.until)
    amount: int = max(0, had + claim.amount)
    if amount or had:
        db.execute(_PUT, (claim.counter, claim.slot, amount, max(end, claim.until)))
    return amount
