"""A client's connection: HTTP/1.1 requests, parsed by httptools, one after the other to a handler.

This file does not know what a request is for. It reads heads and bodies within bounds, and tells the stream under way
at once when its client goes, stops reading, or reads again. No task is made for a request whose handler needs none.
"""

import asyncio
import functools
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Protocol

import httptools

from aibridge.clientstream import ClientStream
from aibridge.headers import JSON, less_upgrade

logger = logging.getLogger(__name__)

MAX_HEAD_BYTES = 65_536
"""Of a request's head, of its trailers, and of what its chunks are framed with. Agents' heads are large: cookies,
traces, long lists of betas; nginx allows 32 KiB in all, Node 16."""
MAX_HELD_BYTES = 65_536
"""Of what comes behind the request under way."""
MAX_QUEUED = 64
"""Requests that one chunk may hold behind the request under way."""
LINGER_SECONDS = 2.0
"""How long what still comes is read behind the last answer: closing at once would reset the connection, and take the
answer from the client that still sends (RFC 9112, section 9.6)."""

_VERSIONS = frozenset({"1.0", "1.1"})
_FRAME_BYTES = len(b":\r\n")

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
    tasks: set[asyncio.Task[None]]
    """What handlers wait for."""

    def opened(self, connection: "ClientConnection") -> None:
        """A client connected."""

    def lost(self, connection: "ClientConnection") -> None:
        """A connection is gone."""


