"""Interceptions as a file that is made while it is sent: page by page, no faster than the client takes it."""

import csv
import io
import re
import time

from aibridge import jsontext
from aibridge.adminapi.answers import NOT_STORED, STRICT
from aibridge.adminapi.asking import Store
from aibridge.adminapi.flow import Flow
from aibridge.adminapi.parameters import Arguments, filters
from aibridge.adminapi.problems import Problem
from aibridge.clientstream import ClientStream
from aibridge.headers import RETRY_SOON
from aibridge.stores import browsing
from aibridge.stores.base import Fields, Query
from aibridge.stores.browsing import WHOLE_AT_ONCE, Filters, Place
from aibridge.stores.recorded import ROW

MAX_EXPORTS = 4
_ROWS = {"jsonl": WHOLE_AT_ONCE, "csv": 500}
"""Of one page."""
_TYPES = {"jsonl": b"application/jsonl", "csv": b"text/csv; charset=utf-8"}
_CELL = r"(?:^|(?<=[;\t\r\n]))"
_FORMULA = re.compile(rf"^(?=[\t\r\n])|{_CELL}(?=\s*[=+\-@\uff1d\uff0b\uff0d\uff20])")
"""Where a cell begins that a spreadsheet would run, in full width too (OWASP): clients choose some of them. Where lists
are written with semicolons, as in much of Europe, cells end with these and with lines, and one text is several."""


class Exports:
    """Sends files.

    Args:
        store: what they are made of.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._under_way = 0

    async def answer(self, client: ClientStream, said: Arguments) -> None:
        """Send one file. Raises `Problem` where it cannot begin; one that breaks off later is cut."""
        if self._under_way >= MAX_EXPORTS:
            raise Problem(503, "busy", f"{MAX_EXPORTS} exports are under way already", headers=RETRY_SOON)
        self._under_way += 1
        try:
            await self._send(client, said.get("format", "jsonl"), filters({"until": time.time(), **said}))
        finally:
            self._under_way -= 1

    async def _send(self, client: ClientStream, kind: str, asked: Filters) -> None:
        flow, pages = Flow(client), _Pages(kind, asked)
        while pages.more:
            text = await self._store.ask(pages.next, lambda: client.lost)
            if not client.started:
                client.start(200, (*_headers(kind), *NOT_STORED, *STRICT))
            if text:
                client.write(text)
            if not await flow.ready():
                client.abort()
                return
        client.end()


def _headers(kind: str) -> tuple[tuple[bytes, bytes], ...]:
    name = f'attachment; filename="aibridge-interceptions.{kind}"'
    return (b"content-type", _TYPES[kind]), (b"content-disposition", name.encode())


class _Pages:
    """Pieces of a file, one after the other.

    Args:
        kind: of the file.
        asked: which interceptions.
    """

    def __init__(self, kind: str, asked: Filters) -> None:
        self.more = True
        self._kind = kind
        self._asked = asked
        self._end: Place | None = None

    def next(self, query: Query) -> bytes:
        """Return the next piece, which may be empty. Called on a thread."""
        in_full, after = self._kind == "jsonl", self._end
        rows, self._end = browsing.exported(query, self._asked, after, _ROWS[self._kind], in_full=in_full)
        self.more = self._end is not None
        return b"".join(jsontext.dumps(row) + b"\n" for row in rows) if in_full else _csv(rows, header=after is None)


def _csv(rows: list[Fields], *, header: bool) -> bytes:
    file = io.StringIO(newline="")
    writer = csv.writer(file)  # as RFC 4180 has it
    if header:
        writer.writerow(ROW)
    writer.writerows([[_cell(row[name]) for name in ROW] for row in rows])
    return file.getvalue().encode("utf-8", "replace")


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return "true" if value else "false"
    return _FORMULA.sub("'", value) if isinstance(value, str) else value
