"""HTTP out: connections to upstreams, pushed, and the pool that keeps them. The only door to httptools.

A `Connection` is an asyncio protocol over httptools, and over a decoder of ours where chunked coding is plain: what the
socket gives goes to the request's `Sink` in the same call, once per chunk. The pool opens connections (TLS, HTTP
proxies, several addresses tried side by side) and keeps finished ones. A connection in doubt never goes back to it.

This file does not know what an answer means.
"""

import asyncio
import base64
import errno
import socket
import ssl
import urllib.request
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, cast
from urllib.parse import unquote, urlsplit

import aiohappyeyeballs
import httptools

from aibridge.credentials import redact, worth_hiding
from aibridge.errors import ConfigError, MalformedChunk, UpstreamFailure
from aibridge.lifecycle import Signal
from aibridge.values import SIZELESS, ResponseHead, UpstreamRequest
from aibridge.wire import ChunkedDecoder

MAX_HEAD_BYTES = 65_536
"""A response head over this is hostile: nginx allows 8 KiB, Node 16, and real providers send under 4."""

_BLANK_LINE = b"\r\n\r\n"
"""The end of a head, and the line end before it: httptools takes no other."""
_OK = 200


CLOSINGS = frozenset({Signal.CUT, Signal.RESET})
"""Ways in which an upstream closes a connection; on a kept one, before any byte of an answer, they say that it was
stale."""


class Sink(Protocol):
    """Who takes an answer, as it comes. After `body_ended` or `upstream_failed` nothing more comes."""

    def head_received(self, head: ResponseHead) -> None:
        """The final response head; interim ones (1xx) are not told."""

    def data_received(self, data: bytes) -> None:
        """Bytes of the body, unframed; never empty."""

    def body_ended(self) -> None:
        """The body is complete, by the framing of HTTP."""

    def upstream_failed(self, signal: Signal, error: str) -> None:
        """The answer ended before its time: `CUT`, `RESET` or `BAD_HTTP`."""


class Origin(NamedTuple):
    """Where a connection leads."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> "Origin":
        """Return the origin of an `http` or `https` URL."""
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ConfigError(f"not an http or https URL: {url!r}")
        return cls(parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80))

    @property
    def authority(self) -> str:
        """Host and port as in a `Host` header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = 443 if self.scheme == "https" else 80
        return host if self.port == default else f"{host}:{self.port}"


class Keeper(Protocol):
    """Who keeps connections that nobody uses: the pool."""

    def put(self, connection: "Connection") -> None:
        """Keep a connection whose answer came whole."""

    def forget(self, connection: "Connection") -> None:
        """Let go of a connection that is lost."""


