"""HTTP in: what a handler sees of a request, and the exact bytes that its answer becomes, on real sockets."""

import asyncio
import gc
import gzip
import socket
import struct
import zlib
from contextlib import asynccontextmanager, suppress

import pytest
from hang_kit import both_loops
from waiting_kit import until

from aibridge.clientconnection import ClientConnection
from aibridge.clientstream import ClientStream
from aibridge.decompression import zstd
from aibridge.errors import RequestRejected
from aibridge.headers import less_upgrade
from aibridge.server import Server

PATIENCE = 20.0
JSON = (b"content-type", b"application/json")
GET = b"GET / HTTP/1.1\r\nhost: h\r\n\r\n"


class Listener:
    """Keeps what a client does while its answer is under way."""

    def __init__(self):
        self.told = []
        self.news = asyncio.Event()

    def client_lost(self):
        self._tell("lost")

    def client_paused(self):
        self._tell("paused")

    def client_resumed(self):
        self._tell("resumed")

    def _tell(self, what):
        self.told.append(what)
        self.news.set()

    async def until(self, what):
        async with asyncio.timeout(PATIENCE):
            while what not in self.told:
                self.news.clear()
                await self.news.wait()


class Client:
    """A client over a plain socket."""

    def __init__(self, port, receive_buffer=None):
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.setblocking(False)  # noqa: FBT003 - the signature is the system's
        self.port = port
        self.buffer = b""

    async def __aenter__(self):
        try:
            await asyncio.get_running_loop().sock_connect(self.socket, ("127.0.0.1", self.port))
        except OSError:
            self.socket.close()
            raise
        return self

    async def __aexit__(self, *_):
        self.socket.close()

    async def send(self, data):
        await asyncio.get_running_loop().sock_sendall(self.socket, data)

    async def read_until(self, marker):
        """Return what came up to and with the marker."""
        while marker not in self.buffer:
            assert await self._more(), f"closed before {marker!r}: {self.buffer!r}"
        head, _, self.buffer = self.buffer.partition(marker)
        return head + marker

    async def rest(self):
        """Return what comes until the end of the connection."""
        with suppress(ConnectionResetError):
            while await self._more():
                pass
        data, self.buffer = self.buffer, b""
        return data

    async def _more(self):
        async with asyncio.timeout(PATIENCE):
            data = await asyncio.get_running_loop().sock_recv(self.socket, 1 << 20)
        self.buffer += data
        return data

    def finish(self):
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


@asynccontextmanager
async def serving(handler, *, receive_buffer=None, **more):
    """A server with one handler, and a client connected to it."""
    server = Server(handler, **more)
    port = await server.listen("127.0.0.1", 0)
    try:
        async with Client(port, receive_buffer) as client:
            yield server, client
    finally:
        await server.close()


async def read_body(stream, limit):
    await stream.wait_for_body(limit)
    return stream.body(limit)


async def say_ok(stream):
    stream.respond(200, (), b"ok")


OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


# requests


@both_loops
async def test_what_a_handler_sees():
    seen = []

    async def handler(stream):
        seen.append((stream.method, stream.path, stream.query, stream.headers, await read_body(stream, 100)))
        assert stream.header(b"x-one") == b"a"
        assert stream.header(b"x-none") is None
        stream.respond(200, (), b"ok")

    async with serving(handler) as (_, client):
        await client.send(
            b"POST /a%2Fb//c?d=%20&e?f HTTP/1.1\r\nHost: Gateway\r\nX-One: a\r\nx-one: B\r\nX-Bytes: \xe9\xff\r\n"
            b"Content-Length: 3\r\n\r\nabc"
        )
        await client.read_until(OK)
    headers = (
        (b"host", b"Gateway"),
        (b"x-one", b"a"),
        (b"x-one", b"B"),
        (b"x-bytes", b"\xe9\xff"),
        (b"content-length", b"3"),
    )
    assert seen == [("POST", "/a%2Fb//c", "d=%20&e?f", headers, b"abc")]


