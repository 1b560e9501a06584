"""Records in one SQLite file. The door to sqlite3.

Write-ahead logging, so that readers never wait and never make us wait; one transaction a batch, and no fsync for
each: what the last second wrote may be lost with the machine's power, never with the process, and never half of it.
How far a journal is read is written in the same transaction, so that after such a loss it is read again.
"""

import sqlite3
import stat
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from aibridge.stores.base import (
    CLOSED_COLUMNS,
    CORRELATING,
    ENDS,
    EVIDENCE_COLUMNS,
    INTERCEPTIONS,
    JOURNALS,
    LINEAGE,
    MODEL_THOUGHTS,
    OF_INTERCEPTIONS,
    OPENED_COLUMNS,
    PROGRESS,
    SCHEMA_VERSION,
    TABLES,
    TOKEN_USAGES,
    TOOL_USAGES,
    USER_PROMPTS,
    WHOLE,
    LeftOpen,
    Query,
    Rows,
    StoreRefused,
    StoreUnavailable,
    create_statements,
)
from aibridge.stores.entries import left_open
from aibridge.stores.inserting import Insert
from aibridge.stores.migrations import MIGRATIONS
from aibridge.stores.writeahead import write_ahead

Connection = sqlite3.Connection
"""A store as `reading` gives it."""

_BUSY_TIMEOUT_MS = 1000
"""How long SQLite itself waits for another writer, before the recorder's own patience begins."""

PRUNED_AT_ONCE = 200
"""Interceptions deleted in one transaction: some 10 ms of work."""

_STEPS_BETWEEN_LOOKS = 20_000
"""Of SQLite's machine, before a query asks whether it is to go on: about a millisecond."""

_CHECKPOINT_PAGES = 4000
"""Of the write-ahead log, 16 MB, before SQLite copies them into the file: most pages change many times until then."""

# The first end that was told stays.
_END = f"(id) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in CLOSED_COLUMNS)} WHERE ended_at IS NULL"

_INSERTS = {
    **{table.name: Insert(table.name, [column.name for column in table.columns]) for table in TABLES},
    INTERCEPTIONS.name: Insert(INTERCEPTIONS.name, OPENED_COLUMNS),
    WHOLE: Insert(INTERCEPTIONS.name, OPENED_COLUMNS + CLOSED_COLUMNS, _END),
    ENDS: Insert(INTERCEPTIONS.name, ("id", *CLOSED_COLUMNS), _END),
    JOURNALS.name: Insert(JOURNALS.name, ("name", "position"), "(name) DO UPDATE SET position = excluded.position"),
}
"""By the names of `Rows`, in the order in which they are run: a table's beginnings before its ends."""

_PROGRESS = (
    f"UPDATE interceptions SET {', '.join(f'{name} = ?{at}' for at, name in enumerate(EVIDENCE_COLUMNS, 2))}"  # noqa: S608 - our own names
    " WHERE id = ?1 AND ended_at IS NULL"
)

# What was noted was noted whole: of the columns this is never NULL.
_SEEN = "CASE WHEN opened.terminal_event_seen IS NULL THEN attempts.{0} ELSE opened.{0} END AS {0}"
_LEFT_OPEN = (
    f"SELECT {', '.join(f'opened.{name}' for name in OPENED_COLUMNS)},"  # noqa: S608 - our own names
    f" {', '.join(map(_SEEN.format, EVIDENCE_COLUMNS))}"
    " FROM (SELECT * FROM interceptions WHERE ended_at IS NULL AND journal IS ?) AS opened"
    " LEFT JOIN attempts ON attempts.interception_id = opened.id"
    " AND attempts.number = (SELECT max(number) FROM attempts WHERE interception_id = opened.id)"
)