class ClientConnection(asyncio.Protocol):
    """One HTTP/1.1 connection of a client. One request at a time is under way; what comes behind it is held."""

    __slots__ = (
        "_broken", "_deaf", "_fed", "_going_on", "_head_bytes", "_headers", "_held", "_held_bytes", "_incoming",
        "_parser", "_progress", "_queue", "_server", "_target", "_timer", "_unsent", "buffer_bytes", "idle_since",
        "paused", "stream", "transport",
    )  # fmt: skip
    __deletable__ = ("_parser",)  # asked for where this is compiled

    transport: asyncio.Transport

    def __init__(self, server: Host) -> None:
        self._server = server
        self.buffer_bytes = server.buffer_bytes
        self.paused = False
        self.idle_since = server.loop.time()
        self.stream: ClientStream | None = None
        self._queue: deque[ClientStream] = deque()
        self._incoming: ClientStream | None = None
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._going_on = False
        self._deaf = False
        self._broken = False
        self._timer: asyncio.TimerHandle | None = None
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
        if self._going_on:
            self._go_on()  # what was held came before this
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
        self.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - whatever the reason, it is lost
        """Tell the stream under way, and let go of what holds this in turn: nothing is left to the collector."""
        self._server.lost(self)
        self._deaf = True
        self._cancel_timer()
        stream, self.stream, self._incoming = self.stream, None, None
        self._queue.clear()
        del self._parser
        if stream is not None:
            stream.connection_lost()

    def pause_writing(self) -> None:
        """Tell that the send buffer is over its mark."""
        self.paused = True
        if self.stream is not None and self.stream.listener is not None:
            self.stream.listener.client_paused()

    def resume_writing(self) -> None:
        """Tell that it has drained; go on where that was waited for."""
        self.paused = False
        stream = self.stream
        if stream is None:
            return
        if stream.ended:
            self._release()
        elif stream.listener is not None:
            stream.listener.client_resumed()

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
        version = parser.get_http_version()
        if version not in _VERSIONS:
            raise ValueError("another version of HTTP")
        target, self._target = self._target, b""
        headers, self._headers = tuple(self._headers), []
        stream = ClientStream(
            self,
            parser.get_method().decode("ascii"),
            (target if target[:1] == b"/" else _origin_form(target)).decode("latin-1"),
            headers,
            http_1_1=version == "1.1",
            reusable=parser.should_keep_alive() and not self._server.draining,
        )
        coding = stream.first.get(b"transfer-encoding")
        if coding is not None and (version != "1.1" or coding.lower() != b"chunked"):
            raise ValueError("a transfer coding that is not known")  # HTTP/1.0 has none: RFC 9112, section 6.1
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
            self._watch()
        else:
            self._release()

    def close_if_idle(self, oldest: float) -> None:
        """Close where no request is under way, and none began since `oldest`."""
        if self.stream is None and self.idle_since <= oldest and not self.transport.is_closing():
            self.close()

    def close(self) -> None:
        """Close when what waits is sent. A client that takes nothing of it is cut off."""
        self._deaf = True
        self.transport.close()
        self._watch()

    def _release(self) -> None:
        stream, self.stream = self.stream, None
        if stream is None or self.transport.is_closing():
            return
        self._cancel_timer()
        self.idle_since = self._server.loop.time()
        if not stream.reusable or self._deaf:
            self._linger()
        elif self._queue or self._held:
            self._going_on = True
            self._server.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        """Take up what was held, once the answer before is out of everybody's hands."""
        if not self._going_on or self.transport.is_closing():
            return
        self._going_on = False
        held, self._held, self._held_bytes = self._held, [], 0
        self._next()
        for data in held:
            self.data_received(data)

    def _next(self) -> None:
        """Give the next request to the handler, or answer what is none."""
        if self._queue:
            self._begin(self._queue.popleft())
        elif self._broken:
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
            task = self._server.loop.create_task(rest)
            self._server.tasks.add(task)
            task.add_done_callback(functools.partial(self._done, stream))

    def _done(self, stream: ClientStream, task: asyncio.Task[None]) -> None:
        self._server.tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._fail(stream, error)
        elif not stream.ended and stream.listener is None:
            stream.abort()

    def _fail(self, stream: ClientStream, error: BaseException) -> None:
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
        rest = data
        while rest and not self._deaf:
            rest = self._parse(rest)
        self._bound_head(len(data))

    def _parse(self, data: bytes) -> bytes:
        """Parse, and return what is still to be parsed."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            return self._without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._break()
        return b""

    def _without_upgrade(self, rest: bytes) -> bytes:
        """Say a request that asks for another protocol as one that does not: nothing else is spoken here.

        The parser takes what follows such a head for the other protocol, a body too (curl and Java send one with
        `Upgrade: h2c`). A new parser is to be given the head without that option; the handler sees `Upgrade` still.
        """
        old, self._parser = self._parser, httptools.HttpRequestParser(self)
        target, headers = self._target, self._headers
        self._target, self._headers = b"", []
        method = old.get_method()
        if method == b"CONNECT":
            self._break()
            return b""
        lines = [b"%b %b HTTP/%b" % (method, target, old.get_http_version().encode())]
        lines += [b"%b: %b" % pair for pair in less_upgrade(headers)]
        return b"\r\n".join(lines) + b"\r\n\r\n" + rest

    def _bound_head(self, size: int) -> None:
        """Count what is neither a whole head, body nor end: the parser would keep it for ever."""
        self._head_bytes = 0 if self._progress else self._head_bytes + size
        if self._head_bytes > MAX_HEAD_BYTES:
            self._break()

    def _check_head(self) -> None:
        """Refuse a head that came whole, and is too large all the same."""
        size = sum(len(name) + len(value) + _FRAME_BYTES for name, value in self._headers)
        if len(self._target) + size > MAX_HEAD_BYTES:
            raise ValueError("a head over the bound")  # the parser stops at it, and says so in its own words

    def _break(self) -> None:
        """What came cannot be read as HTTP, or not within bounds: nothing behind it can be read either."""
        self._deaf = True
        self._broken = True
        if self.stream is not None:
            self.stream.reusable = False
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
        self.stream = stream
        stream.respond(400, JSON, self._server.refuse(400))

    def _linger(self) -> None:
        self._deaf = True
        self.transport.write_eof()
        self._timer = self._server.loop.call_later(LINGER_SECONDS, self.close)

    def _watch(self) -> None:
        self._cancel_timer()
        self._unsent = self.transport.get_write_buffer_size()
        if self._unsent:
            self._timer = self._server.loop.call_later(self._server.stall, self._check_stall)

    def _check_stall(self) -> None:
        if self.transport.get_write_buffer_size() >= self._unsent:
            self.transport.abort()  # it takes nothing of its answer
        else:
            self._watch()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _origin_form(target: bytes) -> bytes:
    """Return the path and query of a target that names scheme and host too, as to a proxy; any other as it is."""
    scheme, mark, rest = target.partition(b"://")
    if not mark or scheme.lower() not in {b"http", b"https"}:
        return target
    return b"/" + rest.partition(b"/")[2]