@both_loops
async def test_one_connection_takes_many_requests_also_at_once():
    async def handler(stream):
        stream.respond(200, (), stream.path.encode())

    async with serving(handler) as (_, client):
        for path in (b"/one", b"/two"):
            await client.send(b"GET %b HTTP/1.1\r\nhost: h\r\n\r\n" % path)
            assert (await client.read_until(path)).endswith(b"content-length: 4\r\n\r\n" + path)
        await client.send(b"".join(b"GET /%d HTTP/1.1\r\nhost: h\r\n\r\n" % number for number in range(3)))
        for number in range(3):
            await client.read_until(b"\r\n\r\n/%d" % number)


MALFORMED = {
    "no HTTP": b"hello\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "header without a colon": b"GET / HTTP/1.1\r\nhost: h\r\nbroken\r\n\r\n",
    "blank before the colon": b"GET / HTTP/1.1\r\nhost : h\r\n\r\n",
    "line break in a value": b"GET / HTTP/1.1\r\nhost: h\r\nx: a\rb\r\n\r\n",
    "NUL in a value": b"GET / HTTP/1.1\r\nhost: h\r\nx: a\0b\r\n\r\n",
    "length of letters": b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: x\r\n\r\n",
    "negative length": b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: -1\r\n\r\n",
    "signed length": b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: +1\r\n\r\nx",
    "two lengths": b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx",
    "length and chunks": b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 1\r\n"
                         b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks not last": b"POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "endless line": b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n",
    "endless header": b"GET / HTTP/1.1\r\nhost: h\r\nx: " + b"x" * 200_000 + b"\r\n\r\n",
}  # fmt: skip


@pytest.mark.parametrize("raw", MALFORMED.values(), ids=MALFORMED)
@both_loops
async def test_malformed_requests_never_reach_a_handler(raw):
    seen = []

    async def handler(stream):
        seen.append(stream.path)
        stream.respond(200, (), b"ok")

    async with serving(handler) as (server, client):
        with suppress(ConnectionError):
            await client.send(raw)
            client.finish()
        answer = await client.rest()
        assert answer == b"" or answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 "))
        assert b"Traceback" not in answer
        assert seen == []
        async with Client(server._listening[0].sockets[0].getsockname()[1]) as other:
            await other.send(GET)
            await other.read_until(OK)


# bodies


