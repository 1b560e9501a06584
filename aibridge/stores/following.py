"""Follows the records: which interceptions ended last, and which have ended since the last look. Read only."""

from collections.abc import Mapping
from typing import Any

from aibridge.stores.base import Fields, Query
from aibridge.stores.recorded import FILTERED, SELECT_ROWS, told

FILTERS = {**FILTERED, "session": "session_id"}
"""What can be asked for, and its column."""

_MARKS_AT_ONCE = 500
"""Parameters of one query; SQLite takes 999 everywhere."""


def latest(query: Query, wanted: Mapping[str, str], limit: int) -> list[Fields]:
    """Return the interceptions that began last of those that have ended, in the order of their ends.

    Args:
        query: asks the store.
        wanted: what they are to have, by names of `FILTERS`.
        limit: how many at most.
    """
    conditions = "".join(f" AND {FILTERS[name]} = ?" for name in wanted)
    text = f"{SELECT_ROWS} WHERE ended_at IS NOT NULL{conditions} ORDER BY started_at DESC LIMIT ?"
    return _by_end(query(text, (*wanted.values(), limit)))


class Follower:
    """Finds what has ended since the last look.

    An end is written into the row of its beginning, or comes with it as a new row. So what is looked at is what was
    open the last time, of which there is an index, and the rows that are new: no look walks through the table.

    Args:
        query: asks the store; what has ended by now is not told.
        wanted: as `latest` has it.
    """

    def __init__(self, query: Query, wanted: Mapping[str, str]) -> None:
        self._wanted = {FILTERS[name]: value for name, value in wanted.items()}
        self._last = _newest(query)
        self._open = _open_in(query)

    def look(self, query: Query) -> list[Fields]:
        """Return the interceptions that have ended since, in the order of their ends."""
        newest, is_open = _newest(query), _open_in(query)
        if newest < self._last:  # another file in the old one's place
            self._last = 0
        new = f"{SELECT_ROWS} WHERE interceptions.rowid > ? AND ended_at IS NOT NULL"
        found = {row["id"]: row for row in query(new, (self._last,))}
        ended = sorted(self._open - is_open)
        for at in range(0, len(ended), _MARKS_AT_ONCE):
            ids = ended[at : at + _MARKS_AT_ONCE]
            marks = ", ".join("?" for _ in ids)
            found |= {row["id"]: row for row in query(f"{SELECT_ROWS} WHERE id IN ({marks})", ids)}
        self._last, self._open = newest, is_open
        return _by_end(row for row in found.values() if self._is_wanted(row))

    def _is_wanted(self, row: Mapping[str, Any]) -> bool:
        return all(row[column] == value for column, value in self._wanted.items())


def _newest(query: Query) -> int:
    return int(query("SELECT coalesce(max(rowid), 0) AS last FROM interceptions", ())[0]["last"])


def _open_in(query: Query) -> set[str]:
    return {row["id"] for row in query("SELECT id FROM interceptions WHERE ended_at IS NULL", ())}


def _by_end(rows: Any) -> list[Fields]:
    return sorted(map(told, rows), key=lambda row: (row["ended_at"], row["id"]))