class Connection(asyncio.Protocol):
    """One HTTP/1.1 connection to an upstream. One request at a time."""

    __slots__ = (
        "_body", "_chunked", "_complete", "_head", "_head_bytes", "_head_end", "_headers", "_parser", "_paused",
        "_pool", "_reusable", "_sends_no_body", "_silent", "_sink", "_told_head", "_transport", "_unasked", "counted",
        "idle_since", "lost", "origin", "proxy_headers", "requests", "secrets", "through_proxy",
    )  # fmt: skip
    __deletable__ = ("_parser",)  # asked for where this is compiled

    def __init__(self, pool: Keeper, origin: Origin) -> None:
        self._pool = pool
        self.origin = origin
        self.through_proxy = ""
        self.proxy_headers = b""
        self.secrets: tuple[str, ...] = ()
        """What a proxy is sent with every request, and may echo."""
        self.counted = False
        self.requests = 0
        self.idle_since = 0.0
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._sink: Sink | None = None
        self.lost = False
        self._sends_no_body = False
        self._headers: list[tuple[bytes, bytes]] = []
        self._head: ResponseHead | None = None
        self._told_head = False
        self._head_bytes = 0
        self._head_end = b""
        """What may be the beginning of the blank line that ends a head."""
        self._chunked: ChunkedDecoder | None = None
        self._body: list[bytes] = []
        self._complete = False
        self._unasked = False
        self._reusable = False
        self._paused = False
        self._silent = True

    def __repr__(self) -> str:
        state = "lost" if self.lost else "idle" if self._sink is None else "busy"
        return f"<Connection {self.origin.authority} {state}, {self.requests} requests>"

    @property
    def usable(self) -> bool:
        """Whether a request can be sent on it."""
        return not self.lost and self._transport is not None and not self._transport.is_closing()

    @property
    def tls(self) -> ssl.SSLObject | None:
        """What TLS knows of the upstream; None without TLS."""
        return None if self._transport is None else self._transport.get_extra_info("ssl_object")

    @property
    def was_stale(self) -> bool:
        """Whether it was kept from another request, and gave not a byte to this one."""
        return self.requests > 1 and self._silent

    def send(self, request: UpstreamRequest, sink: Sink) -> None:
        """Send a request; its answer goes to `sink`, also where the connection was lost just now: then that is told."""
        transport = self._transport
        if transport is None:
            raise UpstreamFailure("the connection is not open")
        self._sink = sink
        self._silent = True
        self._sends_no_body = request.method == "HEAD"
        self.requests += 1
        if self.lost:
            asyncio.get_running_loop().call_soon(self.connection_lost, None)
            return
        head = self._request_head(request)
        if len(request.body) > MAX_HEAD_BYTES:
            transport.write(head)  # joined, a large body would be copied once more
            transport.write(request.body)
        else:
            transport.write(head + request.body)

    def pause_reading(self) -> None:
        """Take no more from the upstream until `resume_reading`."""
        if self._transport is not None and self.usable:
            self._paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Take from the upstream again."""
        if self._transport is not None and self.usable:
            self._paused = False
            self._transport.resume_reading()

    def pass_to(self, sink: Sink) -> None:
        """Give what is left of the answer to another sink."""
        self._sink = sink

    def release(self) -> None:
        """Be done with the answer: back to the pool where it came whole and the upstream keeps the connection."""
        self._sink = None
        if self._reusable and self.usable and not self._unsent:
            self._renew()
            if self._paused:
                self.resume_reading()
            self._pool.put(self)
        else:
            self.close()

    @property
    def _unsent(self) -> bool:
        """Whether the upstream answered before it took the whole request: the rest would go before the next one."""
        return self._transport is not None and self._transport.get_write_buffer_size() > 0

    def close(self) -> None:
        """Cut the connection at once; the sink is told nothing more."""
        self._sink = None
        if self._transport is not None:
            self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by inheritance

    def data_received(self, data: bytes) -> None:
        """Take bytes from the socket, and tell the sink what they hold."""
        self._silent = False
        if self._sink is None or self._complete:
            self.close()  # nobody asked: a connection that speaks unasked is not to be trusted
            return
        error = ""
        try:
            self._parse(data)
        except httptools.HttpParserUpgrade:
            error = "the upstream switched protocols"
        except httptools.HttpParserError as broken:
            error = f"malformed HTTP: {broken}"
        except MalformedChunk as malformed:
            if malformed.before:
                self._body.append(malformed.before)
            error = f"malformed HTTP: {malformed}"
        self._tell(error or self._bound_head(len(data)))

    def eof_received(self) -> None:
        """Let the transport close: a half-open upstream has nothing more to say."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the sink how the connection ended."""
        if not self.lost:
            self.lost = True
            self._pool.forget(self)
            del self._parser  # each holds the other: nothing is left to the collector
        sink, self._sink = self._sink, None
        if sink is None or self._complete:
            return
        if exc is not None:
            sink.upstream_failed(Signal.RESET, f"the upstream's connection was lost: {_words(exc)}")
        elif self._ends_with_connection():
            sink.body_ended()
        else:
            where = "inside its answer" if self._told_head else "before it answered"
            sink.upstream_failed(Signal.CUT, f"the upstream closed the connection {where}")

    # httptools

    def on_message_begin(self) -> None:
        """Note an answer that nobody asked for, behind the one that somebody did: none of it is told."""
        self._unasked = self._complete

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; also the trailers of a chunked body, which are not told."""
        if not self._told_head:
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Keep the head, unless it is an interim one."""
        status = self._parser.get_status_code()
        if status >= _OK and not self._unasked:
            self._head = ResponseHead(status, tuple(self._headers))
        self._headers.clear()

    def on_body(self, data: bytes) -> None:
        """Keep a piece of the body."""
        if not self._unasked:
            self._body.append(data)

    def on_message_complete(self) -> None:
        """Note the end of the body; an interim head ends here too."""
        if self._head is not None or self._told_head:
            self._complete = True
            self._reusable = self._parser.should_keep_alive()

    def _parse(self, data: bytes) -> None:
        """Take plain chunks off here, and give httptools all else: to it the body begins with what is behind them."""
        start = self._parse_heads(data) if self._head is None else 0
        if self._chunked is not None:
            body, data = self._chunked.feed_data(data, start)
            if body:
                self._body.append(body)
            if data:
                self._chunked = None
        elif start:
            data = data[start:]
        if data:
            self._parser.feed_data(data)

    def _parse_heads(self, data: bytes) -> int:
        """Give httptools head after head up to the last; return the offset of what is behind it."""
        at = 0
        while self._head is None and at < len(data):
            end = self._end_of_head(data, at)
            self._parser.feed_data(data[at:end])
            at = end
        if self._head is not None and not self._complete and _is_chunked(self._head):
            self._chunked = ChunkedDecoder()
        return at

    def _end_of_head(self, data: bytes, at: int) -> int:
        """Return the offset behind the next blank line; where none comes, of the end of the data."""
        begun, self._head_end = self._head_end, b""
        if begun:  # with the read before, and so at the start of this one
            split = (begun + data[: len(_BLANK_LINE) - 1]).find(_BLANK_LINE)
            if split >= 0:
                return split + len(_BLANK_LINE) - len(begun)
        found = data.find(_BLANK_LINE, at)
        if found >= 0:
            return found + len(_BLANK_LINE)
        self._head_end = (begun + data[max(at, len(data) - 3) :])[-3:]
        return len(data)

    def _renew(self) -> None:
        """Forget the answer before."""
        self._head = None
        self._head_end = b""
        self._chunked = None
        self._told_head = False
        self._head_bytes = 0
        self._complete = False
        self._unasked = False
        self._reusable = False

    def _bound_head(self, size: int) -> str:
        """Count what is neither body nor end: heads, interim heads, trailers. The parser would keep them for ever."""
        if self._body or self._complete:
            self._head_bytes = 0
            return ""
        self._head_bytes += size
        return f"a head or trailer over {MAX_HEAD_BYTES} bytes" if self._head_bytes > MAX_HEAD_BYTES else ""

    def _tell(self, error: str) -> None:
        """Tell the sink, in the order in which it came: head, body, end, error. The sink may let go in between."""
        sink = self._sink
        if self._head is not None and not self._told_head and sink is not None:
            self._told_head = True
            if self._sends_no_body or self._head.status in SIZELESS:
                self._complete = True  # not reusable: the parser still waits for a body
            sink.head_received(self._head)
        if self._body and self._sink is not None:
            body, self._body = self._body, []
            self._sink.data_received(body[0] if len(body) == 1 else b"".join(body))
        if error or self._unasked:
            self._reusable = False
        if self._complete and self._sink is not None:
            self._sink.body_ended()
        elif error:
            sink, self._sink = self._sink, None
            self.close()
            if sink is not None:
                sink.upstream_failed(Signal.BAD_HTTP, error)

    def _ends_with_connection(self) -> bool:
        """Whether the body has neither a length nor chunks, so that the connection's end is its end."""
        head = self._head
        if head is None or not self._told_head:
            return False
        coding = b",".join([value for name, value in head.headers if name == b"transfer-encoding"])
        if coding:
            return coding.rpartition(b",")[2].strip().lower() != b"chunked"
        return all(name != b"content-length" for name, _ in head.headers)

    def _request_head(self, request: UpstreamRequest) -> bytes:
        target = self.through_proxy + request.target
        lines = [f"{request.method} {target} HTTP/1.1".encode("ascii")]
        lines += map(b": ".join, request.headers)
        return b"\r\n".join(lines) + b"\r\n" + self.proxy_headers + b"\r\n"


