"""One request of a client, and the way back to it: answers go straight to the client's transport.

This file does not know what a request is for, nor how it was parsed. A `ClientConnection` makes a `ClientStream` for
each request, gives it the body as it comes, and tells it what happens to the connection.
"""

import asyncio
import sys
from http import HTTPStatus
from typing import Protocol

from aibridge.decompression import ENCODINGS, CorruptEncoding, decompressed
from aibridge.errors import RequestRejected
from aibridge.values import SIZELESS, Headers

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}".encode() for status in HTTPStatus}
_FORBIDDEN_IN_VALUES = frozenset(b"\r\n\0")


class ClientListener(Protocol):
    """Who is told what the client does while its answer is under way."""

    def client_lost(self) -> None:
        """The client closed or reset its connection."""

    def client_paused(self) -> None:
        """The client's send buffer passed the high-water mark."""

    def client_resumed(self) -> None:
        """The client's send buffer has drained."""


class Line(Protocol):
    """The connection that a request came on."""

    transport: asyncio.Transport
    paused: bool
    """Whether the send buffer is over its high-water mark."""
    buffer_bytes: int
    """The ordinary high-water mark."""

    def answered(self) -> None:
        """The answer of the request under way is in the send buffer, whole, or the connection is cut."""


class ClientStream:
    """One request, and the way back to its client.

    `path` has no query, `query` no question mark. Header names are in lower case, repeated ones are kept; `first` has
    the first value of each. `reusable` says whether the connection takes another request.
    """

    __slots__ = (
        "_awaits_drain", "_body_broken", "_chunked", "_keeps_1_0", "_limit", "_line", "_parts", "_size", "_waiter",
        "body_complete", "ended", "first", "headers", "listener", "lost", "method", "path", "query", "reusable",
        "started",
    )  # fmt: skip

    def __init__(
        self, line: Line, method: str, target: str, headers: Headers, *, http_1_1: bool, reusable: bool
    ) -> None:
        self._line = line
        self.method = method
        self.path, _, self.query = target.partition("?")
        self.headers = headers
        self.first: dict[bytes, bytes] = dict(headers[::-1])
        self.reusable = reusable
        self._chunked = http_1_1
        self._keeps_1_0 = reusable and not http_1_1
        self.listener: ClientListener | None = None
        self.lost = False
        self.started = False
        self.ended = False
        self.body_complete = False
        self._parts: list[bytes] = []
        self._size = 0
        self._limit = sys.maxsize  # told in the same turn of the loop, where the body is wanted
        self._body_broken = False
        self._awaits_drain = False
        self._waiter: asyncio.Future[None] | None = None

    def header(self, name: bytes) -> bytes | None:
        """Return the first value of a header, by its lower-case name."""
        return self.first.get(name)

    @property
    def peer(self) -> str:
        """The client's IP address as text; empty where it has gone."""
        name = self._line.transport.get_extra_info("peername")
        return str(name[0]) if name else ""

    # the body

    def body(self, limit: int) -> bytes:
        """Return the request's body, which has come whole or broken, decompressed where it came compressed.

        Raises:
            RequestRejected: it is over `limit` bytes, broken, or compressed in a way that is not known.
        """
        if self._size > limit or (not self.body_complete and self._announced > limit):
            raise self._too_large(limit)
        if not self.body_complete:
            raise self._incomplete()
        parts, self._parts = self._parts, []
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        encoding = self.first.get(b"content-encoding")
        return body if encoding is None else self._decompressed(body, encoding.lower(), limit)

    async def wait_for_body(self, limit: int) -> None:
        """Wait until `body` has an answer: all of it came, more than `limit` bytes will, or no more can be read."""
        self._limit = limit
        if self._waits_to_be_asked and self._announced <= limit:
            self._write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while not (self.body_complete or self._body_broken or max(self._size, self._announced) > limit):
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    def feed_body(self, data: bytes) -> None:
        """Take a piece of the body. Called by the connection; what is over the limit is not kept."""
        self._size += len(data)
        if self._size <= self._limit:
            self._parts.append(data)
        else:
            self._parts.clear()
            self._wake()

    def end_body(self) -> None:
        """The body is complete. Called by the connection."""
        self.body_complete = True
        self._wake()

    def break_body(self) -> None:
        """No more of the body comes that can be read. Called by the connection."""
        self._body_broken = True
        self._wake()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    @property
    def _waits_to_be_asked(self) -> bool:
        """Whether the client sends its body once it is told to; one of HTTP/1.0 would take that for the answer."""
        expects = self.first.get(b"expect", b"").lower() == b"100-continue"
        return expects and self._chunked and not self.body_complete

    @property
    def _announced(self) -> int:
        return int(self.first.get(b"content-length", 0))

    def _decompressed(self, body: bytes, encoding: bytes, limit: int) -> bytes:
        if encoding == b"identity":
            return body
        if encoding not in ENCODINGS:
            raise RequestRejected("unknown_encoding", 415, "the request body's content-encoding is not known here")
        try:
            plain = decompressed(body, encoding, limit + 1)
        except CorruptEncoding as error:
            raise self._incomplete() from error
        if len(plain) > limit:
            raise self._too_large(limit)
        return plain

    def _too_large(self, limit: int) -> RequestRejected:
        self.reusable = False
        return RequestRejected("too_large", 413, f"the request body is larger than {limit} bytes")

    def _incomplete(self) -> RequestRejected:
        self.reusable = False
        return RequestRejected("request_incomplete", 400, "the request body did not come whole")

    # the answer

    def start(self, status: int, headers: Headers) -> None:
        """Send the head of an answer whose length is not known."""
        framing = ((b"transfer-encoding", b"chunked"),) if self._chunked else ()
        if not self._chunked:
            self.reusable = False  # HTTP/1.0: the end of the connection is the end of the body
        self.started = True
        self._write(self._head(status, headers + framing))

    def write(self, data: bytes) -> None:
        """Send a piece of the body. `data` is not empty."""
        self._write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    def end(self, data: bytes = b"") -> None:
        """Send the last piece of the body, and its end, in one write."""
        if self._chunked:
            data = b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data) if data else b"0\r\n\r\n"
        if data:
            self._write(data)
        self._end()

    def respond(self, status: int, headers: Headers, body: bytes) -> None:
        """Send a whole answer."""
        head = self._sized_head(status, headers, len(body))
        self._write(head if self.method == "HEAD" else head + body)
        self._end()

    def begin_sized(self, status: int, headers: Headers, size: int) -> None:
        """Send the head of an answer of `size` bytes; `write` and `end` send its body."""
        self._write(self._sized_head(status, headers, size))

    def abort(self) -> None:
        """Cut the connection: what waits to be sent is thrown away."""
        self.reusable = False
        self._line.transport.abort()
        self._end()

    @property
    def unsent_bytes(self) -> int:
        """How many bytes wait that the socket has not taken."""
        return 0 if self.lost else self._line.transport.get_write_buffer_size()

    @property
    def paused(self) -> bool:
        """Whether the send buffer is over its high-water mark."""
        return self._line.paused

    def await_drain(self) -> None:
        """Tell the listener `client_paused` now, where bytes wait, and `client_resumed` when all are gone."""
        if not self.lost:
            self._awaits_drain = True
            self._line.transport.set_write_buffer_limits(high=0)

    def restore_limits(self) -> None:
        """Give the connection its ordinary high-water mark."""
        if self._awaits_drain and not self.lost:
            self._awaits_drain = False
            self._line.transport.set_write_buffer_limits(high=self._line.buffer_bytes)

    def connection_lost(self) -> None:
        """The client is gone. Called by the connection; tells the listener once."""
        if not self.lost:
            self.lost = True
            self.break_body()
            if self.listener is not None:
                self.listener.client_lost()

    def _end(self) -> None:
        if not self.ended:
            self.ended = True
            self._limit = 0  # nobody reads more of the body
            self._parts.clear()
            self._line.answered()

    def _sized_head(self, status: int, headers: Headers, size: int) -> bytes:
        self.started = True
        self._chunked = False
        if status not in SIZELESS:
            headers = (*headers, (b"content-length", b"%d" % size))
        return self._head(status, headers)

    def _head(self, status: int, headers: Headers) -> bytes:
        lines = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d " % status]
        lines += map(b": ".join, headers)
        if not (self.reusable and self.body_complete):
            self.reusable = False  # the rest of the body would be taken for the next request
            lines.append(b"connection: close")
        elif self._keeps_1_0:
            lines.append(b"connection: keep-alive")
        head = b"\r\n".join(lines) + b"\r\n\r\n"
        ends = len(lines) + 1
        if head.count(b"\n") != ends or head.count(b"\r") != ends or b"\0" in head:
            # A value with a line break would forge a header: it is dropped, whoever sent it.
            return self._head(status, tuple(pair for pair in headers if _FORBIDDEN_IN_VALUES.isdisjoint(pair[1])))
        return head

    def _write(self, data: bytes) -> None:
        if not self.lost and not self._line.transport.is_closing():
            self._line.transport.write(data)
