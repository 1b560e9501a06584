"""A file gets its write-ahead log also where others have it open."""

import sqlite3
import time
from contextlib import closing

import pytest

from aibridge.stores.writeahead import write_ahead


class Connection(sqlite3.Connection):
    """Calls `before_second` before it says something for the second time."""

    said = 0

    def execute(self, *arguments):
        self.said += 1
        if self.said == 2:
            self.before_second()
        return super().execute(*arguments)


@pytest.fixture
def reader(tmp_path):
    """Another connection that has begun to read the file, which has a rollback journal."""
    with closing(sqlite3.connect(tmp_path / "file.db", isolation_level=None)) as db:
        db.execute("CREATE TABLE t (x)")
        db.execute("BEGIN")
        db.execute("SELECT * FROM t").fetchall()
        yield db


def mode(db):
    return db.execute("PRAGMA journal_mode").fetchone()[0]


def test_it_waits_for_who_reads(tmp_path, reader):
    with closing(sqlite3.connect(tmp_path / "file.db", factory=Connection, isolation_level=None)) as db:
        db.before_second = lambda: reader.execute("COMMIT")
        write_ahead(db, 30)
        assert db.said == 2
        assert mode(db) == "wal"


def test_it_does_not_wait_for_ever(tmp_path, reader):
    with closing(sqlite3.connect(tmp_path / "file.db", isolation_level=None)) as db:
        began = time.monotonic()
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            write_ahead(db, 0.05)
        assert time.monotonic() - began >= 0.05
        reader.execute("COMMIT")
        assert mode(db) == "delete"


def test_another_fault_is_not_waited_for(tmp_path):
    path = tmp_path / "file.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE t (x)")
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, factory=Connection)) as db:
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            write_ahead(db, 30)
        assert db.said == 1