class SQLiteStore:
    """A `Store` in a file, made with its folder where it is not there.

    Args:
        path: the file.

    Raises:
        StoreUnavailable: the file cannot be opened now.
        StoreRefused: it is no database, or one of a newer version.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file: tuple[int, int] | None = None
        with _translated(self.path):
            self._open()

    def _open(self) -> None:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # isolation_level None: we say where a transaction begins. The recorder's thread is not the one that
        # opens, and is the only one that writes.
        self._db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        try:
            self._db.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
            self._migrate()
            write_ahead(self._db, _BUSY_TIMEOUT_MS / 1000)
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
            self._file = _file_at(self.path)
        except BaseException:
            self._db.close()
            raise

    @contextmanager
    def _at_its_path(self) -> Iterator[None]:
        """Open the file anew where somebody removed or replaced it: what is written to the old one is kept by nobody.

        No connection works on the old one beside one on the new one: they would share the files beside it.
        """
        with _translated(self.path):
            if self._file is None or _file_at(self.path) != self._file:
                self._file = None
                self._db.close()
                self._open()
            yield

    def write(self, rows: Rows, journal: str, position: int, *, durable: bool = False) -> None:
        """Keep all of the rows or none, and how far the journal is read; a row already kept changes nothing."""
        with self._at_its_path():
            if durable:  # this transaction's sync takes with it what was written before
                self._db.execute("PRAGMA synchronous = FULL")
            try:
                with self._transaction():
                    for name, insert in _INSERTS.items():
                        insert.run(self._db, rows.get(name, ()))
                    self._db.executemany(_PROGRESS, rows.get(PROGRESS, ()))
                    self._find_threads(rows)
                    _INSERTS[JOURNALS.name].run(self._db, [[journal, position]])
            finally:
                if durable:
                    self._db.execute("PRAGMA synchronous = NORMAL")

    def _find_threads(self, rows: Rows) -> None:
        """Give each interception that answers a tool call its place; again at its end, should it have had none."""
        begun = [row[0] for name in (INTERCEPTIONS.name, WHOLE) for row in rows.get(name, ()) if row[CORRELATING]]
        for interception_id in sorted([*begun, *(row[0] for row in rows.get(ENDS, ()))]):
            self._db.execute(LINEAGE, (interception_id,))

    def position(self, journal: str) -> int:
        """Return how far a journal is read; 0 where nothing is."""
        with self._at_its_path():
            row = self._db.execute("SELECT position FROM journals WHERE name = ?", (journal,)).fetchone()
        return row[0] if row else 0

    def forget_all_but(self, journals: Collection[str]) -> None:
        """Forget the positions of all other journals."""
        with self._at_its_path():
            known = [name for (name,) in self._db.execute("SELECT name FROM journals")]
            gone = [(name,) for name in known if name not in journals]
            if gone:
                with self._transaction():
                    self._db.executemany("DELETE FROM journals WHERE name = ?", gone)

    def journals_left_open(self) -> list[str]:
        """Return the journals that interceptions without an end come from."""
        with self._at_its_path():
            found = self._db.execute("SELECT DISTINCT journal FROM interceptions WHERE ended_at IS NULL")
            return [name or "" for (name,) in found]

    def left_open(self, journal: str) -> list[LeftOpen]:
        """Return the interceptions of a journal that have no end."""
        with self._at_its_path():
            found = self._db.execute(_LEFT_OPEN, (journal or None,))
            names = [column[0] for column in found.description]
            return [left_open(dict(zip(names, row, strict=True))) for row in found]

    def close(self) -> None:
        """Close the file. Never raises."""
        with suppress(sqlite3.Error):
            self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):  # a full disk may have rolled back on its own
                self._db.execute("ROLLBACK")
            raise

    def _migrate(self) -> None:
        if self._version() == SCHEMA_VERSION:
            return
        with self._transaction():
            version = self._version()  # again, now alone: another process may have been quicker
            if version > SCHEMA_VERSION:
                text = f"{self.path}: is of version {version}; this program knows up to {SCHEMA_VERSION}"
                raise StoreRefused(text)
            for statement in _statements(version):
                self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _version(self) -> int:
        version: int = self._db.execute("PRAGMA user_version").fetchone()[0]
        return version


def _file_at(path: Path) -> tuple[int, int] | None:
    """Return what tells a file from all others; None where there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _statements(version: int) -> list[str]:
    """Return what brings a file of a version to ours; version 0 is a new file."""
    if version == 0:
        return [statement for table in TABLES for statement in create_statements(table)]
    return [statement for step in range(version, SCHEMA_VERSION) for statement in MIGRATIONS[step]]


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Turn foreign errors into ours: what may pass from what will not."""
    try:
        yield
    except sqlite3.OperationalError as error:  # locked, disk full, read-only, I/O error
        raise StoreUnavailable(f"{path}: {error}") from error
    except OSError as error:
        raise StoreUnavailable(f"{path}: {error.strerror}") from error
    except (sqlite3.Error, OverflowError, ValueError) as error:
        raise StoreRefused(f"{path}: {error}") from error


@contextmanager
def reading(path: str | Path) -> Iterator[sqlite3.Connection]:
    """Open a store for reading only, as it is at one moment; rows know their columns' names.

    Raises `StoreUnavailable` or `StoreRefused`.
    """
    with _translated(Path(path)):
        _refuse_other_than_files(Path(path))
        db = sqlite3.connect(f"{Path(path).resolve().as_uri()}?mode=ro", uri=True)
    with _translated(Path(path)), closing(db):
        db.row_factory = sqlite3.Row
        db.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
        _refuse_other_versions(db, path)
        db.execute("BEGIN")
        yield db


def _refuse_other_than_files(path: Path) -> None:
    """Raise where opening might wait without end, as that of a FIFO does for somebody who writes."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise StoreRefused(f"{path}: is no regular file")


