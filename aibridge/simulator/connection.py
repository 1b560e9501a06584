"""One TCP connection: parses requests, plays the steps of their answers, and writes the ledger's rows.

It knows HTTP/1.1's request side and sockets; what to answer it is told. A peer that closes, even only its sending half,
is taken as gone: what is being played ends there.
"""

import asyncio
import hashlib
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol, cast

import httptools

from aibridge.simulator.answers import Answer, unanswered
from aibridge.simulator.cutter import Cutter
from aibridge.simulator.ledger import Ledger, Row, mask
from aibridge.simulator.values import Ending, Received, Write

_BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_LINGER_ZERO = struct.pack("ii", 1, 0)
_MAX_PIPELINED = 16
_MAX_HEAD_BYTES = 256 * 1024
_WRITES_PER_TURN = 64
"""After so many writes other connections get their turn, and a peer's end is noticed."""


class _HeadTooLargeError(Exception):
    """A request head over the limit."""


class House(Protocol):
    """What a connection needs of its server."""

    ledger: Ledger
    max_body_bytes: int

    def answer(self, request: Received, now: float, *, too_large: bool) -> Answer:
        """Return what to do to a request."""

    def opened(self, connection: "Connection") -> int:
        """Count a connection in and return its number."""

    def closed(self, connection: "Connection") -> None:
        """Count a connection out."""


class Exchange:
    """One request and what was done to it so far; becomes a row."""

    def __init__(self, request: Received, answer: Answer, number: int, received_at: float) -> None:
        self.request = request
        self.answer = answer
        self.number = number
        self.received_at = received_at
        self.at = time.time()
        self.first_byte_at: float | None = None
        self.status = 0
        self.events = 0
        self.body_bytes = 0
        self.terminal_sent = False
        self._digest = hashlib.sha256()

    def sent(self, write: Write, now: float) -> None:
        """Count what was handed to the socket."""
        if self.first_byte_at is None:
            self.first_byte_at = now
        self.status = write.status or self.status
        self.events += write.events
        self.body_bytes += len(write.body)
        self.terminal_sent = self.terminal_sent or write.terminal
        self._digest.update(write.body)

    def row(self, connection: int, ending: Ending, now: float) -> Row:
        """Return the row for the ledger."""
        return Row(
            request_id=self.answer.request_id,
            connection=connection,
            exchange=self.number,
            api=self.answer.api,
            method=self.request.method,
            path=self.request.target,
            model=self.answer.model,
            streaming=self.answer.streaming,
            fault=self.answer.fault,
            status=self.status,
            body_bytes=self.body_bytes,
            body_sha256=self._digest.hexdigest(),
            events=self.events,
            terminal_sent=self.terminal_sent,
            request_bytes=len(self.request.body),
            request_sha256=hashlib.sha256(self.request.body).hexdigest(),
            headers=mask(self.request.headers),
            ending=ending,
            at=self.at,
            received_at=self.received_at,
            first_byte_at=self.first_byte_at,
            ended_at=now,
            usage=self.answer.usage,
        )


