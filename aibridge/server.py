"""HTTP in: one request is a `ClientStream`, which the answer is pushed to. The only door to aiohttp.

This file does not know what a request is for. It reads heads and bodies, writes answers straight to the client's
transport, and tells a listener at once when the client goes, stops reading, or reads again.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Protocol

from aiohttp import web
from aiohttp.http import HttpVersion11

from aibridge.errors import RequestRejected
from aibridge.headers import JSON
from aibridge.values import Headers, first_header

logger = logging.getLogger(__name__)

_PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus}
_FORBIDDEN_IN_VALUES = frozenset(b"\r\n\0")


class ClientListener(Protocol):
    """Who is told what the client does while its answer is under way."""

    def client_lost(self) -> None:
        """The client closed or reset its connection."""

    def client_paused(self) -> None:
        """The client's send buffer passed the high-water mark."""

    def client_resumed(self) -> None:
        """The client's send buffer has drained."""


class ClientStream:
    """One request, and the way back to its client.

    `path` has no query, `query` no question mark. Header names are in lower case, repeated ones are kept.
    """

    __slots__ = (
        "_buffer_bytes", "_chunked", "_request", "_transport", "ended", "headers", "listener", "lost", "method",
        "path", "query", "reusable", "started",
    )  # fmt: skip

    def __init__(self, request: web.BaseRequest, protocol: "_ClientProtocol", buffer_bytes: int) -> None:
        self._request = request
        self._transport: asyncio.WriteTransport | None = protocol.transport
        self._buffer_bytes = buffer_bytes
        self.method: str = request.method
        self.path, _, self.query = request.raw_path.partition("?")
        self.headers: Headers = tuple((name.lower(), value) for name, value in request.raw_headers)
        self.listener: ClientListener | None = None
        self._chunked = False
        self.lost = self._transport is None
        self.started = False
        self.ended = False
        self.reusable = request.keep_alive

    def header(self, name: bytes) -> bytes | None:
        """Return the first value of a header, by its lower-case name."""
        return first_header(self.headers, name)

    @property
    def peer(self) -> str:
        """The client's IP address as text; empty where it has gone."""
        name = self._transport.get_extra_info("peername") if self._transport is not None else None
        return str(name[0]) if name else ""

    @property
    def body_complete(self) -> bool:
        """Whether the whole request body has come; reading it then needs no waiting."""
        return self._request.content.is_eof() or not self._request.can_read_body

    async def read_body(self, limit: int) -> bytes:
        """Read the request's body, decompressed where it came compressed.

        Raises:
            RequestRejected: it is over `limit` bytes, broken, or the client left inside it.
        """
        announced = self.header(b"content-length")
        if announced is not None and int(announced) > limit:
            raise self._too_large(limit)
        if not self.body_complete and self.header(b"expect") is not None:
            self._write(b"HTTP/1.1 100 Continue\r\n\r\n")
        parts: list[bytes] = []
        size = 0
        try:
            while part := await self._request.content.readany():
                size += len(part)
                if size > limit:
                    raise self._too_large(limit)
                parts.append(part)
        except (ConnectionError, web.RequestPayloadError, web.PayloadAccessError) as error:
            self.reusable = False
            raise RequestRejected("request_incomplete", 400, "the request body did not come whole") from error
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def start(self, status: int, headers: Headers) -> None:
        """Send the head of an answer whose length is not known."""
        self._chunked = self._request.version >= HttpVersion11
        if not self._chunked:
            self.reusable = False  # HTTP/1.0: the end of the connection is the end of the body
        framing = ((b"transfer-encoding", b"chunked"),) if self._chunked else ()
        self.started = True
        self._write(self._head(status, headers + framing))

    def write(self, data: bytes) -> None:
        """Send a piece of the body. `data` is not empty."""
        self._write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    def end(self, data: bytes = b"") -> None:
        """Send the last piece of the body, and its end, in one write."""
        self.ended = True
        if self._chunked:
            data = b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data) if data else b"0\r\n\r\n"
        if data:
            self._write(data)

    def respond(self, status: int, headers: Headers, body: bytes) -> None:
        """Send a whole answer."""
        head = self._sized_head(status, headers, len(body))
        self._write(head if self.method == "HEAD" else head + body)
        self.ended = True

    def begin_sized(self, status: int, headers: Headers, size: int) -> None:
        """Send the head of an answer of `size` bytes; `write` and `end` send its body."""
        self._write(self._sized_head(status, headers, size))

    def _sized_head(self, status: int, headers: Headers, size: int) -> bytes:
        self.started = True
        return self._head(status, (*headers, (b"content-length", b"%d" % size)))

    @property
    def unsent_bytes(self) -> int:
        """How many bytes wait that the socket has not taken."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    @property
    def paused(self) -> bool:
        """Whether the send buffer is over its high-water mark."""
        return self._request.protocol.writing_paused

    def await_drain(self) -> None:
        """Tell the listener `client_paused` now, where bytes wait, and `client_resumed` when all are gone."""
        if self._transport is not None:
            self._transport.set_write_buffer_limits(high=0)

    def abort(self) -> None:
        """Cut the connection: what waits to be sent is thrown away."""
        self.reusable = False
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self) -> None:
        """The client is gone. Called by the protocol; tells the listener once."""
        if not self.lost:
            self.lost = True
            if self.listener is not None:
                self.listener.client_lost()

    def break_body(self) -> None:
        """What came next is no part of the request's body. Called by the protocol; `read_body` tells."""
        self._request.content.set_exception(web.RequestPayloadError("malformed"))

    @property
    def body_broken(self) -> bool:
        """Whether the body's framing or compression is broken: nothing on the connection can be read any more."""
        return self._request.content.exception() is not None

    def restore_limits(self) -> None:
        """Give the connection its ordinary high-water mark."""
        if self._transport is not None:
            self._transport.set_write_buffer_limits(high=self._buffer_bytes)

    def _too_large(self, limit: int) -> RequestRejected:
        self.reusable = False
        return RequestRejected("too_large", 413, f"the request body is larger than {limit} bytes")

    def _head(self, status: int, headers: Headers) -> bytes:
        lines = [b"HTTP/1.1 %d %b" % (status, _PHRASES.get(status, b""))]
        # A value with a line break would forge a header: it is dropped, whoever sent it.
        lines += [b"%b: %b" % pair for pair in headers if _FORBIDDEN_IN_VALUES.isdisjoint(pair[1])]
        if not self.reusable:
            lines.append(b"connection: close")
        elif self._request.version < HttpVersion11:
            lines.append(b"connection: keep-alive")
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)


