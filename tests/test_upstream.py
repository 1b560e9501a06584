"""HTTP out: the connection byte by byte over a transport made here, and the pool, TLS and proxies on real sockets."""

import asyncio
import base64
import datetime as dt
import functools
import itertools
import socket
import struct
from contextlib import asynccontextmanager, suppress

import httptools
import pytest
import trustme
from hang_kit import both_loops
from hypothesis import example, given, settings
from hypothesis import strategies as st
from waiting_kit import until

from aibridge.errors import ConfigError, UpstreamFailure
from aibridge.lifecycle import Signal
from aibridge.upstream import MAX_HEAD_BYTES, Connection, Origin, Pool, PoolSettings
from aibridge.values import Credential, CredentialKind, UpstreamRequest

PATIENCE = 20.0
OK = b"HTTP/1.1 200 OK\r\n"
SHORT = OK + b"content-length: 2\r\n\r\nhi"
NOBODY = Credential(CredentialKind.CENTRALIZED, "")


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy", "request_method"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def request(method="GET", target="/x", *, body=b"", headers=()):
    return UpstreamRequest(
        method=method,
        origin="http://unused",
        target=target,
        headers=((b"host", b"h"), *headers),
        body=body,
        credential=NOBODY,
    )


class Taker:
    """Takes an answer as the gateway does: keeps what came, and lets go of the connection at its end."""

    def __init__(self, connection, *, releases=True):
        self.connection = connection
        self.releases = releases
        self.told = []
        self.news = asyncio.Event()

    def head_received(self, head):
        self._tell("head", head.status, head.headers)

    def data_received(self, data):
        assert data
        if self.told and self.told[-1][0] == "data":
            self.told[-1] = ("data", self.told[-1][1] + data)
        else:
            self._tell("data", data)

    def body_ended(self):
        self._tell("end")
        if self.releases:
            self.connection.release()

    def upstream_failed(self, signal, error):
        self._tell("failed", signal, error)

    def _tell(self, *fact):
        self.told.append(fact)
        self.news.set()

    @property
    def kinds(self):
        return [fact[0] for fact in self.told]

    @property
    def status(self):
        return next(fact[1] for fact in self.told if fact[0] == "head")

    @property
    def body(self):
        return b"".join(fact[1] for fact in self.told if fact[0] == "data")

    @property
    def failure(self):
        """The signal that the answer failed with; None where it ended well."""
        return self.told[-1][1] if self.told[-1][0] == "failed" else None

    async def until(self, *kinds):
        async with asyncio.timeout(PATIENCE):
            while not set(kinds) & set(self.kinds):
                self.news.clear()
                await self.news.wait()
        return self

    async def done(self):
        return await self.until("end", "failed")


# The connection alone, over a transport made here.


class Line:
    """A transport that keeps what is written, and a pool that keeps what is given back."""

    def __init__(self):
        self.written = b""
        self.closing = False
        self.reading = True
        self.kept = []
        self.forgotten = []

    def write(self, data):
        self.written += data

    def is_closing(self):
        return self.closing

    def get_write_buffer_size(self):
        return 0

    def abort(self):
        self.closing = True

    def pause_reading(self):
        self.reading = False

    def resume_reading(self):
        self.reading = True

    def put(self, connection):
        self.kept.append(connection)

    def forget(self, connection):
        self.forgotten.append(connection)


def open_line(method="GET", *, releases=True):
    line = Line()
    connection = Connection(line, Origin("http", "h", 80))
    connection.connection_made(line)
    taker = Taker(connection, releases=releases)
    connection.send(request(method), taker)
    return line, connection, taker


