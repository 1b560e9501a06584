"""Gateway keys in a SQLite file of their own: hashes, and what each key opens. A door to sqlite3.

A key has an id that stays, and one secret or, while a rotation overlaps, more. No row is ever deleted, and each change
gives its key a higher generation: who has read the file once asks for what is above.

The file has a plain journal: its readers need write no file beside it. What is written is on the disk when a command
says that it was done.
"""

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from aibridge.stores.base import StoreRefused, StoreUnavailable

SCHEMA_VERSION = 2
_APPLICATION_ID = 0x61696B31
"""Says what file this is, so that the file of the records is not taken for it ("aik1")."""

_WRITER_WAITS_S = 5.0
_READER_WAITS_S = 0.3

_SCHEMA = """
CREATE TABLE keys (
    id TEXT PRIMARY KEY, owner TEXT NOT NULL, teams TEXT NOT NULL, providers TEXT, routes TEXT, models TEXT,
    prompts TEXT, arguments TEXT, thoughts TEXT, created_at REAL NOT NULL, expires_at REAL, revoked_at REAL,
    generation INTEGER NOT NULL, requests_per_minute INTEGER, tokens_per_minute INTEGER, concurrent INTEGER,
    nanodollars_per_day INTEGER, nanodollars_per_month INTEGER
);
CREATE INDEX keys_by_generation ON keys (generation);
CREATE TABLE secrets (
    digest BLOB PRIMARY KEY, key_id TEXT NOT NULL REFERENCES keys (id), prefix TEXT NOT NULL, created_at REAL NOT NULL,
    expires_at REAL
);
CREATE INDEX secrets_by_key ON secrets (key_id)
"""
_AMOUNTS = (
    "requests_per_minute", "tokens_per_minute", "concurrent", "nanodollars_per_day", "nanodollars_per_month",
)  # fmt: skip
"""How much a key may be used for. They came with version 2; a file of version 1 is read as it is, and changed by the
next command that writes."""
_MIGRATION = tuple(f"ALTER TABLE keys ADD COLUMN {name} INTEGER" for name in _AMOUNTS)
_SECRETS = (
    "SELECT keys.*, digest, prefix, secrets.expires_at AS replaced_at FROM keys CROSS JOIN secrets ON key_id = keys.id"
    " WHERE generation > ? ORDER BY keys.created_at, keys.id, secrets.created_at DESC"
)
"""CROSS JOIN says where to begin: at the generation, or each change would cost a walk through all secrets."""
_NEXT_GENERATION = "(SELECT coalesce(max(generation), 0) + 1 FROM keys)"


@dataclass(frozen=True, kw_only=True)
class KeyTerms:
    """What a key opens, for whom, and until when; None: all, and for ever. Contents are words of `Keep`."""

    owner: str
    teams: tuple[str, ...] = ()
    providers: tuple[str, ...] | None = None
    routes: tuple[str, ...] | None = None
    models: tuple[str, ...] | None = None
    prompts: str | None = None
    arguments: str | None = None
    thoughts: str | None = None
    expires_at: float | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent: int | None = None
    nanodollars_per_day: int | None = None
    nanodollars_per_month: int | None = None


@dataclass(frozen=True, kw_only=True)
class StoredSecret:
    """One secret of a key, with all of the key. `replaced_at` is when a rotation ends it."""

    key_id: str
    prefix: str
    digest: bytes = field(repr=False)
    terms: KeyTerms
    created_at: float
    revoked_at: float | None
    replaced_at: float | None
    generation: int = 0

    @property
    def expires_at(self) -> float | None:
        """When it ends by itself."""
        return min((end for end in (self.terms.expires_at, self.replaced_at) if end is not None), default=None)