class Connection(asyncio.Protocol):
    """The protocol of one connection."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._number = 0
        self._exchanges = 0
        self._waiting: deque[tuple[Received, bool]] = deque()
        self._exchange: Exchange | None = None
        self._task: asyncio.Task[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._stale_since: Answer | None = None
        self._transport: asyncio.Transport
        self._start_request()

    # The transport's calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        # uvloop's transports do not inherit from asyncio.Transport.
        self._transport = cast(asyncio.Transport, transport)
        self._number = self._house.opened(self)

    def data_received(self, data: bytes) -> None:
        """Feed the parser; what it cannot parse is answered with a bare 400."""
        if self._transport.is_closing():
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            if not isinstance(error.__context__, _HeadTooLargeError):
                self._fail(error)
                return
            self._refuse_bytes()
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._refuse_bytes()

    def eof_received(self) -> None:
        """The peer closed, or half of it: what is being played ends."""
        self._peer_went(Ending.PEER_CLOSED)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._peer_went(Ending.PEER_CLOSED if exc is None else Ending.PEER_RESET)
        self._house.closed(self)

    def pause_writing(self) -> None:
        """The send buffer is over its high-water mark."""
        if self._writable is None:
            self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        """The send buffer is drained."""
        writable, self._writable = self._writable, None
        if writable is not None and not writable.done():
            writable.set_result(None)

    # The parser's calls.

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._start_request()

    def on_url(self, url: bytes) -> None:
        """Take a part of the target."""
        self._grow_head(len(url))
        self._target += url

    def on_header(self, name: bytes, value: bytes | None) -> None:
        """Take a header."""
        self._grow_head(len(name) + len(value or b""))
        self._headers.append((name.decode("latin-1").lower(), (value or b"").decode("latin-1")))

    def on_headers_complete(self) -> None:
        """Invite the body where the peer waits for that."""
        if any(name == "expect" and value.lower() == "100-continue" for name, value in self._headers):
            self._transport.write(_CONTINUE)

    def on_body(self, body: bytes) -> None:
        """Take a part of the body; beyond the limit nothing is kept."""
        self._body_bytes += len(body)
        if self._body_bytes <= self._house.max_body_bytes:
            self._body.append(body)
        else:
            self._body.clear()

    def on_message_complete(self) -> None:
        """Answer the request, now or when those before it are answered."""
        request = Received(
            method=self._parser.get_method().decode("latin-1"),
            target=self._target.decode("latin-1"),
            headers=tuple(self._headers),
            body=b"".join(self._body),
            keep_alive=self._parser.should_keep_alive(),
            chunks_understood=self._parser.get_http_version() != "1.0",
        )
        self._waiting.append((request, self._body_bytes > self._house.max_body_bytes))
        if len(self._waiting) > _MAX_PIPELINED:
            self._transport.abort()
        elif self._exchange is None:
            self._begin_exchange()

    # Ours.

    def stop(self) -> asyncio.Task[None] | None:
        """End what is being played, drop the connection, and return the task to wait for."""
        self._peer_went(Ending.STOPPED)
        self._transport.abort()
        return self._task

    def _refuse_bytes(self) -> None:
        self._transport.write(_BAD_REQUEST)
        self._transport.close()

    def _fail(self, error: BaseException) -> None:
        """Say a bug of our own aloud, and drop the connection."""
        self._loop.call_exception_handler({"message": "the simulator failed", "exception": error, "protocol": self})
        self._transport.abort()

    def _played(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    def _start_request(self) -> None:
        self._target = b""
        self._headers: list[tuple[str, str]] = []
        self._head_bytes = 0
        self._body: list[bytes] = []
        self._body_bytes = 0

    def _grow_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > _MAX_HEAD_BYTES:
            raise _HeadTooLargeError

    def _begin_exchange(self) -> None:
        request, too_large = self._waiting.popleft()
        self._exchanges += 1
        if self._stale_since is not None:
            self._close_stale(request, self._stale_since)
            return
        answer = self._house.answer(request, time.time(), too_large=too_large)
        self._stale_since = answer if answer.stale else None
        self._exchange = Exchange(request, answer, self._exchanges, self._loop.time())
        self._house.ledger.arrive()
        self._task = self._loop.create_task(self._play(self._exchange))
        self._task.add_done_callback(self._played)

    def _close_stale(self, request: Received, before: Answer) -> None:
        """Close on a request that came on a connection meant to be dead, before any byte."""
        exchange = Exchange(request, unanswered(before), self._exchanges, self._loop.time())
        self._exchange = exchange
        self._house.ledger.arrive()
        self._transport.close()
        self._end_exchange(exchange, Ending.CLOSED)

    async def _play(self, exchange: Exchange) -> None:
        ending = await self._play_steps(exchange)
        if ending is Ending.PEER_CLOSED:
            await self._loop.create_future()  # until the peer goes: that cancels this task
        await self._flush()
        if ending is Ending.RESET:
            self._reset()
        elif ending is Ending.CLOSED:
            self._transport.close()
        self._end_exchange(exchange, ending)
        if self._waiting and not self._transport.is_closing():
            self._begin_exchange()

    async def _play_steps(self, exchange: Exchange) -> Ending:
        """Play until the first `Ending` and return it."""
        cutter = Cutter(exchange.answer.play)
        for turn, step in enumerate(exchange.answer.steps, 1):
            if isinstance(step, Write):
                await self._write(exchange, step, cutter)
                if not turn % _WRITES_PER_TURN:
                    await asyncio.sleep(0)
                continue
            self._send(cutter.flush())
            if isinstance(step, Ending):
                return step
            await asyncio.sleep(step.seconds)
        raise AssertionError("steps without an ending")

    async def _write(self, exchange: Exchange, write: Write, cutter: Cutter) -> None:
        exchange.sent(write, self._loop.time())
        for part in cutter.feed(write.wire):
            self._send(part)
            if cutter.cuts:
                await asyncio.sleep(0)
            if self._writable is not None:
                await self._writable

    def _send(self, wire: bytes) -> None:
        if wire and not self._transport.is_closing():
            self._transport.write(wire)

    async def _flush(self) -> None:
        """Return when the kernel has everything: a reset would drop what it does not have."""
        if self._transport.is_closing() or not self._transport.get_write_buffer_size():
            return
        self._transport.set_write_buffer_limits(high=0)
        if self._writable is not None:
            await self._writable
        self._transport.set_write_buffer_limits()

    def _reset(self) -> None:
        self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
        self._transport.abort()

    def _peer_went(self, ending: Ending) -> None:
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()
        if self._exchange is not None:
            self._end_exchange(self._exchange, ending)

    def _end_exchange(self, exchange: Exchange, ending: Ending) -> None:
        self._exchange = None
        self._house.ledger.add(exchange.row(self._number, ending, self._loop.time()))


def factory(house: House) -> Callable[[], Connection]:
    """Return what makes a connection for the event loop's server."""
    return lambda: Connection(house)
