"""Many rows at once into SQLite, by as few values as it takes."""

import sqlite3
from collections.abc import Sequence
from itertools import chain

from aibridge.stores.base import Row

_ROWS_AT_ONCE = (64, 8, 1)
"""Rows of one statement. The library gives the interpreter's lock away around each statement, and the thread that
relays streams hands it back only when it must: few large statements spare both many switches."""

# The library asks a value of any other than the plainest types what it is bound as, and makes exceptions of those that
# do not know: for NULL and bool alone a quarter of all that writing records cost. So it is told.
sqlite3.register_adapter(type(None), {}.get)  # type: ignore[arg-type]  # gives None, quicker than a function of Python's
sqlite3.register_adapter(bool, int)


class Insert:
    """Inserts rows into one table, many with one statement.

    A statement names only columns in which some row has had a value: half of them tell of what most gateways do not
    use, and a NULL costs what a short text does.

    Args:
        table: its name.
        columns: of the rows, in their order; the first is never left out.
        conflict: what is done where there is such a row already.
    """

    def __init__(self, table: str, columns: Sequence[str], conflict: str = "DO NOTHING") -> None:
        self._table = table
        self._columns = columns
        self._conflict = conflict
        self._named = self._naming([0])

    def run(self, db: sqlite3.Connection, rows: Sequence[Row]) -> None:
        """Insert all rows, within the caller's transaction."""
        if not rows:
            return
        columns = list(zip(*rows, strict=True))
        if len(columns) != len(self._columns):
            raise ValueError("rows are not as wide as their table")
        places, statements = self._named
        new = [at for at, said in enumerate(columns) if at not in places and said.count(None) < len(said)]
        if new:
            self._named = places, statements = self._naming(sorted([*places, *new]))
        values = list(chain.from_iterable(zip(*[columns[at] for at in places], strict=True)))
        done = 0
        for count, statement in statements:
            size = count * len(places)
            while len(values) - done >= size:
                db.execute(statement, values[done : done + size])
                done += size

    def _naming(self, places: list[int]) -> tuple[list[int], list[tuple[int, str]]]:
        """Return the places of columns, and statements that name these: each with the number of its rows."""
        into = f"INSERT INTO {self._table} ({', '.join(self._columns[at] for at in places)}) VALUES "  # noqa: S608 - our own names
        row = f"({', '.join('?' for _ in places)})"
        return places, [
            (count, f"{into}{', '.join([row] * count)} ON CONFLICT {self._conflict}") for count in _ROWS_AT_ONCE
        ]
