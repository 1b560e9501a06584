"""A client's connection: HTTP/1.1 requests, parsed by httptools, one after the other to a handler.

This file does not know what a request is for. It reads heads and bodies within bounds, and tells the stream under way
at once when its client goes, stops reading, or reads again. No task is made for a request whose handler needs none.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Protocol

import httptools

from aibridge.clientstream import ClientStream
from aibridge.headers import JSON

logger = logging.getLogger(__name__)

MAX_HEAD_BYTES = 65_536
"""Of a request's head, of its trailers, and of what its chunks are framed with. Agents' heads are large: cookies,
traces, long lists of betas; nginx allows 32 KiB in all, Node 16."""
MAX_HELD_BYTES = 65_536
"""Of what comes behind the request under way."""
MAX_QUEUED = 64
"""Requests that one chunk may hold behind the request under way."""
LINGER_SECONDS = 2.0
"""How long the rest of a refused body is read: closing at once would reset the connection, and take the answer from the
client that still sends (RFC 9112, section 9.6)."""

Handler = Callable[[ClientStream], Coroutine[None, None, None] | None]
"""Answers one request, or sees to it that the stream's listener does. What needs waiting is returned, and run as a
task; when that is done, an answer that is not ended and has no listener is cut."""


class Host(Protocol):
    """What the connections of one server share."""

    loop: asyncio.AbstractEventLoop
    handler: Handler
    refuse: Callable[[int], bytes]
    """Returns the body that answers what cannot be read as HTTP, and what failed, by its status."""
    stall: float
    """Seconds after which a client that takes nothing of a whole answer is cut off."""
    buffer_bytes: int
    """The high-water mark of a client's send buffer."""
    draining: bool

    def opened(self, connection: "ClientConnection") -> None:
        """A client connected."""

    def lost(self, connection: "ClientConnection") -> None:
        """A connection is gone."""