def _is_chunked(head: ResponseHead) -> bool:
    """Whether a body has the one coding of chunks, in a spelling that leaves no doubt."""
    return [value.lower() for name, value in head.headers if name == b"transfer-encoding"] == [b"chunked"]


@dataclass(frozen=True, kw_only=True)
class PoolSettings:
    """How connections are made and kept.

    `max_connections` per origin, 0 for no limit; `keep_alive` in seconds. `proxy` is a URL that stands above the
    environment's `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`; these are read where `proxy_from_environment` says so.
    """

    keep_alive: float = 15.0
    max_connections: int = 0
    max_idle: int = 256
    ca_file: str | None = None
    verify: bool = True
    proxy: str | None = field(default=None, repr=False)
    proxy_from_environment: bool = True


@dataclass
class _Lane:
    """The connections of one origin. `live` counts the open ones, those being opened, and rights to open one."""

    idle: list[Connection] = field(default_factory=list)
    live: int = 0
    waiters: deque[asyncio.Future[Connection | None]] = field(default_factory=deque)


class Pool:
    """Opens connections and keeps finished ones for the next request. Built on a running event loop."""

    def __init__(self, settings: PoolSettings) -> None:
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._lanes: dict[Origin, _Lane] = {}
        self._tls: ssl.SSLContext | None = None
        self._sweep: asyncio.TimerHandle | None = None
        self._closed = False

    def load_trust(self) -> None:
        """Read the certificate authorities, as else the first connection does. Raises `ConfigError`."""
        try:
            self._tls_context()
        except OSError as error:  # what ssl raises is one
            raise ConfigError(f"tls.ca_file: no certificates can be read from it: {_words(error)}") from error

    def take(self, origin: Origin) -> Connection | None:
        """Return an idle connection, or None where there is none."""
        lane = self._lanes.get(origin)
        if lane is None:
            return None
        oldest = self._loop.time() - self._settings.keep_alive
        while lane.idle:
            connection = lane.idle.pop()
            if connection.usable and connection.idle_since >= oldest:
                return connection
            connection.close()
        return None

    async def connect(self, origin: Origin) -> Connection:
        """Open a new connection, once the limit allows one.

        Raises:
            UpstreamFailure: there is no such host, nobody listens, TLS fails, or the proxy refuses.
        """
        lane = self._lanes.setdefault(origin, _Lane())
        if self._settings.max_connections and lane.live >= self._settings.max_connections:
            freed = self.take(origin) or await self._wait(lane)
            if freed is not None:
                return freed
        else:
            lane.live += 1
        try:
            connection = await self._open(origin)
        except BaseException as error:
            self._give_up(lane)
            if isinstance(error, (OSError, UpstreamFailure, UnicodeError)):  # UnicodeError: no host can be called so
                raise UpstreamFailure(f"cannot connect to {origin.authority}: {_words(error)}") from error
            raise
        if connection.lost:
            self._give_up(lane)  # who sends on it is told
        connection.counted = not connection.lost
        return connection

    def first_hop(self, origin: Origin) -> Origin:
        """Return where a connection leads first: to the proxy, where there is one. Raises `UpstreamFailure`."""
        proxy = self._proxy_for(origin)
        return _proxy_origin(proxy) if proxy else origin

    def put(self, connection: Connection) -> None:
        """Keep a connection whose answer came whole, or that nobody used."""
        if not connection.usable:
            return
        lane = self._lanes[connection.origin]
        connection.idle_since = self._loop.time()
        while lane.waiters:
            waiter = lane.waiters.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return
        if self._closed or len(lane.idle) >= self._settings.max_idle:
            connection.close()
            return
        lane.idle.append(connection)
        if self._sweep is None:
            self._sweep = self._loop.call_later(self._settings.keep_alive, self._close_old)

    def forget(self, connection: Connection) -> None:
        """Let go of a connection that is lost."""
        lane = self._lanes[connection.origin]
        if connection in lane.idle:
            lane.idle.remove(connection)
        if connection.counted:
            connection.counted = False
            self._give_up(lane)

    def close(self) -> None:
        """Close all idle connections, and keep none from now on."""
        self._closed = True
        if self._sweep is not None:
            self._sweep.cancel()
        for lane in self._lanes.values():
            for connection in lane.idle:
                connection.close()

    async def _wait(self, lane: _Lane) -> Connection | None:
        """Wait for a connection, or for the right (None) to open one, which counts as live already."""
        waiter = self._loop.create_future()
        lane.waiters.append(waiter)
        try:
            freed: Connection | None = await waiter
        except asyncio.CancelledError:
            if waiter in lane.waiters:
                lane.waiters.remove(waiter)
            elif not waiter.cancelled():  # it was served, too late
                served: Connection | None = waiter.result()
                self._give_up(lane) if served is None else self.put(served)
            raise
        return freed

    def _give_up(self, lane: _Lane) -> None:
        """Pass the right to a connection on to who waits for it, or drop it."""
        while lane.waiters:
            waiter = lane.waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        lane.live -= 1

    def _close_old(self) -> None:
        self._sweep = None
        oldest = self._loop.time() - self._settings.keep_alive
        left = False
        for lane in self._lanes.values():
            for connection in [one for one in lane.idle if one.idle_since <= oldest]:
                lane.idle.remove(connection)
                connection.close()
            left = left or bool(lane.idle)
        if left:
            self._sweep = self._loop.call_later(self._settings.keep_alive, self._close_old)

    async def _open(self, origin: Origin) -> Connection:
        loop = self._loop
        proxy = self._proxy_for(origin)
        target = _proxy_origin(proxy) if proxy else origin
        sock = await _dial(loop, target)
        connection = Connection(self, origin)
        try:
            if proxy and origin.scheme == "https":
                await _tunnel(loop, sock, origin, proxy)
            elif proxy:
                connection.through_proxy = f"http://{origin.authority}"
                connection.proxy_headers = _proxy_authorization(proxy)
                connection.secrets = _proxy_secrets(proxy)
            tls = self._tls_context() if origin.scheme == "https" else None
            await loop.create_connection(
                lambda: connection, sock=sock, ssl=tls, server_hostname=origin.host if tls else None
            )
        except BaseException:
            sock.close()
            raise
        return connection

    def _tls_context(self) -> ssl.SSLContext:
        if self._tls is None:
            tls = ssl.create_default_context(cafile=self._settings.ca_file)
            tls.set_alpn_protocols(["http/1.1"])
            if not self._settings.verify:
                tls.check_hostname = False
                tls.verify_mode = ssl.CERT_NONE
            self._tls = tls
        return self._tls

    def _proxy_for(self, origin: Origin) -> str | None:
        if self._settings.proxy:
            return self._settings.proxy
        if not self._settings.proxy_from_environment or _bypasses_proxy(origin):
            return None
        proxy = urllib.request.getproxies().get(origin.scheme)
        return f"http://{proxy}" if proxy and "://" not in proxy else proxy