Handler = Callable[[ClientStream], Awaitable[None]]
"""Answers one request. Ends the answer, or aborts the connection, before it returns."""


class _Sent(web.StreamResponse):
    """Tells aiohttp that the answer is out already, and whether the connection can be used again."""

    def __init__(self, *, reusable: bool) -> None:
        super().__init__()
        self._reusable = reusable

    @property
    def keep_alive(self) -> bool:
        """Whether the connection takes another request."""
        return self._reusable

    async def prepare(self, request: web.BaseRequest) -> None:
        """Do nothing: the head is out."""

    async def write_eof(self, data: bytes = b"") -> None:
        """Do nothing: the body is out."""


_SENT = _Sent(reusable=True)
_SENT_AND_CLOSE = _Sent(reusable=False)


_SILENT = logging.getLogger("aibridge.access")
_SILENT.disabled = True
"""aiohttp's access log: the interception's own line says more."""


class _ClientProtocol(web.RequestHandler):
    """aiohttp's protocol, which also tells the stream under way what happens to its connection."""

    __slots__ = ("_buffer_bytes", "_deaf", "_refuse", "_resumed", "stream")

    def __init__(
        self, server: "Server", buffer_bytes: int, loop: asyncio.AbstractEventLoop, refuse: Callable[[int], bytes]
    ) -> None:
        # HTTP/1.1 heads of agents are large: cookies, traces, and long beta lists.
        super().__init__(
            server, loop=loop, max_line_size=32_768, max_field_size=65_536, keepalive_timeout=75, access_log=_SILENT
        )
        self._buffer_bytes = buffer_bytes
        self._refuse = refuse
        self._resumed = asyncio.Event()
        self._deaf = False
        self.stream: ClientStream | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self.transport is not None:
            self.transport.set_write_buffer_limits(high=self._buffer_bytes)

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        super().data_received(data)
        if self._messages and self.stream is not None and not self.stream.body_complete:
            # No request can begin inside another's body: this is the parser's complaint, queued behind the request.
            self.stream.break_body()

    def eof_received(self) -> None:
        # A client that ends its side has left: nothing it could still say is worth an upstream's tokens.
        if self.stream is not None:
            self.stream.connection_lost()
        super().eof_received()

    def connection_lost(self, exc: BaseException | None) -> None:
        stream = self.stream
        super().connection_lost(exc)
        self._resumed.set()
        if stream is not None:
            stream.connection_lost()

    def pause_reading(self) -> None:
        if self.stream is not None and self.stream.body_complete:
            # A request is queued behind the one under way, with a body that fills its buffer. Were reading paused,
            # nobody would notice that the client goes: what it sends is dropped, and the connection closed after
            # this answer. HTTP lets a client send the queued request again (RFC 9112, section 9.3.2).
            self._deaf = True
            self.stream.reusable = False
            return
        super().pause_reading()

    def handle_error(
        self,
        request: web.BaseRequest,  # noqa: ARG002 - the signature is aiohttp's
        status: int = 500,
        exc: BaseException | None = None,  # noqa: ARG002
        message: str | None = None,  # noqa: ARG002
    ) -> web.StreamResponse:
        # Neither logged nor echoed: what cannot be read as HTTP may hold a key.
        self.keep_alive(val=False)
        self.close()
        return web.Response(status=status, body=self._refuse(status), content_type="application/json")

    async def flushed(self, stall: float) -> bool:
        """Wait until the send buffer is below its mark. Returns whether it is: a client that reads nothing is not."""
        unsent = -1
        while self._transport_is_full():
            before, unsent = unsent, self._unsent()
            if before == unsent:
                return False
            self._resumed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(stall):
                    await self._resumed.wait()
        return True

    def _transport_is_full(self) -> bool:
        return self.writing_paused and self.transport is not None and not self.transport.is_closing()

    def _unsent(self) -> int:
        return self.transport.get_write_buffer_size() if self.transport is not None else 0

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.stream is not None and self.stream.listener is not None:
            self.stream.listener.client_paused()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._resumed.set()
        if self.stream is not None and self.stream.listener is not None:
            self.stream.listener.client_resumed()