def feed(connection, data, cuts=()):
    """Feed what the peer sent, cut at these offsets, until the connection is closed."""
    edges = [0, *sorted(at % (len(data) + 1) for at in cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        if start < end and connection.usable:
            connection.data_received(data[start:end])


CUTS = st.lists(st.integers(0, 5000), max_size=12)
MODEST = settings(deadline=None, max_examples=40)
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


class Case:
    """An answer as bytes, and what is to be told of it."""

    def __init__(self, name, raw, body=b"", *, kept, method="GET", status=200, headers=None):
        self.name, self.raw, self.body, self.kept, self.method = name, raw, body, kept, method
        self.status, self.headers = status, headers


WHOLE = [
    Case("length", SHORT, b"hi", kept=True, headers=((b"content-length", b"2"),)),
    Case("empty", OK + b"content-length: 0\r\n\r\n", kept=True),
    Case("chunked", CHUNKED + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", b"abcde", kept=True),
    Case("chunk extensions", CHUNKED + b"3;name=value\r\nabc\r\n0;x\r\n\r\n", b"abc", kept=True),
    Case(
        "trailers",
        CHUNKED + b"1\r\na\r\n0\r\nX-Trailer: told\r\nx-other: 1\r\n\r\n",
        b"a",
        kept=True,
        headers=((b"transfer-encoding", b"chunked"),),
    ),
    Case("interim", b"HTTP/1.1 100 Continue\r\n\r\n" + SHORT, b"hi", kept=True, headers=((b"content-length", b"2"),)),
    Case(
        "more interim",
        b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + SHORT,
        b"hi",
        kept=True,
        headers=((b"content-length", b"2"),),
    ),
    Case("204", b"HTTP/1.1 204 No Content\r\nx: 1\r\n\r\n", kept=True, status=204, headers=((b"x", b"1"),)),
    Case("304 with a length", b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", kept=True, status=304),
    Case("HEAD with a length", OK + b"content-length: 5\r\n\r\n", kept=False, method="HEAD"),
    Case("HEAD, chunked", CHUNKED, kept=False, method="HEAD"),
    Case("connection: close", OK + b"connection: close\r\ncontent-length: 2\r\n\r\nhi", b"hi", kept=False),
    Case("HTTP/1.0", b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nhi", b"hi", kept=False),
    Case(
        "HTTP/1.0 that keeps",
        b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nhi",
        b"hi",
        kept=True,
    ),
    Case("no reason", b"HTTP/1.1 529 \r\ncontent-length: 0\r\n\r\n", kept=True, status=529),
    Case(
        "names in lower case, repeated ones kept",
        OK + b"X-One: a\r\nx-one: B\r\nCONTENT-LENGTH: 0\r\nX-Bytes: \xe9\xff\r\n\r\n",
        kept=True,
        headers=((b"x-one", b"a"), (b"x-one", b"B"), (b"content-length", b"0"), (b"x-bytes", b"\xe9\xff")),
    ),
    Case("large", OK + b"content-length: 100000\r\n\r\n" + b"x" * 100_000, b"x" * 100_000, kept=True),
    Case(
        "upgrade offered only",
        OK + b"upgrade: h2c\r\nconnection: upgrade\r\ncontent-length: 2\r\n\r\nhi",
        b"hi",
        kept=True,
    ),
]


@pytest.mark.parametrize("case", WHOLE, ids=lambda case: case.name)
@MODEST
@given(cuts=CUTS)
@example(cuts=[])
@example(cuts=list(range(200)))
def test_whole_answers(case, cuts):
    line, connection, taker = open_line(case.method)
    feed(connection, case.raw, cuts)
    assert taker.kinds == (["head", "data", "end"] if case.body else ["head", "end"])
    assert (taker.status, taker.body) == (case.status, case.body)
    assert case.headers is None or taker.told[0][2] == case.headers
    assert (line.kept == [connection], line.closing) == (case.kept, not case.kept)
    if case.kept:  # and the next answer on it is read as well
        again = Taker(connection)
        connection.send(request(), again)
        feed(connection, SHORT, cuts)
        assert (again.kinds, again.status, again.body) == (["head", "data", "end"], 200, b"hi")
        assert len(line.kept) == 2


MALFORMED = {
    "no HTTP": b"SSH-2.0-OpenSSH_9.6\r\n",
    "TLS alert": b"\x15\x03\x01\x00\x02\x02\x46",
    "HTML": b"<html><body>502</body></html>",
    "status of letters": b"HTTP/1.1 abc OK\r\n\r\n",
    "status of two digits": b"HTTP/1.1 20 OK\r\n\r\n",
    "version": b"HTTP/9.9 200 OK\r\n\r\n",
    "header without a colon": OK + b"broken\r\n\r\n",
    "blank in a name": OK + b"bad name: 1\r\n\r\n",
    "two lengths": OK + b"content-length: 1\r\ncontent-length: 2\r\n\r\nxx",
    "length and chunks": OK + b"content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
    "length of letters": OK + b"content-length: five\r\n\r\nhello",
    "negative length": OK + b"content-length: -1\r\n\r\n",
    "switched protocols": b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nraw",
    "endless head": OK + b"x-pad: " + b"y" * (MAX_HEAD_BYTES + 1),
    "many headers": OK + b"x: y\r\n" * 20_000,
    "endless interim heads": b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000,
}


@pytest.mark.parametrize("raw", MALFORMED.values(), ids=MALFORMED)
@MODEST
@given(cuts=CUTS)
@example(cuts=[])
def test_malformed_heads(raw, cuts):
    line, connection, taker = open_line()
    feed(connection, raw, cuts)
    assert taker.kinds == ["failed"]
    assert taker.failure is Signal.BAD_HTTP
    assert line.closing
    assert line.kept == []
    told = list(taker.told)
    connection.connection_lost(None)
    assert taker.told == told, "the end is told once"


MALFORMED_BODIES = {
    "chunk size": b"3\r\nabc\r\nZZ\r\n",
    "chunk end": b"3\r\nabcdef\r\n",
    "chunk end with LF alone": b"3\r\nabc\n0\r\n\r\n",
    "chunk too large for any number": b"3\r\nabc\r\nffffffffffffffffff\r\n",
    "endless size": b"3\r\nabc\r\n" + b"0" * (MAX_HEAD_BYTES + 1),
    "endless extension": b"3\r\nabc\r\n3;" + b"x" * (MAX_HEAD_BYTES + 1),
    "endless trailers": b"3\r\nabc\r\n0\r\n" + b"x-trailer: y\r\n" * 20_000,
}


@pytest.mark.parametrize("raw", MALFORMED_BODIES.values(), ids=MALFORMED_BODIES)
@MODEST
@given(cuts=CUTS)
@example(cuts=[])
def test_malformed_bodies(raw, cuts):
    """What came before the break is told before the break is."""
    line, connection, taker = open_line()
    for piece in (CHUNKED, raw[:8]):
        connection.data_received(piece)
    feed(connection, raw[8:], cuts)
    assert taker.kinds == ["head", "data", "failed"]
    assert taker.failure is Signal.BAD_HTTP
    assert taker.body == b"abc"
    assert line.closing


def test_a_long_body_in_small_pieces_is_no_long_head():
    _, connection, taker = open_line()
    connection.data_received(CHUNKED)
    for _ in range(MAX_HEAD_BYTES // 8):
        connection.data_received(b"2\r\nab")
        connection.data_received(b"\r\n")
    connection.data_received(b"0\r\n\r\n")
    assert taker.kinds == ["head", "data", "end"]


class HttptoolsAlone:
    """What httptools makes of an answer, read by read, up to its end: what a `Connection` is to make of it."""

    def __init__(self, reads):
        self.final = self.whole = self.kept = self.failed = False
        self.body = b""
        self.parser = httptools.HttpResponseParser(self)
        for read in reads:
            try:
                self.parser.feed_data(read)
            except httptools.HttpParserError:
                self.failed, self.kept = not self.whole, False
            if self.whole or self.failed:
                break

    def on_message_begin(self):
        self.kept = False  # also where another answer comes behind

    def on_headers_complete(self):
        self.final = self.final or self.parser.get_status_code() >= 200

    def on_body(self, data):
        self.body += b"" if self.whole else data

    def on_message_complete(self):
        if self.final and not self.whole:
            self.whole, self.kept = True, self.parser.should_keep_alive()


def agree(reads):
    line, connection, taker = open_line()
    for read in reads:
        if connection.usable:
            connection.data_received(read)
    alone = HttptoolsAlone(reads)
    assert (taker.body, "end" in taker.kinds, "failed" in taker.kinds) == (alone.body, alone.whole, alone.failed)
    assert bool(line.kept) == alone.kept


CODINGS = [
    CHUNKED,
    b"HTTP/1.1 100 Continue\r\n\r\n" + CHUNKED,
    b"\r\n\r\n" + CHUNKED,
    b"HTTP/1.1 103 Early Hints\r\ntransfer-encoding: chunked\r\n\r\n" + CHUNKED,
    b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
    OK + b"transfer-encoding: Chunked\r\nconnection: close\r\n\r\n",
    OK + b"transfer-encoding: chunked \r\n\r\n",
    OK + b"transfer-encoding: chunked\t\r\n\r\n",
    OK + b"transfer-encoding: gzip, chunked\r\n\r\n",
    OK + b"transfer-encoding: chunked, gzip\r\n\r\n",
    OK + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n",
    OK + b"transfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n",
    OK + b"content-length: 20\r\n\r\n",
    OK + b"\r\n",
]
PIECES = [
    b"3\r\nabc\r\n",
    b"2\r\n\r\n\r\n",
    b"5\r\n0\r\n\r\n\r\n",
    b"10\r\n0123456789abcdef\r\n",
    b"A\r\n0123456789\r\n",
    b"3;a=b\r\nabc\r\n",
    b'3;a="\r\n"\r\nabc\r\n',
    b"0003\r\nabc\r\n",
    b"0" * 20 + b"3\r\nabc\r\n",
    b"3 \r\nabc\r\n",
    b"3\nabc\r\n",
    b"3\rabc\r\n",
    b"3\r\nabcd\r\n",
    b"3\r\nab\r\n",
    b"3\r\nabc\n",
    b"3\r\nabc\r\r\n",
    b"3\r\nabc3\r\nabc\r\n",
    b"f" * 15 + b"\r\nabc",
    b"f" * 16 + b"\r\nabc",
    b"f" * 17 + b"\r\nabc",
    b"0\r\n\r\n",
    b"00\r\n\r\n",
    b"0;a=b\r\n\r\n",
    b"0\r\nx: y\r\n\r\n",
    b"0\r\nconnection: close\r\n\r\n",
    b"0\r\ntransfer-encoding: gzip\r\n\r\n",
    b"0\n\n",
    b"\r\n",
    b"HTTP/1.1 500 Forged\r\ncontent-length: 3\r\n\r\nbad",
]


@pytest.mark.parametrize("piece", PIECES, ids=repr)
@pytest.mark.parametrize("before", [b"", b"3\r\nabc\r\n"])
def test_chunks_are_read_as_httptools_reads_them_wherever_they_are_cut(piece, before):
    raw = CHUNKED + before + piece + b"0\r\n\r\n"
    agree([raw[at : at + 1] for at in range(len(raw))])
    for at in range(len(raw)):
        agree([raw[:at], raw[at:]])


@settings(deadline=None, max_examples=1000)
@given(
    coding=st.sampled_from(CODINGS),
    pieces=st.lists(st.sampled_from(PIECES), max_size=4),
    spoilt=st.lists(
        st.tuples(
            st.integers(0, 200), st.booleans(), st.sampled_from([b"", b"\r", b"\n", b"0", b";", b"z", b"\r\n\r\n"])
        ),
        max_size=2,
    ),
    cuts=st.lists(st.integers(0, 200), max_size=5),
)
def test_no_answer_is_read_otherwise_than_httptools_reads_it(coding, pieces, spoilt, cuts):
    raw = coding + b"".join(pieces)
    for at, inserted, text in spoilt:
        raw = raw[:at] + text + raw[at + (not inserted) :]
    edges = [0, *sorted(cuts), len(raw)]
    agree([read for start, end in itertools.pairwise(edges) if (read := raw[start:end])])


def test_plain_chunks_do_not_go_through_httptools(monkeypatch):
    class Told:
        def feed_data(self, data, start):
            return data[start:].upper(), b""

    monkeypatch.setattr("aibridge.upstream.ChunkedDecoder", Told)
    _, connection, taker = open_line()
    connection.data_received(CHUNKED + b"no chunk")
    connection.data_received(b" at all")
    assert taker.body == b"NO CHUNK AT ALL"


SECOND = {
    "a whole answer": b"HTTP/1.1 500 Forged\r\ncontent-length: 3\r\n\r\nbad",
    "half a head": b"HTTP/1.1 500 Forg",
    "a head and half a body": b"HTTP/1.1 500 Forged\r\ncontent-length: 30\r\n\r\nbad",
    "two answers": b"HTTP/1.1 500 Forged\r\ncontent-length: 3\r\n\r\nbad" * 2,
    "garbage": b"\0\1\2",
    "an interim head": b"HTTP/1.1 100 Continue\r\n\r\n",
}


@pytest.mark.parametrize("extra", SECOND.values(), ids=SECOND)
@pytest.mark.parametrize("first", [SHORT, CHUNKED + b"2\r\nhi\r\n0\r\n\r\n"], ids=["length", "chunked"])
@MODEST
@given(cuts=CUTS)
@example(cuts=[])
def test_an_answer_that_nobody_asked_for_is_not_told_nor_kept_for_the_next(first, extra, cuts):
    line, connection, taker = open_line()
    feed(connection, first + extra, cuts)
    assert (taker.kinds, taker.status, taker.body) == (["head", "data", "end"], 200, b"hi")
    assert line.closing, "a connection with bytes to spare is never used again"


def test_unasked_bytes_on_an_idle_connection_close_it():
    line, connection, _ = open_line()
    connection.data_received(SHORT)
    assert line.kept == [connection]
    connection.data_received(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
    assert line.closing
    assert not connection.usable


def test_a_sink_that_stays_after_the_end_hears_nothing_more():
    line, connection, taker = open_line(releases=False)
    connection.data_received(SHORT)
    connection.data_received(b"more")
    assert taker.kinds == ["head", "data", "end"]
    assert line.closing
    connection.connection_lost(None)
    assert taker.kinds == ["head", "data", "end"]


@pytest.mark.parametrize(
    ("raw", "lost", "signal", "body"),
    [
        (b"", None, Signal.CUT, b""),
        (b"", ConnectionResetError(104, "Connection reset by peer"), Signal.RESET, b""),
        (b"HTTP/1.1 200 O", None, Signal.CUT, b""),
        (b"HTTP/1.1 100 Continue\r\n\r\n", None, Signal.CUT, b""),
        (OK + b"content-length: 5\r\n\r\nhi", None, Signal.CUT, b"hi"),
        (OK + b"content-length: 5\r\n\r\nhi", OSError(110, "Connection timed out"), Signal.RESET, b"hi"),
        (CHUNKED + b"2\r\nhi\r\n", None, Signal.CUT, b"hi"),
        (CHUNKED + b"2\r\nhi\r\n0\r\n", None, Signal.CUT, b"hi"),
        (OK + b"transfer-encoding: gzip, Chunked\r\n\r\n2\r\nhi\r\n", None, Signal.CUT, b"hi"),
        (OK + b"\r\nhi", None, None, b"hi"),
        (OK + b"\r\n", None, None, b""),
        (OK + b"\r\nhi", ConnectionResetError(), Signal.RESET, b"hi"),
        (OK + b"transfer-encoding: identity\r\n\r\nhi", None, None, b"hi"),
        (b"HTTP/1.0 200 OK\r\n\r\nhi", None, None, b"hi"),
    ],
)
def test_how_a_connection_ends(raw, lost, signal, body):
    """FIN and RST are told apart; only a body without a length ends with its connection."""
    line, connection, taker = open_line()
    feed(connection, raw)
    connection.connection_lost(lost)
    assert taker.failure is signal
    assert taker.body == body
    assert (taker.kinds.count("end"), taker.kinds.count("failed")) == ((1, 0) if signal is None else (0, 1))
    assert line.forgotten == [connection]
    assert line.kept == []
    if lost is not None and signal is Signal.RESET:
        assert (lost.strerror or type(lost).__name__) in taker.told[-1][2]


def test_a_reset_behind_a_whole_answer_is_not_told():
    _, connection, taker = open_line()
    connection.data_received(SHORT)
    connection.connection_lost(ConnectionResetError())
    assert taker.kinds == ["head", "data", "end"]


def test_who_lets_go_in_the_head_hears_nothing_more():
    line, connection, taker = open_line()

    def leave(head):
        taker.told.append(("head", head.status))
        connection.close()

    taker.head_received = leave
    connection.data_received(SHORT)
    assert taker.kinds == ["head"]
    assert line.closing


def test_another_sink_takes_the_rest():
    line, connection, taker = open_line()
    connection.data_received(OK + b"content-length: 4\r\n\r\nhi")
    other = Taker(connection)
    connection.pass_to(other)
    connection.data_received(b"ho")
    assert (taker.body, other.told) == (b"hi", [("data", b"ho"), ("end",)])
    assert line.kept == [connection]


def test_a_connection_comes_back_reading():
    line, connection, _ = open_line()
    connection.pause_reading()
    assert not line.reading
    connection.data_received(SHORT)
    assert line.kept == [connection]
    assert line.reading


def test_letting_go_of_half_an_answer_closes():
    line, connection, taker = open_line()
    connection.data_received(OK + b"content-length: 4\r\n\r\nhi")
    connection.release()
    assert line.closing
    assert line.kept == []
    connection.connection_lost(None)
    assert taker.kinds == ["head", "data"]


def test_the_request_as_it_goes_on_the_wire():
    line = Line()
    connection = Connection(line, Origin("http", "h", 80))
    with pytest.raises(UpstreamFailure):
        connection.send(request(), Taker(connection))
    connection.connection_made(line)
    headers = ((b"x-one", b"a"), (b"x-one", b"\xe9"), (b"content-length", b"3"))
    connection.send(request("POST", "/a%20b?c=d", headers=headers, body=b"abc"), Taker(connection))
    assert line.written == (
        b"POST /a%20b?c=d HTTP/1.1\r\nhost: h\r\nx-one: a\r\nx-one: \xe9\r\ncontent-length: 3\r\n\r\nabc"
    )
    assert "busy" in repr(connection)


@pytest.mark.parametrize("size", [MAX_HEAD_BYTES, MAX_HEAD_BYTES + 1, 1_000_000])
def test_large_requests_go_whole(size):
    line = Line()
    connection = Connection(line, Origin("http", "h", 80))
    connection.connection_made(line)
    connection.send(request("POST", body=b"z" * size), Taker(connection))
    head, _, body = line.written.partition(b"\r\n\r\n")
    assert head == b"POST /x HTTP/1.1\r\nhost: h"
    assert body == b"z" * size


@pytest.mark.parametrize(
    ("url", "origin", "authority"),
    [
        ("http://example.com", ("http", "example.com", 80), "example.com"),
        ("https://example.com/", ("https", "example.com", 443), "example.com"),
        ("https://Example.com:8443/path", ("https", "example.com", 8443), "example.com:8443"),
        ("http://example.com:443", ("http", "example.com", 443), "example.com:443"),
        ("https://[2001:db8::1]:8443", ("https", "2001:db8::1", 8443), "[2001:db8::1]:8443"),
        ("http://[::1]", ("http", "::1", 80), "[::1]"),
    ],
)
def test_origins(url, origin, authority):
    assert Origin.of(url) == origin
    assert Origin.of(url).authority == authority


@pytest.mark.parametrize("url", ["", "example.com", "ftp://example.com", "https://", "socks5://h:1", "//h"])
def test_what_is_no_origin(url):
    with pytest.raises(ConfigError):
        Origin.of(url)


# Real sockets.


class Peer:
    """A server that plays one script per connection, and waits for the end of each.

    A script is a coroutine function over (reader, writer). After the last one, every further connection plays it again.
    """

    def __init__(self, *scripts, tls=None, host="127.0.0.1"):
        self.scripts = list(scripts)
        self.tls = tls
        self.host = host
        self.accepted = 0
        self.requests = []
        self.errors = []
        self.live = set()
        self.news = asyncio.Event()

    async def __aenter__(self):
        self.server = await asyncio.start_server(self._play, self.host, 0, ssl=self.tls)
        self.port = self.server.sockets[0].getsockname()[1]
        scheme = "https" if self.tls else "http"
        self.origin = Origin(scheme, "localhost" if self.tls else self.host, self.port)
        return self

    async def __aexit__(self, *_):
        self.server.close()
        for task in list(self.live):
            task.cancel()
        await asyncio.gather(*self.live, return_exceptions=True)
        assert self.errors == []

    async def _play(self, reader, writer):
        self.live.add(asyncio.current_task())
        script = self.scripts[min(self.accepted, len(self.scripts) - 1)]
        self.accepted += 1
        self.news.set()
        try:
            await script(self, reader, writer)
        except (ConnectionError, asyncio.CancelledError, asyncio.IncompleteReadError):
            pass
        except Exception as error:  # noqa: BLE001 - told at the end, where pytest sees it
            self.errors.append(error)
        finally:
            writer.close()
            with suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()
            self.live.discard(asyncio.current_task())
            self.news.set()

    async def read_request(self, reader):
        head = await reader.readuntil(b"\r\n\r\n")
        self.requests.append(head)
        return head

    async def until(self, condition):
        async with asyncio.timeout(PATIENCE):
            while not condition():
                self.news.clear()
                await self.news.wait()


def answers(*answers, then=None):
    """Return a script: one answer to each request, and then what is to be done; without that, it goes on forever."""

    async def script(peer, reader, writer):
        todo = list(answers)
        while True:
            await peer.read_request(reader)
            writer.write(todo.pop(0) if len(todo) > 1 or then else todo[0])
            await writer.drain()
            if then and not todo:
                await then(peer, reader, writer)
                return

    return script


async def fin(_peer, _reader, writer):
    writer.close()


async def rst(_peer, _reader, writer):
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def wait_for_end(_peer, reader, _writer):
    assert await reader.read() == b""


async def hang(_peer, _reader, _writer):
    await asyncio.get_running_loop().create_future()


def at_once(action):
    async def script(peer, reader, writer):
        await peer.read_request(reader)
        await action(peer, reader, writer)

    return script


@asynccontextmanager
async def new_pool(**more):
    pool = Pool(PoolSettings(**{"proxy_from_environment": False, **more}))
    try:
        yield pool
    finally:
        pool.close()
        await until(lambda: not any(lane.live for lane in pool._lanes.values()), pause=0)


async def ask(pool, origin, method="GET", **more):
    """Ask on an idle connection or a new one; return the taker at the end of the answer."""
    async with asyncio.timeout(PATIENCE):
        connection = pool.take(origin) or await pool.connect(origin)
    taker = Taker(connection)
    connection.send(request(method, **more), taker)
    return await taker.done()


@both_loops
async def test_keep_alive():
    async with Peer(answers(SHORT)) as peer, new_pool() as pool:
        for _ in range(3):
            assert (await ask(pool, peer.origin)).body == b"hi"
        assert (peer.accepted, len(peer.requests)) == (1, 3)


@pytest.mark.parametrize(
    ("action", "before", "signal", "body"),
    [
        (fin, b"", Signal.CUT, b""),
        (rst, b"", Signal.RESET, b""),
        (fin, OK + b"content-length: 5\r\n\r\nhi", Signal.CUT, b"hi"),
        (fin, CHUNKED + b"2\r\nhi\r\n", Signal.CUT, b"hi"),
        (fin, OK + b"\r\nhi", None, b"hi"),
        (fin, SHORT, None, b"hi"),
    ],
)
@both_loops
async def test_ends_on_a_real_socket(action, before, signal, body):
    async def script(peer, reader, writer):
        await peer.read_request(reader)
        writer.write(before)
        await writer.drain()
        await action(peer, reader, writer)

    async with Peer(script) as peer, new_pool() as pool:
        taker = await ask(pool, peer.origin)
        assert taker.failure is signal
        assert taker.body == body


@pytest.mark.parametrize("before", [OK + b"content-length: 5\r\n\r\nhi", CHUNKED + b"2\r\nhi\r\n", OK + b"\r\nhi"])
@both_loops
async def test_a_reset_inside_the_body(before):
    go = asyncio.Event()

    async def script(peer, reader, writer):
        await peer.read_request(reader)
        writer.write(before)
        await writer.drain()
        await go.wait()
        await rst(peer, reader, writer)

    async with Peer(script) as peer, new_pool() as pool:
        connection = await pool.connect(peer.origin)
        taker = Taker(connection)
        connection.send(request(), taker)
        await taker.until("data")
        go.set()
        await taker.done()
        assert (taker.body, taker.failure) == (b"hi", Signal.RESET)


@pytest.mark.parametrize("action", [fin, rst])
@both_loops
async def test_an_idle_connection_that_the_peer_closed_is_not_handed_out(action):
    async with Peer(answers(SHORT, then=action), answers(SHORT)) as peer, new_pool() as pool:
        await ask(pool, peer.origin)
        lane = pool._lanes[peer.origin]
        await until(lambda: not lane.live, pause=0)
        assert lane.idle == []
        assert pool.take(peer.origin) is None
        assert (await ask(pool, peer.origin)).body == b"hi"
        assert peer.accepted == 2


@both_loops
async def test_unasked_bytes_on_an_idle_socket_close_it():
    async def talk(peer, reader, writer):
        writer.write(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n")
        with suppress(ConnectionError):
            await wait_for_end(peer, reader, writer)

    async with Peer(answers(SHORT, then=talk), answers(SHORT)) as peer, new_pool() as pool:
        await ask(pool, peer.origin)
        await peer.until(lambda: not peer.live)
        assert (await ask(pool, peer.origin)).status == 200
        assert peer.accepted == 2


@both_loops
async def test_idle_connections_are_closed_in_time():
    async with Peer(answers(SHORT)) as peer, new_pool(keep_alive=0.05) as pool:
        await ask(pool, peer.origin)
        await peer.until(lambda: not peer.live)
        assert pool._lanes[peer.origin].idle == []


@both_loops
async def test_one_that_is_too_old_is_not_handed_out(monkeypatch):
    async with Peer(answers(SHORT)) as peer, new_pool(keep_alive=60) as pool:
        await ask(pool, peer.origin)
        monkeypatch.setattr(pool._lanes[peer.origin].idle[0], "idle_since", asyncio.get_running_loop().time() - 61)
        assert pool.take(peer.origin) is None
        await peer.until(lambda: not peer.live)


@both_loops
async def test_the_youngest_is_used_first_and_too_many_are_not_kept():
    async with Peer(answers(SHORT)) as peer, new_pool(max_idle=2) as pool:
        connections = [await pool.connect(peer.origin) for _ in range(3)]
        for connection in connections:
            taker = Taker(connection)
            connection.send(request(), taker)
            await taker.done()
        await peer.until(lambda: len(peer.live) == 2)
        assert pool._lanes[peer.origin].live == 2
        youngest = pool.take(peer.origin)
        assert youngest is connections[1]
        pool.put(youngest)


@both_loops
async def test_a_closed_pool_keeps_none():
    async with Peer(answers(SHORT)) as peer, new_pool() as pool:
        await ask(pool, peer.origin)
        pool.close()
        await peer.until(lambda: not peer.live)
        await ask(pool, peer.origin)
        await peer.until(lambda: not peer.live and peer.accepted == 2)
        assert pool._lanes[peer.origin].idle == []


@both_loops
async def test_lost_between_connect_and_send_is_told():
    async with Peer(fin) as peer, new_pool() as pool:
        connection = await pool.connect(peer.origin)
        await until(lambda: connection.lost, pause=0)
        taker = Taker(connection)
        connection.send(request(), taker)
        assert taker.told == [], "not from inside of send"
        await taker.done()
        assert taker.failure is Signal.CUT
        assert pool._lanes[peer.origin].live == 0


@both_loops
async def test_close_behind_send_on_a_lost_connection_is_silent():
    async with Peer(fin) as peer, new_pool() as pool:
        connection = await pool.connect(peer.origin)
        await until(lambda: connection.lost, pause=0)
        taker = Taker(connection)
        connection.send(request(), taker)
        connection.close()
        for _ in range(3):
            await asyncio.sleep(0)
        assert taker.told == []


@both_loops
async def test_a_connection_that_nobody_used_can_be_kept():
    async with Peer(answers(SHORT)) as peer, new_pool() as pool:
        pool.put(await pool.connect(peer.origin))
        assert (await ask(pool, peer.origin)).body == b"hi"
        assert peer.accepted == 1


@both_loops
async def test_pausing_stops_the_flow_and_resuming_brings_all():
    size = 4_000_000

    async def script(peer, reader, writer):
        await peer.read_request(reader)
        writer.write(OK + b"content-length: %d\r\n\r\n" % size + b"x" * size)
        await writer.drain()
        peer.drained = True
        await wait_for_end(peer, reader, writer)

    async with Peer(script) as peer, new_pool() as pool:
        peer.drained = False
        connection = await pool.connect(peer.origin)
        taker = Taker(connection)
        connection.send(request(), taker)
        await taker.until("data")
        connection.pause_reading()
        came = len(taker.body)
        for _ in range(100):
            await asyncio.sleep(0)
        assert len(taker.body) == came < size
        assert not peer.drained
        connection.resume_reading()
        await taker.done()
        assert taker.body == b"x" * size


# the limit of connections


@asynccontextmanager
async def one_place():
    """A pool with one place, whose connection is busy; the peer answers when told to."""
    go = asyncio.Event()

    async def script(peer, reader, writer):
        while True:
            await peer.read_request(reader)
            await go.wait()
            writer.write(SHORT)

    async with Peer(script) as peer, new_pool(max_connections=1) as pool:
        connection = await pool.connect(peer.origin)
        taker = Taker(connection)
        connection.send(request(), taker)
        yield peer, pool, taker, go


async def start_waiting(pool, origin, number):
    """Start tasks that wait for a place, in order."""
    tasks = [asyncio.create_task(pool.connect(origin)) for _ in range(number)]
    await until(lambda: len(pool._lanes[origin].waiters) == number, pause=0)
    return tasks


async def use(task):
    async with asyncio.timeout(PATIENCE):
        connection = await task
    taker = Taker(connection)
    connection.send(request(), taker)
    await taker.done()
    return connection


@both_loops
async def test_waiters_are_served_in_order_on_the_one_connection():
    async with one_place() as (peer, pool, taker, go):
        tasks = await start_waiting(pool, peer.origin, 3)
        go.set()
        for number, task in enumerate(tasks):
            async with asyncio.timeout(PATIENCE):
                connection = await task
            assert not any(later.done() for later in tasks[number + 1 :])
            next_taker = Taker(connection)
            connection.send(request(), next_taker)
            await next_taker.done()
        assert taker.body == b"hi"
        assert peer.accepted == 1
        assert pool._lanes[peer.origin].live == 1


@both_loops
async def test_a_lost_connection_gives_its_place_to_the_next():
    async with one_place() as (peer, pool, taker, go):
        first, second = await start_waiting(pool, peer.origin, 2)
        taker.connection.close()
        go.set()
        await use(first)
        await use(second)
        assert peer.accepted == 2
        assert pool._lanes[peer.origin].live == 1


@both_loops
async def test_a_waiter_that_leaves_takes_no_place_with_it():
    async with one_place() as (peer, pool, _, go):
        first, second, third = await start_waiting(pool, peer.origin, 3)
        second.cancel()
        await asyncio.wait([second])
        assert len(pool._lanes[peer.origin].waiters) == 2
        go.set()
        assert await use(first) is await use(third)
        assert pool._lanes[peer.origin].live == 1


@pytest.mark.parametrize("served_with", ["a connection", "a place"])
@both_loops
async def test_a_waiter_that_leaves_when_it_was_served_passes_it_on(served_with):
    async with one_place() as (peer, pool, taker, go):
        first, second = await start_waiting(pool, peer.origin, 2)
        waiter = pool._lanes[peer.origin].waiters[0]
        go.set()
        if served_with == "a place":
            taker.connection.close()
        await until(waiter.done, pause=0)
        first.cancel()  # served, but it does not know yet
        cancelled = (await asyncio.wait([first]))[0].pop()
        if not cancelled.cancelled():  # it had known before: then it gives back what it got
            cancelled.result().close()
        await use(second)
        assert pool._lanes[peer.origin].live == 1


@both_loops
async def test_the_limit_holds_however_they_come():
    """A place given to a waiter is not free for one who comes in between."""
    async with one_place() as (peer, pool, taker, go):
        (first,) = await start_waiting(pool, peer.origin, 1)
        waiter = pool._lanes[peer.origin].waiters[0]
        taker.connection.close()
        await until(waiter.done, pause=0)
        late = asyncio.create_task(pool.connect(peer.origin))
        go.set()
        await use(first)
        await use(late)
        assert pool._lanes[peer.origin].live == 1
        assert peer.accepted == 2


@both_loops
async def test_one_that_came_back_meanwhile_is_used_at_the_limit():
    """Between the look for an idle connection and the opening of a new one, an idle one may appear."""
    async with Peer(answers(SHORT)) as peer, new_pool(max_connections=1) as pool:
        await ask(pool, peer.origin)
        async with asyncio.timeout(PATIENCE):
            connection = await pool.connect(peer.origin)
        pool.put(connection)
        assert peer.accepted == 1


@both_loops
async def test_a_failed_connection_frees_its_place(unused_port):
    async with new_pool(max_connections=1) as pool:
        for _ in range(3):
            with pytest.raises(UpstreamFailure):
                await pool.connect(Origin("http", "127.0.0.1", unused_port))
        assert pool._lanes[Origin("http", "127.0.0.1", unused_port)].live == 0


@both_loops
async def test_who_leaves_while_connecting_frees_its_place_once():
    """At whatever step the connecting is cancelled, the count comes back to what it was."""
    async with Peer(wait_for_end) as peer, new_pool(max_connections=5) as pool:
        for steps in range(1, 40):
            task = asyncio.create_task(pool.connect(peer.origin))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.result().close()
            lane = pool._lanes[peer.origin]
            await until(functools.partial(has_none_live, lane), pause=0)
            for _ in range(5):
                await asyncio.sleep(0)
            assert lane.live == 0


def has_none_live(lane):
    return lane.live <= 0


@both_loops
async def test_who_leaves_when_the_connection_is_just_made_frees_its_place_once(monkeypatch):
    real = Connection.connection_made

    def connection_made(self, transport):
        real(self, transport)
        task.cancel()

    monkeypatch.setattr(Connection, "connection_made", connection_made)
    async with Peer(wait_for_end) as peer, new_pool(max_connections=5) as pool:
        task = asyncio.create_task(pool.connect(peer.origin))
        async with asyncio.timeout(PATIENCE):
            await asyncio.wait([task])
        assert task.cancelled()
        await peer.until(lambda: peer.accepted and not peer.live)
        assert pool._lanes[peer.origin].live == 0


@pytest.fixture
def unused_port():
    """A port of which it is sure that nobody listens there: it is bound, and does not listen."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


# names and addresses


@both_loops
async def test_refused(unused_port):
    async with new_pool() as pool:
        with pytest.raises(UpstreamFailure, match=f"cannot connect to 127.0.0.1:{unused_port}: ECONNREFUSED: "):
            await pool.connect(Origin("http", "127.0.0.1", unused_port))


def name_leads_to(monkeypatch, *addresses):
    """Make `several.example` lead to these addresses; uvloop asks for numeric ones here, too."""
    loop = asyncio.get_running_loop()
    real = loop.getaddrinfo

    async def getaddrinfo(host, port, **more):
        if host != "several.example":
            return await real(host, port, **more)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)


@both_loops
async def test_of_several_addresses_the_living_one_is_used(monkeypatch, unused_port):
    async with Peer(answers(SHORT)) as peer, new_pool() as pool:
        name_leads_to(monkeypatch, ("127.0.0.1", unused_port), ("127.0.0.1", peer.port))
        assert (await ask(pool, Origin("http", "several.example", 80))).body == b"hi"


@both_loops
async def test_no_living_address(monkeypatch, unused_port):
    async with new_pool() as pool:
        name_leads_to(monkeypatch, ("127.0.0.1", unused_port), ("127.0.0.1", unused_port))
        with pytest.raises(UpstreamFailure, match=r"several\.example"):
            await pool.connect(Origin("http", "several.example", 80))


@both_loops
async def test_no_such_host(monkeypatch):
    async def getaddrinfo(*_args, **_more):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async with new_pool() as pool:
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
        with pytest.raises(UpstreamFailure, match=r"nowhere\.example: Name or service not known"):
            await pool.connect(Origin("http", "nowhere.example", 80))


@pytest.mark.parametrize("host", ["a" * 64 + ".example", "a..example"])
@both_loops
async def test_what_no_host_can_be_called(host):
    async with new_pool() as pool:
        with pytest.raises(UpstreamFailure):
            await pool.connect(Origin("http", host, 80))


@both_loops
async def test_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("no IPv6 here")
    async with Peer(answers(SHORT), host="::1") as peer, new_pool() as pool:
        assert (await ask(pool, peer.origin)).body == b"hi"


# TLS


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def ca_file(authority, tmp_path):
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


def server_context(authority, *names, **more):
    import ssl  # noqa: PLC0415 - here only

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*names, **more).configure_cert(context)
    return context


@both_loops
async def test_tls_with_a_ca_of_ones_own(authority, ca_file):
    async with (
        Peer(answers(SHORT), tls=server_context(authority, "localhost")) as peer,
        new_pool(ca_file=ca_file) as pool,
    ):
        for _ in range(2):
            assert (await ask(pool, peer.origin)).body == b"hi"
        assert peer.accepted == 1


@both_loops
async def test_tls_by_address(authority, ca_file):
    tls = server_context(authority, "127.0.0.1")
    async with Peer(answers(SHORT), tls=tls) as peer, new_pool(ca_file=ca_file) as pool:
        assert (await ask(pool, peer.origin._replace(host="127.0.0.1"))).body == b"hi"


PAST = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)


async def refused_certificate(tls, words, **settings):
    async with Peer(hang, tls=tls) as peer, new_pool(**settings) as pool:
        with pytest.raises(UpstreamFailure, match=words) as failed:
            async with asyncio.timeout(PATIENCE):
                await pool.connect(peer.origin)
        assert not failed.value.timed_out
        assert pool._lanes[peer.origin].live == 0


@both_loops
async def test_an_unknown_ca(authority):
    await refused_certificate(server_context(authority, "localhost"), "certificate verify failed")


@both_loops
async def test_another_hosts_certificate(authority, ca_file):
    tls = server_context(authority, "elsewhere.example")
    await refused_certificate(tls, "(?i)hostname mismatch", ca_file=ca_file)


@both_loops
async def test_an_expired_certificate(authority, ca_file):
    tls = server_context(authority, "localhost", not_before=PAST, not_after=PAST + dt.timedelta(days=1))
    await refused_certificate(tls, "expired", ca_file=ca_file)


@both_loops
async def test_verification_can_be_turned_off(authority):
    tls = server_context(authority, "elsewhere.example")
    async with Peer(answers(SHORT), tls=tls) as peer, new_pool(verify=False) as pool:
        assert (await ask(pool, peer.origin)).body == b"hi"


@both_loops
async def test_a_peer_that_speaks_no_tls(ca_file):
    async def script(_peer, _reader, writer):
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with Peer(script) as peer, new_pool(ca_file=ca_file) as pool:
        with pytest.raises(UpstreamFailure):
            await pool.connect(Origin("https", "127.0.0.1", peer.port))


@both_loops
async def test_a_peer_that_closes_in_the_handshake(ca_file):
    async with Peer(fin) as peer, new_pool(ca_file=ca_file) as pool:
        with pytest.raises(UpstreamFailure):
            await pool.connect(Origin("https", "127.0.0.1", peer.port))
        assert pool._lanes[Origin("https", "127.0.0.1", peer.port)].live == 0


@both_loops
async def test_who_leaves_in_the_handshake(ca_file):
    async with Peer(wait_for_end_of_anything) as peer, new_pool(ca_file=ca_file) as pool:
        origin = Origin("https", "127.0.0.1", peer.port)
        task = asyncio.create_task(pool.connect(origin))
        await peer.until(lambda: peer.accepted)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        await peer.until(lambda: not peer.live)
        assert pool._lanes[origin].live == 0


async def wait_for_end_of_anything(_peer, reader, _writer):
    await reader.read()


@pytest.mark.parametrize("action", [fin, rst])
@both_loops
async def test_ends_inside_a_body_over_tls(authority, ca_file, action):
    async def script(peer, reader, writer):
        await peer.read_request(reader)
        writer.write(CHUNKED + b"2\r\nhi\r\n")
        await writer.drain()
        await peer.go.wait()
        await action(peer, reader, writer)

    async with Peer(script, tls=server_context(authority, "localhost")) as peer, new_pool(ca_file=ca_file) as pool:
        peer.go = asyncio.Event()
        connection = await pool.connect(peer.origin)
        taker = Taker(connection)
        connection.send(request(), taker)
        await taker.until("data")
        peer.go.set()
        await taker.done()
        assert taker.body == b"hi"
        assert taker.failure in ({Signal.CUT} if action is fin else {Signal.RESET, Signal.CUT})


# proxies


class Proxy(Peer):
    """A small real proxy: tunnels for CONNECT, anything else is answered as if it were the origin."""

    def __init__(self, *scripts):
        super().__init__(*(scripts or (Proxy.serve,)))

    def url(self, credentials=""):
        return f"http://{credentials}127.0.0.1:{self.port}"

    async def serve(self, reader, writer):
        head = await self.read_request(reader)
        if not head.startswith(b"CONNECT "):
            writer.write(SHORT)
            await self.serve(reader, writer)
            return
        host, _, port = head.split(b" ")[1].rpartition(b":")
        far_reader, far_writer = await asyncio.open_connection(host.strip(b"[]").decode(), int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\nvia: test\r\n\r\n")
        pumps = [asyncio.create_task(pump(reader, far_writer)), asyncio.create_task(pump(far_reader, writer))]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in pumps:
                task.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            far_writer.close()
            with suppress(ConnectionError, asyncio.CancelledError):
                await far_writer.wait_closed()


async def pump(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


@pytest.fixture
def local_name(monkeypatch):
    """Make `upstream.test` lead to this machine, for the proxy's end too."""

    def make():
        loop = asyncio.get_running_loop()
        real = loop.getaddrinfo

        async def getaddrinfo(host, port, **more):
            return await real("127.0.0.1" if host == "upstream.test" else host, port, **more)

        monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)

    return make


@both_loops
async def test_a_tunnel_for_https(authority, ca_file):
    async with (
        Peer(answers(SHORT), tls=server_context(authority, "localhost")) as peer,
        Proxy() as proxy,
        new_pool(ca_file=ca_file, proxy=proxy.url()) as pool,
    ):
        for _ in range(2):
            assert (await ask(pool, peer.origin)).body == b"hi"
        address = f"localhost:{peer.port}".encode()
        assert proxy.requests == [b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (address, address)]
        assert all(head.startswith(b"GET /x HTTP/1.1\r\n") for head in peer.requests)


CREDENTIALS = "user%40corp:p%3Ass@"
BASIC = b"Proxy-Authorization: Basic " + base64.b64encode(b"user@corp:p:ss") + b"\r\n"


@both_loops
async def test_a_tunnel_with_credentials(authority, ca_file):
    async with (
        Peer(answers(SHORT), tls=server_context(authority, "localhost")) as peer,
        Proxy() as proxy,
        new_pool(ca_file=ca_file, proxy=proxy.url(CREDENTIALS)) as pool,
    ):
        assert (await ask(pool, peer.origin)).body == b"hi"
        assert proxy.requests[0].count(BASIC) == 1
        assert b"Proxy-Authorization" not in peer.requests[0]


@both_loops
async def test_the_certificate_behind_a_tunnel_is_verified(authority, ca_file):
    async with (
        Peer(hang, tls=server_context(authority, "elsewhere.example")) as peer,
        Proxy() as proxy,
        new_pool(ca_file=ca_file, proxy=proxy.url()) as pool,
    ):
        with pytest.raises(UpstreamFailure, match=r"(?i)hostname mismatch"):
            await pool.connect(peer.origin)


@pytest.mark.parametrize(("credentials", "line"), [("", b""), (CREDENTIALS, BASIC)])
@both_loops
async def test_plain_http_goes_in_absolute_form(credentials, line):
    async with Proxy() as proxy, new_pool(proxy=proxy.url(credentials)) as pool:
        for origin in (Origin("http", "upstream.test", 80), Origin("http", "upstream.test", 8080)):
            for _ in range(2):
                assert (await ask(pool, origin, target="/a?b=c")).body == b"hi"
        first = b"GET http://upstream.test/a?b=c HTTP/1.1\r\nhost: h\r\n" + line + b"\r\n"
        second = b"GET http://upstream.test:8080/a?b=c HTTP/1.1\r\nhost: h\r\n" + line + b"\r\n"
        assert proxy.requests == [first, first, second, second]
        assert proxy.accepted == 2


def refusing(answer):
    async def script(peer, reader, writer):
        await peer.read_request(reader)
        writer.write(answer)
        await writer.drain()

    return script


async def endless_head(peer, reader, writer):
    await peer.read_request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"x-pad: " + b"y" * 1000 + b"\r\n")
        await writer.drain()


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (refusing(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"), "the proxy refused: 407 Proxy Auth"),
        (refusing(b"HTTP/1.1 403 \r\n\r\n"), "the proxy refused: 403"),
        (refusing(b"HTTP/1.1 502\r\n\r\n"), "the proxy refused: 502"),
        (refusing(b"SSH-2.0-OpenSSH 200\r\n\r\n"), "the proxy refused"),
        (refusing(b"HTTP/1.1 301 Moved\r\nlocation: http://x\r\n\r\n"), "the proxy refused: 301 Moved"),
        (refusing(b""), "the proxy closed the connection"),
        (refusing(b"HTTP/1.1 200 O"), "the proxy closed the connection"),
        (fin, "the proxy closed the connection|reset"),
        (at_once(rst), "reset"),
        (endless_head, "a head over 65536 bytes"),
    ],
)
@both_loops
async def test_tunnels_that_are_refused(script, words):
    async with Proxy(script) as proxy, new_pool(proxy=proxy.url("user:secret@")) as pool:
        with pytest.raises(UpstreamFailure, match=f"(?i)cannot connect to upstream.test: .*({words})") as failed:
            async with asyncio.timeout(PATIENCE):
                await pool.connect(Origin("https", "upstream.test", 443))
        assert "secret" not in str(failed.value)
        assert pool._lanes[Origin("https", "upstream.test", 443)].live == 0


@both_loops
async def test_a_proxy_that_is_not_there(unused_port):
    async with new_pool(proxy=f"http://127.0.0.1:{unused_port}") as pool:
        with pytest.raises(UpstreamFailure, match="ECONNREFUSED"):
            await pool.connect(Origin("https", "upstream.test", 443))


@pytest.mark.parametrize(
    "proxy",
    ["socks5://user:secret@127.0.0.1:1", "https://user:secret@127.0.0.1:1", "http://user:secret@", "http://[:x"],
)
@both_loops
async def test_a_proxy_that_cannot_be_used_is_said_without_its_password(proxy):
    async with new_pool(proxy=proxy) as pool:
        with pytest.raises(UpstreamFailure, match="proxy") as failed:
            await pool.connect(Origin("https", "upstream.test", 443))
        assert "secret" not in str(failed.value)


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy"])
@pytest.mark.parametrize("scheme", ["http://", ""])
@both_loops
async def test_the_proxy_of_the_environment(monkeypatch, name, scheme):
    async with Proxy() as proxy:
        monkeypatch.setenv(name, f"{scheme}127.0.0.1:{proxy.port}")
        async with new_pool(proxy_from_environment=True) as pool:
            assert (await ask(pool, Origin("http", "upstream.test", 80))).body == b"hi"
        assert proxy.requests[0].startswith(b"GET http://upstream.test/x ")


PROXIED = "http://proxy.test:3128"


@pytest.mark.parametrize(
    ("no_proxy", "origin", "bypassed"),
    [
        ("", Origin("https", "api.example.com", 443), False),
        ("*", Origin("https", "api.example.com", 443), True),
        ("api.example.com", Origin("https", "api.example.com", 443), True),
        ("example.com", Origin("https", "api.example.com", 443), True),
        (".example.com", Origin("https", "api.example.com", 443), True),
        ("ample.com", Origin("https", "api.example.com", 443), False),
        ("other.com, api.example.com", Origin("https", "api.example.com", 443), True),
        ("api.example.com:443", Origin("https", "api.example.com", 443), True),
        ("api.example.com:8443", Origin("https", "api.example.com", 443), False),
        ("api.example.com:8443", Origin("https", "api.example.com", 8443), True),
        ("127.0.0.1", Origin("http", "127.0.0.1", 9000), True),
        ("::1", Origin("http", "::1", 9000), True),
        ("[::1]", Origin("http", "::1", 9000), True),
        ("::2", Origin("http", "::1", 9000), False),
    ],
)
async def test_no_proxy(monkeypatch, no_proxy, origin, bypassed):
    monkeypatch.setenv("HTTP_PROXY", PROXIED)
    monkeypatch.setenv("HTTPS_PROXY", PROXIED)
    monkeypatch.setenv("NO_PROXY", no_proxy)
    assert Pool(PoolSettings())._proxy_for(origin) == (None if bypassed else PROXIED)
    assert Pool(PoolSettings(proxy_from_environment=False))._proxy_for(origin) is None
    assert Pool(PoolSettings(proxy="http://other:1"))._proxy_for(origin) == "http://other:1", "said, it stands above"


async def test_one_scheme_may_have_a_proxy_and_the_other_none(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", PROXIED)
    pool = Pool(PoolSettings())
    assert pool._proxy_for(Origin("https", "h", 443)) == PROXIED
    assert pool._proxy_for(Origin("http", "h", 80)) is None