class ClientConnection(asyncio.Protocol):
    """One HTTP/1.1 connection of a client. One request at a time is under way; what comes behind it is held."""

    __slots__ = (
        "_broken", "_deaf", "_fed", "_head_bytes", "_headers", "_held", "_held_bytes", "_incoming", "_parser",
        "_progress", "_queue", "_server", "_stall_check", "_target", "_task", "_unsent", "buffer_bytes", "idle_since",
        "paused", "stream", "transport",
    )  # fmt: skip

    transport: asyncio.Transport

    def __init__(self, server: Host) -> None:
        self._server = server
        self.buffer_bytes = server.buffer_bytes
        self.paused = False
        self.idle_since = server.loop.time()
        self.stream: ClientStream | None = None
        self._task: asyncio.Task[None] | None = None
        self._queue: deque[ClientStream] = deque()
        self._incoming: ClientStream | None = None
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._deaf = False
        self._broken = False
        self._stall_check: asyncio.TimerHandle | None = None
        self._unsent = 0
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._fed = 0
        self._head_bytes = 0
        self._progress = False

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = transport  # type: ignore[assignment]  # uvloop's are no asyncio.Transport by inheritance
        self.transport.set_write_buffer_limits(high=self.buffer_bytes)
        self._server.opened(self)

    def data_received(self, data: bytes) -> None:
        """Parse what belongs to the request that is awaited; hold what comes behind one under way."""
        if self._deaf:
            return
        if self.stream is not None and self._incoming is not self.stream:
            self._hold(data)
        else:
            self._feed(data)
            if self.stream is None:
                self._next()

    def eof_received(self) -> None:
        """A client that ends its side has left: nothing it could still say is worth an upstream's tokens."""
        if self.stream is not None:
            self.stream.connection_lost()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - whatever the reason, it is lost
        """Tell the stream under way."""
        self._server.lost(self)
        self._deaf = True
        if self._stall_check is not None:
            self._stall_check.cancel()
        if self.stream is not None:
            self.stream.connection_lost()

    def pause_writing(self) -> None:
        """Tell that the send buffer is over its mark."""
        self.paused = True
        if self.stream is not None and self.stream.listener is not None:
            self.stream.listener.client_paused()

    def resume_writing(self) -> None:
        """Tell that it has drained; go on where that was waited for."""
        self.paused = False
        if self._stall_check is not None:
            self._stall_check.cancel()
            self._stall_check = None
            self._release()
        elif self.stream is not None and self.stream.listener is not None:
            self.stream.listener.client_resumed()

    # httptools

    def on_url(self, url: bytes) -> None:
        """Keep a piece of the request's target."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; trailers are not told."""
        if self._incoming is None:
            self._headers.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        """Make the stream; its body follows."""
        self._progress = True
        parser = self._parser
        if parser.should_upgrade():
            return  # the parser stops here: see `_feed_without_upgrade`
        if self._head_bytes + self._fed > MAX_HEAD_BYTES:
            self._check_head()
        target, self._target = self._target, b""
        headers, self._headers = tuple(self._headers), []
        stream = ClientStream(
            self,
            parser.get_method().decode("ascii"),
            target.decode("latin-1"),
            headers,
            http_1_1=parser.get_http_version() == "1.1",
            reusable=parser.should_keep_alive() and not self._server.draining,
        )
        self._incoming = stream
        if len(self._queue) < MAX_QUEUED:
            self._queue.append(stream)
        else:
            self._refuse_more()

    def on_body(self, data: bytes) -> None:
        """Give the stream a piece of its body."""
        self._progress = True
        if self._incoming is not None:
            self._incoming.feed_body(data)

    def on_message_complete(self) -> None:
        """The request has come whole."""
        self._progress = True
        if self._incoming is not None:
            self._incoming.end_body()
            self._incoming = None

    # requests, one after the other

    def answered(self) -> None:
        """The stream under way is answered: go on when the client has taken the answer."""
        if self.transport.is_closing():
            return
        if self.paused:
            # The next request is not looked at before: an answer that nobody reads must not be followed by more.
            self._unsent = self.transport.get_write_buffer_size()
            self._stall_check = self._server.loop.call_later(self._server.stall, self._check_stall)
        else:
            self._release()

    def close_if_idle(self, oldest: float) -> None:
        """Close where no request is under way, and none began since `oldest`."""
        if self.stream is None and self.idle_since <= oldest:
            self.transport.close()

    async def close(self) -> None:
        """Cancel what is under way, and close when what waits is sent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self.transport.close()

    def _release(self) -> None:
        stream, self.stream = self.stream, None
        if stream is None or self.transport.is_closing():
            return
        if stream.reusable and not self._deaf:
            self.idle_since = self._server.loop.time()
            if self._queue or self._held:
                self._server.loop.call_soon(self._go_on)
        elif stream.body_complete:
            self.transport.close()
        else:
            self._linger()

    def _go_on(self) -> None:
        """Take up what was held, once the answer before is out of everybody's hands."""
        held, self._held, self._held_bytes = self._held, [], 0
        if self.stream is None:
            self._next()
        for data in held:
            self.data_received(data)

    def _next(self) -> None:
        """Give the next request to the handler, or answer what is none."""
        if self._queue:
            self._begin(self._queue.popleft())
        elif self._broken and not self.transport.is_closing():
            self._broken = False
            self._refuse_malformed()

    def _begin(self, stream: ClientStream) -> None:
        self.stream = stream
        if self._server.draining or self._deaf:
            stream.reusable = False
        try:
            rest = self._server.handler(stream)
        except Exception as error:  # noqa: BLE001 - whatever it is, the connection is ended and others go on
            self._fail(stream, error)
            return
        if rest is not None:
            self._task = self._server.loop.create_task(self._run(stream, rest))

    async def _run(self, stream: ClientStream, rest: Coroutine[None, None, None]) -> None:
        try:
            await rest
        except Exception as error:  # noqa: BLE001 - whatever it is, the connection is ended and others go on
            self._fail(stream, error)
        finally:
            self._task = None
            if not stream.ended and stream.listener is None:
                stream.abort()

    def _fail(self, stream: ClientStream, error: Exception) -> None:
        logger.error("a handler failed", exc_info=error)
        if stream.ended:
            return
        if stream.started or stream.lost:
            stream.abort()
        else:
            stream.respond(500, JSON, self._server.refuse(500))

    # what comes in

    def _feed(self, data: bytes) -> None:
        self._progress = False
        self._fed = len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._feed_without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._break()
        else:
            self._bound_head(len(data))

    def _feed_without_upgrade(self, rest: bytes) -> None:
        """Read a request that asks for another protocol as one that does not: nothing else is spoken here.

        The parser takes what follows such a head for the other protocol, a body too (curl and Java send one with
        `Upgrade: h2c`). So a new parser is given the head without that header.
        """
        old, self._parser = self._parser, httptools.HttpRequestParser(self)
        target, headers = self._target, self._headers
        self._target, self._headers = b"", []
        method = old.get_method()
        if method == b"CONNECT":
            self._break()
            return
        lines = [b"%b %b HTTP/%b" % (method, target, old.get_http_version().encode())]
        lines += [b"%b: %b" % pair for pair in headers if pair[0] != b"upgrade"]
        self._feed(b"\r\n".join(lines) + b"\r\n\r\n" + rest)

    def _bound_head(self, size: int) -> None:
        """Count what is neither a whole head, body nor end: the parser would keep it for ever."""
        self._head_bytes = 0 if self._progress else self._head_bytes + size
        if self._head_bytes > MAX_HEAD_BYTES:
            self._break()

    def _check_head(self) -> None:
        """Refuse a head that came whole, and is too large all the same."""
        if len(self._target) + sum(len(name) + len(value) for name, value in self._headers) > MAX_HEAD_BYTES:
            raise ValueError("a head over the bound")  # the parser stops at it, and says so in its own words

    def _break(self) -> None:
        """What came cannot be read as HTTP, or not within bounds: nothing behind it can be read either."""
        self._deaf = True
        self._broken = True
        if self._incoming is not None:
            self._incoming.break_body()
            self._broken = False

    def _hold(self, data: bytes) -> None:
        self._held.append(data)
        self._held_bytes += len(data)
        if self._held_bytes > MAX_HELD_BYTES:
            self._refuse_more()

    def _refuse_more(self) -> None:
        """Drop what came behind the request under way, and close after its answer.

        Were reading paused instead, nobody would notice that the client goes. HTTP lets a client send what was not
        answered again (RFC 9112, section 9.3.2).
        """
        self._deaf = True
        self._held.clear()
        if self.stream is not None:
            self.stream.reusable = False
            self._queue.clear()

    def _refuse_malformed(self) -> None:
        # Neither logged nor echoed: what cannot be read as HTTP may hold a key.
        stream = ClientStream(self, "GET", "/", (), http_1_1=True, reusable=False)
        stream.end_body()
        self.stream = stream
        stream.respond(400, JSON, self._server.refuse(400))

    def _linger(self) -> None:
        self._deaf = True
        self.transport.write_eof()
        self._server.loop.call_later(LINGER_SECONDS, self.transport.close)

    def _check_stall(self) -> None:
        unsent = self.transport.get_write_buffer_size()
        if unsent >= self._unsent:
            self.transport.abort()  # it takes nothing of its answer
            return
        self._unsent = unsent
        self._stall_check = self._server.loop.call_later(self._server.stall, self._check_stall)