class KeyStore:
    """The file, for who changes it; made where it is not there. Each method is one transaction.

    Args:
        path: the file.

    Raises:
        StoreUnavailable: the file cannot be used now.
        StoreRefused: it holds something else, or is of a newer version.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        with _translated(self._path):
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._path.touch(mode=0o600)
            with self._transaction() as db:
                if db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
                    for statement in _SCHEMA.split(";"):
                        db.execute(statement)
                    db.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
                if _checked_version(db, self._path) < SCHEMA_VERSION:
                    for statement in _MIGRATION:
                        db.execute(statement)
                    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def add(self, key_id: str, terms: KeyTerms, digest: bytes, prefix: str) -> None:
        """Keep a new key."""
        now = time.time()
        row = (
            key_id, terms.owner, json.dumps(terms.teams), _packed(terms.providers), _packed(terms.routes),
            _packed(terms.models), terms.prompts, terms.arguments, terms.thoughts, now, terms.expires_at,
            *[getattr(terms, name) for name in _AMOUNTS],
        )  # fmt: skip
        with _translated(self._path), self._transaction() as db:
            db.execute(
                f"INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, {_NEXT_GENERATION}, ?, ?, ?, ?, ?)",  # noqa: S608 - ours
                row,
            )
            db.execute("INSERT INTO secrets VALUES (?, ?, ?, ?, NULL)", (digest, key_id, prefix, now))

    def revoke(self, key_id: str) -> bool:
        """End a key with all its secrets. Returns whether there was one to end."""
        with _translated(self._path), self._transaction() as db:
            return _changed(db, key_id, "revoked_at = ?", time.time())

    def rotate(
        self, key_id: str, digest: bytes, prefix: str, *, replaced_at: float, expires_at: float | None = None
    ) -> bool:
        """Give a key another secret, and another end where one is given.

        The secrets that it has are good until `replaced_at`. Returns whether there is such a key, not revoked.
        """
        with _translated(self._path), self._transaction() as db:
            if not _changed(db, key_id, "expires_at = coalesce(?, expires_at)", expires_at):
                return False
            db.execute(
                "UPDATE secrets SET expires_at = ?1 WHERE key_id = ?2 AND (expires_at IS NULL OR expires_at > ?1)",
                (replaced_at, key_id),
            )
            db.execute("INSERT INTO secrets VALUES (?, ?, ?, ?, NULL)", (digest, key_id, prefix, time.time()))
            return True

    def secrets(self) -> list[StoredSecret]:
        """Return all that there is, oldest key first, newest secret of a key first."""
        with _translated(self._path), closing(_connected(self._path, _WRITER_WAITS_S)) as db:
            return [_secret(row) for row in db.execute(_SECRETS, (0,))]

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with closing(_connected(self._path, _WRITER_WAITS_S)) as db:
            db.execute("PRAGMA synchronous = FULL")
            db.execute("BEGIN IMMEDIATE")
            yield db
            db.execute("COMMIT")


class KeyReader:
    """The file, for who only reads it, again and again: on one thread at a time.

    Args:
        path: the file, which may be replaced or away for a while.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._db: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._seen = (0, 0)

    def changes(self) -> tuple[list[StoredSecret], bool] | None:
        """Return the secrets of keys that have changed, and whether that is all there is; None where nothing has.

        Raises:
            StoreUnavailable: the file cannot be read now.
            StoreRefused: it holds something else, or is of a newer version.
        """
        try:
            with _translated(self._path):
                found = self._path.stat()
                whole = self._db is None or self._file != (found.st_dev, found.st_ino)
                if whole:
                    self._open()
                    self._file = (found.st_dev, found.st_ino)
                return self._read(whole=whole)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file. Never raises."""
        if self._db is not None:
            with suppress(sqlite3.Error):
                self._db.close()
            self._db = None

    def _open(self) -> None:
        self.close()
        self._db = _connected(self._path, _READER_WAITS_S)
        _checked_version(self._db, self._path)
        self._db.execute("PRAGMA query_only = ON")
        self._seen = (0, 0)

    def _read(self, *, whole: bool) -> tuple[list[StoredSecret], bool] | None:
        if self._db is None:
            return None
        version, generation = self._seen
        # Asked before the rows are: what is written in between is seen the next time.
        now: int = self._db.execute("PRAGMA data_version").fetchone()[0]
        if now == version:
            return None
        secrets = [_secret(row) for row in self._db.execute(_SECRETS, (generation,))]
        self._seen = (now, max((secret.generation for secret in secrets), default=generation))
        return secrets, whole


def _connected(path: Path, patience: float) -> sqlite3.Connection:
    # mode=rw, also to read: where a command was killed while it wrote, whoever comes next has to roll that back.
    uri = f"{path.resolve().as_uri()}?mode=rw"
    db = sqlite3.connect(uri, uri=True, timeout=patience, isolation_level=None, check_same_thread=False)
    db.row_factory = sqlite3.Row
    return db


def _checked_version(db: sqlite3.Connection, path: Path) -> int:
    """Return the version of a file of ours that this program can read."""
    if db.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION_ID:
        raise StoreRefused(f"{path}: is no file of gateway keys")
    version: int = db.execute("PRAGMA user_version").fetchone()[0]
    if not 1 <= version <= SCHEMA_VERSION:
        raise StoreRefused(f"{path}: is of version {version}; this program knows version {SCHEMA_VERSION}")
    return version


def _changed(db: sqlite3.Connection, key_id: str, change: str, value: float | None) -> bool:
    statement = f"UPDATE keys SET {change}, generation = {_NEXT_GENERATION} WHERE id = ? AND revoked_at IS NULL"  # noqa: S608 - ours
    return db.execute(statement, (value, key_id)).rowcount > 0


def _packed(names: tuple[str, ...] | None) -> str | None:
    return None if names is None else json.dumps(names)


def _unpacked(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(json.loads(text))


def _secret(row: sqlite3.Row) -> StoredSecret:
    terms = KeyTerms(
        owner=row["owner"],
        teams=tuple(json.loads(row["teams"])),
        providers=_unpacked(row["providers"]),
        routes=_unpacked(row["routes"]),
        models=_unpacked(row["models"]),
        prompts=row["prompts"],
        arguments=row["arguments"],
        thoughts=row["thoughts"],
        expires_at=row["expires_at"],
        **{name: row[name] for name in _AMOUNTS if name in row.keys()},  # noqa: SIM118 - of a row, not of its values
    )
    return StoredSecret(
        key_id=row["id"],
        prefix=row["prefix"],
        digest=row["digest"],
        terms=terms,
        created_at=row["created_at"],
        revoked_at=row["revoked_at"],
        replaced_at=row["replaced_at"],
        generation=row["generation"],
    )


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Turn foreign errors into ours: what may pass from what will not."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise StoreUnavailable(f"{path}: {error}") from error
    except OSError as error:
        raise StoreUnavailable(f"{path}: {error.strerror}") from error
    except (sqlite3.Error, ValueError, TypeError) as error:
        raise StoreRefused(f"{path}: {error}") from error
