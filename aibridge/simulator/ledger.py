"""The ledger: one frozen row for each request, of what the simulator did. It knows no sockets and no faults.

Bounded: when it is full the oldest row goes, and `dropped` counts it. A sink (a JSON Lines file) gets every row.
"""

import asyncio
import json
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from aibridge.simulator.values import Api, Ending

_SECRET_HEADERS = frozenset(
    {"authorization", "x-api-key", "api-key", "x-amz-security-token", "cookie", "proxy-authorization"}
)
_SHOWN_CHARACTERS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What was done to one request.

    Sizes are in bytes, hashes SHA-256 in hex. `body_*` is the HTTP body that was handed to the socket, without HTTP
    framing. Times: `at` is UTC in seconds since the epoch, the others are on the event loop's monotonic clock.
    """

    request_id: str
    """As in the answer's `request-id` or `x-amzn-requestid`."""
    connection: int
    """Counts connections from 1."""
    exchange: int
    """Counts the requests of this connection from 1."""
    api: Api
    method: str
    path: str
    model: str
    """As asked for, its fault words behind a plus."""
    streaming: bool
    fault: str
    """The words played; `refused` where the request was answered with an error that it had earned."""
    status: int
    """0: no whole head was sent."""
    body_bytes: int
    body_sha256: str
    events: int
    """Whole events or frames sent, also broken ones."""
    terminal_sent: bool
    """The last word (terminal event, or the end of a non-streaming 200) was sent whole, with nothing broken before."""
    request_bytes: int
    request_sha256: str
    headers: tuple[tuple[str, str], ...]
    """As received, secrets masked."""
    ending: Ending
    at: float
    received_at: float
    """The request was complete."""
    first_byte_at: float | None
    """The first byte was handed to the socket."""
    ended_at: float
    """The last byte was handed to the socket, or the peer's end was seen."""
    usage: Mapping[str, Any] | None = None
    """The token counts of the whole answer as its API tells them, also where it broke off; None where it tells none."""

    def to_json(self) -> str:
        """Return the row as one line of JSON."""
        return json.dumps(asdict(self), ensure_ascii=False, separators=(",", ":"))


class Ledger:
    """The rows, oldest first, and who waits for them. Belongs to one event loop."""

    def __init__(self, bound: int = 20_000, sink: IO[str] | None = None) -> None:
        self._rows: deque[Row] = deque(maxlen=bound)
        self._sink = sink
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._arrival_waiting: list[tuple[int, asyncio.Future[None]]] = []
        self.total = 0
        """Rows ever written."""
        self.arrived = 0
        """Requests ever received whole; those without a row yet are in flight."""

    @property
    def rows(self) -> tuple[Row, ...]:
        """The rows kept, oldest first."""
        return tuple(self._rows)

    @property
    def dropped(self) -> int:
        """Rows that the bound pushed out."""
        return self.total - len(self._rows)

    def add(self, row: Row) -> None:
        """Write a row and wake who waits for it."""
        self._rows.append(row)
        self.total += 1
        if self._sink is not None:
            self._sink.write(row.to_json() + "\n")
            self._sink.flush()
        self._waiting = _wake(self._waiting, self.total)

    def arrive(self) -> None:
        """Note that a request came in."""
        self.arrived += 1
        self._arrival_waiting = _wake(self._arrival_waiting, self.arrived)

    async def wait_for(self, count: int, timeout_s: float = 10.0) -> tuple[Row, ...]:
        """Return the rows once there are `count` in all. Raises `TimeoutError`."""
        if self.total < count:
            future = asyncio.get_running_loop().create_future()
            self._waiting.append((count, future))
            await asyncio.wait_for(future, timeout_s)
        return self.rows

    async def wait_for_arrivals(self, count: int, timeout_s: float = 10.0) -> None:
        """Return once `count` requests have come in whole, answered or not. Raises `TimeoutError`."""
        if self.arrived < count:
            future = asyncio.get_running_loop().create_future()
            self._arrival_waiting.append((count, future))
            await asyncio.wait_for(future, timeout_s)

    def dump(self, path: Path) -> None:
        """Write the rows kept to a file, as JSON Lines."""
        path.write_text("".join(row.to_json() + "\n" for row in self._rows), encoding="utf-8")


def mask(headers: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """Return the headers with the values of secret ones cut to their last four characters."""
    return tuple((name, _masked(value) if name in _SECRET_HEADERS else value) for name, value in headers)


def _masked(value: str) -> str:
    return "…" + value[-_SHOWN_CHARACTERS:] if len(value) > 2 * _SHOWN_CHARACTERS else "…"


def _wake(waiting: list[tuple[int, asyncio.Future[None]]], reached: int) -> list[tuple[int, asyncio.Future[None]]]:
    for count, future in waiting:
        if count <= reached and not future.done():
            future.set_result(None)
    return [(count, future) for count, future in waiting if not future.done()]