def _refuse_other_versions(db: sqlite3.Connection, path: str | Path) -> None:
    version: int = db.execute("PRAGMA user_version").fetchone()[0]
    if version == 0:
        raise StoreRefused(f"{path}: no gateway has kept records there")
    if version < SCHEMA_VERSION:
        text = f"is of version {version}; `aibridge serve` of this program brings it to version {SCHEMA_VERSION}"
        raise StoreRefused(f"{path}: {text}")
    if version > SCHEMA_VERSION:
        raise StoreRefused(f"{path}: is of version {version}; this program knows up to {SCHEMA_VERSION}")


@contextmanager
def changing(path: str | Path) -> Iterator[sqlite3.Connection]:
    """Open a store to change what is kept there, beside a gateway that writes: in short transactions of one's own.

    Raises `StoreUnavailable` or `StoreRefused`.
    """
    with _translated(Path(path)), closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
        _refuse_other_versions(db, path)  # a newer one may keep more than is changed here
        yield db


@contextmanager
def querying(path: str | Path, stop: Callable[[], bool] | None = None) -> Iterator[Query]:
    """Open a store for reading only, as `reading` does, and give a function that runs a query: rows by column.

    Args:
        path: the file.
        stop: asked now and then while a query runs; where it says yes the query ends as `StoreUnavailable`.
    """
    with reading(path) as db:
        if stop is not None:
            db.set_progress_handler(stop, _STEPS_BETWEEN_LOOKS)
        yield lambda text, values: [dict(row) for row in db.execute(text, values)]


def prune(path: str | Path, before: float, most: int = PRUNED_AT_ONCE) -> int:
    """Delete interceptions that began before a time, with all that belongs to them. Returns how many were deleted.

    One that has no end yet stays: its end, when it is told, finds its beginning here.
    Content of interceptions that are not there themselves (their records were lost) is deleted by its own age, and
    counted like one. What was deleted is overwritten in the file; the log beside it is overwritten as it is used again.

    Args:
        path: the file. A gateway may write to it meanwhile.
        before: UTC seconds.
        most: deleted by one call, in one transaction: a writer waits no longer than that takes.
    """
    with changing(path) as db:
        db.execute("PRAGMA secure_delete = ON")
        old = "SELECT id FROM interceptions WHERE started_at < ? AND ended_at IS NOT NULL ORDER BY started_at LIMIT ?"
        ids = [row[0] for row in db.execute(old, (before, most))]
        ids += [row[0] for row in db.execute(_WITHOUT_BEGINNING, (before, most - len(ids)))]
        for name, time in _ORPHANS:  # looked for outside of the transaction: it takes a walk through the table
            if len(ids) < most:
                ids += [
                    row[0] for row in db.execute(_ORPHANS_OF.format(table=name, time=time), (before, most - len(ids)))
                ]
        if ids:
            marks = ", ".join("?" for _ in ids)
            db.execute("BEGIN IMMEDIATE")
            for table in OF_INTERCEPTIONS:
                db.execute(f"DELETE FROM {table.name} WHERE {table.key[0]} IN ({marks})", ids)  # noqa: S608
            db.execute("COMMIT")
        return len(set(ids))


_WITHOUT_BEGINNING = "SELECT id FROM interceptions WHERE started_at IS NULL AND ended_at < ? LIMIT ?"
"""Their beginning was lost with a part of a journal; they are as old as their end."""

_ORPHANS = (
    ("attempts", "started_at"),
    *((table.name, "created_at") for table in (TOKEN_USAGES, USER_PROMPTS, TOOL_USAGES, MODEL_THOUGHTS)),
)
_ORPHANS_OF = (
    "SELECT DISTINCT interception_id FROM {table} WHERE {time} < ?"
    " AND NOT EXISTS (SELECT 1 FROM interceptions WHERE id = interception_id) LIMIT ?"
)