class Server(web.Server):
    """Listens for HTTP requests and hands each to a handler.

    Args:
        handler: answers one request.
        refuse: returns the body that answers what cannot be read as HTTP, and what failed, by its status.
        buffer_bytes: the high-water mark of a client's send buffer.
        stall: seconds after which a client that takes nothing of a whole answer is cut off.
    """

    def __init__(
        self,
        handler: Handler,
        refuse: Callable[[int], bytes] = lambda _: b"{}",
        *,
        buffer_bytes: int = 65_536,
        stall: float = 60.0,
    ) -> None:
        super().__init__(self._answer)
        self._handler = handler
        self._refuse = refuse
        self._stall = stall
        self._buffer_bytes = buffer_bytes
        self._listening: asyncio.Server | None = None
        self.draining = False

    def __call__(self) -> web.RequestHandler:
        """Return a protocol for a new connection."""
        return _ClientProtocol(self, self._buffer_bytes, asyncio.get_running_loop(), self._refuse)

    async def listen(self, host: str, port: int) -> int:
        """Listen, and return the port: the kernel's choice where `port` is 0."""
        loop = asyncio.get_running_loop()
        self._listening = await loop.create_server(self, host, port, backlog=1024, reuse_address=True)
        return int(self._listening.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening, and close every connection."""
        if self._listening is not None:
            self._listening.close()
        await self.shutdown(timeout=1.0)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        protocol = request.protocol
        if not isinstance(protocol, _ClientProtocol):
            raise TypeError(f"a connection of this server, not {protocol!r}")
        stream = ClientStream(request, protocol, self._buffer_bytes)
        if self.draining:
            stream.reusable = False
        protocol.stream = stream
        try:
            await self._handler(stream)
        except Exception:
            logger.exception("a handler failed")
            if not stream.started:
                stream.respond(500, JSON, self._refuse(500))
        finally:
            protocol.stream = None
        # The next request on this connection is not looked at before its client has taken this answer.
        if not stream.ended or not await protocol.flushed(self._stall):
            stream.abort()
        if stream.body_broken:
            protocol.force_close()  # it flushes, and does not wait for more of the body
        return _SENT if stream.reusable else _SENT_AND_CLOSE
