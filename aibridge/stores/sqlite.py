"""Records in one SQLite file. The door to sqlite3.

Write-ahead logging, so that readers never wait and never make us wait; one transaction a batch, and no fsync for
each: what the last second wrote may be lost with the machine's power, never with the process, and never half of it.
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Any

from aibridge.stores.base import (
    ATTEMPTS,
    CLOSED_COLUMNS,
    INTERCEPTIONS,
    LINEAGE,
    MIGRATIONS,
    MODEL_THOUGHTS,
    OPENED_COLUMNS,
    SCHEMA_VERSION,
    TABLES,
    TOKEN_USAGES,
    TOOL_USAGES,
    USER_PROMPTS,
    Record,
    Row,
    StoreRefused,
    StoreUnavailable,
    Table,
    create_statements,
    rows_of,
)

_BUSY_TIMEOUT_MS = 1000
"""How long SQLite itself waits for another writer, before the recorder's own patience begins."""

PRUNED_AT_ONCE = 200
"""Interceptions deleted in one transaction: some 10 ms of work."""

_ROWS_AT_ONCE = (256, 16, 1)
"""Rows of one statement. The library gives the interpreter's lock away around each statement, and the thread that
relays streams hands it back only when it must: few large statements spare both many switches."""


class _Insert:
    """Inserts rows into one table, many with one statement."""

    def __init__(self, table: str, columns: Sequence[str], conflict: str = "DO NOTHING") -> None:
        row = f"({', '.join('?' for _ in columns)})"
        into = f"INSERT INTO {table} ({', '.join(columns)}) VALUES "  # noqa: S608 - our own names
        self._statements = [
            (count, f"{into}{', '.join([row] * count)} ON CONFLICT {conflict}") for count in _ROWS_AT_ONCE
        ]

    def run(self, db: sqlite3.Connection, rows: Sequence[Row]) -> None:
        """Insert all rows, within the caller's transaction."""
        done = 0
        for count, statement in self._statements:
            while len(rows) - done >= count:
                db.execute(statement, list(chain.from_iterable(rows[done : done + count])))
                done += count


def _insert_all(table: Table) -> _Insert:
    return _Insert(table.name, [column.name for column in table.columns])


_OPEN = _Insert(INTERCEPTIONS.name, OPENED_COLUMNS)
# The first end that was told stays.
_CLOSE = _Insert(
    INTERCEPTIONS.name,
    OPENED_COLUMNS + CLOSED_COLUMNS,
    f"(id) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in CLOSED_COLUMNS)} WHERE ended_at IS NULL",
)
_ATTEMPT = _insert_all(ATTEMPTS)
_USAGE = _insert_all(TOKEN_USAGES)
_PROMPT = _insert_all(USER_PROMPTS)
_TOOL = _insert_all(TOOL_USAGES)
_THOUGHT = _insert_all(MODEL_THOUGHTS)


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
        with _translated(self.path):
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # isolation_level None: we say where a transaction begins. The recorder's thread is not the one that
            # opens, and is the only one that writes.
            self._db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        try:
            with _translated(self.path):
                self._db.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
                self._migrate()
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.execute("PRAGMA synchronous = NORMAL")
        except BaseException:
            self._db.close()
            raise

    def write(self, records: Sequence[Record]) -> None:
        """Keep all of the records or none; one already kept changes nothing."""
        rows = rows_of(records)
        with _translated(self.path), self._transaction():
            _OPEN.run(self._db, rows.opened)
            _CLOSE.run(self._db, rows.closed)
            _ATTEMPT.run(self._db, rows.attempts)
            _USAGE.run(self._db, rows.token_usages)
            _PROMPT.run(self._db, rows.user_prompts)
            _TOOL.run(self._db, rows.tool_usages)
            _THOUGHT.run(self._db, rows.model_thoughts)
            for interception_id in rows.answering:
                self._db.execute(LINEAGE, (interception_id,))

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
def querying(path: str | Path) -> Iterator[Callable[[str, Sequence[Any]], list[dict[str, Any]]]]:
    """Open a file for reading only, and give a function that runs a query: it returns rows by column."""
    with _translated(Path(path)), closing(sqlite3.connect(f"{Path(path).resolve().as_uri()}?mode=ro", uri=True)) as db:
        db.row_factory = sqlite3.Row
        db.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
        version: int = db.execute("PRAGMA user_version").fetchone()[0]
        if version != SCHEMA_VERSION:
            text = f"{path}: is of version {version}; this program reads version {SCHEMA_VERSION}"
            raise StoreRefused(text)
        yield lambda text, values: [dict(row) for row in db.execute(text, values)]


def read_interception(path: str | Path, interception_id: str) -> dict[str, Any]:
    """Return the record of one interception with its token counts, by column; empty where there is none.

    Args:
        path: the file; it is opened for reading only.
        interception_id: its id.
    """
    with querying(path) as query:
        text = (
            "SELECT interceptions.*, input_tokens, output_tokens, cache_read_input_tokens, cache_creation_input_tokens"
            " FROM interceptions LEFT JOIN token_usages ON token_usages.interception_id = interceptions.id"
            " WHERE interceptions.id = ?"
        )
        return next(iter(query(text, (interception_id,))), {})


def prune(path: str | Path, before: float, most: int = PRUNED_AT_ONCE) -> int:
    """Delete interceptions that began before a time, with all that belongs to them. Returns how many were deleted.

    Content of interceptions that are not there themselves (their records were lost) is deleted by its own age, and
    counted like one. What was deleted is overwritten in the file; the log beside it is overwritten as it is used again.

    Args:
        path: the file. A gateway may write to it meanwhile.
        before: UTC seconds.
        most: deleted by one call, in one transaction: a writer waits no longer than that takes.
    """
    with _translated(Path(path)), closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
        db.execute("PRAGMA secure_delete = ON")
        old = "SELECT id FROM interceptions WHERE started_at < ? ORDER BY started_at LIMIT ?"
        ids = [row[0] for row in db.execute(old, (before, most))]
        for name, time in _ORPHANS:  # looked for outside of the transaction: it takes a walk through the table
            if len(ids) < most:
                ids += [
                    row[0] for row in db.execute(_ORPHANS_OF.format(table=name, time=time), (before, most - len(ids)))
                ]
        if ids:
            marks = ", ".join("?" for _ in ids)
            db.execute("BEGIN IMMEDIATE")
            for table in TABLES:
                db.execute(f"DELETE FROM {table.name} WHERE {table.key[0]} IN ({marks})", ids)  # noqa: S608
            db.execute("COMMIT")
        return len(set(ids))


_ORPHANS = (
    ("attempts", "started_at"),
    *((table.name, "created_at") for table in (TOKEN_USAGES, USER_PROMPTS, TOOL_USAGES, MODEL_THOUGHTS)),
)
_ORPHANS_OF = (
    "SELECT DISTINCT interception_id FROM {table} WHERE {time} < ?"
    " AND NOT EXISTS (SELECT 1 FROM interceptions WHERE id = interception_id) LIMIT ?"
)