def post(body, *headers):
    lines = [b"POST / HTTP/1.1", b"host: h", *headers]
    if not any(line.startswith((b"transfer-encoding", b"content-length")) for line in headers):
        lines.append(b"content-length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


CHUNKS = b"transfer-encoding: chunked"
PLAIN = b'{"text":"' + b"x" * 500 + b'"}'


def windowed(body, log):
    """Return a body as Zstandard whose reader is to keep a window of 2 ** `log` bytes."""
    wide = {zstd.CompressionParameter.window_log: log, zstd.CompressionParameter.content_size_flag: 0}
    compressor = zstd.ZstdCompressor(options=wide)
    return compressor.compress(body) + compressor.flush()


@pytest.mark.parametrize(
    "raw",
    [
        post(PLAIN),
        post(b"%x\r\n%b\r\n0\r\n\r\n" % (len(PLAIN), PLAIN), CHUNKS),
        post(b"".join(b"1\r\n%c\r\n" % byte for byte in PLAIN) + b"0\r\nx-trailer: 1\r\n\r\n", CHUNKS),
        post(gzip.compress(PLAIN), b"content-encoding: gzip"),
        post(zlib.compress(PLAIN), b"content-encoding: deflate"),
        post(zstd.compress(PLAIN), b"content-encoding: zstd"),
        post(windowed(PLAIN, 23), b"content-encoding: zstd"),
    ],
    ids=["length", "chunk", "chunks", "gzip", "deflate", "zstd", "zstd of 8 MiB"],
)
@both_loops
async def test_bodies(raw):
    bodies = []

    async def handler(stream):
        bodies.append(await read_body(stream, len(PLAIN)))
        assert stream.body_complete
        stream.respond(200, (), b"ok")

    async with serving(handler) as (_, client):
        await client.send(raw)
        await client.read_until(OK)
        await client.send(raw)
        await client.read_until(OK)
    assert bodies == [PLAIN] * 2


class Refusing:
    """A handler that reads a body, and answers with how that was refused."""

    def __init__(self):
        self.refused = []
        self.begun = asyncio.Event()
        self.done = asyncio.Event()

    async def __call__(self, stream):
        self.begun.set()
        try:
            await read_body(stream, 100)
        except RequestRejected as rejection:
            self.refused.append((rejection.reason, rejection.status))
            assert not stream.reusable
            if not stream.lost:
                stream.respond(rejection.status, (), b"no")
        finally:
            self.done.set()


NO = b"HTTP/1.1 %d %b\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno"
TOO_LARGE = {
    "length": post(b"x" * 101),
    "announced": post(b"", b"content-length: 1000000000000"),
    "chunk": post(b"65\r\n" + b"x" * 101 + b"\r\n0\r\n\r\n", CHUNKS),
    "endless chunks": post(b"10\r\n%b\r\n" % (b"x" * 16) * 10, CHUNKS),
    "gzip bomb": post(gzip.compress(b"x" * 1_000_000), b"content-encoding: gzip"),
    "zstd bomb": post(zstd.compress(b"x" * 1_000_000), b"content-encoding: zstd"),
    "expecting to be asked": post(b"", b"content-length: 101", b"expect: 100-continue"),
}


@pytest.mark.parametrize("raw", TOO_LARGE.values(), ids=TOO_LARGE)
@both_loops
async def test_a_body_over_the_limit_is_refused(raw):
    handler = Refusing()
    async with serving(handler) as (_, client):
        await client.send(raw)
        answer = await client.read_until(b"\r\n\r\nno")
        assert answer.split(b" ")[1] == b"413"
        assert b"connection: close" in answer
        assert b"100 Continue" not in answer
    assert handler.refused == [("too_large", 413)]


BROKEN = {
    "no gzip": (post(b"", b"content-encoding: gzip", b"content-length: 10"), b"x" * 10),
    "no zstd": (post(b"", b"content-encoding: zstd", b"content-length: 10"), b"x" * 10),
    "a window over 8 MiB": (post(b"", b"content-encoding: zstd", b"content-length: 12"), windowed(b"abc", 24)),
    "no deflate": (post(b"", b"content-encoding: deflate", b"content-length: 10"), b"\xff" * 10),
    "chunk size": (post(b"3\r\nabc\r\n", CHUNKS), b"ZZ\r\n"),
    "chunk end": (post(b"3\r\nabc\r\n", CHUNKS), b"3\r\nabcdef\r\n"),
}


@pytest.mark.parametrize(("first", "rest"), BROKEN.values(), ids=BROKEN)
@both_loops
async def test_a_body_that_breaks_while_it_is_read_is_refused_at_once(first, rest, caplog):
    handler = Refusing()
    async with serving(handler) as (_, client):
        await client.send(first)
        async with asyncio.timeout(PATIENCE):
            await handler.begun.wait()
        await client.send(rest)
        assert await client.rest() == NO % (400, b"Bad Request")
    assert handler.refused == [("request_incomplete", 400)]
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("leave", [Client.finish, Client.reset], ids=["FIN", "RST"])
@pytest.mark.parametrize(
    "raw", [post(b"abc", b"content-length: 5"), post(b"5\r\nabc", CHUNKS)], ids=["length", "chunk"]
)
@both_loops
async def test_a_client_that_leaves_inside_its_body(raw, leave):
    handler = Refusing()
    async with serving(handler) as (_, client):
        await client.send(raw)
        async with asyncio.timeout(PATIENCE):
            await handler.begun.wait()
            leave(client)
            await handler.done.wait()
    assert handler.refused == [("request_incomplete", 400)]


@both_loops
async def test_who_asks_before_sending_is_told_to_go_on():
    bodies = []

    async def handler(stream):
        bodies.append(await read_body(stream, 100))
        stream.respond(200, (), b"ok")

    async with serving(handler) as (_, client):
        await client.send(post(b"", b"content-length: 3", b"expect: 100-continue"))
        assert await client.read_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(b"abc")
        await client.read_until(OK)
    assert bodies == [b"abc"]


# answers


@both_loops
async def test_a_whole_answer_to_the_byte():
    async def handler(stream):
        stream.respond(404, (JSON, (b"x", b"1"), (b"x", b"\xe9")), b"{}")

    async with serving(handler) as (_, client):
        await client.send(GET)
        assert await client.read_until(b"{}") == (
            b"HTTP/1.1 404 Not Found\r\n"
            b"content-type: application/json\r\nx: 1\r\nx: \xe9\r\ncontent-length: 2\r\n\r\n{}"
        )


@both_loops
async def test_a_stream_to_the_byte():
    async def handler(stream):
        stream.start(200, (JSON,))
        assert stream.started
        stream.write(b"abc")
        stream.write(b"x" * 20)
        assert not stream.ended
        stream.end(b"last")
        assert stream.ended

    async with serving(handler) as (_, client):
        for _ in range(2):
            await client.send(GET)
            head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
            answer = await client.read_until(b"0\r\n\r\n")
            assert answer == head + b"3\r\nabc\r\n14\r\n" + b"x" * 20 + b"\r\n4\r\nlast\r\n0\r\n\r\n"


@both_loops
async def test_a_stream_may_end_without_more():
    async def handler(stream):
        stream.start(200, ())
        stream.end()

    async with serving(handler) as (_, client):
        await client.send(GET)
        assert (
            await client.read_until(b"0\r\n\r\n") == b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
        )


@both_loops
async def test_an_answer_of_known_size_in_pieces():
    async def handler(stream):
        stream.begin_sized(200, (), 5)
        stream.write(b"abcd")
        stream.end(b"e")

    async with serving(handler) as (_, client):
        await client.send(GET)
        assert await client.read_until(b"abcde") == b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabcde"


@pytest.mark.parametrize("bad", [b"a\r\nx-forged: 1", b"a\nb", b"a\rb", b"a\0b", b"\r\n\r\n<html>"])
@both_loops
async def test_a_value_that_would_forge_a_header_is_dropped(bad):
    async def handler(stream):
        stream.respond(200, ((b"x-bad", bad), (b"x-good", b"1")), b"ok")

    async with serving(handler) as (_, client):
        await client.send(GET)
        assert await client.read_until(b"ok") == b"HTTP/1.1 200 OK\r\nx-good: 1\r\ncontent-length: 2\r\n\r\nok"


@both_loops
async def test_head_gets_no_body():
    async def handler(stream):
        stream.respond(200, (), b"a body")

    async with serving(handler) as (_, client):
        await client.send(GET.replace(b"GET", b"HEAD"))
        assert await client.read_until(b"\r\n\r\n") == b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n"
        await client.send(GET)
        assert (await client.read_until(b"a body")).startswith(b"HTTP/1.1 200 OK\r\n"), "nothing came in between"


@both_loops
async def test_a_status_that_python_does_not_know():
    async def handler(stream):
        stream.respond(529, (), b"ok")

    async with serving(handler) as (_, client):
        await client.send(GET)
        assert await client.read_until(b"ok") == b"HTTP/1.1 529 \r\ncontent-length: 2\r\n\r\nok"


@pytest.mark.parametrize(
    ("version", "connection", "said", "closes"),
    [
        (b"1.1", b"", b"", False),
        (b"1.1", b"connection: keep-alive\r\n", b"", False),
        (b"1.1", b"connection: close\r\n", b"connection: close\r\n", True),
        (b"1.1", b"connection: foo, Close\r\n", b"connection: close\r\n", True),
        (b"1.0", b"", b"connection: close\r\n", True),
        (b"1.0", b"connection: keep-alive\r\n", b"connection: keep-alive\r\n", False),
    ],
)
@both_loops
async def test_whether_the_connection_is_kept(version, connection, said, closes):
    request = b"GET / HTTP/%b\r\nhost: h\r\n%b\r\n" % (version, connection)
    expected = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n" + said + b"\r\nok"
    async with serving(say_ok) as (_, client):
        await client.send(request)
        if closes:
            assert await client.rest() == expected
        else:
            assert await client.read_until(b"ok") == expected
            await client.send(request)
            assert await client.read_until(b"ok") == expected


@pytest.mark.parametrize("connection", [b"", b"connection: keep-alive\r\n"])
@both_loops
async def test_a_stream_for_http_1_0_ends_with_its_connection(connection):
    async def handler(stream):
        stream.start(200, ())
        stream.write(b"abc")
        stream.end(b"def")

    async with serving(handler) as (_, client):
        await client.send(b"GET / HTTP/1.0\r\n%b\r\n" % connection)
        assert await client.rest() == b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nabcdef"


@both_loops
async def test_a_draining_server_closes_behind_each_answer():
    async with serving(say_ok) as (server, client):
        await client.send(GET)
        assert await client.read_until(b"ok") == OK
        server.draining = True
        await client.send(GET)
        assert await client.rest() == b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok"


# handlers that fail


@both_loops
async def test_a_handler_that_raises_cuts_the_connection_and_hurts_no_other(caplog):
    async def handler(stream):
        if stream.path == "/bad":
            stream.start(200, ())
            stream.write(b"half")
            raise ValueError("a bug")
        stream.respond(200, (), b"ok")

    async with serving(handler) as (server, client):
        async with Client(client.port) as bad:
            await bad.send(GET.replace(b"/ ", b"/bad "))
            assert not (await bad.rest()).endswith(b"0\r\n\r\n")
        await client.send(GET)
        await client.read_until(OK)
        assert not server.draining
    assert "a handler failed" in caplog.text


@both_loops
async def test_a_handler_that_forgets_the_end_cuts_the_connection():
    async def handler(stream):
        stream.start(200, ())
        stream.write(b"half")

    async with serving(handler) as (_, client):
        await client.send(GET)
        assert b"0\r\n\r\n" not in await client.rest()


@both_loops
async def test_abort_throws_away_what_waits():
    async def handler(stream):
        stream.begin_sized(200, (), 50_000_000)
        stream.write(b"x" * 50_000_000)
        assert stream.unsent_bytes
        stream.abort()
        stream.write(b"more")

    async with serving(handler, receive_buffer=4096) as (_, client):
        await client.send(GET)
        assert len(await client.rest()) < 50_000_000


# clients that leave, and that do not read


class Held:
    """A handler that starts an answer, and then lets the test act on its stream."""

    def __init__(self):
        self.stream = None
        self.listener = Listener()
        self.begun = asyncio.Event()
        self.go = asyncio.Event()

    async def __call__(self, stream):
        self.stream = stream
        stream.listener = self.listener
        stream.start(200, ())
        self.begun.set()
        await self.go.wait()
        stream.listener = None
        if not stream.lost:
            stream.end()

    @asynccontextmanager
    async def serving(self, **more):
        async with serving(self, **more) as (server, client):
            await client.send(GET)
            async with asyncio.timeout(PATIENCE):
                await self.begun.wait()
            try:
                yield server, client
            finally:
                self.go.set()


@pytest.mark.parametrize("leave", [Client.finish, Client.reset], ids=["FIN", "RST"])
@both_loops
async def test_a_client_that_leaves_is_noticed_once_while_nothing_is_written(leave):
    held = Held()
    async with held.serving() as (_, client):
        leave(client)
        await held.listener.until("lost")
        assert held.stream.lost
        held.stream.connection_lost()
        for _ in range(5):
            await asyncio.sleep(0)
        assert held.listener.told == ["lost"]
        held.stream.write(b"into the void")
        held.stream.abort()


@both_loops
async def test_leaving_is_kept_where_nobody_listens_yet():
    held = Held()
    async with held.serving() as (_, client):
        held.stream.listener = None
        client.finish()
        await until(lambda: held.stream.lost, pause=0)
        assert held.listener.told == []


@both_loops
async def test_a_client_that_does_not_read_pauses_and_resumes():
    held = Held()
    size, pieces = 100_000, 200
    async with held.serving(buffer_bytes=200_000, receive_buffer=4096) as (_, client):
        written = 0
        while "paused" not in held.listener.told and written < pieces:
            held.stream.write(b"x" * size)
            written += 1
        assert held.listener.told == ["paused"]
        assert held.stream.unsent_bytes
        await client.read_until(b"\r\n\r\n")
        expected = (b"%x\r\n" % size + b"x" * size + b"\r\n") * written
        while len(client.buffer) < len(expected):
            assert await client._more()
        await held.listener.until("resumed")
        assert client.buffer == expected
        assert held.listener.told == ["paused", "resumed"]


@both_loops
async def test_below_the_high_water_mark_nobody_is_told():
    held = Held()
    async with held.serving(buffer_bytes=50_000_000, receive_buffer=4096):
        for _ in range(100):
            held.stream.write(b"x" * 100_000)
        assert held.stream.unsent_bytes
        assert held.listener.told == []


@both_loops
async def test_await_drain_tells_at_once_and_when_all_is_gone():
    held = Held()
    async with held.serving(buffer_bytes=50_000_000, receive_buffer=4096) as (_, client):
        for _ in range(100):
            held.stream.write(b"x" * 30_000)
        held.stream.await_drain()
        assert held.listener.told == ["paused"], "at once: also far below the mark"
        while "resumed" not in held.listener.told:
            assert await client._more()
        assert not held.stream.unsent_bytes
        assert held.listener.told == ["paused", "resumed"]
        held.stream.restore_limits()
        for _ in range(100):
            held.stream.write(b"x" * 100_000)
        assert held.listener.told == ["paused", "resumed"], "the ordinary mark holds again"


@both_loops
async def test_await_drain_tells_nothing_where_nothing_waits():
    held = Held()
    async with held.serving() as (_, client):
        await client.read_until(b"\r\n\r\n")
        assert not held.stream.unsent_bytes
        held.stream.await_drain()
        assert held.listener.told == []


@both_loops
async def test_closing_the_server_ends_idle_connections():
    async with serving(say_ok) as (server, client):
        await client.send(GET)
        await client.read_until(OK)
        await server.close()
        assert await client.rest() == b""
        with pytest.raises(ConnectionError):
            async with Client(client.port):
                pass


# what hostile clients tried


class Kept:
    """A handler that answers `/kept` when the test says so, and anything else with its path and body at once."""

    def __init__(self):
        self.seen = []
        self.stream = None
        self.listener = Listener()
        self.begun = asyncio.Event()

    async def __call__(self, stream):
        self.seen.append(stream.path)
        if stream.path == "/kept":
            self.stream, stream.listener = stream, self.listener
            self.begun.set()
            return
        stream.respond(200, (), await read_body(stream, 1 << 20))

    async def until_begun(self):
        async with asyncio.timeout(PATIENCE):
            await self.begun.wait()

    def answer(self):
        self.stream.listener = None
        self.stream.respond(200, (), b"kept")


KEPT = GET.replace(b"/ ", b"/kept ")


def connection_of(server):
    (connection,) = server._connections
    return connection


@both_loops
async def test_what_comes_as_an_answer_ends_stays_behind_what_was_held():
    kept = Kept()
    async with serving(kept) as (server, client):
        await client.send(KEPT)
        await kept.until_begun()
        await client.send(b"GET /held HTTP/1.1\r\nho")
        await until(lambda: connection_of(server)._held, pause=0)
        client.socket.send(b"st: h\r\n\r\n")  # read in the turn of the loop in which the answer ends
        asyncio.get_running_loop().call_soon(kept.answer)
        await client.read_until(b"kept")
        await client.read_until(b"content-length: 0\r\n\r\n")
    assert kept.seen == ["/kept", "/held"]


@both_loops
async def test_a_body_that_is_all_there_before_the_handler_runs_comes_whole():
    bodies = []

    async def handler(stream):
        bodies.append(await read_body(stream, 1 << 26))
        stream.respond(200, (), b"ok")

    async with serving(handler) as (server, _):
        server._listening[0].sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        body = bytes(range(256)) * 12_000
        async with Client(server._listening[0].sockets[0].getsockname()[1]) as client:
            raw = post(body)
            sent = client.socket.send(raw)  # the server has no turn of the loop meanwhile
            await client.send(raw[sent:])
            await client.read_until(OK)
    assert bodies == [body]


UPGRADE = b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n"
H2C = b"POST /h2c HTTP/1.1\r\nhost: h\r\n" + UPGRADE + b"content-length: 3\r\n\r\nabc"
H2C_CHUNKS = (
    b"POST /h2c HTTP/1.1\r\nhost: h\r\n"
    + UPGRADE
    + b"transfer-encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nt: 1\r\n\r\n"
)
WEBSOCKET = b"GET /ws HTTP/1.1\r\nhost: h\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n"
SEQUENCE = H2C + GET.replace(b"/ ", b"/get ") + WEBSOCKET + H2C_CHUNKS + GET.replace(b"/ ", b"/last ")


@pytest.mark.parametrize("step", [1, 2, 3, 7, 50, len(SEQUENCE)])
@both_loops
async def test_requests_are_the_same_however_they_are_cut(step):
    seen = []

    async def handler(stream):
        body = await read_body(stream, 100)
        assert b"upgrade" not in (stream.header(b"connection") or b"").lower()
        seen.append((stream.path, body, stream.header(b"upgrade")))
        stream.respond(200, (), b"ok")

    async with serving(handler) as (server, client):
        await until(lambda: server._connections, pause=0)
        connection = connection_of(server)
        for at in range(0, len(SEQUENCE), step):
            connection.data_received(SEQUENCE[at : at + step])
            await asyncio.sleep(0)
        for _ in range(5):
            await client.read_until(OK)
    assert seen == [
        ("/h2c", b"abc", b"h2c"),
        ("/get", b"", None),
        ("/ws", b"", b"websocket"),
        ("/h2c", b"abc", b"h2c"),
        ("/last", b"", None),
    ]


@pytest.mark.parametrize(
    ("connection", "left"),
    [
        (b"Upgrade", b""),
        (b"keep-alive, Upgrade", b"keep-alive"),
        (b"UPGRADE,close", b"close"),
        (b"upgrade , http2-settings", b" http2-settings"),
        (b"x-upgrade", b""),
        (b"close", b"close"),
    ],
)
def test_no_parser_finds_an_upgrade_again(connection, left):
    headers = [(b"upgrade", b"websocket"), (b"connection", connection), (b"host", b"upgrade")]
    assert list(less_upgrade(headers)) == [(b"upgrade", b"websocket"), (b"connection", left), (b"host", b"upgrade")]


@pytest.mark.parametrize("request_", [GET, WEBSOCKET], ids=["plain", "upgrade"])
@pytest.mark.parametrize("count", [2, 64, 65, 3000])
@both_loops
async def test_many_requests_in_one_piece(request_, count, caplog):
    async with serving(say_ok) as (server, client):
        await until(lambda: server._connections, pause=0)
        connection_of(server).data_received(request_ * count)
        if count <= 64:
            for _ in range(count):
                await client.read_until(OK)
        else:
            assert await client.rest() == OK.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")
    assert not caplog.records


@both_loops
async def test_a_full_answer_reaches_a_client_that_sends_on_behind_it():
    kept = Kept()
    async with serving(kept) as (server, client):
        sending = asyncio.create_task(client.send(KEPT + post(b"x" * 30_000_000)))
        await kept.until_begun()
        await until(lambda: not kept.stream.reusable, pause=0)
        assert len(connection_of(server)._held) == 0
        kept.answer()
        await sending
        client.finish()
        assert await client.rest() == b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\nkept"
    assert kept.seen == ["/kept"]


@both_loops
async def test_a_malformed_request_is_told_so_also_where_its_client_sends_on():
    async with serving(say_ok) as (_, client):
        await client.send(b"\0")
        assert (await client.read_until(b"{}")).startswith(b"HTTP/1.1 400 ")
        await client.send(b"x" * 1_000_000)
        client.finish()
        assert await client.rest() == b""


@pytest.mark.parametrize(
    "raw",
    [
        b"GET / HTTP/2.0\r\nhost: h\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /\r\n\r\n",
        b"POST / HTTP/1.0\r\nconnection: keep-alive\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: h\r\n folded\r\n\r\n",
        b"CONNECT h:1 HTTP/1.1\r\nhost: h\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"a:\r\n" * 20_000 + b"\r\n",
    ],
)
@pytest.mark.parametrize("step", [1, 1 << 20])
@both_loops
async def test_what_is_refused_however_it_is_cut(raw, step):
    seen = []
    async with serving(seen.append) as (server, client):
        await until(lambda: server._connections, pause=0)
        connection = connection_of(server)
        for at in range(0, len(raw), step):
            connection.data_received(raw[at : at + step])
        assert (await client.read_until(b"{}")).startswith(b"HTTP/1.1 400 ")
    assert seen == []


@pytest.mark.parametrize(("size", "status"), [(65_535, b"200"), (65_536, b"200"), (65_537, b"400")])
@pytest.mark.parametrize("step", [1000, 1 << 20])
@both_loops
async def test_the_bound_of_a_head(size, status, step):
    raw = b"GET / HTTP/1.1\r\nx:%b\r\n\r\n" % (b"y" * (size - len(b"/x:\r\n")))
    async with serving(say_ok) as (server, client):
        await until(lambda: server._connections, pause=0)
        connection = connection_of(server)
        for at in range(0, len(raw), step):
            connection.data_received(raw[at : at + step])
        assert (await client.read_until(b"\r\n\r\n")).split(b" ")[1] == status


@both_loops
async def test_a_target_as_for_a_proxy():
    kept = Kept()
    async with serving(kept) as (_, client):
        for target in (b"http://h:1/a/b", b"HTTPS://h", b"*", b"ftp://h/a"):
            await client.send(b"OPTIONS %b HTTP/1.1\r\nhost: h\r\n\r\n" % target)
            await client.read_until(b"\r\n\r\n")
    assert kept.seen == ["/a/b", "/", "*", "ftp://h/a"]


@pytest.mark.parametrize(("encoding", "compress"), [(b"gzip", gzip.compress), (b"zstd", zstd.compress)])
@pytest.mark.parametrize("more", [False, True], ids=["garbage", "member"])
@both_loops
async def test_what_stands_behind_a_compressed_body_is_not_dropped_in_silence(encoding, compress, more):
    handler = Refusing()
    behind = compress(b"more") if more else b"garbage"
    async with serving(handler) as (_, client):
        await client.send(post(compress(b"abc") + behind, b"content-encoding: " + encoding))
        await client.read_until(NO % (400, b"Bad Request"))


@both_loops
async def test_a_client_of_http_1_0_is_not_told_to_go_on():
    kept = Kept()
    async with serving(kept) as (_, client):
        await client.send(b"POST / HTTP/1.0\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n")
        await until(lambda: kept.seen, pause=0)
        await client.send(b"abc")
        assert (await client.rest()).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("said", [b"", b"connection: close\r\n"], ids=["FIN", "close"])
@both_loops
async def test_a_client_that_takes_nothing_of_its_last_answer_is_cut_off(said, monkeypatch):
    monkeypatch.setattr("aibridge.clientconnection.LINGER_SECONDS", 0.05)
    size = 20_000_000

    async def handler(stream):
        stream.respond(200, (), b"x" * size)

    async with serving(handler, receive_buffer=4096, stall=0.1, buffer_bytes=2 * size) as (server, client):
        await client.send(b"GET / HTTP/1.1\r\nhost: h\r\n%b\r\n" % said)
        await until(lambda: server._connections, pause=0)
        if not said:
            client.finish()
        await until(lambda: not server._connections, pause=0)


@both_loops
async def test_a_client_that_reads_slowly_gets_all_behind_the_end(monkeypatch):
    monkeypatch.setattr("aibridge.clientconnection.LINGER_SECONDS", 0.05)
    size = 5_000_000

    async def handler(stream):
        stream.respond(200, (), b"x" * size)

    async with serving(handler, receive_buffer=65_536, stall=0.3, buffer_bytes=2 * size) as (_, client):
        await client.send(b"GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n")
        await client.read_until(b"\r\n\r\n")
        while await client._more():  # noqa: ASYNC110 - see below
            await asyncio.sleep(0.005)  # the slowness is the input
        assert client.buffer == b"x" * size


@both_loops
async def test_closing_ends_every_handler():
    cancelled, begun = [], asyncio.Event()

    async def handler(stream):
        try:
            if stream.path == "/first":
                stream.respond(200, (), b"ok")  # the connection goes on, this handler too
            else:
                begun.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(stream.path)
            raise

    async with serving(handler) as (server, client):
        await client.send(GET.replace(b"/ ", b"/first ") + GET.replace(b"/ ", b"/second "))
        async with asyncio.timeout(PATIENCE):
            await begun.wait()
            await server.close()
    assert sorted(cancelled) == ["/first", "/second"]
    assert not server.tasks


@both_loops
async def test_a_connection_that_is_gone_leaves_nothing_to_the_collector():
    def alive():
        return sum(isinstance(thing, ClientConnection | ClientStream) for thing in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        async with serving(say_ok) as (server, first):
            await first.send(GET)
            await first.read_until(OK)
            before = alive()
            for _ in range(5):
                async with Client(first.port) as client:
                    await client.send(GET)
                    await client.read_until(OK)
            await until(lambda: len(server._connections) == 1, pause=0)
            await asyncio.sleep(0)
            assert alive() == before
    finally:
        gc.enable()
