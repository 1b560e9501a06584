"""What SQLite does not wait for by itself."""

import sqlite3
import time

_LOOK_AGAIN_S = 0.005


def write_ahead(db: sqlite3.Connection, patience: float) -> None:
    """Give the file a write-ahead log, also where others open it in the same moment.

    The change is made under a read lock that becomes a write lock. SQLite calls no busy handler there, since two that
    did this would wait for each other: it says SQLITE_BUSY at once, whatever `busy_timeout` is.

    Args:
        db: a connection outside of a transaction.
        patience: seconds to wait for others.

    Raises:
        sqlite3.OperationalError: others did not let go, or the file cannot be written.
    """
    give_up_at = time.monotonic() + patience
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() >= give_up_at:
                raise
            time.sleep(_LOOK_AGAIN_S)
        else:
            return