async def _dial(loop: asyncio.AbstractEventLoop, target: Origin) -> socket.socket:
    """Open a socket to the first of the host's addresses that answers (RFC 8305)."""
    infos = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    try:
        sock = await aiohappyeyeballs.start_connection(infos, happy_eyeballs_delay=0.25, loop=loop)
    except OSError as error:
        code = errno.errorcode.get(error.errno or 0, "no address answers")  # the text says where, not why
        raise UpstreamFailure(f"{code}: {_words(error)}") from error
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _bypasses_proxy(origin: Origin) -> bool:
    """Whether `NO_PROXY` names the host, alone or with its port."""
    names = {origin.host, origin.authority, f"{origin.host}:{origin.port}"}
    return any(urllib.request.proxy_bypass(name) for name in names)


def _proxy_origin(proxy: str) -> Origin:
    scheme = proxy.partition("://")[0]
    if scheme != "http":  # the URL stays unsaid: it may hold a password
        raise UpstreamFailure(f"a proxy is spoken to by plain http://, not {scheme[:20]}://")
    try:
        return Origin.of(proxy)
    except (ConfigError, ValueError):
        raise UpstreamFailure("the proxy's URL cannot be read") from None


async def _tunnel(loop: asyncio.AbstractEventLoop, sock: socket.socket, origin: Origin, proxy: str) -> None:
    """Ask an HTTP proxy for a tunnel (RFC 9110, section 9.3.6)."""
    address = f"{f'[{origin.host}]' if ':' in origin.host else origin.host}:{origin.port}".encode("ascii")
    request = b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (address, address, _proxy_authorization(proxy))
    await loop.sock_sendall(sock, request)
    answer = bytearray()
    while not answer.endswith(b"\r\n\r\n"):
        # Byte by byte: what follows the head is TLS, and must stay in the socket.
        byte = await loop.sock_recv(sock, 1)
        if not byte:
            raise UpstreamFailure("the proxy closed the connection")
        answer += byte
        if len(answer) > MAX_HEAD_BYTES:
            raise UpstreamFailure(f"the proxy sent a head over {MAX_HEAD_BYTES} bytes")
    version, _, status = bytes(answer.partition(b"\r\n")[0]).partition(b" ")
    if not version.startswith(b"HTTP/") or not status.startswith(b"2"):
        words = redact((status or version).decode("latin-1"), _proxy_secrets(proxy))
        raise UpstreamFailure(f"the proxy refused: {words[:100]}")


def _proxy_authorization(proxy: str) -> bytes:
    pair = _proxy_credentials(proxy)
    return b"Proxy-Authorization: Basic %b\r\n" % base64.b64encode(pair.encode()) if pair else b""


def _proxy_credentials(proxy: str) -> str:
    """Return name and password of a proxy's URL, with a colon between them, or the empty string."""
    parts = urlsplit(proxy)
    return "" if parts.username is None else f"{unquote(parts.username)}:{unquote(parts.password or '')}"


def _proxy_secrets(proxy: str) -> tuple[str, ...]:
    """Return what must not be heard again of what a proxy is sent: the pair as it goes out, and the password.

    Bytes as Latin-1, like all that is read from a header.
    """
    pair = _proxy_credentials(proxy).encode()
    return worth_hiding(base64.b64encode(pair).decode(), pair.partition(b":")[2].decode("latin-1"))


def _words(error: BaseException) -> str:
    """Return an error's own words: no addresses of memory, no class names where there is text."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
